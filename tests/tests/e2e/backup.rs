//! `duka backup` and `duka restore`: beside a node at work, after SIGKILL, and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use duka_tests::duka::{Options, Outcome, field};
use duka_tests::process::Process;
use duka_tests::{Duka, files};
use serde_json::Value;

use crate::shop::Shop;
use crate::{assert_refused, versions};

/// A key pair of the age project's own tests.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

/// The folder of the backup is beside the shop.
impl Shop {
    fn backup(&self) -> PathBuf {
        self.duka.home().join("backup")
    }

    fn publish_random(&self, seed: u64) -> Result<String> {
        let file = self.source(seed);
        files::write_random(&file, seed, 1_500_000)?;
        let file = file.to_str().expect("a test's path is text");
        let published = self.duka.ok(&["publish", file, "--product", "files"])?;
        Ok(field(&published, "version")?.to_owned())
    }

    fn source(&self, seed: u64) -> PathBuf {
        self.duka.home().join(format!("file-{seed}"))
    }

    fn back_up(&self) -> Result<Value> {
        self.duka
            .ok(&["backup", "backup", "--recipient", RECIPIENT])
    }

    fn restore_to(&self, other: &Duka, more: &[&str]) -> Outcome {
        let folder = self.backup();
        let folder = folder.to_str().expect("a test's path is text");
        other.cmd(&[&["restore", folder], more].concat()).unwrap()
    }

    fn identity(&self) -> String {
        self.secret("identity", IDENTITY)
    }

    fn passphrase(&self) -> String {
        self.secret("passphrase", "correct horse")
    }

    /// A file with this line.
    fn secret(&self, name: &str, line: &str) -> String {
        let file = self.duka.home().join(name);
        fs::write(&file, format!("{line}\n")).unwrap();
        file.display().to_string()
    }
}

/// A home without a shop.
fn elsewhere() -> Duka {
    crate::buyer(&Options::default())
}

#[track_caller]
fn assert_has(duka: &Duka, shop: &Shop, version: &str, seed: u64) {
    let versions = versions(duka, "files");
    assert!(
        versions.iter().any(|v| v == version),
        "{version} of {versions:?}"
    );
    let cid = root_of(duka, version);
    let output = duka.home().join(format!("output-{seed}"));
    let output = output.to_str().expect("a test's path is text");
    duka.ok(&["--offline", "get", &cid, "-o", output]).unwrap();
    crate::assert_same_file(Path::new(output), &shop.source(seed));
}

fn root_of(duka: &Duka, version: &str) -> String {
    let history = duka.cmd(&["product", "history", "files"]).unwrap();
    let events = history.events().unwrap();
    let mut releases = events.iter();
    let release = releases.find(|event| event["version"] == version).unwrap();
    field(release, "cid").unwrap().to_owned()
}

#[test]
fn a_shop_that_was_backed_up_while_it_served_goes_on_elsewhere() {
    let shop = Shop::new();
    let node = shop.duka.serve().unwrap();
    let first = shop.publish_random(1).unwrap();
    let passphrase = shop.passphrase();
    let done = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            for seed in 2..5 {
                shop.publish_random(seed).unwrap();
            }
        });
        let arguments = ["backup", "backup", "--passphrase-file", &passphrase];
        let done = shop.duka.ok(&arguments).unwrap();
        publishing.join().expect("publishing does not panic");
        done
    });
    assert_eq!(done["keys"], true);
    assert_eq!(done["settings"], true);
    // On one file system the packs are the same files.
    assert_eq!(done["linked_packs"], done["new_packs"], "{done}");
    let packs = fs::read_dir(shop.backup().join("packs")).unwrap();
    let packs = packs.map(|entry| entry.unwrap().path());
    for pack in packs.filter(|path| path.extension().is_some_and(|e| e == "car")) {
        let name = pack.file_name().unwrap().to_str().unwrap();
        let name: String = name.split('-').take(2).collect::<Vec<_>>().join("-");
        let own = shop
            .duka
            .data_dir()
            .join(format!("blocks/packs/{name}.car"));
        let (own, pack) = (own.metadata().unwrap(), pack.metadata().unwrap());
        assert_eq!((own.dev(), own.ino()), (pack.dev(), pack.ino()));
    }
    let keys = fs::read_dir(shop.backup().join("keys")).unwrap().next();
    let keys = keys.unwrap().unwrap();
    assert_eq!(keys.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(keys.path()).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));

    // The second one has what came since, and only that.
    let last = shop.publish_random(9).unwrap();
    let again = shop
        .duka
        .ok(&["backup", "backup", "--passphrase-file", &passphrase])
        .unwrap();
    assert!(
        again["new_packs"].as_u64() < again["packs"].as_u64(),
        "{again}"
    );
    // Others know heads that the backup does not have.
    shop.publish_random(10).unwrap();

    let other = elsewhere();
    let restored = shop.restore_to(&other, &["--passphrase-file", &passphrase]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert_eq!(restored.result().unwrap()["keys"], true);
    assert_has(&other, &shop, &first, 1);
    assert_has(&other, &shop, &last, 9);
    let name = &shop.name;
    assert_eq!(field(&other.ok(&["id"]).unwrap(), "name").unwrap(), name);
    assert_eq!(
        fs::read(other.data_dir().join("config.toml")).unwrap(),
        fs::read(shop.duka.home().join("config.toml")).unwrap()
    );

    let known = head_of(&shop.duka, name);
    let gateway = node.gateway().unwrap();
    other
        .configure(&Options {
            more: format!("upstreams = [{gateway:?}]\n"),
            ..Options::default()
        })
        .unwrap();
    let continued = other.serve().unwrap();
    let file = shop.source(9);
    let file = file.to_str().unwrap();
    let published = other.ok(&["publish", file, "--product", "more"]).unwrap();
    assert_eq!(published["product"], "more");
    let next = duka_tests::process::wait_until("a new head", Duration::from_secs(60), || {
        let head = head_of(&other, name);
        (head["seq"].as_u64() > known["seq"].as_u64()).then_some(head)
    });
    assert_eq!(next.unwrap()["counts"]["products"], 2);
    continued.stop().unwrap();
    node.stop().unwrap();
}

/// The head that a node has of a shop.
fn head_of(duka: &Duka, name: &str) -> Value {
    let outcome = duka.plain(&["cat", &format!("/ipns/{name}/shop.json")]);
    serde_json::from_slice(&outcome.unwrap().stdout).unwrap()
}

#[test]
fn a_killed_backup_leaves_the_one_before_or_the_new_one() {
    let shop = Shop::new();
    let first = shop.publish_random(0).unwrap();
    shop.back_up().unwrap();
    let mut complete = 0;
    for kill in 1..10_u64 {
        shop.publish_random(kill).unwrap();
        let mut command = shop.duka.command();
        command.args(["backup", "backup", "--recipient", RECIPIENT]);
        // By the command itself and by the node that it asks.
        if kill.is_multiple_of(2) {
            let node = shop.duka.serve().unwrap();
            let process = Process::start("duka backup", &mut command).unwrap();
            std::thread::sleep(Duration::from_millis(kill * 7));
            node.kill();
            process.wait_exit(Duration::from_secs(60)).unwrap();
        } else {
            let process = Process::start("duka backup", &mut command).unwrap();
            std::thread::sleep(Duration::from_millis(20 + kill * 17));
            process.kill();
        }
        let other = elsewhere();
        let verified = shop.restore_to(&other, &["--dry-run"]);
        assert_eq!(verified.code, 0, "kill {kill}: {verified:?}");
        assert!(!other.data_dir().exists());
        if kill.is_multiple_of(3) {
            shop.back_up().unwrap();
            complete = kill;
        }
    }
    let other = elsewhere();
    let restored = shop.restore_to(&other, &["--identity", &shop.identity()]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert_has(&other, &shop, &first, 0);
    assert!(versions(&other, "files").len() as u64 > complete);
    other.ok(&["fsck", "--deep"]).unwrap();
}

#[test]
fn a_killed_restore_is_begun_anew() {
    let shop = Shop::new();
    let version = shop.publish_random(1).unwrap();
    shop.back_up().unwrap();
    let other = elsewhere();
    let (folder, identity) = (shop.backup(), shop.identity());
    for kill in 0..6 {
        let mut command = other.command();
        command.arg("restore").arg(&folder);
        command.args(["--identity", &identity]);
        let process = Process::start("duka restore", &mut command).unwrap();
        std::thread::sleep(Duration::from_millis(3 + kill * 9));
        process.kill();
        let id = other.cmd(&["id"]).unwrap();
        if id.code == 0 {
            // It had come to its end.
            fs::remove_dir_all(other.data_dir()).unwrap();
        } else {
            assert!([3, 7].contains(&id.code), "{id:?}");
        }
    }
    let restored = shop.restore_to(&other, &["--identity", &identity]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert_has(&other, &shop, &version, 1);
}

#[test]
fn what_cannot_be_restored_is_refused_with_a_reason() {
    let shop = Shop::new();
    shop.publish_random(1).unwrap();
    let passphrase = shop.passphrase();
    let refused = shop.duka.cmd(&["backup", "backup"]).unwrap();
    assert_refused(&refused, 2, &["--passphrase-file", "--without-keys"]);
    let refused = shop
        .duka
        .cmd(&["backup", "backup", "--recipient", "age1me"]);
    assert_refused(&refused.unwrap(), 2, &["age1me", "recipient"]);
    shop.duka
        .ok(&["backup", "backup", "--passphrase-file", &passphrase])
        .unwrap();

    let other = elsewhere();
    let wrong = other.home().join("wrong");
    fs::write(&wrong, "battery staple\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    let refused = shop.restore_to(&other, &["--passphrase-file", wrong]);
    assert_refused(&refused, 6, &["passphrase"]);
    let refused = shop.restore_to(&other, &["--identity", &shop.identity()]);
    assert_refused(&refused, 2, &["--passphrase-file"]);
    let refused = shop.restore_to(&other, &[]);
    assert_refused(&refused, 2, &["--passphrase-file", "--identity"]);
    assert!(!other.data_dir().exists());
    let refused = shop.restore_to(&shop.duka, &["--passphrase-file", &passphrase]);
    assert_refused(&refused, 6, &["not empty", "--data-dir"]);
    let refused = other.cmd(&["restore", "nothing"]).unwrap();
    assert_refused(&refused, 3, &["no backup", "nothing"]);

    let pack = fs::read_dir(shop.backup().join("packs")).unwrap().next();
    let pack = pack.unwrap().unwrap().path();
    let whole = fs::read(&pack).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 16;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, &flipped).unwrap();
    let named = pack.file_name().unwrap().to_str().unwrap();
    for more in [&["--passphrase-file", &passphrase][..], &["--dry-run"]] {
        let refused = shop.restore_to(&other, more);
        assert_refused(&refused, 4, &["damaged", named]);
        assert_eq!(other.cmd(&["id"]).unwrap().code, 3);
    }
    fs::write(&pack, &whole).unwrap();

    let list = shop.backup().join("backup.json");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    let refused = shop.restore_to(&other, &["--passphrase-file", &passphrase]);
    assert_refused(&refused, 6, &["newer duka", "format 2"]);
    fs::write(&list, text).unwrap();

    let restored = shop.restore_to(&other, &["--without-keys"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert_eq!(restored.result().unwrap()["keys"], false);
    assert_refused(&other.cmd(&["id"]).unwrap(), 3, &["shop.key"]);
}

#[test]
fn a_backup_without_keys_says_so() {
    let shop = Shop::new();
    shop.publish_random(1).unwrap();
    let made = shop
        .duka
        .plain(&["backup", "backup", "--without-keys"])
        .unwrap();
    assert!(made.stderr.contains("the keys are not in it"), "{made:?}");
    assert_eq!(fs::read_dir(shop.backup().join("keys")).unwrap().count(), 0);
    let refused = shop.restore_to(&elsewhere(), &["--identity", &shop.identity()]);
    assert_refused(&refused, 3, &["without the keys", "--without-keys"]);
}

#[test]
fn a_rebuild_is_for_a_stopped_node_and_says_what_is_lost() {
    let shop = Shop::new();
    let version = shop.publish_random(1).unwrap();
    let node = shop.duka.serve().unwrap();
    assert_refused(
        &shop.duka.cmd(&["rebuild"]).unwrap(),
        11,
        &["in use", "stop"],
    );
    node.stop().unwrap();
    let manifest = shop.duka.data_dir().join("manifest");
    fs::remove_dir_all(manifest.join("index")).unwrap();
    let rebuilt = shop.duka.ok(&["rebuild"]).unwrap();
    assert_eq!(
        (&rebuilt["products"], &rebuilt["releases"]),
        (&1.into(), &1.into())
    );
    assert!(versions(&shop.duka, "files").contains(&version));

    let journals = fs::read_dir(&manifest).unwrap();
    let journals = journals.map(|entry| entry.unwrap().path());
    for journal in journals.filter(|path| path.extension().is_some_and(|e| e == "log")) {
        fs::remove_file(journal).unwrap();
    }
    let refused = shop.duka.cmd(&["rebuild"]).unwrap();
    assert_refused(&refused, 4, &["cannot be recovered", "duka restore"]);
}
