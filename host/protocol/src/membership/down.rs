//! Why a node is down, in the words of OTP's `net_kernel:monitor_nodes/2` (`nodedown_reason`), so that
//! actors can tell the cases apart; what people want to know of it follows behind a colon.

/// No connection could be made: of nodes that are monitored and never came up.
pub const CONNECTION_SETUP_FAILED: &str = "connection_setup_failed";
/// The connection ended: the node stopped, crashed or restarted, or the network gave it up.
pub const CONNECTION_CLOSED: &str = "connection_closed";
/// Somebody asked for it, here or there.
pub const DISCONNECT: &str = "disconnect";
/// It was silent for four ticks.
pub const NET_TICK_TIMEOUT: &str = "net_tick_timeout";
/// This node stops.
pub const NET_KERNEL_TERMINATED: &str = "net_kernel_terminated";

const ALL: [&str; 5] = [
    CONNECTION_SETUP_FAILED,
    CONNECTION_CLOSED,
    DISCONNECT,
    NET_TICK_TIMEOUT,
    NET_KERNEL_TERMINATED,
];

/// A reason with the word of its case in front: that it has, or [`CONNECTION_CLOSED`].
pub(super) fn in_full(reason: &str) -> String {
    let word = reason.split_once(':').map_or(reason, |(word, _)| word);
    match ALL.contains(&word) {
        true => reason.into(),
        false => format!("{CONNECTION_CLOSED}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_begins_with_its_case() {
        assert_eq!(in_full("disconnect: by a user"), "disconnect: by a user");
        assert_eq!(in_full(NET_TICK_TIMEOUT), "net_tick_timeout");
        let io = "broken pipe: os error 32";
        assert_eq!(in_full(io), "connection_closed: broken pipe: os error 32");
    }
}
