//! Tunnels of the kernel's WireGuard: one interface a heartbeat link, one peer each. Private keys are made here once a boot and stay in the
//! kernel, so that a restart of the supervisor does not end what runs through them. Who the peer is and which keys it has is
//! told by the caller. rtnetlink and generic netlink; wireguard(4) of Linux, `WG_CMD_*` in linux/wireguard.h.

use crate::rt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use futures_util::StreamExt;
use genetlink::GenetlinkHandle;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardDeviceFlags, WireguardMessage, WireguardPeer, WireguardPeerAttribute,
};
use rtnetlink::{Handle, LinkUnspec, LinkWireguard};
use rustix::io::Errno;

/// An X25519 public key.
pub type PublicKey = [u8; 32];

/// Both units send something this often, seconds, so that a link that carries nothing has a fresh session when replication moves to
/// it, and so that both begin a handshake at once when the peer's key becomes known.
const KEEPALIVE_S: u16 = 1;
/// Longest wait for the kernel's answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Both addresses of a tunnel and nothing else.
const PREFIX: u8 = 30;

/// One tunnel between two units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Name of the interface.
    pub name: &'static str,
    /// Own address inside.
    pub own: Ipv4Addr,
    /// The peer's address inside, in the same network of four addresses.
    pub peer: Ipv4Addr,
    /// Own UDP port outside.
    pub port: u16,
    /// Where the peer is reached outside.
    pub endpoint: SocketAddr,
}

/// What the kernel says of a tunnel's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// Bytes that came from it through the tunnel; grows every second while it lives.
    pub received: u64,
}

/// Why a tunnel is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Connect(#[source] std::io::Error),
    /// The kernel refused; without the module `wireguard` it says that it does not support the operation.
    #[error("the kernel refused to {what} of tunnel {name}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Interface.
        name: &'static str,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// An answer that makes no sense, or none.
    #[error("the kernel did not {what} of tunnel {name}")]
    Answer {
        /// What was asked for.
        what: &'static str,
        /// Interface.
        name: &'static str,
    },
}

/// Sets tunnels up. Its connections live in the tokio runtime.
#[derive(Clone, Debug)]
pub struct Tunnels {
    links: Handle,
    generic: GenetlinkHandle,
}

impl Tunnels {
    /// Opens the connections, inside a tokio runtime with IO.
    ///
    /// # Errors
    /// [`TunnelError::Connect`].
    pub fn connect() -> Result<Self, TunnelError> {
        let (connection, links, _unasked) = rtnetlink::new_connection().map_err(TunnelError::Connect)?;
        tokio::spawn(connection);
        let (connection, generic, _unasked) = genetlink::new_connection().map_err(TunnelError::Connect)?;
        tokio::spawn(connection);
        Ok(Self { links, generic })
    }

    /// Makes the interface, gives it a private key unless it has one, its address, and brings it up. May be repeated. Returns its
    /// public key. Without a peer it carries nothing.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub async fn raise(&self, tunnel: &Tunnel) -> Result<PublicKey, TunnelError> {
        let add = self.links.link().add(LinkWireguard::new(tunnel.name).build()).execute().await;
        match add {
            Err(error) if errno(&error) == Some(Errno::EXIST) => {}
            result => result.map_err(refused("make the interface", tunnel.name))?,
        }
        if self.look(tunnel).await?.0.is_none() {
            let private = WireguardAttribute::PrivateKey(private_key());
            self.set(tunnel, "set the private key", vec![private]).await?;
        }
        self.set(tunnel, "set the port", vec![WireguardAttribute::ListenPort(tunnel.port)]).await?;
        let (Some(public), index, _) = self.look(tunnel).await? else {
            return Err(TunnelError::Answer { what: "keep the key", name: tunnel.name });
        };
        let address = self.links.address().add(index, IpAddr::V4(tunnel.own), PREFIX).replace();
        address.execute().await.map_err(refused("set the address", tunnel.name))?;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.links.link().set(up).execute().await.map_err(refused("bring up the interface", tunnel.name))?;
        Ok(public)
    }

    /// Makes the holder of `key` the one peer of the tunnel. A peer that is known already is left alone: its session goes on.
    /// True when it is a new one.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub async fn admit(&self, tunnel: &Tunnel, key: PublicKey) -> Result<bool, TunnelError> {
        if self.peer(tunnel).await?.is_some_and(|peer| peer.key == key) {
            return Ok(false);
        }
        self.begin(tunnel, key).await.map(|()| true)
    }

    /// As [`Tunnels::admit`], but a known peer is forgotten first, with all that the kernel remembers of it: of a handshake it
    /// remembers the wall clock, and refuses later ones of a peer whose clock was set back.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub async fn begin(&self, tunnel: &Tunnel, key: PublicKey) -> Result<(), TunnelError> {
        let inside = WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
            WireguardAllowedIpAttr::IpAddr(IpAddr::V4(tunnel.peer)),
            WireguardAllowedIpAttr::Cidr(32),
        ]);
        let peer = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(key),
            WireguardPeerAttribute::Endpoint(tunnel.endpoint),
            WireguardPeerAttribute::PersistentKeepalive(KEEPALIVE_S),
            WireguardPeerAttribute::AllowedIps(vec![inside]),
        ]);
        let attributes = vec![
            WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
            WireguardAttribute::Peers(vec![peer]),
        ];
        self.set(tunnel, "admit the peer", attributes).await
    }

    /// The tunnel's peer; `None` while there is none.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub async fn peer(&self, tunnel: &Tunnel) -> Result<Option<Peer>, TunnelError> {
        self.look(tunnel).await.map(|(_, _, peer)| peer)
    }

    /// Public key, index of the interface, peer.
    async fn look(&self, tunnel: &Tunnel) -> Result<(Option<PublicKey>, u32, Option<Peer>), TunnelError> {
        let what = "tell the state";
        let name = WireguardAttribute::IfName(tunnel.name.to_string());
        let answers = self.ask(tunnel, what, WireguardCmd::GetDevice, vec![name], NLM_F_DUMP).await?;
        let (mut public, mut index, mut peer) = (None, None, None);
        for attribute in answers {
            match attribute {
                WireguardAttribute::PublicKey(key) => public = Some(key),
                WireguardAttribute::IfIndex(number) => index = Some(number),
                WireguardAttribute::Peers(peers) => peer = peers.first().and_then(parse_peer).or(peer),
                _ => {}
            }
        }
        let index = index.ok_or(TunnelError::Answer { what, name: tunnel.name })?;
        Ok((public, index, peer))
    }

    async fn set(
        &self,
        tunnel: &Tunnel,
        what: &'static str,
        attributes: Vec<WireguardAttribute>,
    ) -> Result<(), TunnelError> {
        let mut all = vec![WireguardAttribute::IfName(tunnel.name.to_string())];
        all.extend(attributes);
        self.ask(tunnel, what, WireguardCmd::SetDevice, all, NLM_F_ACK).await.map(drop)
    }

    /// Sends one request and gathers the attributes of all its answers.
    async fn ask(
        &self,
        tunnel: &Tunnel,
        what: &'static str,
        cmd: WireguardCmd,
        attributes: Vec<WireguardAttribute>,
        flag: u16,
    ) -> Result<Vec<WireguardAttribute>, TunnelError> {
        let name = tunnel.name;
        let request = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flag;
        let mut generic = self.generic.clone();
        let talk = async {
            let refused = |source| TunnelError::Refused { what, name, source };
            let answers = generic.request(message).await;
            let mut answers = answers.map_err(|error| refused(std::io::Error::other(error.to_string())))?;
            let mut found = Vec::new();
            while let Some(answer) = answers.next().await {
                match answer.map_err(|_| TunnelError::Answer { what, name })?.payload {
                    NetlinkPayload::InnerMessage(inner) => found.extend(inner.payload.attributes),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(refused(error.to_io()));
                    }
                    _ => {}
                }
            }
            Ok(found)
        };
        let answer = tokio::time::timeout(ANSWER, talk).await;
        answer.unwrap_or(Err(TunnelError::Answer { what, name }))
    }
}

fn parse_peer(peer: &WireguardPeer) -> Option<Peer> {
    let (mut key, mut received) = (None, 0);
    for attribute in &peer.0 {
        match attribute {
            WireguardPeerAttribute::PublicKey(bytes) => key = Some(*bytes),
            WireguardPeerAttribute::RxBytes(bytes) => received = *bytes,
            _ => {}
        }
    }
    key.map(|key| Peer { key, received })
}

/// Random bytes, which the kernel clamps to a key.
fn private_key() -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&rt::random_u128().to_le_bytes());
    key[16..].copy_from_slice(&rt::random_u128().to_le_bytes());
    key
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    let rtnetlink::Error::NetlinkError(message) = error else { return None };
    Errno::from_io_error(&message.to_io())
}

fn refused(what: &'static str, name: &'static str) -> impl FnOnce(rtnetlink::Error) -> TunnelError {
    move |error| {
        let source = match &error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => std::io::Error::other(other.to_string()),
        };
        TunnelError::Refused { what, name, source }
    }
}
