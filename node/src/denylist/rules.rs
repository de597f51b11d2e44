//! The rules of all lists, and what they say of what is asked for.
//!
//! Everything is looked up by a hash, so that the number of rules does not matter: a rule of a plain
//! CID or path by one made here, a double-hashed one by the hash that the list gives.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cid::Cid;
use multibase::Base;
use multihash_codetable::{Code, MultihashDigest};
use sha2::{Digest, Sha256};

use super::line::{Hash, Item, Line, Root};
use crate::block::{Multihash, SHA2_256};

/// Content or a name that a denylist names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is on the denylist {list:?}")]
pub struct Denied {
    /// What the list calls itself, else its file.
    pub list: Arc<str>,
    /// How an HTTP gateway says so.
    pub status: Status,
}

/// How an HTTP gateway refuses what is denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// 410: it is not served any more.
    #[default]
    Gone,
    /// 451: for legal reasons.
    Legal,
}

impl Status {
    /// What a hint says about it; all others say nothing.
    pub(super) fn of_hint(name: &str, value: &str) -> Option<Self> {
        match (name, value) {
            ("gateway_status", "410") => Some(Self::Gone),
            ("gateway_status", "451") => Some(Self::Legal),
            _ => None,
        }
    }
}

/// Half of a SHA-256, or of another hash that a list uses: nobody finds two things with the same one.
type Key = [u8; 16];

/// What the last line says that names something.
#[derive(Clone, Copy)]
struct Rule {
    /// Lines count on through all lists: the last one wins.
    order: u32,
    list: u16,
    /// `None` when it is allowed.
    denied: Option<Status>,
}

/// The rules of all lists.
#[derive(Default)]
pub(super) struct Rules {
    lists: Vec<Arc<str>>,
    /// Roots and paths, by [`exact_key`].
    exact: HashMap<Key, Rule>,
    /// Prefixes of paths, by the key of their root.
    prefixes: HashMap<Key, Prefixes>,
    /// By double hashes.
    hashed: HashMap<Key, Rule>,
    /// The hash functions that modern double hashes use.
    functions: Vec<u64>,
    has_legacy: bool,
    lines: u32,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("lists", &self.lists)
            .field("rules", &self.count())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Prefixes {
    rules: HashMap<Box<str>, Rule>,
    /// Their lengths, ascending.
    lens: Vec<usize>,
}

impl Rules {
    /// Begins a list; [`Rules::add`] adds its lines.
    ///
    /// # Errors
    /// There are 65,536 lists already.
    pub(super) fn begin_list(&mut self, name: &str) -> Result<ListId, TooManyLists> {
        let id = u16::try_from(self.lists.len()).map_err(|_| TooManyLists)?;
        self.lists.push(name.into());
        Ok(ListId(id))
    }

    pub(super) fn add(&mut self, list: ListId, line: Line, default: Status) {
        self.lines = self.lines.saturating_add(1);
        let rule = Rule {
            order: self.lines,
            list: list.0,
            denied: (!line.allow).then(|| line.status.unwrap_or(default)),
        };
        match line.item {
            Item::Path { root, path } => {
                self.exact.insert(exact_key(&root.as_ref(), &path), rule);
            }
            Item::Prefix { root, path } => {
                let prefixes = self.prefixes.entry(exact_key(&root.as_ref(), ""));
                prefixes.or_default().insert(path, rule);
            }
            Item::Hashes(hashes) => {
                for hash in hashes {
                    self.add_hash(&hash, rule);
                }
            }
        }
    }

    fn add_hash(&mut self, hash: &Hash, rule: Rule) {
        let key = match hash {
            Hash::Legacy(digest) => {
                self.has_legacy = true;
                half(digest)
            }
            Hash::Modern(hash) => {
                if !self.functions.contains(&hash.code()) {
                    self.functions.push(hash.code());
                }
                key_of_hash(hash)
            }
        };
        self.hashed.insert(key, rule);
    }

    /// All lines were added.
    pub(super) fn finish(&mut self) {
        self.exact.shrink_to_fit();
        self.hashed.shrink_to_fit();
    }

    pub(super) fn count(&self) -> usize {
        let prefixes = self.prefixes.values();
        let prefixes = prefixes.map(|prefixes| prefixes.rules.len());
        self.exact.len() + self.hashed.len() + prefixes.sum::<usize>()
    }

    /// Whether `path` (without slashes around it) below `root` is denied.
    pub(super) fn check(&self, root: &RootRef<'_>, path: &str) -> Option<Denied> {
        let plain = self.plain_rule(root, path);
        let hashed = self.hashed_rule(root, path);
        let rule = plain.max_by_order(hashed)?;
        Some(Denied {
            status: rule.denied?,
            list: Arc::clone(self.lists.get(usize::from(rule.list))?),
        })
    }

    fn plain_rule(&self, root: &RootRef<'_>, path: &str) -> Option<Rule> {
        let exact = match self.exact.is_empty() {
            true => None,
            false => self.exact.get(&exact_key(root, path)).copied(),
        };
        let prefix = match self.prefixes.is_empty() {
            true => None,
            false => self
                .prefixes
                .get(&exact_key(root, ""))
                .and_then(|prefixes| prefixes.find(path)),
        };
        exact.max_by_order(prefix)
    }

    fn hashed_rule(&self, root: &RootRef<'_>, path: &str) -> Option<Rule> {
        let mut found = None;
        if self.has_legacy {
            let text = root.legacy_text(path);
            let rule = self.hashed.get(&half(&Sha256::digest(text))).copied();
            found = found.max_by_order(rule);
        }
        if !self.functions.is_empty() {
            let text = root.modern_text(path);
            for function in &self.functions {
                let key = match *function {
                    SHA2_256 => half(&Sha256::digest(&text)),
                    other => match Code::try_from(other) {
                        Ok(code) => key_of_hash(&code.digest(text.as_bytes())),
                        Err(_) => continue,
                    },
                };
                found = found.max_by_order(self.hashed.get(&key).copied());
            }
        }
        found
    }
}

/// Names a list of [`Rules`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ListId(u16);

/// No more lists can be told apart.
#[derive(Debug)]
pub(super) struct TooManyLists;

impl Prefixes {
    fn insert(&mut self, prefix: String, rule: Rule) {
        if let Err(at) = self.lens.binary_search(&prefix.len()) {
            self.lens.insert(at, prefix.len());
        }
        self.rules.insert(prefix.into(), rule);
    }

    fn find(&self, path: &str) -> Option<Rule> {
        let lens = self.lens.iter().take_while(|len| **len <= path.len());
        lens.filter_map(|len| self.rules.get(path.get(..*len)?).copied())
            .max_by_key(|rule| rule.order)
    }
}

trait Later {
    fn max_by_order(self, other: Self) -> Self;
}

impl Later for Option<Rule> {
    fn max_by_order(self, other: Self) -> Self {
        self.into_iter().chain(other).max_by_key(|rule| rule.order)
    }
}

/// Where a path begins that somebody asks for.
#[derive(Debug)]
pub(super) enum RootRef<'a> {
    Content(&'a Cid),
    Key(&'a Cid),
    Domain(&'a str),
    /// In a list, where a CID stands for its multihash.
    ContentHash(&'a Multihash),
    KeyHash(&'a Multihash),
}

impl Root {
    fn as_ref(&self) -> RootRef<'_> {
        match self {
            Self::Content(hash) => RootRef::ContentHash(hash),
            Self::Key(hash) => RootRef::KeyHash(hash),
            Self::Domain(domain) => RootRef::Domain(domain),
        }
    }
}

impl RootRef<'_> {
    /// What is hashed for a double hash, as lists do it since IPIP-383.
    fn modern_text(&self, path: &str) -> String {
        let root = match self {
            Self::Content(cid) | Self::Key(cid) => base58(cid.hash()),
            Self::ContentHash(hash) | Self::KeyHash(hash) => base58(hash),
            Self::Domain(domain) => format!("/ipns/{domain}"),
        };
        match path.is_empty() {
            true => root,
            false => format!("{root}/{path}"),
        }
    }

    /// What is hashed for a double hash, as lists did it before.
    fn legacy_text(&self, path: &str) -> String {
        let root = match self {
            Self::Content(cid) | Self::Key(cid) => {
                let cid = Cid::new_v1(cid.codec(), *cid.hash());
                cid.to_string()
            }
            Self::ContentHash(hash) | Self::KeyHash(hash) => base58(hash),
            Self::Domain(domain) => (*domain).to_owned(),
        };
        format!("{root}/{path}")
    }
}

fn base58(hash: &Multihash) -> String {
    Base::Base58Btc.encode(hash.to_bytes())
}

/// The key of a root, or of a path below it. It is none of a double hash: those hash texts without zeros.
fn exact_key(root: &RootRef<'_>, path: &str) -> Key {
    let mut hash = Sha256::new();
    let mut add_root = |kind: u8, root: &[u8]| {
        hash.update([0, kind]);
        hash.update(u64::try_from(root.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(root);
    };
    match root {
        RootRef::Content(cid) => add_root(0, &cid.hash().to_bytes()),
        RootRef::ContentHash(hash) => add_root(0, &hash.to_bytes()),
        RootRef::Key(cid) => add_root(1, &cid.hash().to_bytes()),
        RootRef::KeyHash(hash) => add_root(1, &hash.to_bytes()),
        RootRef::Domain(domain) => add_root(2, domain.as_bytes()),
    }
    hash.update(path);
    half(&hash.finalize())
}

fn key_of_hash(hash: &Multihash) -> Key {
    match hash.code() {
        SHA2_256 if hash.digest().len() == 32 => half(hash.digest()),
        _ => half(&Sha256::digest(hash.to_bytes())),
    }
}

fn half(digest: &[u8]) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&digest[..16]);
    key
}
