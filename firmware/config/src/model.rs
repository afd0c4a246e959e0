//! The settings of one unit as valid values, their defaults, and what follows from them (effective heartbeat interval,
//! links, virtual IPs, service port). No syntax here; a `Config` changes only by a script (module `script`).

use crate::ip_net::IpNet;
use crate::service::Services;
use crate::storage::{Export, MailStorage};
use crate::value::{DomainName, Host, HostName, Ipv4Net, Ipv6Net, Password, PortName, UserName};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use twinpost_types::{ConfiguredMode, LINKS, LinkId, OnFailure, RebootAction};

/// Largest script, bytes: the longest line of the api, and far more than all limits below need.
pub const SCRIPT_BYTES_MAX: usize = 256 * 1024;
/// Most mail domains: what the smallest boxes of this class carry.
pub const DOMAINS_MAX: usize = 64;
/// Most mailboxes over all local domains, so that the password file stays in memory of the smallest box.
pub const USERS_MAX: usize = 1024;
/// Default of `hb-base-port` (`spec/ha.md` section 2).
pub const BASE_PORT_DEFAULT: u16 = 20_000;
/// Default of `hb-lost-threshold` (`spec/ha.md` section 2).
pub const THRESHOLD_DEFAULT: Duration = Duration::from_secs(15);

/// Longest heartbeat interval, and the longest while `fast-detect` is on (`spec/ha.md` section 2).
const INTERVAL_MAX: Duration = Duration::from_millis(1000);
pub(crate) const INTERVAL_FAST_MAX: Duration = Duration::from_millis(200);
/// Heartbeats within one threshold at the default interval (`spec/ha.md` section 2).
const INTERVALS_A_THRESHOLD: u32 = 5;
/// Default of `max-role-changes` (`spec/ha.md` section 2).
const ROLE_CHANGES_DEFAULT: u8 = 4;
/// The password that every unit has until an operator sets one.
pub(crate) const PASSWORD_DEFAULT: &str = "change_me";
/// SMTP (RFC 5321).
pub(crate) const RELAY_PORT_DEFAULT: u16 = 25;

/// All settings of one unit, checked against each other and against the board's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) ports: Vec<PortName>,
    pub(crate) host_name: HostName,
    pub(crate) interfaces: BTreeMap<PortName, Ipv4Net>,
    pub(crate) interfaces6: BTreeMap<PortName, Ipv6Net>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) gateway6: Option<Ipv6Addr>,
    pub(crate) dns: Dns,
    pub(crate) domains: BTreeMap<DomainName, Domain>,
    pub(crate) mail_storage: MailStorage,
    pub(crate) ha: Ha,
}

/// Name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Asked first.
    pub primary: Option<Ipv4Addr>,
    /// Asked when the first does not answer.
    pub secondary: Option<Ipv4Addr>,
}

/// What becomes of mail for one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Protected: relayed to the next hop.
    Relay {
        /// Next hop.
        host: Host,
        /// Its TCP port.
        port: u16,
    },
    /// Delivered into mailboxes here.
    Local {
        /// Mailboxes with their passwords.
        users: BTreeMap<UserName, Password>,
    },
}

/// HA settings (`spec/ha.md` section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ha {
    /// Configured mode.
    pub mode: ConfiguredMode,
    /// What the unit does after its own failure.
    pub on_failure: OnFailure,
    /// The group's secret.
    pub password: Password,
    /// HA may start although the password is still `change_me`.
    pub allow_default_password: bool,
    /// First of four ports: +0 heartbeat, +1 control, +2 mail data, +3 mail queue.
    pub base_port: u16,
    /// Silence on every link for this long = peer unresponsive; 0.15–3600 s.
    pub threshold: Duration,
    /// Time between heartbeats as set, 10–1000 ms; [`Ha::hb_interval`] is the effective one.
    pub interval: Option<Duration>,
    /// Act on proof of death before the threshold.
    pub fast_detect: bool,
    /// Heartbeat links as set; [`Config::heartbeat`] gives the effective ones.
    pub links: [LinkSettings; LINKS],
    /// What a planned reboot of the primary does.
    pub reboot_action: RebootAction,
    /// Mailboxes are replicated; otherwise they lie on the unit that stored them and are handed over when it follows another one.
    /// The same on both units.
    pub mail_data_sync: bool,
    /// The queue is replicated; otherwise as above.
    pub mailqueue_data_sync: bool,
    /// Replication is encrypted on the heartbeat links. The same on both units.
    pub encryption: bool,
    /// Role changes an hour before the unit latches, 1–20.
    pub max_role_changes: u8,
    /// Virtual IPs by port; ports at their defaults are absent.
    pub ports: BTreeMap<PortName, HaPort>,
    /// Checks of this unit and of its peer.
    pub services: Services,
}

/// One heartbeat link as set: with IPv4 or with IPv6. Link 1 falls back to the highest port, 10.0.0.1/24 and 10.0.0.2; link 2
/// has no fallback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Port.
    pub interface: Option<PortName>,
    /// Own address; without one the port's own address counts.
    pub ip: Option<Ipv4Net>,
    /// The peer's address.
    pub peer: Option<Ipv4Addr>,
    /// Own IPv6 address; without one the port's own counts.
    pub ip6: Option<Ipv6Net>,
    /// The peer's IPv6 address.
    pub peer6: Option<Ipv6Addr>,
}

impl LinkSettings {
    /// An address of this kind is set.
    pub(crate) fn has_ipv4(&self) -> bool {
        self.ip.is_some() || self.peer.is_some()
    }

    /// Likewise.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.ip6.is_some() || self.peer6.is_some()
    }
}

/// HA settings of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HaPort {
    /// What a PRIMARY does with the virtual IPs.
    pub action: PortAction,
    /// The virtual IP; kept although the action does not carry it.
    pub virtual_ip: Option<Ipv4Net>,
    /// The IPv6 one, likewise.
    pub virtual_ip6: Option<Ipv6Net>,
    /// Watched by local-ports although it carries no virtual IP (`port-monitor`).
    pub monitor: bool,
    /// Whom local-ports asks behind this port (`monitor-neighbour`).
    pub neighbour: Option<IpAddr>,
}

impl HaPort {
    /// The virtual IPs of the port of this name, IPv4 first, also those that its action does not carry.
    pub(crate) fn virtual_ips(&self, port: &PortName) -> impl Iterator<Item = Vip> {
        let vip = |address, prefix| Vip {
            port: port.clone(),
            address,
            prefix,
            replaces: self.action == PortAction::Set,
        };
        let ipv4 = self.virtual_ip.map(|net| vip(IpAddr::V4(net.address()), net.prefix()));
        let ipv6 = self.virtual_ip6.map(|net| vip(IpAddr::V6(net.address()), net.prefix()));
        ipv4.into_iter().chain(ipv6)
    }
}

/// What a PRIMARY does with a port and its virtual IPs (`spec/ha.md` section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortAction {
    /// Nothing (`ignore-vip`).
    #[default]
    Ignore,
    /// Adds them beside the port's own addresses (`use-vip`, `add`).
    Add,
    /// Puts them in place of the port's own addresses (`set`).
    Set,
    /// The port joins the bridge (`bridge`).
    Bridge,
}

impl PortAction {
    /// True for the actions that carry virtual IPs.
    #[must_use]
    pub fn carries(self) -> bool {
        matches!(self, Self::Add | Self::Set)
    }
}

/// One effective heartbeat link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Port.
    pub port: PortName,
    /// Own address.
    pub ip: IpNet,
    /// The peer's address, of the same kind.
    pub peer: IpAddr,
}

/// One virtual IP that a PRIMARY carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Port.
    pub port: PortName,
    /// Address.
    pub address: IpAddr,
    /// Prefix length of its subnet.
    pub prefix: u8,
    /// True when it replaces the port's own address of its kind, false when it is added beside it.
    pub replaces: bool,
}

impl std::fmt::Display for Vip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Config {
    /// Factory settings of a unit whose board has these ports, in front-panel order.
    #[must_use]
    pub fn for_board(ports: &[&str]) -> Self {
        Self {
            ports: ports.iter().map(|p| PortName((*p).into())).collect(),
            host_name: "twinpost".parse().expect("a constant that the tests parse"),
            interfaces: BTreeMap::new(),
            interfaces6: BTreeMap::new(),
            gateway: None,
            gateway6: None,
            dns: Dns::default(),
            domains: BTreeMap::new(),
            mail_storage: MailStorage::default(),
            ha: Ha::default(),
        }
    }

    /// Ports of the board in front-panel order.
    #[must_use]
    pub fn ports(&self) -> &[PortName] {
        &self.ports
    }

    /// Host name.
    #[must_use]
    pub fn host_name(&self) -> &HostName {
        &self.host_name
    }

    /// A port's own address.
    #[must_use]
    pub fn interface(&self, port: &str) -> Option<Ipv4Net> {
        self.interfaces.iter().find(|(name, _)| name.as_str() == port).map(|(_, net)| *net)
    }

    /// All own addresses in front-panel order. Those of heartbeat links are in [`Config::heartbeat`].
    pub fn interfaces(&self) -> impl Iterator<Item = (&PortName, Ipv4Net)> {
        self.ports.iter().filter_map(|port| self.interfaces.get(port).map(|net| (port, *net)))
    }

    /// A port's own IPv6 address.
    #[must_use]
    pub fn interface6(&self, port: &str) -> Option<Ipv6Net> {
        self.interfaces6().find(|(name, _)| name.as_str() == port).map(|(_, net)| net)
    }

    /// All own IPv6 addresses in front-panel order.
    pub fn interfaces6(&self) -> impl Iterator<Item = (&PortName, Ipv6Net)> {
        self.ports.iter().filter_map(|port| self.interfaces6.get(port).map(|net| (port, *net)))
    }

    /// Default gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.gateway
    }

    /// Default gateways of both kinds.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway.map(IpAddr::V4).into_iter().chain(self.gateway6.map(IpAddr::V6))
    }

    /// Name servers.
    #[must_use]
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Mail domains by name.
    #[must_use]
    pub fn domains(&self) -> &BTreeMap<DomainName, Domain> {
        &self.domains
    }

    /// The server's export on which mail data lies; `None` while it lies on the unit itself.
    #[must_use]
    pub fn mail_export(&self) -> Option<Export> {
        self.mail_storage.export()
    }

    /// HA settings.
    #[must_use]
    pub fn ha(&self) -> &Ha {
        &self.ha
    }

    /// Effective time between heartbeats.
    #[must_use]
    pub fn hb_interval(&self) -> Duration {
        self.ha.hb_interval()
    }

    /// A heartbeat link in effect; `None` when it is not configured. A configuration with HA on always has the first.
    #[must_use]
    pub fn heartbeat(&self, link: LinkId) -> Option<Heartbeat> {
        let set = &self.ha.links[link.index()];
        let first = link.index() == 0;
        let port = set.interface.clone().or_else(|| self.ports.last().filter(|_| first).cloned())?;
        if set.has_ipv6() {
            let ip = set.ip6.or_else(|| self.interfaces6.get(&port).copied())?;
            return Some(Heartbeat { port, ip: IpNet::V6(ip), peer: set.peer6?.into() });
        }
        let own = set.ip.or_else(|| self.interfaces.get(&port).copied());
        let ip = own.or_else(|| Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 1), 24).filter(|_| first))?;
        let peer = set.peer.or_else(|| Some(Ipv4Addr::new(10, 0, 0, 2)).filter(|_| first))?;
        Some(Heartbeat { port, ip: IpNet::V4(ip), peer: peer.into() })
    }

    /// Virtual IPs that a PRIMARY carries, in front-panel order, on each port IPv4 first; at most `VIPS_MAX`.
    pub fn vips(&self) -> impl Iterator<Item = Vip> {
        self.ports.iter().flat_map(|port| {
            let set = self.ha.ports.get(port).filter(|set| set.action.carries());
            set.into_iter().flat_map(|set| set.virtual_ips(port))
        })
    }

    /// Ports that the local-ports check watches, in front-panel order: those with a virtual IP or `port-monitor`.
    pub fn monitored_ports(&self) -> impl Iterator<Item = &PortName> {
        let watched = |set: &HaPort| set.action != PortAction::Ignore || set.monitor;
        self.ports.iter().filter(move |port| self.ha.ports.get(*port).is_some_and(watched))
    }

    /// Whom the local-ports check asks, in front-panel order.
    pub fn neighbours(&self) -> impl Iterator<Item = (&PortName, IpAddr)> {
        self.ports.iter().filter_map(|port| Some((port, self.ha.ports.get(port)?.neighbour?)))
    }

    /// Ports that join the bridge while PRIMARY.
    pub fn bridge_ports(&self) -> impl Iterator<Item = &PortName> {
        let bridges =
            |port: &&PortName| self.ha.ports.get(*port).is_some_and(|set| set.action == PortAction::Bridge);
        self.ports.iter().filter(bridges)
    }

    /// The port on the service network: where the default gateway is, else the first with a virtual IP, else the first
    /// with an address that is no heartbeat port, else the first of the board.
    #[must_use]
    pub fn service_port(&self) -> Option<&PortName> {
        let gateway = |net: Ipv4Net| self.gateway.is_some_and(|gateway| net.contains(gateway));
        let vip = |port: &PortName| self.ha.ports.get(port).is_some_and(|set| set.action.carries());
        let last = self.ports.last().filter(|_| self.ha.links[0].interface.is_none());
        let heartbeat = |port: &PortName| {
            last == Some(port) || self.ha.links.iter().any(|link| link.interface.as_ref() == Some(port))
        };
        let by_gateway = self.interfaces().find(|(_, net)| gateway(*net)).map(|(port, _)| port);
        by_gateway
            .or_else(|| self.ports.iter().find(|port| vip(port) && !heartbeat(port)))
            .or_else(|| self.interfaces().find(|(port, _)| !heartbeat(port)).map(|(port, _)| port))
            .or_else(|| self.ports.first())
    }
}

impl Default for Config {
    /// Factory settings, not bound to any board: no ports.
    fn default() -> Self {
        Self::for_board(&[])
    }
}

impl Ha {
    /// Effective time between heartbeats: as set, else a fifth of the threshold, at most 1 s, at most 200 ms with
    /// `fast-detect`.
    #[must_use]
    pub fn hb_interval(&self) -> Duration {
        let max = if self.fast_detect { INTERVAL_FAST_MAX } else { INTERVAL_MAX };
        self.interval.unwrap_or_else(|| (self.threshold / INTERVALS_A_THRESHOLD).min(max))
    }

    /// The password is still the factory's.
    #[must_use]
    pub fn has_default_password(&self) -> bool {
        self.password.expose() == PASSWORD_DEFAULT
    }
}

impl Default for Ha {
    fn default() -> Self {
        Self {
            mode: ConfiguredMode::default(),
            on_failure: OnFailure::default(),
            password: PASSWORD_DEFAULT.parse().expect("a constant that the tests parse"),
            allow_default_password: false,
            base_port: BASE_PORT_DEFAULT,
            threshold: THRESHOLD_DEFAULT,
            interval: None,
            fast_detect: true,
            links: Default::default(),
            reboot_action: RebootAction::default(),
            mail_data_sync: true,
            mailqueue_data_sync: true,
            encryption: true,
            max_role_changes: ROLE_CHANGES_DEFAULT,
            ports: BTreeMap::new(),
            services: Services::default(),
        }
    }
}
