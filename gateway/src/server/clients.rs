//! Open connections of each client, which is an IPv4 address or the /64 network of an IPv6 address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

/// Counts the connections of each client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// 0 is without limit.
    most: usize,
    exempt: Arc<[IpNet]>,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A client's connection, counted for as long as this lives.
#[derive(Debug)]
pub(super) struct Admitted {
    counted: Option<(Clients, IpAddr)>,
}

impl Clients {
    /// At most `most` connections of each client, but for this machine and `exempt`.
    pub(super) fn new(most: usize, exempt: &[IpNet]) -> Self {
        Self {
            most,
            exempt: exempt.into(),
            open: Arc::default(),
        }
    }

    /// Admits a connection from `address`; `None` when its client has as many as it may.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Admitted> {
        if self.is_exempt(address) {
            return Some(Admitted { counted: None });
        }
        let client = client_of(address);
        let mut open = self.open.lock();
        let count = open.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Admitted {
            counted: Some((self.clone(), client)),
        })
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.most == 0
            || address.is_loopback()
            || self.exempt.iter().any(|net| net.contains(&address))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some((clients, client)) = &self.counted else {
            return;
        };
        let mut open = clients.open.lock();
        if let Some(count) = open.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                open.remove(client);
            }
        }
    }
}

/// Whoever has an IPv6 address has its /64.
fn client_of(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn client_over_its_limit_waits_for_its_own_connections_and_nobody_elses() {
        let clients = Clients::new(2, &[]);
        let first = clients.admit(ip("192.0.2.1")).unwrap();
        let _second = clients.admit(ip("192.0.2.1")).unwrap();
        assert!(clients.admit(ip("192.0.2.1")).is_none());
        let _other = clients.admit(ip("192.0.2.2")).unwrap();
        drop(first);
        assert!(clients.admit(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let clients = Clients::new(1, &[]);
        let _first = clients.admit(ip("2001:db8:0:1::1")).unwrap();
        assert!(clients.admit(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(clients.admit(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn this_machine_and_trusted_proxies_are_not_counted() {
        let clients = Clients::new(1, &["10.0.0.0/8".parse().unwrap()]);
        for address in ["127.0.0.1", "::1", "10.1.2.3"].map(ip) {
            let admitted = [clients.admit(address), clients.admit(address)];
            assert!(admitted.iter().all(Option::is_some), "{address}");
        }
        let without = Clients::new(0, &[]);
        let admitted = [
            without.admit(ip("192.0.2.1")),
            without.admit(ip("192.0.2.1")),
        ];
        assert!(admitted.iter().all(Option::is_some));
    }

    #[test]
    fn clients_that_left_take_no_memory() {
        let clients = Clients::new(1, &[]);
        for host in 0..=255 {
            drop(clients.admit(IpAddr::from([192, 0, 2, host])).unwrap());
        }
        assert!(clients.open.lock().is_empty());
    }
}
