//! Tells people what happened: in this release the durable event log. Syslog, SNMP, e-mail and metrics come later and
//! will read from the same records (`spec/ha.md` section 10). Decides nothing, and never delays a takeover: whoever reports an
//! event hands it to a writer thread and goes on.
//!
//! ```
//! let log = twinpost_alert::EventLog::open(std::path::Path::new("/nonexistent"), 1);
//! let record = log.append("boot", "unit started", 1_000, 0);
//! assert_eq!(log.after(record.seq - 1), [record]);
//! assert!(log.trouble().is_some(), "kept in memory only, and says so");
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "an IO crate: flushing waits for a real time limit")]

mod file;
mod log;

pub use log::{EVENTS_MAX, EventLog};
