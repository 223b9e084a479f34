//! What the tests share: a simulator of clusters in virtual time, and a harness that drives the
//! real program. Nothing here knows the program's insides: what the harness asserts, a user sees.

pub mod cluster;
pub mod component;
pub mod conformance;
pub mod http;
pub mod net;
pub mod node;
pub mod process;
pub mod program;
pub mod sim;
pub mod todo;
