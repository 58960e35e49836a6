//! The rows of a matrix in a file, as the library streams them: in the order that computing wants,
//! and of the type that it wants.

use std::ops::Range;

use half::{bf16, f16};
use kullback::Element;
use kullback::stream::Source;

use super::matrix::{CHUNK, Layout, Matrix};
use super::{Dtype, Error, Item};

/// Values of a matrix's columns that are held until they are rows, and a column of which is worth
/// a read of its own.
const COLUMNS: usize = 4 * CHUNK;
const PIECE: usize = CHUNK / 4;

/// Rows that are transposed side by side: a cache line or more of every column.
const TILE: usize = 32;

/// The rows of a matrix, as numbers of some type.
pub type Rows<T> = Box<dyn Source<Item = T, Error = Error>>;

impl Matrix {
    /// The rows of a matrix of this type.
    pub fn rows<T: Item + Element>(self) -> Rows<T> {
        Box::new(Reader::new(self, |value: T| value))
    }

    /// The rows of a matrix of any type that `T` can hold.
    pub fn widened<T: Item + Element + From<f32>>(self) -> Rows<T> {
        match self.layout().dtype {
            Dtype::F16 => Box::new(Reader::new(self, |value: f16| T::from(value.widen()))),
            Dtype::BF16 => Box::new(Reader::new(self, |value: bf16| T::from(value.widen()))),
            Dtype::F32 => Box::new(Reader::new(self, |value: f32| T::from(value))),
            Dtype::F64 => self.rows(),
        }
    }
}

/// Reads values of the type `U`, and hands out what `widen` makes of them.
struct Reader<U, F> {
    matrix: Matrix,
    widen: F,
    /// Room for those that are not yet what they are to be, or where.
    scratch: Vec<U>,
}

impl<U: Item, T: Item + Element, F: Fn(U) -> T + Send> Source for Reader<U, F> {
    type Item = T;
    type Error = Error;

    fn shape(&self) -> (usize, usize) {
        self.matrix.shape()
    }

    fn read(&mut self, rows: Range<usize>, into: &mut [T]) -> Result<(), Error> {
        let Layout { fortran, bins, .. } = *self.matrix.layout();
        let first = rows.start * bins;
        match (fortran, U::DTYPE == T::DTYPE) {
            (true, _) => self.transpose(rows, into),
            // Into their place at once.
            (false, true) => self.matrix.read::<U>(first, bytemuck::cast_slice_mut(into)),
            (false, false) => self.widen(first, into),
        }
    }

    fn preferred_bytes(&self) -> usize {
        let Layout { fortran, bins, .. } = *self.matrix.layout();
        // As many rows as make long pieces of columns.
        let rows = PIECE / size_of::<U>();
        if fortran { bins.saturating_mul(rows * size_of::<T>()) } else { 0 }
    }
}

impl<U: Item, T: Item, F: Fn(U) -> T> Reader<U, F> {
    fn new(matrix: Matrix, widen: F) -> Reader<U, F> {
        Reader { matrix, widen, scratch: Vec::new() }
    }

    /// Reads values in the order of the file.
    fn widen(&mut self, first: usize, into: &mut [T]) -> Result<(), Error> {
        let most = CHUNK / size_of::<U>();
        self.scratch.resize(most, U::zeroed());
        for (at, into) in into.chunks_mut(most).enumerate() {
            let narrow = &mut self.scratch[..into.len()];
            self.matrix.read(first + at * most, narrow)?;
            into.iter_mut().zip(narrow).for_each(|(to, from)| *to = (self.widen)(*from));
        }
        Ok(())
    }

    /// Reads rows of a matrix that lies column by column: pieces of as many columns as there is room
    /// for, and then tile by tile to their places.
    fn transpose(&mut self, rows: Range<usize>, into: &mut [T]) -> Result<(), Error> {
        let Layout { rows: height, bins, .. } = *self.matrix.layout();
        let room = COLUMNS / size_of::<U>();
        self.scratch.resize(room, U::zeroed());
        let most = rows.len().clamp(1, room);
        for (first, into) in rows.clone().step_by(most).zip(into.chunks_mut((most * bins).max(1))) {
            let len = most.min(rows.end - first);
            for left in (0..bins).step_by(room / len) {
                let width = (room / len).min(bins - left);
                let pieces = &mut self.scratch[..len * width];
                for (column, piece) in pieces.chunks_exact_mut(len).enumerate() {
                    self.matrix.read((left + column) * height + first, piece)?;
                }
                for top in (0..len).step_by(TILE) {
                    for (column, piece) in pieces.chunks_exact(len).enumerate() {
                        for row in top..len.min(top + TILE) {
                            into[row * bins + left + column] = (self.widen)(piece[row]);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use tempfile::TempDir;

    use super::super::matrix::BIG_ENDIAN;
    use super::super::testing::temporary;
    use super::*;

    /// A matrix whose values are their places in the file.
    fn numbered(fortran: bool, rows: usize, bins: usize) -> (TempDir, Matrix) {
        let values: Vec<u8> =
            (0..rows * bins).flat_map(|place| (place as f32).to_ne_bytes()).collect();
        let (folder, path) = temporary(&values);
        let (dtype, big_endian, start) = (Dtype::F32, BIG_ENDIAN, 0);
        let layout = Layout { dtype, big_endian, fortran, rows, bins, start };
        let file = File::open(&path).unwrap();
        (folder, Matrix::new(&path, file, values.len() as u64, layout))
    }

    #[test]
    fn every_value_of_a_large_matrix_comes_to_its_place() {
        for (fortran, rows, bins, room) in [
            (false, 1_001, 150, CHUNK),
            // Of which the columns of all rows do not fit at once, or not even one column.
            (true, 100_003, 5, COLUMNS),
            (true, 300_001, 2, COLUMNS),
        ] {
            let (_folder, matrix) = numbered(fortran, rows, bins);
            let mut reader = Reader::new(matrix, |value: f32| f64::from(value));
            let mut read = vec![-1.0; (rows - 1) * bins];
            reader.read(1..rows, &mut read).unwrap();
            for (at, value) in read.into_iter().enumerate() {
                let (row, bin) = (1 + at / bins, at % bins);
                let place = if fortran { bin * rows + row } else { row * bins + bin };
                assert_eq!(value, place as f64, "row {row}, bin {bin} of {rows} rows");
            }
            assert_eq!(size_of_val(&reader.scratch[..]), room);
        }
    }

    #[test]
    fn rows_in_columns_are_asked_for_by_long_pieces() {
        let preferred = |fortran| {
            let (_folder, matrix) = numbered(fortran, 2, 3);
            Reader::new(matrix, |value: f32| f64::from(value)).preferred_bytes()
        };
        // Three columns, of each 64 KiB as they lie in the file.
        assert_eq!(preferred(true), 3 * (64 << 10) / 4 * 8);
        assert_eq!(preferred(false), 0);
    }
}
