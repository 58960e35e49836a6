//! A matrix in a file, of whatever format: where its values are, and how they are read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ShapeBuilder};

use super::{Dtype, Error, Item};

/// Bytes read at a time: few enough to stay in the cache while they are swapped.
pub const CHUNK: usize = 256 * 1024;

/// Whether this machine is.
pub const BIG_ENDIAN: bool = cfg!(target_endian = "big");

/// What a header says about a matrix.
#[derive(Clone, Copy, Debug)]
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

    /// The type of its values.
    pub fn dtype(&self) -> Dtype {
        self.layout.dtype
    }

    /// Rows and bins.
    pub fn shape(&self) -> (usize, usize) {
        (self.layout.rows, self.layout.bins)
    }

    /// Reads the data. The array has the strides of the file: those of a Fortran array are swapped.
    pub fn read<T: Item>(&mut self) -> Result<Array2<T>, Error> {
        let (path, layout) = (&self.path, self.layout);
        if layout.dtype != T::DTYPE {
            return Err(Error::Item {
                path: path.clone(),
                expected: T::DTYPE,
                found: layout.dtype,
            });
        }
        let memory = || Error::Memory { path: path.clone(), bytes: layout.bytes() };
        let len = layout.rows * layout.bins;
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| memory())?;

        let start = SeekFrom::Start(layout.start);
        self.file.seek(start).map_err(Error::io(path, "read"))?;
        while data.len() < len {
            let done = data.len();
            // Zeroed by the chunk, in the cache, so that memory is gone over once and not twice.
            data.resize(len.min(done + CHUNK / size_of::<T>()), T::zeroed());
            let chunk: &mut [u8] = bytemuck::cast_slice_mut(&mut data[done..]);
            let filled = self.file.read_exact(chunk);
            filled.map_err(|error| self.cut_short(error))?;
            if layout.big_endian != BIG_ENDIAN {
                let items = chunk.chunks_exact_mut(size_of::<T>());
                items.for_each(<[u8]>::reverse);
            }
        }
        let shape = self.shape().set_f(layout.fortran);
        Array2::from_shape_vec(shape, data).map_err(|_| memory())
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
