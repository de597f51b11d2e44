//! The control socket: HTTP over a Unix socket (mode 0600), for the command line.
