//! How much memory the command takes.

use bytesize::ByteSize;
use sysinfo::{MemoryRefreshKind, System};

/// Where the system does not say what it has.
const UNKNOWN: u64 = 1 << 30;

/// Half of what this process can have: what the machine has to spare, and what a control group of
/// Linux, as of a container, leaves of its limit.
pub fn default_limit() -> usize {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let available = match system.total_memory() {
        // Its limits cannot be asked for either.
        0 => UNKNOWN,
        _ => {
            let group = system.cgroup_limits();
            let left = group.map(|group| group.total_memory.saturating_sub(group.rss));
            system.available_memory().min(left.unwrap_or(u64::MAX))
        }
    };
    usize::try_from(available / 2).unwrap_or(usize::MAX)
}

/// A number of bytes, with a unit or without.
pub fn parse(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse()?;
    usize::try_from(size.as_u64()).map_err(|_| format!("{size} is more than an address can reach"))
}

/// A number of bytes for people.
pub fn shown(bytes: usize) -> String {
    ByteSize::b(bytes as u64).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("134217728", 128 << 20),
            ("128MiB", 128 << 20),
            ("128 MiB", 128 << 20),
            ("1.5GiB", 3 << 29),
            ("2GB", 2_000_000_000),
            ("64k", 64_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "12 bananas", "-1", "1e9", "0x10"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(shown(128 << 20), "128.0 MiB");
    }

    #[test]
    fn there_is_memory() {
        // Whatever the machine: a fraction of it, and room for some rows.
        assert!((1 << 20..1 << 50).contains(&default_limit()), "{}", default_limit());
    }
}
