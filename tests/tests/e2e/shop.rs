//! A shop of a test. What the tests of one kind do with it stands beside them.

use duka_tests::Duka;
use duka_tests::duka::field;

pub(crate) struct Shop {
    pub(crate) duka: Duka,
    pub(crate) name: String,
}

impl Shop {
    /// One without products.
    pub(crate) fn new() -> Self {
        let duka = Duka::new().unwrap();
        let id = duka.ok(&["id"]).unwrap();
        let name = field(&id, "name").unwrap().to_owned();
        Self { duka, name }
    }
}
