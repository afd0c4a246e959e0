//! The Linux implementations pass the contract suite on a fake sysfs tree.
use std::fs;
use std::path::Path;
use std::time::Duration;
use twinpost_hal::{Drive as _, ErrorKind, HardwareError as _, Led as _, Pattern, Watchdog as _};
use twinpost_hal_contract::{self as contract, World};
use twinpost_hal_linux::{DeviceWatchdog, Roots, SysfsDrive, SysfsLed, SysfsPort};

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("has a folder")).expect("makes the folder");
    fs::write(path, text).expect("writes");
}

#[test]
fn port() {
    let root = tempfile::tempdir().expect("scratch folder");
    let port = SysfsPort::new(&Roots::below(root.path()), "port1");
    contract::port(&port, |world| {
        let _ = fs::remove_dir_all(root.path().join("sys"));
        if world != World::Gone {
            put(root.path(), "sys/class/net/port1/address", "52:54:00:00:00:01\n");
            put(
                root.path(),
                "sys/class/net/port1/carrier",
                if world == World::Plugged { "1\n" } else { "0\n" },
            );
        }
    });
}

/// A scratch folder on a real file system: `/tmp` may be in memory, where `O_DIRECT` means nothing.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("scratch folder")
}

#[test]
fn drive() {
    let root = on_disk();
    let reserve = root.path().join("log/drive-check");
    let mut drive = SysfsDrive::new(&Roots::below(root.path()), "bay 1", "vda").with_reserve(&reserve);
    contract::drive(&mut drive, |world| {
        let _ = fs::remove_dir_all(root.path().join("sys"));
        let _ = fs::remove_dir_all(root.path().join("log"));
        put(root.path(), "log/other", "");
        if world == World::Broken {
            // A folder in its place: opening it for writing fails as a read-only file system does.
            fs::create_dir(&reserve).expect("makes the folder");
        }
        if world != World::Gone {
            put(root.path(), "sys/class/block/vda/size", "2048\n");
            put(root.path(), "sys/class/block/vda/serial", "S1\n");
        }
    });
    drive.exercise().expect("plugged at the end");
    assert_eq!(fs::metadata(&reserve).expect("made").len(), 4096, "one block and no more");
}

#[test]
fn a_drive_without_a_reserved_block_cannot_be_exercised() {
    let root = on_disk();
    put(root.path(), "sys/class/block/vda/size", "2048\n");
    let mut drive = SysfsDrive::new(&Roots::below(root.path()), "bay 1", "vda");
    assert_eq!(drive.exercise().expect_err("nothing reserved").kind(), ErrorKind::Unsupported);
}

#[test]
fn a_partition_leads_to_its_drive() {
    let root = on_disk();
    let roots = Roots::below(root.path());
    put(root.path(), "sys/devices/pci/block/vda/vda7/partition", "7\n");
    put(root.path(), "sys/devices/pci/block/vda/size", "2048\n");
    fs::create_dir_all(root.path().join("sys/class/block")).expect("makes the folder");
    for (name, target) in [("vda", "pci/block/vda"), ("vda7", "pci/block/vda/vda7")] {
        let link = root.path().join("sys/class/block").join(name);
        std::os::unix::fs::symlink(root.path().join("sys/devices").join(target), link).expect("links");
    }
    for name in ["vda7", "vda"] {
        let drive = SysfsDrive::of_partition(&roots, name).expect("found");
        assert_eq!((drive.label(), drive.present().expect("asked")), ("vda", true), "{name}");
    }
    assert_eq!(SysfsDrive::of_partition(&roots, "vda8").expect_err("none").kind(), ErrorKind::Absent);
}

/// A regular file keeps what was written, so the trigger file is put back to what the kernel would show.
fn shown(root: &Path) -> Option<Pattern> {
    let folder = root.join("sys/class/leds/input3::scrolllock");
    let get = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let pattern = match get("trigger").as_str() {
        "none" if get("brightness") == "0" => Pattern::Off,
        "none" => Pattern::On,
        "timer" if get("delay_on") == "1000" && get("delay_off") == "1000" => Pattern::Slow,
        "timer" if get("delay_on") == "125" && get("delay_off") == "125" => Pattern::Fast,
        _ => return None,
    };
    fs::write(folder.join("trigger"), "none [kbd-scrolllock] timer\n").expect("writes");
    Some(pattern)
}

fn led_tree(root: &Path, triggers: &str) {
    for (name, text) in [("trigger", triggers), ("brightness", "0\n"), ("max_brightness", "1\n")] {
        put(root, &format!("sys/class/leds/input3::scrolllock/{name}"), text);
    }
    put(root, "sys/class/leds/input3::scrolllock/delay_on", "500\n");
    put(root, "sys/class/leds/input3::scrolllock/delay_off", "500\n");
}

#[test]
fn led() {
    let root = tempfile::tempdir().expect("scratch folder");
    led_tree(root.path(), "none [kbd-scrolllock] timer\n");
    let mut led = SysfsLed::find(&Roots::below(root.path()), "input*::scrolllock").expect("found");
    contract::led(&mut led, || {
        let pattern = shown(root.path());
        assert!(pattern.is_some(), "a known pattern");
        pattern
    });
}

#[test]
fn led_without_timer_is_steady_only_and_missing_led_is_absent() {
    let root = tempfile::tempdir().expect("scratch folder");
    led_tree(root.path(), "[none] kbd-scrolllock\n");
    let roots = Roots::below(root.path());
    let mut led = SysfsLed::find(&roots, "input*::scrolllock").expect("found");
    contract::led(&mut led, || None);
    assert_eq!(led.set(Pattern::Slow).expect_err("no timer").kind(), ErrorKind::Unsupported);
    assert_eq!(SysfsLed::find(&roots, "front:status").expect_err("none").kind(), ErrorKind::Absent);
}

#[test]
fn watchdog() {
    let root = tempfile::tempdir().expect("scratch folder");
    put(root.path(), "sys/class/watchdog/watchdog0/identity", "i6300ESB timer\n");
    put(root.path(), "sys/class/watchdog/watchdog0/timeout", "30\n");
    put(root.path(), "dev/watchdog0", "");
    let roots = Roots::below(root.path());
    assert_eq!(DeviceWatchdog::find(&roots, "iTCO*").expect_err("other").kind(), ErrorKind::Absent);
    let mut watchdog = DeviceWatchdog::find(&roots, "i6300ESB*").expect("found");
    contract::watchdog(&mut watchdog, || {
        // Every start writes a keep-alive; only an orderly stop ends with a `V`. A closed device starts empty again.
        let path = root.path().join("dev/watchdog0");
        match fs::read(&path).expect("reads").last() {
            Some(b'V') => {
                fs::write(&path, "").expect("empties");
                Some(false)
            }
            Some(_) => Some(true),
            None => None,
        }
    });
}

#[test]
fn a_watchdog_that_resets_at_the_second_timeout_tells_the_whole_time() {
    let root = tempfile::tempdir().expect("scratch");
    put(root.path(), "sys/class/watchdog/watchdog0/identity", "iTCO_wdt\n");
    // What a plain file cannot be told stays in force: the time that the driver names.
    put(root.path(), "sys/class/watchdog/watchdog0/timeout", "15\n");
    put(root.path(), "dev/watchdog0", "");
    let roots = Roots::below(root.path());
    let watchdog = DeviceWatchdog::find(&roots, "iTCO_wdt*").expect("found");
    let timeout = watchdog.with_countdowns(2).arm(Duration::from_secs(30)).expect("arms");
    assert_eq!(timeout, Duration::from_secs(30));
}
