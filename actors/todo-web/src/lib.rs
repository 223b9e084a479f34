//! The to-do system's HTTP interface. What a request means is [`todo_core::api`]'s business;
//! here it is brought to the list's server, wherever that is, and brought again if that server
//! or its node is gone meanwhile.
//!
//! Invariants:
//! - Every answer comes within [`ANSWER_WITHIN`], whatever other nodes do.
//! - An add that is tried again here, or by the client with the same `Idempotency-Key`, is one
//!   entry: each carries a request's identity, by which servers know it.
//! - `OK` is said only when the list's server has said that the entry is stored.

use std::time::Duration;

use todo_core::api::{self, Command, MAX_BODY_BYTES, RETRY_AFTER_SECONDS, Refusal};
use todo_core::list::{CACHE, ListName};
use todo_core::messages::{CacheCall, CacheReply, ServerCall, ServerReply};
use todo_core::record::{Entry, RequestId};
use wasm_node_sdk::http::{BodyError, HttpHandler, Request, Response};
use wasm_node_sdk::registry::global;
use wasm_node_sdk::{CallError, Pid, blocking, decode, encode, time};

/// Within this a request is answered: with 503 if nothing better is known. A client is promised
/// five seconds.
const ANSWER_WITHIN: Duration = Duration::from_millis(4_900);
/// How long to wait before a server that was not there is looked for again: the first time, and
/// at most. It doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// See [`FIRST_PAUSE`].
const MAX_PAUSE: Duration = Duration::from_millis(64);

/// The handler.
pub struct TodoWeb;

impl HttpHandler for TodoWeb {
    fn handle(request: Request) -> Response {
        answer(&request).unwrap_or_else(refuse)
    }
}

fn answer(request: &Request) -> Result<Response, Refusal> {
    let keys = request
        .headers
        .iter()
        .filter(|(name, _)| name == "idempotency-key");
    let keys: Vec<_> = keys.map(|(_, value)| value.clone()).collect();
    let command = api::read(&request.method, &request.path_and_query, &keys)?;
    read_body(request)?;
    match command {
        Command::Entries { list, date } => match ask(&list, &ServerCall::Titles(date))? {
            ServerReply::Titles(titles) => {
                Ok(Response::text(200, api::entries_text(date, &titles)))
            }
            other => Err(unexpected(other)),
        },
        Command::Add {
            list,
            date,
            title,
            key,
        } => {
            let key = key.unwrap_or_else(random_key);
            let request = RequestId::of(&key, date, &title);
            match ask(
                &list,
                &ServerCall::Add(Entry {
                    date,
                    title,
                    request,
                }),
            )? {
                ServerReply::Added => Ok(Response::text(200, "OK")),
                other => Err(unexpected(other)),
            }
        }
    }
}

/// A body says nothing here, but one that is too long is refused.
fn read_body(request: &Request) -> Result<(), Refusal> {
    let length = request
        .header("content-length")
        .and_then(|text| text.parse::<u64>().ok());
    match length {
        Some(bytes) if bytes > MAX_BODY_BYTES => return Err(Refusal::body_too_large()),
        Some(0) => return Ok(()),
        // Of how a body is framed a component is told the length only: a body without one may be
        // in chunks. Readers send none.
        None if request.method != "POST" => return Ok(()),
        _ => {}
    }
    match request.body(MAX_BODY_BYTES as usize) {
        Err(BodyError::TooLarge(_)) => Err(Refusal::body_too_large()),
        // A client that went away gets no answer anyway.
        Ok(_) | Err(BodyError::Broken) => Ok(()),
    }
}

/// Asks a list's server, and asks again while there is time if it is gone.
fn ask(list: &ListName, call: &ServerCall) -> Result<ServerReply, Refusal> {
    let deadline = Deadline::after(ANSWER_WITHIN);
    let name = list.global_name();
    let call = encode(call);
    let mut pause = FIRST_PAUSE;
    loop {
        let why = match find(list, &name, &deadline) {
            Ok(server) => match blocking::request(&server.into(), &call, deadline.left()) {
                Ok(body) => {
                    return decode(&body).map_err(|why| {
                        Refusal::unavailable(format!("the list's server answered nonsense: {why}"))
                    });
                }
                Err(CallError::Timeout) => "it did not answer in time".into(),
                Err(error) => format!("it is gone ({error:?})"),
            },
            Err(why) => why,
        };
        if deadline.left_at_least(pause) {
            blocking::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        } else {
            let why = format!("the list cannot be reached now: {why}; please try again");
            return Err(Refusal::unavailable(why));
        }
    }
}

/// A list's server: the one that this node knows, or one that is started.
fn find(list: &ListName, name: &str, deadline: &Deadline) -> Result<Pid, String> {
    if let Some(server) = global::whereis(name) {
        return Ok(server);
    }
    let call = encode(&CacheCall(list.clone()));
    match blocking::request(&CACHE.into(), &call, deadline.left()) {
        Ok(body) => {
            let address = decode::<CacheReply>(&body).and_then(|reply| reply)?;
            Ok(Pid {
                node: address.node,
                serial: address.serial,
            })
        }
        Err(error) => Err(format!("the cache of this node did not answer ({error:?})")),
    }
}

fn unexpected(reply: ServerReply) -> Refusal {
    Refusal::unavailable(match reply {
        ServerReply::Unavailable(why) => why,
        _ => "the list's server answered something else".into(),
    })
}

fn refuse(refusal: Refusal) -> Response {
    let response = Response::text(refusal.status, refusal.text);
    match (refusal.status, refusal.allow) {
        (_, Some(allow)) => response.header("allow", allow),
        (503, _) => response.header("retry-after", &RETRY_AFTER_SECONDS.to_string()),
        _ => response,
    }
}

fn random_key() -> Vec<u8> {
    [time::random().to_le_bytes(), time::random().to_le_bytes()].concat()
}

/// A moment that is not to be passed.
struct Deadline {
    at_ns: u64,
}

impl Deadline {
    fn after(duration: Duration) -> Self {
        Self {
            at_ns: time::now() + duration.as_nanos() as u64,
        }
    }

    fn left(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.at_ns.saturating_sub(time::now())))
    }

    fn left_at_least(&self, duration: Duration) -> bool {
        self.left().is_some_and(|left| left > duration)
    }
}

wasm_node_sdk::export_http_handler!(TodoWeb);
