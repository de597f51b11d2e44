//! Typed settings of duka.
//!
//! Four layers, later ones win: the shipped `default.toml`, the user's file, the environment
//! (`DUKA_*`), flags. [`load()`] merges them and keeps the origin of each value, so that
//! `duka config explain KEY` can say where it came from. Each crate gets its own section.

mod load;
mod names;
mod optional;
mod origin;
mod paths;
mod sections;

pub use load::{ConfigError, Environment, Flag, Loaded, load};
pub use origin::{Explained, Origin};
pub use paths::{NoHome, Paths};
pub use sections::{
    AcmeConfig, Config, DagConfig, DhtMode, GatewayConfig, HostConfig, LimitsConfig, LogConfig,
    LogFormat, Namespace, NetworkConfig, ServePolicy, ShopConfig, StoreConfig, TlsConfig,
};
