//! `listing`: the page of a directory so large that it is a HAMT, from Kubo and duka.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use duka_tests::duka::{self, field};
use duka_tests::kubo;
use serde_json::Value;

use super::load::{self, Download};
use crate::machine::drop_caches;
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, kubo_config, turns};

/// Target of the first byte.
const FIRST_BYTE: Target = Target::AtMost(1.0);
/// Requests after the first one.
const LATER: usize = 20;
/// A directory whose block would be larger is a HAMT.
const LARGEST_PLAIN: usize = 256 << 10;

pub(crate) fn run(setup: &Setup, entries: usize) -> Result<Report> {
    let row = |what: &str| Row::new(format!("directory of {entries} entries: {what}"), "ms");
    let mut cold = [row("first byte, cold"), row("all of it, cold")];
    let mut warm = [row("first byte, warm"), row("all of it, warm")];
    let mut config = Value::Null;
    let mut notes = vec!["cold: the first request to a process that was just started".to_owned()];
    for repetition in 0..setup.repetitions {
        let site = setup.folder()?;
        let seed = setup.seed(repetition);
        for number in 0..entries {
            let name = format!("entry number {number} of a directory with long names");
            fs::write(site.path().join(name), format!("{seed} {number}"))?;
        }
        let mut kubo = setup.kubo(kubo::Options::default())?;
        let root = kubo.add(site.path())?;
        let block = kubo.run_ok(&["block", "get", &root])?.stdout;
        ensure!(block.len() < LARGEST_PLAIN / 2, "{root} is no HAMT");
        config = kubo_config(&kubo)?;
        let (duka, node) = setup.serving(&duka::Options::default())?;
        let added = duka.ok(&["add", site.path().to_str().context("a text path")?])?;
        ensure!(field(&added, "cid")? == root, "{root} and {added}");
        kubo.stop()?;
        node.stop()?;
        if !drop_caches() && notes.len() == 1 {
            notes.push("the page cache could not be dropped".to_owned());
        }
        for contender in turns(&["Kubo", "duka"], repetition) {
            let serving = match contender {
                "Kubo" => {
                    kubo.start()?;
                    None
                }
                _ => Some(duka.serve()?),
            };
            let gateway = match &serving {
                Some(node) => node.gateway()?,
                None => kubo.gateway()?,
            };
            let url = format!("{gateway}/ipfs/{root}/");
            push(&mut cold, contender, load::curl(&url)?, entries)?;
            for _ in 0..LATER {
                push(&mut warm, contender, load::curl(&url)?, entries)?;
            }
            match serving {
                Some(node) => node.stop()?,
                None => kubo.stop()?,
            }
        }
    }
    for rows in [&mut cold, &mut warm] {
        rows[0].ratio("duka", "Kubo", Some(FIRST_BYTE));
        rows[1].ratio("duka", "Kubo", None);
    }
    Ok(Report {
        bench: "listing",
        repetitions: setup.repetitions,
        kubo: config,
        notes,
        rows: cold.into_iter().chain(warm).collect(),
    })
}

fn push(rows: &mut [Row; 2], contender: &'static str, got: Download, entries: usize) -> Result<()> {
    ensure!(got.bytes > entries as u64 * 100, "no listing: {got:?}");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    rows[0].push(contender, ms(got.first_byte));
    rows[1].push(contender, ms(got.took));
    Ok(())
}
