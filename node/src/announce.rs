//! ANNOUNCE: the worker that computes checksums, builds and signs the head, and tells the network.
