//! The index over the journal: one sled tree, keys by prefix. The only file that names sled's types,
//! besides [`ManifestError`].
//!
//! Nothing here is the only copy of anything: the directory can be deleted and is rebuilt from
//! checkpoint and journal. So sled's own flushing does not matter for durability. It does for being
//! whole: after a crash sled may open with some records of a write and without others. So each write
//! stores the sum of all records as it leaves them, and [`Index::is_whole`] compares.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cid::Cid;
use sha2::{Digest, Sha256};

use super::frame::FORMAT;
use super::record::{
    Counts, Head, Job, JobId, Mirror, NameRecord, Pin, Product, Record, Release, Shop, ShopEntry,
};
use super::{ManifestError, io_error};
use crate::ids::{ProductId, Version};

/// Memory for sled's pages, in bytes.
const CACHE_CAPACITY: u64 = 32 << 20;
/// How long sled's threads get to let go of its lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at the lock.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Key prefixes. A product id never holds `/`, so `<product>/` selects exactly one product.
pub(super) mod key {
    use cid::Cid;

    use super::{JobId, ProductId, Version};

    pub(in crate::manifest) const PRODUCT: u8 = b'P';
    pub(in crate::manifest) const RELEASE: u8 = b'V';
    pub(in crate::manifest) const RELEASE_ORDER: u8 = b'O';
    pub(in crate::manifest) const REVISION: u8 = b'R';
    pub(in crate::manifest) const PIN: u8 = b'I';
    pub(in crate::manifest) const JOB: u8 = b'J';
    pub(in crate::manifest) const NAME: u8 = b'N';
    pub(in crate::manifest) const MIRROR: u8 = b'F';
    pub(in crate::manifest) const STATE: u8 = b'S';
    pub(in crate::manifest) const SHOP_ENTRY: u8 = b'D';
    pub(in crate::manifest) const HEAD: &[u8] = b"Hhead";
    pub(in crate::manifest) const SHOP: &[u8] = b"Hshop";
    pub(in crate::manifest) const FORMAT: &[u8] = b"Mformat";
    pub(in crate::manifest) const APPLIED: &[u8] = b"Mapplied";
    pub(in crate::manifest) const SUM: &[u8] = b"Msum";
    pub(in crate::manifest) const COUNTS: &[u8] = b"Mcounts";
    pub(in crate::manifest) const LAST_JOB: &[u8] = b"Mlast-job";

    fn join(prefix: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![prefix];
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    pub(in crate::manifest) fn product(id: &ProductId) -> Vec<u8> {
        join(PRODUCT, &[id.as_str().as_bytes()])
    }

    pub(in crate::manifest) fn release(id: &ProductId, version: &Version) -> Vec<u8> {
        join(
            RELEASE,
            &[id.as_str().as_bytes(), b"/", version.as_str().as_bytes()],
        )
    }

    pub(in crate::manifest) fn releases_in_order(id: &ProductId) -> Vec<u8> {
        join(RELEASE_ORDER, &[id.as_str().as_bytes(), b"/"])
    }

    pub(in crate::manifest) fn releases_by_number(id: &ProductId, number: u64) -> Vec<u8> {
        let mut key = releases_in_order(id);
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    pub(in crate::manifest) fn release_order(
        id: &ProductId,
        number: u64,
        version: &Version,
    ) -> Vec<u8> {
        let mut key = releases_by_number(id, number);
        key.extend_from_slice(version.as_str().as_bytes());
        key
    }

    pub(in crate::manifest) fn revision(id: &ProductId) -> Vec<u8> {
        join(REVISION, &[id.as_str().as_bytes()])
    }

    pub(in crate::manifest) fn shop_entry(id: &ProductId) -> Vec<u8> {
        join(SHOP_ENTRY, &[id.as_str().as_bytes()])
    }

    pub(in crate::manifest) fn pin(cid: &Cid) -> Vec<u8> {
        join(PIN, &[&cid.to_bytes()])
    }

    pub(in crate::manifest) fn job(id: JobId) -> Vec<u8> {
        join(JOB, &[&id.to_be_bytes()])
    }

    pub(in crate::manifest) fn name(name: &[u8]) -> Vec<u8> {
        join(NAME, &[name])
    }

    pub(in crate::manifest) fn mirror(name: &[u8]) -> Vec<u8> {
        join(MIRROR, &[name])
    }

    pub(in crate::manifest) fn state(key: &str) -> Vec<u8> {
        join(STATE, &[key.as_bytes()])
    }
}

/// Values to write (`Some`) or remove (`None`).
pub(super) type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// Why an existing index cannot be used.
#[derive(Debug)]
pub(super) enum OpenFailure {
    /// It must be set aside and rebuilt; the reason, in words.
    Broken(String),
    /// Nothing may be touched.
    Refused(ManifestError),
}

/// Handle to the sled database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Index {
    db: sled::Db,
}

/// Opens sled once its own lock is free. The manifest's lock keeps other processes out, so who holds
/// sled's can only be threads of sled that finish after the last handle was dropped; they tell
/// nobody when they do.
fn open_unlocked(dir: &Path) -> Result<sled::Db, OpenFailure> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_CAPACITY)
        .flush_every_ms(None);
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        // sled 0.34 panics on some damaged files.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| OpenFailure::Broken("sled panicked while opening".to_owned()))?;
        match opened {
            Ok(db) => return Ok(db),
            Err(error) if !is_locked(&error) => {
                return Err(failure(dir, ManifestError::Index(error)));
            }
            Err(_) if Instant::now() >= deadline => {
                let path = dir.to_owned();
                return Err(OpenFailure::Refused(ManifestError::Locked { path }));
            }
            Err(_) => thread::sleep(LOCK_POLL),
        }
    }
}

/// A full disk is no reason to give an index up.
fn failure(dir: &Path, error: ManifestError) -> OpenFailure {
    if error.is_full() {
        let path = dir.to_owned();
        OpenFailure::Refused(ManifestError::Full { path })
    } else {
        OpenFailure::Broken(error.to_string())
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

impl Index {
    /// Opens or makes the index in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenFailure> {
        let index = Self {
            db: open_unlocked(dir)?,
        };
        match index.number(key::FORMAT) {
            Ok(Some(found)) if found > u64::from(FORMAT) => {
                Err(OpenFailure::Refused(ManifestError::TooNew {
                    path: dir.to_owned(),
                    found: u32::try_from(found).unwrap_or(u32::MAX),
                    known: FORMAT,
                }))
            }
            Ok(Some(found)) if found == u64::from(FORMAT) => Ok(index),
            Ok(found) if found.is_some() || index.db.is_empty() => {
                let format = Writes::from([(
                    key::FORMAT.to_vec(),
                    Some(u64::from(FORMAT).to_be_bytes().to_vec()),
                )]);
                index.apply(format).map_err(|error| failure(dir, error))?;
                Ok(index)
            }
            Ok(_) => Err(OpenFailure::Broken("its format is not recorded".to_owned())),
            Err(error) => Err(OpenFailure::Broken(error.to_string())),
        }
    }

    /// Whether the records are those that the last write left, and every one decodes. Reads all of them.
    pub(super) fn is_whole(&self) -> Result<bool, ManifestError> {
        let read_all = || -> Result<bool, ManifestError> {
            let mut sum = 0u128;
            for item in self.db.iter() {
                let (key, value) = item.map_err(ManifestError::Index)?;
                check_record(&key, &value)?;
                if &*key != key::SUM {
                    sum = sum.wrapping_add(term(&key, &value));
                }
            }
            Ok(self.get(key::SUM)?.as_deref() == Some(&sum.to_be_bytes()))
        };
        catch_unwind(AssertUnwindSafe(read_all))
            .unwrap_or(Err(ManifestError::Record { kind: "damaged" }))
    }

    /// Writes all of `writes` in one atomic batch. One at a time.
    pub(super) fn apply(&self, writes: Writes) -> Result<(), ManifestError> {
        let mut sum = match self.get(key::SUM)? {
            Some(sum) => decode_sum(&sum)?,
            None => 0,
        };
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            if let Some(old) = self.get(&key)? {
                sum = sum.wrapping_sub(term(&key, &old));
            }
            match value {
                Some(value) => {
                    sum = sum.wrapping_add(term(&key, &value));
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        batch.insert(key::SUM, &sum.to_be_bytes());
        self.db.apply_batch(batch).map_err(ManifestError::Index)
    }

    /// Takes a record away behind the back of the sum, as a crash may.
    #[cfg(test)]
    pub(super) fn lose(&self, key: &[u8]) {
        assert!(self.db.remove(key).unwrap().is_some());
    }

    /// Makes all of sled's files in `dir` durable; its own flush does not.
    pub(super) fn sync(&self, dir: &Path) -> Result<(), ManifestError> {
        self.db.flush().map_err(ManifestError::Index)?;
        sync_all(dir).map_err(|e| io_error("syncing", dir, e))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ManifestError> {
        let value = self.db.get(key).map_err(ManifestError::Index)?;
        Ok(value.map(|v| v.to_vec()))
    }

    pub(super) fn has(&self, key: &[u8]) -> Result<bool, ManifestError> {
        self.db.contains_key(key).map_err(ManifestError::Index)
    }

    pub(super) fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, ManifestError> {
        let value = self.db.get(key).map_err(ManifestError::Index)?;
        value.map(|v| R::decode(&v)).transpose()
    }

    /// An unsigned number stored big-endian.
    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, ManifestError> {
        let value = self.db.get(key).map_err(ManifestError::Index)?;
        value.map(|v| decode_number(&v)).transpose()
    }

    /// Keys (without their prefix) and values under a prefix, in key order.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, sled::IVec), ManifestError>> + use<> {
        let skip = prefix.len();
        self.db.scan_prefix(prefix).map(move |item| {
            let (key, value) = item.map_err(ManifestError::Index)?;
            Ok((key.get(skip..).unwrap_or_default().to_vec(), value))
        })
    }

    /// The number that the newest release of a product has.
    pub(super) fn version_of(
        &self,
        id: &ProductId,
        number: u64,
    ) -> Result<Option<Version>, ManifestError> {
        let prefix = key::releases_by_number(id, number);
        match self.scan(&prefix).next() {
            Some(item) => Ok(Some(decode_id(&item?.0, "release order")?)),
            None => Ok(None),
        }
    }

    pub(super) fn last_release_number(&self, id: &ProductId) -> Result<u64, ManifestError> {
        match self.scan(&key::releases_in_order(id)).next_back() {
            Some(item) => Ok(split_order(&item?.0)?.0),
            None => Ok(0),
        }
    }
}

/// What a record adds to the sum of all.
fn term(key: &[u8], value: &[u8]) -> u128 {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(value);
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_first_chunk().expect("16 of 32 bytes");
    u128::from_be_bytes(*first)
}

fn decode_sum(value: &[u8]) -> Result<u128, ManifestError> {
    let bytes = value.try_into();
    bytes
        .map(u128::from_be_bytes)
        .map_err(|_| ManifestError::Record { kind: "sum" })
}

/// Syncs the files and directories in `dir`, then `dir`.
fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

pub(super) fn decode_number(value: &[u8]) -> Result<u64, ManifestError> {
    value
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| ManifestError::Record { kind: "number" })
}

/// Splits `<number><version>`, the rest of a [`key::release_order`].
pub(super) fn split_order(rest: &[u8]) -> Result<(u64, Version), ManifestError> {
    const BAD: ManifestError = ManifestError::Record {
        kind: "release order",
    };
    let (number, version) = rest.split_first_chunk::<8>().ok_or(BAD)?;
    Ok((
        u64::from_be_bytes(*number),
        decode_id(version, "release order")?,
    ))
}

/// Splits `<product>/<version>`, the rest of a [`key::release`].
pub(super) fn split_release(rest: &[u8]) -> Result<(ProductId, Version), ManifestError> {
    let kind = "release";
    let slash = rest.iter().position(|b| *b == b'/');
    let (product, version) = slash
        .and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
        .ok_or(ManifestError::Record { kind })?;
    Ok((decode_id(product, kind)?, decode_id(version, kind)?))
}

pub(super) fn decode_id<T: std::str::FromStr>(
    bytes: &[u8],
    kind: &'static str,
) -> Result<T, ManifestError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|word| word.parse().ok())
        .ok_or(ManifestError::Record { kind })
}

pub(super) fn decode_cid(bytes: &[u8]) -> Result<Cid, ManifestError> {
    Cid::try_from(bytes).map_err(|_| ManifestError::Record { kind: "pin" })
}

fn check_record(key: &[u8], value: &[u8]) -> Result<(), ManifestError> {
    let Some((prefix, rest)) = key.split_first() else {
        return Err(ManifestError::Record { kind: "nameless" });
    };
    match *prefix {
        key::PRODUCT => {
            decode_id::<ProductId>(rest, "product")?;
            Product::decode(value).map(drop)
        }
        key::RELEASE => {
            split_release(rest)?;
            Release::decode(value).map(drop)
        }
        key::PIN => {
            decode_cid(rest)?;
            Pin::decode(value).map(drop)
        }
        key::JOB => {
            decode_number(rest)?;
            Job::decode(value).map(drop)
        }
        key::MIRROR => Mirror::decode(value).map(drop),
        key::NAME => NameRecord::decode(value).map(drop),
        key::SHOP_ENTRY => {
            decode_id::<ProductId>(rest, "shop entry")?;
            ShopEntry::decode(value).map(drop)
        }
        key::REVISION => decode_number(value).map(drop),
        _ if key == key::HEAD => Head::decode(value).map(drop),
        _ if key == key::SHOP => Shop::decode(value).map(drop),
        _ if key == key::COUNTS => Counts::decode(value).map(drop),
        _ if [key::FORMAT, key::APPLIED, key::LAST_JOB].contains(&key) => {
            decode_number(value).map(drop)
        }
        _ if key == key::SUM => decode_sum(value).map(drop),
        _ => Ok(()),
    }
}
