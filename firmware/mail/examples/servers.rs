//! Drives the real servers by hand on a unit or in a laboratory: verbs in order. Shows how the crate is used; it is no part of
//! the product.
//!
//! ```text
//! servers prepare 192.0.2.25:2525 start check count stop
//! ```
#![allow(clippy::disallowed_methods, reason = "prints times for people")]

use std::error::Error;
use std::time::Instant;
use twinpost_mail::{Mail, MailPaths, MailSettings, Mailbox, Relay};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mail = Mail::new(MailPaths::default());
    let mut words = std::env::args().skip(1);
    while let Some(verb) = words.next() {
        let began = Instant::now();
        let outcome = match verb.as_str() {
            "prepare" => {
                mail.prepare(&settings(&words.next().ok_or("prepare needs host:port of the next hop")?)?)?;
                "done".to_owned()
            }
            "start" => format!("{:?}", runtime.block_on(mail.start())),
            "stop" => format!("{:?}", runtime.block_on(mail.stop())),
            "check" => format!("{:?}", runtime.block_on(mail.check())),
            "count" => mail.queue_count().to_string(),
            "warm" => format!("{} bytes", mail.warm()),
            other => return Err(format!("unknown verb {other}").into()),
        };
        println!("{verb}: {} ms: {outcome}", began.elapsed().as_millis());
    }
    Ok(())
}

fn settings(next_hop: &str) -> Result<MailSettings, Box<dyn Error>> {
    let (host, port) = next_hop.rsplit_once(':').ok_or("host:port")?;
    Ok(MailSettings {
        hostname: "a.example.test".into(),
        relays: vec![Relay { domain: "example.test".into(), next_hop: host.into(), port: port.parse()? }],
        local_domains: vec!["local.test".into()],
        mailboxes: vec![Mailbox { address: "alice@local.test".into(), password: "s3cret: 1".into() }],
        virtual_ips: vec!["192.0.2.10".parse()?],
        nfs: false,
    })
}
