//! What no reader of the shop would take is refused before anything changes.

use super::PublishError;
use crate::dag::import::ImportedFile;
use crate::ids::{ProductId, Version};
use crate::shop::json::{self, FileJson, MAX_PRODUCT_LEN, MAX_RELEASE_LEN};

/// What a version takes in `product.json` besides its name: two times, keys, and what is between them.
const LINE: usize = 96;
/// The rest of `product.json`: title, short description, price, channels.
const PRODUCT: usize = 64 << 10;
/// The rest of `<version>.json`.
const RELEASE: usize = 4 << 10;

/// Bytes that a version takes in `product.json` at most.
pub(super) fn line_len(version: &Version) -> usize {
    version.as_str().len() + LINE
}

/// Refuses a release whose files of the shop would be refused by who reads them. `listed` bytes are those of the
/// versions so far.
pub(super) fn check(
    product: &ProductId,
    version: &Version,
    files: &[ImportedFile],
    listed: usize,
) -> Result<(), PublishError> {
    check_within(
        product,
        version,
        files,
        listed,
        (MAX_PRODUCT_LEN, MAX_RELEASE_LEN),
    )
}

fn check_within(
    product: &ProductId,
    version: &Version,
    files: &[ImportedFile],
    listed: usize,
    (most_of_product, most_of_release): (usize, usize),
) -> Result<(), PublishError> {
    if let Some(file) = files.iter().find(|file| !json::is_inside(&file.path)) {
        let path = file.path.clone();
        return Err(PublishError::Path { path });
    }
    let product_len = PRODUCT + listed + line_len(version);
    if product_len > most_of_product {
        return Err(PublishError::TooLarge {
            what: format!("the list of versions of {product}"),
            len: product_len,
            limit: most_of_product,
        });
    }
    let lens = files.iter().map(|file| json::file_len(&as_json(file)) + 1);
    let release_len = RELEASE + lens.sum::<usize>();
    if release_len > most_of_release {
        return Err(PublishError::TooLarge {
            what: format!("the list of files of {product} {version}"),
            len: release_len,
            limit: most_of_release,
        });
    }
    Ok(())
}

fn as_json(file: &ImportedFile) -> FileJson {
    FileJson {
        executable: file.executable,
        path: file.path.clone(),
        sha256: "0".repeat(64),
        size: file.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{RAW, cid_of};

    fn files(paths: &[&str]) -> Vec<ImportedFile> {
        let file = |path: &&str| ImportedFile {
            path: (*path).to_owned(),
            cid: cid_of(RAW, path.as_bytes()),
            size: 1,
            executable: false,
        };
        paths.iter().map(file).collect()
    }

    fn checked(paths: &[&str], listed: usize, limits: (usize, usize)) -> Result<(), PublishError> {
        let (product, version) = ("album".parse().unwrap(), "1.2".parse().unwrap());
        check_within(&product, &version, &files(paths), listed, limits)
    }

    #[test]
    fn what_readers_take_is_published_and_what_they_refuse_is_not() {
        let usual = (MAX_PRODUCT_LEN, MAX_RELEASE_LEN);
        assert!(checked(&["a", "b/c"], 0, usual).is_ok());
        let refused = checked(&["a"], MAX_PRODUCT_LEN - PRODUCT, usual).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("the list of versions of album would have")
        );
        let refused = checked(&["a", "b/c"], 0, (MAX_PRODUCT_LEN, RELEASE + 200)).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("the list of files of album 1.2 would have")
        );
        for path in ["", "../a", "a//b", "/a", "a/./b", "a\0b"] {
            let refused = checked(&["a", path], 0, usual);
            assert!(
                matches!(refused, Err(PublishError::Path { .. })),
                "{path:?}"
            );
        }
    }

    #[test]
    fn lengths_are_not_less_than_those_of_the_files() {
        let version: Version = "1.2-beta".parse().unwrap();
        let line = json::VersionJson {
            issued: jiff::Timestamp::UNIX_EPOCH,
            version: version.clone(),
            yanked: Some(jiff::Timestamp::UNIX_EPOCH),
        };
        let written = serde_json::to_string(&line).unwrap().len();
        assert!(written < line_len(&version) && line_len(&version) < written + 32);
        let entry = as_json(&files(&["a \"quoted\" name"])[0]);
        assert_eq!(
            json::file_len(&entry),
            serde_json::to_string(&entry).unwrap().len()
        );
    }
}
