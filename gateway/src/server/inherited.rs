//! Listening sockets that another process opened: the one before this, or systemd.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// The sockets of the gateway and of its operators, in this order.
#[derive(Debug, Default)]
pub struct Inherited {
    public: Option<TcpListener>,
    admin: Option<TcpListener>,
    /// Whoever opened them decides the addresses, not the settings.
    wherever: bool,
}

impl Inherited {
    /// Those that the process before this one had. They are used where the settings still say so.
    pub fn of_predecessor(sockets: Vec<OwnedFd>) -> Self {
        let mut sockets = sockets.into_iter().map(TcpListener::from);
        Self {
            public: sockets.next(),
            admin: sockets.next(),
            wherever: false,
        }
    }

    /// Those that this process had itself, whatever the settings say.
    pub fn of_before(sockets: Vec<OwnedFd>) -> Self {
        Self {
            wherever: true,
            ..Self::of_predecessor(sockets)
        }
    }

    /// Those that systemd opened for this process (`LISTEN_FDS`), whatever the settings say; none where
    /// it opened none.
    pub fn of_systemd() -> Self {
        let mut passed = listenfd::ListenFd::from_env();
        let mut next = |at| match passed.take_tcp_listener(at) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "a socket that was passed to this process is not used");
                None
            }
        };
        Self {
            public: next(0),
            admin: next(1),
            wherever: true,
        }
    }

    /// Whether there is one for the gateway.
    pub fn is_some(&self) -> bool {
        self.public.is_some()
    }

    pub(super) fn public(&mut self, addr: SocketAddr) -> Option<TcpListener> {
        let wherever = self.wherever;
        self.public.take().filter(|had| wherever || fits(had, addr))
    }

    pub(super) fn admin(&mut self, addr: SocketAddr) -> Option<TcpListener> {
        let wherever = self.wherever;
        self.admin.take().filter(|had| wherever || fits(had, addr))
    }
}

/// Whether it listens where the settings say. Port 0 is any.
fn fits(had: &TcpListener, wanted: SocketAddr) -> bool {
    had.local_addr().is_ok_and(|had| {
        had.ip() == wanted.ip() && (wanted.port() == 0 || had.port() == wanted.port())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_of_the_predecessor_is_used_where_the_settings_say_so() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let inherit = |listener| Inherited::of_predecessor(vec![OwnedFd::from(listener)]);
        let had = listener();
        let (same, other) = (had.local_addr().unwrap(), listener().local_addr().unwrap());
        let mut inherited = inherit(had.try_clone().unwrap());
        assert_eq!(inherited.public(same).unwrap().local_addr().unwrap(), same);
        let any_port = SocketAddr::new(same.ip(), 0);
        assert!(inherit(had.try_clone().unwrap()).public(any_port).is_some());
        assert!(inherit(had.try_clone().unwrap()).public(other).is_none());
        let mut own = Inherited::of_before(vec![had.into()]);
        assert_eq!(own.public(other).unwrap().local_addr().unwrap(), same);
    }
}
