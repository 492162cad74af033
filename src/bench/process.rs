//! What a process and its children have used, from Linux's `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::report::{Better, Figure};
use super::target::ProcessArgument;

/// Clock ticks per second in `/proc/PID/stat` (`USER_HZ`): 100 on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one named process with all its children has used up to now.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Usage {
    name: String,
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// Reads the usage of each of `processes`.
///
/// # Errors
/// A process is not there (any more), in words for the user.
pub(super) fn usage(processes: &[ProcessArgument]) -> Result<Vec<Usage>, String> {
    let children = children();
    processes.iter().map(|p| usage_of_tree(p, &children)).collect()
}

/// What one scenario moved or took, to which its cost is put in relation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Bytes(u64),
    Seconds(f64),
}

/// The cost of a scenario as figures: CPU (seconds per GiB, or cores) and resident memory of each process.
pub(super) fn cost(before: &[Usage], after: &[Usage], work: Work) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (before, after) in before.iter().zip(after) {
        let spent = after.cpu_seconds - before.cpu_seconds;
        let (unit, value) = match work {
            Work::Bytes(bytes) => ("s/GiB", spent / (bytes as f64 / f64::from(1 << 30))),
            Work::Seconds(seconds) => ("cores", spent / seconds),
        };
        figures.push(Figure::new(format!("cpu {}", after.name), unit, value, Better::Lower));
        figures.push(Figure::new(format!("resident {}", after.name), "MB", after.resident_bytes as f64 / 1e6, Better::Lower));
    }
    figures
}

/// Resident bytes of all together.
pub(super) fn resident(usage: &[Usage]) -> u64 {
    usage.iter().map(|u| u.resident_bytes).sum()
}

fn usage_of_tree(process: &ProcessArgument, children: &HashMap<u32, Vec<u32>>) -> Result<Usage, String> {
    let missing = || format!("process {} ({}) is not there", process.pid, process.name);
    let (mut ticks, mut own, mut shared) = (0, 0, 0);
    let mut waiting = vec![process.pid];
    let mut seen = HashSet::new();
    while let Some(pid) = waiting.pop() {
        if !seen.insert(pid) {
            continue;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| parse_stat(&text));
        let Some(stat) = stat else {
            if pid == process.pid {
                return Err(missing());
            }
            // A child that ended between the two looks; its parent has inherited its time.
            continue;
        };
        ticks += stat.ticks;
        let memory = fs::read_to_string(format!("/proc/{pid}/status")).map(|text| parse_status(&text)).unwrap_or_default();
        own += memory.own;
        // Pages that the processes share (programs, Postgres's buffers) are counted once.
        shared = shared.max(memory.shared);
        waiting.extend(children.get(&pid).into_iter().flatten());
    }
    Ok(Usage { name: process.name.clone(), cpu_seconds: ticks as f64 / TICKS_PER_SECOND, resident_bytes: own + shared })
}

/// Every process's children.
fn children() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).ok().and_then(|text| parse_stat(&text));
        if let Some(stat) = stat {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    parent: u32,
    /// User and system time of the process and of the children it has waited for.
    ticks: u64,
}

/// Reads `/proc/PID/stat` (proc(5)); the name in brackets may hold anything, so fields are counted from behind it.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field).and_then(|f| f.parse::<u64>().ok());
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Memory {
    own: u64,
    shared: u64,
}

/// Reads the resident bytes in `/proc/PID/status`: `RssAnon` is the process's own, `RssFile` and `RssShmem` may be shared.
fn parse_status(text: &str) -> Memory {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Memory { own: bytes("RssAnon"), shared: bytes("RssFile") + bytes("RssShmem") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_brackets() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 12345 1000 200";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, ticks: 127 }));
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn status_tells_own_pages_from_shared_ones() {
        let text = "VmRSS:\t 300 kB\nRssAnon:\t     100 kB\nRssFile:\t 150 kB\nRssShmem:\t 50 kB\n";
        assert_eq!(parse_status(text), Memory { own: 102_400, shared: 204_800 });
    }

    #[test]
    fn this_process_is_found_and_a_missing_one_is_not() {
        let this = ProcessArgument { name: "this".to_owned(), pid: std::process::id() };
        assert!(resident(&usage(&[this]).unwrap()) > 1 << 20);
        assert!(usage(&[ProcessArgument { name: "none".to_owned(), pid: u32::MAX }]).is_err());
    }

    #[test]
    fn cost_is_per_gibibyte_or_in_cores() {
        let at = |cpu_seconds| vec![Usage { name: "x".to_owned(), cpu_seconds, resident_bytes: 3_000_000 }];
        let texts =
            |work| cost(&at(1.0), &at(2.0), work).iter().map(|f| format!("{} {:.2} {}", f.name, f.value, f.unit)).collect::<Vec<_>>();
        assert_eq!(texts(Work::Bytes(2 << 30)), ["cpu x 0.50 s/GiB", "resident x 3.00 MB"]);
        assert_eq!(texts(Work::Seconds(4.0))[0], "cpu x 0.25 cores");
    }
}
