//! A duka with something stored, which must still be there after whatever went wrong.

use std::fs;

use duka_tests::duka::Options;
use duka_tests::{Duka, files};

use crate::{add, cat};

/// A duka with something stored.
pub(crate) struct Kept {
    pub(crate) duka: Duka,
    pub(crate) cid: String,
}

impl Kept {
    pub(crate) fn new() -> Self {
        Self::with(&Options::default())
    }

    pub(crate) fn with(options: &Options) -> Self {
        let duka = Duka::with(options).unwrap();
        let file = duka.home().join("kept");
        fs::write(&file, files::random_bytes(50, 2_000_000)).unwrap();
        let cid = add(&duka, &file).unwrap();
        Self { duka, cid }
    }

    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        let bytes = cat(&self.duka, &self.cid).unwrap();
        assert!(
            bytes == files::random_bytes(50, 2_000_000),
            "what was stored changed"
        );
        self.duka.ok(&["fsck", "--deep"]).unwrap();
    }
}
