//! Errors of data directories and keys.

use std::io;

use duka_node::announce::AnnounceError;
use duka_node::keyring::KeyringError;
use duka_node::keys::{KeyError, LostKey};
use duka_node::layout::LayoutError;
use duka_node::node::{LockError, OpenError};

use super::{Explain, NOTHING_CHANGED, USE_NEWER, of_io};
use crate::control::failure::Code;

const COPY_ELSEWHERE: Option<&str> = Some(
    "the disk can only be read, and a data directory is written to even to read from it: copy it to \
     another disk, and give the copy with --data-dir",
);

const RUN_SERVE: Option<&str> = Some("run `duka serve` until the shop has a head, then again");

impl Explain for OpenError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Lock(LockError::Held { .. }) => (
                Code::Locked,
                Some("wait until it has ended, or use another --data-dir"),
            ),
            Self::Lock(LockError::Io { source, .. })
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                (Code::Permanent, COPY_ELSEWHERE)
            }
            Self::Lock(LockError::Io { source, .. }) | Self::Directory { source, .. } => (
                of_io(source),
                Some("give a directory you may write to with --data-dir"),
            ),
            Self::NotInitialised { .. } => (
                Code::NotFound,
                Some("run `duka init` once, or `duka up FOLDER`, which does it all"),
            ),
            Self::Layout(error) => error.explain(),
            Self::HalfRestored { .. } => (Code::Partial, Some("run `duka restore` again")),
            Self::ManifestGone { .. } => (Code::Corrupt, NOTHING_CHANGED),
            Self::Keys(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Network(error) => error.explain(),
            Self::Denylist(_) => (
                Code::Usage,
                Some("correct the file, or `gateway.denylists` in the settings"),
            ),
            Self::Gateway { .. } => (
                Code::Usage,
                Some("correct `gateway.upstreams` in the settings"),
            ),
            Self::Shop(error) => (
                error.explain().0,
                Some("correct `[shop]` in the settings file"),
            ),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for LayoutError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::TooNew { .. } => (Code::Permanent, USE_NEWER),
            Self::Damaged { .. } => (
                Code::Corrupt,
                Some("write there what stands in the file of another data directory of this duka"),
            ),
            Self::Manifest(error) => error.explain(),
            Self::Io { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for KeyError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Lost(lost) => lost.explain(),
            Self::Readable { .. } => (
                Code::Permanent,
                Some("make it yours alone: `chmod 600` it, and think about who may have read it"),
            ),
            Self::Invalid { .. } => (Code::Corrupt, Some("put its back-up back")),
            Self::ShopMissing { .. } => (
                Code::NotFound,
                Some("put its back-up back; a new shop needs another --data-dir"),
            ),
            Self::Missing { .. } => (
                Code::NotFound,
                Some(
                    "put its back-up back; without one bring the shop key back, too: `duka key import FILE`, \
                     into a new --data-dir if it is the peer key that is lost",
                ),
            ),
            Self::Other { .. } => (
                Code::Permanent,
                Some("nothing was changed: keys are never replaced, but by `duka key rotate`"),
            ),
            Self::OtherShop { .. } => (
                Code::Permanent,
                Some("nothing was changed: give each shop a --data-dir of its own"),
            ),
            Self::Io { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for LostKey {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (
            Code::Permanent,
            Some("`duka key rotate` makes a new one; products and links stay"),
        )
    }
}

impl Explain for AnnounceError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::OtherPublisher => (
                Code::Permanent,
                Some(
                    "`duka key rotate` makes a new publishing key, and links stay; if the shop key is elsewhere, \
                     `duka key import FILE` first",
                ),
            ),
            Self::NotAsked => (Code::Temporary, RUN_SERVE),
            Self::Lost(lost) => lost.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Store(error) => error.explain(),
            _ => (Code::Permanent, None),
        }
    }
}

impl Explain for KeyringError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Offline => (
                Code::Permanent,
                Some("`duka key import FILE` brings it back; nothing was changed"),
            ),
            Self::NotAsked => (Code::Temporary, RUN_SERVE),
            Self::Replaced { .. } => (
                Code::Permanent,
                Some("nothing was changed; `duka key rotate` makes a new one"),
            ),
            Self::OtherShop { .. } => (
                Code::Permanent,
                Some("nothing was changed: give each shop a --data-dir of its own"),
            ),
            Self::Stopped => (Code::Temporary, None),
            Self::Open(error) => error.explain(),
            Self::Keys(error) => error.explain(),
            Self::Secret(error) => error.explain(),
            Self::Announce(error) => error.explain(),
            Self::Lost(lost) => lost.explain(),
            Self::Expiry(error) => (error.explain().0, Some("nothing was changed")),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}
