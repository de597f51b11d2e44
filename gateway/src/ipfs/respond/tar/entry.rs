//! Headers of a TAR's entries: ustar, with a PAX header before it for names that do not fit or are
//! not ASCII (POSIX.1-2017, pax).

use std::io;

use bytes::Bytes;
use duka_node::dag::unixfs::{FileNode, Metadata, UnixFs};
use tar::{Builder, EntryType, Header};

use crate::body::BodyError;

/// Headers and contents fill whole blocks of so many bytes.
pub(super) const BLOCK: usize = 512;
/// Bits of a mode that are kept: nobody's archive sets a user id on execution.
const PERMISSIONS: u32 = 0o777;

/// What an entry is.
#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    File { size: u64 },
    Folder,
    Symlink { target: &'a [u8] },
}

/// An entry before its contents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// From the root of the archive, slashes between names.
    path: &'a str,
    kind: Kind<'a>,
    mode: u32,
    /// Seconds since 1970. Without one in the DAG 0, so that the same tree is the same archive.
    mtime: u64,
}

impl<'a> Entry<'a> {
    pub(super) fn of_file(path: &'a str, file: &FileNode) -> Self {
        let kind = Kind::File { size: file.size };
        Self::new(path, kind, file.metadata, 0o644)
    }

    pub(super) fn of_folder(path: &'a str, node: &UnixFs) -> Self {
        let metadata = match node {
            UnixFs::Directory(node) => node.metadata,
            UnixFs::Shard(node) => node.metadata,
            UnixFs::File(_) | UnixFs::Symlink { .. } => Metadata::default(),
        };
        Self::new(path, Kind::Folder, metadata, 0o755)
    }

    pub(super) fn of_symlink(path: &'a str, target: &'a [u8]) -> Self {
        Self::new(path, Kind::Symlink { target }, Metadata::default(), 0o777)
    }

    fn new(path: &'a str, kind: Kind<'a>, metadata: Metadata, default_mode: u32) -> Self {
        let mtime = metadata
            .mtime
            .and_then(|(seconds, _)| u64::try_from(seconds).ok());
        Self {
            path,
            kind,
            mode: metadata.mode.unwrap_or(default_mode) & PERMISSIONS,
            mtime: mtime.unwrap_or(0),
        }
    }

    /// The header, whole blocks.
    pub(super) fn header(self) -> Result<Bytes, BodyError> {
        self.encode().map(Bytes::from).map_err(BodyError::Tar)
    }

    fn encode(self) -> io::Result<Vec<u8>> {
        let path = match self.kind {
            Kind::Folder => format!("{}/", self.path),
            _ => self.path.to_owned(),
        };
        let mut header = Header::new_ustar();
        header.set_mode(self.mode);
        header.set_mtime(self.mtime);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_entry_type(match self.kind {
            Kind::File { .. } => EntryType::Regular,
            Kind::Folder => EntryType::Directory,
            Kind::Symlink { .. } => EntryType::Symlink,
        });
        if let Kind::File { size } = self.kind {
            header.set_size(size);
        }
        let mut extended = Vec::new();
        if !path.is_ascii() || header.set_path(&path).is_err() {
            extended.push(("path", path.as_bytes()));
        }
        if let Kind::Symlink { target } = self.kind
            && (!target.is_ascii() || header.set_link_name_literal(target).is_err())
        {
            extended.push(("linkpath", target));
        }
        header.set_cksum();
        let mut builder = Builder::new(Vec::with_capacity(BLOCK));
        builder.append_pax_extensions(extended)?;
        builder.append(&header, io::empty())?;
        Ok(std::mem::take(builder.get_mut()))
    }
}

/// Zeroes that fill the last block of a file of `size` bytes.
pub(super) fn padding(size: u64) -> &'static [u8] {
    const ZEROES: [u8; BLOCK] = [0; BLOCK];
    let end = size.next_multiple_of(BLOCK as u64);
    let missing = usize::try_from(end - size).unwrap_or_default();
    ZEROES.get(..missing).unwrap_or_default()
}

/// The path of `name` in `folder`, whose first name is the archive's root. A name may hold slashes
/// and dots as long as it stays below that root; `None` when it does not, or is no text.
pub(super) fn join(folder: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.contains('\0'))?;
    let mut names: Vec<&str> = folder.split('/').collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                names.pop();
                if names.is_empty() {
                    return None;
                }
            }
            part => names.push(part),
        }
    }
    (names.len() > 1).then(|| names.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_may_wander_inside_the_root_and_not_out_of_it() {
        assert_eq!(join("tree/a", b"../b/./c").unwrap(), "tree/b/c");
        assert_eq!(join("tree", b"/etc/passwd").unwrap(), "tree/etc/passwd");
        for name in [
            &b"../../tree/x"[..],
            b"..",
            b"../..",
            b".",
            b"",
            b"a\0b",
            b"\xff",
        ] {
            assert_eq!(join("tree", name), None, "{name:?}");
        }
    }

    #[test]
    fn padding_fills_the_block() {
        assert_eq!(padding(0).len(), 0);
        assert_eq!(padding(1).len(), 511);
        assert_eq!(padding(512).len(), 0);
        assert_eq!(padding(513).len(), 511);
    }

    proptest! {
        #[test]
        fn any_name_stays_below_the_root(name in "(/|\\.|\\.\\.|[a-c]|é){0,12}") {
            if let Some(path) = join("tree/folder", name.as_bytes()) {
                prop_assert!(path.starts_with("tree/"));
                prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }

        #[test]
        fn any_entry_is_read_back_by_another_implementation_of_paths(
            path in "[a-zé/]{1,300}", size in 0u64..1 << 40, mode in 0u32..0o1000,
        ) {
            let path = join("tree", path.as_bytes()).unwrap_or_else(|| "tree/x".to_owned());
            let entry = Entry { path: &path, kind: Kind::File { size }, mode, mtime: 7 };
            let mut bytes = entry.encode().unwrap();
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            bytes.extend_from_slice(&[0; 2 * BLOCK]);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let read = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(read.path_bytes(), path.as_bytes());
            prop_assert_eq!(read.size(), size);
            prop_assert_eq!(read.header().mode().unwrap(), mode);
        }
    }
}
