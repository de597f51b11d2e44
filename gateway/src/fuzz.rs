//! What fuzzing calls that is private otherwise.

pub use crate::ipfs::fuzz::{
    Obeyed, accepted, decode_path, encode_path, obey_redirects, redirect_of, select_range,
};
