//! What a new head has that the one before does not have at the same place: all else is here already, and
//! is not looked at.

use std::collections::{HashMap, HashSet};

use cid::Cid;

use crate::dag::DagError;
use crate::dag::read::load;
use crate::dag::unixfs::{Link, UnixFs};
use crate::dag::walk::key;
use crate::source::BlockSource;

/// Nodes that are compared, or wait to be: about 200 bytes each. What is beyond is fetched whole.
const MAX_COMPARED: usize = 1 << 20;

/// Trees below `new` that are not under the same name below `before`, which is whole in the source `here`.
/// Directories above them are fetched on the way.
pub(super) async fn trees<S: BlockSource, L: BlockSource>(
    source: &S,
    here: &L,
    before: Option<&Link>,
    new: &Link,
) -> Result<Vec<Link>, DagError> {
    let (mut trees, mut seen) = (Vec::new(), HashSet::new());
    let mut waiting = vec![(before.cloned(), new.clone())];
    while let Some((before, new)) = waiting.pop() {
        let is_here = before.as_ref().is_some_and(|before| before.cid == new.cid);
        if is_here || !seen.insert(key(&new.cid)) {
            continue;
        }
        if seen.len() + waiting.len() > MAX_COMPARED {
            trees.push(new);
            continue;
        }
        let known = match before {
            Some(before) => entries(here, &before.cid).await.unwrap_or_default(),
            None => None,
        };
        let Some(known) = known else {
            trees.push(new);
            continue;
        };
        let Some(entries) = entries(source, &new.cid).await? else {
            trees.push(new);
            continue;
        };
        let mut known: HashMap<Vec<u8>, Link> = known
            .into_iter()
            .map(|link| (link.name.clone(), link))
            .collect();
        for link in entries {
            waiting.push((known.remove(&link.name), link));
        }
    }
    Ok(trees)
}

/// The links of a directory's node; `None` when it is none.
async fn entries<S: BlockSource>(source: &S, cid: &Cid) -> Result<Option<Vec<Link>>, DagError> {
    Ok(match load(source, cid).await {
        Ok(UnixFs::Directory(dir)) => Some(dir.links),
        Ok(UnixFs::Shard(shard)) => Some(shard.links),
        Ok(_) | Err(DagError::WrongKind { .. }) => None,
        Err(error) => return Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, RAW};
    use crate::dag::hamt::{Entry, build_directory};
    use crate::dag::import::Profile;
    use crate::dag::unixfs::Metadata;
    use crate::source::memory::MemorySource;

    fn link(cid: Cid) -> Link {
        let name = Vec::new();
        Link {
            cid,
            name,
            tsize: 0,
        }
    }

    fn directory(source: &MemorySource, entries: impl IntoIterator<Item = (String, Cid)>) -> Cid {
        let entries = entries.into_iter().map(|(name, cid)| Entry {
            name,
            cid,
            tsize: 0,
        });
        let built =
            build_directory(entries.collect(), Metadata::default(), Profile::default()).unwrap();
        source.extend(built.blocks);
        built.root
    }

    /// A large directory of small ones; the file of number `changed` is another one.
    fn tree(source: &MemorySource, changed: Option<usize>) -> Cid {
        let folders = (0..20_000).map(|number| {
            let bytes = if changed == Some(number) {
                "changed".to_owned()
            } else {
                number.to_string()
            };
            let file = source.put(Block::of(RAW, bytes.into()));
            let folder = directory(source, [("file".to_owned(), file)]);
            (format!("folder {number:0>20}"), folder)
        });
        directory(source, folders)
    }

    #[tokio::test]
    async fn only_what_changed_is_read() {
        let source = MemorySource::default();
        let before = tree(&source, None);
        let new = tree(&source, Some(7));
        source.take_asked();
        let found = trees(&source, &source, Some(&link(before)), &link(new))
            .await
            .unwrap();
        let changed = crate::block::cid_of(RAW, b"changed");
        assert_eq!(
            found.iter().map(|tree| tree.cid).collect::<Vec<_>>(),
            [changed]
        );
        let asked = source.take_asked().len();
        assert!(asked < 12, "{asked} blocks were read");
        let same = trees(&source, &source, Some(&link(new)), &link(new)).await;
        assert_eq!(same.unwrap(), []);
        let all = trees(&source, &source, None, &link(new)).await.unwrap();
        assert_eq!(all, [link(new)]);
    }

    #[tokio::test]
    async fn what_cannot_be_compared_is_fetched_whole() {
        let source = MemorySource::default();
        let file = source.put(Block::of(RAW, "file".into()));
        let folder = directory(&source, [("a".to_owned(), file)]);
        let absent = crate::block::cid_of(RAW, b"absent");
        for before in [file, absent] {
            let found = trees(&source, &source, Some(&link(before)), &link(folder)).await;
            assert_eq!(found.unwrap(), [link(folder)]);
        }
        let found = trees(&source, &source, Some(&link(folder)), &link(file)).await;
        assert_eq!(found.unwrap(), [link(file)]);
    }
}
