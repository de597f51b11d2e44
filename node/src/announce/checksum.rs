//! The SHA-256 of each file of a release, and the release record that holds them.

use std::io::{self, BufRead};
use std::sync::Arc;

use cid::Cid;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::AnnounceError;
use crate::block::{RAW, SHA2_256};
use crate::dag::import::{ImportError, ImportOptions, Sink, import_reader};
use crate::dag::stored::StoredFile;
use crate::ids::{ProductId, Version};
use crate::manifest::change::{Change, Op};
use crate::manifest::record::{Job, JobId, Release};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;
use crate::publish::FileEntry;
use crate::shop::json::{FileJson, release_json};
use crate::store::{PackKind, Store};

/// Why checksums could not be computed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChecksumError {
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of the release, or the list of them, could not be read.
    #[error("the files of {product} {version} cannot be read for their checksums")]
    Files {
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The record could not be stored.
    #[error("writing the record of {product} {version} failed")]
    Record {
        /// The product.
        product: ProductId,
        /// The version.
        version: Version,
        /// The cause.
        #[source]
        source: ImportError,
    },
}

/// A release whose record is stored, and the job that is done with it.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) job: JobId,
    product: ProductId,
    version: Version,
    /// `None` when it had a record already.
    record: Option<Cid>,
}

/// Computes the checksums of a release and stores its record, not durably yet. Hold a temp pin until it
/// is committed.
pub(super) async fn record_release(
    node: &Node,
    job: JobId,
    product: ProductId,
    version: Version,
) -> Result<Recorded, ChecksumError> {
    let record = match unrecorded(node.manifest(), &product, &version)? {
        Some(release) => Some(
            write_record(node, &product, &version, release)
                .await
                .map_err(|error| failed(&product, &version, error))?,
        ),
        None => None,
    };
    Ok(Recorded {
        job,
        product,
        version,
        record,
    })
}

/// Makes records durable and lets their releases have them; the jobs turn into one for a head that shows
/// them.
pub(super) async fn commit(node: &Node, recorded: &[Recorded]) -> Result<(), AnnounceError> {
    let announce = Op::PutJob(node.manifest().new_job_id(), Job::Announce);
    let done = recorded.iter().map(|recorded| Op::DeleteJob(recorded.job));
    let mut ops: Vec<Op> = done.chain([announce]).collect();
    node.commit_blocks().await?;
    // Read again in their turn: a yank may have come meanwhile.
    let _turn = node.publish_turn().await;
    for Recorded {
        product,
        version,
        record,
        ..
    } in recorded
    {
        if let Some(mut release) = unrecorded(node.manifest(), product, version)? {
            release.record = *record;
            ops.push(Op::PutRelease(product.clone(), version.clone(), release));
        }
    }
    let expect = Vec::new();
    node.manifest().commit(Change { expect, ops }).await?;
    Ok(())
}

/// The record is written while its files are read.
fn failed(product: &ProductId, version: &Version, error: ImportError) -> ChecksumError {
    let (product, version) = (product.clone(), version.clone());
    match error {
        ImportError::Read { source, .. } => ChecksumError::Files {
            product,
            version,
            source,
        },
        source => ChecksumError::Record {
            product,
            version,
            source,
        },
    }
}

fn unrecorded(
    manifest: &Manifest,
    product: &ProductId,
    version: &Version,
) -> Result<Option<Release>, ManifestError> {
    let release = manifest.release(product, version)?;
    Ok(release.filter(|release| release.record.is_none()))
}

/// Streams file list → checksums → record, off the runtime.
async fn write_record(
    node: &Node,
    product: &ProductId,
    version: &Version,
    release: Release,
) -> Result<Cid, ImportError> {
    let (product, version) = (product.clone(), version.clone());
    let store = node.store().clone();
    let runtime = Handle::current();
    node.blocking(move || {
        let list = StoredFile::open(&runtime, &store, release.file_list);
        let files = list.lines().map(|line| {
            let entry: FileEntry = serde_json::from_str(&line?)?;
            let cid: Cid = entry.cid.parse().map_err(io::Error::other)?;
            Ok(FileJson {
                executable: entry.executable,
                path: entry.path,
                sha256: hex::encode(checksum(&runtime, &store, cid)?),
                size: entry.size,
            })
        });
        let sink = Sink::Store(store.clone(), PackKind::Kept);
        let mut record = release_json(&product, &version, &release, files);
        let options = ImportOptions::default();
        Ok(import_reader(&sink, &mut record, &options, &(Arc::new(|_| true) as _))?.root)
    })
    .await
}

/// SHA-256 of a stored file. A file of one raw block has it in its CID.
fn checksum(runtime: &Handle, store: &Store, cid: Cid) -> io::Result<[u8; 32]> {
    if cid.codec() == RAW
        && cid.hash().code() == SHA2_256
        && let Ok(digest) = cid.hash().digest().try_into()
    {
        return Ok(digest);
    }
    let mut file = StoredFile::open(runtime, store, cid);
    let mut hasher = Sha256::new();
    loop {
        let chunk = file.fill_buf()?;
        if chunk.is_empty() {
            return Ok(hasher.finalize().into());
        }
        hasher.update(chunk);
        let len = chunk.len();
        file.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use duka_config::Config;
    use jiff::Timestamp;

    use super::*;
    use crate::block::cid_of;
    use crate::node;

    #[tokio::test]
    async fn a_release_that_cannot_be_read_is_named_with_the_block() {
        let dir = tempfile::tempdir().unwrap();
        node::init(dir.path()).unwrap();
        let mut config = Config::default();
        config.network.offline = true;
        let node = Node::open(dir.path(), &config).await.unwrap();
        let (product, version) = ("album".parse().unwrap(), "1.2".parse().unwrap());
        let missing = cid_of(RAW, b"the list of files");
        let release = Release {
            root: missing,
            profile: String::new(),
            size: 0,
            tsize: 0,
            blocks: 0,
            files: 0,
            file_list: missing,
            record: None,
            notes: None,
            issued: Timestamp::now(),
            number: 1,
            yanked: None,
        };
        let ops = vec![Op::PutRelease(
            ProductId::clone(&product),
            Version::clone(&version),
            release,
        )];
        let change = Change {
            ops,
            ..Change::default()
        };
        node.manifest().commit(change).await.unwrap();

        let error = record_release(&node, 1, product, version)
            .await
            .unwrap_err();
        let cause = error.source().unwrap().to_string();
        let said = format!("{error}: {cause}");
        assert!(said.contains("album 1.2"), "{said}");
        assert!(said.contains(&missing.to_string()), "{said}");
        node.shutdown().await;
    }
}
