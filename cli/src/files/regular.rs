//! Regular files: the only ones whose length can be held against their headers.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

use super::Error;

/// Opens a regular file, and tells its length.
pub fn open(path: &Path) -> Result<(File, u64), Error> {
    let failed = Error::io(path, "open");
    // Asked before the file is opened, since to open a device is to do something to it.
    check(path, &fs::metadata(path).map_err(&failed)?)?;
    let mut options = File::options();
    // And to open a FIFO that came meanwhile would be to wait for its writer.
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits() as i32,
    );
    let file = options.read(true).open(path).map_err(&failed)?;
    let metadata = file.metadata().map_err(&failed)?;
    check(path, &metadata)?;
    Ok((file, metadata.len()))
}

/// Refuses what is not a regular file.
pub fn check(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let found = match metadata.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        _ => "a FIFO, a socket or a device",
    };
    let path = path.into();
    Err(Error::NotRegular { path, found })
}

/// Whether two paths lead to the same file, be it through links. A missing file is no other's.
pub fn same_file(a: impl AsRef<Path>, b: impl AsRef<Path>) -> io::Result<bool> {
    match identity(a.as_ref()).and_then(|a| Ok(a == identity(b.as_ref())?)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        same => same,
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<std::path::PathBuf> {
    fs::canonicalize(path)
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::*;

    #[test]
    fn knows_the_same_file_by_another_name() {
        let (folder, path) = temporary(b"");
        let other = folder.path().join("other.npy");
        let around = folder.path().join(".").join("matrix");
        assert!(same_file(&path, &path).unwrap());
        assert!(same_file(&path, around).unwrap());
        assert!(!same_file(&path, &other).unwrap());
        assert!(!same_file(&other, &path).unwrap());
        fs::write(&other, "").unwrap();
        assert!(!same_file(&path, &other).unwrap());
        #[cfg(unix)]
        {
            let link = folder.path().join("link.npy");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert!(same_file(&path, link).unwrap());
            let hard = folder.path().join("hard.npy");
            fs::hard_link(&path, &hard).unwrap();
            assert!(same_file(&hard, &path).unwrap());
            // Other than that there is no such file, nothing is known.
            assert!(same_file(&path, path.join("beneath")).is_err());
        }
    }
}
