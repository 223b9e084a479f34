//! Distribution.
#![allow(missing_docs)]
pub mod cookie;
pub mod epmd;
