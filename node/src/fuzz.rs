//! What fuzzing calls that is private otherwise.

pub use crate::denylist::fuzz as read_denylist;
pub use crate::ipns::fuzz::{example_record, sign_data, verify_record};
pub use crate::manifest::fuzz::{read_journal, write_journal};
pub use crate::net::bitswap::fuzz::{Counts, decode_message, example_messages};
