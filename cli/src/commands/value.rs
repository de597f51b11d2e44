//! A value that is given as arguments, as a file, or on standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::CliError;

/// Longest text that is read from a file or standard input.
const MAX_TEXT_MIB: u64 = 1;

/// A value, or several.
#[derive(Debug, Args)]
pub(crate) struct Value {
    /// The value; `-` is standard input; after `--` it may begin with `-`
    #[arg(
        value_name = "VALUE",
        conflicts_with = "file",
        allow_negative_numbers = true
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
    let name = file.display().to_string();
    let opened =
        File::open(file).map_err(|error| CliError::io(&format!("cannot read {name}"), &error))?;
    read_limited(&name, opened)
}

fn read_stdin() -> Result<String, CliError> {
    read_limited("standard input", std::io::stdin().lock())
}

fn read_limited(name: &str, source: impl Read) -> Result<String, CliError> {
    let most = MAX_TEXT_MIB << 20;
    let mut bytes = Vec::new();
    let read = source.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::io(&format!("cannot read {name}"), &error))?;
    if bytes.len() as u64 > most {
        let message = format!("{name} is longer than {MAX_TEXT_MIB} MiB");
        return Err(CliError::usage(message).hint("nothing was changed"));
    }
    String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format!("{name} is no text: it is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &CliError) -> String {
        let (_, message, _) = error.describe().unwrap();
        message
    }

    #[test]
    fn text_of_up_to_1_mib_is_read_whole_and_longer_ones_are_refused() {
        let whole = "é".repeat(1 << 19);
        assert_eq!(read_limited("a file", whole.as_bytes()).unwrap(), whole);
        for longer in [format!("{whole}a"), format!("a{whole}")] {
            let refused = read_limited("a file", longer.as_bytes()).unwrap_err();
            assert!(said(&refused).contains("longer than 1 MiB"));
        }
        let refused = read_limited("a file", &[0xff_u8][..]).unwrap_err();
        assert!(said(&refused).contains("not UTF-8"));
    }
}
