//! An agent for the tests: a stack of numbers.

fn sum(numbers: &[i64]) -> i64 {
    numbers.iter().sum()
}

fn push(numbers: &mut Vec<i64>, n: i64) {
    numbers.push(n);
}

fn pop(numbers: &mut Vec<i64>) -> Option<i64> {
    numbers.pop()
}

wasm_node_sdk::agent_functions! {
    /// A stack of numbers.
    pub Stack = "board" of Vec<i64> {
        /// Their sum.
        get fn sum() -> i64;
        /// Puts one on top.
        update fn push(n: i64);
        /// Takes the topmost.
        get_and_update fn pop() -> Option<i64>;
    }
}

wasm_node_sdk::export_agent!(Stack);
