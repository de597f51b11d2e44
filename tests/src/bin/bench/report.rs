//! Figures as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// Everything one bench says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    pub(crate) repetitions: usize,
    /// What Kubo was set to where it differs from a fresh repository; null without Kubo.
    pub(crate) kubo: Value,
    /// Whatever else explains the figures.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One thing measured of each contender.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) series: Vec<Series>,
    pub(crate) checks: Vec<Check>,
}

/// What was measured of one contender.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) contender: &'static str,
    pub(crate) median: f64,
    pub(crate) values: Vec<f64>,
}

/// A figure against its target.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
    pub(crate) pass: bool,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            unit,
            series: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Adds a measurement of a contender, and tells it right away.
    pub(crate) fn push(&mut self, contender: &'static str, value: f64) {
        eprintln!("{}: {contender} {value:.2} {}", self.what, self.unit);
        let index = self
            .series
            .iter()
            .position(|series| series.contender == contender);
        let index = index.unwrap_or_else(|| {
            self.series.push(Series {
                contender,
                median: 0.0,
                values: Vec::new(),
            });
            self.series.len() - 1
        });
        let series = &mut self.series[index];
        series.values.push(value);
        series.median = median(&series.values);
    }

    pub(crate) fn median(&self, contender: &str) -> f64 {
        let found = self
            .series
            .iter()
            .find(|series| series.contender == contender);
        found.map_or(f64::NAN, |series| series.median)
    }

    /// Compares the medians of two contenders.
    pub(crate) fn ratio(&mut self, ours: &str, base: &str, target: Option<Target>) {
        let value = self.median(ours) / self.median(base);
        self.check(format!("{ours} ÷ {base}"), value, target);
    }

    /// Compares the median of one contender with a target.
    pub(crate) fn absolute(&mut self, ours: &str, target: Target) {
        self.check(
            format!("{ours}, {}", self.unit),
            self.median(ours),
            Some(target),
        );
    }

    /// Adds a figure that follows from medians.
    pub(crate) fn check(&mut self, what: impl Into<String>, value: f64, target: Option<Target>) {
        let pass = match target {
            Some(Target::AtLeast(least)) => value >= least,
            Some(Target::AtMost(most)) => value <= most,
            None => true,
        };
        self.checks.push(Check {
            what: what.into(),
            value,
            target,
            pass,
        });
    }
}

impl Report {
    pub(crate) fn passes(&self) -> bool {
        self.rows
            .iter()
            .flat_map(|row| &row.checks)
            .all(|check| check.pass)
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}, median of {}\n", self.bench, self.repetitions);
        write_table(&mut text, self).expect("writing into memory");
        text
    }
}

fn write_table(text: &mut String, report: &Report) -> std::fmt::Result {
    for note in &report.notes {
        writeln!(text, "  {note}")?;
    }
    if !report.kubo.is_null() {
        writeln!(text, "  Kubo: {}", report.kubo)?;
    }
    for row in &report.rows {
        writeln!(text, "\n{}", row.what)?;
        for Series {
            contender,
            median,
            values,
        } in &row.series
        {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let unit = row.unit;
            writeln!(
                text,
                "  {contender:<16} {median:>10.2} {unit:<6} ({least:.2} to {most:.2})"
            )?;
        }
        for Check {
            what,
            value,
            target,
            pass,
        } in &row.checks
        {
            write!(text, "  {what:<36} {value:>8.2}")?;
            let verdict = if *pass { "pass" } else { "MISS" };
            match target {
                Some(Target::AtLeast(least)) => writeln!(text, "   target ≥ {least}: {verdict}")?,
                Some(Target::AtMost(most)) => writeln!(text, "   target ≤ {most}: {verdict}")?,
                None => writeln!(text)?,
            }
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts_and_a_miss_fails() {
        let mut row = Row::new("x", "MB/s");
        for (ours, theirs) in [(10.0, 1.0), (20.0, 9.0), (90.0, 10.0)] {
            row.push("duka", ours);
            row.push("Kubo", theirs);
        }
        row.ratio("duka", "Kubo", Some(Target::AtLeast(2.0)));
        assert!(row.checks[0].pass);
        row.ratio("duka", "Kubo", Some(Target::AtLeast(2.3)));
        assert!(!row.checks[1].pass);
    }
}
