//! Where the socket is. Its path must fit into 104 bytes (`sun_path` on macOS; Linux has 108), so it
//! is in the data directory when that is short enough, else in the runtime directory; the file
//! `control` in the data directory holds the path. It also says which directory it was written for, so that
//! a copy of that directory does not lead to the node of the original.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use duka_node::block::{RAW, cid_of};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// Longest socket path, in bytes, without the closing zero.
const MAX_PATH: usize = 103;
/// The file with the path.
const FILE: &str = "control";
/// Longest path that is read back.
const MAX_FILE: u64 = 4096;

/// Chooses the socket's path for `data_dir`, making the runtime directory when it is needed.
pub(super) fn choose(data_dir: &Path, runtime_dir: Option<&Path>) -> io::Result<PathBuf> {
    let beside = std::path::absolute(data_dir)?.join("control.sock");
    if beside.as_os_str().len() <= MAX_PATH {
        return Ok(beside);
    }
    let fallback = PathBuf::from(format!("/tmp/duka-{}", geteuid().as_raw()));
    let dir = runtime_dir.unwrap_or(&fallback);
    private_dir(dir)?;
    let id = cid_of(RAW, beside.as_os_str().as_bytes()).to_string();
    let short = id.get(id.len().saturating_sub(16)..).unwrap_or(&id);
    Ok(dir.join(format!("{short}.sock")))
}

/// Makes `dir` for this user only, or checks that it is.
fn private_dir(dir: &Path) -> io::Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(dir);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let found = std::fs::symlink_metadata(dir)?;
    let private = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
    if private {
        Ok(())
    } else {
        let message = format!("{} can be used by other users", dir.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}

/// Listens on `path`, for this user only.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    // Whoever holds the directory's lock is the only one to listen: a socket found is a rest.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Whether the other end is a process of the same user.
pub(super) fn is_same_user(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// Whether connecting failed because nobody listens: a node has stopped, or was killed and left its socket
/// behind.
pub(super) fn is_left_behind(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Writes down where the socket is.
pub(super) fn record(data_dir: &Path, socket: &Path) -> io::Result<()> {
    let new = data_dir.join(".control.new");
    let mut text = identity(data_dir)?.into_bytes();
    text.push(b'\n');
    text.extend_from_slice(socket.as_os_str().as_bytes());
    std::fs::write(&new, text)?;
    std::fs::rename(new, data_dir.join(FILE))
}

/// Which directory it is, wherever it was moved.
fn identity(data_dir: &Path) -> io::Result<String> {
    let found = std::fs::metadata(data_dir)?;
    Ok(format!("{} {}", found.dev(), found.ino()))
}

/// Where the socket of a node running in `data_dir` would be; `None` when none was started there, or only
/// in the directory that this one is a copy of.
pub(super) fn find(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    use io::Read;
    let file = match std::fs::File::open(data_dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let path = text.split_off(end + 1);
    let is_here = text.trim_ascii_end() == identity(data_dir)?.as_bytes();
    Ok(is_here.then(|| PathBuf::from(std::ffi::OsString::from_vec(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_data_directory_gets_a_short_path_elsewhere() {
        let runtime = tempfile::tempdir().unwrap();
        let runtime = runtime.path().join("duka");
        let long = PathBuf::from(format!("/{}", "d/".repeat(100)));
        let path = choose(&long, Some(&runtime)).unwrap();
        assert!(path.starts_with(&runtime));
        assert!(path.as_os_str().len() <= MAX_PATH);
        let other = PathBuf::from(format!("/{}", "e/".repeat(100)));
        assert_ne!(choose(&other, Some(&runtime)).unwrap(), path);
    }

    #[test]
    fn directory_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(private_dir(dir.path()).is_err());
    }

    #[test]
    fn recorded_path_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path()).unwrap(), None);
        record(dir.path(), Path::new("/run/x.sock")).unwrap();
        assert_eq!(find(dir.path()).unwrap(), Some("/run/x.sock".into()));
    }

    #[test]
    fn copy_of_a_data_directory_does_not_lead_to_the_node_of_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
        std::fs::create_dir(&original).unwrap();
        std::fs::create_dir(&copy).unwrap();
        record(&original, Path::new("/run/x.sock")).unwrap();
        std::fs::copy(original.join(FILE), copy.join(FILE)).unwrap();
        assert_eq!(find(&copy).unwrap(), None);
        let moved = dir.path().join("moved");
        std::fs::rename(&original, &moved).unwrap();
        assert_eq!(find(&moved).unwrap(), Some("/run/x.sock".into()));
    }
}
