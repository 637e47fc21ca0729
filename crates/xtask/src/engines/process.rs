//! Processes that outlive us and are found again by a file with their number.
//!
//! Must stay true: a number in a file is only believed when the process with that number carries our own path in its
//! command line, because numbers are given out again.

use crate::failure::{Failure, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The process that `pid_file` names, if it still runs and mentions `sign` in its command line.
pub(crate) fn alive(pid_file: &Path, sign: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    mentions(pid, sign).then_some(pid)
}

/// Whether a process has `sign` in its command line. A dead one that nobody waited for has an empty one.
fn mentions(pid: u32, sign: &Path) -> bool {
    let sign = sign.as_os_str().as_encoded_bytes();
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.windows(sign.len()).any(|window| window == sign))
}

/// All processes of programs whose name begins with `program` that have `sign` in their command line. The name matters:
/// somebody may be looking at a file of that name.
pub(crate) fn running(program: &str, sign: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_program(*pid, program) && mentions(*pid, sign)).collect()
}

fn is_program(pid: u32, name: &str) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)))
}

/// Asks a process to end, waits, and ends it if it does not.
pub(crate) fn end(pid: u32, sign: &Path, patience: Duration) -> Result<()> {
    for (signal, patience) in [("TERM", patience), ("KILL", Duration::from_secs(5))] {
        let _ = Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status();
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if !mentions(pid, sign) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Err(Failure::new(format!("process {pid} of {} does not end", sign.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_number_that_now_belongs_to_somebody_else_is_not_believed() {
        let file = std::env::temp_dir().join(format!("lifeboat-xtask-pid-{}", std::process::id()));
        // Never the same number of seconds twice: another run's process must not be taken for this one.
        let sign = format!("1000.{}", std::process::id());
        let sign = Path::new(&sign);
        let mut child =
            Command::new("sleep").arg(sign).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::fs::write(&file, format!("{}\n", child.id())).unwrap();
        // `spawn` may return a moment before the kernel shows the new program's arguments.
        let begun = Instant::now();
        while !mentions(child.id(), sign) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let stranger = alive(&file, Path::new("/data/of/an/engine"));
        let ours = alive(&file, sign);
        let found = (running("sleep", sign), running("containerd", sign));
        let ended = end(child.id(), sign, Duration::from_secs(5));
        let after = alive(&file, sign);
        child.wait().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!((stranger, ours), (None, Some(child.id())));
        assert_eq!(found, (vec![child.id()], vec![]));
        assert!(ended.is_ok());
        assert_eq!(after, None, "ended, although nobody had waited for it");
    }
}
