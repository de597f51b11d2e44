//! `read`: random blocks of a cold store, against reading the same bytes of its packs.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cid::Cid;
use duka_node::block::{Block, RAW};
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::files;
use duka_tests::random::Random;
use rustix::fs::{Advice, OFlags, fadvise};
use serde_json::Value;

use crate::machine::{ALIGN, on_threads};
use crate::report::{Report, Row, Target};
use crate::setup::{Setup, megabytes, timed, turns};

/// Target.
const READ: Target = Target::AtLeast(0.8);

const BLOCK_LEN: usize = 256 << 10;
/// Where the bytes of a block lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    pack: usize,
    offset: u64,
}

pub(crate) fn run(setup: &Setup, size: u64, threads: usize) -> Result<Report> {
    let folder = setup.folder()?;
    let mut cids = fill(folder.path(), setup.seed(0), size)?;
    let mut packs: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder.path().join("packs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "car") {
            packs.push(path);
        }
    }
    let places = places(&packs)?;
    let what = format!(
        "read {} blocks of 256 KiB in random order, cold, {threads} threads",
        cids.len()
    );
    let mut row = Row::new(what, "MB/s");
    for repetition in 0..setup.repetitions {
        shuffle(&mut cids, setup.seed(repetition));
        let offsets: Vec<Place> = cids
            .iter()
            .map(|cid| places.get(cid).copied().context("a block is in no pack"))
            .collect::<Result<_>>()?;
        for contender in turns(&["pread", "duka", "pread, direct"], repetition) {
            let files = open(&packs, contender == "pread, direct")?;
            // Opened anew each time: a store remembers what was read lately.
            let (store, _) = Store::open(folder.path(), StoreOptions::default())?;
            make_cold(&packs)?;
            let next = AtomicUsize::new(0);
            let each = |read: &mut dyn FnMut(usize) -> Result<()>| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= cids.len() {
                        return Ok(());
                    }
                    read(at)?;
                }
            };
            let ((), took) = timed(|| match contender {
                "duka" => on_threads(threads, || {
                    each(&mut |at| {
                        let block = store.get(&cids[at])?.context("a block is gone")?;
                        ensure!(block.data().len() == BLOCK_LEN, "a short block");
                        Ok(())
                    })
                }),
                _ => on_threads(threads, || {
                    let mut memory = vec![0; BLOCK_LEN + 3 * ALIGN];
                    let start = memory.as_ptr().align_offset(ALIGN);
                    each(&mut |at| {
                        let Place { pack, offset } = offsets[at];
                        let (first, len) = if contender == "pread" {
                            (offset, BLOCK_LEN)
                        } else {
                            let first = offset - offset % ALIGN as u64;
                            let end = (offset + BLOCK_LEN as u64).next_multiple_of(ALIGN as u64);
                            (first, usize::try_from(end - first)?)
                        };
                        Ok(files[pack].read_exact_at(&mut memory[start..start + len], first)?)
                    })
                }),
            })?;
            row.push(contender, megabytes((cids.len() * BLOCK_LEN) as u64, took));
        }
    }
    row.ratio("duka", "pread", Some(READ));
    row.ratio("duka", "pread, direct", None);
    Ok(Report {
        bench: "read",
        repetitions: setup.repetitions,
        kubo: Value::Null,
        notes: vec!["duka checks what it reads; direct: past the page cache".to_owned()],
        rows: vec![row],
    })
}

fn fill(folder: &Path, seed: u64, size: u64) -> Result<Vec<Cid>> {
    let (store, _) = Store::open(folder, StoreOptions::default())?;
    let mut cids = Vec::new();
    for number in 0..size / BLOCK_LEN as u64 {
        let bytes = files::random_bytes(seed ^ number << 32, BLOCK_LEN);
        let block = Block::of(RAW, Bytes::from(bytes));
        cids.push(*block.cid());
        store.put(PackKind::Kept, &[block])?;
    }
    store.seal()?;
    store.commit()?;
    Ok(cids)
}

/// Finds the sections of the packs, which are CAR files.
fn places(packs: &[PathBuf]) -> Result<HashMap<Cid, Place>> {
    let mut places = HashMap::new();
    for (pack, path) in packs.iter().enumerate() {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let (header, len) = varint(&file, 0)?;
        let mut at = header + len;
        while at < end {
            let (start, len) = varint(&file, at)?;
            let mut cid = [0; 36];
            file.read_exact_at(&mut cid, start)?;
            let offset = start + cid.len() as u64;
            places.insert(Cid::try_from(&cid[..])?, Place { pack, offset });
            at = start + len;
        }
    }
    Ok(places)
}

/// A number and where it ends.
fn varint(file: &File, at: u64) -> Result<(u64, u64)> {
    let mut bytes = [0; 10];
    let read = file.read_at(&mut bytes, at)?;
    let mut number = 0;
    for (place, byte) in bytes[..read].iter().enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((at + place as u64 + 1, number));
        }
    }
    anyhow::bail!("no section at {at}")
}

fn shuffle(cids: &mut [Cid], seed: u64) {
    let mut random = Random(seed);
    for last in (1..cids.len()).rev() {
        let other = random.below(last as u64 + 1);
        cids.swap(last, usize::try_from(other).expect("an index"));
    }
}

fn open(packs: &[PathBuf], direct: bool) -> Result<Vec<File>> {
    let mut options = OpenOptions::new();
    options.read(true);
    if direct {
        options.custom_flags(i32::try_from(OFlags::DIRECT.bits())?);
    }
    packs.iter().map(|path| Ok(options.open(path)?)).collect()
}

/// Has the kernel forget what it holds of the packs.
fn make_cold(packs: &[PathBuf]) -> Result<()> {
    rustix::fs::sync();
    for path in packs {
        fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}
