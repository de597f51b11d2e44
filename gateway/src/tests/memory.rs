//! A backend in memory: blocks from CAR files, and the same behind a "network".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use duka_node::block::{Block, Multihash};
use duka_node::dag::DagError;
use duka_node::dag::path::{self, Resolved};
use duka_node::denylist::Denylists;
use duka_node::keys::Name;
use duka_node::name::{NameError, ResolvedName};
use duka_node::rate::Rate;
use duka_node::search::SearchError;
use duka_node::source::{BlockSource, FetchError};
use tokio::sync::Semaphore;

use crate::api::{Hit, SearchPage};
use crate::ipfs::Backend;

/// Blocks by hash.
#[derive(Clone, Debug)]
pub(super) struct MemorySource {
    blocks: Arc<HashMap<Multihash, Bytes>>,
    /// Answers only as long as there are permits: a network that can hang.
    answers: Option<Arc<Semaphore>>,
    /// How long it is waited for an answer.
    patience: Duration,
    denylists: Denylists,
}

/// Some blocks here, others (or none) on the network.
#[derive(Clone, Debug)]
pub(super) struct MemoryBackend {
    local: MemorySource,
    remote: Option<MemorySource>,
    names: Arc<HashMap<Name, ResolvedName>>,
    denylists: Denylists,
    online: bool,
}

impl MemoryBackend {
    pub(super) fn with_test_data() -> Self {
        Self::without(&[])
    }

    /// The test data, except for some blocks.
    pub(super) fn without(missing: &[&str]) -> Self {
        let mut blocks = HashMap::new();
        read_car(include_bytes!("../../testdata/tree.car"), &mut blocks);
        read_car(include_bytes!("../../testdata/hamt.car"), &mut blocks);
        for cid in missing {
            let cid: Cid = cid.parse().unwrap();
            blocks.remove(cid.hash()).unwrap();
        }
        let local = MemorySource {
            blocks: Arc::new(blocks),
            answers: None,
            patience: Duration::from_secs(30),
            denylists: Denylists::default(),
        };
        Self {
            local,
            remote: None,
            names: Arc::default(),
            denylists: Denylists::default(),
            online: false,
        }
    }

    /// Nothing but the blocks of a CAR.
    pub(super) fn of_car(car: &[u8]) -> Self {
        let mut backend = Self::with_test_data();
        let blocks = sections(car).into_iter();
        backend.local.blocks = Arc::new(blocks.map(|(cid, data)| (*cid.hash(), data)).collect());
        backend
    }

    /// The test data, where DNS servers may be asked.
    pub(super) fn online() -> Self {
        Self {
            online: true,
            ..Self::with_test_data()
        }
    }

    /// Everything is on the network, which answers as long as `answers` has permits.
    pub(super) fn remote(answers: Arc<Semaphore>) -> Self {
        let mut backend = Self::with_test_data();
        let empty = MemorySource {
            blocks: Arc::default(),
            answers: None,
            patience: Duration::from_secs(30),
            denylists: Denylists::default(),
        };
        let full = std::mem::replace(&mut backend.local, empty);
        backend.remote = Some(MemorySource {
            answers: Some(answers),
            ..full
        });
        backend
    }

    /// The network has so long to answer.
    pub(super) fn waits(mut self, patience: Duration) -> Self {
        if let Some(remote) = &mut self.remote {
            remote.patience = patience;
        }
        self
    }

    /// Adds a block made by a test and returns its CID.
    pub(super) fn add(&mut self, codec: u64, data: impl Into<Vec<u8>>) -> Cid {
        let block = Block::of(codec, Bytes::from(data.into()));
        let cid = *block.cid();
        Arc::make_mut(&mut self.local.blocks).insert(*cid.hash(), block.into_data());
        cid
    }

    /// Serves no block and no path that a list with these lines names.
    pub(super) fn deny(&mut self, lines: &str) {
        let mut list = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut list, lines.as_bytes()).unwrap();
        self.denylists = Denylists::load(&[list.path()]).unwrap();
        self.local.denylists = self.denylists.clone();
    }

    pub(super) fn add_name(&mut self, name: Name, resolved: ResolvedName) {
        Arc::make_mut(&mut self.names).insert(name, resolved);
    }
}

impl Backend for MemoryBackend {
    type Local = MemorySource;
    type Remote = MemorySource;

    fn local(&self) -> MemorySource {
        self.local.clone()
    }

    fn rate(&self) -> Option<Rate> {
        None
    }

    async fn resolve_path(&self, root: Cid, segments: &[String]) -> Result<Resolved, DagError> {
        path::resolve(&self.local, root, segments).await
    }

    fn denylists(&self) -> &Denylists {
        &self.denylists
    }

    fn may_retrieve(&self) -> bool {
        self.remote.is_some()
    }

    fn is_online(&self) -> bool {
        self.online
    }

    fn remote(&self) -> MemorySource {
        self.remote.clone().unwrap()
    }

    async fn resolve_name(&self, name: &Name) -> Result<ResolvedName, NameError> {
        self.names
            .get(name)
            .cloned()
            .ok_or_else(|| NameError::NotFound {
                name: name.clone(),
                tried: "memory".to_owned(),
            })
    }

    async fn peer(&self) -> Option<(String, Vec<String>)> {
        Some(("peer".to_owned(), vec!["/ip4/127.0.0.1/tcp/1".to_owned()]))
    }

    async fn search(&self, terms: String, limit: usize) -> Result<SearchPage, SearchError> {
        if terms == "busy" {
            return Err(SearchError::Busy);
        }
        let hit = Hit {
            product: terms,
            title: String::new(),
            price: None,
            path: String::new(),
        };
        let results = vec![hit; limit.min(1)];
        Ok(SearchPage { results, total: 1 })
    }
}

impl BlockSource for MemorySource {
    async fn fetch(&self, cid: &Cid) -> Result<Block, FetchError> {
        if let Some(source) = self.denylists.check_block(cid) {
            return Err(FetchError::Denied { cid: *cid, source });
        }
        if let Some(answers) = &self.answers {
            let answer = tokio::time::timeout(self.patience, answers.acquire()).await;
            let Ok(answer) = answer else {
                return Err(FetchError::TimedOut {
                    cid: *cid,
                    tried: "a network in memory was asked".to_owned(),
                });
            };
            answer.unwrap().forget();
        }
        if let Some(block) = Block::inlined(cid)? {
            return Ok(block);
        }
        match self.blocks.get(cid.hash()) {
            Some(data) => Ok(Block::new(*cid, data.clone())?),
            None => Err(FetchError::NotFound {
                cid: *cid,
                tried: "not in memory".to_owned(),
            }),
        }
    }
}

/// A dag-pb node: a folder with these entries.
pub(super) fn folder(entries: &[(&str, &Cid)]) -> Vec<u8> {
    let links = entries.iter().flat_map(|(name, target)| link(name, target));
    [links.collect(), field(0x0a, b"\x08\x01")].concat()
}

/// A dag-pb node: a file of these parts, each with its length.
pub(super) fn file(parts: &[(Cid, u64)]) -> Vec<u8> {
    let links = parts.iter().flat_map(|(target, _)| link("", target));
    let size = parts.iter().map(|(_, len)| len).sum();
    let mut data = [&b"\x08\x02\x18"[..], &varint(size)].concat();
    for (_, len) in parts {
        data.push(0x20);
        data.extend(varint(*len));
    }
    [links.collect(), field(0x0a, &data)].concat()
}

/// A DAG-CBOR list of up to 23 links.
pub(super) fn document(links: &[Cid]) -> Vec<u8> {
    let mut list = vec![0x80 | u8::try_from(links.len()).unwrap()];
    for link in links {
        let cid = link.to_bytes();
        let len = u8::try_from(cid.len() + 1).unwrap();
        list.extend([0xd8, 0x2a]);
        match len {
            ..24 => list.push(0x40 | len),
            _ => list.extend([0x58, len]),
        }
        list.push(0);
        list.extend(cid);
    }
    list
}

fn link(name: &str, target: &Cid) -> Vec<u8> {
    let hash = field(0x0a, &target.to_bytes());
    let name = field(0x12, name.as_bytes());
    field(0x12, &[hash, name, vec![0x18, 1]].concat())
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag], &varint(bytes.len() as u64)[..], bytes].concat()
}

fn varint(number: u64) -> Vec<u8> {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    unsigned_varint::encode::u64(number, &mut buffer).to_vec()
}

fn read_car(car: &'static [u8], blocks: &mut HashMap<Multihash, Bytes>) {
    for (cid, data) in sections(car) {
        blocks.insert(*cid.hash(), data);
    }
}

/// The sections of a CARv1, each verified.
pub(super) fn sections(car: &[u8]) -> Vec<(Cid, Bytes)> {
    let (header, mut rest) = unsigned_varint::decode::usize(car).unwrap();
    rest = &rest[header..];
    let mut sections = Vec::new();
    while !rest.is_empty() {
        let (len, after) = unsigned_varint::decode::usize(rest).unwrap();
        let (mut section, next) = after.split_at(len);
        let cid = Cid::read_bytes(&mut section).unwrap();
        let block = Block::new(cid, Bytes::copy_from_slice(section)).unwrap();
        sections.push((cid, block.into_data()));
        rest = next;
    }
    sections
}
