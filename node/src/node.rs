//! [`Node`]: opens store, manifest, keys and network, runs the workers, shuts them down. The only
//! place that spawns tasks.

use std::path::Path;
use std::sync::Arc;

use duka_config::Config;

use crate::fetch::{FetchOptions, Fetcher};
use crate::ipns::Record;
use crate::keys::{Keys, Name};
use crate::manifest::Manifest;
use crate::name::{NameError, ResolvedName};
use crate::net::Network;
use crate::store::Store;

/// A running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<()>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {}

impl Node {
    /// Opens the data directory and its keys, takes its lock, and starts the workers. With
    /// `network.offline` no network is started.
    pub async fn open(_data_dir: &Path, _config: &Config) -> Result<Self, OpenError> {
        todo!()
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        todo!()
    }

    /// The block store.
    pub fn store(&self) -> &Store {
        todo!()
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        todo!()
    }

    /// The network, unless offline.
    pub fn network(&self) -> Option<&Network> {
        todo!()
    }

    /// A source for one request.
    pub fn fetcher(&self, _options: FetchOptions) -> Fetcher {
        todo!()
    }

    /// Resolves a name to the path it leads to.
    pub async fn resolve_name(&self, _name: &Name) -> Result<ResolvedName, NameError> {
        todo!()
    }

    /// Verifies and keeps a record that someone else signed; tells the network when there is one.
    pub async fn put_name(&self, _name: &Name, _bytes: &[u8]) -> Result<Record, NameError> {
        todo!()
    }

    /// Stops the workers and the network, commits the store. Bounded by 10 s.
    pub async fn shutdown(&self) {
        todo!()
    }
}
