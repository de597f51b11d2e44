//! Trustless gateways as a source (specs.ipfs.tech/http-gateways/trustless-gateway): raw blocks over
//! HTTP, each verified as it arrives.

use std::time::Duration;

use cid::Cid;
use url::Url;

use super::{BlockSource, FetchError};
use crate::block::Block;

/// A few gateways, asked for raw blocks. One that lies is never asked again.
#[derive(Clone, Debug)]
pub struct TrustlessSource {}

impl TrustlessSource {
    /// Asks `gateways`, each request bounded by `timeout` without progress.
    pub fn new(_gateways: Vec<Url>, _timeout: Duration) -> Self {
        todo!()
    }

    /// The signed record of a name, as gateways have it: not verified here.
    pub async fn ipns_record(&self, _name: &crate::keys::Name) -> Vec<Vec<u8>> {
        todo!()
    }
}

impl BlockSource for TrustlessSource {
    async fn fetch(&self, _cid: &Cid) -> Result<Block, FetchError> {
        todo!()
    }
}
