//! End to end tests of duka: real binary, real peers, faults.
