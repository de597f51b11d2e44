//! Log lines on standard error.

use duka_config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::error::CliError;

/// Starts logging for the whole process.
pub(crate) fn start(config: &LogConfig) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        CliError::usage(format!(
            "{:?} says nothing about what to log: {error}",
            config.level
        ))
        .hint("write error, warn, info, debug, trace, or directives such as warn,duka_node=debug")
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
