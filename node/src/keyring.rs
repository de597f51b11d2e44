//! KEYS: the shop key leaves this machine and comes back; the publishing key is replaced. Each step is
//! durable before the next, so that a crash between two leaves a shop that goes on with what was there
//! before, or with what comes after.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::announce::{self, AnnounceError, RECORD_TTL};
use crate::backup::{Lock, Opener, SecretError, lock_keys, open_keys};
use crate::blocking::blocking;
use crate::disk::FileSystem;
use crate::ipns::{self, Record};
use crate::keys::{self, KeyError, KeyFiles, Kind, LostKey, Name, name_of};
use crate::layout;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::{Manifest, ManifestError};
use crate::node::{DirectoryLock, Node, OpenError, keys_dir, manifest_dir};
use crate::shop::settings::{self, SettingError};

/// How long the shop's record is valid by default when its key is taken off the machine: nobody can
/// renew it there.
pub const OFFLINE_EXPIRY: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Why the keys stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// It takes the shop key, which is somewhere else.
    #[error("this takes the shop key, which is not on this machine")]
    Offline,
    /// The key is one that the shop's owner replaced.
    #[error("the publishing key {publishing} was replaced: the shop's record leads to another one")]
    Replaced {
        /// The old key.
        publishing: Name,
    },
    /// The shop whose key it is has signed nothing here.
    #[error("it is a key of the shop {found}, and another shop is here")]
    OtherShop {
        /// Whose key it is.
        found: Name,
    },
    /// The node stopped meanwhile.
    #[error("the node stopped before all was done: its next start finishes it, or undoes it")]
    Stopped,
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A restored shop does not know yet what others know.
    #[error("the shop was restored, and the network was not asked yet for its newest head")]
    NotAsked,
    /// A key file could not be read or written.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The exported keys could not be encrypted or decrypted.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// No record can be signed.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The publishing key must be replaced first.
    #[error(transparent)]
    Lost(#[from] LostKey),
    /// The shop's record cannot be valid for so long.
    #[error(transparent)]
    Expiry(#[from] SettingError),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A key in a file of its own, encrypted; text.
pub fn export(data_dir: &Path, kind: Kind, lock: &Lock) -> Result<String, KeyringError> {
    Ok(lock_keys(&read(data_dir, kind)?, lock)?)
}

/// A key file that must be here.
fn read(data_dir: &Path, kind: Kind) -> Result<KeyFiles, KeyringError> {
    let dir = keys_dir(data_dir);
    match keys::read_one(&dir, kind) {
        Err(KeyError::Missing { .. }) if kind == Kind::Shop && keys::exist(&dir) => {
            Err(KeyringError::Offline)
        }
        found => Ok(found?),
    }
}

/// What an exported file holds.
pub struct Exported(KeyFiles);

impl std::fmt::Debug for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Exported {
    /// Decrypts it.
    pub fn open(encrypted: &[u8], opener: &Opener) -> Result<Self, KeyringError> {
        Ok(Self(open_keys(encrypted, opener)?))
    }

    /// Whether it is what the key file of `data_dir` holds.
    pub fn is_of(&self, data_dir: &Path, kind: Kind) -> Result<bool, KeyringError> {
        Ok(read(data_dir, kind)? == self.0)
    }

    /// Whose keys they are.
    pub fn owner(&self) -> Result<Owner, KeyringError> {
        let dir = Path::new("");
        Ok(Owner {
            shop: keys::shop_of(&self.0, dir)?,
            publishing: keys::publishing_of(&self.0, dir)?,
        })
    }

    /// Looks whether the keys may be put into a data directory that no node has open. One that runs there is
    /// asked with [`check`].
    ///
    /// # Errors
    /// [`KeyringError::Replaced`] and [`KeyringError::OtherShop`].
    pub async fn check(&self, data_dir: &Path) -> Result<(), KeyringError> {
        let dir = manifest_dir(data_dir);
        if !dir.exists() {
            return Ok(());
        }
        let data_dir = data_dir.to_owned();
        let is_damaged = keys::is_shop_damaged(&keys_dir(&data_dir));
        let opened = blocking(move || {
            let lock = DirectoryLock::take(&data_dir).map_err(OpenError::from)?;
            layout::bring_up_to_date(&FileSystem, &data_dir).map_err(OpenError::from)?;
            Ok::<_, OpenError>((lock, Manifest::open(&dir)?.0))
        });
        let (_lock, manifest) = opened.await?;
        let owner = self.owner()?;
        // A shop key that can be read says itself whose shop this is.
        let checked = match is_damaged {
            true => {
                check_shop(&manifest, &owner).and_then(|()| check_publishing(&manifest, &owner))
            }
            false => check_publishing(&manifest, &owner),
        };
        manifest.close().await?;
        checked
    }

    /// Puts the keys into a data directory where they are missing: [`reload`] lets a running node have
    /// them, [`crate::node::init`] makes those that a new directory lacks. Have them [checked](Self::check)
    /// before.
    ///
    /// # Errors
    /// [`KeyError`] when another key, or another shop, is there; nothing was written then.
    pub fn put(&self, data_dir: &Path) -> Result<(), KeyringError> {
        Ok(keys::put(&keys_dir(data_dir), &self.0)?)
    }
}

/// Whose keys an exported file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The shop.
    pub shop: Option<Name>,
    /// The publishing key, if it is there.
    pub publishing: Option<Name>,
}

/// Looks whether the keys may be put into the data directory of the node.
///
/// # Errors
/// [`KeyringError::Replaced`], and [`KeyError::OtherShop`].
pub fn check(node: &Node, owner: &Owner) -> Result<(), KeyringError> {
    let shop = node.shop_name();
    match &owner.shop {
        Some(found) if *found != shop => {
            let found = found.clone();
            Err(KeyError::OtherShop { found, shop }.into())
        }
        _ => check_publishing(node.manifest(), owner),
    }
}

/// Refuses the keys of a shop that never signed here, where something is signed.
fn check_shop(manifest: &Manifest, owner: &Owner) -> Result<(), KeyringError> {
    match &owner.shop {
        Some(found)
            if manifest.head()?.is_some() && manifest.name(&found.to_bytes())?.is_none() =>
        {
            let found = found.clone();
            Err(KeyringError::OtherShop { found })
        }
        _ => Ok(()),
    }
}

/// Refuses a publishing key that signed here and that the shop's record does not lead to any more. Of one
/// that is not known here the record may only not have come yet.
fn check_publishing(manifest: &Manifest, owner: &Owner) -> Result<(), KeyringError> {
    let (Some(shop), Some(publishing)) = (&owner.shop, &owner.publishing) else {
        return Ok(());
    };
    let published = announce::published_in(manifest, shop)?;
    if published.is_some_and(|published| published != *publishing)
        && manifest.name(&publishing.to_bytes())?.is_some()
    {
        let publishing = publishing.clone();
        return Err(KeyringError::Replaced { publishing });
    }
    Ok(())
}

/// Uses the key files as they are now.
///
/// # Errors
/// Those of [`check`] when they are others than before; the node goes on with those that it has.
pub async fn reload(node: &Node) -> Result<(), KeyringError> {
    let _turn = node.signing_turn().await;
    let dir = keys_dir(node.data_dir());
    let keys = node.blocking(move || keys::load_all(&dir)).await?;
    let publishing = keys.publishing.name();
    check(
        node,
        &Owner {
            shop: Some(keys.shop.name()),
            publishing: publishing
                .filter(|name| node.keys().publishing.name().as_ref() != Some(name)),
        },
    )?;
    node.set_keys(keys);
    // A shop whose record could not be renewed without the key gets a new one.
    node.jobs_changed();
    Ok(())
}

/// Signs the shop's record for the time without its key, and removes the key. Have it exported, and read
/// back, before. Returns until when the record is valid.
pub async fn take_offline(node: &Node, expiry: Duration) -> Result<Timestamp, KeyringError> {
    settings::check_lifetime(expiry)?;
    let taking = node.clone();
    to_its_end(node, async move { sign_and_remove(&taking, expiry).await }).await
}

/// Does a change of the keys to its end, also when nobody waits for it any more: else the node would go on
/// with keys that its records and files have left behind.
async fn to_its_end<T: Send + 'static>(
    node: &Node,
    work: impl Future<Output = Result<T, KeyringError>> + Send + 'static,
) -> Result<T, KeyringError> {
    let (sender, done) = oneshot::channel();
    node.spawn(async move {
        // Perhaps nobody waits.
        sender.send(work.await).ok();
    });
    done.await.unwrap_or(Err(KeyringError::Stopped))
}

async fn sign_and_remove(node: &Node, expiry: Duration) -> Result<Timestamp, KeyringError> {
    let _turn = node.signing_turn().await;
    let keys = node.keys();
    let key = keys.shop.key().ok_or(KeyringError::Offline)?;
    if announce::is_restored(node)? {
        return Err(KeyringError::NotAsked);
    }
    let now = Timestamp::now();
    let validity = now.saturating_add(expiry).unwrap_or(Timestamp::MAX);
    let value = format!("/ipns/{}", name_of(keys.publishing.key()?));
    announce::check_publisher(node)?;
    let sequence = announce::shop_sequence(node, &keys.shop.name(), &value)?;
    let record = ipns::sign(key, &value, sequence, validity, RECORD_TTL);
    let record = announce::newest_of(node, &keys.shop.name(), record)?;
    let validity = record.validity;
    let records = [(keys.shop.name(), record)];
    commit(node, &records, Vec::new(), Vec::new()).await?;

    let dir = keys_dir(node.data_dir());
    let keys = node.blocking(move || {
        keys::remove_shop_key(&dir)?;
        keys::load_all(&dir)
    });
    node.set_keys(keys.await?);
    announce::tell(node, &records).await;
    Ok(validity)
}

/// Makes a new publishing key and a record of the shop that leads to it; links stay. The newest head is
/// signed by the new key, and the old one is gone. A restored shop asks the network before for the shop's
/// newest record. Returns the new key's name.
///
/// # Cancel safety
/// What has begun is done to its end.
pub async fn rotate(node: &Node) -> Result<Name, KeyringError> {
    node.keys().shop.key().ok_or(KeyringError::Offline)?;
    if announce::is_restored(node)? {
        match announce::ask(node).await {
            Err(AnnounceError::NotAsked) => return Err(KeyringError::NotAsked),
            asked => asked?,
        }
    }
    let rotating = node.clone();
    to_its_end(node, async move { replace(&rotating).await }).await
}

async fn replace(node: &Node) -> Result<Name, KeyringError> {
    let _turn = node.signing_turn().await;
    let keys = node.keys();
    let key = keys.shop.key().ok_or(KeyringError::Offline)?;
    let dir = keys_dir(node.data_dir());
    let next = {
        let dir = dir.clone();
        node.blocking(move || keys::make_next(&dir)).await?
    };
    let (shop, publishing) = (keys.shop.name(), name_of(&next));
    let settings = settings::read(node)?;
    let now = Timestamp::now();
    let validity = now.saturating_add(settings.lifetime);
    let validity = validity.unwrap_or(Timestamp::MAX);
    let value = format!("/ipns/{publishing}");
    let sequence = announce::shop_sequence(node, &shop, &value)?;
    let record = ipns::sign(key, &value, sequence, validity, RECORD_TTL);
    let mut records = vec![(shop, record)];
    let head = node.manifest().head()?;
    if let Some(head) = &head {
        let value = format!("/ipfs/{}", head.root);
        let record = ipns::sign(&next, &value, head.seq, validity, RECORD_TTL);
        records.insert(0, (publishing.clone(), record));
    }
    // From here on the new key is the publishing key: a crash finishes with the next start.
    let expect = head.as_ref().map(|head| Expect::HeadSeq(head.seq));
    let expect = expect.into_iter().collect();
    commit(node, &records, expect, vec![announce::forget()]).await?;

    let published = publishing.clone();
    let keys = node.blocking(move || {
        keys::settle_next(&dir, Some(&published))?;
        keys::load_all(&dir)
    });
    node.set_keys(keys.await?);
    node.key_is_known();
    if head.is_some() {
        // No number that others know binds the new key.
        node.shop_is_known();
    }
    if let Some(network) = node.network() {
        let record = records.iter().find(|(name, _)| *name == publishing);
        let record = record.map(|(_, record)| record.clone());
        // A network that has stopped needs no more names.
        let _stopped = network.follow(&publishing, record).await;
    }
    // Heads may have waited for a key.
    node.jobs_changed();
    announce::tell(node, &records).await;
    Ok(publishing)
}

async fn commit(
    node: &Node,
    records: &[(Name, Record)],
    expect: Vec<Expect>,
    ops: Vec<Op>,
) -> Result<(), ManifestError> {
    let mut change = Change { expect, ops };
    announce::put_names(&mut change, &node.shop_name(), records, Timestamp::now());
    node.manifest().commit(change).await?;
    Ok(())
}

/// Finishes what a crash interrupted.
pub(crate) fn settle(dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    keys::remove_rest(dir)?;
    let shop = keys::load_all(dir)?.shop.name();
    let publishing = announce::published_in(manifest, &shop)?;
    Ok(keys::settle_next(dir, publishing.as_ref())?)
}
