//! Content, manifest and network of duka: everything a node does, without terminal, HTTP server
//! or environment.
//!
//! The three flows are one function each, read top to bottom: [`publish`], [`fetch`], [`get`].
//! They move values over four parts:
//!
//! - [`store`]: blocks in append-only pack files;
//! - [`dag`]: UnixFS trees over blocks: import, read, paths, CAR;
//! - [`manifest`]: products, releases, pins, names and jobs behind one durable `commit`;
//! - [`net`]: libp2p: bitswap, DHT, IPNS.
//!
//! [`shop`] builds the signed directory that a shop's name resolves to. [`node::Node`] opens all of
//! it, runs the workers and shuts them down.

pub mod announce;
pub mod backup;
pub mod block;
pub mod blocking;
mod buffer;
pub mod channel;
pub mod dag;
pub mod denylist;
pub mod diff;
#[doc(hidden)]
pub mod disk;
pub mod fetch;
pub mod fsck;
#[doc(hidden)]
pub mod fuzz;
pub mod gc;
pub mod get;
pub mod human;
pub mod ids;
pub mod ipns;
pub mod keyring;
pub mod keys;
pub mod layout;
pub mod manifest;
pub mod mirror;
pub mod name;
pub mod net;
pub mod node;
pub mod pace;
mod picture;
pub mod pin;
pub mod product;
pub mod prove;
pub mod publish;
pub mod rate;
pub mod rebuild;
pub mod recent;
mod repair;
pub mod restore;
mod room;
mod roots;
pub mod scrub;
pub mod search;
pub mod served;
pub mod shop;
pub mod source;
pub mod store;
pub mod temp_pins;
mod title;
pub mod verify;
pub mod yank;
