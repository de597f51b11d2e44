//! The name of a new data directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duka_node::node::{DirectoryLock, LockError};
use duka_tests::disk::crash::{Crash, memory};
use duka_tests::disk::point::SyncKind;
use duka_tests::disk::{Hook, Hooked};

use crate::{Cuts, Events, SEED};

/// Makes a data directory with two directories above it, and says what cuts lost.
fn losses(left_out: Option<SyncKind>) -> Vec<String> {
    let root = tempfile::tempdir_in(memory()).unwrap();
    let is_made = Arc::new(AtomicBool::new(false));
    let promised = Arc::clone(&is_made);
    let check = move |left: &Path| {
        let is_there = left.join("some/new/data").is_dir();
        match is_there || !promised.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the data directory is gone".to_owned()),
        }
    };
    let disk = Hooked::shared(Crash::new(root.path(), left_out, SEED, Box::new(check)));
    let data_dir = root.path().join("some/new/data");
    let lock = DirectoryLock::take_on(disk.as_ref(), &data_dir).unwrap();
    is_made.store(true, Ordering::Relaxed);
    Cuts(Arc::clone(&disk)).idle();
    drop(lock);
    disk.0.seen().losses
}

#[test]
fn a_data_directory_that_was_made_stays() {
    assert_eq!(losses(None), Vec::<String>::new());
    assert!(!losses(Some(SyncKind::Directory)).is_empty());
}

/// Fails at the first sync of a directory, as if the process was killed there.
#[derive(Debug, Default)]
struct FailOnce(AtomicBool);

impl Hook for FailOnce {
    fn before(&self, op: duka_tests::disk::Op<'_>) -> std::io::Result<duka_tests::disk::Verdict> {
        match op {
            duka_tests::disk::Op::SyncDir(_) if !self.0.swap(true, Ordering::Relaxed) => {
                Err(rustix::io::Errno::IO.into())
            }
            duka_tests::disk::Op::SyncDir(dir) => {
                Err(std::io::Error::other(dir.display().to_string()))
            }
            _ => Ok(duka_tests::disk::Verdict::Do),
        }
    }
}

#[test]
fn who_finds_a_new_data_directory_without_a_lock_syncs_its_name() {
    let root = tempfile::tempdir().unwrap();
    let data_dir = root.path().join("data");
    let disk = Hooked::shared(FailOnce::default());
    DirectoryLock::take_on(disk.as_ref(), &data_dir).unwrap_err();
    assert!(data_dir.is_dir());
    let Err(LockError::Io { source, .. }) = DirectoryLock::take_on(disk.as_ref(), &data_dir) else {
        panic!("its name was not synced");
    };
    assert_eq!(source.to_string(), root.path().display().to_string());
}
