//! Commits: the footers of all packs, one sync each, shared by the callers that wait.

use parking_lot::{Condvar, Mutex};

use super::StoreError;
use super::append::{Appender, Shared};

/// After a sync of more bytes than this, the pack notes how far it is durable.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// Rounds of commits: callers that come while a round runs share the next one.
#[derive(Debug, Default)]
pub(super) struct Commits {
    state: Mutex<Rounds>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Rounds {
    begun: u64,
    running: bool,
    /// Everything put before the start of this round is durable.
    durable: u64,
    failed: Option<(u64, StoreError)>,
}

/// The round that a caller needs.
#[derive(Debug)]
pub(super) struct Wanted(u64);

impl Commits {
    /// The next round: one that already runs may have passed over what was just put.
    pub(super) fn want(&self) -> Wanted {
        Wanted(self.state.lock().begun + 1)
    }

    /// Waits until the wanted round has ended, running it with `round` when nobody else does.
    pub(super) fn wait(
        &self,
        Wanted(wanted): Wanted,
        round: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rounds = self.state.lock();
        loop {
            if rounds.durable >= wanted {
                return Ok(());
            }
            if let Some((round, error)) = &rounds.failed
                && *round >= wanted
            {
                return Err(error.clone());
            }
            if !rounds.running {
                break;
            }
            self.ended.wait(&mut rounds);
        }
        rounds.running = true;
        rounds.begun += 1;
        let number = rounds.begun;
        drop(rounds);

        let done = round();

        let mut rounds = self.state.lock();
        rounds.running = false;
        match &done {
            Ok(()) => rounds.durable = number,
            Err(error) => rounds.failed = Some((number, error.clone())),
        }
        self.ended.notify_all();
        done
    }
}

/// Closes the commits of all appenders and syncs their packs.
pub(super) fn run_round(
    shared: &Shared,
    appenders: &[Mutex<Appender>; 2],
) -> Result<(), StoreError> {
    let closed: Vec<_> = appenders
        .iter()
        .filter_map(|appender| appender.lock().finish_commit(shared))
        .collect();
    shared.queue.flush()?;
    for (pack, end) in closed {
        let before = pack.synced();
        if before >= end {
            continue;
        }
        if let Err(source) = shared.catalog.disk().sync(&pack.file()) {
            let error = StoreError::io("syncing", &pack.path, source);
            return Err(shared.queue.fail(error));
        }
        pack.set_synced(end);
        if end - before > CHECKPOINT_BYTES {
            appenders[pack.id.kind.slot()].lock().checkpoint(shared);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_that_come_during_a_round_share_the_next_one() {
        let commits = Commits::default();
        let mut late = Vec::new();
        let first = commits.wait(commits.want(), || {
            late.extend((0..8).map(|_| commits.want()));
            Ok(())
        });
        first.unwrap();
        let mut runs = 0;
        for wanted in late {
            let shared = commits.wait(wanted, || {
                runs += 1;
                Ok(())
            });
            shared.unwrap();
        }
        assert_eq!(runs, 1);
        // What is put after it needs another.
        let next = commits.wait(commits.want(), || {
            runs += 1;
            Ok(())
        });
        next.unwrap();
        assert_eq!(runs, 2);
    }

    #[test]
    fn a_failed_round_fails_all_who_share_it_and_not_the_next() {
        let full = || StoreError::Full { path: "x".into() };
        let commits = Commits::default();
        let (one, two) = (commits.want(), commits.want());
        commits.wait(one, || Err(full())).unwrap_err();
        commits.wait(two, || Ok(())).unwrap_err();
        commits.wait(commits.want(), || Ok(())).unwrap();
    }
}
