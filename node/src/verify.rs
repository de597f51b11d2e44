//! VERIFY: does a file or folder on disk have this CID?
//!
//! The same bytes have different CIDs under different import settings, so the profile is found from
//! the CID: version 0 → `unixfs-v0-2015`, version 1 → `unixfs-v1-2025`.

use std::path::Path;

use cid::{Cid, Version};

use crate::dag::import::{
    ImportError, ImportOptions, ImportedFile, OnProgress, Profile, Sink, import_path,
};

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The CID that the path has under the profile.
    pub found: Cid,
    /// Whether it is the wanted one.
    pub matches: bool,
    /// Bytes hashed.
    pub bytes: u64,
    /// The regular files, in path order.
    pub files: Vec<ImportedFile>,
}

/// Hashes `path` and compares. Names that begin with a dot count: they are on the disk, so they are
/// part of what is verified. Blocking; stores nothing.
pub fn verify(path: &Path, cid: &Cid, progress: &OnProgress) -> Result<Verdict, ImportError> {
    let options = ImportOptions {
        profile: match cid.version() {
            Version::V0 => Profile::UnixfsV0_2015,
            Version::V1 => Profile::UnixfsV1_2025,
        },
        hidden: true,
        ..ImportOptions::default()
    };
    let imported = import_path(&Sink::Discard, path, &options, progress)?;
    Ok(Verdict {
        found: imported.root,
        matches: imported.root == *cid,
        bytes: imported.bytes,
        files: imported.files,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_folder_is_verified_under_the_profile_of_its_cid() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("album");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("song"), "la la").unwrap();
        std::fs::write(folder.join(".hidden"), "counts").unwrap();
        for profile in [Profile::UnixfsV0_2015, Profile::UnixfsV1_2025] {
            std::fs::write(folder.join("song"), "la la").unwrap();
            let options = ImportOptions {
                profile,
                hidden: true,
                ..ImportOptions::default()
            };
            let progress: OnProgress = Arc::new(|_| true);
            let root = import_path(&Sink::Discard, &folder, &options, &progress)
                .unwrap()
                .root;
            let verdict = verify(&folder, &root, &progress).unwrap();
            assert_eq!((verdict.matches, verdict.found), (true, root));
            assert_eq!(verdict.bytes, 11);

            std::fs::write(folder.join("song"), "la lu").unwrap();
            let verdict = verify(&folder, &root, &progress).unwrap();
            assert!(!verdict.matches);
            assert_ne!(verdict.found, root);
            assert_eq!(verdict.found.version(), root.version());
        }
    }

    #[test]
    fn cids_that_kubo_gives_to_a_file_match() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "hello\n").unwrap();
        for cid in [
            "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN",
            "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am",
        ] {
            let progress: OnProgress = Arc::new(|_| true);
            let verdict = verify(&file, &cid.parse().unwrap(), &progress).unwrap();
            assert!(verdict.matches, "{cid}: {}", verdict.found);
        }
    }
}
