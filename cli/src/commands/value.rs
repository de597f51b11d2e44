//! A value that is given as arguments, as a file, or on standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::CliError;

/// Longest text that is read from a file, in bytes.
const MAX_TEXT_LEN: u64 = 1 << 20;

/// A value, or several.
#[derive(Debug, Args)]
pub(crate) struct Value {
    /// The value; `-` is standard input
    #[arg(
        value_name = "VALUE",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    values: Vec<String>,

    /// Take the value from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Value {
    /// The only value.
    pub(crate) fn one(self) -> Result<String, CliError> {
        one(self.read()?)
    }

    /// The only value, which is a path and not read from one.
    pub(crate) fn path(self) -> Result<PathBuf, CliError> {
        match self.file {
            Some(file) => Ok(file),
            None => Ok(one(self.values)?.into()),
        }
    }

    /// The words of all values: a file has one or more on each line.
    pub(crate) fn words(self) -> Result<Vec<String>, CliError> {
        let values = self.read()?;
        let words = values.iter().flat_map(|value| value.split_whitespace());
        Ok(words.map(str::to_owned).collect())
    }

    fn read(self) -> Result<Vec<String>, CliError> {
        Ok(match self.file {
            Some(file) => vec![read_text(&file)?],
            None if self.values == ["-"] => vec![read_stdin()?],
            None => self.values,
        })
    }
}

fn one(values: Vec<String>) -> Result<String, CliError> {
    match <[String; 1]>::try_from(values) {
        Ok([value]) => Ok(value),
        Err(values) => {
            let message = format!("there must be one value, not {}", values.len());
            Err(CliError::usage(message).hint("put a value of several words in quotes"))
        }
    }
}

fn read_text(file: &Path) -> Result<String, CliError> {
    let what = format!("cannot read {}", file.display());
    File::open(file)
        .and_then(read_limited)
        .map_err(|error| CliError::io(&what, &error))
}

fn read_stdin() -> Result<String, CliError> {
    read_limited(std::io::stdin().lock())
        .map_err(|error| CliError::io("cannot read standard input", &error))
}

fn read_limited(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAX_TEXT_LEN).read_to_string(&mut text)?;
    Ok(text)
}
