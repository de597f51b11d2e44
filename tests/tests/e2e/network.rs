//! Bitswap with Kubo, both ways.

use std::fs;
use std::time::Duration;

use duka_tests::duka::field;
use duka_tests::kubo::{self, Kubo};
use duka_tests::process::{self, Process};
use duka_tests::proxy::DelayProxy;
use duka_tests::{Duka, files};

use crate::{Pair, add, assert_same_file, cat};

const MIB: usize = 1 << 20;

/// Half of a 50 ms round trip.
const ONE_WAY: Duration = Duration::from_millis(25);

#[test]
fn what_duka_publishes_kubo_pins_and_reads() {
    let Pair { kubo, node, duka } = Pair::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let song = files::random_bytes(1, 64 * MIB + 3);
    fs::write(folder.path().join("song.bin"), &song).unwrap();
    fs::create_dir(folder.path().join("notes")).unwrap();
    fs::write(folder.path().join("notes/read me.txt"), "thank you").unwrap();

    let path = folder.path().to_str().unwrap();
    let release = duka
        .ok(&["publish", path, "--product", "album", "--version", "1.0"])
        .unwrap();
    assert_eq!(release["product"], "album");
    assert_eq!(release["version"], "1.0");
    assert_eq!(release["files"], 2);
    assert_eq!(release["bytes"], song.len() + "thank you".len());
    let cid = field(&release, "cid").unwrap();
    kubo.pin(cid).unwrap();
    assert!(
        kubo.cat(&format!("{cid}/song.bin")).unwrap() == song,
        "the bytes differ"
    );
    assert_eq!(
        kubo.cat(&format!("{cid}/notes/read me.txt")).unwrap(),
        b"thank you"
    );
    node.stop().unwrap();
}

#[test]
fn what_kubo_adds_duka_pins_and_gets() {
    let Pair { kubo, node, duka } = Pair::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    files::write_random(&folder.path().join("big"), 2, 64 * MIB as u64 + 3).unwrap();
    files::write_small_files(&folder.path().join("small"), 3, 300, 100).unwrap();
    let cid = kubo.add(folder.path()).unwrap();

    duka.ok(&["pin", "add", &cid]).unwrap();
    let out = duka.home().join("out");
    duka.ok(&["get", &cid, "-o", out.to_str().unwrap()])
        .unwrap();
    assert_eq!(
        files::tree(&out).unwrap(),
        files::tree(folder.path()).unwrap()
    );

    // The pin holds everything: it is there without Kubo, and without a node.
    drop(kubo);
    node.stop().unwrap();
    let pins = duka.plain(&["pin", "ls"]).unwrap().text();
    assert!(pins.contains(&cid), "{pins}");
    assert_eq!(
        cat(&duka, &format!("{cid}/big")).unwrap().len(),
        64 * MIB + 3
    );
}

#[test]
fn every_window_loses_no_block() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    for window in [1, 16, 128, 1024] {
        let more = format!("[network.limits]\nwindow = {window}\n");
        let options = duka_tests::duka::Options {
            more,
            ..Default::default()
        };
        let duka = Duka::with(&options).unwrap();
        let node = duka.serve().unwrap();
        duka.ok(&["swarm", "connect", &kubo.address("/tcp/").unwrap()])
            .unwrap();
        let file = duka.home().join("file");
        files::write_random(&file, 100 + window, 64 * MIB as u64).unwrap();
        let cid = kubo.add(&file).unwrap();
        duka.ok(&["pin", "add", &cid]).unwrap();
        // And back, to a Kubo that knows nobody else.
        let other = Kubo::run(kubo::Options::default()).unwrap();
        other.connect(&node.address("/tcp/").unwrap()).unwrap();
        let bytes = other.cat(&cid).unwrap();
        assert_eq!(files::sha256(&bytes), files::sha256_of(&file).unwrap());
        node.stop().unwrap();
    }
}

#[test]
fn quic_works_both_ways() {
    let kubo = Kubo::run(kubo::Options {
        tcp: false,
        quic: true,
        ..Default::default()
    })
    .unwrap();
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    kubo.connect(&node.address("/quic-v1").unwrap()).unwrap();
    let (ours, theirs) = (
        files::random_bytes(4, 8 * MIB),
        files::random_bytes(5, 8 * MIB),
    );
    let (our_file, their_file) = (duka.home().join("ours"), duka.home().join("theirs"));
    fs::write(&our_file, &ours).unwrap();
    fs::write(&their_file, &theirs).unwrap();
    let our_cid = add(&duka, &our_file).unwrap();
    let their_cid = kubo.add(&their_file).unwrap();
    assert!(kubo.cat(&our_cid).unwrap() == ours, "the bytes differ");
    duka.ok(&["pin", "add", &their_cid]).unwrap();
    assert!(
        cat(&duka, &their_cid).unwrap() == theirs,
        "the bytes differ"
    );
}

#[test]
fn a_block_of_exactly_2_mib_passes_both_ways() {
    let Pair {
        kubo,
        node: _node,
        duka,
    } = Pair::start().unwrap();
    let file = duka.home().join("block");
    // As a raw leaf of its own, by Kubo's chunker; through a CAR into duka, and over bitswap.
    let put = |seed| {
        fs::write(&file, files::random_bytes(seed, 2 * MIB)).unwrap();
        let path = file.to_str().unwrap();
        kubo.ok(&["block", "put", "--allow-big-block", "--cid-codec=raw", path])
            .unwrap()
    };
    let theirs = put(6);
    duka.ok(&["pin", "add", &theirs]).unwrap();
    assert!(
        cat(&duka, &theirs).unwrap() == files::random_bytes(6, 2 * MIB),
        "the bytes differ"
    );

    let ours = put(7);
    let car = duka.home().join("block.car");
    fs::write(
        &car,
        kubo.run_ok(&["dag", "export", "--progress=false", &ours])
            .unwrap()
            .stdout,
    )
    .unwrap();
    kubo.ok(&["block", "rm", &ours]).unwrap();
    duka.ok(&["car", "import", car.to_str().unwrap()]).unwrap();
    assert!(
        kubo.cat(&ours).unwrap() == files::random_bytes(7, 2 * MIB),
        "the bytes differ"
    );
}

#[test]
fn a_tree_of_20_000_small_files_passes_both_ways() {
    let Pair {
        kubo,
        node: _node,
        duka,
    } = Pair::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    files::write_small_files(folder.path(), 8, 20_000, 512).unwrap();
    let ours = add(&duka, folder.path()).unwrap();
    kubo.pin(&ours).unwrap();

    fs::remove_file(folder.path().join("000/000000.bin")).unwrap();
    files::write_small_files(folder.path(), 9, 20_000, 513).unwrap();
    let theirs = kubo.add(folder.path()).unwrap();
    let result = duka.ok(&["pin", "add", &theirs]).unwrap();
    drop(kubo);
    let out = duka.home().join("out");
    duka.ok(&["get", &theirs, "-o", out.to_str().unwrap()])
        .unwrap();
    assert_eq!(
        files::tree(&out).unwrap(),
        files::tree(folder.path()).unwrap(),
        "{result}"
    );
}

#[test]
fn with_50_ms_in_between_both_ways_pass() {
    let kubo = Kubo::run(kubo::Options::default()).unwrap();
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let far = node.address("/tcp/").unwrap();
    let (_wire, near) = DelayProxy::before(&far, ONE_WAY).unwrap();
    kubo.connect(&near).unwrap();
    let file = duka.home().join("file");
    files::write_random(&file, 10, 16 * MIB as u64).unwrap();
    let ours = add(&duka, &file).unwrap();
    assert!(
        kubo.cat(&ours).unwrap() == files::random_bytes(10, 16 * MIB),
        "the bytes differ"
    );
    files::write_random(&file, 11, 16 * MIB as u64).unwrap();
    let theirs = kubo.add(&file).unwrap();
    duka.ok(&["pin", "add", &theirs]).unwrap();
    assert!(
        cat(&duka, &theirs).unwrap() == files::random_bytes(11, 16 * MIB),
        "the bytes differ"
    );
}

#[test]
fn a_fetch_survives_that_kubo_restarts_half_way() {
    let mut kubo = Kubo::run(kubo::Options::default()).unwrap();
    let duka = Duka::new().unwrap();
    let node = duka.serve().unwrap();
    let far = node.address("/tcp/").unwrap();
    // Over a wire with delay, so that 64 MiB take seconds.
    let (_wire, near) = DelayProxy::before(&far, ONE_WAY).unwrap();
    kubo.connect(&near).unwrap();
    let file = duka.home().join("file");
    files::write_random(&file, 12, 64 * MIB as u64).unwrap();
    let cid = kubo.add(&file).unwrap();
    let out = duka.home().join("out");
    let mut command = duka.command();
    command.args([
        "--json",
        "--progress",
        "always",
        "get",
        &cid,
        "-o",
        out.to_str().unwrap(),
    ]);
    let get = Process::start("duka get", &mut command).unwrap();
    get.wait_for(Duration::from_secs(60), |line| {
        progress(line).filter(|bytes| *bytes > 0)
    })
    .unwrap();
    kubo.kill();
    assert!(
        get.is_running(),
        "the fetch was over before Kubo was killed"
    );
    assert!(!out.exists(), "an unfinished file is visible");
    kubo.start().unwrap();
    kubo.connect(&near).unwrap();
    let status = get.wait_exit(Duration::from_secs(120)).unwrap();
    assert!(status.success(), "{status}");
    assert_same_file(&out, &file);
}

#[test]
fn what_kubo_pins_from_duka_survives_that_kubo_restarts_half_way() {
    const BLOCKS: u64 = 256;
    let mut kubo = Kubo::run(kubo::Options::default()).unwrap();
    let duka = Duka::new().unwrap();
    let file = duka.home().join("file");
    files::write_random(&file, 13, BLOCKS * MIB as u64).unwrap();
    let cid = add(&duka, &file).unwrap();
    let node = duka.serve().unwrap();
    // Over a wire with delay, so that it takes seconds.
    let (_wire, near) = DelayProxy::before(&node.address("/tcp/").unwrap(), ONE_WAY).unwrap();
    kubo.connect(&near).unwrap();
    let mut command = kubo.command();
    command.args(["pin", "add", "--progress=false", &cid]);
    let pin = Process::start("ipfs pin add", &mut command).unwrap();
    let before = process::wait_until("Kubo has some blocks", Duration::from_secs(60), || {
        kubo.blocks().ok().filter(|blocks| *blocks > 8)
    })
    .unwrap();
    kubo.kill();
    let status = pin.wait_exit(Duration::from_secs(60)).unwrap();
    assert!(!status.success(), "it was pinned before Kubo was killed");
    assert!(before < BLOCKS, "all {before} blocks were there already");

    kubo.start().unwrap();
    kubo.connect(&near).unwrap();
    kubo.pin(&cid).unwrap();
    assert!(
        kubo.cat(&cid).unwrap() == fs::read(&file).unwrap(),
        "the bytes differ"
    );
}

/// The verified bytes that a line of `--json` tells.
pub(crate) fn progress(line: &str) -> Option<u64> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["type"] == "progress").then(|| event["bytes"].as_u64())?
}
