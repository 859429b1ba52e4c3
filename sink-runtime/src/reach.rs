//! Where this process connects for people who may do less than it. The operator follows the addresses that any resource
//! names, from a place in the network that its author may not be in; whatever runs for one owner alone is not restricted.
//!
//! Decided on addresses, after names are resolved: no name leads around it. Loopback, link-local (where clouds answer with
//! the credentials of the machine), multicast and unspecified addresses are out of reach unless they were allowed; all
//! others are what network policies are for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;

use ipnet::IpNet;

#[cfg(feature = "cloud")]
mod clients;

#[cfg(feature = "cloud")]
pub(crate) use clients::client_in;

/// Where AWS answers on IPv6 with a machine's credentials: not link-local, and never anybody's catalog.
const MACHINES_CREDENTIALS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

static REACH: OnceLock<Reach> = OnceLock::new();

/// An address that is out of reach.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is at an address of the machine's own or of its neighbourhood, which is not connected to for resources"
)]
pub struct OutOfReach {
    host: String,
}

/// What may be connected to, beside what anybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    allowed: Vec<IpNet>,
}

impl Reach {
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// From now on, for the whole process. The first call counts.
    pub fn restrict(self) {
        drop(REACH.set(self));
    }

    /// The reach of this process; `None` where nothing is out of it.
    pub fn of_process() -> Option<&'static Self> {
        REACH.get()
    }

    /// Whether this address may be connected to.
    pub fn takes_in(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|net| net.contains(&address)) || !near(address)
    }

    /// Those of the addresses of `host` that may be connected to.
    ///
    /// # Errors
    /// None may.
    pub fn filter(
        &self,
        host: &str,
        found: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, OutOfReach> {
        let kept: Vec<_> = found
            .into_iter()
            .filter(|address| self.takes_in(address.ip()))
            .collect();
        if kept.is_empty() {
            return Err(OutOfReach {
                host: host.to_owned(),
            });
        }
        Ok(kept)
    }

    /// Looks at brokers, `host:port` separated by commas. Blocks while names are resolved; one that is not known is left to
    /// whoever connects.
    ///
    /// # Errors
    /// One of them is out of reach.
    pub fn check_servers(&self, servers: &str) -> Result<(), OutOfReach> {
        for server in servers.split(',').map(str::trim) {
            let address = server.rsplit_once("://").map_or(server, |(_, rest)| rest);
            let found = match address.to_socket_addrs() {
                Ok(found) => found.collect::<Vec<_>>(),
                Err(_) => (address, 9092)
                    .to_socket_addrs()
                    .into_iter()
                    .flatten()
                    .collect(),
            };
            if !found.is_empty() {
                self.filter(server, found)?;
            }
        }
        Ok(())
    }

    /// Looks at a host that is an address already: no resolver is asked for it.
    ///
    /// # Errors
    /// It may not be connected to.
    pub fn check_literal(&self, host: &str) -> Result<(), OutOfReach> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse() {
            Ok(address) if !self.takes_in(address) => Err(OutOfReach {
                host: host.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn near(address: IpAddr) -> bool {
    let unusual = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    unusual
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == MACHINES_CREDENTIALS,
        }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_machine_and_its_neighbourhood_are_out_of_reach_in_every_spelling() {
        let reach = Reach::default();
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!reach.takes_in(address.parse().unwrap()), "{address}");
            let refused = reach.check_literal(address).unwrap_err().to_string();
            assert!(refused.starts_with(address), "{refused}");
        }
        assert!(reach.check_literal("[::1]").is_err());
        for address in ["10.0.0.1", "192.168.1.1", "52.1.2.3", "2600::1", "fd12::1"] {
            assert!(reach.takes_in(address.parse().unwrap()), "{address}");
            assert!(reach.check_literal(address).is_ok(), "{address}");
        }
        // A name is looked at when it is resolved.
        assert!(reach.check_literal("localhost").is_ok());
    }

    #[test]
    fn of_a_names_addresses_those_in_reach_are_kept_and_one_without_any_is_told() {
        let reach = Reach::default();
        let found = |all: &[&str]| -> Vec<SocketAddr> {
            let each = all.iter().map(|address| address.parse().unwrap());
            each.collect()
        };
        let mixed = found(&["127.0.0.1:80", "10.0.0.1:80"]);
        assert_eq!(
            reach.filter("catalog", mixed).unwrap(),
            found(&["10.0.0.1:80"])
        );
        let none = reach.filter("localhost", found(&["127.0.0.1:80", "[::1]:80"]));
        assert!(none.unwrap_err().to_string().starts_with("localhost "));
    }

    #[test]
    fn brokers_of_the_machine_are_out_of_reach_by_name_and_by_address() {
        let reach = Reach::default();
        for servers in [
            "127.0.0.1:9092",
            "10.0.0.1:9092, localhost:9092",
            "PLAINTEXT://[::1]:9092",
            "169.254.169.254:80",
            "localhost",
        ] {
            assert!(reach.check_servers(servers).is_err(), "{servers}");
        }
        for servers in ["10.0.0.1:9092", "10.0.0.1", "no-such-host.invalid:9092"] {
            assert!(reach.check_servers(servers).is_ok(), "{servers}");
        }
    }

    #[test]
    fn what_was_allowed_is_in_reach_and_what_is_beside_it_is_not() {
        let reach = Reach::new(vec!["127.0.0.0/24".parse().unwrap()]);
        assert!(reach.takes_in("127.0.0.1".parse().unwrap()));
        assert!(reach.takes_in("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!reach.takes_in("127.0.1.1".parse().unwrap()));
        assert!(!reach.takes_in("169.254.169.254".parse().unwrap()));
    }
}
