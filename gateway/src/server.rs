//! Listener, limits and graceful stop of the gateway.
