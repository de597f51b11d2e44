//! Builds the shop directory.
