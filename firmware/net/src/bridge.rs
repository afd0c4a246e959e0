//! The bridge of transparent mode: one for the appliance, without spanning tree, without delay, without an address of its own. Ports
//! join and leave it; who joins when is decided elsewhere. What passes is limited by [`crate::gate`]. `spec/ha.md` section 6,
//! action `bridge`.

use crate::address::{AddressError, Addresses, refused};
use crate::{Port, PortError};
use rtnetlink::packet_route::link::BridgeStpState;
use rtnetlink::{LinkBridge, LinkUnspec};
use rustix::io::Errno;

/// Name of the bridge.
pub const BRIDGE: &str = "br0";
/// An appliance in transparent mode speaks on its other ports only.
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/br0/disable_ipv6";

/// Why there is no bridge.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The kernel refused to make it.
    #[error("the bridge cannot be made")]
    Make(#[source] AddressError),
    /// It was made and is not there.
    #[error("the bridge is not there")]
    Missing(#[source] PortError),
}

impl Addresses {
    /// The bridge; made and raised if there is none.
    ///
    /// # Errors
    ///
    /// [`BridgeError`].
    pub async fn bridge(&self) -> Result<Port, BridgeError> {
        let new = LinkBridge::new(BRIDGE).stp_state(BridgeStpState::Disabled).forward_delay(0);
        let made = self.handle.link().add(new.mcast_snooping(false).build()).execute().await;
        match made {
            Ok(()) => {}
            Err(error) if is_errno(&error, Errno::EXIST) => {}
            Err(error) => return Err(BridgeError::Make(refused(|| format!("make {BRIDGE}"))(error))),
        }
        // A kernel without IPv6 has nothing to switch off.
        let _nothing_to_switch_off = std::fs::write(NO_IPV6, "1");
        Port::find(BRIDGE).map_err(BridgeError::Missing)
    }

    /// Makes a port part of the bridge.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn join(&self, bridge: &Port, port: &Port) -> Result<(), AddressError> {
        let message = LinkUnspec::new_with_index(port.index).controller(bridge.index).build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(refused(|| format!("make {} part of {BRIDGE}", port.name())))
    }

    /// Takes a port out of the bridge; nothing happens when it is in none.
    ///
    /// # Errors
    ///
    /// [`AddressError::Refused`].
    pub async fn leave(&self, port: &Port) -> Result<(), AddressError> {
        let message = LinkUnspec::new_with_index(port.index).nocontroller().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(refused(|| format!("take {} out of {BRIDGE}", port.name())))
    }
}

fn is_errno(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno.raw_os_error())
}
