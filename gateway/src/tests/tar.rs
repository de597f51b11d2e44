//! TAR files, unpacked by the system's `tar`.

use std::path::Path;
use std::process::Command;

use cid::Cid;
use duka_node::block::{DAG_CBOR, DAG_PB};

use super::memory::{MemoryBackend, folder};
use super::{BIG, HAMT, HELLO, Reply, TREE, TestServer, big, config};

/// Unpacks a whole reply into a new folder.
fn unpack(reply: &Reply) -> tempfile::TempDir {
    assert_eq!((reply.status.as_u16(), reply.complete), (200, true));
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive.tar");
    std::fs::write(&archive, &reply.body).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&archive).arg("-C").arg(folder.path());
    let unpacked = tar.output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    assert!(unpacked.stderr.is_empty(), "{unpacked:?}");
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn tar_of_a_tree_unpacks_to_the_tree() {
    let server = TestServer::start().await;
    let reply = server.get(&format!("/ipfs/{TREE}?format=tar")).await;
    assert_eq!(reply.header("content-type"), "application/x-tar");
    assert_eq!(reply.header("etag"), format!("W/\"{TREE}.x-tar\""));
    let name = format!("attachment; filename=\"{TREE}.tar\"");
    assert!(reply.header("content-disposition").starts_with(&name));
    let unpacked = unpack(&reply);
    let root = unpacked.path().join(TREE);
    assert_eq!(std::fs::read(root.join("big.bin")).unwrap(), big());
    assert_eq!(
        std::fs::read(root.join("hello.txt")).unwrap(),
        b"hello world"
    );
    let link = std::fs::symlink_metadata(root.join("docs/link")).unwrap();
    assert!(link.is_symlink());
}

#[tokio::test]
async fn tar_of_a_sharded_folder_has_every_entry() {
    let server = TestServer::start().await;
    let asked = [("accept", "application/x-tar")];
    let reply = server.get_with(&format!("/ipfs/{HAMT}"), &asked).await;
    let unpacked = unpack(&reply);
    assert_eq!(names(&unpacked.path().join(HAMT)).len(), 40);
}

#[tokio::test]
async fn tar_of_a_file_is_one_entry_named_by_its_cid() {
    let server = TestServer::start().await;
    let reply = server
        .get(&format!("/ipfs/{TREE}/hello.txt?format=tar"))
        .await;
    let unpacked = unpack(&reply);
    assert_eq!(
        std::fs::read(unpacked.path().join(HELLO)).unwrap(),
        b"hello world"
    );
}

#[tokio::test]
async fn names_that_are_long_or_not_ascii_are_kept() {
    let mut backend = MemoryBackend::with_test_data();
    for name in [
        "é".repeat(60),
        "a".repeat(120),
        format!("{}/{}", "a".repeat(60), "b".repeat(60)),
    ] {
        let root = backend.add(DAG_PB, folder(&[(&name, &HELLO.parse().unwrap())]));
        let server = TestServer::with(config(), backend.clone()).await;
        let unpacked = unpack(&server.get(&format!("/ipfs/{root}?format=tar")).await);
        let file = unpacked.path().join(root.to_string()).join(name);
        assert_eq!(std::fs::read(file).unwrap(), b"hello world");
    }
}

#[tokio::test]
async fn name_that_leads_out_of_the_tree_breaks_the_tar_off() {
    let mut backend = MemoryBackend::with_test_data();
    let root = backend.add(
        DAG_PB,
        folder(&[("../../../etc/x", &HELLO.parse().unwrap())]),
    );
    let server = TestServer::with(config(), backend).await;
    let reply = server.get(&format!("/ipfs/{root}?format=tar")).await;
    assert!(!reply.complete);
    assert!(!String::from_utf8_lossy(&reply.body).contains("etc"));
}

#[tokio::test]
async fn tar_with_a_missing_block_breaks_off() {
    let missing = duka_node::block::cid_of(0x55, &big()[5000..6000]).to_string();
    let server = TestServer::with(config(), MemoryBackend::without(&[&missing])).await;
    let reply = server.get(&format!("/ipfs/{BIG}?format=tar")).await;
    assert_eq!((reply.status.as_u16(), reply.complete), (200, false));
}

#[tokio::test]
async fn folders_that_link_to_the_same_folder_for_ever_end() {
    let mut backend = MemoryBackend::with_test_data();
    let mut below: Cid = HELLO.parse().unwrap();
    for _ in 0..1100 {
        below = backend.add(DAG_PB, folder(&[("d", &below)]));
    }
    let server = TestServer::with(config(), backend).await;
    let reply = server.get(&format!("/ipfs/{below}?format=tar")).await;
    assert!(!reply.complete);
}

#[tokio::test]
async fn what_is_no_tree_is_not_acceptable_as_a_tar() {
    let mut backend = MemoryBackend::with_test_data();
    let document = backend.add(DAG_CBOR, b"\xa0");
    let server = TestServer::with(config(), backend).await;
    let reply = server.get(&format!("/ipfs/{document}?format=tar")).await;
    assert_eq!(reply.status, 406);
}
