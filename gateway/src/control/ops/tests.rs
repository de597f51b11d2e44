//! What operations hold in the node while they run.

use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duka_config::Config;
use duka_node::node;
use duka_node::temp_pins::TempPins;
use futures::StreamExt;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::control::event::Event;
use crate::control::request::{Add, Import, Source};

async fn open(dir: &Path) -> Node {
    let mut config = Config::default();
    config.network.offline = true;
    config.store.reserve = bytesize::ByteSize::mib(1);
    node::init(dir).unwrap();
    Node::open(dir, &config).await.unwrap()
}

/// Input that notes whether a temp pin is held while it is read.
struct Noting {
    bytes: Cursor<Vec<u8>>,
    temp_pins: TempPins,
    held: Arc<AtomicBool>,
}

impl Read for Noting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.held.store(self.temp_pins.any(), Ordering::Relaxed);
        self.bytes.read(buffer)
    }
}

#[tokio::test]
async fn add_holds_a_temp_pin_while_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let held = Arc::new(AtomicBool::new(false));
    let input = Noting {
        bytes: Cursor::new(b"la la la".to_vec()),
        temp_pins: node.temp_pins().clone(),
        held: Arc::clone(&held),
    };
    let request = Request::Add(Add {
        source: Source::Stdin("song".to_owned()),
        import: Import::default(),
        pin: true,
        only_hash: false,
    });
    let events = crate::control::run(node.clone(), request, Some(Box::new(input)));
    let events: Vec<_> = events.collect().await;
    assert!(
        matches!(events.last(), Some(Event::Result(_))),
        "{events:?}"
    );
    assert!(held.load(Ordering::Relaxed));
    assert!(!node.temp_pins().any());
    node.shutdown().await;
}

#[tokio::test]
async fn car_import_holds_a_temp_pin_while_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(&dir.path().join("data")).await;
    let pipe = dir.path().join("tree.car");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let temp_pins = node.temp_pins().clone();
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || {
            // Opens when the import does.
            let mut pipe = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
            let held = temp_pins.any();
            pipe.write_all(include_bytes!("../../../testdata/tree.car"))
                .unwrap();
            held
        })
    };
    let request = Request::CarImport {
        files: vec![pipe],
        pin: true,
    };
    let events: Vec<_> = crate::control::run(node.clone(), request, None)
        .collect()
        .await;
    assert!(
        matches!(events.last(), Some(Event::Result(_))),
        "{events:?}"
    );
    assert!(writer.join().unwrap());
    assert!(!node.temp_pins().any());
    assert_eq!(node.manifest().pins().count(), 1);
    node.shutdown().await;
}
