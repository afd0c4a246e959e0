//! Settings of one unit: the model, the operator's syntax, and what is synchronised to the peer.
//!
//! [`parse`] turns a whole script into a [`Config`] or refuses it whole, with line, column, variable, value and what is
//! allowed; [`apply`] does the same on top of settings already in force; [`print`](fn@print) writes the canonical script back.
//! A `Config` is only ever made here, so whoever holds one holds settings that fit each other and the board.
//!
//! What this crate does not do: read or write files, keep revisions, act on anything. Values of `spec/ha.md` section 2
//! that this release does not act on are known and refused.
//!
//! Follows `spec/ha.md` sections 2, 6 and 9.
//!
//! ```
//! let ports = ["port1", "port2", "port3", "port4"];
//! let config = twinpost_config::parse("config system ha\nset mode master\nset password s3cret\nend", &ports)?;
//! assert_eq!(config.ha().mode.name(), "primary");
//! let error = twinpost_config::parse("set system ha hb-base-port 80", &ports).unwrap_err();
//! assert_eq!((error.line, error.column, error.variable()), (1, 28, Some("hb-base-port")));
//! # Ok::<(), twinpost_config::ScriptError>(())
//! ```
#![forbid(unsafe_code)]

mod check;
mod cursor;
mod domain;
mod error;
mod ha;
mod ha_ports;
mod ip_net;
mod model;
mod printer;
mod script;
mod service;
mod storage;
mod system;
mod value;
mod variable;
mod virtual_ips;
mod words;

pub use error::{Problem, ScriptError};
pub use ip_net::IpNet;
pub use model::{
    BASE_PORT_DEFAULT, Config, DOMAINS_MAX, Dns, Domain, Ha, HaPort, Heartbeat, LinkSettings, PortAction,
    SCRIPT_BYTES_MAX, THRESHOLD_DEFAULT, USERS_MAX, Vip,
};
pub use script::{apply, parse, parse_bytes, print, print_full, synchronised_checksum};
pub use service::{LocalRules, LocalService, RemoteKind, RemoteService, Services};
pub use storage::{Export, ExportPath};
pub use value::{DomainName, Host, HostName, Ipv4Net, Ipv6Net, Password, PortName, UserName, ValueError};
