//! The valid values that settings are made of. Each is checked once, in its `FromStr`; inside, an invalid one cannot be
//! written. No defaults here and no relations between values.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest host name, bytes: what the kernel's `sethostname(2)` takes.
const HOST_NAME_BYTES_MAX: usize = 64;
/// Longest domain name, bytes (RFC 1035 section 2.3.4).
const DOMAIN_NAME_BYTES_MAX: usize = 253;
/// Longest label of a name, bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// Longest local part of a mailbox, bytes (RFC 5321 section 4.5.3.1.1).
const USER_NAME_BYTES_MAX: usize = 64;
/// Longest password, characters (`spec/ha.md` section 2).
const PASSWORD_CHARS_MAX: usize = 64;

/// The text is not such a value. What is allowed is said by the variable that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct ValueError(pub &'static str);

/// Name of a port as the board labels it, for instance `port1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(pub(crate) String);

/// An IPv4 address together with its prefix length, 1–32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// The pair; `None` for a prefix outside 1–32.
    #[must_use]
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix >= 1 && prefix <= 32 { Some(Self { address, prefix }) } else { None }
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Prefix length, 1–32.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Network address.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & self.mask())
    }

    /// Broadcast address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !self.mask())
    }

    /// True when `other` lies in the same subnet.
    #[must_use]
    pub fn contains(self, other: Ipv4Addr) -> bool {
        u32::from(other) & self.mask() == u32::from(self.network())
    }

    /// True when the two subnets share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// True when `other` can be a host of this subnet: inside, and neither its network nor its broadcast address.
    #[must_use]
    pub fn is_host(self, other: Ipv4Addr) -> bool {
        self.contains(other) && (self.prefix >= 31 || (other != self.network() && other != self.broadcast()))
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }

    /// Parses an address and a dotted mask such as `255.255.255.0`.
    pub(crate) fn from_mask(address: &str, mask: &str) -> Result<Self, ValueError> {
        let error = ValueError("address with mask");
        let mask: Ipv4Addr = mask.parse().map_err(|_| error)?;
        let (bits, ones) = (u32::from(mask), u32::from(mask).leading_ones());
        if bits.count_ones() != ones {
            return Err(error);
        }
        let prefix = u8::try_from(ones).map_err(|_| error)?;
        Self::new(address.parse().map_err(|_| error)?, prefix).ok_or(error)
    }
}

impl FromStr for Ipv4Net {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = ValueError("address with prefix length");
        let (address, prefix) = text.split_once('/').ok_or(error)?;
        if prefix.is_empty() || prefix.len() > 2 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error);
        }
        Self::new(address.parse().map_err(|_| error)?, prefix.parse().map_err(|_| error)?).ok_or(error)
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// True for an address that a host can have: not of this network, loopback, multicast, reserved or broadcast.
pub(crate) fn is_usable(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && !address.is_loopback() && first < 224
}

/// An IPv6 address together with its prefix length, 1–128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv6Net {
    address: Ipv6Addr,
    prefix: u8,
}

impl Ipv6Net {
    /// The pair; `None` for a prefix outside 1–128 and for an address that a host cannot have for its service: unspecified,
    /// loopback, multicast, link-local, IPv4-mapped, or the routers' one of its subnet (RFC 4291 section 2.6.1).
    #[must_use]
    pub fn new(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        let unusable = address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_unicast_link_local()
            || address.to_ipv4_mapped().is_some();
        let net = Self { address, prefix };
        ((1..=128).contains(&prefix) && !unusable && (prefix >= 127 || address != net.network()))
            .then_some(net)
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// Prefix length, 1–128.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Network address.
    #[must_use]
    pub fn network(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() & (u128::MAX << (128 - u32::from(self.prefix))))
    }

    /// True when the two subnets share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        let cut = |net: Self| Self { prefix, ..net }.network();
        cut(self) == cut(other)
    }
}

impl FromStr for Ipv6Net {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = ValueError("IPv6 address with prefix length");
        let (address, prefix) = text.split_once('/').ok_or(error)?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error);
        }
        Self::new(address.parse().map_err(|_| error)?, prefix.parse().map_err(|_| error)?).ok_or(error)
    }
}

impl fmt::Display for Ipv6Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Host name of a unit: letters, digits, hyphens and dots, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// Mail domain, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(String);

/// Local part of a mailbox, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// A password: 1–64 printable ASCII characters. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Where a protected domain is relayed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By address.
    Address(Ipv4Addr),
    /// By name.
    Name(HostName),
}

/// Letters, digits and hyphens in labels that neither begin nor end with a hyphen; the last label is not a number, so
/// that a mistyped address is never taken for a name.
fn is_name(text: &str, bytes_max: usize) -> bool {
    let label = |l: &str| {
        (1..=LABEL_BYTES_MAX).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let numeric_end = text.rsplit('.').next().is_none_or(|l| l.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= bytes_max && text.split('.').all(label) && !numeric_end
}

impl FromStr for HostName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_name(text, HOST_NAME_BYTES_MAX) { Ok(Self(text.into())) } else { Err(ValueError("host name")) }
    }
}

impl FromStr for DomainName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_name(text, DOMAIN_NAME_BYTES_MAX) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(ValueError("domain name"))
        }
    }
}

impl FromStr for UserName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let good = (1..=USER_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with(['.', '-'])
            && !text.ends_with('.')
            && !text.contains("..");
        if good { Ok(Self(text.to_ascii_lowercase())) } else { Err(ValueError("mailbox name")) }
    }
}

impl FromStr for Password {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let good = (1..=PASSWORD_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if good { Ok(Self(text.into())) } else { Err(ValueError("password")) }
    }
}

impl FromStr for Host {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse::<Ipv4Addr>() {
            Ok(address) if is_usable(address) => Ok(Self::Address(address)),
            Ok(_) => Err(ValueError("host")),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl Password {
    /// The password itself. Whoever asks for it must not show it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Text access for the names.
macro_rules! text_access {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}
text_access!(PortName, HostName, DomainName, UserName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_their_limits() {
        let net: Ipv4Net = "192.0.2.11/24".parse().unwrap();
        assert_eq!((net.network(), net.broadcast()), ([192, 0, 2, 0].into(), [192, 0, 2, 255].into()));
        assert!(net.is_host([192, 0, 2, 10].into()) && !net.is_host([192, 0, 2, 255].into()));
        assert!(!net.contains([192, 0, 3, 1].into()));
        assert!(net.overlaps("192.0.2.128/25".parse().unwrap()));
        assert_eq!(Ipv4Net::from_mask("192.0.2.11", "255.255.255.0"), Ok(net));
        for bad in
            ["192.0.2.11", "192.0.2.11/0", "192.0.2.11/33", "192.0.2.11/+8", "192.0.2/24", "/24", "1.2.3.4/"]
        {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
        assert!(Ipv4Net::from_mask("192.0.2.11", "255.0.255.0").is_err());
        assert!(Ipv4Net::from_mask("192.0.2.11", "0.0.0.0").is_err());
    }

    #[test]
    fn ipv6_networks_know_their_limits() {
        let net: Ipv6Net = "2001:db8::10/64".parse().unwrap();
        assert_eq!(
            (net.network().to_string(), net.to_string()),
            ("2001:db8::".into(), "2001:db8::10/64".into())
        );
        assert!(net.overlaps("2001:db8::ffff:1/48".parse().unwrap()));
        assert!(!net.overlaps("2001:db8:0:1::10/64".parse().unwrap()));
        for bad in [
            "2001:db8::10",
            "2001:db8::/64",
            "::/0",
            "::1/128",
            "fe80::1/64",
            "ff02::1/64",
            "::ffff:1.2.3.4/120",
            "2001:db8::1/0",
            "2001:db8::1/129",
            "2001:db8::1/+64",
            "192.0.2.1/24",
            "/64",
        ] {
            assert!(bad.parse::<Ipv6Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_strict() {
        for good in ["a", "mail-a", "mail-a.example.test", "3com.test"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", ".a", "a.", "a_b", "192.0.2.300", "10", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert_eq!("Example.TEST".parse::<DomainName>().unwrap().as_str(), "example.test");
        assert_eq!("Alice.B".parse::<UserName>().unwrap().as_str(), "alice.b");
        for bad in ["", ".", "a/b", "..", "a..b", "-a", "a@b", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_hidden_from_debug() {
        let password: Password = "pass word#\"'".parse().unwrap();
        assert_eq!(format!("{password:?}"), "********");
        assert!("".parse::<Password>().is_err() && "é".parse::<Password>().is_err());
        assert!("x".repeat(65).parse::<Password>().is_err());
    }
}
