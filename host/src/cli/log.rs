//! Logs: to standard error, each line with the node's name, so that the nodes of a local
//! cluster can share one terminal.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::error::CliError;

/// Begins to log what `--log`, or else `RUST_LOG`, or else `default` lets through.
pub(super) fn start(name: &str, filter: Option<&str>, default: &str) -> Result<(), CliError> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let text = filter.or(from_environment.as_deref()).unwrap_or(default);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        CliError::Usage(format!(
            "{text:?} is no log filter ({error}): write \"info\", or \"warn,wasm_node::dist=debug\""
        ))
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(Named {
            name: name.into(),
            format: Format::default(),
        })
        .finish();
    // Only a test that runs commands in one process finds one there; the first is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

struct Named {
    name: String,
    format: Format<Full>,
}

impl<S, N> FormatEvent<S, N> for Named
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "{} ", self.name)?;
        self.format.format_event(context, writer, event)
    }
}
