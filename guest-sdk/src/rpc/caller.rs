//! The side that calls.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::functions::{answer, invoke};
use crate::codec;
use crate::process::SpawnOptions;
use crate::runtime::{self, Answer, Kind, Orphan};
use crate::sys::process as host;
use crate::time::{millis, timeout};
use crate::{ExitReason, Message, Pid, join_all};

/// A function of a module with its arguments, to be called on any node; `R` is what it returns.
/// [`rpc_functions!`](crate::rpc_functions) makes the functions that make these.
pub struct Call<R> {
    module: Cow<'static, str>,
    function: Cow<'static, str>,
    args: Vec<u8>,
    result: PhantomData<fn() -> R>,
}

impl<R> Clone for Call<R> {
    fn clone(&self) -> Self {
        Self {
            module: self.module.clone(),
            function: self.function.clone(),
            args: self.args.clone(),
            result: PhantomData,
        }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.args.len();
        write!(f, "{}:{}({bytes} bytes)", self.module, self.function)
    }
}

impl<R> Call<R> {
    /// Of names; `args` is a tuple of the function's arguments.
    pub fn new(
        module: impl Into<Cow<'static, str>>,
        function: impl Into<Cow<'static, str>>,
        args: &impl Serialize,
    ) -> Self {
        Self {
            module: module.into(),
            function: function.into(),
            args: codec::encode(args),
            result: PhantomData,
        }
    }

    pub(crate) fn parts(&self) -> (&str, &str, &[u8]) {
        (&self.module, &self.function, &self.args)
    }

    /// Has a node run it, and does not wait. What becomes of it nobody hears.
    pub fn cast_on(&self, node: &str) {
        if let Ok(args) = invoke(&self.function, &self.args, None) {
            let options = SpawnOptions::new().to_wit(false);
            let tag = host::spawn_on(node, &self.module, &args, &options);
            runtime::adopt_orphan(tag, Orphan::Lives);
        }
    }
}

impl<R: DeserializeOwned> Call<R> {
    /// Calls it on a node, which may be this one, and waits for its result. It begins at once, not
    /// at the first poll; dropping the future ends the function.
    pub fn on(
        &self,
        node: &str,
        within: Duration,
    ) -> impl Future<Output = Result<R, Error>> + use<R> {
        let called = invoke(&self.function, &self.args, Some(millis(within)))
            .map(|args| Called::begin(node, &self.module, &args));
        async move {
            match timeout(within, called?.ended()).await {
                Ok(reason) => answer(reason?),
                Err(_) => Err(Error::Timeout),
            }
        }
    }

    /// Calls it on several nodes at the same time: a result of each, all of them within the one
    /// time-out, whatever a node does.
    pub fn on_all<I>(
        &self,
        nodes: I,
        within: Duration,
    ) -> impl Future<Output = MultiResults<R>> + use<R, I>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let (nodes, calls): (Vec<String>, Vec<_>) = nodes
            .into_iter()
            .map(|node| {
                let node = node.into();
                let call = self.on(&node, within);
                (node, call)
            })
            .unzip();
        async move {
            let results = join_all(calls).await;
            MultiResults {
                results: nodes.into_iter().zip(results).collect(),
            }
        }
    }
}

/// What a multi-call brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiResults<R> {
    /// Of each node, in the order asked, its result, or why there is none.
    pub results: Vec<(String, Result<R, Error>)>,
}

impl<R> MultiResults<R> {
    /// The nodes with a result, in order.
    pub fn ok(&self) -> impl Iterator<Item = (&str, &R)> {
        let results = self.results.iter();
        results.filter_map(|(node, result)| Some((node.as_str(), result.as_ref().ok()?)))
    }

    /// The nodes without one, in order.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.results.iter().filter(|(_, result)| result.is_err());
        failed.map(|(node, _)| node.as_str()).collect()
    }
}

/// A function that runs, or is about to. Dropped before its end, it is ended.
struct Called {
    spawned: Answer,
    down: Answer,
    child: Option<Pid>,
}

impl Called {
    fn begin(node: &str, module: &str, args: &[u8]) -> Self {
        let options = SpawnOptions::new().monitor().to_wit(false);
        let tag = host::spawn_on(node, module, args, &options);
        Self {
            spawned: Answer::of(tag, Kind::Spawned),
            down: Answer::of(tag, Kind::Down),
            child: None,
        }
    }

    async fn ended(mut self) -> Result<ExitReason, Error> {
        match (&mut self.spawned).await {
            Message::Spawned((_, spawned)) => self.child = Some(spawned?),
            _ => return Err(Error::NoConnection),
        }
        match (&mut self.down).await {
            Message::Down((_, _, reason)) => Ok(reason),
            _ => Err(Error::NoConnection),
        }
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        if self.down.is_done() || (self.spawned.is_done() && self.child.is_none()) {
            return;
        }
        if let Some(Message::Spawned((_, spawned))) = self.spawned.take_arrived() {
            self.child = spawned.ok();
            if self.child.is_none() {
                return;
            }
        }
        match self.child {
            Some(child) => {
                host::demonitor(self.down.tag());
                host::exit(child, &ExitReason::Kill);
            }
            // Not before it is known who it is.
            None => runtime::adopt_orphan(self.spawned.tag(), Orphan::Dies),
        }
    }
}
