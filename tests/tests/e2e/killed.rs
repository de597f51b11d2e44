//! SIGKILL at random moments: what a command said it did is there afterwards.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use duka_tests::duka::field;
use duka_tests::process::Process;
use duka_tests::{Duka, files};

use crate::{assert_same_file, versions};

/// Times that a process is killed.
const KILLS: u64 = 6;
/// Bytes of what is published.
const LEN: u64 = 3_000_000;

/// A version that was published, its root, and the seed of its bytes.
struct Published {
    version: String,
    cid: String,
    seed: u64,
}

fn publish(duka: &Duka, seed: u64) -> Result<Published> {
    let file = source(duka.home(), seed);
    files::write_random(&file, seed, LEN)?;
    let path = file.to_str().expect("a test's path is text");
    let result = duka.ok(&["publish", path, "--product", "files"])?;
    let version = field(&result, "version")?.to_owned();
    let cid = field(&result, "cid")?.to_owned();
    Ok(Published { version, cid, seed })
}

fn source(home: &Path, seed: u64) -> std::path::PathBuf {
    home.join(format!("file-{seed}"))
}

#[test]
fn a_killed_node_keeps_every_release_that_it_acknowledged() {
    let duka = Duka::new().unwrap();
    let mut published = Vec::new();
    for kill in 0..KILLS {
        let node = duka.serve().unwrap();
        let stop = AtomicBool::new(false);
        let more = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let mut published = Vec::new();
                for seed in kill * 100.. {
                    match publish(&duka, seed) {
                        Ok(one) => published.push(one),
                        Err(_) => break,
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                published
            });
            scope.spawn(|| while duka.ok(&["gc"]).is_ok() && !stop.load(Ordering::Relaxed) {});
            std::thread::sleep(Duration::from_millis(100 + kill * 97));
            node.kill();
            stop.store(true, Ordering::Relaxed);
            publishing.join().expect("publishing does not panic")
        });
        published.extend(more);
    }
    assert_kept(&duka, &published);
}

#[test]
fn a_killed_command_keeps_every_release_before_it() {
    let duka = Duka::new().unwrap();
    let mut published = Vec::new();
    for kill in 0..KILLS {
        published.push(publish(&duka, kill).unwrap());
        let file = source(duka.home(), 1_000 + kill);
        files::write_random(&file, 1_000 + kill, 4 * LEN).unwrap();
        let mut command = duka.command();
        command
            .arg("publish")
            .arg(file)
            .args(["--product", "files"]);
        let process = Process::start("duka publish", &mut command).unwrap();
        std::thread::sleep(Duration::from_millis(5 + kill * 19));
        process.kill();
    }
    assert_kept(&duka, &published);
}

#[track_caller]
fn assert_kept(duka: &Duka, published: &[Published]) {
    assert!(
        published.len() >= 3,
        "only {} were published",
        published.len()
    );
    duka.ok(&["fsck", "--deep"]).unwrap();
    let versions = versions(duka, "files");
    for Published { version, cid, seed } in published {
        assert!(versions.contains(version), "{version} of {versions:?}");
        let output = duka.home().join(format!("output-{seed}"));
        let output = output.to_str().expect("a test's path is text");
        duka.ok(&["get", cid, "-o", output]).unwrap();
        assert_same_file(Path::new(output), &source(duka.home(), *seed));
    }
}
