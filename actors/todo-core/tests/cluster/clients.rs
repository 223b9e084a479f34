//! Clients, as the web component treats them, and what they must see.

use std::collections::BTreeSet;

use todo_core::list::ListName;
use todo_core::messages::{ServerCall, ServerReply};
use todo_core::record::{Entry, RequestId};
use todo_core::server::Server;

use super::{
    Ask, CLIENT_DEADLINE_MS, Client, Event, LISTS, NODES, Node, REFUSES_AFTER_THAW_MS,
    SETTLED_AFTER_MS, Sim, ToServer, Troubles, What, day,
};

impl Sim {
    pub(crate) fn begin(&mut self) {
        if !self.quiet {
            let after = self.rand(150);
            self.at(after, What::Begin);
        }
        let node = self.rand(NODES as u64) as usize;
        let list: ListName = format!("list{}", self.rand(LISTS as u64))
            .try_into()
            .expect("a name");
        let client = self.clients.len();
        let (call, expected) = if self.rand(3) == 0 {
            let title = format!("entry{client}");
            let request = RequestId::of(title.as_bytes(), day(), &title);
            (
                ServerCall::Add(Entry {
                    date: day(),
                    title,
                    request,
                }),
                None,
            )
        } else {
            let shown = self.acknowledged.get(&list).cloned().unwrap_or_default();
            (ServerCall::Titles(day()), Some(shown))
        };
        self.clients.push(Ask {
            node,
            list,
            call,
            began_ms: self.now_ms,
            attempt: 0,
            at: None,
            expected,
            done: false,
        });
        self.try_again(client);
    }

    pub(crate) fn try_again(&mut self, client: Client) {
        let ask = &mut self.clients[client];
        ask.attempt += 1;
        ask.at = None;
        let (attempt, node, list) = (ask.attempt, ask.node, ask.list.clone());
        let left_ms = (ask.began_ms + CLIENT_DEADLINE_MS).saturating_sub(self.now_ms);
        if left_ms == 0 || !self.nodes[node].up {
            // 503, or the client's node is dead.
            self.clients[client].done = true;
            self.refused(node);
            return;
        }
        if self.nodes[node].frozen {
            self.at(50, What::Try(client));
            return;
        }
        let at = match self.nodes[node].names.get(&list).copied() {
            Some(at) => at,
            None => {
                self.serial += 1;
                let (place, serial) = (self.nodes[node].place, self.serial);
                let (server, effects) = Server::new(self.now_ms);
                self.nodes[node]
                    .servers
                    .insert(serial, (list.clone(), server));
                self.claim(list.clone(), place, serial);
                self.server_effects(node, serial, list.clone(), effects);
                // Another node may have been faster.
                *self.nodes[node]
                    .names
                    .get(&list)
                    .unwrap_or(&(place, serial))
            }
        };
        let call = self.clients[client].call.clone();
        self.clients[client].at = Some(at);
        let (place, serial) = at;
        if place.node == node || self.connected(node, place.node) {
            self.send(
                node,
                place,
                Event::Server(serial, ToServer::Call(client, call)),
            );
        }
        // Its node finds out that the way is gone when it finds out; until then it waits.
        self.at(
            left_ms,
            What::Client {
                client,
                attempt,
                reply: None,
            },
        );
    }

    pub(crate) fn client(&mut self, client: Client, attempt: u32, reply: Option<ServerReply>) {
        let whole_ms = self.now_ms.saturating_sub(self.trouble_ms);
        let ask = &mut self.clients[client];
        if ask.done || ask.attempt != attempt {
            return;
        }
        let took_ms = self.now_ms - ask.began_ms;
        match reply {
            // The node that the client talks to is frozen: no answer before it thaws.
            _ if self.nodes[ask.node].frozen => {
                return self.at(
                    50,
                    What::Client {
                        client,
                        attempt,
                        reply,
                    },
                );
            }
            None => {
                let pause = 5 + self.rand(60);
                return self.at(pause, What::Try(client));
            }
            Some(ServerReply::Added) => {
                if let ServerCall::Add(entry) = &ask.call {
                    let list = self.acknowledged.entry(ask.list.clone()).or_default();
                    list.insert(entry.title.clone());
                }
            }
            Some(ServerReply::Titles(titles)) => {
                let shown: BTreeSet<_> = titles.iter().cloned().collect();
                assert_eq!(
                    shown.len(),
                    titles.len(),
                    "an entry twice, seed {}",
                    self.seed
                );
                let began_whole = whole_ms > SETTLED_AFTER_MS + took_ms;
                if began_whole || self.troubles == Troubles::FreezesOnly {
                    let expected = ask.expected.take().expect("a read");
                    let lost: Vec<_> = expected.difference(&shown).collect();
                    assert!(
                        lost.is_empty(),
                        "node{} hides {lost:?} of {} at {} ms, seed {}",
                        ask.node,
                        ask.list,
                        self.now_ms,
                        self.seed
                    );
                    self.reads_checked += 1;
                }
            }
            Some(ServerReply::Unavailable(_)) => {
                let node = ask.node;
                self.refused(node);
            }
        }
        self.clients[client].done = true;
    }

    /// A client of this node got a 503. Where nodes only freeze, that happens only at the one
    /// that is or was frozen just now.
    pub(crate) fn refused(&mut self, node: usize) {
        self.failures += 1;
        let Node {
            frozen, thawed_ms, ..
        } = self.nodes[node];
        assert!(
            frozen
                || self.now_ms < thawed_ms + REFUSES_AFTER_THAW_MS
                || self.troubles == Troubles::All,
            "node{node} refused at {} ms, seed {}",
            self.now_ms,
            self.seed
        );
    }
}
