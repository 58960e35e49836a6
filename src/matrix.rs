//! All rows of P against all rows of Q: what comes of it.

use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;

use crate::element::{Element, Value};
use crate::outcome::Recovery;
use crate::pairs::Pairs;
use crate::{Error, InvalidRow, Side, Status};

/// The divergences of all rows of P from all rows of Q, or a band of that matrix.
///
/// ```
/// use kullback::{Divergence, Engine, OnInvalid, Pairs, Rule, Status};
/// use ndarray::array;
///
/// let p = array![[0.5_f32, 0.5], [1.0, 0.0]];
/// let q = array![[0.5_f32, 0.5], [0.0, 1.0], [0.5, -0.5]];
/// let pairs = Pairs::probs(&p, &q)?.with_on_invalid(OnInvalid::Nan);
/// let matrix = Engine::cpu().matrix(Divergence::TotalVariation, &pairs)?;
/// assert_eq!(matrix.values.row(0).to_vec()[..2], [0.0, 0.5]);
/// assert_eq!(matrix.values.row(1).to_vec()[..2], [0.5, 1.0]);
/// assert!(matrix.values.column(2).iter().all(|value| value.is_nan()));
/// assert_eq!(matrix.q_statuses[2], Status::Invalid(Rule::Negative));
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Matrix<V> {
    /// Row i of P against row j of Q at `[[i, j]]`, in nats. +inf where that is the answer; NaN where
    /// one of the two is no distribution, or where a finite value is too large for the type.
    pub values: Array2<V>,
    /// Of each row of P whether it is a distribution: `Ok`, or `Invalid` and why.
    pub p_statuses: Array1<Status>,
    /// Likewise of Q.
    pub q_statuses: Array1<Status>,
    /// The backend that computed it.
    pub backend: &'static str,
    /// The adapter, where that was not the CPU.
    pub adapter: Option<String>,
    /// How many pairs took a closer look: they were computed once more in f64, as rows of a
    /// [`Batch`](crate::Batch) are. Pairs that are nearly or exactly equal do, and such as have
    /// probabilities at the ends of the range.
    pub closer_looks: usize,
    /// Which devices failed on the way, and what was done about it. Its rows are those of P.
    pub recovery: Recovery,
    /// The first row that is no distribution, P before Q, or that has a value too large for the type.
    pub(crate) offender: Option<InvalidRow>,
}

impl<V: Value> Matrix<V> {
    /// A matrix that is still to be filled in.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn of<T: Element<Value = V>>(
        pairs: &Pairs<'_, T>,
        backend: &'static str,
    ) -> Result<Matrix<V>, Error> {
        let (rows, columns) = pairs.shape();
        let bytes = rows.saturating_mul(columns).saturating_mul(size_of::<V>());
        let no_memory = || Error::OutOfMemory { bytes };
        let len = rows.checked_mul(columns).ok_or_else(no_memory)?;
        let values = bytemuck::allocation::try_zeroed_vec(len).map_err(|()| no_memory())?;
        Ok(Matrix {
            values: Array2::from_shape_vec((rows, columns), values).map_err(|_| no_memory())?,
            p_statuses: Array1::default(rows),
            q_statuses: Array1::default(columns),
            backend,
            adapter: None,
            closer_looks: 0,
            recovery: Recovery::default(),
            offender: None,
        })
    }

    /// Notes which rows of a side, from `first` on, are no distributions.
    pub(crate) fn note(
        &mut self,
        side: Side,
        first: usize,
        refused: impl Iterator<Item = Option<InvalidRow>>,
    ) {
        let statuses = match side {
            Side::P => &mut self.p_statuses,
            Side::Q => &mut self.q_statuses,
        };
        for (status, offender) in statuses.iter_mut().skip(first).zip(refused) {
            let Some(offender) = offender else { continue };
            *status = Status::Invalid(offender.rule);
            self.offender = self.offender.into_iter().chain([offender]).min_by_key(place);
        }
    }

    /// Fills in a part that the CPU computed, whose first row and column these are.
    #[cfg(feature = "gpu")]
    pub(crate) fn complete(&mut self, [row, column]: [usize; 2], part: Matrix<V>) {
        fn put<A: Clone>(all: &mut Array1<A>, first: usize, part: &Array1<A>) {
            all.slice_axis_mut(Axis(0), (first..).into()).assign(part);
        }
        let mut rows = self.values.slice_axis_mut(Axis(0), (row..).into());
        rows.slice_axis_mut(Axis(1), (column..).into()).assign(&part.values);
        put(&mut self.p_statuses, row, &part.p_statuses);
        put(&mut self.q_statuses, column, &part.q_statuses);
        if row == 0 {
            (self.backend, self.adapter) = (part.backend, None);
        } else {
            self.backend = "mixed";
        }
        self.closer_looks += part.closer_looks;
        self.recovery.add(part.recovery);
        let first = [row, column];
        let further = |at: InvalidRow| InvalidRow { row: at.row + first[at.side as usize], ..at };
        let of_part = part.offender.map(further);
        self.offender = self.offender.into_iter().chain(of_part).min_by_key(place);
    }

    /// The same computed by the CPU in the place of a GPU.
    pub(crate) fn instead_of_gpu(mut self, error: &Error) -> Matrix<V> {
        self.recovery.cpu_rows += self.values.nrows();
        self.recovery.reason.get_or_insert_with(|| error.to_string());
        self
    }
}

/// By which the first of invalid rows is found.
fn place(row: &InvalidRow) -> (usize, usize) {
    (row.side as usize, row.row)
}

/// The rows of Q that are nearest to each row of P.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Nearest<V> {
    /// Rows of Q by their numbers, nearest first; of those equally near the lowest number first.
    /// Infinitely far ones come after all others, and those that are no distributions last.
    pub indices: Array2<usize>,
    /// The divergences of these, in nats.
    pub values: Array2<V>,
    /// Of each row of P whether it is a distribution: `Ok`, or `Invalid` and why.
    pub p_statuses: Array1<Status>,
    /// Likewise of Q.
    pub q_statuses: Array1<Status>,
    /// The backend that computed it.
    pub backend: &'static str,
    /// The adapter, where that was not the CPU.
    pub adapter: Option<String>,
    /// As in [`Matrix::closer_looks`].
    pub closer_looks: usize,
    /// As in [`Matrix::recovery`].
    pub recovery: Recovery,
}

impl<V: Value> Nearest<V> {
    /// The nearest of no rows yet.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn of<T: Element<Value = V>>(
        pairs: &Pairs<'_, T>,
        backend: &'static str,
        k: usize,
    ) -> Result<Nearest<V>, Error> {
        let (rows, columns) = pairs.shape();
        let k = k.min(columns);
        let bytes = rows.saturating_mul(k).saturating_mul(size_of::<V>() + size_of::<usize>());
        let no_memory = || Error::OutOfMemory { bytes };
        let len = rows.checked_mul(k).ok_or_else(no_memory)?;
        let values = bytemuck::allocation::try_zeroed_vec(len).map_err(|()| no_memory())?;
        let indices = bytemuck::allocation::try_zeroed_vec(len).map_err(|()| no_memory())?;
        Ok(Nearest {
            indices: Array2::from_shape_vec((rows, k), indices).map_err(|_| no_memory())?,
            values: Array2::from_shape_vec((rows, k), values).map_err(|_| no_memory())?,
            p_statuses: Array1::default(rows),
            q_statuses: Array1::default(columns),
            backend,
            adapter: None,
            closer_looks: 0,
            recovery: Recovery::default(),
        })
    }

    /// Takes a part of the matrix whose first rows these are. Columns come in their order.
    pub(crate) fn take(&mut self, [p_first, q_first]: [usize; 2], part: Matrix<V>) {
        let (rows, columns) = part.values.dim();
        let k = self.indices.ncols();
        let places = p_first * k..(p_first + rows) * k;
        let indices = &mut self.indices.as_slice_mut().unwrap_or_default()[places.clone()];
        let values = &mut self.values.as_slice_mut().unwrap_or_default()[places];
        let part_values = part.values.as_slice().unwrap_or_default();
        // Without any to be found, or to be looked through, there are no chunks.
        let found = indices.par_chunks_mut(k.max(1)).zip(values.par_chunks_mut(k.max(1)));
        found.zip(part_values.par_chunks(columns.max(1))).for_each(|((indices, values), row)| {
            let mut len = k.min(q_first);
            for (column, &value) in row.iter().enumerate() {
                if len == k && !nearer(value, values[k - 1]) {
                    continue;
                }
                // Behind those that are as near.
                let at = values[..len].partition_point(|&known| !nearer(value, known));
                len = k.min(len + 1);
                values[at..len].rotate_right(1);
                indices[at..len].rotate_right(1);
                (values[at], indices[at]) = (value, q_first + column);
            }
        });
        let put = |all: &mut Array1<Status>, first: usize, part: &Array1<Status>| {
            all.slice_axis_mut(Axis(0), (first..first + part.len()).into()).assign(part);
        };
        put(&mut self.p_statuses, p_first, &part.p_statuses);
        put(&mut self.q_statuses, q_first, &part.q_statuses);
        self.backend = part.backend;
        self.adapter = self.adapter.take().or(part.adapter);
        self.closer_looks += part.closer_looks;
        let again = if q_first == 0 { 0 } else { part.recovery.cpu_rows };
        self.recovery.add(part.recovery);
        self.recovery.cpu_rows -= again;
    }
}

/// Whether a value is less than another one; NaN is less than none, and all others are less than it.
fn nearer<V: Value>(one: V, other: V) -> bool {
    let (one, other) = (one.to_f64(), other.to_f64());
    one < other || other.is_nan() && !one.is_nan()
}
