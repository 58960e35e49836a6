//! Output that is whole or absent.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempPath;

use super::{Error, regular};

/// A file that takes its place once it is whole and on the disk.
///
/// Until then, on Linux, it has no name, and nothing is left of it however the process ends. Where
/// there are no such files it has a temporary name in the same folder, and is removed when this is
/// dropped, or by [`Unfinished::remove`]: only a process that is killed outright leaves it there.
/// A link is followed; what is not a file is refused.
pub struct WholeFile {
    /// As it was given, for messages.
    path: PathBuf,
    /// What it leads to.
    target: PathBuf,
    file: File,
    /// Its temporary name, if it has one.
    own: Option<PathBuf>,
    unfinished: Unfinished,
}

impl WholeFile {
    /// Begins a file, in the place of one that is there already.
    pub fn create(path: &Path, unfinished: &Unfinished) -> Result<WholeFile, Error> {
        WholeFile::begin(path, unfinished, unnamed)
    }

    fn begin(
        path: &Path,
        unfinished: &Unfinished,
        unnamed: fn(&Path) -> io::Result<File>,
    ) -> Result<WholeFile, Error> {
        let failed = Error::io(path, "write");
        let (target, permissions) = target(path)?;
        let unfinished = unfinished.clone();
        let mut own = None;
        let file = match unnamed(folder(&target)) {
            Ok(file) => file,
            Err(_) => {
                let named = named(folder(&target)).map_err(&failed)?;
                let (file, name) = named.into_parts();
                own = Some(name.to_path_buf());
                unfinished.lock().push(name);
                file
            }
        };
        let whole = WholeFile { path: path.into(), target, file, own, unfinished };
        if let Some(permissions) = permissions {
            whole.file.set_permissions(permissions).map_err(failed)?;
        }
        Ok(whole)
    }

    /// Writes what comes next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io(&self.path, "write"))
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<(), Error> {
        let put = || {
            self.file.sync_all()?;
            // While this is held, nobody removes the name and ends the process.
            let mut names = self.unfinished.lock();
            let name = match self.own.as_deref().and_then(|own| taken(&mut names, own)) {
                Some(name) => name,
                None => link(&self.file, folder(&self.target))?,
            };
            name.persist(&self.target)?;
            Ok(())
        };
        put().map_err(Error::io(&self.path, "write"))
    }

    /// The error of other than so much as was announced.
    pub fn wrong_length(&self, problem: &'static str) -> Error {
        Error::io(&self.path, "write")(io::Error::other(problem))
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            drop(taken(&mut self.unfinished.lock(), own));
        }
    }
}

/// The temporary names of files that are not whole yet, of those that have one, for whoever ends the
/// process.
#[derive(Clone, Debug, Default)]
pub struct Unfinished(Arc<Mutex<Vec<TempPath>>>);

/// One of them, which is no longer there then.
fn taken(names: &mut Vec<TempPath>, own: &Path) -> Option<TempPath> {
    let at = names.iter().position(|name| **name == *own)?;
    Some(names.swap_remove(at))
}

impl Unfinished {
    /// Removes the files. As long as the result lives, none takes its place.
    pub fn remove(&self) -> impl Drop + use<'_> {
        let mut names = self.lock();
        names.clear();
        names
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TempPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a file would be put: two paths may lead to one.
pub fn place(path: &Path) -> Result<PathBuf, Error> {
    let (target, _) = target(path)?;
    let folder = fs::canonicalize(folder(&target)).map_err(Error::io(path, "write"))?;
    Ok(folder.join(target.file_name().unwrap_or_default()))
}

/// Where a path leads to, and the permissions of the file that is there.
fn target(path: &Path) -> Result<(PathBuf, Option<Permissions>), Error> {
    let failed = Error::io(path, "write");
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        metadata => {
            let metadata = metadata.map_err(&failed)?;
            // A rename would replace the link, or /dev/null, where writing would go through it.
            regular::check(path, &metadata)?;
            return Ok((fs::canonicalize(path).map_err(&failed)?, Some(metadata.permissions())));
        }
    }
    // Links to what is not there yet. They do not go in circles, which would be another error.
    let mut target = path.to_path_buf();
    while let Ok(to) = fs::read_link(&target) {
        target = folder(&target).join(to);
    }
    // No file can be renamed to `folder/`, and that would be noticed in the end only.
    let name = target.file_name().unwrap_or_default().as_encoded_bytes();
    if name.is_empty() || !target.as_os_str().as_encoded_bytes().ends_with(name) {
        return Err(Error::NotRegular { path: path.into(), found: "the name of a folder" });
    }
    Ok((target, None))
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

/// A file without a name, on file systems that have such.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Without this folder it could not be given one.
    fs::metadata(DESCRIPTORS)?;
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    File::options().write(true).custom_flags(flags).open(folder)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives a file without a name a temporary one.
#[cfg(target_os = "linux")]
fn link(file: &File, folder: &Path) -> io::Result<TempPath> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let from = Path::new(DESCRIPTORS).join(file.as_raw_fd().to_string());
    let link = |to: &Path| Ok(linkat(CWD, &from, CWD, to, AtFlags::SYMLINK_FOLLOW)?);
    Ok(tempfile::Builder::new().make_in(folder, link)?.into_temp_path())
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<TempPath> {
    Err(io::Error::other("its temporary file is gone"))
}

/// The open files of this process, as links.
#[cfg(target_os = "linux")]
const DESCRIPTORS: &str = "/proc/self/fd";

fn named(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    #[cfg_attr(not(unix), expect(unused_mut))]
    let mut builder = tempfile::Builder::new();
    // What File::create asks for, less the umask. A temporary file would be its owner's only.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::*;

    /// With a temporary name, and without one where that is possible.
    const WAYS: [fn(&Path) -> io::Result<File>; 2] =
        [unnamed, |_| Err(io::ErrorKind::Unsupported.into())];

    fn begin(path: &Path, way: fn(&Path) -> io::Result<File>) -> Result<WholeFile, Error> {
        WholeFile::begin(path, &Unfinished::default(), way)
    }

    fn write(path: &Path, text: &str, way: fn(&Path) -> io::Result<File>) -> Result<(), Error> {
        let mut file = begin(path, way)?;
        file.write(text.as_bytes())?;
        file.finish()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_is_there_stays_until_the_whole_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for way in WAYS {
            let _ = fs::remove_file(&path);
            for (text, before) in [("first", None), ("second", Some("first"))] {
                let mut file = begin(&path, way).unwrap();
                file.write(&text.as_bytes()[..3]).unwrap();
                assert_eq!(fs::read_to_string(&path).ok().as_deref(), before);
                file.write(&text.as_bytes()[3..]).unwrap();
                assert_eq!(fs::read_to_string(&path).ok().as_deref(), before);
                file.finish().unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                assert_eq!(names(folder.path()), ["out"]);
            }
            // Nor does one that is given up leave anything.
            begin(&path, way).unwrap().write(b"third").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "second");
            assert_eq!(names(folder.path()), ["out"]);
        }
    }

    #[test]
    fn a_file_that_is_not_whole_has_no_name_where_the_system_can_do_without() {
        let folder = tempfile::tempdir().unwrap();
        let can = unnamed(folder.path()).is_ok();
        for (way, is_nameless) in WAYS.into_iter().zip([can, false]) {
            let file = begin(&folder.path().join("out"), way).unwrap();
            assert_eq!(names(folder.path()).is_empty(), is_nameless);
            drop(file);
        }
    }

    #[test]
    fn what_ends_the_process_removes_the_file_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let unfinished = Unfinished::default();
        let file = WholeFile::begin(&path, &unfinished, WAYS[1]).unwrap();
        let held = unfinished.remove();
        assert!(names(folder.path()).is_empty());
        // And lets nobody finish it meanwhile.
        let finishing = std::thread::spawn(|| file.finish());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!finishing.is_finished() && names(folder.path()).is_empty());
        drop(held);
        let _ = finishing.join();

        // A file that is given up does not stay until the end of the process.
        drop(WholeFile::begin(&path, &unfinished, WAYS[1]).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for way in WAYS {
            let missing = folder.path().join("missing").join("out");
            assert!(matches!(write(&missing, "x", way), Err(Error::Io { action: "write", .. })));
            assert!(names(folder.path()).is_empty());

            // A folder that came meanwhile.
            let late = folder.path().join("late");
            let file = begin(&late, way).unwrap();
            fs::create_dir(&late).unwrap();
            assert!(file.finish().is_err());
            assert_eq!(names(folder.path()), ["late"]);
            assert!(matches!(write(&late, "x", way), Err(Error::NotRegular { .. })));
            assert!(names(&late).is_empty());
            fs::remove_dir(late).unwrap();
        }
    }

    #[test]
    fn the_name_of_a_folder_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["out/", "out/.", "out//", "out/..", ".."] {
            let error = WholeFile::create(&folder.path().join(name), &Unfinished::default());
            let error = error.map(drop).unwrap_err().to_string();
            assert!(error.ends_with("where a regular file is needed"), "{name}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = super::super::testing::fifo(&folder);
        for way in WAYS {
            assert!(matches!(write(&fifo, "x", way), Err(Error::NotRegular { .. })));
            assert_eq!(names(folder.path()), ["fifo"]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        for way in WAYS {
            let folder = tempfile::tempdir().unwrap();
            let [ordinary, written] = ["ordinary", "written"].map(|name| folder.path().join(name));
            File::create(&ordinary).unwrap();
            write(&written, "x", way).unwrap();
            assert_eq!(mode(&written), mode(&ordinary));

            // Those of an earlier file are kept, as they would be by writing into it.
            fs::set_permissions(&written, Permissions::from_mode(0o622)).unwrap();
            write(&written, "y", way).unwrap();
            assert_eq!(mode(&written) & 0o777, 0o622);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed() {
        for way in WAYS {
            let (folder, path) = temporary(b"old");
            let link = |from: &str, to: &str| {
                std::os::unix::fs::symlink(to, folder.path().join(from)).unwrap();
                folder.path().join(from)
            };
            let made = folder.path().join("made");
            for (name, to, target) in [
                ("there", "matrix", &path),
                ("twice", "there", &path),
                // To a file that is not there yet.
                ("new", "./made", &made),
                ("again", "new", &made),
            ] {
                let link = link(name, to);
                write(&link, name, way).unwrap();
                assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
                assert_eq!(fs::read_to_string(target).unwrap(), name);
            }
            let circle = link("circle", "circle");
            assert!(matches!(write(&circle, "x", way), Err(Error::Io { .. })));
        }
    }
}
