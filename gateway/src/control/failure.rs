//! Why an operation failed, for people and for scripts.

use serde::{Deserialize, Serialize};

/// Why an operation failed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure it is; decides the exit code.
    pub code: Code,
    /// What happened, to what.
    pub message: String,
    /// What to do, a sentence each.
    pub hints: Vec<String>,
}

/// Kinds of failure. Each is an exit code of the command line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// None of the others.
    Other,
    /// What was asked for makes no sense.
    Usage,
    /// It does not exist.
    NotFound,
    /// Bytes are not what they should be.
    Corrupt,
    /// The network or another place failed; trying again may help.
    Temporary,
    /// It cannot be done; trying again does not help.
    Permanent,
    /// Only a part was done.
    Partial,
    /// A signature is wrong, or a record is older than one that is known.
    Signature,
    /// The disk is full.
    NoSpace,
    /// A limit was reached.
    Limit,
    /// Another process has the data directory.
    Locked,
    /// It took too long.
    TimedOut,
}

impl Failure {
    /// A failure with a message and nothing to advise.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// A failure that tells an error and its causes.
    pub fn of(code: Code, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.ends_with(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::new(code, message)
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
