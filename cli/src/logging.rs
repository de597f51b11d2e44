//! Log lines on standard error.

use duka_config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::error::CliError;

/// libp2p warns whenever a DHT has no peers, which the one of the local network mostly has not.
const EXPECTED: &str = "libp2p_kad=error";

/// Starts logging for the whole process.
pub(crate) fn start(config: &LogConfig) -> Result<(), CliError> {
    let quieter = format!("warn,{EXPECTED}");
    let directives = match config.level.as_str() {
        "warn" => &quieter,
        chosen => chosen,
    };
    let filter = EnvFilter::try_new(directives).map_err(|error| {
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
