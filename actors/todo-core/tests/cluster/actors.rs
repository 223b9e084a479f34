//! The machines under test, and what becomes of what they want done.

use todo_core::list::ListName;
use todo_core::messages::{Address, DatabaseCast, ServerCast};
use todo_core::server::Effect;
use todo_core::worker::{PeerError, TICK_MS};

use super::world::{Host, Out};
use super::{Client, Event, Place, Sim, ToServer, Troubles, What, name, number};

impl Sim {
    pub(crate) fn node_event(&mut self, to: Place, link: Option<(usize, u64)>, event: Event) {
        let node = to.node;
        let here = &mut self.nodes[node];
        if !here.up || here.place != to {
            return;
        }
        if here.frozen {
            return here.parked.push((link, event));
        }
        if link.is_some_and(|(from, was)| self.link(from, node) != was) {
            return;
        }
        if let Event::Server(serial, message) = event {
            return self.server_event(node, serial, message);
        }
        let peers = self.nodes[node]
            .peers
            .iter()
            .map(|peer| name(*peer))
            .collect();
        let now_ms = self.now_ms;
        let here = &mut self.nodes[node];
        let mut worker = here.worker.take().expect("a worker");
        let mut host = Host {
            disk: &mut here.disk,
            peers,
            now_ms,
            random: &mut self.random,
            troubles: self.troubles == Troubles::All && !self.quiet,
            crashed: false,
            out: Vec::new(),
        };
        let mut tick = false;
        match event {
            Event::Tick => {
                worker.tick(&mut host);
                tick = true;
            }
            Event::Peer(from, call) => worker.call(&mut host, call, from),
            Event::Answer(ticket, answer) => {
                here.asked.remove(&ticket);
                worker.answered(&mut host, ticket, answer);
            }
            Event::Cast(cast) => worker.cast(&mut host, cast),
            Event::NodeUp(peer) => worker.node_up(&mut host, name(peer)),
            Event::NodeDown(peer) => worker.node_down(&mut host, &name(peer)),
            Event::Server(..) => {}
        }
        let Host { crashed, out, .. } = host;
        here.worker = Some(worker);
        self.carry_out(node, out);
        if crashed {
            return self.crash(node);
        }
        if tick {
            self.at(
                TICK_MS.into(),
                What::Node {
                    to,
                    link: None,
                    event: Event::Tick,
                },
            );
        }
    }

    pub(crate) fn carry_out(&mut self, node: usize, out: Vec<Out>) {
        let place = self.nodes[node].place;
        for out in out {
            match out {
                Out::Tell(server, cast) => {
                    let event = Event::Server(server.serial, ToServer::Cast(cast));
                    self.send(node, place, event);
                }
                Out::Refresh(list) => {
                    if let Some((at, serial)) = self.nodes[node].names.get(&list).copied()
                        && at == place
                    {
                        let event = Event::Server(serial, ToServer::Cast(ServerCast::Refresh));
                        self.send(node, place, event);
                    }
                }
                Out::Reply((to, ticket), reply) => {
                    if to == self.nodes[to.node].place && self.connected(node, to.node) {
                        self.send(node, to, Event::Answer(ticket, Ok(reply)));
                    }
                }
                Out::Flush => self.send(node, place, Event::Cast(DatabaseCast::Flush)),
                Out::Ask(nodes, call, timeout_ms) => {
                    for (peer, ticket) in nodes {
                        let peer = number(&peer);
                        let timeout = Event::Answer(ticket, Err(PeerError::Failed("late".into())));
                        self.nodes[node].asked.insert(ticket, peer);
                        self.at(
                            timeout_ms.into(),
                            What::Node {
                                to: place,
                                link: None,
                                event: timeout,
                            },
                        );
                        if self.connected(node, peer) {
                            let to = self.nodes[peer].place;
                            self.send(node, to, Event::Peer((place, ticket), call.clone()));
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn server_event(&mut self, node: usize, serial: u64, message: ToServer) {
        let now_ms = self.now_ms;
        let Some((list, server)) = self.nodes[node].servers.get_mut(&serial) else {
            return;
        };
        let list = list.clone();
        let effects = match message {
            ToServer::Call(client, call) => server.call(now_ms, call, client),
            ToServer::Cast(cast) => server.told(now_ms, cast),
        };
        self.server_effects(node, serial, list, effects);
    }

    pub(crate) fn server_effects(
        &mut self,
        node: usize,
        serial: u64,
        list: ListName,
        effects: Vec<Effect<Client>>,
    ) {
        let place = self.nodes[node].place;
        let from = Address {
            node: node as u64,
            serial,
        };
        for effect in effects {
            let cast = match effect {
                Effect::Store(change) => DatabaseCast::Store {
                    from,
                    list: list.clone(),
                    change,
                },
                Effect::Load(position) => DatabaseCast::Load {
                    from,
                    list: list.clone(),
                    position,
                },
                Effect::Reply(client, reply) => {
                    let ask = &self.clients[client];
                    let (attempt, to) = (ask.attempt, ask.node);
                    if node == to || self.connected(node, to) {
                        let after = self.rand(10);
                        self.at(
                            after,
                            What::Client {
                                client,
                                attempt,
                                reply: Some(reply),
                            },
                        );
                    }
                    continue;
                }
            };
            self.send(node, place, Event::Cast(cast));
        }
    }
}
