//! The manifest: commits, checkpoints that replace the journal, reopening.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use duka_node::disk::Disk;
use duka_node::manifest::change::{Change, Op};
use duka_node::manifest::{Manifest, ManifestError, ManifestOptions};
use duka_tests::disk::faulty::Fault;
use duka_tests::disk::point::SyncKind;
use duka_tests::disk::{Hook, Hooked, NoSync};
use futures::executor::block_on;
use parking_lot::Mutex;

use crate::{Events, Workload, cuts_lose_nothing_and_each_sync_is_needed, fail_everywhere};

const OPTIONS: ManifestOptions = ManifestOptions {
    journal_limit: 12_000,
    reserve: 0,
};

#[test]
fn a_disk_that_fails_at_any_operation_loses_no_acknowledged_change() {
    fail_everywhere::<Changes>();
}

#[test]
fn a_power_cut_at_any_operation_loses_no_acknowledged_change() {
    cuts_lose_nothing_and_each_sync_is_needed::<Changes>(&[
        SyncKind::Directory,
        SyncKind::Journal,
        SyncKind::NewJournal,
        SyncKind::JournalName,
        SyncKind::JournalReopen,
        SyncKind::Checkpoint,
    ]);
}

#[derive(Default)]
struct Changes {
    promised: Mutex<Promised>,
}

#[derive(Default)]
struct Promised {
    acknowledged: BTreeMap<String, Vec<u8>>,
    /// A change that was neither acknowledged nor refused for good.
    under_way: Option<(String, Vec<u8>)>,
    /// What a reader was shown after a restart.
    shown: Option<String>,
}

impl Workload for Changes {
    fn run<H: Hook + 'static>(&self, disk: &Arc<Hooked<H>>, root: &Path, events: &dyn Events) {
        let mut writer = Writer {
            changes: self,
            disk: Arc::clone(disk) as Arc<dyn Disk>,
            root,
            events,
            manifest: None,
        };
        for number in 0..10u8 {
            writer.commit(&format!("first {number}"), 100 + usize::from(number) * 300);
        }
        writer.close();
        writer.commit("first 3", 9_000);

        // Killed between the write of an entry and its sync; the next run finds the entry.
        events.fail_next(SyncKind::Journal);
        writer.commit("killed", 6_000);
        writer.commit("last", 10);
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        let text = |error: ManifestError| format!("{error:?}");
        let disk = Hooked::shared(NoSync);
        let (manifest, _) =
            Manifest::open_on(disk, &root.join("manifest"), OPTIONS).map_err(text)?;
        let promised = self.promised.lock();
        for (key, value) in &promised.acknowledged {
            let found = manifest.state(key).map_err(text)?;
            let under_way = promised
                .under_way
                .as_ref()
                .filter(|(other, _)| other == key);
            let newer = under_way.map(|(_, value)| value);
            if found.as_ref() != Some(value) && (newer.is_none() || found.as_ref() != newer) {
                let found = found.map(|found| found.len());
                return Err(format!("{key:?} was acknowledged: {found:?} bytes"));
            }
        }
        if let Some(shown) = &promised.shown
            && manifest.state(shown).map_err(text)?.is_none()
        {
            return Err(format!("{shown:?} was shown after a restart and is gone"));
        }
        Ok(())
    }
}

/// Who writes, and opens the manifest again after a failure that stopped it.
struct Writer<'a> {
    changes: &'a Changes,
    disk: Arc<dyn Disk>,
    root: &'a Path,
    events: &'a dyn Events,
    manifest: Option<Manifest>,
}

impl Writer<'_> {
    fn commit(&mut self, key: &str, len: usize) {
        let value: Vec<u8> = key.bytes().cycle().take(len).collect();
        self.changes.promised.lock().under_way = Some((key.to_owned(), value.clone()));
        let change = Change {
            ops: vec![Op::PutState(key.to_owned(), value.clone())],
            ..Change::default()
        };
        let mut failures = Vec::new();
        loop {
            let opened = self.open();
            if let Ok(manifest) = &opened
                && manifest.state(key).unwrap().as_ref() == Some(&value)
            {
                // The entry of the try before was there: whoever asks is told so.
                self.changes.promised.lock().shown = Some(key.to_owned());
                self.events.idle();
            }
            match opened.and_then(|manifest| manifest.commit_blocking(change.clone())) {
                Ok(_) => break,
                Err(error) => {
                    self.take(&error);
                    failures.push(error);
                }
            }
            assert!(failures.len() < 3, "still fails: {failures:?}");
        }
        let mut promised = self.changes.promised.lock();
        promised.acknowledged.insert(key.to_owned(), value);
        promised.under_way = None;
        promised.shown = None;
        drop(promised);
        self.events.idle();
    }

    fn close(&mut self) {
        if let Some(manifest) = self.manifest.take()
            && let Err(error) = block_on(manifest.close())
        {
            self.take(&error);
        }
        self.events.idle();
    }

    fn open(&mut self) -> Result<Manifest, ManifestError> {
        if let Some(manifest) = &self.manifest {
            return Ok(manifest.clone());
        }
        let disk = Arc::clone(&self.disk);
        let (manifest, _) = Manifest::open_on(disk, &self.root.join("manifest"), OPTIONS)?;
        Ok(self.manifest.insert(manifest).clone())
    }

    fn take(&mut self, error: &ManifestError) {
        let full = self.events.fault().is_some_and(Fault::is_full);
        match error {
            ManifestError::Full { .. } => assert!(full, "{error}"),
            ManifestError::Io { source, .. } => {
                super::assert_injected(source, full);
                // Nothing is written any more until the next start.
                self.manifest = None;
            }
            other => panic!("not clear: {other:?}"),
        }
    }
}
