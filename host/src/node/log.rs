//! The events that actors write to the log of their node: bounded, and of one form.
//!
//! `tracing`'s fields have fixed names, so an actor's own are one field, `fields`, of JSON.

use tracing::Level;

/// Bytes of an event's text; the rest is cut.
const MAX_TEXT_BYTES: usize = 8 << 10;
/// Fields of an event; those beyond are left out.
const MAX_FIELDS: usize = 32;
/// Bytes of a field's name.
const MAX_NAME_BYTES: usize = 64;
/// Bytes of a field's value.
const MAX_VALUE_BYTES: usize = 1 << 10;

/// The log's target of all of them, for filters.
const TARGET: &str = "wasm_node::actor";

/// An event, ready to be written.
pub(super) struct Event {
    level: Level,
    actor: String,
    module: String,
    text: String,
    fields: String,
}

/// Whether anybody sees events of this level.
pub(super) fn is_wanted(level: Level) -> bool {
    match level {
        Level::ERROR => tracing::enabled!(target: TARGET, Level::ERROR),
        Level::WARN => tracing::enabled!(target: TARGET, Level::WARN),
        Level::INFO => tracing::enabled!(target: TARGET, Level::INFO),
        _ => tracing::enabled!(target: TARGET, Level::DEBUG),
    }
}

impl Event {
    pub(super) fn new(
        level: Level,
        actor: String,
        module: &str,
        text: String,
        fields: Vec<(String, String)>,
    ) -> Self {
        let fields = fields.into_iter().take(MAX_FIELDS).map(|(name, value)| {
            let value = cut(value, MAX_VALUE_BYTES);
            (cut(name, MAX_NAME_BYTES), serde_json::Value::String(value))
        });
        let fields: serde_json::Map<_, _> = fields.collect();
        Self {
            level,
            actor,
            module: module.into(),
            text: cut(text, MAX_TEXT_BYTES),
            fields: serde_json::Value::Object(fields).to_string(),
        }
    }

    /// What it takes while it waits to be written.
    pub(super) fn bytes(&self) -> usize {
        self.actor.len() + self.module.len() + self.text.len() + self.fields.len()
    }

    pub(super) fn emit(&self) {
        let Self {
            level,
            actor,
            module,
            text,
            fields,
        } = self;
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: TARGET, Level::$level, %actor, module, %fields, "{text}")
            };
        }
        match *level {
            Level::ERROR => event!(ERROR),
            Level::WARN => event!(WARN),
            Level::INFO => event!(INFO),
            _ => event!(DEBUG),
        }
    }
}

/// At most so many bytes of a text, whole characters, and a sign that some are missing.
fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes.saturating_sub('\u{2026}'.len_utf8())));
        text.push('\u{2026}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded() {
        let fields = (0..100).map(|n| (format!("{n:0>100}"), "\u{e9}".repeat(5_000)));
        let text = "\u{1f980}".repeat(10_000);
        let event = Event::new(Level::INFO, "<0.1.0>".into(), "m", text, fields.collect());
        assert!(event.text.len() <= MAX_TEXT_BYTES && event.text.ends_with("\u{1f980}\u{2026}"));
        let fields: serde_json::Value = serde_json::from_str(&event.fields).unwrap();
        let fields = fields.as_object().unwrap();
        // The names differ only behind where they are cut.
        assert_eq!(fields.len(), 1);
        for (name, value) in fields {
            assert_eq!(name.len(), MAX_NAME_BYTES);
            assert!(value.as_str().unwrap().len() <= MAX_VALUE_BYTES);
        }
        assert_eq!(cut("short".into(), 5), "short");
    }
}
