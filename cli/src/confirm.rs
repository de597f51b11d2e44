//! Questions that are answered with yes or no.

use std::io::{BufRead, IsTerminal, Write};

use crate::context::Context;
use crate::error::CliError;

/// Asks, unless `--yes` was given. An error unless the answer is yes: `no` says what does not happen then.
pub(crate) fn confirm(cx: &Context, question: &str, no: &str) -> Result<(), CliError> {
    if cx.yes() {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let message = format!("nobody is there to say yes, so {no}");
        return Err(CliError::usage(message).hint("give --yes to do it without a question"));
    }
    let mut answer = String::new();
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| std::io::stdin().lock().read_line(&mut answer))
        .map_err(|error| CliError::io("cannot ask", &error))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::usage(format!("{no}, as you said"))),
    }
}
