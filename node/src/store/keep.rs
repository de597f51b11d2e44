//! How the bytes of a block get into the store.

use super::in_place::Origin;
use super::reflink::Extent;

/// How the bytes of a block are kept.
#[derive(Clone, Debug)]
pub enum Keep {
    /// The pack gets a copy.
    Copied,
    /// The pack shares them with another file, where the file system can; whole pages only, others are copied.
    Shared(Extent),
    /// They stay where they are, and the pack says where; a record that would be too long has them copied.
    InPlace(Origin),
}
