//! How much memory there is to take.

use sysinfo::{MemoryRefreshKind, System};

/// Where the system does not say what it has.
const UNKNOWN: u64 = 1 << 30;

/// Bytes that this process could still take: what the machine has to spare, or what a control group
/// of Linux, as of a container, leaves of its limit, whichever is less. Some systems, and some
/// software adapters, end a process that takes more instead of refusing it; half of this leaves
/// room for others.
///
/// ```
/// use kullback::stream::Stream;
/// use ndarray::Array2;
///
/// let p = Array2::from_elem((100, 4), 0.25_f32);
/// let stream = Stream::new(p.view(), p.view())?.with_memory(kullback::available_memory() / 2);
/// # Ok::<(), kullback::Error>(())
/// ```
pub fn available_memory() -> usize {
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
    usize::try_from(available).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_memory() {
        // Whatever the machine: a fraction of it, and room for some rows.
        assert!((2 << 20..2 << 50).contains(&available_memory()), "{}", available_memory());
    }
}
