//! `duka stat`.

use clap::Args;
use duka_gateway::control::event::{Outcome, Scrub, Stat as Found};
use duka_gateway::control::request::Request;

use crate::context::Context;
use crate::error::CliError;
use crate::ui::{Ui, count, size};

/// Show what the store holds, what it may hold, and when it was checked
///
///     duka stat
///     duka --json stat
///     duka --json stat | jq .used_bytes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Stat {}

/// Shows.
pub(crate) async fn run(cx: &Context, ui: &mut Ui) -> Result<(), CliError> {
    let outcome = cx.run(ui, Request::Stat, None, super::row).await?;
    ui.outcome(&outcome, |ui| match &outcome {
        Outcome::Stat(found) => rows(found)
            .into_iter()
            .try_for_each(|(name, value)| ui.line(format!("{name}\t{value}"))),
        _ => Ok(()),
    })
}

fn rows(found: &Found) -> Vec<(&'static str, String)> {
    let (pins, releases) = (count(found.pins, "pin"), count(found.releases, "release"));
    let limit = |limit: Option<u64>| {
        limit.map_or_else(
            || "no limit".to_owned(),
            |limit| format!("of {}", size(limit)),
        )
    };
    let of = |bytes, blocks| format!("{} in {}", size(bytes), count(blocks, "block"));
    let free = (size(found.free_bytes), size(found.reserve_bytes));
    let never = || "never".to_owned();
    let mut rows = vec![
        ("directory", found.data_dir.clone()),
        ("promised", format!("{pins}, {releases}")),
        (
            "used",
            format!("{}, {}", size(found.used_bytes), limit(found.limit_bytes)),
        ),
        ("kept", of(found.kept_bytes, found.kept_blocks)),
        (
            "cache",
            format!(
                "{}, {}",
                of(found.cache_bytes, found.cache_blocks),
                limit(found.cache_limit_bytes)
            ),
        ),
        ("free", format!("{}, {} of it stay free", free.0, free.1)),
        ("last gc", found.last_gc.clone().unwrap_or_else(never)),
        (
            "last scrub",
            found.last_scrub.as_ref().map_or_else(never, scrub),
        ),
    ];
    rows.extend(found.scrub.as_ref().map(|found| ("scrub", scrub(found))));
    rows
}

fn scrub(found: &Scrub) -> String {
    let when = match &found.ended {
        Some(ended) => format!("ended {ended}"),
        None => format!("began {}", found.started),
    };
    let (blocks, bytes) = (count(found.blocks, "block"), size(found.bytes));
    let wrong = found.damaged_blocks + found.missing_blocks;
    if wrong == 0 {
        return format!("{when}: {blocks}, {bytes}, nothing damaged");
    }
    format!(
        "{when}: {blocks}, {bytes}, {} damaged, {} missing, {} repaired, {} lost",
        found.damaged_blocks, found.missing_blocks, found.repaired_blocks, found.lost_blocks
    )
}
