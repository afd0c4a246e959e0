//! `config mailsetting storage config`: whether mail data lies on the units' own volumes or on a server's export, and which. The
//! words are FortiMail's; of its protocols NFS is carried out.

use crate::check::Conflict;
use crate::cursor::{Cursor, Line};
use crate::error::ScriptError;
use crate::ip_net::IpNet;
use crate::model::Config;
use crate::printer::Printer;
use crate::value::{Ipv6Net, ValueError, is_usable};
use crate::variable::{Bad, Fields, Shown, Variable, block};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use twinpost_types::{ConfiguredMode, LinkId};

/// NFS (RFC 1813 section 2.1).
const PORT_DEFAULT: u16 = 2049;
/// Longest path of an export, bytes: far below the protocol's 1024 (RFC 1813 section 5.1.2), and no directory has a longer one.
const PATH_BYTES_MAX: usize = 255;

/// The path of an export: absolute, of characters that need no quoting anywhere, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPath(String);

impl FromStr for ExportPath {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
        let good = text.starts_with('/')
            && text.len() <= PATH_BYTES_MAX
            && text.bytes().all(plain)
            && !text.split('/').any(|part| matches!(part, "." | ".."));
        if good { Ok(Self(text.into())) } else { Err(ValueError("path of an export")) }
    }
}

impl fmt::Display for ExportPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server's export that carries mail data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The server.
    pub host: IpAddr,
    /// What it exports.
    pub folder: ExportPath,
    /// TCP port of NFS.
    pub port: u16,
}

/// The settings as typed; what is in force is [`Config::mail_export`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailStorage {
    remote: bool,
    host: Option<IpAddr>,
    folder: Option<ExportPath>,
    port: u16,
}

impl Default for MailStorage {
    fn default() -> Self {
        Self { remote: false, host: None, folder: None, port: PORT_DEFAULT }
    }
}

impl MailStorage {
    /// The export; `None` while mail data lies on the unit itself.
    pub fn export(&self) -> Option<Export> {
        let (host, folder) = (self.host?, self.folder.clone()?);
        self.remote.then_some(Export { host, folder, port: self.port })
    }
}

const FIELDS: Fields<MailStorage> = Fields {
    variables: &[
        Variable {
            name: "type",
            allowed: "local, remote",
            set: |storage, values| {
                values.choice(&[("local", false), ("remote", true)]).map(|remote| storage.remote = remote)
            },
            reset: |storage, default| storage.remote = default.remote,
            show: |storage| Shown::Set(if storage.remote { "remote" } else { "local" }.into()),
        },
        Variable {
            name: "protocol",
            allowed: "nfs",
            set: |_, values| match values.one()? {
                "nfs" => Ok(()),
                "iscsi" | "iscsi_server" => Err(Bad::NotAvailable("nfs".into())),
                _ => Err(Bad::Refused),
            },
            reset: |_, _| (),
            show: |_| Shown::Set("nfs".into()),
        },
        Variable {
            name: "host",
            allowed: "an IPv4 or IPv6 address of a host",
            set: |storage, values| host(values.one()?).map(|host| storage.host = Some(host)),
            reset: |storage, _| storage.host = None,
            show: |storage| text(storage.host.as_ref()),
        },
        Variable {
            name: "folder",
            allowed: "an absolute path of letters, digits, hyphens, underscores, dots and slashes, at most 255, without . and .. between slashes",
            set: |storage, values| values.parsed().map(|folder| storage.folder = Some(folder)),
            reset: |storage, _| storage.folder = None,
            show: |storage| text(storage.folder.as_ref()),
        },
        Variable {
            name: "port",
            allowed: "1 to 65535",
            set: |storage, values| values.number(1..=u16::MAX).map(|port| storage.port = port),
            reset: |storage, default| storage.port = default.port,
            show: |storage| Shown::Set(storage.port.to_string()),
        },
    ],
};

/// Reads the block behind `config mailsetting storage config`.
pub(crate) fn read(draft: &mut Config, cursor: &mut Cursor<'_>, open: &Line) -> Result<(), ScriptError> {
    for (index, word) in [(2, "storage"), (3, "config")] {
        if open.text(index) != word {
            return Err(open.unknown(index, "section", "mailsetting storage config"));
        }
    }
    open.no_more(4)?;
    let default = MailStorage::default();
    block(cursor, open, &FIELDS, &mut draft.mail_storage, &default, &mut |_, _, _| Ok(false)).map(|_| ())
}

/// Writes the block.
pub(crate) fn print(config: &Config, printer: &mut Printer) {
    printer.block("config mailsetting storage config", "end", false, |printer| {
        printer.fields(&FIELDS, &config.mail_storage, &MailStorage::default());
    });
}

/// What is stored on a server needs the whole name of the export, a way to it that is no cable between the units, and no replication.
pub(crate) fn check(config: &Config) -> Result<(), Conflict> {
    let storage = &config.mail_storage;
    if !storage.remote {
        return Ok(());
    }
    let at = |variable, why: String, allowed: String| Err(Conflict::new(variable, "", why, allowed));
    let lacking = [("host", storage.host.is_none()), ("folder", storage.folder.is_none())];
    if let Some((variable, _)) = lacking.into_iter().find(|(_, lacks)| *lacks) {
        let why = format!("mail data is on a server, and its {variable} is not set");
        return at(variable, why, "host and folder together, or set type local".into());
    }
    if config.ha.mail_data_sync {
        let why = "mail data on a server is not replicated by the units".into();
        return at("type", why, "local, or set mail-data-sync disable in config system ha".into());
    }
    let Some(host) = storage.host else { return Ok(()) };
    let own: Vec<IpNet> = (config.interfaces().map(|(_, net)| IpNet::V4(net)))
        .chain(config.interfaces6().map(|(_, net)| IpNet::V6(net)))
        .collect();
    let ha_on = config.ha.mode != ConfiguredMode::Off;
    let mut links = LinkId::ALL.into_iter().filter(|_| ha_on).filter_map(|link| config.heartbeat(link));
    if own.iter().any(|net| net.address() == host) || config.vips().any(|vip| vip.address == host) {
        return at("host", format!("{host} is this appliance itself"), "another host".into());
    }
    if let Some(link) = links.find(|link| link.ip.is_host(host)) {
        let why = format!("{host} is behind {}, a heartbeat port, where the peer is only", link.port);
        return at("host", why, "a host of the service or management network, or behind a gateway".into());
    }
    let reached = own.iter().any(|net| net.is_host(host))
        || config.gateways().any(|gateway| gateway.is_ipv4() == host.is_ipv4());
    if !reached {
        let why = format!("{host} is in no subnet of a port, and there is no default gateway of its kind");
        return at("host", why, "a host that can be reached, or a gateway first".into());
    }
    Ok(())
}

/// An address that a host can have.
fn host(text: &str) -> Result<IpAddr, Bad> {
    let host = text.parse().ok().filter(|host| match host {
        IpAddr::V4(host) => is_usable(*host),
        IpAddr::V6(host) => Ipv6Net::new(*host, 128).is_some(),
    });
    host.ok_or(Bad::Refused)
}

fn text(value: Option<&impl ToString>) -> Shown {
    value.map_or_else(|| Shown::Unset("none".into()), |value| Shown::Set(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        for good in ["/", "/export/mail", "/vol/mail_1", "/a..b/.c"] {
            assert!(good.parse::<ExportPath>().is_ok(), "{good}");
        }
        for bad in
            ["", "export", "/a b", "/a,b", "/../etc", "/a/./b", "/a\"", &format!("/{}", "x".repeat(255))]
        {
            assert!(bad.parse::<ExportPath>().is_err(), "{bad}");
        }
    }
}
