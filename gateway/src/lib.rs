//! Everything HTTP: the IPFS gateway, health and metrics, and the control socket that the command
//! line talks to.
//!
//! A gateway request moves forward through four phases, each a value: `request` (parse and
//! negotiate) → `resolve` (path → CID) → `respond` (one file per format) → stream. See
//! <https://specs.ipfs.tech/http-gateways/>.

pub mod api;
mod body;
pub mod control;
mod error;
pub mod fuzz;
mod health;
mod ipfs;
mod metrics;
mod routes;
pub mod server;

#[cfg(test)]
mod tests;
