//! How much memory serving and publishing take: as much for large content as for small.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use duka_tests::duka::Serving;
use duka_tests::{Duka, car, files, locate, process};
use rustix::process::Pid;

const MIB: u64 = 1 << 20;
/// What chance decides: whether all 8 MiB that one request reads ahead of its reader are in memory at
/// one moment, and on how many threads something was allocated, about half a MiB on each.
const CHANCE: u64 = 12 * MIB;

/// Fetches content from a fresh node's gateway, again and again, and gives the most memory that the
/// node ever had.
fn memory_of_serving(duka: &Duka, cid: &str, length: u64, times: u32) -> u64 {
    let node: Serving = duka.serve().unwrap();
    let url = format!("{}/ipfs/{cid}", node.gateway().unwrap());
    for _ in 0..times {
        let mut curl = Command::new(locate::system("curl").unwrap());
        curl.args(["--silent", "--show-error", "--output", "/dev/null"]);
        curl.args(["--write-out", "%{size_download}", &url]);
        let output = process::run(&mut curl, Duration::from_secs(180)).unwrap();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_eq!(output.text(), length.to_string());
    }
    let peak = process::peak_memory(node.process().pid()).unwrap();
    node.stop().unwrap();
    peak
}

#[test]
fn a_file_of_10_gib_takes_no_more_memory_to_serve_than_one_of_10_mib() {
    let duka = Duka::new().unwrap();
    let leaf = files::random_bytes(80, 1 << 20);
    let import = |times| {
        let path = duka.home().join("file.car");
        let cid = car::write_repeated(&path, &leaf, times).unwrap();
        duka.ok(&["car", "import", path.to_str().unwrap()]).unwrap();
        cid
    };
    let (small, large) = (import(10), import(10 * 1024));
    let small = memory_of_serving(&duka, &small, 10 * MIB, 10);
    let large = memory_of_serving(&duka, &large, 10 * 1024 * MIB, 1);
    assert!(
        large < small + CHANCE,
        "10 MiB took {} MiB, 10 GiB took {} MiB",
        small / MIB,
        large / MIB
    );
}

#[test]
fn a_stream_of_4_gib_is_published_in_less_than_200_mib_of_memory() {
    let duka = Duka::new().unwrap();
    let mut command = duka.command();
    command.args(["publish", "-", "--name", "zeros", "--product", "zeros"]);
    command.args(["--version", "1"]);
    let mut publish = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&publish);
    let mut input = publish.stdin.take().unwrap();
    // The same blocks again and again, so the disk holds only a few.
    let part = files::random_bytes(81, 64 << 20);
    for _ in 0..64 {
        input.write_all(&part).unwrap();
    }
    // All but what is in the pipe has been read, and the end has not come.
    let peak = process::peak_memory(pid).unwrap();
    drop(input);
    assert!(publish.wait().unwrap().success());
    assert!(peak < 200 * MIB, "{} MiB", peak / MIB);
}
