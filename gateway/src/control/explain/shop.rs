//! Errors of shops: what the own one says, and those of others.

use duka_node::channel::ChannelError;
use duka_node::diff::DiffError;
use duka_node::mirror::MirrorError;
use duka_node::product::ProductError;
use duka_node::prove::ProveError;
use duka_node::publish::PublishError;
use duka_node::search::SearchError;
use duka_node::shop::follow::FollowError;
use duka_node::shop::read::ReadError;
use duka_node::shop::settings::SettingError;

use super::{Explain, RUN_FSCK};
use crate::control::failure::Code;

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

impl Explain for PublishError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Import(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            Self::Text { .. } => (Code::Usage, None),
            Self::Empty { .. } => (
                Code::Usage,
                Some(
                    "files whose name begins with a dot are left out, but for --hidden; nothing was published",
                ),
            ),
            Self::TooLarge { .. } => (
                Code::Permanent,
                Some(
                    "publish parts of it as other products, or many files as one archive; nothing was published",
                ),
            ),
            Self::Path { .. } => (
                Code::Usage,
                Some("rename it, or leave it out with --ignore; nothing was published"),
            ),
            _ => (Code::Other, None),
        }
    }
}

impl Explain for ChannelError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
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

impl Explain for SearchError {
    fn explain(&self) -> (Code, Option<&'static str>) {
        match self {
            Self::Manifest(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Busy => (Code::Temporary, Some("try again in a moment")),
            _ => (
                Code::Other,
                Some("the folder may be deleted: the index is made anew from the manifest"),
            ),
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
            Self::Dag(error) | Self::Release { source: error, .. } => error.explain(),
            Self::NoRoom { .. } => (
                Code::NoSpace,
                Some("keep less with --quota, --keep or --products, or free some space"),
            ),
            Self::OverQuota { .. } => (Code::Limit, Some("give it more with --quota")),
            Self::Changed => (Code::Temporary, None),
            Self::TooMany => (Code::Limit, Some("`duka mirror remove` one first")),
            Self::Store(error) => error.explain(),
            Self::Manifest(error) => error.explain(),
            _ => (Code::Other, None),
        }
    }
}
