//! CARs of any DAG, in any scope: the blocks that a model of the DAG says, and the same DAG again once they
//! are imported.

use std::collections::HashSet;

use cid::Cid;
use cid::multihash::Multihash;
use duka_node::block::{DAG_CBOR, DAG_PB, RAW};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::memory::{MemoryBackend, document, file, folder, sections};
use super::{HAMT, TestServer, config};

/// What a DAG is made of.
#[derive(Clone, Debug)]
enum Node {
    Leaf(u8, usize),
    /// Bytes inside a CID, which is no block.
    Inline(u8),
    File(Vec<Self>),
    Folder(Vec<Self>),
    Document(Vec<Self>),
    /// The one of the test data.
    Shards,
}

/// A node with its CID.
#[derive(Clone, Debug)]
struct Built {
    cid: Cid,
    node: Node,
    /// Bytes of a file.
    len: u64,
    children: Vec<Self>,
}

fn part() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (0u8..4, 0usize..9).prop_map(|(byte, len)| Node::Leaf(byte, len)),
        1 => (0u8..4).prop_map(Node::Inline),
    ]
}

fn any_file() -> impl Strategy<Value = Node> {
    part().prop_recursive(3, 24, 4, |part| {
        prop::collection::vec(part, 0..4).prop_map(Node::File)
    })
}

fn any_node() -> impl Strategy<Value = Node> {
    let end = prop_oneof![8 => any_file(), 1 => Just(Node::Shards)];
    end.prop_recursive(3, 32, 4, |node| {
        let children = prop::collection::vec(node, 0..4);
        prop_oneof![
            children.clone().prop_map(Node::Folder),
            children.prop_map(Node::Document),
        ]
    })
}

fn build(backend: &mut MemoryBackend, node: &Node, shards: &Built) -> Built {
    let children = match node {
        Node::File(nodes) | Node::Folder(nodes) | Node::Document(nodes) => nodes.as_slice(),
        Node::Shards => return shards.clone(),
        Node::Leaf(..) | Node::Inline(_) => &[],
    };
    let children: Vec<Built> = children
        .iter()
        .map(|child| build(backend, child, shards))
        .collect();
    let mut len = children.iter().map(|child| child.len).sum();
    let cid = match node {
        Node::Leaf(byte, times) => {
            len = *times as u64;
            backend.add(RAW, vec![*byte; *times])
        }
        Node::Inline(byte) => {
            len = 1;
            Cid::new_v1(RAW, Multihash::wrap(0, &[*byte]).unwrap())
        }
        Node::File(_) => {
            let parts: Vec<_> = children
                .iter()
                .map(|child| (child.cid, child.len))
                .collect();
            backend.add(DAG_PB, file(&parts))
        }
        Node::Folder(_) => {
            let names: Vec<String> = (0..children.len())
                .map(|number| number.to_string())
                .collect();
            let entries = names.iter().zip(&children);
            let entries: Vec<_> = entries
                .map(|(name, child)| (name.as_str(), &child.cid))
                .collect();
            backend.add(DAG_PB, folder(&entries))
        }
        _ => {
            let links: Vec<Cid> = children.iter().map(|child| child.cid).collect();
            backend.add(DAG_CBOR, document(&links))
        }
    };
    Built {
        cid,
        node: node.clone(),
        len,
        children,
    }
}

/// Every visit of everything below, depth first.
fn all(built: &Built) -> Vec<Cid> {
    let below = built.children.iter().flat_map(all);
    std::iter::once(built.cid).chain(below).collect()
}

/// The same of the parts that have one of the wanted bytes, which are counted from `start`.
fn parts(built: &Built, start: u64, wanted: &dyn Fn(u64) -> bool) -> Vec<Cid> {
    let mut cids = vec![built.cid];
    let mut at = start;
    for child in &built.children {
        if (at..at + child.len).any(wanted) {
            cids.extend(parts(child, at, wanted));
        }
        at += child.len;
    }
    cids
}

/// What `entity-bytes` says, if it says anything.
fn wanted_byte((from, to): (i64, Option<i64>), len: u64, at: u64) -> bool {
    let (len, at) = (i64::try_from(len).unwrap(), i64::try_from(at).unwrap());
    let absolute = |offset: i64| if offset < 0 { len + offset } else { offset };
    absolute(from) <= at && to.is_none_or(|to| at <= absolute(to))
}

/// What a CAR is asked for.
#[derive(Clone, Debug)]
struct Asked {
    scope: &'static str,
    span: Option<(i64, Option<i64>)>,
    duplicates: bool,
}

impl Asked {
    fn any() -> impl Strategy<Value = Self> {
        let span = (-20i64..20, prop::option::of(-20i64..20));
        let scope = prop_oneof![Just("all"), Just("entity"), Just("block")];
        (scope, prop::option::of(span), any::<bool>()).prop_map(|(scope, span, duplicates)| Self {
            scope,
            span,
            duplicates,
        })
    }

    fn query(&self) -> String {
        let mut query = format!("format=car&dag-scope={}", self.scope);
        if let Some((from, to)) = self.span {
            let to = to.map_or("*".to_owned(), |to| to.to_string());
            query.push_str(&format!("&entity-bytes={from}:{to}"));
        }
        if self.duplicates {
            query.push_str("&car-dups=y");
        }
        query
    }

    fn is_reversed(&self) -> bool {
        let reversed = |(from, to): (i64, Option<i64>)| {
            to.is_some_and(|to| (from < 0) == (to < 0) && from > to)
        };
        self.span.is_some_and(reversed)
    }

    /// The blocks, in their order.
    fn blocks(&self, root: &Built) -> Vec<Cid> {
        let visits = match (self.scope, self.span, &root.node) {
            ("block", ..) => vec![root.cid],
            ("all", None, _) => all(root),
            (_, None, Node::File(_)) => all(root),
            (_, None, Node::Shards) => all(root)
                .into_iter()
                .filter(|cid| cid.codec() == DAG_PB)
                .collect(),
            (_, Some(_), Node::Shards) => all(root)
                .into_iter()
                .filter(|cid| cid.codec() == DAG_PB)
                .collect(),
            (_, Some(span), Node::File(_)) => parts(root, 0, &|at| wanted_byte(span, root.len, at)),
            _ => vec![root.cid],
        };
        let mut seen = HashSet::new();
        let is_wanted =
            |cid: &Cid| cid.hash().code() != 0 && (self.duplicates || seen.insert(*cid));
        visits.into_iter().filter(is_wanted).collect()
    }
}

/// The HAMT of the test data, as its own CAR says. No block of it is there twice.
async fn shards() -> Built {
    let car = TestServer::start()
        .await
        .get(&format!("/ipfs/{HAMT}?format=car"))
        .await
        .body;
    let mut cids = sections(&car).into_iter().map(|(cid, _)| cid);
    let leaf = |cid| Built {
        cid,
        node: Node::Leaf(0, 0),
        len: 0,
        children: Vec::new(),
    };
    let cid = cids.next().unwrap();
    Built {
        cid,
        node: Node::Shards,
        len: 0,
        children: cids.map(leaf).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_car_is_imported_as_the_same_dag() {
    let shards = shards().await;
    let handle = tokio::runtime::Handle::current();
    let check = |(node, asked): (Node, Asked)| {
        let mut backend = MemoryBackend::with_test_data();
        let root = build(&mut backend, &node, &shards);
        handle.block_on(async {
            let server = TestServer::with(config(), backend).await;
            let path = format!("/ipfs/{}?{}", root.cid, asked.query());
            let car = server.get(&path).await;
            if asked.is_reversed() {
                prop_assert_eq!(car.status, 400);
                return Ok(());
            }
            prop_assert_eq!((car.status.as_u16(), car.complete), (200, true));
            let blocks: Vec<Cid> = sections(&car.body)
                .into_iter()
                .map(|(cid, _)| cid)
                .collect();
            prop_assert_eq!(blocks, asked.blocks(&root));
            let copy = TestServer::with(config(), MemoryBackend::of_car(&car.body)).await;
            let again = copy.get(&path).await;
            prop_assert!(again.complete && again.body == car.body, "{:?}", again);
            Ok(())
        })
    };
    let runs = ProptestConfig::with_cases(256);
    let run = || TestRunner::new(runs).run(&(any_node(), Asked::any()), check);
    tokio::task::block_in_place(run).unwrap();
}
