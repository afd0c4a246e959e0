//! Two network stacks with cables between them, without touching the machine's own: one namespace a thread. A machine that does
//! not permit it makes the tests say SKIPPED.

use rustix::thread::UnshareFlags;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Runs `test` in a network (and mount) namespace of its own, with a peer in another one. `ends` pairs of ports `pN` (here) and
/// `qN` (there) are connected by cables; all are up.
pub fn with_peer(ends: usize, test: impl FnOnce(&Peer) + Send + 'static) {
    let run = move || {
        if let Err(error) = enter() {
            eprintln!("SKIPPED: no network namespace can be made here ({error}); run as root");
            return;
        }
        let peer = Peer::start();
        for end in 0..ends {
            let (here, there) = (format!("p{end}"), format!("q{end}"));
            let thread = peer.thread.to_string();
            ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &thread]);
            ip(&["link", "set", &here, "up"]);
            let end = there.clone();
            peer.run(move || ip(&["link", "set", &end, "up"]));
            wait_for_carrier(&here);
            peer.run(move || wait_for_carrier(&there));
        }
        test(&peer);
    };
    std::thread::spawn(run).join().expect("the test failed");
}

/// The other namespace: a thread that runs what it is given.
pub struct Peer {
    jobs: Option<Sender<Box<dyn FnOnce() + Send>>>,
    handle: Option<JoinHandle<()>>,
    thread: i32,
}

impl Peer {
    fn start() -> Self {
        let (jobs, queue): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (ready, is_ready) = channel();
        let handle = std::thread::spawn(move || {
            enter().expect("the first one was permitted");
            ready.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("the starter waits");
            queue.iter().for_each(|job| job());
        });
        let thread = is_ready.recv().expect("started");
        Self { jobs: Some(jobs), handle: Some(handle), thread }
    }

    /// Runs `job` in the other namespace and returns its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = channel();
        let job = Box::new(move || done.send(job()).expect("the caller waits"));
        self.jobs.as_ref().expect("until dropped").send(job).expect("the thread runs until dropped");
        is_done.recv().expect("the job in the other namespace failed")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            let _reported_already = handle.join();
        }
    }
}

/// Runs `ip` with `arguments` in the namespace of the calling thread; returns what it prints.
pub fn ip(arguments: &[&str]) -> String {
    command("ip", arguments)
}

/// Until the kernel has switched the sending queue of a port on, what is sent is lost without an error.
fn wait_for_carrier(name: &str) {
    for _ in 0..1000 {
        if ip(&["link", "show", name]).contains("state UP") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{name} has no carrier");
}

fn command(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().expect("iproute2 and util-linux are installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// New namespaces for the calling thread, with a `/sys` and `/proc` that show them.
fn enter() -> Result<(), rustix::io::Errno> {
    let flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::FS;
    // SAFETY: neither a network nor a mount namespace nor separate file system attributes take anything from other threads that
    // they could hold a reference to; file descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    command("mount", &["--make-rprivate", "/"]);
    command("mount", &["-t", "sysfs", "sysfs", "/sys"]);
    ip(&["link", "set", "lo", "up"]);
    Ok(())
}
