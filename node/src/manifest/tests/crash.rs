//! A killed writer.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use super::*;

/// Commits values until it is killed, printing each number once it is acknowledged. Run by
/// `killed_writer_loses_nothing_acknowledged` in a process of its own, directory on stdin.
#[test]
#[ignore = "the child of another test"]
fn crash_child() {
    let mut dir = String::new();
    std::io::stdin().read_to_string(&mut dir).unwrap();
    if dir.is_empty() {
        return;
    }
    let options = ManifestOptions {
        journal_limit: 20_000,
        ..OPTIONS
    };
    let (manifest, _) = Manifest::open_with(Path::new(&dir), options).unwrap();
    let begin = states(&manifest).len();
    for n in begin.. {
        manifest
            .commit_blocking(put(format!("{n:06}"), b"value"))
            .unwrap();
        writeln!(std::io::stdout(), "acked {n}").unwrap();
    }
}

#[test]
fn killed_writer_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "manifest::tests::crash::crash_child",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let path = dir.path().to_str().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(path.as_bytes())
            .unwrap();
        let mut acked = None;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("acked ") {
                let first = acked.is_none();
                acked = Some(n.parse::<usize>().unwrap());
                if !first && acked.unwrap() % (50 + round * 37) == 0 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let (manifest, recovery) = open(dir.path());
        assert_eq!(recovery.rebuilt_from, None);
        let found = states(&manifest);
        let acked = acked.expect("the child acknowledged something");
        assert!(found.len() > acked, "{} of {acked}", found.len());
        assert!(
            found
                .keys()
                .enumerate()
                .all(|(n, key)| *key == format!("{n:06}"))
        );
    }
}
