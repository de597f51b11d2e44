//! Input that cannot be published or imported: a sentence, the right exit code, nothing lost.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duka_tests::kubo::{self, Kubo};
use duka_tests::{Duka, files, locate, process};

use crate::kept::Kept;
use crate::{add, assert_refused, cat, is_root};

const MIB: u64 = 1 << 20;

/// Publishing a path must be refused with this exit code, and these words.
#[track_caller]
fn refuses(kept: &Kept, path: &Path, code: i32, words: &[&str]) {
    let mut command = kept.duka.command();
    command
        .arg("--json")
        .arg("publish")
        .arg(path)
        .args(["--product", "bad", "--version", "1"]);
    let output = process::run(&mut command, Duration::from_secs(60)).unwrap();
    let said = format!("{}{}", output.text(), output.stderr);
    assert_eq!(output.code, Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "does not say {word:?}: {said}");
    }
    let products = kept.duka.plain(&["product", "list"]).unwrap().text();
    assert!(
        !products.contains("bad"),
        "a release of it is visible: {products}"
    );
    kept.assert_whole();
}

#[test]
fn a_path_that_does_not_exist_exits_with_3() {
    let kept = Kept::new();
    refuses(&kept, Path::new("absent"), 3, &["absent"]);
}

#[test]
fn an_unreadable_file_is_named() {
    let duka = Duka::new().unwrap();
    let folder = duka.home().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("secret"), "x").unwrap();
    fs::set_permissions(folder.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(duka.home().join("kept"), "kept").unwrap();
    // Root reads everything, so the commands run as nobody, with a copy of the program it may read.
    let program = duka.home().join("duka");
    if is_root() {
        fs::copy(locate::duka().unwrap(), &program).unwrap();
        for path in [duka.home().to_owned(), program.clone(), folder.clone()] {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
        // It was made as root.
        fs::remove_dir_all(duka.data_dir()).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut command = if is_root() {
            let mut command = std::process::Command::new(locate::system("setpriv").unwrap());
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command
                .arg(&program)
                .env_clear()
                .env("HOME", duka.home())
                .current_dir(duka.home());
            command.arg("--data-dir").arg(duka.data_dir());
            command
        } else {
            duka.command()
        };
        process::run(command.args(arguments), Duration::from_secs(60)).unwrap()
    };
    let publish = |path| {
        run(&[
            "--json",
            "publish",
            path,
            "--product",
            path,
            "--version",
            "1",
        ])
    };
    let kept = publish("kept");
    assert_eq!(kept.code, Some(0), "{kept:?}");
    let refused = publish("folder");
    let said = format!("{}{}", refused.text(), refused.stderr);
    assert_eq!(refused.code, Some(6), "{said}");
    assert!(said.contains("secret"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let products = run(&["product", "list"]).text();
    assert!(products.contains("kept"), "{products}");
    assert!(!products.contains("folder"), "{products}");
    let fsck = run(&["fsck"]);
    assert_eq!(fsck.code, Some(0), "{fsck:?}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let kept = Kept::new();
    let path = kept.duka.home().join("growing");
    files::write_random(&path, 51, 64 * MIB).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, path) = (Arc::clone(&stop), path.clone());
        std::thread::spawn(move || {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"x").unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let outcome = kept
        .duka
        .cmd(&["publish", "growing", "--product", "bad", "--version", "1"]);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_refused(&outcome.unwrap(), 5, &["growing", "changed"]);
    kept.assert_whole();
}

#[test]
fn a_name_that_is_not_utf_8_is_refused() {
    let kept = Kept::new();
    let folder = kept.duka.home().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(OsStr::from_bytes(b"caf\xe9.txt")), "latin-1").unwrap();
    refuses(&kept, &folder, 6, &["UTF-8"]);
}

#[test]
fn a_socket_in_a_folder_is_refused() {
    let kept = Kept::new();
    let folder = kept.duka.home().join("folder");
    fs::create_dir(&folder).unwrap();
    let _socket = UnixListener::bind(folder.join("control")).unwrap();
    refuses(&kept, &folder, 6, &["control", "socket"]);
}

#[test]
fn a_loop_of_symlinks_is_published_as_links_as_kubo_does() {
    let kept = Kept::new();
    let folder = kept.duka.home().join("folder");
    fs::create_dir(&folder).unwrap();
    symlink("b", folder.join("a")).unwrap();
    symlink("a", folder.join("b")).unwrap();
    symlink(".", folder.join("self")).unwrap();
    let kubo = Kubo::init(kubo::Options::default()).unwrap();
    assert_eq!(
        add(&kept.duka, &folder).unwrap(),
        kubo.add(&folder).unwrap()
    );
    kept.assert_whole();
}

#[test]
fn an_invalid_cid_exits_with_2() {
    let kept = Kept::new();
    for command in [
        &["cat", "notacid"][..],
        &["pin", "add", "Qm"],
        &["get", "/ipfs/%%%"],
    ] {
        let outcome = kept.duka.cmd(command).unwrap();
        assert_refused(&outcome, 2, &[]);
    }
    kept.assert_whole();
}

#[test]
fn a_cid_that_nobody_has_exits_with_3_offline() {
    let kept = Kept::new();
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let outcome = kept.duka.cmd(&["--offline", "cat", absent]).unwrap();
    assert_refused(&outcome, 3, &[absent]);
}

#[test]
fn wrong_and_truncated_cars_are_refused() {
    let kept = Kept::new();
    let kubo = Kubo::init(kubo::Options::default()).unwrap();
    let file = kept.duka.home().join("file");
    fs::write(&file, files::random_bytes(52, 3_000_000)).unwrap();
    let cid = kubo.add(&file).unwrap();
    let car = kubo
        .run_ok(&["dag", "export", "--progress=false", &cid])
        .unwrap()
        .stdout;
    let path = kept.duka.home().join("bad.car");
    let import = ["car", "import", path.to_str().unwrap()];

    let mut flipped = car.clone();
    flipped[car.len() / 2] ^= 1;
    for (what, bytes) in [
        ("one bit differs", flipped.as_slice()),
        ("cut in a block", &car[..car.len() - 5]),
        ("cut after the header", &car[..70]),
        ("no CAR at all", b"PK\x03\x04 this is a zip file".as_slice()),
        (
            "a length of 2^63",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f".as_slice(),
        ),
        ("empty", b""),
    ] {
        fs::write(&path, bytes).unwrap();
        let outcome = kept.duka.cmd(&import).unwrap();
        assert_eq!(outcome.code, 4, "{what}: {outcome:?}");
        assert_refused(&outcome, 4, &["bad.car"]);
        let pins = kept.duka.plain(&["pin", "ls"]).unwrap().text();
        assert!(!pins.contains(&cid), "{what}: pinned all the same");
        kept.assert_whole();
    }
    fs::write(&path, &car).unwrap();
    kept.duka.ok(&import).unwrap();
    assert!(cat(&kept.duka, &cid).unwrap() == files::random_bytes(52, 3_000_000));
}

#[test]
fn wrong_names_of_products_and_versions_exit_with_2() {
    let kept = Kept::new();
    for (product, version) in [
        ("Album", "1"),
        ("-x", "1"),
        ("a/b", "1"),
        ("album", "v1"),
        ("album", "../1"),
    ] {
        let product = format!("--product={product}");
        let version = format!("--version={version}");
        let outcome = kept
            .duka
            .cmd(&["publish", "kept", &product, &version])
            .unwrap();
        assert_refused(&outcome, 2, &[]);
    }
    kept.assert_whole();
}
