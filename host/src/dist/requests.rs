//! Requests to one peer that wait for their replies.
//!
//! Contract: each callback is called exactly once: at the reply, at the link's end, at its
//! time-out, or at once if there are too many. No lock is held meanwhile.
//!
//! Does not know what is asked, nor the time.

use std::collections::HashMap;

use parking_lot::Mutex;
use wasm_node_protocol::Millis;
use wasm_node_protocol::codec::NodeReply;

use super::host::RequestError;

/// The most requests to one peer that may wait for their replies; further ones fail at once.
pub(super) const MAX_PENDING_REQUESTS: usize = 65_536;

/// Hears the reply, or why there is none. Quick, on any thread.
pub(super) type OnReply = Box<dyn FnOnce(Result<NodeReply, RequestError>) + Send>;

#[derive(Default)]
pub(super) struct Requests(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    pending: HashMap<u64, Pending>,
    closed: bool,
}

struct Pending {
    on_reply: OnReply,
    /// When nobody waits for it any more, if the asker does not see to that.
    until: Option<Millis>,
}

impl Requests {
    /// Notes a request that is about to be sent; none if it must not be, which the callback
    /// has heard by then.
    pub fn add(&self, until: Option<Millis>, on_reply: OnReply) -> Option<u64> {
        let mut state = self.0.lock();
        let error = if state.closed {
            RequestError::NoConnection
        } else if state.pending.len() >= MAX_PENDING_REQUESTS {
            RequestError::TooMany(MAX_PENDING_REQUESTS)
        } else {
            let id = state.next;
            state.next += 1;
            state.pending.insert(id, Pending { on_reply, until });
            return Some(id);
        };
        drop(state);
        on_reply(Err(error));
        None
    }

    /// A reply came, or never will; nothing happens if nobody waits for it any more.
    pub fn answered(&self, id: u64, result: Result<NodeReply, RequestError>) {
        // Bound first: the lock must not be held in the callback.
        let pending = self.0.lock().pending.remove(&id);
        if let Some(pending) = pending {
            (pending.on_reply)(result);
        }
    }

    /// Gives up those whose time is over.
    pub fn expire(&self, now: Millis) {
        let over: Vec<_> = {
            let over = |_: &u64, pending: &mut Pending| pending.until.is_some_and(|at| at <= now);
            self.0.lock().pending.extract_if(over).collect()
        };
        for (_, pending) in over {
            (pending.on_reply)(Err(RequestError::Timeout));
        }
    }

    /// The link is over: nobody waits for its replies any more.
    pub fn close(&self) {
        let pending = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.pending)
        };
        for pending in pending.into_values() {
            (pending.on_reply)(Err(RequestError::NoConnection));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn each_is_answered_once_at_its_reply_time_out_or_end() {
        let requests = Requests::default();
        let (sender, answers) = channel();
        let add = |name: &'static str, until: Option<u64>| {
            let sender = sender.clone();
            let on_reply = move |result| drop(sender.send((name, result)));
            requests.add(until.map(Millis), Box::new(on_reply))
        };
        let quick = add("quick", Some(10)).unwrap();
        let slow = add("slow", Some(10)).unwrap();
        add("patient", Some(20)).unwrap();
        add("endless", None).unwrap();
        requests.answered(quick, Ok(NodeReply::Whereis(None)));
        requests.expire(Millis(9));
        assert_eq!(
            answers.try_iter().collect::<Vec<_>>(),
            [("quick", Ok(NodeReply::Whereis(None)))]
        );
        requests.expire(Millis(10));
        requests.answered(slow, Ok(NodeReply::Whereis(None)));
        assert_eq!(
            answers.try_iter().collect::<Vec<_>>(),
            [("slow", Err(RequestError::Timeout))]
        );
        requests.close();
        requests.expire(Millis(99));
        assert_eq!(add("late", None), None);
        let mut rest: Vec<_> = answers.try_iter().collect();
        rest.sort_by_key(|(name, _)| *name);
        let over = |name| (name, Err(RequestError::NoConnection));
        assert_eq!(rest, [over("endless"), over("late"), over("patient")]);
    }
}
