//! Reads what pages show out of the store.

use std::collections::HashMap;

use cid::Cid;

use super::super::json::FileJson;
use crate::dag::unixfs::{Link, UnixFs, decode};
use crate::publish::FileEntry;
use crate::store::{Store, StoreError};

/// Longest text that a page shows, in bytes.
const MAX_TEXT_LEN: usize = 128 << 10;
/// Bytes of a list of files that are read for a page.
const MAX_LIST_LEN: usize = 256 << 10;

/// The beginning of a stored text; `None` when it is not here, or damaged.
pub(super) fn text(store: &Store, cid: &Cid) -> Result<Option<String>, StoreError> {
    let bytes = beginning(store, cid, MAX_TEXT_LEN)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The links of a plain directory; none when it is not here.
pub(super) fn folder(store: &Store, cid: &Cid) -> Result<Vec<Link>, StoreError> {
    let block = store.get_whole(cid)?;
    Ok(match block.as_ref().map(decode) {
        Some(Ok(UnixFs::Directory(folder))) => folder.links,
        _ => Vec::new(),
    })
}

/// The first `most` files of a release's list.
pub(super) fn files(
    store: &Store,
    list: &Cid,
    most: usize,
) -> Result<Option<Vec<FileEntry>>, StoreError> {
    let bytes = beginning(store, list, MAX_LIST_LEN)?;
    Ok(bytes.map(|bytes| {
        let lines = bytes.split(|byte| *byte == b'\n').take(most);
        lines
            .map_while(|line| serde_json::from_slice(line).ok())
            .collect()
    }))
}

/// SHA-256 of the first files of a release's record, by path.
pub(super) fn checksums(
    store: &Store,
    record: &Cid,
) -> Result<Option<HashMap<String, String>>, StoreError> {
    let bytes = beginning(store, record, MAX_LIST_LEN)?;
    Ok(bytes.map(|bytes| parse_checksums(&bytes)))
}

fn parse_checksums(record: &[u8]) -> HashMap<String, String> {
    const BEFORE_FILES: &[u8] = b"\"files\":[";
    let mut checksums = HashMap::new();
    let at = record
        .windows(BEFORE_FILES.len())
        .position(|w| w == BEFORE_FILES);
    let mut rest = at.map_or(&[][..], |at| &record[at + BEFORE_FILES.len()..]);
    loop {
        let mut files = serde_json::Deserializer::from_slice(rest).into_iter::<FileJson>();
        let Some(Ok(file)) = files.next() else {
            return checksums;
        };
        checksums.insert(file.path, file.sha256);
        let after = &rest[files.byte_offset()..];
        rest = after.strip_prefix(b",").unwrap_or_default();
    }
}

/// At most so many first bytes of a file; `None` when a block of it is not here, or damaged.
pub(crate) fn beginning(
    store: &Store,
    root: &Cid,
    most: usize,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    let mut todo = vec![*root];
    while let Some(cid) = todo.pop() {
        let Some(block) = store.get_whole(&cid)? else {
            return Ok(None);
        };
        let Ok(UnixFs::File(file)) = decode(&block) else {
            return Ok(None);
        };
        bytes.extend_from_slice(&file.data);
        if bytes.len() >= most {
            bytes.truncate(most);
            break;
        }
        todo.extend(file.children.iter().rev().map(|(cid, _)| *cid));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_a_cut_record_are_those_of_its_whole_entries() {
        let entry = |path: &str| {
            format!("{{\"executable\":false,\"path\":\"{path}\",\"sha256\":\"ab\",\"size\":1}}")
        };
        let record = format!(
            "{{\"cid\":\"b\",\"files\":[{},{}],\"format\":1}}",
            entry("a"),
            entry("b")
        );
        assert_eq!(parse_checksums(record.as_bytes()).len(), 2);
        assert_eq!(parse_checksums(&record.as_bytes()[..90]).len(), 1);
        assert!(parse_checksums(b"no record").is_empty());
    }
}
