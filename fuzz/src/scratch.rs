//! The file that a reader is given.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A file in memory, which holds one input after the other. The fuzzer ends its process in ways that
/// run no destructor, so that it stays: a few hundred bytes.
pub struct Scratch {
    file: File,
    path: PathBuf,
    len: AtomicUsize,
}

impl Default for Scratch {
    fn default() -> Scratch {
        let folder = Path::new("/dev/shm");
        let folder = if folder.is_dir() { folder.into() } else { std::env::temp_dir() };
        let file = tempfile::Builder::new().prefix("kullback-fuzz-").tempfile_in(folder);
        let (file, path) = file.expect("a temporary file").keep().expect("it stays");
        Scratch { file, path, len: AtomicUsize::new(0) }
    }
}

impl Scratch {
    /// Replaces what it holds, and tells where it is.
    pub fn of(&self, contents: &[u8]) -> &Path {
        if self.len.swap(contents.len(), Relaxed) > contents.len() {
            self.file.set_len(contents.len() as u64).expect("a length");
        }
        self.file.write_all_at(contents, 0).expect("room");
        &self.path
    }
}
