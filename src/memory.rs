//! How much memory there is to take.

use std::fs;
use std::path::Path;

use sysinfo::{MemoryRefreshKind, System};

/// Where the system does not say what it has.
const UNKNOWN: u64 = 1 << 30;

/// Bytes that this process could still take: what the machine has to spare, or what a control group
/// of Linux, as of a container, leaves of its limit, whichever is least. Some systems, and some
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
        _ => system.available_memory().min(left_by_groups("/".as_ref()).unwrap_or(u64::MAX)),
    };
    usize::try_from(available).unwrap_or(usize::MAX)
}

/// The least that the control groups of this process, each within another, leave of their limits.
/// What the system caches of files does not count: it gives way.
fn left_by_groups(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let left = groups.lines().filter_map(|line| {
        let (_, group) = line.split_once(':')?;
        let (controllers, path) = group.split_once(':')?;
        // Of version 2, which may be the only one or beside version 1, or of version 1.
        let (mounts, [limit, used]): (&[&str], _) = match controllers {
            "" => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], ["memory.max", "anon "]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (&["sys/fs/cgroup/memory"], ["memory.limit_in_bytes", "total_rss "])
            }
            _ => return None,
        };
        let group = Path::new(path.trim_start_matches('/'));
        // A container may see its own group at the top, and yet be told of it by its full path.
        let folders = mounts
            .iter()
            .flat_map(|mount| group.ancestors().map(move |group| root.join(mount).join(group)));
        folders.filter_map(|folder| left(&folder, limit, used)).min()
    });
    left.min()
}

/// What one group leaves, if it has a limit.
fn left(folder: &Path, limit: &str, used: &str) -> Option<u64> {
    let limit = fs::read_to_string(folder.join(limit)).ok()?.trim().parse::<u64>().ok()?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let used = stat.lines().find_map(|line| line.strip_prefix(used))?.parse().ok()?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let system = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = system.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let left = || left_by_groups(system.path());
        assert_eq!(left(), None);
        write("proc/self/cgroup", "3:cpu,memory:/a/b\n2:cpuset:/\n0::/c/d\n");
        assert_eq!(left(), None);
        let first = "sys/fs/cgroup/memory";
        write(&format!("{first}/memory.limit_in_bytes"), "9223372036854771712\n");
        write(&format!("{first}/memory.stat"), "cache 5\nrss 1\ntotal_rss 900\n");
        assert_eq!(left(), Some(9223372036854771712 - 900));
        write(&format!("{first}/a/memory.limit_in_bytes"), "1000\n");
        write(&format!("{first}/a/memory.stat"), "rss 1\ntotal_rss 300\n");
        assert_eq!(left(), Some(700));
        write(&format!("{first}/a/b/memory.limit_in_bytes"), "800\n");
        write(&format!("{first}/a/b/memory.stat"), "rss 1\ntotal_rss 200\n");
        assert_eq!(left(), Some(600));
        // Version 2 beside it; `max` is no limit, and what is used can be more than the limit.
        write("sys/fs/cgroup/unified/c/d/memory.max", "max\n");
        write("sys/fs/cgroup/unified/c/d/memory.stat", "anon 100\nfile 7\n");
        assert_eq!(left(), Some(600));
        write("sys/fs/cgroup/c/memory.max", "550\n");
        write("sys/fs/cgroup/c/memory.stat", "anon 100\nfile 7\n");
        assert_eq!(left(), Some(450));
        write("sys/fs/cgroup/c/memory.max", "90\n");
        assert_eq!(left(), Some(0));
    }

    #[test]
    fn there_is_memory() {
        // Whatever the machine: a fraction of it, and room for some rows.
        assert!((2 << 20..2 << 50).contains(&available_memory()), "{}", available_memory());
    }
}
