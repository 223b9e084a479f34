//! What a manifest or a policy says of the limits of a module's actors, checked once.
//!
//! Both files have the same five keys, flat among a module's others.

use serde::Deserialize;
use toml::Spanned;
use wasm_node_protocol::Limits;

use super::manifest::{Wrong, wrong};

/// A number of bytes as a file has it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawSize {
    Bytes(u64),
    Text(String),
}

/// The keys, as a file has them.
pub(super) struct RawLimits {
    pub(super) memory: Option<Spanned<RawSize>>,
    pub(super) mailbox: Option<Spanned<u32>>,
    pub(super) message: Option<Spanned<RawSize>>,
    pub(super) turn_cpu_ms: Option<Spanned<u32>>,
    pub(super) cpu_ms: Option<Spanned<u64>>,
}

impl RawLimits {
    pub(super) fn check(self) -> Result<Limits, Wrong> {
        let mailbox = "a mailbox of no message is of no use: give at least 1";
        let no_time = "an actor that may not compute is of no use: give at least 1";
        let message_bytes = self.message.map(checked_size).transpose()?;
        Ok(Limits {
            memory_bytes: self.memory.map(checked_size).transpose()?,
            mailbox_messages: not_zero(self.mailbox, mailbox)?,
            // One that is larger than any message may be is none.
            message_bytes: message_bytes.and_then(|bytes| u32::try_from(bytes).ok()),
            turn_cpu_ms: not_zero(self.turn_cpu_ms, no_time)?,
            cpu_ms: not_zero(self.cpu_ms, no_time)?,
        })
    }
}

fn not_zero<T: Default + PartialEq>(
    limit: Option<Spanned<T>>,
    why_not: &str,
) -> Result<Option<T>, Wrong> {
    match limit {
        Some(limit) if *limit.as_ref() == T::default() => Err(wrong(&limit, why_not)),
        limit => Ok(limit.map(Spanned::into_inner)),
    }
}

fn checked_size(size: Spanned<RawSize>) -> Result<u64, Wrong> {
    let bytes = match size.as_ref() {
        RawSize::Bytes(bytes) => Some(*bytes),
        RawSize::Text(text) => parse_size(text),
    };
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| {
        wrong(
            &size,
            "no size: write a number of bytes, or a text such as \"64MiB\" or \"512KiB\"",
        )
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
