//! Room: how much the packs take, what they may, and the eviction of the cache.
//!
//! Cache packs are small and go oldest first. What was read since its pack was sealed gets a second
//! chance: it moves to the newest cache pack. Which blocks these are lives in memory only, so after a
//! restart the oldest packs go with all that is in them. A reader that comes late finds its pack gone and
//! looks again; one that has the file open reads on.

use std::sync::atomic::Ordering;

use bytesize::ByteSize;

use super::append::New;
use super::collect::remove_files;
use super::index::PackIndex;
use super::layout::ALIGN;
use super::read::Access;
use super::{Keep, PackKind, Store, StoreError, StoreOptions};

/// A cache pack is sealed at this size, in bytes, when packs are larger: what is dropped at once.
const CACHE_PACK: u64 = 64 << 20;
/// Which blocks of a pack that goes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecondChance {
    /// Those that were read.
    Yes,
    /// None: somebody waits for the room.
    No,
}

/// Least number of packs that a full cache has.
const CACHE_PACKS: u64 = 8;
/// Of a hundred parts of `max_size`: above this the cache is evicted, then garbage is collected.
const HIGH: u64 = 90;
/// Down to this the cache is evicted.
const LOW: u64 = 80;

/// Bytes that blocks take besides their own, at most: lengths, CIDs, and the footers of a commit.
pub(super) fn overhead(blocks: usize) -> u64 {
    blocks as u64 * 128 + 2 * ALIGN
}

/// What takes up the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Bytes of kept packs.
    pub(super) kept: u64,
    /// Bytes of cache packs.
    pub(super) cache: u64,
}

impl Used {
    pub(super) fn of(&mut self, kind: PackKind) -> &mut u64 {
        match kind {
            PackKind::Kept => &mut self.kept,
            PackKind::Cache => &mut self.cache,
        }
    }

    pub(super) fn all(self) -> u64 {
        self.kept + self.cache
    }
}

impl StoreOptions {
    /// A pack of this kind is sealed at this size.
    pub(super) fn pack_size_of(&self, kind: PackKind) -> u64 {
        match kind {
            PackKind::Kept => self.pack_size,
            PackKind::Cache if self.cache_size == 0 => self.pack_size.min(CACHE_PACK),
            PackKind::Cache => {
                let share = (self.cache_size / CACHE_PACKS).max(1);
                self.pack_size.min(CACHE_PACK).min(share)
            }
        }
    }
}

impl Store {
    /// Waits until a put finds that room gets scarce.
    pub async fn wait_for_pressure(&self) {
        self.inner.shared.pressure.notified().await;
    }

    /// Whether kept blocks take more than they should, the disk gets full, or a put was refused since
    /// this was asked: garbage is to be collected.
    pub fn is_tight(&self) -> Result<bool, StoreError> {
        let refused = self.inner.shared.refused.swap(false, Ordering::Relaxed);
        Ok(refused || self.is_above(HIGH)? || self.disk_is_low()?)
    }

    /// Evicts from the cache while it is larger than it may be or the store is above its watermark.
    /// Returns the bytes that the disk got back. Blocking.
    pub fn evict(&self) -> Result<u64, StoreError> {
        let options = &self.inner.shared.options;
        let mut freed = 0;
        let mut until = HIGH;
        // What is read all the time would else be moved for ever.
        let once = self.inner.shared.catalog.sealed_packs().len();
        for round in 0.. {
            let cache = self.used().cache;
            let too_large = options.cache_size > 0 && cache > options.cache_size;
            if !too_large && !self.is_above(until)? && !self.disk_is_low()? {
                return Ok(freed);
            }
            if !too_large {
                until = LOW;
            }
            let chance = if round < once {
                SecondChance::Yes
            } else {
                SecondChance::No
            };
            match self.evict_oldest(chance)? {
                Some(more) => freed += more,
                None => break,
            }
        }
        Ok(freed)
    }

    /// Whether `more` bytes fit into `max_size` and leave the reserve. Says so when room gets scarce.
    pub(super) fn check_room(&self, more: u64) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        let limit = shared.options.max_size;
        let used = self.used();
        if limit > 0 && used.all() + more > limit {
            shared.refuse();
            return Err(StoreError::Quota {
                limit: ByteSize(limit),
                kept: ByteSize(used.kept),
                cache: ByteSize(used.cache),
                more: ByteSize(more),
            });
        }
        let free = self.free_bytes()?;
        if free < shared.options.reserve {
            shared.refuse();
            return Err(StoreError::Full {
                path: shared.catalog.dir().to_owned(),
            });
        }
        let cache = shared.options.cache_size;
        let pressed = limit > 0 && used.all() + more > limit / 100 * HIGH
            || cache > 0 && used.cache > cache
            || free < shared.options.reserve.saturating_mul(2);
        if pressed {
            shared.pressure.notify_one();
        }
        Ok(())
    }

    /// Makes room for a put at once. `false` when there is no cache to give it.
    pub(super) fn make_room(&self) -> Result<bool, StoreError> {
        Ok(self.evict_oldest(SecondChance::No)?.is_some())
    }

    pub(super) fn used(&self) -> Used {
        let catalog = &self.inner.shared.catalog;
        let mut used = catalog.sealed_bytes();
        for pack in catalog.open_packs() {
            // What has not been handed to the writer counts, too.
            let (_, bytes) = pack.totals();
            let bytes = pack.len().max(bytes);
            *used.of(pack.id.kind) += bytes;
        }
        used
    }

    fn is_above(&self, percent: u64) -> Result<bool, StoreError> {
        let limit = self.inner.shared.options.max_size;
        Ok(limit > 0 && self.used().all() > limit / 100 * percent)
    }

    fn disk_is_low(&self) -> Result<bool, StoreError> {
        let reserve = self.inner.shared.options.reserve;
        Ok(self.free_bytes()? < reserve.saturating_mul(2))
    }

    /// Drops the oldest cache pack. Returns the bytes that the disk got back; `None` when there is no cache.
    fn evict_oldest(&self, chance: SecondChance) -> Result<Option<u64>, StoreError> {
        let _turn = self.inner.evicting.lock();
        let catalog = &self.inner.shared.catalog;
        let oldest = || {
            let mut sealed = catalog.sealed_packs().into_iter();
            sealed.find(|index| index.id.kind == PackKind::Cache)
        };
        let index = match oldest() {
            Some(index) => index,
            None => {
                let shared = &self.inner.shared;
                self.inner.appenders[PackKind::Cache.slot()]
                    .lock()
                    .seal(shared);
                shared.queue.flush()?;
                match oldest() {
                    Some(index) => index,
                    None => return Ok(None),
                }
            }
        };
        let moved = match chance {
            SecondChance::Yes => self.move_read(&index)?,
            SecondChance::No => 0,
        };
        self.rescue(&index)?;
        catalog.drop_pack(index.id);
        remove_files(self, index.id)?;
        let freed = index.pack_len.saturating_sub(moved);
        metrics::counter!("duka_store_evicted_bytes_total").increment(freed);
        Ok(Some(freed))
    }

    /// Moves the blocks that were read to the newest cache pack, while there is room. Returns their bytes.
    fn move_read(&self, index: &PackIndex) -> Result<u64, StoreError> {
        let read = {
            let in_use = self.inner.shared.catalog.in_use(PackKind::Cache);
            in_use.of(index.id, index.count)
        };
        if read.is_clear() {
            return Ok(0);
        }
        let mut moved = 0;
        for (number, cid, located) in self.entries(index)? {
            if !read.contains(number as usize) {
                continue;
            }
            let block = match self.load(&cid, located, Access::Scan) {
                Err(error) if error.is_damage() => continue,
                loaded => loaded?,
            };
            let appended = self.append(PackKind::Cache, &[New::of(&block, &Keep::Copied)]);
            moved += appended.bytes;
            match appended.result {
                // It is only a cache.
                Err(StoreError::Full { .. }) => break,
                result => result?,
            }
        }
        Ok(moved)
    }

    /// Keeps, durably, what is the only whole copy of a block that is to be kept.
    fn rescue(&self, index: &PackIndex) -> Result<(), StoreError> {
        let catalog = &self.inner.shared.catalog;
        if !catalog.damage.any(PackKind::Kept) {
            return Ok(());
        }
        let mut rescued = false;
        for (_, cid, located) in self.entries(index)? {
            let kept = catalog.locate(PackKind::Kept, cid.hash())?;
            if kept.is_some_and(|kept| kept.damaged)
                && let Ok(block) = self.load(&cid, located, Access::Scan)
            {
                self.append(PackKind::Kept, &[New::of(&block, &Keep::Copied)])
                    .result?;
                rescued = true;
            }
        }
        if rescued { self.commit() } else { Ok(()) }
    }
}
