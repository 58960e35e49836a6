//! Files many times as large as the memory that a control group allows.
//!
//! Run by `cargo test --package kullback-cli --test command capped -- --ignored`: it needs root and
//! takes minutes, but no room on the disk, where files of zeros have holes.

use std::io::{Seek, SeekFrom, Write};
use std::process::Stdio;

use super::*;

const LIMIT: usize = 512 << 20;
const ROWS: usize = 1 << 23;
const BINS: usize = 128;

/// A control group with a limit on memory, of either version.
struct Group {
    folder: PathBuf,
    /// What the most memory at a time is called.
    peak: &'static str,
}

impl Group {
    fn new() -> Group {
        let name = format!("kullback-test-{}", std::process::id());
        let (parent, limit, peak) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            false => ("", "memory.max", "memory.peak"),
        };
        let folder = Path::new("/sys/fs/cgroup").join(parent).join(name);
        fs::create_dir(&folder).expect("root can make a control group");
        fs::write(folder.join(limit), LIMIT.to_string()).expect("the group limits memory");
        Group { folder, peak }
    }

    fn peak(&self) -> usize {
        fs::read_to_string(self.folder.join(self.peak)).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Rows that are not zeros, and their places.
const SPECIAL: [usize; 4] = [0, 1 << 20, ROWS / 2 + 12_345, ROWS - 1];

fn put_special_rows(file: &Path, value: f32) {
    let mut file = fs::File::options().write(true).open(file).unwrap();
    for row in SPECIAL {
        file.seek(SeekFrom::Start((128 + row * BINS * 4) as u64)).unwrap();
        file.write_all(&bytes(&[value; BINS], false)).unwrap();
    }
}

#[test]
#[ignore = "needs root, and minutes"]
fn capped_at_512_mib_a_job_of_8_gib_finishes() {
    let folder = zeros(ROWS, BINS, "False");
    let size = |name| fs::metadata(folder.path().join(name)).unwrap().len();
    assert_eq!(size("p.npy") + size("q.npy"), (8 << 30) + 256);
    // Of masses 1 and 2: ln(1/2) − 1 + 2.
    put_special_rows(&folder.path().join("p.npy"), 1.0 / BINS as f32);
    put_special_rows(&folder.path().join("q.npy"), 2.0 / BINS as f32);
    for backend in BACKENDS {
        let group = Group::new();
        let script = format!(
            "echo $$ > '{}' && exec '{}' rows p.npy q.npy -o out.npy --mass generalized --json \
             --backend {backend}",
            group.folder.join("cgroup.procs").display(),
            env!("CARGO_BIN_EXE_kullback"),
        );
        let mut command = Command::new("sh");
        let start = std::time::Instant::now();
        let command = command.current_dir(&folder).args(["-c", &script]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (output, peak) = wait_with_peak(child);
        let json = summary(&output);
        assert_eq!((&json["rows"], &json["backend"]), (&ROWS.into(), &(*backend).into()));
        let [group, process] = [group.peak(), peak].map(|bytes| bytes >> 20);
        let time = start.elapsed();
        println!("{backend}: {process} MiB at most, {group} MiB with files cached, {time:.1?}");

        let values = read_f32(&folder.path().join("out.npy"));
        assert_eq!(values.len(), ROWS);
        for (row, value) in values.into_iter().enumerate() {
            let want = if SPECIAL.contains(&row) { 1.0 - 2_f32.ln() } else { 0.0 };
            assert!((value - want).abs() < 1e-6, "{backend}: row {row}: {value}");
        }
    }
}
