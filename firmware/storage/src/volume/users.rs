//! Finds and kills the programs that keep a mounted volume busy, through /proc. Never touches its own process, PID 1 or
//! kernel threads.

use std::fs;
use std::path::Path;

/// Most processes looked at; the appliance runs below 500.
const PROCESSES_MAX: usize = 32_768;

/// Sends SIGKILL to every process that uses something below `target`; returns their names with their ids.
pub fn kill(target: &Path) -> Vec<String> {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes
        .take(PROCESSES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| *id > 1 && *id != own);
    ids.filter(|id| uses(*id, target)).filter_map(kill_one).collect()
}

fn kill_one(id: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).ok()?)?;
    // It may have ended by itself: as good.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok()?;
    Some(format!("{} {id}", name.trim()))
}

/// True when the process has a file, its working folder, its root or a mapping below `target`.
fn uses(id: u32, target: &Path) -> bool {
    let process = Path::new("/proc").join(id.to_string());
    let below = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(target));
    if ["cwd", "root"].iter().any(|link| below(&process.join(link))) {
        return true;
    }
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    if files.into_iter().any(|file| below(&file.path())) {
        return true;
    }
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .any(|path| Path::new(path).starts_with(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn kills_who_works_below_the_folder_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let sleep = |dir: &Path| {
            Command::new("/bin/sleep").arg("60").current_dir(dir).stdin(Stdio::null()).spawn().unwrap()
        };
        let mut inside = sleep(dir.path());
        let mut outside = sleep(Path::new("/"));
        // The child changes its folder between fork and exec: what is seen before that is the parent's.
        while !uses(inside.id(), dir.path()) {
            std::thread::yield_now();
        }
        let killed = kill(dir.path());
        assert_eq!(killed, [format!("sleep {}", inside.id())]);
        assert!(!inside.wait().unwrap().success());
        assert!(outside.try_wait().unwrap().is_none());
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
