//! What the module offers to callers on other nodes.

use std::time::Duration;

use wasm_node_sdk::{Pid, node, send, sleep};

async fn add(a: i64, b: i64) -> i64 {
    a + b
}

async fn divide(a: i64, b: i64) -> Result<i64, String> {
    a.checked_div(b).ok_or_else(|| "not by zero".into())
}

async fn where_am_i() -> String {
    node::name()
}

async fn fails() -> i64 {
    panic!("on purpose");
}

async fn spins() -> i64 {
    let mut count: i64 = 0;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}

async fn dawdles(tell: Pid, ms: u64) -> i64 {
    send(tell, b"begun");
    sleep(Duration::from_millis(ms)).await;
    send(tell, b"done");
    7
}

async fn large(bytes: u64) -> Vec<u8> {
    vec![1; usize::try_from(bytes).unwrap_or(usize::MAX)]
}

wasm_node_sdk::rpc_functions! {
    /// The functions of the module.
    pub Offered = "discovery" {
        /// A sum.
        async fn add(a: i64, b: i64) -> i64;
        /// A quotient, or why there is none.
        async fn divide(a: i64, b: i64) -> Result<i64, String>;
        /// The node that it runs on.
        async fn where_am_i() -> String;
        /// Traps.
        async fn fails() -> i64;
        /// Computes for ever.
        async fn spins() -> i64;
        /// Says that it began, waits, says that it is done.
        async fn dawdles(tell: Pid, ms: u64) -> i64;
        /// So many bytes.
        async fn large(bytes: u64) -> Vec<u8>;
    }
}
