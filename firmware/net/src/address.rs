//! A unit's own addresses: ports up, one address each, the default route, and how the kernel answers ARP for them. Virtual IPs
//! are leased, see [`crate::lease`]; name servers are files and written by `had`. Asynchronous, off the heartbeat path.

use crate::Port;
use core::net::{IpAddr, Ipv4Addr};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::{AddressFamily, route::RouteMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// An IPv4 address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// `None` when `prefix` is over 32.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then_some(Self { address, prefix })
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Length of the prefix, 0 to 32.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// True when `address` is in the same network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        (self.address.to_bits() ^ address.to_bits()) & mask == 0
    }
}

impl core::fmt::Display for Cidr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why an address could not be set.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Connect(#[source] std::io::Error),
    /// The kernel refused.
    #[error("the kernel refused to {what}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A kernel setting could not be written.
    #[error("cannot write `{value}` to {path}")]
    Setting {
        /// Where.
        path: &'static str,
        /// What.
        value: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Sets addresses. Made once; its connection lives in the tokio runtime.
#[derive(Clone, Debug)]
pub struct Addresses {
    handle: Handle,
}

impl Addresses {
    /// Opens the connection. Call it inside a tokio runtime with IO, which then serves the connection.
    ///
    /// # Errors
    ///
    /// [`AddressError::Connect`].
    pub fn connect() -> Result<Self, AddressError> {
        let (connection, handle, _unasked) = rtnetlink::new_connection().map_err(AddressError::Connect)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Brings a port up.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn link_up(&self, port: &Port) -> Result<(), AddressError> {
        let message = LinkUnspec::new_with_index(port.index).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(refused(|| format!("bring {} up", port.name())))
    }

    /// Makes `address` the own address of a port. Other permanent IPv4 addresses of the port are removed; leased ones (virtual
    /// IPs) are left alone. Setting what is set changes nothing.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn set_address(&self, port: &Port, address: Cidr) -> Result<(), AddressError> {
        let ip = IpAddr::V4(address.address);
        let add = self.handle.address().add(port.index, ip, address.prefix).replace();
        add.execute().await.map_err(refused(|| format!("set {address} on {}", port.name())))?;
        let list = || format!("list the addresses of {}", port.name());
        let mut present = self.handle.address().get().set_link_index_filter(port.index).execute();
        let mut others = Vec::new();
        while let Some(message) = present.try_next().await.map_err(refused(list))? {
            if is_other_permanent(&message, port.index, address) {
                others.push(message);
            }
        }
        for other in others {
            let remove = || format!("remove an old address of {}", port.name());
            self.handle.address().del(other).execute().await.map_err(refused(remove))?;
        }
        Ok(())
    }

    /// Sets the default route, in place of the one before.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`], for instance when no own address is in the gateway's network.
    pub async fn default_route(&self, via: Ipv4Addr) -> Result<(), AddressError> {
        let route: RouteMessage = RouteMessageBuilder::<Ipv4Addr>::new().gateway(via).build();
        let add = self.handle.route().add(route).replace();
        add.execute().await.map_err(refused(|| format!("set the default route via {via}")))
    }
}

/// Makes the kernel answer ARP on a port only for addresses of that port, and name only such addresses when it asks. Without it a
/// unit would answer for its virtual IP on its management port, and for its service address on a heartbeat cable.
///
/// # Errors
///
/// [`AddressError::Setting`].
pub fn strict_arp() -> Result<(), AddressError> {
    let settings =
        [("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"), ("/proc/sys/net/ipv4/conf/all/arp_announce", "2")];
    for (path, value) in settings {
        std::fs::write(path, value).map_err(|source| AddressError::Setting { path, value, source })?;
    }
    Ok(())
}

fn is_other_permanent(message: &AddressMessage, port: u32, own: Cidr) -> bool {
    let header = &message.header;
    let is_own = header.prefix_len == own.prefix
        && message.attributes.contains(&AddressAttribute::Local(IpAddr::V4(own.address)));
    let is_permanent = header.flags.contains(AddressHeaderFlags::Permanent);
    header.index == port && header.family == AddressFamily::Inet && is_permanent && !is_own
}

fn refused<W: FnOnce() -> String>(what: W) -> impl FnOnce(rtnetlink::Error) -> AddressError {
    move |source| AddressError::Refused { what: what(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let cidr = |prefix| Cidr::new(Ipv4Addr::new(192, 0, 2, 11), prefix).expect("valid");
        assert!(cidr(24).contains(Ipv4Addr::new(192, 0, 2, 254)));
        assert!(!cidr(24).contains(Ipv4Addr::new(192, 0, 3, 11)));
        assert!(cidr(0).contains(Ipv4Addr::new(8, 8, 8, 8)));
        assert!(cidr(32).contains(Ipv4Addr::new(192, 0, 2, 11)));
        assert!(!cidr(32).contains(Ipv4Addr::new(192, 0, 2, 10)));
        assert_eq!(Cidr::new(Ipv4Addr::UNSPECIFIED, 33), None);
    }
}
