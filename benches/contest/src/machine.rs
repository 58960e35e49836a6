//! Where and when the figures were measured.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// Where and when a run was.
#[derive(Serialize)]
pub struct Machine {
    /// The day in UTC, year first.
    pub date: String,
    /// The processor's name.
    pub cpu: String,
    /// Its vector extensions, as far as they matter here.
    pub vectors: String,
    /// As many as each tool may use.
    pub threads: usize,
    /// All of it.
    pub memory_gib: u64,
    /// Operating system and kernel.
    pub system: String,
    /// The compiler on the machine.
    pub rustc: String,
    /// The checkout in which the run was started.
    pub commit: String,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        Machine {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            cpu: cpu(),
            vectors: vectors(),
            threads: threads(),
            memory_gib: memory_gib(),
            system: format!("{} {}", std::env::consts::OS, kernel()),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty"]),
        }
    }

    /// A file name for its results.
    pub(crate) fn slug(&self) -> String {
        let words = self.cpu.to_lowercase();
        let words = words.split('(').next().unwrap_or_default();
        let words = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let cpu = words.take(4).collect::<Vec<_>>().join("-");
        format!("{cpu}-{}-threads", self.threads)
    }
}

/// As many as this process may use; all tools use as many.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor's name; some virtual machines tell no more of it than its family and model.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split(": ").nth(1)).map(str::to_owned)
    };
    match (field("model name"), field("cpu family"), field("model\t")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family}, model {model})")
        }
        _ => std::env::consts::ARCH.into(),
    }
}

fn vectors() -> String {
    let mut found: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let tests = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        found.extend(tests.iter().filter(|test| test.1).map(|test| test.0));
    }
    if cfg!(target_arch = "aarch64") {
        found.push("NEON");
    }
    if found.is_empty() { "none known".into() } else { found.join(", ") }
}

fn memory_gib() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() >> 20
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// The first line that a program says, if it is there.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}
