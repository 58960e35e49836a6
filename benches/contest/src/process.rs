//! A worker as the driver sees it: a process that answers lines, and its memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// For compilers and for the slowest of the tools; what takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts a program on a number of threads. What it says on stderr goes to `log`.
    pub fn start(command: &mut Command, threads: usize, log: PathBuf) -> Result<Process, String> {
        for pool in ["OMP", "MKL", "OPENBLAS", "RAYON", "LP"] {
            command.env(format!("{pool}_NUM_THREADS"), threads.to_string());
        }
        let stderr = File::create(&log).map_err(|error| error.to_string())?;
        let mut child = command
            .env("JAX_PLATFORMS", "cpu")
            .env("NODEVICE_SELECT", "1")
            // The same pages for the numbers of all: NumPy asks for large ones by itself.
            .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("{:?} cannot be run: {error}", command.get_program()))?;
        let input = child.stdin.take().expect("it is a pipe");
        let output = child.stdout.take().expect("it is a pipe");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Process { child, input, lines, log })
    }

    pub fn ask(&mut self, what: &str) -> Result<Value, String> {
        writeln!(self.input, "{what}").map_err(|_| self.last_words())?;
        self.answer()
    }

    pub fn answer(&mut self) -> Result<Value, String> {
        let line = self.lines.recv_timeout(PATIENCE).map_err(|_| self.last_words())?;
        serde_json::from_str(&line).map_err(|error| format!("it answered {line}: {error}"))
    }

    /// Why it does not answer any more.
    fn last_words(&mut self) -> String {
        if let Ok(None) = self.child.try_wait() {
            return format!("no answer within {} s", PATIENCE.as_secs());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let line = log.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("it ended without a word").trim().to_owned()
    }

    /// Bytes that it has in memory now; nothing where the system does not tell.
    pub fn resident(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most bytes that it had in memory since [`Process::forget_peak`].
    pub fn peak(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    pub fn forget_peak(&self) -> bool {
        fs::write(self.file("clear_refs"), "5").is_ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    fn status(&self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(self.file("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
