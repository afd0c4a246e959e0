//! Postfix and Dovecot as they are, configured and steered by the appliance: settings rendered ahead, spool tree made at
//! the first mount, start and stop through init, health, warming of the page cache. Decides nothing; `ha` says when.
//! `spec/appliance.md` section 5, `spec/mail.md`.
//!
//! ```
//! use twinpost_mail::{MailSettings, Relay, render};
//!
//! let mut settings = MailSettings { hostname: "mail.example.test".into(), ..MailSettings::default() };
//! settings.relays.push(Relay { domain: "example.test".into(), next_hop: "192.0.2.25".into(), port: 25 });
//! assert_eq!(render::transport(&settings), "example.test smtp:[192.0.2.25]:25\n");
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "an IO crate: it waits for services and sets file times")]

mod control;
mod drain;
pub mod handover;
pub mod init_client;
pub mod look;
pub mod render;
mod settings;
mod spool;
mod stored;

pub use control::{Mail, MailHealth, MailPaths, PrepareError, StartError, StopError};
pub use drain::DrainError;
pub use look::QueueLook;
pub use settings::{MailSettings, Mailbox, Relay};
pub use stored::Settled;
