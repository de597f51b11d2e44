//! Where a value came from, and what its key means.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The shipped `default.toml`.
    Default,
    /// The settings file.
    File(PathBuf),
    /// This environment variable.
    Env(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(variable) => write!(f, "the environment variable {variable}"),
            Self::Flag(flag) => write!(f, "the flag {flag}"),
        }
    }
}

/// One key, explained.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The key, such as `network.listen`.
    pub key: String,
    /// What it means, from `default.toml`.
    pub meaning: String,
    /// The value in use.
    pub value: toml::Value,
    /// Where that came from.
    pub origin: Origin,
    /// The default value.
    pub default: toml::Value,
    /// The environment variable that sets it.
    pub variable: String,
}

/// The comment above each key of `default.toml`, joined to one paragraph.
pub(crate) fn meaning(source: &str, key: &str) -> String {
    let mut section = String::new();
    let mut comment = String::new();
    for line in source.lines() {
        if let Some(text) = line.strip_prefix('#') {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(text.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            name.clone_into(&mut section);
            comment.clear();
        } else if let Some((name, _)) = line.split_once(" = ") {
            if key.strip_prefix(&section).and_then(|k| k.strip_prefix('.')) == Some(name) {
                return comment;
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    String::new()
}
