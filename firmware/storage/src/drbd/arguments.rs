//! The command lines of `drbdsetup-84` and `drbdmeta` with the settings of `spec/appliance.md` section 4. Pure: text in,
//! text out; runs nothing.

use super::{Endpoint, SECRET_BYTES_MAX};
use std::path::Path;
use twinpost_types::VolumeId;

/// Settings of the disk section.
const DISK: &[&str] = &[
    // A failing drive is given up; the peer's copy serves on.
    "--on-io-error=detach",
    // Writes freeze when the peer is lost until our handler has an answer.
    "--fencing=resource-and-stonith",
    // Blocks of 4 MiB that may be dirty at once: all of a 4 GiB volume, so that mail does not wait for activity log writes;
    // the price is up to this much resynchronisation after a crash, which csums make cheap.
    "--al-extents=1237",
    // Resynchronisation: steered so that mail goes first, but into the extent that is being copied. Plan ahead 1 s, keep at most 512 KiB in flight, fall to
    // 16 MiB/s while mail writes (an emulated unit that crashed is whole after 39 s; with 4 it took 55), never exceed 100 MiB/s.
    "--c-plan-ahead=10",
    "--c-fill-target=1024",
    "--c-min-rate=16384",
    "--c-max-rate=102400",
    "--resync-rate=20480",
];

/// Settings of the net section, apart from addresses and secret.
const NET: &[&str] = &[
    // `250` means on both disks.
    "--protocol=C",
    // A dead peer is noticed after 0.9 s while writing, 1.5 s when idle.
    "--timeout=9",
    "--ping-int=1",
    "--ping-timeout=5",
    "--connect-int=1",
    // A peer whose disk hangs blocks for 7 × timeout, then is dropped.
    "--ko-count=7",
    // Diverged data is never discarded automatically.
    "--after-sb-0pri=disconnect",
    "--after-sb-1pri=disconnect",
    "--after-sb-2pri=disconnect",
    "--rr-conflict=disconnect",
    // Resynchronisation sends only blocks that really differ. 64 bits: with the 32 of crc32c one differing block in four thousand million
    // would not be sent, and the copies would differ from then on.
    "--csums-alg=xxhash64",
];

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// For messages: what is being done, a gerund.
    pub what: String,
    /// The arguments.
    pub args: Vec<String>,
}

/// Builds the calls for one volume.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    volume: VolumeId,
}

impl Arguments {
    /// For this volume.
    pub fn new(volume: VolumeId) -> Self {
        Self { volume }
    }

    /// `drbdmeta`: new metadata, on a partition that is known to be empty.
    pub fn create_metadata(self, device: &Path) -> Call {
        self.call("making the replication metadata of", self.meta(device, "create-md"))
    }

    /// `drbdmeta`: replays the activity log, which the kernel asks for after a crash.
    pub fn apply_log(self, device: &Path) -> Call {
        self.call("replaying the activity log of", self.meta(device, "apply-al"))
    }

    /// The resource. Repeating it is not an error.
    pub fn new_resource(self) -> Call {
        self.call("setting up", ["new-resource", self.volume.name()])
    }

    /// The minor device. Repeating it is not an error.
    pub fn new_minor(self) -> Call {
        self.call("setting up the device of", ["new-minor", self.volume.name(), &self.minor(), "0"])
    }

    /// Attaches the partition.
    pub fn attach(self, device: &Path) -> Call {
        let device = device.to_string_lossy();
        let minor = self.minor();
        let fixed = ["attach", &minor, &device, &device, "internal"];
        self.call("attaching", fixed.iter().chain(DISK).copied())
    }

    /// Connects over one link.
    pub fn connect(self, endpoint: Endpoint, secret: Option<&str>) -> Call {
        let (local, peer) = endpoint.addresses();
        let fixed = ["connect", self.volume.name(), &local, &peer];
        let mut call = self.call("connecting", fixed.iter().chain(NET).copied());
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            call.args.push("--cram-hmac-alg=sha256".to_owned());
            call.args.push(format!("--shared-secret={}", cut(secret)));
        }
        call
    }

    /// Connects over one link and gives up what only the own copy holds, if the copies have diverged.
    pub fn connect_discarding(self, endpoint: Endpoint, secret: Option<&str>) -> Call {
        let mut call = self.connect(endpoint, secret);
        call.args.push("--discard-my-data".to_owned());
        call
    }

    /// Promotes.
    pub fn primary(self, force: bool) -> Call {
        let minor = self.minor();
        let force = force.then_some("--force=yes");
        self.call("promoting", ["primary", &minor].into_iter().chain(force))
    }

    /// Both copies become equal and up to date by declaration.
    pub fn initialise(self) -> Call {
        self.call("declaring both copies equal of", ["new-current-uuid", "--clear-bitmap", &self.minor()])
    }

    /// The resource's settings, with the addresses of its connection.
    pub fn show(self) -> Call {
        self.call("reading the connection of", ["show", self.volume.name()])
    }

    /// A verb that takes the minor number alone.
    pub fn verb(self, verb: &str) -> Call {
        self.call(&format!("{verb} of"), [verb, &self.minor()])
    }

    fn minor(self) -> String {
        self.volume.index().to_string()
    }

    fn meta(self, device: &Path, verb: &str) -> Vec<String> {
        let device = device.to_string_lossy();
        ["--force", &self.minor(), "v08", &device, "internal", verb].map(str::to_owned).to_vec()
    }

    fn call<S: AsRef<str>>(self, what: &str, args: impl IntoIterator<Item = S>) -> Call {
        let args = args.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        Call { what: format!("{what} volume {}", self.volume.name()), args }
    }
}

/// Ends the connection between two addresses as [`shown_connection`] found them.
pub fn drop_connection(volume: VolumeId, local: &str, peer: &str, force: bool) -> Call {
    let force = force.then_some("--force=yes");
    Arguments::new(volume).call("disconnecting", ["disconnect", local, peer].into_iter().chain(force))
}

/// One snapshot of everything.
pub fn snapshot() -> Call {
    Call {
        what: "reading the volumes' state".to_owned(),
        args: ["events2", "--now", "--statistics"].map(str::to_owned).to_vec(),
    }
}

/// The endless stream of changes.
pub const FOLLOW: [&str; 2] = ["events2", "--statistics"];

/// Local and remote address of the connection in the output of `show`, as `disconnect` takes them.
pub fn shown_connection(shown: &str) -> Option<(String, String)> {
    let address = |section: &str| {
        let (_, rest) = shown.split_once(section)?;
        let (block, _) = rest.split_once('}')?;
        let line = block.lines().map(str::trim).find(|line| line.starts_with("address"))?;
        let mut words = line.strip_prefix("address")?.trim_end_matches(';').split_whitespace();
        Some(format!("{}:{}", words.next()?, words.next()?))
    };
    Some((address("_this_host {")?, address("_remote_host {")?))
}

fn cut(secret: &str) -> &str {
    let mut end = secret.len().min(SECRET_BYTES_MAX);
    while !secret.is_char_boundary(end) {
        end -= 1;
    }
    &secret[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_carries_the_settings_of_the_specification() {
        let ip = |text: &str| text.parse().expect("an address");
        let endpoint = Endpoint { local: ip("10.0.0.1"), peer: ip("10.0.0.2"), port: 20003 };
        let call = Arguments::new(VolumeId::Queue).connect(endpoint, Some("abcdef"));
        let line = call.args.join(" ");
        assert!(
            line.starts_with("connect queue ipv4:10.0.0.1:20003 ipv4:10.0.0.2:20003 --protocol=C"),
            "{line}"
        );
        for setting in
            ["--timeout=9", "--ping-int=1", "--ping-timeout=5", "--ko-count=7", "--shared-secret=abcdef"]
        {
            assert!(call.args.iter().any(|argument| argument == setting), "{setting} in {line}");
        }
        assert_eq!(call.args.iter().filter(|argument| argument.starts_with("--after-sb")).count(), 3);
        let endpoint = Endpoint { local: ip("fd00::1"), peer: ip("fd00::2"), port: 20003 };
        let line = Arguments::new(VolumeId::Queue).connect(endpoint, None).args.join(" ");
        assert!(line.starts_with("connect queue ipv6:[fd00::1]:20003 ipv6:[fd00::2]:20003 "), "{line}");
    }

    #[test]
    fn a_long_secret_is_cut_to_what_the_kernel_takes() {
        assert_eq!(cut(&"x".repeat(100)).len(), SECRET_BYTES_MAX);
        assert_eq!(cut(&"ä".repeat(40)).len(), SECRET_BYTES_MAX - 1);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn volumes_differ_in_name_and_minor() {
        let call = Arguments::new(VolumeId::Data).attach(Path::new("/dev/vda9"));
        assert_eq!(call.args[..5], ["attach", "1", "/dev/vda9", "/dev/vda9", "internal"]);
        assert_eq!(call.what, "attaching volume data");
    }

    #[test]
    fn finds_the_addresses_of_a_connection() {
        let shown = include_str!("golden/show-connected");
        assert_eq!(
            shown_connection(shown),
            Some(("ipv4:10.0.0.1:20003".to_owned(), "ipv4:10.0.0.2:20003".to_owned()))
        );
        assert_eq!(shown_connection(include_str!("golden/show-alone")), None);
        assert_eq!(shown_connection(""), None);
    }
}
