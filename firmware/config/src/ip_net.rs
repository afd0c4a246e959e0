//! An own address of either kind with its prefix length, as heartbeat links have it. The kinds themselves are in `value`.

use crate::value::{Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::IpAddr;

/// An address together with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpNet {
    /// IPv4.
    V4(Ipv4Net),
    /// IPv6.
    V6(Ipv6Net),
}

impl IpNet {
    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(net) => net.address().into(),
            Self::V6(net) => net.address().into(),
        }
    }

    /// Prefix length: 1–32, or 1–128.
    #[must_use]
    pub fn prefix(self) -> u8 {
        match self {
            Self::V4(net) => net.prefix(),
            Self::V6(net) => net.prefix(),
        }
    }

    /// Network address.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self {
            Self::V4(net) => net.network().into(),
            Self::V6(net) => net.network().into(),
        }
    }

    /// True when the two subnets share an address; never for those of two kinds.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(own), Self::V4(other)) => own.overlaps(other),
            (Self::V6(own), Self::V6(other)) => own.overlaps(other),
            _ => false,
        }
    }

    /// True when `other` can be a host of this subnet.
    #[must_use]
    pub fn is_host(self, other: IpAddr) -> bool {
        match (self, other) {
            (Self::V4(own), IpAddr::V4(other)) => own.is_host(other),
            (Self::V6(own), IpAddr::V6(other)) => {
                Ipv6Net::new(other, own.prefix()).is_some_and(|other| other.network() == own.network())
            }
            _ => false,
        }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(net) => net.fmt(f),
            Self::V6(net) => net.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_overlaps_are_those_of_one_kind() {
        let net = |text: &str| text.parse().map(IpNet::V4).or_else(|_| text.parse().map(IpNet::V6)).unwrap();
        let (v4, v6) = (net("10.0.0.1/24"), net("fd00::1/64"));
        assert_eq!((v4.to_string(), v6.to_string()), ("10.0.0.1/24".into(), "fd00::1/64".into()));
        assert!(v4.overlaps(net("10.0.0.9/30")) && v6.overlaps(net("fd00::9/126")) && !v4.overlaps(v6));
        for (address, of_v4, of_v6) in [
            ("10.0.0.2", true, false),
            ("10.0.1.2", false, false),
            ("fd00::2", false, true),
            ("fd01::2", false, false),
            ("fd00::", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!((v4.is_host(address), v6.is_host(address)), (of_v4, of_v6), "{address}");
        }
    }
}
