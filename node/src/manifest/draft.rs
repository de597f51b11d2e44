//! A draft: what a group of changes will write, before any of it is written. Checks see the index
//! and everything drafted before them.

use jiff::Timestamp;

use super::ManifestError;
use super::change::{Conflict, Expect, Op};
use super::index::{Index, Writes, decode_number, key};
use super::record::{Counts, Head, Mirror, NameRecord, Record, Release};
use crate::ids::ProductId;
use crate::ipns;

/// Longest value, in bytes. A mirror with four IPNS records of 10 KiB must fit; all else stays well below.
const MAX_VALUE_LEN: usize = 64 << 10;
/// Longest key of a name or state, in bytes.
const MAX_KEY_LEN: usize = 512;

/// The writes of one journal entry, as they grow.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    index: &'a Index,
    sequence: u64,
    accepted: Writes,
    current: Writes,
}

impl<'a> Draft<'a> {
    pub(super) fn new(index: &'a Index, sequence: u64) -> Self {
        Self {
            index,
            sequence,
            accepted: Writes::new(),
            current: Writes::new(),
        }
    }

    /// Checks `expect`, then adds what `ops` write. After an error nothing of them is in the draft.
    pub(super) fn add(&mut self, expect: &[Expect], ops: &[Op]) -> Result<(), ManifestError> {
        let added = expect
            .iter()
            .try_for_each(|e| self.check(e))
            .and_then(|()| ops.iter().try_for_each(|op| self.stage(op)));
        let current = std::mem::take(&mut self.current);
        if added.is_ok() {
            self.accepted.extend(current);
        }
        added
    }

    /// All writes, with the sequence number that they bring the index to.
    pub(super) fn into_writes(mut self) -> Writes {
        self.accepted.insert(
            key::APPLIED.to_vec(),
            Some(self.sequence.to_be_bytes().to_vec()),
        );
        self.accepted
    }

    fn check(&self, expect: &Expect) -> Result<(), ManifestError> {
        let conflict = match expect {
            Expect::ReleaseAbsent(product, version) => self
                .has(&key::release(product, version))?
                .then(|| Conflict::ReleaseExists {
                    product: product.clone(),
                    version: version.clone(),
                }),
            Expect::ReleasePresent(product, version) => {
                (!self.has(&key::release(product, version))?).then(|| Conflict::NoRelease {
                    product: product.clone(),
                    version: version.clone(),
                })
            }
            Expect::HeadSeq(seq) => {
                let found = self.record::<Head>(key::HEAD)?.map_or(0, |head| head.seq);
                (found != *seq).then_some(Conflict::HeadMoved { found })
            }
            Expect::NameSeqBelow(name, sequence) => self
                .record::<NameRecord>(&key::name(name))?
                .map(|record| record.sequence)
                .filter(|found| found >= sequence)
                .map(|found| Conflict::NameOlder { found }),
            Expect::NoNewerRecord(name, record) => self
                .record::<NameRecord>(&key::name(&name.to_bytes()))?
                .and_then(|stored| ipns::verify(name, &stored.bytes, Timestamp::now()).ok())
                .filter(|stored| ipns::newer(stored, record))
                .map(|stored| Conflict::NameOlder {
                    found: stored.sequence,
                }),
            Expect::Pinned(cid) => {
                (!self.has(&key::pin(cid))?).then_some(Conflict::NotPinned { cid: *cid })
            }
            Expect::NextRelease(product, number) => {
                let next = self.next_release(product)?;
                (next != *number).then(|| Conflict::ReleaseMoved {
                    product: product.clone(),
                    next,
                })
            }
        };
        conflict.map_or(Ok(()), |c| Err(ManifestError::Conflict(c)))
    }

    fn stage(&mut self, op: &Op) -> Result<(), ManifestError> {
        match op {
            Op::PutProduct(id, product) => {
                self.put(key::product(id), product, |c| &mut c.products)?;
                self.touch(id);
            }
            Op::PutRelease(id, version, release) => {
                let at = key::release(id, version);
                if let Some(old) = self.record::<Release>(&at)? {
                    let old = key::release_order(id, old.number, version);
                    self.current.insert(old, None);
                }
                self.put(at, release, |c| &mut c.releases)?;
                let order = key::release_order(id, release.number, version);
                self.current.insert(order, Some(Vec::new()));
                self.touch(id);
            }
            Op::PutPin(cid, pin) => self.put(key::pin(cid), pin, |c| &mut c.pins)?,
            Op::DeletePin(cid) => self.delete(key::pin(cid), |c| &mut c.pins)?,
            Op::PutJob(id, job) => {
                self.put(key::job(*id), job, |c| &mut c.jobs)?;
                let last = self.number(key::LAST_JOB)?.unwrap_or(0).max(*id);
                let last = last.to_be_bytes().to_vec();
                self.current.insert(key::LAST_JOB.to_vec(), Some(last));
            }
            Op::DeleteJob(id) => self.delete(key::job(*id), |c| &mut c.jobs)?,
            Op::PutHead(head) => {
                self.current.insert(key::HEAD.to_vec(), Some(encode(head)?));
            }
            Op::PutShop(shop) => {
                self.current.insert(key::SHOP.to_vec(), Some(encode(shop)?));
            }
            Op::PutMirror(name, mirror) => {
                check_key(name, Mirror::KIND)?;
                self.current
                    .insert(key::mirror(name), Some(encode(mirror)?));
            }
            Op::DeleteMirror(name) => {
                self.current.insert(key::mirror(name), None);
            }
            Op::PutName(name, record) => {
                check_key(name, NameRecord::KIND)?;
                self.put(key::name(name), record, |c| &mut c.names)?;
            }
            Op::PutState(name, value) => {
                check_key(name.as_bytes(), "state")?;
                check_value(value, "state")?;
                self.current.insert(key::state(name), Some(value.clone()));
            }
            Op::DeleteState(name) => {
                self.current.insert(key::state(name), None);
            }
            Op::PutShopEntry(id, entry) => {
                self.current
                    .insert(key::shop_entry(id), Some(encode(entry)?));
            }
        }
        Ok(())
    }

    /// Notes that a product changed, so that cached directories of it are stale.
    fn touch(&mut self, id: &ProductId) {
        let revision = self.sequence.to_be_bytes().to_vec();
        self.current.insert(key::revision(id), Some(revision));
    }

    fn put<R: Record>(
        &mut self,
        key: Vec<u8>,
        record: &R,
        count: fn(&mut Counts) -> &mut u64,
    ) -> Result<(), ManifestError> {
        let value = encode(record)?;
        if !self.has(&key)? {
            self.count(|c| *count(c) = count(c).saturating_add(1))?;
        }
        self.current.insert(key, Some(value));
        Ok(())
    }

    fn delete(
        &mut self,
        key: Vec<u8>,
        count: fn(&mut Counts) -> &mut u64,
    ) -> Result<(), ManifestError> {
        if self.has(&key)? {
            self.count(|c| *count(c) = count(c).saturating_sub(1))?;
            self.current.insert(key, None);
        }
        Ok(())
    }

    fn count(&mut self, change: impl FnOnce(&mut Counts)) -> Result<(), ManifestError> {
        let mut counts: Counts = self.record(key::COUNTS)?.unwrap_or_default();
        change(&mut counts);
        self.current
            .insert(key::COUNTS.to_vec(), Some(counts.encode()?));
        Ok(())
    }

    fn next_release(&self, id: &ProductId) -> Result<u64, ManifestError> {
        let prefix = key::releases_in_order(id);
        let drafted = [&self.accepted, &self.current]
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.is_some())
            .filter_map(|(key, _)| key.strip_prefix(prefix.as_slice()))
            .filter_map(|rest| rest.first_chunk::<8>())
            .map(|number| u64::from_be_bytes(*number))
            .max()
            .unwrap_or(0);
        Ok(self
            .index
            .last_release_number(id)?
            .max(drafted)
            .saturating_add(1))
    }

    fn drafted(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.current.get(key).or_else(|| self.accepted.get(key))
    }

    fn has(&self, key: &[u8]) -> Result<bool, ManifestError> {
        match self.drafted(key) {
            Some(value) => Ok(value.is_some()),
            None => self.index.has(key),
        }
    }

    fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, ManifestError> {
        match self.drafted(key) {
            Some(value) => value.as_deref().map(R::decode).transpose(),
            None => self.index.record(key),
        }
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, ManifestError> {
        match self.drafted(key) {
            Some(value) => value.as_deref().map(decode_number).transpose(),
            None => self.index.number(key),
        }
    }
}

fn encode<R: Record>(record: &R) -> Result<Vec<u8>, ManifestError> {
    let value = record.encode()?;
    check_value(&value, R::KIND)?;
    Ok(value)
}

fn check_value(value: &[u8], kind: &'static str) -> Result<(), ManifestError> {
    check_len(value.len(), MAX_VALUE_LEN, kind)
}

fn check_key(key: &[u8], kind: &'static str) -> Result<(), ManifestError> {
    check_len(key.len(), MAX_KEY_LEN, kind)
}

fn check_len(len: usize, limit: usize, kind: &'static str) -> Result<(), ManifestError> {
    if len > limit {
        return Err(ManifestError::TooLarge { kind, len, limit });
    }
    Ok(())
}
