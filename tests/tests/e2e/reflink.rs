//! Files that share their room on the disk with the packs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use duka_tests::duka::{Options, field};
use duka_tests::kubo::{self, Kubo};
use duka_tests::loop_disk::{FileSystem, LoopDisk};
use duka_tests::{Duka, files};

use crate::{add, assert_refused};

const MIB: u64 = 1 << 20;

/// A shop on a disk of its own, which outlives it.
struct Shop {
    duka: Duka,
    disk: LoopDisk,
    _folder: tempfile::TempDir,
}

impl Shop {
    fn on(file_system: FileSystem) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let disk = LoopDisk::new(folder.path(), file_system)?;
        Ok(Self {
            duka: Duka::in_folder(disk.path(), &Options::default())?,
            disk,
            _folder: folder,
        })
    }

    /// A file on the disk.
    fn file(&self, name: &str, seed: u64, length: u64) -> Result<PathBuf> {
        let path = self.disk.path().join(name);
        files::write_random(&path, seed, length)?;
        Ok(path)
    }

    fn packs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.duka.data_dir().join("blocks/packs")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "car"));
        paths.sort();
        paths
    }

    fn add_shared(&self, path: &Path) -> Result<String> {
        let path = path.to_str().unwrap();
        let result = self.duka.ok(&["add", "--reflink", "always", path])?;
        Ok(field(&result, "cid")?.to_owned())
    }

    /// The SHA-256 of what `duka cat` gives.
    fn sha256(&self, cid: &str) -> Result<String> {
        Ok(files::sha256(&self.duka.plain(&["cat", cid])?.stdout))
    }
}

#[test]
fn a_file_takes_no_second_room_and_what_is_stored_does_not_depend_on_it() {
    let shop = Shop::on(FileSystem::Xfs).unwrap();
    let file = shop.file("film", 71, 256 * MIB).unwrap();
    let sha256 = files::sha256_of(&file).unwrap();
    let copied = Duka::new().unwrap();
    let hashed = copied.ok(&["add", "-n", file.to_str().unwrap()]).unwrap();

    let before = shop.disk.used().unwrap();
    let cid = shop.add_shared(&file).unwrap();
    let grown = shop.disk.used().unwrap() - before;
    assert!(grown < 256 * MIB / 20, "{grown} bytes more");
    assert_eq!(cid, field(&hashed, "cid").unwrap());
    let packed = fs::metadata(&shop.packs()[0]).unwrap().len();
    assert!(packed > 256 * MIB, "{packed}");

    assert_eq!(shop.sha256(&cid).unwrap(), sha256);
    // Written over, and gone.
    files::write_random(&file, 72, 256 * MIB).unwrap();
    assert_eq!(shop.sha256(&cid).unwrap(), sha256);
    fs::remove_file(&file).unwrap();
    shop.disk.restart().unwrap();
    assert_eq!(shop.sha256(&cid).unwrap(), sha256);
    shop.duka.ok(&["fsck", "--deep"]).unwrap();
}

#[test]
fn by_itself_and_collected_and_imported_by_kubo_it_is_the_same() {
    let shop = Shop::on(FileSystem::Xfs).unwrap();
    let kept = shop.file("kept", 73, 40 * MIB + 5_000).unwrap();
    let gone = shop.file("gone", 74, 40 * MIB).unwrap();
    let before = shop.disk.used().unwrap();
    let kept_cid = add(&shop.duka, &kept).unwrap();
    let gone_cid = add(&shop.duka, &gone).unwrap();
    let never = shop.file("never", 75, 40 * MIB).unwrap();
    let used = shop.disk.used().unwrap() - 40 * MIB;
    assert!(used - before < 4 * MIB, "{} bytes more", used - before);
    let copied = ["add", "--reflink", "never", never.to_str().unwrap()];
    shop.duka.ok(&copied).unwrap();
    let more = shop.disk.used().unwrap() - used - 40 * MIB;
    assert!(more > 39 * MIB, "only {more} bytes more");

    shop.duka.ok(&["pin", "rm", &gone_cid]).unwrap();
    let packs = shop.packs();
    shop.duka.ok(&["gc"]).unwrap();
    assert!(!packs[0].exists(), "it was not written anew");
    let used = shop.disk.used().unwrap() - before;
    // The last file and its copy: what is moved is shared again.
    assert!(used < (80 + 4) * MIB, "{used} bytes");
    assert_eq!(
        shop.sha256(&kept_cid).unwrap(),
        files::sha256_of(&kept).unwrap()
    );
    shop.duka.ok(&["fsck", "--deep"]).unwrap();

    let kubo = Kubo::init(kubo::Options::default()).unwrap();
    for pack in shop.packs() {
        let pack = pack.to_str().unwrap();
        kubo.ok(&["dag", "import", "--pin-roots=false", pack])
            .unwrap();
    }
    assert_eq!(
        files::sha256(&kubo.cat(&kept_cid).unwrap()),
        files::sha256_of(&kept).unwrap()
    );
}

#[test]
fn where_nothing_can_be_shared_always_is_refused_and_auto_copies() {
    let says = ["cannot reflink", "one file system", "XFS or Btrfs"];
    let ext4 = Shop::on(FileSystem::Ext4).unwrap();
    let file = ext4.file("file", 76, 3 * MIB).unwrap();
    let xfs = Shop::on(FileSystem::Xfs).unwrap();
    let path = file.to_str().unwrap();
    for shop in [&ext4, &xfs] {
        let refused = shop.duka.cmd(&["add", "--reflink", "always", path]);
        assert_refused(&refused.unwrap(), 6, &says);
        let cid = add(&shop.duka, &file).unwrap();
        assert_eq!(shop.sha256(&cid).unwrap(), files::sha256_of(&file).unwrap());
    }

    let small = ext4.file("small", 77, 1_000).unwrap();
    ext4.add_shared(&small).unwrap();
    for arguments in [
        &["--reflink", "always", "--preserve-mode", path][..],
        &["--reflink", "always", "-"],
    ] {
        let refused = ext4.duka.cmd(&[&["add"], arguments].concat()).unwrap();
        assert_refused(&refused, 2, &["cannot reflink"]);
    }
}
