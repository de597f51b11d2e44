//! Why one source did not give what it was asked for.

use std::time::Duration;

/// Why one source did not give what it was asked for; the later ones say more about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    NotFound,
    Lied,
    /// It will answer after this time.
    Later(Duration),
    /// It did not answer as a gateway should, or broke off.
    Failed,
    /// No connection could be made.
    Unreachable,
    TimedOut,
}
