//! An input as the command line names it.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use super::matrix::Matrix;
use super::{Dtype, Error, npy, safetensors};

/// How the name of a file ends, and that of a tensor begins.
const BETWEEN: &str = ".safetensors:";

/// `FILE.npy`, or `FILE.safetensors:TENSOR`, or `FILE.safetensors` if it has one tensor only.
#[derive(Debug)]
pub struct Source {
    written: PathBuf,
    matrix: Matrix,
}

impl Source {
    /// Opens the file, and reads and checks its header only.
    ///
    /// The name of a tensor is all that follows the first `.safetensors:`, unless there is a file
    /// of the whole name.
    pub fn open(written: impl AsRef<Path>) -> Result<Source, Error> {
        let written = written.as_ref();
        let matrix = match file_and_tensor(written) {
            Some((file, tensor)) if !written.exists() => safetensors::open(file, Some(&tensor)),
            _ if written.extension() == Some("safetensors".as_ref()) => {
                safetensors::open(written, None)
            }
            _ => npy::open(written),
        };
        Ok(Source { written: written.into(), matrix: matrix? })
    }

    /// The file, without the name of a tensor.
    pub fn path(&self) -> &Path {
        self.matrix.path()
    }

    /// The type of its values.
    pub fn dtype(&self) -> Dtype {
        self.matrix.layout().dtype
    }

    /// The matrix.
    pub fn into_matrix(self) -> Matrix {
        self.matrix
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.written.display().fmt(f)
    }
}

/// The name of a tensor is Unicode, and what is not names none.
#[cfg(unix)]
fn file_and_tensor(written: &Path) -> Option<(&Path, Cow<'_, str>)> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bytes = written.as_os_str().as_bytes();
    let stem = bytes.windows(BETWEEN.len()).position(|part| part == BETWEEN.as_bytes())?;
    let (file, tensor) = bytes.split_at(stem + BETWEEN.len() - 1);
    Some((Path::new(OsStr::from_bytes(file)), String::from_utf8_lossy(&tensor[1..])))
}

/// A path that is not Unicode is taken whole, since the standard library splits no such paths here.
#[cfg(not(unix))]
fn file_and_tensor(written: &Path) -> Option<(&Path, Cow<'_, str>)> {
    let written = written.to_str()?;
    let (file, tensor) = written.split_at(written.find(BETWEEN)? + BETWEEN.len() - 1);
    Some((Path::new(file), tensor[1..].into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::{fixture, read};
    use super::*;

    #[test]
    fn opens_every_form() {
        let file = |name| fixture(name).into_os_string().into_string().unwrap();
        let many = file("many.safetensors");
        for (written, path, dtype, shape) in [
            (file("f2-row.npy"), file("f2-row.npy"), Dtype::F16, (1, 3)),
            (file("f8-F-big-v3.npy"), file("f8-F-big-v3.npy"), Dtype::F64, (2, 3)),
            (file("one.safetensors"), file("one.safetensors"), Dtype::F32, (2, 3)),
            (many.clone() + ":bf16", many.clone(), Dtype::BF16, (2, 3)),
            (many.clone() + ":row", many, Dtype::F32, (1, 3)),
        ] {
            let source = Source::open(&written).unwrap();
            assert_eq!(source.path(), Path::new(&path));
            assert_eq!((source.dtype(), source.matrix.shape()), (dtype, shape));
            assert_eq!(source.to_string(), written);
        }
    }

    /// A file with one tensor of that name and of one value.
    fn one_tensor(name: &str, value: f32) -> Vec<u8> {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        let len = header.len() as u64;
        [&len.to_le_bytes(), header.as_bytes(), &value.to_le_bytes()].concat()
    }

    #[test]
    fn the_name_is_all_after_the_first_colon_unless_there_is_such_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, file| fs::write(folder.path().join(name), file).unwrap();
        let open = |name| Source::open(folder.path().join(name));
        let value = |name| read::<f32>(open(name).unwrap().into_matrix()).unwrap()[[0, 0]];
        write("a.safetensors", one_tensor("b.safetensors:c:d", 1.0));
        assert_eq!(value("a.safetensors:b.safetensors:c:d"), 1.0);
        assert_eq!(value("a.safetensors"), 1.0);
        let error = open("a.safetensors:").unwrap_err().to_string();
        assert!(error.ends_with("has no tensor ''; it has 'b.safetensors:c:d'"), "{error}");

        write("a.safetensors", one_tensor("b.safetensors", 2.0));
        assert_eq!(value("a.safetensors:b.safetensors"), 2.0);
        #[cfg(unix)]
        {
            write("a.safetensors:b.safetensors", one_tensor("x", 3.0));
            assert_eq!(value("a.safetensors:b.safetensors"), 3.0);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_path_of_a_file_of_tensors_is_any_bytes() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(OsStr::from_bytes(name));
        fs::write(path(b"n\xff.safetensors"), one_tensor("a", 1.0)).unwrap();
        let source = Source::open(path(b"n\xff.safetensors:a")).unwrap();
        assert_eq!(source.path(), path(b"n\xff.safetensors"));
        assert_eq!(read::<f32>(source.into_matrix()).unwrap()[[0, 0]], 1.0);
        let error = Source::open(path(b"n\xff.safetensors:\xff")).unwrap_err().to_string();
        assert!(error.contains("has no tensor '\u{fffd}'; it has 'a'"), "{error}");
    }

    #[test]
    fn an_error_names_the_file() {
        for (written, file) in [
            ("no/a.safetensors:b", "no/a.safetensors"),
            ("a.safetensors.npy:b", "a.safetensors.npy:b"),
        ] {
            let error = Source::open(written).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{file}: cannot open: ")), "{error}");
        }
    }
}
