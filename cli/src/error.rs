//! How a command fails: one sentence, advice, and an exit code.

use std::io;

use duka_gateway::control::failure::{Code, Failure};

/// Exit code of a wrong command line.
pub(crate) const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// It failed.
    Failed(Failure),
    /// `--timeout` is over.
    TimedOut(std::time::Duration),
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// Nobody reads standard output any more.
    BrokenPipe,
}

impl CliError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(Code::Usage, message))
    }

    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(code, message))
    }

    /// `what` failed because of an error of the system.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::PermissionDenied => Code::Permanent,
            io::ErrorKind::StorageFull => Code::NoSpace,
            _ => Code::Other,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// Adds advice.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(failure.hint(hint)),
            other => other,
        }
    }

    /// Exit codes are fixed; the help of `duka` lists them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(failure) => match failure.code {
                Code::Usage => USAGE,
                Code::NotFound => 3,
                Code::Corrupt => 4,
                Code::Temporary => 5,
                Code::Permanent => 6,
                Code::Partial => 7,
                Code::Signature => 8,
                Code::NoSpace => 9,
                Code::Limit => 10,
                Code::Locked => 11,
                _ => 1,
            },
            Self::TimedOut(_) => 124,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::BrokenPipe => 0,
        }
    }

    /// Code, message and advice, for people and for `--json`.
    pub(crate) fn describe(&self) -> Option<(String, String, Vec<String>)> {
        let (code, message) = match self {
            Self::BrokenPipe => return None,
            Self::Failed(failure) => {
                let code = serde_json::to_value(failure.code).unwrap_or_default();
                let code = code.as_str().unwrap_or("other").to_owned();
                return Some((code, failure.message.clone(), failure.hints.clone()));
            }
            Self::TimedOut(limit) => (
                "timed-out",
                format!("not done within {}", humantime::format_duration(*limit)),
            ),
            Self::Interrupted => ("interrupted", "interrupted".to_owned()),
            Self::Terminated => ("terminated", "terminated".to_owned()),
        };
        Some((code.to_owned(), message, Vec::new()))
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An error of standard output.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::io("writing to standard output failed", &error)
        }
    }
}
