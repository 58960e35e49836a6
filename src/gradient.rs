//! Gradients, as a caller asks for them and gets them.

use std::ops::Range;
use std::str::FromStr;

use ndarray::{Array2, ArrayView1, ArrayViewMut1, ArrayViewMut2, Axis};

use crate::batch::Batch;
use crate::element::{Element, Value};
use crate::error::{Error, Side, by_name};
use crate::outcome::Outcome;

/// In which side a gradient is asked for.
///
/// ```
/// use kullback::Wanted;
///
/// assert_eq!("both".parse(), Ok(Wanted::Both));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// In the numbers of P.
    P,
    /// In the numbers of Q.
    Q,
    /// In both.
    Both,
}

impl Wanted {
    /// All of them.
    pub const ALL: &'static [Wanted] = &[Wanted::P, Wanted::Q, Wanted::Both];

    /// The name, as the command takes it.
    pub fn name(self) -> &'static str {
        match self {
            Wanted::P => "p",
            Wanted::Q => "q",
            Wanted::Both => "both",
        }
    }

    /// Whether that is in the numbers of a side.
    pub fn includes(self, side: Side) -> bool {
        match side {
            Side::P => self != Wanted::Q,
            Side::Q => self != Wanted::P,
        }
    }
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        by_name("gradient", name, Wanted::ALL, Wanted::name)
    }
}

/// The values of a batch and their gradients, as [`Engine::gradient`](crate::Engine::gradient) gives
/// them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gradient<T> {
    /// The values and statuses of the rows.
    pub outcome: Outcome<T>,
    /// The derivatives in the numbers of P, as many as it has, if they are wanted.
    pub p: Option<Array2<T>>,
    /// The same of Q.
    pub q: Option<Array2<T>>,
}

impl<T: Value> Gradient<T> {
    /// The places for a batch's gradients.
    pub(crate) fn zeros<E: Element<Value = T>>(
        batch: &Batch<'_, E>,
        wanted: Wanted,
    ) -> Result<[Option<Array2<T>>; 2], Error> {
        let zeros = |side| match wanted.includes(side) {
            true => zeros((batch.side_rows(side), batch.bins())).map(Some),
            false => Ok(None),
        };
        Ok([zeros(Side::P)?, zeros(Side::Q)?])
    }
}

fn zeros<V: Value>(shape: (usize, usize)) -> Result<Array2<V>, Error> {
    let len = shape.0.saturating_mul(shape.1);
    let error = Error::OutOfMemory { bytes: len.saturating_mul(size_of::<V>()) };
    let zeros = bytemuck::allocation::try_zeroed_vec(len).map_err(|()| error.clone())?;
    Array2::from_shape_vec(shape, zeros).map_err(|_| error)
}

/// Where gradients are to be written, one row for each of a side, or one for all of them.
pub(crate) struct Places<'a, V>(pub [Option<ArrayViewMut2<'a, V>>; 2]);

impl<'a, V: Value> Places<'a, V> {
    /// The places of some rows and of those after them.
    pub(crate) fn split_at(self, row: usize) -> (Places<'a, V>, Places<'a, V>) {
        let split = |place: Option<ArrayViewMut2<'a, V>>| {
            place.map(|place| place.split_at(Axis(0), row)).unzip()
        };
        let [(p, later_p), (q, later_q)] = self.0.map(split);
        (Places([p, q]), Places([later_p, later_q]))
    }

    /// The places of some rows, for a while.
    pub(crate) fn part(&mut self, rows: Range<usize>) -> Places<'_, V> {
        let rows = &rows;
        Places(self.0.each_mut().map(|place| {
            let place = place.as_mut();
            place.map(|place| place.slice_axis_mut(Axis(0), rows.clone().into()))
        }))
    }

    /// The place of one side, which is no longer here then, if that is due.
    pub(crate) fn take_if(&mut self, side: Side, is_due: bool) -> Option<ArrayViewMut2<'a, V>> {
        if is_due { self.0[side as usize].take() } else { None }
    }

    /// The places of one row.
    pub(crate) fn row(&mut self, row: usize) -> [Option<ArrayViewMut1<'_, V>>; 2] {
        self.0.each_mut().map(|place| place.as_mut().map(|place| place.row_mut(row)))
    }

    /// The places of P and Q in each other's place.
    pub(crate) fn swapped(self) -> Places<'a, V> {
        let [p, q] = self.0;
        Places([q, p])
    }
}

/// Refuses weights and places that are not a batch's.
pub(crate) fn check<T: Element>(
    batch: &Batch<'_, T>,
    weights: Option<ArrayView1<'_, T::Value>>,
    places: &Places<'_, T::Value>,
) -> Result<(), Error> {
    for side in [Side::P, Side::Q] {
        let expected = (batch.side_rows(side), batch.bins());
        if let Some(place) = &places.0[side as usize]
            && place.dim() != expected
        {
            return Err(Error::Place { side, expected, found: place.dim() });
        }
    }
    let Some(weights) = weights else { return Ok(()) };
    if weights.len() != batch.rows() {
        let (count, given) = (batch.rows(), weights.len());
        return Err(Error::Weights { of: "rows", count, given, wrong: None });
    }
    match weights.iter().position(|weight| !weight.to_f64().is_finite()) {
        Some(row) => Err(Error::Weight { row, value: weights[row].to_f64() }),
        None => Ok(()),
    }
}
