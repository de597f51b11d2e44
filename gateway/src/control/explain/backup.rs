//! Errors of backups.

use duka_node::backup::{BackupError, FileError, ListError, SecretError};
use duka_node::node::LockError;
use duka_node::restore::RestoreError;

use super::{Explain, USE_NEWER, of_io};
use crate::control::failure::Code;

impl Explain for BackupError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotForBackups { .. } | Self::NoFolder { .. } => (
                Code::Usage,
                Some("give an empty folder, or one that does not exist yet"),
            ),
            Self::OtherShop { .. } => (Code::Usage, Some("give each shop a folder of its own")),
            Self::Inside { .. } => (
                Code::Usage,
                Some("give a folder elsewhere, best on another disk"),
            ),
            Self::InUse { .. } => (Code::Locked, Some("wait until it has ended")),
            Self::List(ListError::Damaged { .. }) => (
                Code::Corrupt,
                Some(
                    "make a backup in another folder; or remove that list, and what is whole of the \
                     backup is used again",
                ),
            ),
            Self::List(error) => error.explain(),
            Self::File(error) => error.explain(),
            Self::Keys(error) => error.explain(),
            Self::Secret(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for RestoreError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::List(error) => error.explain(),
            Self::NotEmpty { .. } => (
                Code::Permanent,
                Some("give an empty or new directory with --data-dir; nothing was changed"),
            ),
            Self::Missing { .. } | Self::Damaged { .. } => (
                Code::Corrupt,
                Some("nothing was restored: use another backup"),
            ),
            Self::NoKeys { .. } => (
                Code::NotFound,
                Some("add --without-keys, and put the files of keys/ back yourself"),
            ),
            Self::Secret(error) => error.explain(),
            Self::Keys(error) => error.explain(),
            Self::File(error) => error.explain(),
            Self::Lock(LockError::Held { .. }) => (Code::Locked, Some("use another --data-dir")),
            Self::Lock(LockError::Io { source, .. }) => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ListError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Missing { .. } => (
                Code::NotFound,
                Some("give the folder that `duka backup` was given"),
            ),
            Self::Damaged { .. } => (Code::Corrupt, Some("use another backup")),
            Self::TooNew { .. } => (Code::Permanent, USE_NEWER),
            Self::Io { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for FileError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Io { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for SecretError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Recipient { .. } => (Code::Usage, Some("a recipient looks like age1…")),
            Self::Identity => (
                Code::Usage,
                Some("give a file with a line that begins with AGE-SECRET-KEY-1"),
            ),
            Self::NeedsIdentity => (Code::Usage, Some("give --identity FILE")),
            Self::NeedsPassphrase => (Code::Usage, Some("give --passphrase-file FILE")),
            Self::WrongPassphrase | Self::WrongIdentity => {
                (Code::Permanent, Some("nothing was changed"))
            }
            Self::TooMuchWork { .. } | Self::Unreadable => (Code::Corrupt, None),
            _ => (Code::Other, None),
        }
    }
}
