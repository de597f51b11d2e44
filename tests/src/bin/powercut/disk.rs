//! ext4 on a loop device, whose power can be cut.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, ensure};
use duka_tests::{locate, process};

/// Time for a command that makes, mounts or unmounts.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the disk. Only what is written takes room.
const SIZE: u64 = 2 << 30;
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const SHUTDOWN: &str = r#"open(D, "<", $ARGV[0]) or die "$!"; my $flags = pack("L", 2); ioctl(D, 0x8004587d, $flags) or die "$!""#;
/// Says that the name space was made.
const IN_NAME_SPACE: &str = "DUKA_POWERCUT_NAME_SPACE";

/// Starts this program again in a name space of its own: what it mounts is gone with it, however it ends.
/// `None` when it runs there.
pub(crate) fn in_own_name_space() -> Result<Option<ExitCode>> {
    if std::env::var_os(IN_NAME_SPACE).is_some() {
        return Ok(None);
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "mounting a disk needs root"
    );
    let status = Command::new(locate::system("unshare")?)
        .args(["--mount", "--propagation", "private", "--kill-child"])
        .args(["--fork", "--pid", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(IN_NAME_SPACE, "1")
        .status()?;
    let code = status.code().or(status.signal()).unwrap_or(1);
    Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

/// A mounted disk, unmounted and removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let image = folder.join("disk.img");
        std::fs::File::create(&image)?.set_len(SIZE)?;
        let mount = folder.join("disk");
        std::fs::create_dir_all(&mount)?;
        run("mkfs.ext4", &["-q", "-F", text(&image)?])?;
        let disk = Self { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: from now on nothing is written any more.
    pub(crate) fn cut(&self) -> Result<()> {
        run("perl", &["-e", SHUTDOWN, text(&self.mount)?])
    }

    /// Turns the power on again.
    pub(crate) fn restart(&self) -> Result<()> {
        run("umount", &[text(&self.mount)?])?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let (image, mount) = (text(&self.image)?, text(&self.mount)?);
        run("mount", &["-o", "loop", image, mount])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = text(&self.mount).and_then(|mount| run("umount", &[mount]));
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
