//! The links of any block, by its codec.

use cid::Cid;

use super::DagError;
use crate::block::Block;

/// The CIDs that a block links to, in order, duplicates kept. A codec without links gives none.
///
/// # Errors
/// [`DagError::Malformed`] when the block is not valid for its codec.
pub fn links(_block: &Block) -> Result<Vec<Cid>, DagError> {
    todo!()
}
