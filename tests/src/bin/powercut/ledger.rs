//! What writers were acknowledged so far.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;

use crate::fact::{Fact, Line};

/// Facts by subject; `None` while a write that changes it is under way.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    facts: BTreeMap<String, Option<Fact>>,
    under_way: u64,
    pub(crate) acknowledged: u64,
}

impl Ledger {
    pub(crate) fn take(&mut self, line: Line) {
        match line {
            Line::Begin(fact) => {
                self.under_way += 1;
                if let Some(fact) = fact {
                    self.facts.insert(fact.subject(), None);
                }
            }
            Line::Done(fact) => {
                self.under_way = self.under_way.saturating_sub(1);
                self.acknowledged += 1;
                self.facts.insert(fact.subject(), Some(fact));
            }
            Line::Ready | Line::Lost(_) => {}
        }
    }

    /// Takes a line that came after the cut: what it says may be so or not.
    pub(crate) fn doubt(&mut self, line: Line) {
        if let Line::Begin(Some(fact)) | Line::Done(fact) = line {
            self.facts.insert(fact.subject(), None);
        }
    }

    /// The writer is gone. Says whether it was writing.
    pub(crate) fn end(&mut self) -> bool {
        std::mem::take(&mut self.under_way) > 0
    }

    /// Writes down what must be so.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for fact in self.facts.values().flatten() {
            serde_json::to_writer(&mut file, fact)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}

/// Reads what [`Ledger::save`] wrote.
pub(crate) fn load(path: &Path) -> Result<Vec<Fact>> {
    let text = std::fs::read_to_string(path)?;
    let facts = text.lines().map(serde_json::from_str);
    Ok(facts.collect::<Result<_, _>>()?)
}
