//! A disk that is really full: a file system of a few MiB in a name space of its own.

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};

use super::*;

/// Takes all the room there is, until it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn fill(dir: &Path) -> Self {
        let path = dir.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "says what was left out")]
fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let name_space = ["--user", "--map-root-user", "--mount"];
    let mut probe = Command::new("unshare");
    if !probe
        .args(name_space)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        return eprintln!("left out: this system gives no name spaces for mounting");
    }
    let script = r#"mount -t tmpfs -o size=6m none "$1" && exec "$0" --exact \
        manifest::tests::full_disk::on_a_small_disk --ignored --nocapture"#;
    let mut child = Command::new("unshare")
        .args(name_space)
        .args(["sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let path = dir.path().to_str().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(path.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Run by `nothing_acknowledged_is_lost_when_the_disk_is_full`, directory on stdin.
#[test]
#[ignore = "the child of another test"]
fn on_a_small_disk() {
    let mut disk = String::new();
    std::io::stdin().read_to_string(&mut disk).unwrap();
    if disk.is_empty() {
        return;
    }
    let disk = Path::new(&disk);
    let dir = disk.join("manifest");
    let mut acknowledged = States::new();
    let mut commit = |manifest: &Manifest, key: String| {
        let done = manifest.commit_blocking(put(key.clone(), &[7; 1000]));
        if done.is_ok() {
            acknowledged.insert(key, vec![7; 1000]);
        }
        assert_eq!(states(manifest), acknowledged);
        done.map(drop)
    };
    let (manifest, _) = open(&dir);
    for n in 0..20 {
        commit(&manifest, format!("before {n}")).unwrap();
    }

    let filler = Filler::fill(disk);
    // What is left of the last page of the journal may take a few more.
    let refused = (0..100).find_map(|n| commit(&manifest, format!("full {n}")).err());
    assert!(
        matches!(refused, Some(ManifestError::Full { .. })),
        "{refused:?}"
    );
    let again = commit(&manifest, "again".to_owned()).unwrap_err();
    assert!(matches!(again, ManifestError::Full { .. }), "{again:?}");
    drop(filler);
    commit(&manifest, "room".to_owned()).unwrap();
    drop(manifest);

    let filler = Filler::fill(disk);
    let refused = Manifest::open_with(&dir, OPTIONS).unwrap_err();
    assert!(refused.is_full(), "{refused:?}");
    drop(filler);
    let (manifest, recovery) = open(&dir);
    assert_eq!(recovery.rebuilt_from, None);
    commit(&manifest, "reopened".to_owned()).unwrap();
}
