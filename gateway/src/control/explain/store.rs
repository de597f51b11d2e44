//! Errors of stores: blocks, manifest, their checks and collections.

use duka_node::fsck::FsckError;
use duka_node::gc::GcError;
use duka_node::manifest::change::Conflict;
use duka_node::manifest::{Loss, ManifestError};
use duka_node::node::{LockError, OpenError};
use duka_node::rebuild::RebuildError;
use duka_node::store::StoreError;

use super::{Explain, NOTHING_CHANGED, RUN_FSCK, USE_NEWER, of_io};
use crate::control::failure::Code;

const FREE_SPACE: Option<&str> = Some(
    "free some space, or lower `store.reserve` in the settings; what is stored is not affected",
);

impl Explain for StoreError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Full { .. } => (Code::NoSpace, FREE_SPACE),
            Self::Quota { .. } => (
                Code::NoSpace,
                Some(
                    "raise `store.max_size`, or `duka pin rm` what is not needed and run `duka gc`; what \
                     is stored is not affected",
                ),
            ),
            Self::Corrupt { .. } => (Code::Corrupt, RUN_FSCK),
            Self::Changed { .. } => (Code::Corrupt, None),
            Self::TooNew { .. } => (Code::Permanent, USE_NEWER),
            Self::CorruptIndex { .. } => (
                Code::Corrupt,
                Some("`duka fsck --repair-index` makes it anew from its pack"),
            ),
            Self::Io { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ManifestError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Conflict(conflict) => of_conflict(conflict),
            full if full.is_full() => (
                Code::NoSpace,
                Some(
                    "free some space; `duka pin rm` and `duka gc` still work: what is stored is not affected",
                ),
            ),
            Self::Corrupt { .. } | Self::NotRenewed { .. } => (
                Code::Corrupt,
                Some("`duka restore` makes a new data directory from a backup"),
            ),
            Self::JournalCut { .. } => (Code::Corrupt, NOTHING_CHANGED),
            Self::TooNew { .. } => (Code::Permanent, USE_NEWER),
            Self::Io { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

fn of_conflict(conflict: &Conflict) -> (Code, Option<&'static str>) {
    match conflict {
        Conflict::ReleaseExists { .. } => (
            Code::Permanent,
            Some("releases never change: give another --version, or none for the next number"),
        ),
        Conflict::NoProduct { .. } => (Code::NotFound, Some("`duka product list` shows all")),
        Conflict::NoRelease { .. } => (
            Code::NotFound,
            Some("`duka product history ID` lists the versions"),
        ),
        Conflict::HeadMoved { .. } | Conflict::ReleaseMoved { .. } => {
            (Code::Temporary, Some("try again"))
        }
        Conflict::NameOlder { .. } => (Code::Signature, None),
        Conflict::NotPinned { .. } => (Code::NotFound, Some("`duka pin ls` lists the pins")),
        _ => (Code::Other, None),
    }
}

impl Explain for FsckError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for GcError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Incomplete {
                mirror: Some(_), ..
            } => (
                Code::Corrupt,
                Some(
                    "`duka mirror add` the shop again with --products or --keep, or `duka mirror remove` it",
                ),
            ),
            Self::Incomplete { .. } => (
                Code::Corrupt,
                Some(
                    "`duka pin add` the tree from a peer or gateway that has it, publish its folder again, or `duka pin rm` it",
                ),
            ),
            Self::Stopped => (Code::Temporary, Some("run it again: it goes on")),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for RebuildError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Open(OpenError::Lock(LockError::Held { .. })) => (
                Code::Locked,
                Some("stop it first; `duka fsck --repair-index` works beside a node"),
            ),
            Self::Open(error) => error.explain(),
            Self::Lost(loss) => loss.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Fsck(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for duka_node::manifest::RebuildError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Lost(loss) => loss.explain(),
            Self::Failed(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for Loss {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Unread(error) => error.explain(),
            _ => (Code::Corrupt, NOTHING_CHANGED),
        }
    }
}
