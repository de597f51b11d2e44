//! Secrets from where nobody else reads them: a file, standard input, or the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::error::CliError;

/// Longest file with a secret, in bytes.
const MAX_LEN: u64 = 64 << 10;
/// Longest passphrase that is typed, in bytes.
const MAX_TYPED: u64 = 4096;

/// Reads a file with secrets; `-` is standard input.
pub(crate) fn read(file: &Path) -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        io::stdin().lock().take(MAX_LEN).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(MAX_LEN).read_to_string(&mut text))
    };
    let is_text = |error: &io::Error| error.kind() != io::ErrorKind::InvalidData;
    if read.as_ref().is_err_and(|error| !is_text(error)) {
        let message = format!("{} is not text", file.display());
        return Err(CliError::usage(message).hint("give a file with the secret in UTF-8"));
    }
    read.map_err(|error| CliError::io(&format!("reading {} failed", file.display()), &error))?;
    Ok(text)
}

/// The passphrase in a file: its first line.
pub(crate) fn of_file(file: &Path) -> Result<Zeroizing<String>, CliError> {
    let text = read(file)?;
    let line = text.lines().next().unwrap_or_default();
    let passphrase = Zeroizing::new(line.to_owned());
    if passphrase.is_empty() {
        let message = format!("the first line of {} is empty", file.display());
        return Err(CliError::usage(message).hint("it is the passphrase"));
    }
    Ok(passphrase)
}

/// A terminal to ask for passphrases, with what is typed not shown.
pub(crate) struct Terminal {
    file: File,
    shown: Termios,
}

impl Terminal {
    /// `None` where there is no terminal.
    pub(crate) fn open() -> Option<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open("/dev/tty").ok()?;
        let shown = tcgetattr(&file).ok()?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&file, OptionalActions::Flush, &hidden).ok()?;
        Some(Self { file, shown })
    }

    /// Asks for a passphrase.
    pub(crate) fn ask(&mut self, question: &str) -> Result<Zeroizing<String>, CliError> {
        let passphrase = self
            .exchange(question)
            .map_err(|error| CliError::io("reading the passphrase failed", &error))?;
        if passphrase.is_empty() {
            return Err(CliError::usage("the passphrase is empty"));
        }
        Ok(passphrase)
    }

    fn exchange(&mut self, question: &str) -> io::Result<Zeroizing<String>> {
        write!(self.file, "{question}: ")?;
        let mut line = Zeroizing::new(String::new());
        let mut reader = BufReader::new(&self.file).take(MAX_TYPED);
        reader.read_line(&mut line)?;
        writeln!(self.file)?;
        Ok(Zeroizing::new(
            line.trim_end_matches(['\r', '\n']).to_owned(),
        ))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where that fails, the terminal is gone.
        let _restored = tcsetattr(&self.file, OptionalActions::Flush, &self.shown);
    }
}
