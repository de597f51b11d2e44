//! What a shop says of the files of a release besides their tree: their SHA-256, and which of them are
//! executable (the CID of the tree would depend on it).

use std::path::Path;

use bytes::BytesMut;
use cid::Cid;
use duka_node::dag::unixfs::UnixFs;
use duka_node::dag::{DagError, path, read};
use duka_node::get::RecordedFile;
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::shop::json::{self, FileJson, MAX_PRODUCT_LEN, MAX_RELEASE_LEN};
use duka_node::source::BlockSource;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::failure::{Code, Failure};

/// The SHA-256 of one file that is read through, where a record says what it is.
#[derive(Debug)]
pub struct Sum(Option<(Sha256, [u8; 32])>);

impl Sum {
    /// Of the one file of a record; of nothing, where there is none.
    pub fn of(record: Option<Vec<RecordedFile>>) -> Self {
        let files = record.unwrap_or_default();
        Self(match files.as_slice() {
            [file] if file.path.is_empty() => Some((Sha256::new(), file.sha256)),
            _ => None,
        })
    }

    /// Takes the next bytes of the file.
    pub fn add(&mut self, data: &[u8]) {
        if let Some((hasher, _)) = &mut self.0 {
            hasher.update(data);
        }
    }

    /// The file is at its end.
    ///
    /// # Errors
    /// [`Code::Corrupt`] when the record says something else.
    pub fn check(self) -> Result<(), Failure> {
        let Some((hasher, wanted)) = self.0 else {
            return Ok(());
        };
        if hasher.finalize().as_slice() == wanted {
            return Ok(());
        }
        let message = "the record of the release has another SHA-256 of this file";
        Err(Failure::new(Code::Corrupt, message)
            .hint("use nothing of what was written, and tell the owner of the shop"))
    }
}

/// What the shop directory `root` says of the files below `segments`, their paths relative to that
/// place. `None` when the place is not inside a release of a shop, or nothing is said of it.
///
/// # Errors
/// When the record is there but cannot be had, is not one, or is that of another tree.
pub async fn recorded_files<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    segments: &[String],
) -> Result<Option<Vec<RecordedFile>>, Failure> {
    let [p, product, label, inside @ ..] = segments else {
        return Ok(None);
    };
    let (true, Ok(product)) = (p == "p", product.parse::<ProductId>()) else {
        return Ok(None);
    };
    let version = match (label.parse::<Version>(), label.parse::<Channel>()) {
        (Ok(version), _) => version,
        (_, Ok(channel)) => match channel_of(source, root, &product, &channel).await? {
            Some(version) => version,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let file = format!("{version}.json");
    let Some(record) = file_of(source, root, &product, file, MAX_RELEASE_LEN).await? else {
        return Ok(None);
    };
    let record = json::parse_release(&record).map_err(|error| bad_record(&error))?;
    let release = [p.clone(), product.to_string(), label.clone()];
    let tree = path::resolve(source, root, &release).await?.cid;
    if record.cid != tree.to_string() {
        let message = format!("the record of {product} {version} is that of another tree of files");
        return Err(Failure::new(Code::Corrupt, message).hint("tell the owner of the shop"));
    }
    // A release that is one file has its name in the record, and none in the tree.
    if let [file] = record.files.as_slice()
        && matches!(read::load(source, &tree).await?, UnixFs::File(_))
    {
        return Ok(Some(vec![recorded(file, "")?]));
    }
    let files = below(&record.files, &inside.join("/"))?;
    Ok(Some(files).filter(|files| inside.is_empty() || !files.is_empty()))
}

/// The files below the place `inside` of a release.
fn below(files: &[FileJson], inside: &str) -> Result<Vec<RecordedFile>, Failure> {
    let files = files.iter().filter_map(|file| {
        let path = Path::new(&file.path).strip_prefix(inside).ok()?;
        Some(recorded(file, path.to_str()?))
    });
    files.collect()
}

fn recorded(file: &FileJson, path: &str) -> Result<RecordedFile, Failure> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&file.sha256, &mut sha256)
        .map_err(|error| Failure::of(Code::Corrupt, &error))?;
    Ok(RecordedFile {
        path: path.to_owned(),
        size: file.size,
        sha256,
        executable: file.executable,
    })
}

async fn channel_of<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    product: &ProductId,
    channel: &Channel,
) -> Result<Option<Version>, Failure> {
    let file = "product.json".to_owned();
    let Some(record) = file_of(source, root, product, file, MAX_PRODUCT_LEN).await? else {
        return Ok(None);
    };
    let record = json::parse_product(&record).map_err(|error| bad_record(&error))?;
    Ok(record.channels.get(channel).cloned())
}

/// A file of the product's folder; `None` when there is none.
pub(super) async fn file_of<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    product: &ProductId,
    file: String,
    max_len: usize,
) -> Result<Option<BytesMut>, Failure> {
    let segments = ["products".to_owned(), product.to_string(), file];
    let found = match path::resolve(source, root, &segments).await {
        Ok(found) => found.cid,
        Err(DagError::NoLink { .. } | DagError::WrongKind { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let UnixFs::File(file) = read::load(source, &found).await? else {
        return Ok(None);
    };
    if file.size > max_len as u64 {
        let message = format!("the record of {product} is larger than {max_len} bytes");
        return Err(Failure::new(Code::Limit, message));
    }
    let bytes = read::read_range(source, found, 0..file.size);
    Ok(Some(bytes.try_collect().await?))
}

pub(super) fn bad_record(error: &json::JsonError) -> Failure {
    Failure::of(Code::Corrupt, error)
}
