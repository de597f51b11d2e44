//! Errors of the node as failures: what kind each is, and what to do about it.

use std::io;

use duka_node::backup::{BackupError, FileError, ListError, SecretError};
use duka_node::channel::ChannelError;
use duka_node::dag::DagError;
use duka_node::dag::car::CarError;
use duka_node::dag::import::ImportError;
use duka_node::dag::path::PathError;
use duka_node::diff::DiffError;
use duka_node::fsck::FsckError;
use duka_node::gc::GcError;
use duka_node::get::GetError;
use duka_node::ids::IdError;
use duka_node::ipns::RecordError;
use duka_node::keyring::KeyringError;
use duka_node::keys::KeyError;
use duka_node::layout::LayoutError;
use duka_node::manifest::change::Conflict;
use duka_node::manifest::{Loss, ManifestError};
use duka_node::mirror::MirrorError;
use duka_node::name::NameError;
use duka_node::net::{DialErrorKind, NetError};
use duka_node::node::{LockError, OpenError};
use duka_node::pin::PinError;
use duka_node::product::ProductError;
use duka_node::prove::ProveError;
use duka_node::publish::PublishError;
use duka_node::rebuild::RebuildError;
use duka_node::restore::RestoreError;
use duka_node::search::SearchError;
use duka_node::shop::follow::FollowError;
use duka_node::shop::read::ReadError;
use duka_node::shop::settings::SettingError;
use duka_node::source::FetchError;
use duka_node::store::StoreError;
use duka_node::verify::VerifyError;

use super::failure::{Code, Failure};

/// An error that has a kind and, for some, advice. Wrapping errors have those of what they wrap.
pub(super) trait Explain {
    /// Kind and advice.
    fn explain(&self) -> (Code, Option<&'static str>);
}

impl<E: Explain + std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let (code, hint) = error.explain();
        let failure = Self::of(code, &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

const FREE_SPACE: Option<&str> = Some(
    "free some space, or lower `store.reserve` in the settings; what is stored is not affected",
);
const TRY_AGAIN: Option<&str> = Some("try again, or from another place: `duka get --mirror URL`");
const USE_NEWER: Option<&str> = Some("use the newer duka");
const NOTHING_CHANGED: Option<&str> = Some(
    "nothing was changed: put a newer copy of the folder `manifest` back, or make a new data directory \
     from a backup with `duka restore`",
);
const COPY_ELSEWHERE: Option<&str> = Some(
    "the disk can only be read, and a data directory is written to even to read from it: copy it to \
     another disk, and give the copy with --data-dir",
);
const RUN_FSCK: Option<&str> = Some("run `duka fsck` to see what is damaged");

impl Explain for FetchError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotFound { .. } => (
                Code::NotFound,
                Some(
                    "check the CID; `duka swarm connect ADDR` and `duka get --mirror URL` add places to ask",
                ),
            ),
            Self::TimedOut { .. } | Self::Failed { .. } => (Code::Temporary, TRY_AGAIN),
            Self::Lied { .. } => (Code::Corrupt, Some("ask another gateway or peer")),
            Self::Busy { .. } => (Code::Limit, Some("try again in a moment")),
            Self::Block(_) => (Code::Corrupt, None),
            Self::Store(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

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

impl Explain for SearchError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Manifest(error) => error.explain(),
            Self::Store(error) => error.explain(),
            _ => (
                Code::Other,
                Some("the folder may be deleted: the index is made anew from the manifest"),
            ),
        }
    }
}

fn of_conflict(conflict: &Conflict) -> (Code, Option<&'static str>) {
    match conflict {
        Conflict::ReleaseExists { .. } => (
            Code::Permanent,
            Some("releases never change: give another --version, or none for the next number"),
        ),
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

impl Explain for DagError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Fetch(error) => error.explain(),
            Self::Malformed { .. } => (Code::Corrupt, None),
            Self::NoLink { .. } => (Code::NotFound, Some("`duka ls` shows what is there")),
            Self::WrongKind { .. } => (Code::Permanent, None),
            Self::Limit { .. } => (Code::Limit, None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for FollowError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Read(ReadError::Dag(error)) => error.explain(),
            Self::Read(ReadError::NoShop { .. }) => (Code::Permanent, None),
            Self::Read(_) => (Code::Corrupt, Some("ask another gateway with --mirror URL")),
            _ => (Code::Signature, None),
        }
    }
}

impl Explain for ImportError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Read { source, .. } => {
                let denied = source.kind() == io::ErrorKind::PermissionDenied;
                (
                    of_io(source),
                    denied.then_some(
                        "make it readable, or leave it out with --ignore; nothing was published",
                    ),
                )
            }
            Self::Changed { .. } => (
                Code::Temporary,
                Some("run the command again when nothing writes to it; nothing was published"),
            ),
            Self::Name { .. } => (
                Code::Permanent,
                Some("rename it, or leave it out with --ignore"),
            ),
            Self::Special { .. } => (Code::Permanent, Some("leave it out with --ignore")),
            Self::NoReflinks { .. } => (
                Code::Permanent,
                Some("with --reflink auto it is copied where it must be"),
            ),
            Self::NotReflinked { .. } => (Code::Usage, Some("leave --reflink out")),
            Self::NotInPlace { .. } => (Code::Usage, Some("leave --in-place out")),
            Self::Store(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for PublishError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Import(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Text { .. } => (Code::Usage, None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ChannelError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NoProduct { .. } => (Code::NotFound, Some("`duka product list` shows all")),
            Self::NoChannel { .. } => (
                Code::NotFound,
                Some("`duka channel list ID` shows those that are there"),
            ),
            Self::Yanked { .. } => (
                Code::Permanent,
                Some("`duka yank ID VERSION --undo` offers it again; nothing was changed"),
            ),
            Self::NothingBefore { .. } => (
                Code::NotFound,
                Some("`duka product history ID` lists the versions; nothing was changed"),
            ),
            Self::NotBefore { .. } => (
                Code::Usage,
                Some("`duka channel set ID CHANNEL VERSION` moves a channel to any version"),
            ),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for DiffError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Count(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::List { .. } => (Code::Corrupt, RUN_FSCK),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ProductError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NoProduct { .. } => (Code::NotFound, Some("`duka product list` shows all")),
            Self::Value(error) => error.explain(),
            Self::Import(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for SettingError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Value { .. } => (
                Code::Usage,
                Some("nothing was changed; `duka shop show` shows what is set"),
            ),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ProveError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for PinError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Dag(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Offered { .. } => (
                Code::Permanent,
                Some("`duka yank ID VERSION` withdraws a version; then it can be unpinned"),
            ),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for CarError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotCar { .. } => (
                Code::Corrupt,
                Some("`duka add` imports files of other kinds"),
            ),
            Self::Truncated { .. } | Self::Section { .. } => (
                Code::Corrupt,
                Some(
                    "get the file again; the whole blocks before that place are stored, not pinned",
                ),
            ),
            Self::Io(source) | Self::Write { source, .. } => (of_io(source), None),
            Self::Store(error) => error.explain(),
            Self::Dag(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for RecordError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (Code::Signature, None)
    }
}

impl Explain for NameError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::NotFound { .. } => (
                Code::NotFound,
                Some("check the name; `duka get --mirror URL` adds places to ask"),
            ),
            Self::Silent { .. } => (Code::Temporary, TRY_AGAIN),
            Self::Record(error) => error.explain(),
            Self::Rollback { .. } => (Code::Signature, Some("get the newest record of the name")),
            Self::Loop { .. } => (Code::Limit, None),
            Self::Manifest(error) => error.explain(),
            Self::Net(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for MirrorError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Unknown { .. } => (
                Code::NotFound,
                Some("`duka mirror list` shows what is mirrored"),
            ),
            Self::Own { .. } => (Code::Usage, Some("it is kept already")),
            Self::NoHead { .. } => (
                Code::Temporary,
                Some(
                    "give the shop's URL at a gateway that has it, or connect to a peer with `duka swarm connect`",
                ),
            ),
            Self::Follow(FollowError::Refused(_)) => (
                Code::Signature,
                Some("ask another gateway: this one shows what the shop did not sign last"),
            ),
            Self::Follow(_) | Self::Read(_) => (
                Code::Temporary,
                Some("try again, or name a gateway that has the shop"),
            ),
            Self::Dag(error) => error.explain(),
            Self::NoRoom { .. } => (
                Code::NoSpace,
                Some("keep less with --quota, --keep or --products, or free some space"),
            ),
            Self::Changed => (Code::Temporary, None),
            Self::TooMany => (Code::Limit, Some("`duka mirror remove` one first")),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for NetError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Off => (
                Code::Permanent,
                Some("run it without --offline and with `network.offline = false`"),
            ),
            Self::Listen { .. } => (
                Code::Other,
                Some("give --listen another address, or port 0"),
            ),
            Self::NoTransport { .. } => (
                Code::Usage,
                Some("give an address that ends in /tcp/…, /udp/…/quic-v1 or /ws"),
            ),
            Self::Address { .. } => (
                Code::Usage,
                Some("an address looks like /ip4/203.0.113.5/tcp/4101/p2p/12D3KooW…"),
            ),
            Self::Dial { kind, .. } => of_dial(*kind),
            Self::TimedOut { .. } | Self::NotStored { .. } => {
                (Code::Temporary, Some("try again when the network is there"))
            }
            _ => (Code::Other, None),
        }
    }
}

fn of_dial(kind: DialErrorKind) -> (Code, Option<&'static str>) {
    match kind {
        DialErrorKind::NoAddress => (
            Code::Temporary,
            Some("give an address of it, such as /ip4/203.0.113.5/tcp/4101/p2p/12D3KooW…"),
        ),
        DialErrorKind::WrongPeer => (
            Code::Permanent,
            Some("its address has changed, or it has a new peer id: ask who runs it"),
        ),
        DialErrorKind::NotSupported => (
            Code::Usage,
            Some("give an address that ends in /tcp/…, /udp/…/quic-v1 or /ws, and the peer id"),
        ),
        DialErrorKind::Itself => (Code::Usage, Some("give the address of another node")),
        DialErrorKind::Limit => (
            Code::Temporary,
            Some("try again later, or raise `network.limits.connections`"),
        ),
        _ => (Code::Temporary, Some("try again when the network is there")),
    }
}

impl Explain for GetError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Dag(error) => error.explain(),
            Self::Exists { .. } => (
                Code::Permanent,
                Some("give another place with -o, or --update to write into it"),
            ),
            Self::Conflict { .. } => (
                Code::Permanent,
                Some("move it away, or give another place with -o; nothing was changed"),
            ),
            Self::Locked { .. } => (
                Code::Locked,
                Some("wait until it has ended, or give another place with -o"),
            ),
            Self::Name { .. } => (Code::Permanent, None),
            Self::Full { .. } => (
                Code::NoSpace,
                Some("free some space and run it again: it goes on"),
            ),
            Self::Write { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for VerifyError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Dag(error) => error.explain(),
            Self::Import(error) => error.explain(),
            Self::Read { source, .. } => (of_io(source), None),
            _ => (Code::Other, None),
        }
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

impl Explain for GcError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
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

impl Explain for PathError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (
            Code::Usage,
            Some("write CID, CID/path, /ipfs/CID/path or /ipns/NAME/path"),
        )
    }
}

impl Explain for IdError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        (Code::Usage, None)
    }
}

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
                    "put its back-up back; without one, restore the shop in a new --data-dir, with a \
                     copy of keys/shop.key alone",
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

impl Explain for KeyringError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Offline => (
                Code::Permanent,
                Some("`duka key import FILE` brings it back; nothing was changed"),
            ),
            Self::NotAsked => (
                Code::Temporary,
                Some("run `duka serve` until the shop has a head, then again"),
            ),
            Self::Keys(error) => error.explain(),
            Self::Secret(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for super::client::ClientError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Connect { .. } => (Code::Other, None),
            Self::OtherUser { .. } => (Code::Permanent, None),
        }
    }
}

/// The kind of an operating system error.
pub(super) fn of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        io::ErrorKind::PermissionDenied => Code::Permanent,
        io::ErrorKind::TimedOut => Code::Temporary,
        _ => Code::Other,
    }
}
