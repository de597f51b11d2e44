//! Everything HTTP: the IPFS gateway, health and metrics, and the control socket that the command
//! line talks to.
//!
//! A gateway request moves forward through four phases, each a value: `request` (parse and
//! negotiate) → `resolve` (path → CID) → `respond` (one file per format) → stream. See
//! <https://specs.ipfs.tech/http-gateways/>.

pub mod control;
pub mod server;
