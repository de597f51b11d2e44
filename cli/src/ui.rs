//! What the user sees: data on standard output; messages and progress on standard error; with
//! `--json` everything as events on standard output.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use duka_gateway::control::event::{Event, Givers, Item, Outcome, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Global, When};
use crate::error::CliError;

/// Bytes of entries that are printed together at most.
const MAX_WAITING: usize = 64 << 10;
/// How often progress is a line where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The user's side of a command.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    data_only: bool,
    quiet: bool,
    progress: Shown,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// Entries of a list that are to be printed together.
    items: Vec<u8>,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Bar,
    Lines,
    Events,
    Not,
}

impl Ui {
    pub(crate) fn new(global: &Global) -> Self {
        if global.no_color {
            anstream::ColorChoice::Never.write_global();
        }
        let terminal = std::io::stderr().is_terminal();
        let progress = match global.progress {
            When::Never => Shown::Not,
            _ if global.json => Shown::Events,
            _ if global.quiet => Shown::Not,
            _ if terminal => Shown::Bar,
            When::Always => Shown::Lines,
            When::Auto => Shown::Not,
        };
        Self {
            json: global.json,
            data_only: false,
            quiet: global.quiet,
            progress,
            bar: None,
            last_line: Instant::now(),
            items: Vec::new(),
        }
    }

    /// Events only, before the command line is understood.
    pub(crate) fn json() -> Self {
        Self {
            json: true,
            data_only: false,
            quiet: false,
            progress: Shown::Not,
            bar: None,
            last_line: Instant::now(),
            items: Vec::new(),
        }
    }

    /// From here on standard output has nothing but the bytes of a file; an error is still an event.
    pub(crate) fn data_only(&mut self) {
        self.data_only = true;
        if self.progress == Shown::Events {
            self.progress = Shown::Not;
        }
    }

    /// Prints a line of data, unless events are asked for.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        self.flush()?;
        if !self.json {
            self.clear();
            writeln!(anstream::stdout(), "{text}")?;
        }
        Ok(())
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.flush()?;
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        Ok(())
    }

    /// Prints an event, if events are asked for.
    pub(crate) fn event(&mut self, event: &impl Serialize) -> Result<(), CliError> {
        self.flush()?;
        if self.json {
            let mut line = serde_json::to_vec(event).map_err(std::io::Error::other)?;
            line.push(b'\n');
            let mut out = std::io::stdout().lock();
            out.write_all(&line)?;
            out.flush()?;
        }
        Ok(())
    }

    /// Prints the result event of a command that is no operation of the node.
    pub(crate) fn result(&mut self, op: &str, fields: Value) -> Result<(), CliError> {
        let mut event = json!({ "type": "result", "op": op });
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        self.event(&event)
    }

    /// Prints an outcome: as an event, or as these lines.
    pub(crate) fn outcome(
        &mut self,
        outcome: &Outcome,
        lines: impl FnOnce(&mut Self) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        self.flush()?;
        self.clear();
        if self.json {
            self.event(&Event::Result(outcome.clone()))
        } else {
            lines(self)
        }
    }

    /// Prints an entry of a list, as an event or as a line, with the next [`Ui::flush`] or before.
    pub(crate) fn item(
        &mut self,
        item: &Item,
        line: impl FnOnce(&Item) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            let event = Event::Item(item.clone());
            serde_json::to_writer(&mut self.items, &event).map_err(std::io::Error::other)?;
        } else {
            self.items.extend_from_slice(line(item).as_bytes());
        }
        self.items.push(b'\n');
        if self.items.len() >= MAX_WAITING {
            self.flush()?;
        }
        Ok(())
    }

    /// Prints the entries of a list that were not printed yet.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.clear();
        let items = std::mem::take(&mut self.items);
        let mut out = anstream::stdout();
        out.write_all(&items)?;
        out.flush()?;
        Ok(())
    }

    /// Tells the user something that is no data.
    pub(crate) fn note(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        self.flush()?;
        if !self.quiet && !self.json {
            self.clear();
            writeln!(anstream::stderr(), "{text}")?;
        }
        Ok(())
    }

    /// Tells the user something to take care of.
    pub(crate) fn warn(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        self.flush()?;
        if self.json && !self.data_only {
            let message = text.to_string();
            return self.event(&Event::Warning { message });
        }
        if !self.quiet {
            self.clear();
            self.labelled("warning", AnsiColor::Yellow, &text.to_string());
        }
        Ok(())
    }

    /// Tells why the command failed.
    pub(crate) fn fail(&mut self, error: &CliError) {
        // Standard output is gone: the exit code still tells.
        let _printed = self.flush();
        self.clear();
        let Some((code, message, hints)) = error.describe() else {
            return;
        };
        if self.json {
            let event =
                json!({ "type": "error", "code": code, "message": message, "hints": hints });
            // Standard output is gone: the exit code still tells.
            let _printed = self.event(&event);
            return;
        }
        self.labelled("error", AnsiColor::Red, &message);
        for hint in hints {
            self.labelled("hint", AnsiColor::Cyan, &hint);
        }
    }

    fn labelled(&self, label: &str, color: AnsiColor, text: &str) {
        let style = Style::new().bold().fg_color(Some(color.into()));
        // Standard error is gone: nobody can be told.
        let _printed = writeln!(anstream::stderr(), "{style}{label}:{style:#} {text}");
    }

    /// Shows how far the command is.
    pub(crate) fn progress(&mut self, progress: Progress) -> Result<(), CliError> {
        match self.progress {
            Shown::Not => {}
            Shown::Events => self.event(&Event::Progress(progress))?,
            Shown::Bar => {
                let bar = self.bar.get_or_insert_with(new_bar);
                if let Some(total) = progress.total
                    && bar.length() != Some(total)
                {
                    bar.set_length(total);
                    bar.set_style(style(
                        "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}{msg}  ETA {eta}",
                    ));
                }
                if let Some(givers) = progress.givers {
                    bar.set_message(from(givers));
                }
                bar.set_position(progress.bytes);
            }
            Shown::Lines => {
                if self.last_line.elapsed() >= LINE_INTERVAL {
                    self.last_line = Instant::now();
                    let done = size(progress.bytes);
                    let text = progress.total.map_or_else(
                        || done.clone(),
                        |total| format!("{done} of {}", size(total)),
                    );
                    let from = progress.givers.map(from).unwrap_or_default();
                    writeln!(anstream::stderr(), "{text}{from}")?;
                }
            }
        }
        Ok(())
    }

    /// Takes the progress bar away.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// ` from 3 gateways, 1 peer`; nothing while nobody gave anything.
fn from(givers: Givers) -> String {
    let counts = [(givers.gateways, "gateway"), (givers.peers, "peer")];
    let counts = counts.into_iter().filter(|(number, _)| *number > 0);
    let counts: Vec<_> = counts
        .map(|(number, what)| count(u64::from(number), what))
        .collect();
    match counts.is_empty() {
        true => String::new(),
        false => format!(" from {}", counts.join(", ")),
    }
}

fn new_bar() -> ProgressBar {
    ProgressBar::no_length().with_style(style("{spinner} {bytes}  {bytes_per_sec}"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants that parse")
}

/// A number of things: `1 file`, `2 files`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Bytes for people: `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
