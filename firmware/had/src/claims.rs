//! What a PRIMARY claims on the service network and gives back: the leased virtual IPs, and what goes with them on the ports: an own
//! address that is replaced (action `set`), a port that joins the bridge (action `bridge`). One claim, release or recovery at a
//! time. Decides nothing. `spec/ha.md` section 6.
//!
//! The kernel ends a lease by its own clock; a replaced address is put back by this program: at a release, half a second after a
//! lease was lost, and at every start. A killed supervisor is started again by init within seconds, a stuck one is ended by the
//! watchdog, so no port stays without its own address. A port that is still in the bridge passes nothing once the lease is over
//! (`net::gate`).

use crate::network::{leased_vips, own_beside};
use crate::provision::chain;
use crate::shared::Shared;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Mutex;
use twinpost_config::Config;
use twinpost_net::address::{AddressError, Addresses};
use twinpost_net::gate::Gate;
use twinpost_net::lease::{LeaseError, LeaseKeeper, LeaseState, Vip};
use twinpost_net::{Cidr, Port};

/// Why a claim or a release failed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The virtual IPs.
    #[error("virtual IPs")]
    Lease(#[source] LeaseError),
    /// What goes with them on the ports.
    #[error("the ports")]
    Ports(#[source] AddressError),
    /// The task that talks to the kernel was lost.
    #[error("the claim was not carried out")]
    Task(#[source] tokio::task::JoinError),
}

/// The claims of one unit.
pub struct Claims {
    lease: Arc<LeaseKeeper>,
    vips: Vec<Vip>,
    /// Own addresses that virtual IPs replace.
    replaced: Vec<(Port, Cidr)>,
    gateways: Vec<IpAddr>,
    /// Ports that join the bridge; the bridge is `None` when it could not be made.
    bridged: Vec<Port>,
    bridge: Option<Port>,
    /// `None` when nothing is done on the ports.
    addresses: Option<Addresses>,
    shared: Arc<Shared>,
    turn: Mutex<()>,
}

impl Claims {
    /// What this configuration claims; nothing is claimed yet, and what a supervisor before left on the ports is undone.
    pub async fn new(config: &Config, shared: &Arc<Shared>, lease: LeaseKeeper) -> Self {
        let replaced = config
            .vips()
            .filter(|vip| vip.replaces)
            .filter_map(|vip| Some((Port::find(vip.port.as_str()).ok()?, own_beside(config, &vip)?)))
            .collect();
        let mut claims = Self {
            lease: Arc::new(lease),
            vips: leased_vips(config, shared),
            replaced,
            gateways: config.gateways().collect(),
            bridged: config.bridge_ports().filter_map(|name| Port::find(name.as_str()).ok()).collect(),
            bridge: None,
            addresses: None,
            shared: Arc::clone(shared),
            turn: Mutex::default(),
        };
        match Addresses::connect() {
            Ok(addresses) => claims.addresses = Some(addresses),
            Err(error) => shared.alarm("ports", &format!("ports cannot be changed: {}", chain(&error))),
        }
        claims.clear_ports(config, shared).await;
        if !claims.bridged.is_empty()
            && let Err(error) = claims.make_bridge().await
        {
            shared
                .alarm("bridge", &format!("there is no bridge, its ports pass nothing: {}", chain(&*error)));
        }
        claims
    }

    /// Takes every port out of the bridge and its gate away.
    async fn clear_ports(&self, config: &Config, shared: &Shared) {
        let Some(addresses) = &self.addresses else { return };
        for port in config.ports().iter().filter_map(|name| Port::find(name.as_str()).ok()) {
            let left = addresses.leave(&port).await.map_err(|error| chain(&error));
            if let Err(why) = left.and_then(|()| Gate::take_from(&port).map_err(|error| chain(&error))) {
                shared.alarm("bridge", &format!("{} may still be in the bridge: {why}", port.name()));
            }
        }
    }

    async fn make_bridge(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        let gate = Gate::new()?;
        for port in &self.bridged {
            gate.put_before(port)?;
        }
        self.lease.guard(gate);
        self.bridge = Some(addresses.bridge().await?);
        Ok(())
    }

    /// Claims everything.
    ///
    /// # Errors
    /// [`ClaimError`]; what was done is undone by [`Claims::release`].
    pub async fn claim(&self) -> Result<(), ClaimError> {
        let _turn = self.turn.lock().await;
        let (lease, vips) = (Arc::clone(&self.lease), self.vips.clone());
        let claimed = tokio::task::spawn_blocking(move || lease.claim(&vips)).await;
        claimed.map_err(ClaimError::Task)?.map_err(ClaimError::Lease)?;
        // The virtual IP is there first: the port is never without an address, and keeps its routes.
        self.take_ports().await
    }

    /// Gives everything back; returns when it is gone.
    ///
    /// # Errors
    /// [`ClaimError`]; the virtual IPs vanish within a second all the same.
    pub async fn release(&self) -> Result<(), ClaimError> {
        let _turn = self.turn.lock().await;
        let ports = self.give_ports_back().await;
        let lease = Arc::clone(&self.lease);
        let released = tokio::task::spawn_blocking(move || lease.release()).await;
        released.map_err(ClaimError::Task)?.map_err(ClaimError::Lease)?;
        ports.map_err(ClaimError::Ports)
    }

    /// What became of the lease.
    pub fn state(&self) -> LeaseState {
        self.lease.state()
    }

    /// Puts the ports right after the lease was lost; nothing happens when it was claimed again meanwhile.
    ///
    /// # Errors
    /// [`ClaimError::Ports`].
    pub async fn recover(&self) -> Result<(), ClaimError> {
        let _turn = self.turn.lock().await;
        if self.lease.state() != LeaseState::Lost {
            return Ok(());
        }
        self.give_ports_back().await.map_err(ClaimError::Ports)
    }

    async fn take_ports(&self) -> Result<(), ClaimError> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        for (port, own) in &self.replaced {
            addresses.remove_address(port, own.address()).await.map_err(ClaimError::Ports)?;
        }
        // Without its gate no port joins: a stuck supervisor would leave a loop behind. The service itself goes on.
        let Some(bridge) = &self.bridge else { return Ok(()) };
        for port in &self.bridged {
            addresses.join(bridge, port).await.map_err(ClaimError::Ports)?;
            self.shared.event("bridge", &format!("{} joined the bridge", port.name()));
        }
        Ok(())
    }

    async fn give_ports_back(&self) -> Result<(), AddressError> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        for port in &self.bridged {
            addresses.leave(port).await?;
        }
        for (port, own) in &self.replaced {
            addresses.set_address(port, *own).await?;
        }
        // The kernel drops it with the last address of a port.
        for gateway in self.gateways.iter().filter(|_| !self.replaced.is_empty()) {
            addresses.default_route(*gateway).await?;
        }
        Ok(())
    }
}
