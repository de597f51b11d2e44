//! Input and output on disk: deterministic random bytes, trees, comparison.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::random::Random;

/// Bytes that no compressor shortens; the same for the same seed.
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Random(seed).fill(&mut bytes);
    bytes
}

/// Writes a file of random bytes, without holding it in memory.
///
/// # Errors
/// If it cannot be written.
pub fn write_random(path: &Path, seed: u64, length: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).context("a file for the test")?);
    pour_random(&mut file, seed, length)?;
    file.flush()?;
    Ok(())
}

/// Writes the same bytes to anything.
///
/// # Errors
/// If it takes no more.
pub fn pour_random(to: &mut impl Write, seed: u64, length: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut chunk = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left.min(chunk.len() as u64))?;
        random.fill(&mut chunk[..part]);
        to.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// Writes `count` files of `length` random bytes each, at most 1,000 in a folder.
///
/// # Errors
/// If one cannot be written.
pub fn write_small_files(folder: &Path, seed: u64, count: usize, length: usize) -> Result<()> {
    let mut random = Random(seed);
    let mut bytes = vec![0; length];
    for number in 0..count {
        let group = folder.join(format!("{:03}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&group)?;
        }
        random.fill(&mut bytes);
        fs::write(group.join(format!("{number:06}.bin")), &bytes)?;
    }
    Ok(())
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// If it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&chunk[..read]);
    }
}

/// SHA-256 of bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What is at a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A symbolic link and its target.
    Link(PathBuf),
    /// A file's length and SHA-256.
    File(u64, String),
}

/// Everything below a folder, by path relative to it; for comparison.
///
/// # Errors
/// If something cannot be read.
pub fn tree(folder: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder_now) = open.pop() {
        for entry in fs::read_dir(&folder_now)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?;
            let value = if kind.is_symlink() {
                Entry::Link(fs::read_link(&path)?)
            } else if kind.is_dir() {
                open.push(path.clone());
                Entry::Folder
            } else {
                Entry::File(kind.len(), sha256_of(&path)?)
            };
            found.insert(path.strip_prefix(folder)?.to_owned(), value);
        }
    }
    Ok(found)
}
