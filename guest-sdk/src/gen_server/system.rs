//! System messages: what OTP's `sys` asks of any server. They come as requests, behind a mark that
//! no codec of a server's own begins with.

use serde::{Deserialize, Serialize};

use crate::{ExitReason, codec};

/// In front of a system message, which follows as postcard. The host knows it too (`cli/status`).
const MARK: &[u8] = b"\0wasm-node-sdk sys 1\0";

/// What is asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum System {
    /// To end with this reason: `sys:terminate/2`. The end is the answer.
    Terminate(ExitReason),
    /// `format_status`, as text: `sys:get_status/1`.
    GetStatus,
    /// The state as it is saved: `sys:get_state/1`.
    GetState,
}

impl System {
    /// As the body of a request.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [MARK, &codec::encode(self)].concat()
    }

    /// None if this is a request of the server's own.
    pub(super) fn decode(body: &[u8]) -> Option<Result<Self, String>> {
        body.strip_prefix(MARK).map(codec::decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_comes_back_and_other_bytes_are_no_system_message() {
        for system in [
            System::Terminate(ExitReason::Shutdown),
            System::GetStatus,
            System::GetState,
        ] {
            assert_eq!(System::decode(&system.encode()), Some(Ok(system)));
        }
        // Written out in the host.
        assert_eq!(System::GetStatus.encode(), b"\0wasm-node-sdk sys 1\0\x01");
        assert_eq!(System::decode(b"\0wasm"), None);
        assert!(matches!(System::decode(MARK), Some(Err(_))));
    }
}
