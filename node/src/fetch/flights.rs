//! One fetch for all requests that wait for the same block.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cid::Cid;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use crate::block::Block;
use crate::source::FetchError;

type Fetched = Result<Block, FetchError>;
type Fetch = BoxFuture<'static, Fetched>;

/// The fetches that are under way. There are no more than there are requests that wait. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Flights {
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    next: u64,
    flights: HashMap<Cid, (u64, WeakShared<Fetch>)>,
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl Flights {
    /// Waits for the fetch of a block that is under way, or begins one. It ends when nobody waits for it
    /// any more, not with who began it.
    pub(super) async fn join(
        &self,
        cid: &Cid,
        begin: impl Future<Output = Fetched> + Send + 'static,
    ) -> Fetched {
        self.flight(cid, begin).await
    }

    fn flight(
        &self,
        cid: &Cid,
        begin: impl Future<Output = Fetched> + Send + 'static,
    ) -> Shared<Fetch> {
        let mut under_way = self.under_way.lock();
        let joined = under_way.flights.get(cid);
        if let Some(flight) = joined.and_then(|(_, flight)| flight.upgrade()) {
            return flight;
        }
        let number = under_way.next;
        under_way.next += 1;
        let entry = Entry {
            flights: self.clone(),
            cid: *cid,
            number,
        };
        let fetch = async move {
            let _entry = entry;
            begin.await
        };
        let flight = fetch.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            under_way.flights.insert(*cid, (number, weak));
        }
        flight
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.under_way.lock().flights.len()
    }
}

/// Takes a fetch out when it has ended, or nobody waits for it.
struct Entry {
    flights: Flights,
    cid: Cid,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock();
        let is_own = |(number, _): &(u64, _)| *number == self.number;
        if under_way.flights.get(&self.cid).is_some_and(is_own) {
            under_way.flights.remove(&self.cid);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;
    use crate::block::RAW;

    fn block() -> Block {
        Block::of(RAW, vec![1, 2, 3].into())
    }

    /// A fetch that ends when it is told to.
    fn controlled() -> (
        oneshot::Sender<()>,
        impl Future<Output = Fetched> + Send + 'static,
    ) {
        let (go, wait) = oneshot::channel::<()>();
        let fetch = async move {
            drop(wait.await);
            Ok(block())
        };
        (go, fetch)
    }

    fn never() -> impl Future<Output = Fetched> + Send + 'static {
        futures::future::lazy(|_| panic!("a second fetch was begun"))
    }

    #[tokio::test]
    async fn all_who_wait_share_one_fetch_and_it_outlives_who_began_it() {
        let flights = Flights::default();
        let cid = *block().cid();
        let (go, fetch) = controlled();
        let mut first = Box::pin(flights.join(&cid, fetch));
        assert!(poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.join(&cid, never()));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        let mut third = Box::pin(flights.join(&cid, never()));
        assert!(poll!(&mut third).is_pending());
        go.send(()).unwrap();
        let (second, third) = tokio::join!(second, third);
        assert_eq!((second.unwrap(), third.unwrap()), (block(), block()));
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_ends_and_is_begun_anew() {
        let flights = Flights::default();
        let cid = *block().cid();
        let (go, fetch) = controlled();
        let mut first = Box::pin(flights.join(&cid, fetch));
        assert!(poll!(&mut first).is_pending());
        drop(first);
        assert!(go.is_closed());
        assert_eq!(flights.count(), 0);
        let (go, fetch) = controlled();
        go.send(()).unwrap();
        assert_eq!(flights.join(&cid, fetch).await.unwrap(), block());
    }
}
