//! Backups: made by a node, restored without one.

use std::path::PathBuf;

use duka_node::backup::{self, BackupOptions};
use duka_node::blocking::blocking;
use duka_node::node::Node;
use duka_node::restore::{self, RestoreOptions};
use tokio_util::sync::CancellationToken;

use crate::control::event::{Event, Outcome, Progress};
use crate::control::failure::Failure;
use crate::control::sink::EventSink;

pub(super) async fn backup(
    node: &Node,
    dir: PathBuf,
    keys: Option<String>,
    settings: Option<PathBuf>,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let has_settings = settings.is_some();
    let options = BackupOptions {
        dir: dir.clone(),
        keys,
        settings,
    };
    let report = backup::run(node, options, progress(sink)).await?;
    if report.in_place_blocks > 0 {
        let message = format!(
            "{} blocks are not in the backup, for their files were added in place: back these files up, too",
            report.in_place_blocks
        );
        sink.send(Event::Warning { message }).await;
    }
    if report.damaged_blocks > 0 {
        let message = format!(
            "{} blocks in the backup are damaged, as they are in the store: mend them with duka fsck --repair",
            report.damaged_blocks
        );
        sink.send(Event::Warning { message }).await;
    }
    Ok(Outcome::Backup {
        dir: dir.display().to_string(),
        name: report.shop,
        packs: report.packs,
        new_packs: report.new_packs,
        linked_packs: report.linked_packs,
        bytes: report.bytes,
        new_bytes: report.new_bytes,
        removed_files: report.removed_files,
        keys: report.keys,
        settings: has_settings,
    })
}

/// Restores a backup into a data directory without a node.
pub(in crate::control) async fn restore(
    data_dir: PathBuf,
    options: RestoreOptions,
    sink: &EventSink,
) -> Result<Outcome, Failure> {
    let stop = CancellationToken::new();
    let _ends_with_this_future = stop.clone().drop_guard();
    let progress = progress(sink);
    let dry_run = options.dry_run;
    let target = data_dir.clone();
    let restored = blocking(move || restore::run(&target, &options, &stop, &progress)).await?;
    Ok(Outcome::Restore {
        data_dir: data_dir.display().to_string(),
        name: restored.shop,
        created: restored.created,
        files: restored.files,
        bytes: restored.bytes,
        keys: restored.keys,
        settings: restored.settings.map(|path| path.display().to_string()),
        dry_run,
    })
}

fn progress(sink: &EventSink) -> impl Fn(u64, u64) + Send + 'static {
    let sink = sink.clone();
    move |bytes, total| {
        sink.progress(Progress::new(bytes, Some(total)));
    }
}
