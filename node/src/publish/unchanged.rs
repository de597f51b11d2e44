//! A publish of files that are published already: no new version, but all else that it asks for.

use cid::Cid;

use super::{PublishError, PublishOptions, say, texts};
use crate::announce;
use crate::channel::history;
use crate::dag::import::Imported;
use crate::ids::Version;
use crate::manifest::change::{Change, Expect, Op};
use crate::manifest::record::{JobId, Release};
use crate::manifest::{Manifest, ManifestError};
use crate::node::Node;

/// What was done besides.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The job of the head that shows it, if anything changed.
    pub(super) job: Option<JobId>,
    /// The version has other notes, which it keeps.
    pub(super) notes_kept: bool,
}

/// The release that has this root and is offered: what the channel names, else the newest one.
pub(super) fn same(
    manifest: &Manifest,
    options: &PublishOptions,
    newest: Option<(Version, Release)>,
    root: Cid,
) -> Result<Option<(Version, Release)>, ManifestError> {
    let id = &options.product;
    let product = manifest.product(id)?;
    let named = product.and_then(|product| product.channels.get(&options.channel()).cloned());
    let named = match named {
        Some(version) => manifest
            .release(id, &version)?
            .map(|found| (version, found)),
        None => None,
    };
    let mut offered = named.into_iter().chain(newest);
    Ok(offered.find(|(_, release)| release.root == root && release.yanked.is_none()))
}

/// Moves the channel and sets the texts, in one commit, where they are not so already.
pub(super) async fn update(
    node: &Node,
    options: &PublishOptions,
    tree: &Imported,
    version: &Version,
    release: &Release,
) -> Result<Done, PublishError> {
    let (manifest, id) = (node.manifest(), &options.product);
    let texts = texts::import(node, options, &tree.files).await?;
    let notes_kept = texts.notes.is_some() && texts.notes != release.notes;
    let before = manifest.known_product(id)?;
    let mut product = before.clone();
    say(&mut product, options, texts.description, texts.cover);
    let channel = options.channel();
    // A rollback is not undone by who asks for no channel.
    if options.channel.is_some()
        || !history::has_named(manifest, id, &product, &channel, release.number)?
    {
        let release = (version, release.number);
        history::point(manifest, id, &mut product, &channel, release)?;
    }
    if product == before {
        return Ok(Done {
            job: None,
            notes_kept,
        });
    }
    node.commit_blocks().await?;
    let change = Change {
        expect: vec![Expect::ReleasePresent(id.clone(), version.clone())],
        ops: vec![Op::PutProduct(id.clone(), product)],
    };
    let job = announce::commit(node, change).await?;
    Ok(Done {
        job: Some(job),
        notes_kept,
    })
}
