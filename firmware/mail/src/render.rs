//! Settings of Postfix and Dovecot as text. Pure. The reasons for the values are in `spec/mail.md`; parameters are described in
//! postconf(5) and Dovecot's 2.3 manual.

use crate::settings::MailSettings;
use std::fmt::Write as _;

/// Where Postfix's settings are.
pub const POSTFIX_ETC: &str = "/run/postfix/etc";
/// Where Dovecot's settings are.
pub const DOVECOT_ETC: &str = "/run/dovecot/etc";
/// Postfix's queue on the mail queue volume.
pub const SPOOL: &str = "/mail/queue/spool";
/// Postfix's own state on the mail queue volume.
pub const POSTFIX_DATA: &str = "/mail/queue/postfix";
/// Mailboxes on the mail data volume.
pub const MAILBOXES: &str = "/mail/data/mailboxes";

/// `main.cf`.
#[must_use]
pub fn main_cf(settings: &MailSettings) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let relay_domains = list(&mut settings.relays.iter().map(|relay| relay.domain.clone()));
    let local_domains = list(&mut settings.local_domains.iter().cloned());
    let own = list(&mut settings.virtual_ips.iter().map(ToString::to_string));
    let protocols = if speaks_ipv6(settings) { "all" } else { "ipv4" };
    format!(
        "# Rendered by the appliance; changes are lost at the next start.
compatibility_level = 3.7
myhostname = {host}
myorigin = $myhostname
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = all
inet_protocols = {protocols}
proxy_interfaces = {own}

# Program and state folders.
queue_directory = {SPOOL}
data_directory = {POSTFIX_DATA}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
shlib_directory = /usr/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout

# Mail for the protected domains is relayed, mail for the local ones stored; anything else is refused.
relay_domains = {relay_domains}
transport_maps = texthash:{POSTFIX_ETC}/transport
virtual_mailbox_domains = {local_domains}
virtual_mailbox_maps = texthash:{POSTFIX_ETC}/mailboxes
virtual_transport = lmtp:unix:/run/dovecot/lmtp
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions =

# Queue ids of two units never collide; queued mail is seen at once after a takeover.
enable_long_queue_ids = yes
in_flow_delay = 0
queue_run_delay = 30s
# One delivery a connection: what is under way can be seen, waited for, and is never more than these few, fewer than Postfix's own 20: each
# may be delivered twice when power is lost between the next hop's answer and its record. Processes serve longer than 100 of them.
smtp_connection_cache_on_demand = no
initial_destination_concurrency = 2
default_destination_concurrency_limit = 4
max_use = 1000
minimal_backoff_time = 30s
maximal_backoff_time = 600s

# A greeting waits for nothing. Health checks are neither counted nor punished: no client is limited, so nobody counts (anvil).
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_client_new_tls_session_rate_limit = 0
smtpd_client_auth_rate_limit = 0
smtpd_banner = $myhostname ESMTP
smtputf8_enable = no
biff = no
notify_classes =
",
        host = settings.hostname
    )
}

/// `master.cf`: nothing runs in a chroot, since the root file system is read-only and holds nothing else.
#[must_use]
pub fn master_cf() -> String {
    const SERVICES: [(&str, &str, &str, &str, &str, &str); 20] = [
        ("smtp", "inet", "n", "-", "-", "smtpd"),
        ("pickup", "unix", "n", "60", "1", "pickup"),
        ("cleanup", "unix", "n", "-", "0", "cleanup"),
        ("qmgr", "unix", "n", "300", "1", "qmgr"),
        ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "-", "0", "bounce"),
        ("defer", "unix", "-", "-", "0", "bounce"),
        ("trace", "unix", "-", "-", "0", "bounce"),
        ("verify", "unix", "-", "-", "1", "verify"),
        ("flush", "unix", "n", "1000?", "0", "flush"),
        ("proxymap", "unix", "-", "-", "-", "proxymap"),
        ("smtp", "unix", "-", "-", "10", "smtp"),
        ("relay", "unix", "-", "-", "10", "smtp"),
        ("lmtp", "unix", "-", "-", "10", "lmtp"),
        ("showq", "unix", "n", "-", "-", "showq"),
        ("error", "unix", "-", "-", "-", "error"),
        ("retry", "unix", "-", "-", "-", "error"),
        ("anvil", "unix", "-", "-", "1", "anvil"),
        ("scache", "unix", "-", "-", "1", "scache"),
        ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ];
    let mut text = String::from("# service type private unpriv chroot wakeup maxproc command\n");
    for (name, kind, private, wakeup, most, command) in SERVICES {
        let _ = writeln!(text, "{name} {kind} {private} - n {wakeup} {most} {command}");
    }
    text
}

/// `transport`: the next hop of each protected domain, in brackets so that no MX is asked.
#[must_use]
pub fn transport(settings: &MailSettings) -> String {
    settings.relays.iter().fold(String::new(), |mut text, relay| {
        let _ = writeln!(text, "{} smtp:[{}]:{}", relay.domain, relay.next_hop, relay.port);
        text
    })
}

/// `mailboxes`: the addresses that exist.
#[must_use]
pub fn mailboxes(settings: &MailSettings) -> String {
    settings.mailboxes.iter().fold(String::new(), |mut text, mailbox| {
        let _ = writeln!(text, "{} {}", mailbox.address, mailbox.address);
        text
    })
}

/// `dovecot.conf`. On NFS index files are read, not mapped: a mapped file whose server is away ends the process. The settings that drop
/// cached attributes (`mail_nfs_index`, `mail_nfs_storage`) are for several servers at once; here one unit at a time has it mounted, and a new
/// mount begins with an empty cache.
#[must_use]
pub fn dovecot_conf(settings: &MailSettings) -> String {
    format!(
        "# Rendered by the appliance; changes are lost at the next start.
protocols = imap pop3 lmtp
listen = {listen}
base_dir = /run/dovecot
state_dir = /run/dovecot/state
log_path = /dev/stderr
hostname = {host}
postmaster_address = postmaster@{host}
ssl = no
disable_plaintext_auth = no
default_internal_user = dovecot
default_internal_group = dovecot
default_login_user = dovenull
first_valid_uid = 106
last_valid_uid = 106
mail_location = maildir:{MAILBOXES}/%d/%n/Maildir
mail_fsync = always
mmap_disable = {mmap_disable}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = 143
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = 110
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0600
    user = postfix
  }}
}}
service anvil {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {DOVECOT_ETC}/users
}}
userdb {{
  driver = static
  args = uid=106 gid=106 home={MAILBOXES}/%d/%n
}}
",
        host = settings.hostname,
        listen = if speaks_ipv6(settings) { "*, ::" } else { "*" },
        mmap_disable = if settings.nfs { "yes" } else { "no" },
    )
}

/// IPv6 is spoken only where a virtual IP asks for it: delivery prefers nothing that was not set up.
fn speaks_ipv6(settings: &MailSettings) -> bool {
    settings.virtual_ips.iter().any(std::net::IpAddr::is_ipv6)
}

/// `users`: Base64 keeps any printable password out of the file's own syntax.
#[must_use]
pub fn users(settings: &MailSettings) -> String {
    settings.mailboxes.iter().fold(String::new(), |mut text, mailbox| {
        let _ =
            writeln!(text, "{}:{{PLAIN.b64}}{}::::::", mailbox.address, base64(mailbox.password.as_bytes()));
        text
    })
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or(0);
            text.push(if place <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Mailbox, Relay};

    fn settings() -> MailSettings {
        MailSettings {
            hostname: "a.example.test".into(),
            relays: vec![Relay { domain: "example.test".into(), next_hop: "192.0.2.25".into(), port: 25 }],
            local_domains: vec!["local.test".into()],
            mailboxes: vec![Mailbox { address: "alice@local.test".into(), password: "s3cret: 1".into() }],
            virtual_ips: vec!["192.0.2.10".parse().unwrap()],
            nfs: false,
        }
    }

    #[test]
    fn rendered_files_are_the_recorded_ones() {
        let s = settings();
        let files = [
            ("01-main.cf", main_cf(&s)),
            ("02-master.cf", master_cf()),
            ("03-transport", transport(&s)),
            ("04-mailboxes", mailboxes(&s)),
            ("05-dovecot.conf", dovecot_conf(&s)),
            ("06-users", users(&s)),
            ("07-dovecot-nfs.conf", dovecot_conf(&MailSettings { nfs: true, ..s.clone() })),
        ];
        for (name, text) in files {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
            if std::env::var_os("TWINPOST_BLESS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(
                text,
                std::fs::read_to_string(&path).unwrap(),
                "{name}: TWINPOST_BLESS=1 records it anew"
            );
        }
    }

    #[test]
    fn nothing_punishes_a_health_check() {
        let main = main_cf(&settings());
        let limits: Vec<_> =
            main.lines().filter(|l| l.starts_with("smtpd_client_") && l.contains("_limit = ")).collect();
        assert_eq!(limits.len(), 6, "all limits that anvil keeps, postconf(5)");
        assert!(limits.iter().all(|limit| limit.ends_with(" = 0")), "{limits:?}");
        // Its greeting takes six seconds.
        assert!(!main.contains("postscreen") && !master_cf().contains("postscreen"));
    }

    #[test]
    fn base64_follows_the_examples_of_rfc_4648() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, coded) in examples {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
