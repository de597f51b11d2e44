//! Which files of a release are executable. The tree does not say (its CID would depend on it); the
//! release's record in the shop does.

use bytes::BytesMut;
use cid::Cid;
use duka_node::dag::unixfs::UnixFs;
use duka_node::dag::{DagError, path, read};
use duka_node::ids::{Channel, ProductId, Version};
use duka_node::shop::json::{self, MAX_PRODUCT_LEN, MAX_RELEASE_LEN};
use duka_node::source::BlockSource;
use futures::TryStreamExt;

use super::failure::{Code, Failure};

/// The executable files below `segments` of the shop directory `root`, their paths relative to that
/// place. None when the place is not inside a release of a shop.
///
/// # Errors
/// When the record is there but cannot be had, or is not one.
pub async fn executables<S: BlockSource + Clone>(
    source: &S,
    root: Cid,
    segments: &[String],
) -> Result<Vec<String>, Failure> {
    let [p, product, label, inside @ ..] = segments else {
        return Ok(Vec::new());
    };
    let (true, Ok(product)) = (p == "p", product.parse::<ProductId>()) else {
        return Ok(Vec::new());
    };
    let version = match (label.parse::<Version>(), label.parse::<Channel>()) {
        (Ok(version), _) => version,
        (_, Ok(channel)) => match channel_of(source, root, &product, &channel).await? {
            Some(version) => version,
            None => return Ok(Vec::new()),
        },
        _ => return Ok(Vec::new()),
    };
    let file = format!("{version}.json");
    let Some(record) = file_of(source, root, &product, file, MAX_RELEASE_LEN).await? else {
        return Ok(Vec::new());
    };
    let record = json::parse_release(&record).map_err(|error| bad_record(&error))?;
    let prefix = inside
        .iter()
        .map(|name| format!("{name}/"))
        .collect::<String>();
    let below = |path: &str| {
        // The place itself is a file: its path below itself is empty.
        if prefix.strip_suffix('/') == Some(path) {
            return Some(String::new());
        }
        path.strip_prefix(&prefix).map(str::to_owned)
    };
    let executable = record.files.iter().filter(|file| file.executable);
    let mut found: Vec<_> = executable.filter_map(|file| below(&file.path)).collect();
    if let ([only], [file]) = (found.as_slice(), record.files.as_slice())
        && *only == file.path
    {
        // A release that is one file has its name in the record, and none in the tree.
        found.push(String::new());
    }
    Ok(found)
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
