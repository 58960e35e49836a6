//! What the tests of the formats share.

use std::fs;
use std::path::{Path, PathBuf};

use kullback::Element;
use ndarray::Array2;
use tempfile::TempDir;

use super::matrix::Matrix;
use super::rows::Rows;
use super::{Error, Item};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// A file that make.py wrote.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

/// All of them with this extension.
pub fn fixtures(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(FIXTURES).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension() == Some(extension.as_ref())).collect()
}

/// A file that is gone with the folder that it comes with.
pub fn temporary(contents: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matrix");
    fs::write(&path, contents).unwrap();
    (folder, path)
}

/// Reads the values of a matrix of this type.
pub fn read<T: Item + Element>(matrix: Matrix) -> Result<Array2<T>, Error> {
    gather(matrix.rows())
}

/// Reads the values of a matrix of any type.
pub fn contents(matrix: Matrix) -> Result<Array2<f64>, Error> {
    gather(matrix.widened())
}

/// Reads rows at once, and holds against them what comes in parts of every length.
fn gather<T: Item + Element>(mut source: Rows<T>) -> Result<Array2<T>, Error> {
    let (rows, bins) = source.shape();
    let mut whole = vec![T::from_f64(-7.0); rows * bins];
    source.read(0..rows, &mut whole)?;
    for most in 1..rows {
        for first in (0..rows).step_by(most).rev() {
            let part = first..rows.min(first + most);
            let whole = &whole[part.start * bins..part.end * bins];
            let mut read = vec![T::from_f64(-7.0); whole.len()];
            source.read(part, &mut read)?;
            let [read, whole]: [&[u8]; 2] = [&read, whole].map(bytemuck::cast_slice);
            assert_eq!(read, whole);
        }
    }
    Ok(Array2::from_shape_vec((rows, bins), whole).expect("as many values"))
}

/// Makes a FIFO in a folder.
#[cfg(unix)]
pub fn fifo(folder: &TempDir) -> PathBuf {
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    fifo
}
