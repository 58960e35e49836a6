//! A matrix in a file, of whatever format: where its values are, and how they are read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Dtype, Error, Item};

/// Bytes read at a time where they are swapped, widened or transposed: few enough to stay in the
/// cache meanwhile.
pub const CHUNK: usize = 256 * 1024;

/// Whether this machine is.
pub const BIG_ENDIAN: bool = cfg!(target_endian = "big");

/// What a header says about a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// The type of the values.
    pub dtype: Dtype,
    /// Whether their first bytes count most.
    pub big_endian: bool,
    /// Whether they go column by column.
    pub fortran: bool,
    /// How many rows there are.
    pub rows: usize,
    /// How many values there are in a row.
    pub bins: usize,
    /// Where in the file the values begin.
    pub start: u64,
}

impl Layout {
    /// Whether a shape has a size in bytes that memory could hold. Every layout's has.
    pub fn fits(rows: usize, bins: usize, dtype: Dtype) -> bool {
        // An empty array too can have a side that memory could not hold; ndarray refuses it.
        let len = rows.max(1).checked_mul(bins.max(1));
        let bytes = len.and_then(|len| len.checked_mul(dtype.size()));
        bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())
    }

    /// The size of the values.
    pub fn bytes(&self) -> usize {
        self.rows * self.bins * self.dtype.size()
    }

    /// Where in the file the values end. It cannot overflow: the start is a place in a file, and
    /// memory could hold the rest.
    pub fn end(&self) -> u64 {
        self.start + self.bytes() as u64
    }
}

/// A matrix whose header has been read and agrees with the length of its file.
#[derive(Debug)]
pub struct Matrix {
    path: PathBuf,
    file: File,
    /// The length of the file when it was opened.
    len: u64,
    layout: Layout,
}

impl Matrix {
    /// The matrix in a file that holds all of it.
    pub fn new(path: &Path, file: File, len: u64, layout: Layout) -> Matrix {
        Matrix { path: path.into(), file, len, layout }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its header says.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Rows and bins.
    pub fn shape(&self) -> (usize, usize) {
        (self.layout.rows, self.layout.bins)
    }

    /// Reads values that follow each other in the file, which must be of this type.
    pub fn read<T: Item>(&self, first: usize, into: &mut [T]) -> Result<(), Error> {
        if self.layout.dtype != T::DTYPE {
            let (path, found) = (self.path.clone(), self.layout.dtype);
            return Err(Error::Item { path, expected: T::DTYPE, found });
        }
        let start = self.layout.start + (first * size_of::<T>()) as u64;
        let bytes = bytemuck::cast_slice_mut(into);
        if self.layout.big_endian == BIG_ENDIAN {
            return self.read_at(start, bytes);
        }
        for (at, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
            self.read_at(start + (at * CHUNK) as u64, chunk)?;
            chunk.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    fn read_at(&self, start: u64, into: &mut [u8]) -> Result<(), Error> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_exact_at(&self.file, into, start);
        #[cfg(not(unix))]
        let read = {
            use std::io::{Read, Seek, SeekFrom};
            let mut file = &self.file;
            file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(into))
        };
        read.map_err(|error| self.cut_short(error))
    }

    /// The error of a file that has become shorter since it was opened, or cannot be read.
    fn cut_short(&self, error: io::Error) -> Error {
        match self.file.metadata() {
            Ok(metadata) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Error::Length { path: self.path.clone(), expected: self.len, found: metadata.len() }
            }
            _ => Error::io(&self.path, "read")(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_not_said_to_be_short() {
        let (_folder, path) = temporary(&[0; 8]);
        let file = File::options().write(true).open(&path).unwrap();
        let layout = Layout {
            dtype: Dtype::F32,
            big_endian: BIG_ENDIAN,
            fortran: false,
            rows: 1,
            bins: 2,
            start: 0,
        };
        let matrix = Matrix::new(&path, file, 8, layout);
        let error = matrix.read(0, &mut [0_f32; 2]).unwrap_err();
        assert!(matches!(error, Error::Io { action: "read", .. }), "{error}");
    }
}
