//! A disk whose power is cut once: from then on nothing can be written, and what a cut at that moment
//! leaves is kept.

use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::volatile::{Left, Part, Volatile};
use super::{Hook, Op, Verdict};
use crate::random::Random;

/// A disk, until its power is cut.
#[derive(Debug)]
pub struct Cut {
    state: Mutex<State>,
    is_cut: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    volatile: Volatile,
    random: Random,
    operations_left: Option<u64>,
    /// What the cut left.
    left: Left,
}

impl Cut {
    /// A disk with power. The `seed` decides what a cut leaves of what is not synced.
    pub fn new(volatile: Volatile, seed: u64) -> Self {
        let state = State {
            volatile,
            random: Random(seed),
            operations_left: None,
            left: Left::default(),
        };
        Self {
            state: Mutex::new(state),
            is_cut: watch::Sender::new(false),
        }
    }

    /// Cuts the power after so many more operations.
    pub fn cut_after(&self, operations: u64) {
        self.state.lock().operations_left = Some(operations);
    }

    /// Whether the power is cut.
    pub fn is_cut(&self) -> bool {
        *self.is_cut.borrow()
    }

    /// Waits until the power is cut.
    pub async fn wait_for_cut(&self) {
        // The sender lives as long as `self`.
        drop(self.is_cut.subscribe().wait_for(|is_cut| *is_cut).await);
    }

    /// Makes in `dir` what the cut left, and copies there what is not written through the seam, as it
    /// is now. Cuts the power if that was not done. Returns what is durable there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn leave(&self, dir: &Path) -> io::Result<Volatile> {
        let mut state = self.state.lock();
        self.cut(&mut state);
        state.left.write(dir)?;
        state.volatile.copy_untracked(dir)?;
        Volatile::after(dir, &state.left)
    }

    fn cut(&self, state: &mut State) {
        if !self.is_cut.send_replace(true) {
            let kept = state.survivors();
            state.left = state.volatile.left(&kept);
        }
    }
}

impl State {
    /// What is on the disk although it was not synced: nothing, all, or any of it.
    fn survivors(&mut self) -> Vec<Part> {
        let mut parts = self.volatile.parts();
        match self.random.below(4) {
            0 => parts.clear(),
            1 => {}
            _ => parts.retain(|_| self.random.coin()),
        }
        parts
    }
}

impl Hook for Cut {
    fn before(&self, op: Op<'_>) -> io::Result<Verdict> {
        let mut state = self.state.lock();
        match &mut state.operations_left {
            Some(0) => self.cut(&mut state),
            Some(left) => *left -= 1,
            None => {}
        }
        if self.is_cut() {
            return Err(rustix::io::Errno::IO.into());
        }
        state.volatile.apply(op)?;
        Ok(Verdict::simulated(op))
    }

    fn opened(&self, path: &Path, file: &File, made: bool) {
        self.state.lock().volatile.opened(path, file, made);
    }
}
