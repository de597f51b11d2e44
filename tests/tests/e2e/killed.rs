//! SIGKILL at random moments: what a command said it did is there afterwards.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

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
        let (acknowledged, first) = sync_channel(1);
        let more = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let mut published = Vec::new();
                for seed in kill * 100.. {
                    match publish(&duka, seed) {
                        Ok(one) => published.push(one),
                        Err(_) => break,
                    }
                    let _is_known = acknowledged.try_send(());
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                published
            });
            scope.spawn(|| while duka.ok(&["gc"]).is_ok() && !stop.load(Ordering::Relaxed) {});
            // Every other kill may come before anything is published.
            if kill % 2 == 1 {
                // With nothing published it ends all the same, and is told below.
                let _is_published = first.recv_timeout(Duration::from_secs(60));
            }
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

/// What is in the folder of keys when a command is killed.
type Step = fn(&Path) -> bool;

const BEFORE_ALL: Step = |_| true;
const NEXT_UNNAMED: Step = |keys| keys.join("publishing.key.next.tmp").exists();
const NEXT_MADE: Step = |keys| keys.join("publishing.key.next").exists();
const SHOP_NAMED: Step = |keys| keys.join("shop.name").exists();
const SHOP_KEY_AWAY: Step = |keys| !keys.join("shop.key").exists();
const SHOP_KEY_BACK: Step = |keys| keys.join("shop.key").exists();

/// Kills a command so long after a step of it was seen, or lets it end. Returns whether it was killed.
fn kill_at(duka: &Duka, arguments: &[&str], step: Step, later: Duration) -> bool {
    let keys = duka.data_dir().join("keys");
    let process = Process::start("duka key", duka.command().args(arguments)).unwrap();
    while process.is_running() && !step(&keys) {
        std::hint::spin_loop();
    }
    let seen = Instant::now();
    while process.is_running() && seen.elapsed() < later {
        std::hint::spin_loop();
    }
    let is_killed = process.is_running();
    process.kill();
    is_killed
}

/// The shop publishes, and its link, which never changes, leads to the new version.
#[track_caller]
fn assert_publishes(duka: &Duka, link: &str, version: u64) {
    let file = source(duka.home(), 0);
    files::write_random(&file, version, 1000).unwrap();
    let (path, version) = (file.to_str().unwrap(), version.to_string());
    let publish = ["publish", path, "--product", "files", "--version", &version];
    let published = duka.ok(&publish).unwrap();
    assert_eq!(published["signed"], true, "{published}");
    assert_eq!(field(&duka.ok(&["id"]).unwrap(), "name").unwrap(), link);
    let link = format!("/ipns/{link}/p/files/{version}");
    assert_eq!(crate::cat(duka, &link).unwrap(), fs::read(&file).unwrap());
    for rest in ["publishing.key.next", "shop.key.removed"] {
        assert!(!duka.data_dir().join("keys").join(rest).exists(), "{rest}");
    }
}

#[test]
fn a_killed_rotation_of_the_publishing_key_leaves_the_shop_and_its_link() {
    let duka = Duka::new().unwrap();
    let link = field(&duka.ok(&["id"]).unwrap(), "name")
        .unwrap()
        .to_owned();
    assert_publishes(&duka, &link, 1);
    let mut killed = 0;
    for (round, step) in [BEFORE_ALL, NEXT_UNNAMED, NEXT_MADE]
        .into_iter()
        .enumerate()
    {
        for moment in 0..5 {
            let later = match round {
                0 => Duration::from_millis(moment * 30),
                _ => Duration::from_micros(moment * moment * 1500),
            };
            killed += u64::from(kill_at(&duka, &["key", "rotate"], step, later));
            assert_publishes(&duka, &link, 2 + round as u64 * 5 + moment);
        }
    }
    assert!(killed >= 8, "only {killed} were killed");
    // A running node rotates on behalf of the command.
    for moment in 0..5 {
        let node = duka.serve().unwrap();
        let keys = duka.data_dir().join("keys");
        let rotation = Process::start("duka key", duka.command().args(["key", "rotate"])).unwrap();
        while rotation.is_running() && !NEXT_MADE(&keys) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(moment * moment * 1500));
        node.kill();
        rotation.wait_exit(Duration::from_secs(60)).unwrap();
        assert_publishes(&duka, &link, 20 + moment);
    }
    duka.ok(&["key", "rotate"]).unwrap();
    assert_publishes(&duka, &link, 30);
}

#[test]
fn a_shop_key_whose_removal_or_return_is_killed_is_here_or_in_its_file() {
    let duka = Duka::new().unwrap();
    let link = field(&duka.ok(&["id"]).unwrap(), "name")
        .unwrap()
        .to_owned();
    assert_publishes(&duka, &link, 1);
    let [secret, exported] = ["secret", "shop.age"].map(|name| duka.home().join(name));
    fs::write(&secret, "correct horse\n").unwrap();
    let (secret, exported) = (secret.to_str().unwrap(), exported.to_str().unwrap());
    let with_secret = ["--passphrase-file", secret];
    let [offline, import] =
        ["offline", "import"].map(|what| ["key", what, exported, with_secret[0], with_secret[1]]);
    let export = ["key", "export", "--output", exported];
    duka.ok(&[&export[..], &with_secret].concat()).unwrap();
    let (mut killed, mut version) = (0, 1);
    for (away, back) in [
        (BEFORE_ALL, BEFORE_ALL),
        (SHOP_NAMED, SHOP_KEY_BACK),
        (SHOP_KEY_AWAY, SHOP_KEY_BACK),
    ] {
        for moment in [0, 1, 4] {
            let later = Duration::from_millis(moment * 2);
            killed += u64::from(kill_at(&duka, &offline, away, later));
            version += 1;
            assert_publishes(&duka, &link, version);
            killed += u64::from(kill_at(&duka, &import, back, later));
            duka.ok(&import).unwrap();
            version += 1;
            assert_publishes(&duka, &link, version);
        }
    }
    assert!(killed >= 6, "only {killed} were killed");
    duka.ok(&offline).unwrap();
    assert_publishes(&duka, &link, version + 1);
    duka.ok(&import).unwrap();
    duka.ok(&["key", "rotate"]).unwrap();
    assert_publishes(&duka, &link, version + 2);
}
