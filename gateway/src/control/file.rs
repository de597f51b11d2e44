//! Files, as they are written to standard output.

use cid::Cid;
use duka_node::dag::read;
use duka_node::dag::unixfs::UnixFs;
use duka_node::source::BlockSource;

use super::failure::{Code, Failure};

/// Length of the file `cid`, in bytes. `path` is what the user called it.
///
/// # Errors
/// When it cannot be had, or is a directory or a link.
pub async fn file_size<S: BlockSource>(source: &S, cid: &Cid, path: &str) -> Result<u64, Failure> {
    match read::load(source, cid).await? {
        UnixFs::File(file) => Ok(file.size),
        UnixFs::Directory(_) | UnixFs::Shard(_) => {
            let message = format!("{path} is a directory");
            Err(Failure::new(Code::Permanent, message)
                .hint("`duka ls` lists it, `duka get` writes it to disk"))
        }
        UnixFs::Symlink { target } => {
            let target = String::from_utf8_lossy(&target);
            let message = format!("{path} is a symbolic link to {target}");
            Err(Failure::new(Code::Permanent, message))
        }
    }
}
