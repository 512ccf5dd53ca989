//! What Linux tells under `/proc`: CPU time, memory, limits, and the machine the figures come from.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux this runs on; asking would need libc.
const TICKS_PER_SECOND: u64 = 100;

/// The fields of `/proc/<pid>/stat` that are used here.
#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    reaped_ticks: u64,
}

/// CPU time of one process, all its threads together, at 10 ms granularity.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    Ok(ticks(stat(pid)?.own_ticks))
}

/// CPU time of a process and all its descendants. Those that have ended count too, so it never
/// falls: Postgres starts and ends backends as it likes.
pub(crate) fn tree_cpu(root: u32) -> Result<Duration> {
    let mut sum = stat(root)?;
    let all = all_stats();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (&pid, child) in all.iter().filter(|(_, child)| child.parent == parent) {
            sum.own_ticks += child.own_ticks;
            sum.reaped_ticks += child.reaped_ticks;
            parents.push(pid);
        }
    }
    Ok(ticks(sum.own_ticks + sum.reaped_ticks))
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let status = read(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim_end_matches("kB").trim().parse().context("VmRSS is no number")
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let all = all_stats();
    all.iter().filter(|(_, stat)| stat.parent == pid).map(|(&child, _)| child).collect()
}

/// How many files this process, and every child it starts, may have open.
pub(crate) fn open_files() -> Result<u64> {
    let limits = read("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("no limit of open files")?;
    match line.split_whitespace().next() {
        Some("unlimited") => Ok(u64::MAX),
        soft => {
            soft.and_then(|soft| soft.parse().ok()).context("the limit of open files is no number")
        }
    }
}

/// The parent of a process when both carry `name`: how a backend leads to its postmaster, if they
/// are on this machine.
pub(crate) fn parent_named(pid: u32, name: &str) -> Option<u32> {
    let parent = named(pid, name).and_then(|pid| stat(pid).ok())?.parent;
    named(parent, name)
}

/// The process, if it carries `name`.
pub(crate) fn named(pid: u32, name: &str) -> Option<u32> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (comm.trim() == name).then_some(pid)
}

/// The processor and the kernel.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), Linux {}",
        model.map_or("model unknown", |(_, model)| model.trim()),
        kernel.trim()
    )
}

/// How many processes wanted to run in the last minute, on average.
pub(crate) fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}

/// The kind of file system `path` is on.
pub(crate) fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let covering = fields.filter(|fields| fields.len() > 2 && path.starts_with(fields[1]));
    covering.max_by_key(|fields| fields[1].len()).map(|fields| fields[2].to_owned())
}

/// The compiler that built `binary`, from the note it leaves there; the one on the path may be
/// another.
pub(crate) fn compiler_of(binary: &Path) -> Option<String> {
    const NOTE: &[u8] = b"rustc version ";
    let bytes = fs::read(binary).ok()?;
    let notes = bytes.windows(NOTE.len()).enumerate().filter(|(_, window)| *window == NOTE);
    notes
        .map(|(start, _)| &bytes[start + NOTE.len()..])
        .find(|note| note.first().is_some_and(u8::is_ascii_digit))
        .map(|note| note.iter().take_while(|byte| byte.is_ascii_graphic() || **byte == b' '))
        .map(|note| note.map(|&byte| char::from(byte)).collect())
}

fn stat(pid: u32) -> Result<Stat> {
    let text = read(format!("/proc/{pid}/stat"))?;
    parse(&text).with_context(|| format!("/proc/{pid}/stat reads otherwise than expected"))
}

/// The name in the second field may hold blanks and brackets, so the fields are counted from its
/// end.
fn parse(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: number(11)? + number(12)?,
        reaped_ticks: number(13)? + number(14)?,
    })
}

/// Every process there is. One that ends meanwhile is left out: its parent has its time by then, or
/// the next reading will.
fn all_stats() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid).ok()?))).collect()
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
