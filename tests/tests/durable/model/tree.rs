//! Folders of a few files of which there are not many, so that trees share blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use cid::Cid;
use duka_node::block::{Block, RAW};
use duka_node::dag::import::{ImportOptions, Imported, Sink, import_path};
use duka_node::dag::links::links;
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::disk::crash::memory;
use duka_tests::random::Random;
use tempfile::TempDir;

/// Lengths of the files that there are.
const FILES: [usize; 16] = [
    0, 1, 40, 300, 900, 1_500, 3_000, 4_000, 4_096, 4_500, 6_000, 9_000, 12_000, 20_000, 33_000,
    50_000,
];

/// A folder, by the numbers of its files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tree(BTreeSet<usize>);

impl Tree {
    /// One to four files.
    pub(crate) fn random(random: &mut Random) -> Self {
        let files = (0..=random.below(4)).map(|_| random.below(FILES.len() as u64));
        Self(
            files
                .filter_map(|file| usize::try_from(file).ok())
                .collect(),
        )
    }

    /// Writes it, to be imported.
    pub(crate) fn write(&self) -> Result<TempDir> {
        let dir = tempfile::tempdir_in(memory())?;
        for file in &self.0 {
            let folder = dir.path().join((file % 3).to_string());
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(file.to_string()), content(*file))?;
        }
        Ok(dir)
    }

    /// Stores it; nothing of it is durable yet.
    pub(crate) fn import(&self, store: &Store, kind: PackKind) -> Result<Cid> {
        let dir = self.write()?;
        let sink = Sink::Store(store.clone(), kind);
        let on_progress: duka_node::dag::import::OnProgress = Arc::new(|_| true);
        let options = ImportOptions::default();
        let Imported { root, .. } = import_path(&sink, dir.path(), &options, &on_progress)?;
        Ok(root)
    }
}

fn content(file: usize) -> Vec<u8> {
    let mut bytes = vec![0; FILES[file]];
    Random(file as u64).fill(&mut bytes);
    bytes
}

/// The blocks that trees consist of, by imports into a store of its own.
#[derive(Debug)]
pub(crate) struct Reference {
    store: Store,
    roots: BTreeMap<Tree, Cid>,
    blocks: BTreeMap<Cid, Vec<Block>>,
    _dir: TempDir,
}

impl Reference {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir_in(memory())?;
        let options = StoreOptions {
            reserve: 0,
            ..StoreOptions::default()
        };
        Ok(Self {
            store: Store::open(dir.path(), options)?.0,
            roots: BTreeMap::new(),
            blocks: BTreeMap::new(),
            _dir: dir,
        })
    }

    /// The root of a tree.
    pub(crate) fn root(&mut self, tree: &Tree) -> Result<Cid> {
        if let Some(root) = self.roots.get(tree) {
            return Ok(*root);
        }
        let root = tree.import(&self.store, PackKind::Kept)?;
        let blocks = walk(&self.store, root)?;
        for file in &tree.0 {
            let leaf = Block::of(RAW, Bytes::from(content(*file)));
            ensure!(blocks.contains(&leaf), "file {file} is not in its tree");
        }
        self.roots.insert(tree.clone(), root);
        self.blocks.insert(root, blocks);
        Ok(root)
    }

    /// The blocks of a tree.
    pub(crate) fn blocks(&self, root: &Cid) -> &[Block] {
        &self.blocks[root]
    }

    /// All trees so far.
    pub(crate) fn trees(&self) -> impl ExactSizeIterator<Item = (&Cid, &Vec<Block>)> {
        self.blocks.iter()
    }
}

/// All blocks under a root.
pub(crate) fn walk(store: &Store, root: Cid) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![root];
    while let Some(cid) = waiting.pop() {
        if !seen.insert(cid) {
            continue;
        }
        let found = store.get(&cid);
        let Some(block) = found.with_context(|| format!("{cid} under {root}"))? else {
            bail!("{cid} under {root} is missing");
        };
        waiting.extend(links(&block)?);
        blocks.push(block);
    }
    Ok(blocks)
}
