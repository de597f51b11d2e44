//! Listening on the configured addresses, and which of them the node can do without.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use duka_config::NetworkConfig;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};
use tokio::time::Instant;

use super::behaviour::Behaviour;
use super::event_loop::EventLoop;
use super::{NetError, parse_all};

/// Listeners have their addresses after this, or the node starts without them.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// An address to listen on.
pub(super) struct Listen {
    pub(super) address: Multiaddr,
    /// Without it the node does not start.
    pub(super) required: bool,
}

impl Listen {
    /// The configured addresses. Where nobody chose any, those of IPv6 are not required: not every
    /// machine has it.
    pub(super) fn all(config: &NetworkConfig) -> Result<Vec<Self>, NetError> {
        let all = parse_all(&config.listen)?.into_iter().map(|address| Self {
            required: config.listen_is_chosen
                || !matches!(address.iter().next(), Some(Protocol::Ip6(_))),
            address,
        });
        Ok(all.collect())
    }

    fn error(&self, reason: impl ToString) -> NetError {
        NetError::Listen {
            address: self.address.to_string(),
            reason: reason.to_string(),
        }
    }

    /// What a failure means for the start.
    fn failed(&self, error: NetError) -> Result<(), NetError> {
        if self.required {
            return Err(error);
        }
        tracing::warn!(%error, "going on with the other addresses");
        Ok(())
    }
}

/// Listens on all addresses. All are looked at before the first listens: a wildcard of IPv6 would
/// meet our own one of IPv4.
pub(super) fn open(
    swarm: &mut Swarm<Behaviour>,
    listen: Vec<Listen>,
) -> Result<HashMap<ListenerId, Listen>, NetError> {
    let mut free = Vec::with_capacity(listen.len());
    for one in listen {
        match check_port(&one.address) {
            Ok(()) => free.push(one),
            Err(error) => one.failed(one.error(error))?,
        }
    }
    let mut listeners = HashMap::new();
    for one in free {
        match swarm.listen_on(one.address.clone()) {
            Ok(id) => {
                listeners.insert(id, one);
            }
            Err(TransportError::MultiaddrNotSupported(address)) => {
                one.failed(NetError::NoTransport { address })?;
            }
            Err(TransportError::Other(error)) => one.failed(one.error(error))?,
        }
    }
    Ok(listeners)
}

/// Waits until each listener has an address. One on a wildcard without any interface to listen on
/// never has: the node starts without it.
pub(super) async fn wait(
    event_loop: &mut EventLoop,
    listeners: &HashMap<ListenerId, Listen>,
) -> Result<(), NetError> {
    let deadline = Instant::now() + LISTEN_TIMEOUT;
    let mut waiting = listeners.keys().copied().collect();
    loop {
        let ready = event_loop.wait_for_listeners(&mut waiting);
        let Ok(Err((id, reason))) = tokio::time::timeout_at(deadline, ready).await else {
            return Ok(());
        };
        waiting.remove(&id);
        if let Some(listen) = listeners.get(&id) {
            listen.failed(listen.error(reason))?;
        }
    }
}

/// Refuses a TCP port that another process listens on. The swarm's own sockets share ports, so that
/// connections can be opened from the port they are accepted on, and would not notice: each
/// process would then get some of the connections.
fn check_port(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}
