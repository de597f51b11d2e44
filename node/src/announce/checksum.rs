//! The SHA-256 of each file of a release, and the release record that holds them.

use crate::ids::{ProductId, Version};
use crate::manifest::ManifestError;
use crate::manifest::record::JobId;
use crate::node::Node;

/// Why checksums could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Computes the checksums of a release and stores its record; the job is done with it.
pub(super) async fn record_release(
    _node: &Node,
    _job: JobId,
    _product: &ProductId,
    _version: &Version,
) -> Result<(), ChecksumError> {
    todo!()
}
