//! How much memory the store's cache may take where nobody says so.

use std::sync::OnceLock;

const LEAST: u64 = 64 << 20;
const MOST: u64 = 1 << 30;
/// Where it is not known how much memory there is.
const USUAL: u64 = 256 << 20;

/// The default of [`cache_size`](super::StoreBuilder::cache_size).
pub(super) fn default_cache_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| share(there_is(), allowed()) as usize)
}

/// A quarter of the machine's memory or, if that is less, of the memory that this process may use.
fn share(there_is: Option<u64>, allowed: Option<u64>) -> u64 {
    let memory = there_is.into_iter().chain(allowed).min();
    memory.map_or(USUAL, |memory| (memory / 4).clamp(LEAST, MOST))
}

/// The machine's memory, in bytes.
#[cfg(target_os = "linux")]
fn there_is() -> Option<u64> {
    let system = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "it is narrower on some machines")]
    let pages = u64::from(system.totalram);
    pages.checked_mul(u64::from(system.mem_unit))
}

/// The memory that a container may use, in bytes: the limit of the root control group, in the second version or the
/// first.
#[cfg(target_os = "linux")]
fn allowed() -> Option<u64> {
    let paths = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limits = paths
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok());
    limits.filter_map(|limit| limit_of(&limit)).min()
}

/// A limit as Linux writes it; none where it says `max`.
#[cfg(target_os = "linux")]
fn limit_of(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn there_is() -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_cache_takes_a_quarter_of_the_memory_within_bounds() {
        for (there_is, allowed, size) in [
            (Some(2 * GIB), None, GIB / 2),
            (Some(64 * GIB), None, MOST),
            (Some(64 * GIB), Some(GIB), GIB / 4),
            (Some(2 * GIB), Some(u64::MAX), GIB / 2),
            (Some(64 * GIB), Some(0), LEAST),
            (None, None, USUAL),
        ] {
            assert_eq!(share(there_is, allowed), size, "{there_is:?} {allowed:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_how_much_memory_there_is() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        assert_eq!(there_is(), Some(kib << 10));
        assert_eq!(limit_of("max\n"), None);
        assert_eq!(limit_of("536870912\n"), Some(GIB / 2));
    }
}
