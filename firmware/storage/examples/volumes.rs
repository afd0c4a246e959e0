//! Drives the volumes by hand on a unit or in a laboratory: verbs in order, separated by commas. Shows how the crate is used;
//! it is no part of the product.
//!
//! ```text
//! volumes prepare queue , connect queue 10.0.0.1 10.0.0.2 20003 , watch 5 , initialise queue , promote queue , mount queue
//! volumes answer 5 60                 # answers every fence question with 5 for a minute
//! volumes helper fence-peer queue     # what the kernel runs
//! ```
#![allow(clippy::disallowed_methods, reason = "prints times for people")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};
use twinpost_storage::drbd::{Drbd, Endpoint, Settings};
use twinpost_storage::fence::{FENCE_SOCKET, helper_main, listen};
use twinpost_storage::syncer::Syncer;
use twinpost_storage::volume::{self, Place};
use twinpost_types::VolumeId;

type Outcome = Result<String, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "helper") {
        let code = helper_main(words.into_iter().skip(1).map(Into::into));
        std::process::exit(code.into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let drbd = Drbd::new(Settings { secret: Some("laboratory".to_owned()), ..Settings::default() });
        for verb in words.split(|word| word == ",") {
            let began = Instant::now();
            let outcome = run(&drbd, verb).await;
            println!("{}: {} ms: {}", verb.join(" "), began.elapsed().as_millis(), words_of(outcome));
        }
    });
    Ok(())
}

async fn run(drbd: &Drbd, verb: &[String]) -> Outcome {
    let argument = |at: usize| verb.get(at).map(String::as_str).ok_or("an argument is missing");
    let volume = || match argument(1)? {
        "queue" => Ok(VolumeId::Queue),
        "data" => Ok(VolumeId::Data),
        _ => Err("volumes are queue and data"),
    };
    let done = String::from("done");
    match argument(0)? {
        "prepare" => Ok(format!("{:?}", drbd.prepare(volume()?).await?)),
        "connect" => {
            let (local, peer) = (argument(2)?.parse()?, argument(3)?.parse()?);
            drbd.connect(volume()?, Endpoint { local, peer, port: argument(4)?.parse()? }).await?;
            Ok(done)
        }
        "disconnect" => drbd.disconnect(volume()?).await.map(|()| done).map_err(Into::into),
        "cut" => drbd.cut(volume()?).await.map(|()| done).map_err(Into::into),
        "promote" => drbd.promote(volume()?).await.map(|()| done).map_err(Into::into),
        "force" => drbd.promote_force(volume()?).await.map(|()| done).map_err(Into::into),
        "demote" => drbd.demote(volume()?).await.map(|()| done).map_err(Into::into),
        "outdate" => drbd.outdate(volume()?).await.map(|()| done).map_err(Into::into),
        "resume" => drbd.resume(volume()?).await.map(|()| done).map_err(Into::into),
        "initialise" => drbd.initialise_pair(volume()?).await.map(|()| done).map_err(Into::into),
        "status" => Ok(format!("{:?}", drbd.status().await?)),
        "mount" => Ok(format!("{:?}", volume::mount(volume()?, &Place::Replicated)?)),
        "unmount" => volume::unmount(volume()?).map(|()| done).map_err(Into::into),
        "sync" => sync(volume()?, seconds(argument(2)?)?).await,
        "watch" => watch(drbd, seconds(argument(1)?)?).await,
        "answer" => answer(argument(1)?.parse()?, seconds(argument(2)?)?).await,
        other => Err(format!("unknown verb {other}").into()),
    }
}

async fn sync(volume: VolumeId, time: Duration) -> Outcome {
    let mut syncer = Syncer::start(volume)?;
    tokio::time::sleep(time).await;
    let (flushes, slowest) = syncer.flushes();
    Ok(format!("{flushes} flushes, slowest {} ms, stopped {}", slowest.as_millis(), syncer.stop()))
}

async fn watch(drbd: &Drbd, time: Duration) -> Outcome {
    let mut reports = drbd.monitor();
    let end = tokio::time::Instant::now() + time;
    let began = Instant::now();
    while let Ok(Ok(())) = tokio::time::timeout_at(end, reports.changed()).await {
        for (volume, report) in VolumeId::ALL.into_iter().zip(*reports.borrow_and_update()) {
            println!("  {} ms {}: {report:?}", began.elapsed().as_millis(), volume.name());
        }
    }
    Ok("end".to_owned())
}

async fn answer(code: u8, time: Duration) -> Outcome {
    let mut listener = listen(Path::new(FENCE_SOCKET))?;
    let end = tokio::time::Instant::now() + time;
    while let Ok(question) = tokio::time::timeout_at(end, listener.next()).await {
        println!("  {:?} {} ({:?})", question.event, question.resource, question.volume());
        question.answer(code);
    }
    Ok("end".to_owned())
}

fn seconds(word: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::from_secs(word.parse()?))
}

fn words_of(outcome: Outcome) -> String {
    match outcome {
        Ok(words) => words,
        Err(error) => {
            let mut words = format!("ERROR {error}");
            let mut source = error.source();
            while let Some(error) = source {
                words = format!("{words}: {error}");
                source = error.source();
            }
            words
        }
    }
}
