//! A file system on a loop device: it can be mounted again, and its power can be cut. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{locate, process};

/// Time for a command that makes, mounts or unmounts.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the disk. Only what is written takes room.
const SIZE: u64 = 2 << 30;
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`; both are the same for XFS.
const SHUTDOWN: &str = r#"open(D, "<", $ARGV[0]) or die "$!"; my $flags = pack("L", 2); ioctl(D, 0x8004587d, $flags) or die "$!""#;

/// What a disk is formatted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FileSystem {
    /// Has no reflinks.
    #[default]
    Ext4,
    /// Has reflinks.
    Xfs,
}

/// A mounted disk, unmounted and removed when it is dropped.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    mount: PathBuf,
}

impl LoopDisk {
    /// Makes a disk in a folder and mounts it.
    ///
    /// # Errors
    /// If a program for that is missing or fails, as for who is not root.
    pub fn new(folder: &Path, file_system: FileSystem) -> Result<Self> {
        let image = folder.join("disk.img");
        std::fs::File::create(&image)?.set_len(SIZE)?;
        let mount = folder.join("disk");
        std::fs::create_dir_all(&mount)?;
        match file_system {
            FileSystem::Ext4 => run("mkfs.ext4", &["-q", "-F", text(&image)?])?,
            FileSystem::Xfs => run("mkfs.xfs", &["-q", "-f", text(&image)?])?,
        }
        let disk = Self { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Bytes that are taken on it, once all is written.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn used(&self) -> Result<u64> {
        let root = std::fs::File::open(&self.mount)?;
        rustix::fs::syncfs(&root).context("writing everything")?;
        let stat = rustix::fs::fstatvfs(&root)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }

    /// Cuts the power: from now on nothing is written any more.
    ///
    /// # Errors
    /// If it cannot be cut.
    pub fn cut(&self) -> Result<()> {
        run("perl", &["-e", SHUTDOWN, text(&self.mount)?])
    }

    /// Unmounts it and mounts it again, which also turns the power on.
    ///
    /// # Errors
    /// If something is still open on it.
    pub fn restart(&self) -> Result<()> {
        run("umount", &[text(&self.mount)?])?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let (image, mount) = (text(&self.image)?, text(&self.mount)?);
        run("mount", &["-o", "loop", image, mount])
    }
}

impl Drop for LoopDisk {
    #[expect(clippy::print_stderr, reason = "who runs it has to unmount it")]
    fn drop(&mut self) {
        let unmounted = text(&self.mount).and_then(|mount| run("umount", &["--lazy", mount]));
        if let Err(error) = unmounted {
            eprintln!("{error:#}");
        }
        drop(std::fs::remove_file(&self.image));
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(locate::system(program)?);
    let output = process::run(command.args(arguments), PATIENCE)?;
    ensure!(
        output.code == Some(0),
        "{program} {arguments:?} failed: {}",
        output.stderr.trim()
    );
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| anyhow::anyhow!("{} is not text", path.display()))
}
