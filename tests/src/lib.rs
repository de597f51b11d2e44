//! End to end tests of duka: the real binary, real peers, faults.
//!
//! The harness starts programs as a user would: [`Duka`] and [`Kubo`] own a throwaway directory each,
//! listen on loopback ports that the kernel chooses, and are stopped (with everything they started)
//! when they are dropped. Waiting is always for an event, with a deadline.
//!
//! The binary under test is `duka` beside the test's own build directory (`target/debug/duka` for
//! `cargo test`), or the one named by `$DUKA`. Build it first, with the tests, as `tests/run` does:
//! `cargo build --workspace --all-targets`.

pub mod car;
pub mod cgroup;
pub mod curl;
pub mod disk;
pub mod duka;
pub mod files;
pub mod fuzz;
pub mod http;
pub mod http1;
pub mod kubo;
pub mod locate;
pub mod loop_disk;
pub mod net;
pub mod pebble;
pub mod process;
pub mod proxy;
pub mod random;
pub mod visitor;
pub mod webm;

pub use duka::Duka;
pub use kubo::Kubo;
