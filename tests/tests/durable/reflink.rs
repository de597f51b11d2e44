//! A file that is written to while it is added: what is stored is what it was.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use duka_node::block::{Block, RAW};
use duka_node::dag::import::{ImportError, ImportOptions, OnProgress, Reflink, Sink, import_path};
use duka_node::store::{PackKind, Store, StoreOptions};
use duka_tests::disk::{Hooked, NoSync};
use duka_tests::files;

const CHUNK: usize = 1 << 20;

#[test]
fn what_is_written_to_a_file_while_it_is_added_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("film");
    let bytes = Bytes::from(files::random_bytes(70, 6 * CHUNK + 4_096));
    let options = StoreOptions {
        reserve: 0,
        ..StoreOptions::default()
    };
    let disk = Hooked::shared(NoSync);
    let (store, _) = Store::open_on(disk, &dir.path().join("blocks"), options).unwrap();
    let sink = Sink::Store(store.clone(), PackKind::Kept);
    let import = |sink: &Sink, reflink, progress: OnProgress| {
        std::fs::write(&path, &bytes).unwrap();
        let options = ImportOptions {
            reflink,
            ..ImportOptions::default()
        };
        import_path(sink, &path, &options, &progress)
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .unwrap();
    let overwrites: OnProgress = Arc::new(move |_| {
        file.write_all_at(&[7; CHUNK], 0).unwrap();
        file.write_all_at(&[7; CHUNK], 5 << 20).unwrap();
        true
    });

    let copied = import(&sink, Reflink::Never, Arc::clone(&overwrites));
    assert!(
        matches!(copied, Err(ImportError::Changed { .. })),
        "{copied:?}"
    );
    let before = import(&Sink::Discard, Reflink::Never, Arc::new(|_| true)).unwrap();
    for reflink in [Reflink::Auto, Reflink::Always] {
        let shared = import(&sink, reflink, Arc::clone(&overwrites)).unwrap();
        assert_eq!(shared.root, before.root);
    }
    store.commit().unwrap();
    for at in (0..bytes.len()).step_by(CHUNK) {
        let chunk = bytes.slice(at..bytes.len().min(at + CHUNK));
        let leaf = Block::of(RAW, chunk);
        assert_eq!(store.get(leaf.cid()).unwrap(), Some(leaf));
    }
}
