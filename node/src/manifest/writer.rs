//! The writer: one thread that owns the journal and is the only one to change the index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::change::{Change, Op};
use super::draft::Draft;
use super::files::{self, Listing};
use super::index::{Index, Writes};
use super::journal::{self, Journal, Purpose};
use super::sources::{self, Loss};
use super::{ManifestError, ManifestOptions, Renewed, checkpoint};
use crate::disk::Disk;

/// Most changes that share one sync.
const MAX_GROUP: usize = 256;
/// Closing writes a checkpoint when the journal has at least this many entries: opening stays fast,
/// and a short run costs nothing.
const CHECKPOINT_AT_CLOSE: u64 = 1024;

pub(super) type Reply = oneshot::Sender<Result<u64, ManifestError>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Commit(Change, Reply),
    /// A checkpoint besides, to a file.
    Export(Arc<dyn Disk>, PathBuf, Reply),
    Check(oneshot::Sender<Result<Option<Renewed>, ManifestError>>),
    Close(oneshot::Sender<Result<(), ManifestError>>),
}

#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    index: Index,
    journal: Journal,
    options: ManifestOptions,
    /// The journal length that starts the next checkpoint.
    checkpoint_at: u64,
    /// Why nothing may be written: for good, or until there is room for the next journal.
    failed: Option<ManifestError>,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        index: Index,
        journal: Journal,
        options: ManifestOptions,
    ) -> Self {
        let checkpoint_at = options.journal_limit;
        Self {
            disk,
            dir,
            index,
            journal,
            options,
            checkpoint_at,
            failed: None,
        }
    }

    /// Serves requests until it is closed or all handles are gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while let Some(first) = requests.blocking_recv() {
            let mut next = Some(first);
            let mut close = None;
            let mut bytes = 0;
            while let Some(request) = next {
                match request {
                    Request::Commit(change, reply) => match journal::len_of(&change.ops) {
                        Ok(len) => {
                            bytes += len;
                            group.push((change, reply));
                        }
                        Err(error) => answer(reply, Err(error)),
                    },
                    Request::Export(disk, path, reply) => {
                        self.commit(std::mem::take(&mut group));
                        answer(reply, self.export(disk.as_ref(), &path));
                    }
                    Request::Check(reply) => {
                        self.commit(std::mem::take(&mut group));
                        answer(reply, self.check());
                    }
                    Request::Close(reply) => close = Some(reply),
                }
                let full = group.len() >= MAX_GROUP || bytes >= journal::MAX_CHANGE_LEN;
                let more = close.is_none() && !full;
                next = more.then(|| requests.try_recv().ok()).flatten();
            }
            self.commit(std::mem::take(&mut group));
            if let Some(reply) = close {
                requests.close();
                let closed = self.close();
                drop(self);
                // The caller may have stopped waiting; closing is done all the same.
                if reply.send(closed).is_err() {
                    tracing::debug!("nobody waited for the manifest to close");
                }
                return;
            }
            if self.journal.len() >= self.checkpoint_at {
                self.rotate();
            }
        }
    }

    /// Makes a group of changes durable, then visible, then acknowledges each.
    fn commit(&mut self, group: Vec<(Change, Reply)>) {
        if let Some(ManifestError::Full { .. }) = &self.failed
            && self.begin_journal().is_ok()
        {
            self.checkpoint_at = self.options.journal_limit;
        }
        if let Some(error) = &self.failed {
            group
                .into_iter()
                .for_each(|(_, r)| answer(r, Err(error.clone())));
            return;
        }
        let sequence = self.journal.next();
        let mut draft = Draft::new(&self.index, sequence);
        let mut ops = Vec::new();
        let mut waiting = Vec::new();
        for (change, reply) in group {
            match draft.add(&change.expect, &change.ops) {
                Ok(()) => {
                    ops.extend(change.ops);
                    waiting.push(reply);
                }
                Err(error) => answer(reply, Err(error)),
            }
        }
        let writes = draft.into_writes();
        let done = if ops.is_empty() {
            Ok(sequence.saturating_sub(1))
        } else {
            self.write(sequence, ops, writes)
        };
        waiting.into_iter().for_each(|r| answer(r, done.clone()));
    }

    fn write(&mut self, sequence: u64, ops: Vec<Op>, writes: Writes) -> Result<u64, ManifestError> {
        let purpose = purpose(&ops);
        let entry = journal::encode(sequence, ops)?;
        match self.journal.append(&entry, purpose) {
            Ok(()) => {}
            Err(error @ ManifestError::Full { .. }) => return Err(error),
            Err(error) => return Err(self.fail(error)),
        }
        // From here on the change is durable; if the index fails, the next open applies it.
        self.index
            .apply(writes)
            .map_err(|error| self.fail(error))
            .map(|()| sequence)
    }

    fn fail(&mut self, error: ManifestError) -> ManifestError {
        tracing::error!(%error, "the manifest refuses changes until it is opened again");
        self.failed = Some(error.clone());
        error
    }

    /// Writes a checkpoint and begins a new journal. When that fails, the old journal goes on.
    fn rotate(&mut self) {
        match self.checkpoint() {
            Ok(()) => self.checkpoint_at = self.options.journal_limit,
            Err(error) => {
                tracing::warn!(%error, "no manifest checkpoint was written; trying again later");
                self.checkpoint_at = self
                    .journal
                    .len()
                    .saturating_add(self.options.journal_limit);
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), ManifestError> {
        if self.failed.is_some() || self.journal.entries() == 0 {
            return Ok(());
        }
        self.replace()
    }

    /// Writes a checkpoint of the index and begins a journal; what there was before is removed then.
    fn replace(&mut self) -> Result<(), ManifestError> {
        let last = self.journal.next() - 1;
        let old = Listing::read(&self.dir)?;
        let disk = self.disk.as_ref();
        checkpoint::write(disk, &self.dir, &self.index, last)?;
        // Without an entry since the last checkpoint the new files have the names of the old. The bytes of
        // the old journal may have another name.
        if old.journals.contains(&(last + 1)) {
            files::remove(disk, &files::journal_path(&self.dir, last + 1));
        }
        self.begin_journal()?;
        let disk = self.disk.as_ref();
        for first in old.journals.into_iter().filter(|first| *first <= last) {
            files::remove(disk, &files::journal_path(&self.dir, first));
        }
        for old in old.checkpoints.into_iter().filter(|old| *old != last) {
            files::remove(disk, &files::checkpoint_path(&self.dir, old));
        }
        Ok(())
    }

    /// Reads journal and checkpoint. Where they are not whole and the index is, they are written anew from it.
    fn check(&mut self) -> Result<Option<Renewed>, ManifestError> {
        let damaged = match sources::check(&self.dir) {
            Ok(found) if found.torn.is_none() && found.last + 1 == self.journal.next() => {
                return Ok(None);
            }
            Ok(_) | Err(Loss::All { .. } | Loss::JournalCut { .. }) => {
                self.journal.path().to_owned()
            }
            Err(Loss::Checkpoint { path, .. } | Loss::Journal { path, .. }) => path,
            Err(Loss::Unread(error)) => return Err(error),
        };
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if !self.index.is_whole()? {
            return Err(ManifestError::NotRenewed { path: damaged });
        }
        let aside = files::keep_damaged(self.disk.as_ref(), &damaged)?;
        self.replace()?;
        tracing::error!(
            path = %damaged.display(),
            aside = aside.as_ref().map(|aside| aside.display().to_string()),
            "a journal or checkpoint was damaged or missing; both were written anew from the index"
        );
        Ok(Some(Renewed { damaged, aside }))
    }

    fn export(&self, disk: &dyn Disk, path: &Path) -> Result<u64, ManifestError> {
        let last = self.journal.next() - 1;
        checkpoint::write_whole(disk, path, &self.index, last)?;
        Ok(last)
    }

    /// Begins the journal that follows a checkpoint. The one before must not go on: whether the new
    /// file will be there after a crash is unknown.
    fn begin_journal(&mut self) -> Result<(), ManifestError> {
        let disk = Arc::clone(&self.disk);
        let next = self.journal.next();
        match Journal::create(disk, &self.dir, next, self.options.reserve) {
            Ok(journal) => {
                self.journal = journal;
                self.failed = None;
                Ok(())
            }
            Err(full @ ManifestError::Full { .. }) => {
                self.failed = Some(full.clone());
                Err(full)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn close(&mut self) -> Result<(), ManifestError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.journal.entries() >= CHECKPOINT_AT_CLOSE {
            self.rotate();
        }
        let applied = self.journal.next().saturating_sub(1);
        self.index.sync(&files::index_path(&self.dir))?;
        files::mark_closed(self.disk.as_ref(), &self.dir, applied)
    }
}

fn answer<T>(reply: oneshot::Sender<Result<T, ManifestError>>, result: Result<T, ManifestError>) {
    // A caller that stopped waiting does not undo its change.
    if reply.send(result).is_err() {
        tracing::trace!("nobody waited for this change");
    }
}

/// What operations are for: a removal gives something up, and a state is a note.
fn purpose(ops: &[Op]) -> Purpose {
    let gives_up = |op: &Op| {
        matches!(
            op,
            Op::DeletePin(_) | Op::DeleteJob(_) | Op::DeleteState(_) | Op::PutState(..)
        )
    };
    match ops.iter().all(gives_up) {
        true => Purpose::GiveUp,
        false => Purpose::Keep,
    }
}
