//! A unit's own addresses: ports up, one address each, the default route, and how the kernel answers ARP for them. Virtual IPs
//! are leased, see [`crate::lease`]; name servers are files and written by `had`. Asynchronous, off the heartbeat path.

use crate::Port;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::{AddressFamily, route::RouteMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `None` when `prefix` is over 32 (IPv4) or 128 (IPv6).
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length of the prefix.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// True when `address` is in the same network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let shift = u32::from(bits(address).saturating_sub(self.prefix));
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Bits of an address of this kind.
pub(crate) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
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
    pub(crate) handle: Handle,
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

    /// Makes `address` the own address of a port. Other permanent addresses of its kind are removed, but for link-local ones; leased
    /// ones (virtual IPs) are left alone. Setting what is set changes nothing.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn set_address(&self, port: &Port, address: Cidr) -> Result<(), AddressError> {
        self.set(port, address, AddressHeaderFlags::empty()).await
    }

    /// As [`Addresses::set_address`], on a direct cable: an IPv6 address is there at once. The kernel's search for duplicates
    /// (RFC 4862) would begin only with a carrier, and nobody else is on the cable but the peer.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn set_address_on_cable(&self, port: &Port, address: Cidr) -> Result<(), AddressError> {
        let flags = match address.address {
            IpAddr::V4(_) => AddressHeaderFlags::empty(),
            IpAddr::V6(_) => AddressHeaderFlags::Nodad,
        };
        self.set(port, address, flags).await
    }

    async fn set(&self, port: &Port, address: Cidr, flags: AddressHeaderFlags) -> Result<(), AddressError> {
        let mut add = self.handle.address().add(port.index, address.address, address.prefix).replace();
        add.message_mut().header.flags |= flags;
        add.execute().await.map_err(refused(|| format!("set {address} on {}", port.name())))?;
        self.remove_where(port, |message| {
            is_permanent(message, address.address) && !is_address(message, address.address)
        })
        .await
    }

    /// Takes an own address from a port; nothing happens when it is not there, or only as a leased one.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn remove_address(&self, port: &Port, address: IpAddr) -> Result<(), AddressError> {
        self.remove_where(port, |message| is_permanent(message, address) && is_address(message, address))
            .await
    }

    async fn remove_where(
        &self,
        port: &Port,
        unwanted: impl Fn(&AddressMessage) -> bool,
    ) -> Result<(), AddressError> {
        let list = || format!("list the addresses of {}", port.name());
        let mut present = self.handle.address().get().set_link_index_filter(port.index).execute();
        let mut found = Vec::new();
        while let Some(message) = present.try_next().await.map_err(refused(list))? {
            if message.header.index == port.index && unwanted(&message) {
                found.push(message);
            }
        }
        for message in found {
            let remove = || format!("remove an address of {}", port.name());
            self.handle.address().del(message).execute().await.map_err(refused(remove))?;
        }
        Ok(())
    }

    /// Sets the default route of the gateway's kind, in place of the one before.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`], for instance when no own address is in the gateway's network.
    pub async fn default_route(&self, via: IpAddr) -> Result<(), AddressError> {
        let route: RouteMessage = match via {
            IpAddr::V4(via) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(via).build(),
            IpAddr::V6(via) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(via).build(),
        };
        let add = self.handle.route().add(route).replace();
        add.execute().await.map_err(refused(|| format!("set the default route via {via}")))
    }
}

/// Makes the kernel answer ARP on a port only for addresses of that port, and name only such addresses when it asks: without it a
/// unit would answer for its virtual IP on its management port, and for its service address on a heartbeat cable. Also lets a
/// virtual IP stay when the own address of its subnet goes (action `set`).
///
/// # Errors
///
/// [`AddressError::Setting`].
pub fn strict_arp() -> Result<(), AddressError> {
    let settings = [
        ("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"),
        ("/proc/sys/net/ipv4/conf/all/arp_announce", "2"),
        ("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1"),
    ];
    for (path, value) in settings {
        std::fs::write(path, value).map_err(|source| AddressError::Setting { path, value, source })?;
    }
    Ok(())
}

/// A permanent address of the same kind as `like`, not link-local.
fn is_permanent(message: &AddressMessage, like: IpAddr) -> bool {
    let family = if like.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let header = &message.header;
    let permanent = header.flags.contains(AddressHeaderFlags::Permanent);
    let link_local = message.attributes.iter().any(
        |attribute| matches!(attribute, AddressAttribute::Address(IpAddr::V6(ip)) if ip.is_unicast_link_local()),
    );
    header.family == family && permanent && !link_local
}

/// IPv4 names its own address `Local`, IPv6 `Address`.
fn is_address(message: &AddressMessage, address: IpAddr) -> bool {
    let wanted = match address {
        IpAddr::V4(_) => AddressAttribute::Local(address),
        IpAddr::V6(_) => AddressAttribute::Address(address),
    };
    message.attributes.contains(&wanted)
}

pub(crate) fn refused<W: FnOnce() -> String>(what: W) -> impl FnOnce(rtnetlink::Error) -> AddressError {
    move |source| AddressError::Refused { what: what(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let v4 = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let cidr = |prefix| Cidr::new(v4(11), prefix).expect("valid");
        assert!(cidr(24).contains(v4(254)));
        assert!(!cidr(24).contains(Ipv4Addr::new(192, 0, 3, 11).into()));
        assert!(cidr(0).contains(Ipv4Addr::new(8, 8, 8, 8).into()));
        assert!(cidr(32).contains(v4(11)));
        assert!(!cidr(32).contains(v4(10)));
        assert_eq!(Cidr::new(v4(11), 33), None);
        let v6 = |text: &str| text.parse::<IpAddr>().expect("valid");
        let net = Cidr::new(v6("2001:db8::11"), 64).expect("valid");
        assert!(
            net.contains(v6("2001:db8::ffff"))
                && !net.contains(v6("2001:db8:0:1::11"))
                && !net.contains(v4(11))
        );
        assert!(Cidr::new(v6("::"), 128).is_some_and(|net| net.contains(v6("::"))));
        assert_eq!(Cidr::new(v6("::"), 129), None);
    }
}
