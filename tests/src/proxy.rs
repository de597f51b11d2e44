//! A wire with delay between two programs on loopback, for TCP and UDP.
//!
//! Every read is given the time at which it may leave, and waits in a bounded queue until then. The
//! queues hold 64 MiB a direction, which is bandwidth × delay for 2.5 GB/s at 25 ms: the
//! wire itself is no limit, and [`crate::proxy::ceiling`] proves it.

pub mod ceiling;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// Bytes on the wire, each way, for each connection.
const IN_FLIGHT: usize = 64 << 20;

/// What the wire carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// TCP streams.
    Tcp,
    /// UDP packets; what does not fit the wire is dropped.
    Udp,
}

/// A wire: what is sent to [`DelayProxy::address`] arrives at the upstream after a delay, and back.
/// It ends when it is dropped.
#[derive(Debug)]
pub struct DelayProxy {
    address: SocketAddr,
    /// The wire's tasks. An `Option` because a runtime is shut down by value.
    runtime: Option<Runtime>,
}

impl DelayProxy {
    /// Starts a wire on loopback; `one_way` is half of the round trip.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(carries: Carries, upstream: SocketAddr, one_way: Duration) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("wire")
            .enable_all()
            .build()?;
        let address = match carries {
            Carries::Tcp => runtime.block_on(tcp::start(upstream, one_way)),
            Carries::Udp => runtime.block_on(udp::start(upstream, one_way)),
        }?;
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }

    /// Starts a wire to a peer address such as `/ip4/127.0.0.1/tcp/4101/p2p/…` or
    /// `/ip4/127.0.0.1/udp/4101/quic-v1/p2p/…`, and gives the address of the peer over it.
    ///
    /// # Errors
    /// If the address has another form, or no port is free.
    pub fn before(peer: &str, one_way: Duration) -> Result<(Self, String)> {
        let mut parts: Vec<String> = peer.split('/').map(str::to_owned).collect();
        let (carries, port) = match parts.as_slice() {
            [_, ip4, _, kind, port, ..] if ip4 == "ip4" && kind == "tcp" => (Carries::Tcp, port),
            [_, ip4, _, kind, port, ..] if ip4 == "ip4" && kind == "udp" => (Carries::Udp, port),
            _ => anyhow::bail!("no wire to {peer}"),
        };
        let upstream = SocketAddr::from(([127, 0, 0, 1], port.parse().context("a port")?));
        let proxy = Self::start(carries, upstream, one_way)?;
        "127.0.0.1".clone_into(&mut parts[2]);
        parts[4] = proxy.address.port().to_string();
        Ok((proxy, parts.join("/")))
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_the_delay_each_way() {
        for carries in [Carries::Tcp, Carries::Udp] {
            let measured = ceiling::measure(carries, Duration::from_millis(40), 1 << 20).unwrap();
            assert!(
                measured.round_trip >= Duration::from_millis(80),
                "{measured:?}"
            );
            assert!(
                measured.round_trip < Duration::from_millis(500),
                "{measured:?}"
            );
        }
    }

    #[test]
    fn delay_does_not_limit_the_rate() {
        let size = 64 << 20;
        let measured = ceiling::measure(Carries::Tcp, Duration::from_millis(25), size).unwrap();
        assert!(
            measured.rate > 50e6,
            "a window of 2 MiB would give 40 MB/s: {measured:?}"
        );
    }

    #[test]
    fn the_address_over_the_wire_keeps_everything_but_host_and_port() {
        let quic = "/ip4/127.0.0.1/udp/4101/quic-v1/p2p/12D3KooWA";
        let (wire, address) = DelayProxy::before(quic, Duration::ZERO).unwrap();
        let port = wire.address().port();
        assert_eq!(
            address,
            format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/12D3KooWA")
        );
        assert!(DelayProxy::before("/dns4/example.org/tcp/1", Duration::ZERO).is_err());
    }
}
