//! What is kept of a mirrored head: a list in the store, named by the mirror's record. So what is kept
//! changes in the same commit as the head, however much it is.
//!
//! The list is DAG-CBOR. Trees that are kept whole are links of it, so that whoever keeps the list keeps
//! them; single blocks are bytes.

use cid::Cid;
use ipld_core::ipld::Ipld;
use serde::{Deserialize, Serialize};

use crate::block::{Block, DAG_CBOR};
use crate::keys::Name;
use crate::manifest::{Manifest, ManifestError};
use crate::roots::Root;
use crate::store::{PackKind, Store, StoreError};

/// Entries of one block of the list: below 1 MiB.
const ENTRIES: usize = 16_000;

/// One block of the list.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    /// Roots of trees that are kept whole.
    trees: Vec<Cid>,
    /// CIDs of blocks that are kept without what is below them.
    blocks: Vec<Ipld>,
    /// The rest of the list.
    next: Option<Cid>,
}

/// Stores the list (not durable before the next commit). Blocking.
pub(super) fn write(store: &Store, roots: &[Root]) -> Result<Cid, StoreError> {
    let mut next = None;
    let mut pages: Vec<&[Root]> = roots.chunks(ENTRIES).collect();
    if pages.is_empty() {
        pages.push(&[]);
    }
    for page in pages.into_iter().rev() {
        let trees = page.iter().filter(|root| root.recursive);
        let blocks = page.iter().filter(|root| !root.recursive);
        let page = Page {
            trees: trees.map(|root| root.cid).collect(),
            blocks: blocks
                .map(|root| Ipld::Bytes(root.cid.to_bytes()))
                .collect(),
            next,
        };
        let bytes = serde_ipld_dagcbor::to_vec(&page).expect("links and bytes have a CBOR form");
        let block = Block::of(DAG_CBOR, bytes.into());
        next = Some(*block.cid());
        store.put(PackKind::Kept, std::slice::from_ref(&block))?;
    }
    Ok(next.expect("there is at least one page"))
}

/// What the list has, itself included. Where a page is missing or damaged the rest is not known; whoever
/// walks the list itself notices. Blocking.
pub(crate) fn read(store: &Store, list: Cid) -> Result<Vec<Root>, StoreError> {
    let mut roots = vec![Root::whole(list)];
    let mut next = Some(list);
    while let Some(cid) = next {
        let Some(block) = store.get_whole(&cid)? else {
            break;
        };
        let Ok(page) = serde_ipld_dagcbor::from_slice::<Page>(block.data()) else {
            break;
        };
        roots.extend(page.trees.into_iter().map(Root::whole));
        roots.extend(page.blocks.into_iter().filter_map(|block| match block {
            Ipld::Bytes(bytes) => Some(Root {
                cid: Cid::try_from(bytes).ok()?,
                recursive: false,
            }),
            _ => None,
        }));
        next = page.next;
    }
    Ok(roots)
}

/// The shop whose mirror keeps this. Blocking.
pub(crate) fn keeper<E>(store: &Store, manifest: &Manifest, root: Root) -> Result<Option<Name>, E>
where
    E: From<ManifestError> + From<StoreError>,
{
    for row in manifest.mirrors() {
        let (shop, mirror) = row?;
        if let Some(held) = mirror.held
            && read(store, held.kept)?.contains(&root)
        {
            return Ok(Some(shop));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{DAG_PB, RAW, cid_of};
    use crate::gc::{self, GcOptions};
    use crate::manifest::record::MirrorPolicy;
    use crate::mirror::testing;
    use crate::store::StoreOptions;

    #[test]
    fn a_list_of_several_pages_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        let (store, _) = Store::open(dir.path(), options).unwrap();
        for count in [0, 1, ENTRIES, 2 * ENTRIES + 1] {
            let roots: Vec<Root> = (0..count)
                .map(|n| Root {
                    cid: cid_of(RAW, n.to_string().as_bytes()),
                    recursive: n % 3 != 0,
                })
                .collect();
            let list = write(&store, &roots).unwrap();
            let read = read(&store, list).unwrap();
            assert_eq!(read[0], Root::whole(list));
            let mut read = read[1..].to_vec();
            let mut roots = roots;
            read.sort_by_key(|root| root.cid);
            roots.sort_by_key(|root| root.cid);
            assert_eq!(read, roots);
        }
    }
    #[tokio::test]
    async fn a_collection_that_stops_names_the_mirror() {
        let (node, _dir) = testing::node().await;
        let nowhere = Root::whole(cid_of(DAG_PB, b"nowhere"));
        let kept = write(node.store(), &[nowhere]).unwrap();
        testing::hold(&node, nowhere.cid, kept, MirrorPolicy::default()).await;
        let options = GcOptions {
            dry_run: false,
            seal: false,
            bytes_per_second: 0,
            spare_recent: false,
        };
        let stopped = gc::collect(&node, options).await.unwrap_err();
        let starts = format!("the mirror of {} keeps the tree ", node.shop_name());
        assert!(stopped.to_string().starts_with(&starts), "{stopped}");
    }
}
