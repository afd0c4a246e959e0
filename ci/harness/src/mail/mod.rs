//! Both ends of the mail path and the book about it: the client that sends through the virtual IP, the next hop that takes
//! delivery, the probe that measures the outage, the reader of the mailbox, and the ledger that they all write to.

mod book;
mod imap;
mod ledger;
mod load;
mod nexthop;
mod probe;
mod smtp;
mod web;

pub use book::{Book, IN_FLIGHT_MAX, Summary};
pub use imap::{Mailbox, MailboxLogin, MailboxOrders};
pub use ledger::Ledger;
pub use load::{Load, LoadSettings};
pub use nexthop::NextHop;
pub use probe::{Outages, Probe};
pub use web::WebPage;
