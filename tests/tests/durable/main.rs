//! What was acknowledged stays: on a file system that fails at every operation, and after simulated
//! power cuts at every operation.
//!
//! Proves: whatever one operation of the seam fails with, and whatever of what is not synced a cut
//! leaves, store and manifest open again, hold all that was acknowledged with the right bytes, and
//! give no wrong ones. Leaving out any kind of sync is found. The workloads are small; the real disk,
//! and real processes, are the business of `powercut`.
#![allow(clippy::unwrap_used, reason = "tests, and the helpers of tests")]

mod backup;
mod directory;
mod flips;
mod manifest;
mod migration;
mod model;
mod reflink;
mod store;

use std::path::Path;
use std::sync::Arc;

use duka_tests::disk::crash::{Crash, Seen, memory};
use duka_tests::disk::faulty::{Fault, Faulty};
use duka_tests::disk::point::SyncKind;
use duka_tests::disk::{Hook, Hooked};

/// Subsets of unsynced sectors are sampled with it.
const SEED: u64 = 0x5eed_0001;

/// Something that writes through the seam, and what it was promised.
trait Workload: Default + Send + Sync + 'static {
    /// Works from the beginning to the end on a file system. Where it fails, the error must be clear,
    /// and it goes on after that.
    fn run<H: Hook + 'static>(&self, disk: &Arc<Hooked<H>>, root: &Path, events: &dyn Events);

    /// Opens what is in `root` and looks for what was promised.
    fn check(&self, root: &Path) -> Result<(), String>;
}

/// What a workload tells, and asks for.
trait Events {
    /// Nothing is under way.
    fn idle(&self) {}
    /// The next sync of this kind is to fail.
    fn fail_next(&self, _: SyncKind) {}
    /// How the disk fails, if it does.
    fn fault(&self) -> Option<Fault> {
        None
    }
}

struct OneFault(Fault);

impl Events for OneFault {
    fn fault(&self) -> Option<Fault> {
        Some(self.0)
    }
}

struct Cuts(Arc<Hooked<Crash>>);

impl Events for Cuts {
    fn idle(&self) {
        self.0.0.cut();
    }

    fn fail_next(&self, kind: SyncKind) {
        self.0.0.fail_next(kind);
    }

    fn fault(&self) -> Option<Fault> {
        // What `fail_next` asked for.
        Some(Fault::Broken)
    }
}

/// Lets each operation of the workload fail in each way.
fn fail_everywhere<W: Workload>() {
    for fault in Fault::ALL {
        let mut fails = 0;
        loop {
            let root = tempfile::tempdir_in(memory()).unwrap();
            let workload = W::default();
            let disk = Hooked::shared(Faulty::new(fault, fails));
            workload.run(&disk, root.path(), &OneFault(fault));
            let checked = workload.check(root.path());
            assert_eq!(checked, Ok(()), "{fault:?} at operation {fails}");
            if disk.0.done() <= fails {
                break;
            }
            fails += 1;
        }
        assert!(fails > 50, "only {fails} operations");
    }
}

/// Cuts the power at each operation of the workload.
fn cut_everywhere<W: Workload>(left_out: Option<SyncKind>) -> Seen {
    let root = tempfile::tempdir_in(memory()).unwrap();
    let workload = Arc::new(W::default());
    let checker = Arc::clone(&workload);
    let check = Box::new(move |left: &Path| checker.check(left));
    let disk = Hooked::shared(Crash::new(root.path(), left_out, SEED, check));
    workload.run(&disk, root.path(), &Cuts(Arc::clone(&disk)));
    disk.0.seen()
}

/// Nothing is lost with all syncs, and something without any one kind of them.
#[expect(clippy::print_stderr, reason = "what a passing test covered")]
fn cuts_lose_nothing_and_each_sync_is_needed<W: Workload>(kinds: &[SyncKind]) {
    let seen = cut_everywhere::<W>(None);
    assert_eq!(seen.losses, Vec::<String>::new());
    let all: Vec<_> = seen.syncs.keys().copied().collect();
    assert_eq!(all, kinds, "kinds of syncs");
    eprintln!("{} cuts, syncs {:?}", seen.tried, seen.syncs);
    for kind in kinds {
        let seen = cut_everywhere::<W>(Some(*kind));
        assert!(!seen.losses.is_empty(), "nothing is lost without {kind}");
    }
}

/// The error that the disk was told to give.
fn assert_injected(source: &std::io::Error, full: bool) {
    let errno = match full {
        true => rustix::io::Errno::NOSPC,
        false => rustix::io::Errno::IO,
    };
    let code = source.raw_os_error();
    assert_eq!(code, Some(errno.raw_os_error()), "{source:?}");
}
