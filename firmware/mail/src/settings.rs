//! What the mail servers need to know, apart from how the operator writes it. Only data.

use std::net::IpAddr;

/// Settings of both servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailSettings {
    /// The unit's host name, given in the greeting.
    pub hostname: String,
    /// Protected domains.
    pub relays: Vec<Relay>,
    /// Domains with mailboxes here.
    pub local_domains: Vec<String>,
    /// Mailboxes.
    pub mailboxes: Vec<Mailbox>,
    /// Virtual IPs, so that Postfix knows its own addresses on both units (RFC 5321 loop detection). With an IPv6
    /// one both servers speak IPv6 too.
    pub virtual_ips: Vec<IpAddr>,
    /// Mailboxes lie on an NFS server.
    pub nfs: bool,
}

/// A protected domain and its next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Domain.
    pub domain: String,
    /// Host name or address; no MX lookup.
    pub next_hop: String,
    /// TCP port.
    pub port: u16,
}

/// A mailbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// `user@domain`.
    pub address: String,
    /// Password for IMAP and POP3.
    pub password: String,
}

impl std::fmt::Debug for Mailbox {
    /// Passwords are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("address", &self.address).finish_non_exhaustive()
    }
}
