//! The file that a reader is given.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file in memory, which holds one input after the other. It has no name of its own, so that
/// nothing is left of it, however the process ends.
pub struct Scratch {
    file: File,
    path: PathBuf,
}

impl Default for Scratch {
    fn default() -> Scratch {
        let folder = Path::new("/dev/shm");
        let folder = if folder.is_dir() { folder.into() } else { std::env::temp_dir() };
        let file = tempfile::tempfile_in(folder).expect("a temporary file");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Scratch { file, path }
    }
}

impl Scratch {
    /// Replaces what it holds, and tells where it is.
    pub fn of(&self, contents: &[u8]) -> &Path {
        self.file.set_len(contents.len() as u64).expect("a length");
        self.file.write_all_at(contents, 0).expect("room");
        &self.path
    }
}
