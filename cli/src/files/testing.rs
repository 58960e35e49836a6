//! What the tests of the formats share.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ndarray::Array2;
use tempfile::TempDir;

use super::matrix::Matrix;
use super::{Dtype, Error};

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

/// Reads a matrix of any type.
pub fn contents(mut matrix: Matrix) -> Result<Array2<f64>, Error> {
    let array = match matrix.dtype() {
        Dtype::F16 => matrix.read::<f16>()?.mapv(f64::from),
        Dtype::BF16 => matrix.read::<bf16>()?.mapv(f64::from),
        Dtype::F32 => matrix.read::<f32>()?.mapv(f64::from),
        Dtype::F64 => matrix.read()?,
    };
    assert_eq!(array.dim(), matrix.shape());
    Ok(array)
}
