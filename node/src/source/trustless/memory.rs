//! What is known of gateways from earlier requests: how fast they answered, and who failed. A guess of
//! where to begin, nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use url::Url;

/// Gateways that are remembered.
const MAX_GATEWAYS: usize = 256;
/// What is older says nothing any more.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is known of gateways. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Known>>);

/// By origin: what else is in an URL may be secret.
type Known = BTreeMap<String, Seen>;

/// What was seen of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// Usual time of an answer, if there was one.
    pub usual_ms: Option<u64>,
    /// How often it failed since it last answered.
    pub failures: u32,
}

impl Memory {
    /// What was stored before. What is too old, or from the future, is left out.
    pub fn new(seen: BTreeMap<String, Seen>, now: Timestamp) -> Self {
        let mut known = seen;
        known.retain(|_, seen| seen.at <= now && seen.age(now) <= MAX_AGE);
        forget_oldest(&mut known);
        Self(Arc::new(Mutex::new(known)))
    }

    /// What is to be stored.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        self.0.lock().clone()
    }

    pub(super) fn of(&self, gateway: &Url) -> Option<Seen> {
        self.0.lock().get(&origin(gateway)).cloned()
    }

    /// Of gateways with the same origin the last one counts.
    pub(super) fn remember(&self, gateway: &Url, seen: Seen) {
        let mut known = self.0.lock();
        known.insert(origin(gateway), seen);
        forget_oldest(&mut known);
    }
}

fn forget_oldest(known: &mut Known) {
    while known.len() > MAX_GATEWAYS {
        let oldest = known.iter().min_by_key(|(_, seen)| seen.at);
        let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) else {
            return;
        };
        known.remove(&oldest);
    }
}

impl Seen {
    /// How long ago it was seen.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        now.duration_since(self.at).unsigned_abs()
    }
}

fn origin(gateway: &Url) -> String {
    gateway.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(second: i64) -> Seen {
        Seen {
            at: at(second),
            usual_ms: None,
            failures: 1,
        }
    }

    fn gateway(number: i64) -> Url {
        format!("https://user:secret@g{number}.example/sub")
            .parse()
            .unwrap()
    }

    #[test]
    fn what_is_old_or_from_the_future_is_forgotten() {
        let week = 7 * 24 * 60 * 60;
        let stored = [("old", 0), ("recent", 1), ("future", week + 2)];
        let stored = stored.map(|(origin, second)| (origin.to_owned(), seen(second)));
        let memory = Memory::new(stored.into(), at(week + 1));
        let left: Vec<_> = memory.seen().into_keys().collect();
        assert_eq!(left, ["recent"]);
    }

    #[test]
    fn the_last_ones_are_remembered_without_secrets() {
        let memory = Memory::default();
        let count = MAX_GATEWAYS as i64 + 10;
        for number in 0..count {
            memory.remember(&gateway(number), seen(number));
        }
        assert_eq!(memory.seen().len(), MAX_GATEWAYS);
        assert_eq!(memory.of(&gateway(9)), None);
        assert_eq!(memory.of(&gateway(count - 1)), Some(seen(count - 1)));
        assert!(memory.seen().contains_key("https://g10.example"));
    }
}
