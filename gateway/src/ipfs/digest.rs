//! SHA-256 of whole files (`Repr-Digest` and `Content-Digest`, RFC 9530).

use std::num::NonZeroUsize;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cid::Cid;
use duka_node::block::{RAW, SHA2_256};
use duka_node::dag::read;
use duka_node::source::BlockSource;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::error::GatewayError;

/// Digests that are remembered: 1 MiB of memory.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not 0");

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// Digests of files that were asked for before.
#[derive(Debug)]
pub(crate) struct Digests(Mutex<LruCache<Cid, Digest>>);

impl Digests {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// The digest of a file, if that costs nothing.
    pub(crate) fn known(&self, file: &Cid) -> Option<Digest> {
        of_raw(file).or_else(|| self.0.lock().get(file).copied())
    }

    /// The digest of a file of `size` bytes; reads it unless it is known.
    pub(crate) async fn of<S: BlockSource + Clone>(
        &self,
        source: &S,
        file: Cid,
        size: u64,
    ) -> Result<Digest, GatewayError> {
        if let Some(known) = self.known(&file) {
            return Ok(known);
        }
        let chunks = read::read_range(source, file, 0..size).map_err(GatewayError::from);
        let hashed = chunks.try_fold(Sha256::new(), async |mut hasher, chunk| {
            let hash = move || {
                hasher.update(&chunk);
                hasher
            };
            let hashed = tokio::task::spawn_blocking(hash).await;
            Ok(hashed.expect("hashing does not panic"))
        });
        let digest = hashed.await?.finalize().into();
        self.0.lock().put(file, digest);
        Ok(digest)
    }
}

/// A raw block's CID holds the digest of its bytes.
pub(crate) fn of_raw(cid: &Cid) -> Option<Digest> {
    let is_digest = cid.codec() == RAW && cid.hash().code() == SHA2_256;
    is_digest
        .then(|| cid.hash().digest().try_into().ok())
        .flatten()
}

/// Tells the digest of a file. What is sent has the same one only if it is the `whole` file.
pub(crate) fn tell(headers: &mut HeaderMap, digest: &Digest, whole: bool) {
    let value = format!("sha-256=:{}:", STANDARD.encode(digest));
    let value = HeaderValue::try_from(value).expect("base64 is a header value");
    if whole {
        let name = HeaderName::from_static("content-digest");
        headers.insert(name, value.clone());
    }
    headers.insert(HeaderName::from_static("repr-digest"), value);
}
