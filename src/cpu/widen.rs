//! Numbers in the type of their arithmetic. The loops know no other, so that there is one copy of them for each
//! type of results: numbers of 16 bits are widened before anything else, so few at a time that they stay in the
//! nearest cache but one.

use std::ops::Range;

use ndarray::ArrayView2;

use super::sums::LANES;
use crate::batch::Batch;
use crate::element::Element;
use crate::error::Side;

/// Bins of a side that are widened at a time, unless a row has more.
const AT_ONCE: usize = 1 << 13;

/// Memory for the numbers of both sides.
pub(super) struct Space<T: Element> {
    packed: [Vec<T>; 2],
    widened: [Vec<T::Value>; 2],
}

impl<T: Element> Default for Space<T> {
    fn default() -> Space<T> {
        Space { packed: [Vec::new(), Vec::new()], widened: [Vec::new(), Vec::new()] }
    }
}

/// Rows in parts that are widened at a time.
pub(super) fn parts(rows: Range<usize>, bins: usize) -> impl Iterator<Item = Range<usize>> {
    let at_once = (AT_ONCE / bins.max(1)).next_multiple_of(LANES);
    let at_once = if bins > AT_ONCE { 1 } else { at_once };
    rows.clone().step_by(at_once).map(move |first| first..rows.end.min(first + at_once))
}

/// The same reading of some rows, widened.
pub(super) fn rows<'s, T: Element>(
    batch: &'s Batch<'_, T>,
    rows: Range<usize>,
    space: &'s mut Space<T>,
) -> Batch<'s, T::Value> {
    let Space { packed: [p_packed, q_packed], widened: [p_widened, q_widened] } = space;
    let count = rows.len();
    let p = numbers(batch.packed_rows(Side::P, rows.clone(), p_packed), p_widened);
    let q = numbers(batch.packed_rows(Side::Q, rows, q_packed), q_widened);
    let [p, q] = [p, q].map(|side| {
        let shape = (side.len() / batch.bins().max(1), batch.bins());
        ArrayView2::from_shape(shape, side).expect("packed rows are whole")
    });
    batch.of_others(p, q, count)
}

/// Some numbers, as they are or by way of some space.
pub(super) fn numbers<'s, T: Element>(
    numbers: &'s [T],
    space: &'s mut Vec<T::Value>,
) -> &'s [T::Value] {
    // Types of one size are one.
    if size_of::<T>() == size_of::<T::Value>() {
        return bytemuck::cast_slice(numbers);
    }
    space.resize(numbers.len(), T::Value::default());
    pulp::Arch::new().dispatch(Widen { numbers, into: space });
    space
}

/// The same for numbers whose arithmetic is in f32.
///
/// # Panics
/// If it is not.
pub(super) fn in_f32<'s, T: Element>(numbers: &'s [T], space: &'s mut Vec<f32>) -> &'s [f32] {
    assert_eq!(size_of::<T::Value>(), size_of::<f32>(), "{} in f32", T::NAME);
    if size_of::<T>() == size_of::<f32>() {
        return bytemuck::cast_slice(numbers);
    }
    space.resize(numbers.len(), 0.0);
    pulp::Arch::new().dispatch(Widen { numbers, into: bytemuck::cast_slice_mut(space) });
    space
}

struct Widen<'a, T: Element> {
    numbers: &'a [T],
    into: &'a mut [T::Value],
}

impl<T: Element> pulp::WithSimd for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (into, number) in self.into.iter_mut().zip(self.numbers) {
            *into = number.widen();
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use ndarray::{Array2, ArrayView2, Axis, Slice};

    use super::*;
    use crate::cpu::rows::fill_in;
    use crate::kind::Kind;
    use crate::outcome::Outcome;
    use crate::{Mass, OnInvalid};

    #[test]
    fn parts_are_whole_groups_and_all_rows() {
        let of = |rows, bins| parts(rows, bins).collect::<Vec<_>>();
        assert_eq!(of(3..3, 4), [0..0; 0]);
        assert_eq!(of(5..8198, 1), [5..8197, 8197..8198]);
        assert_eq!(of(7..39, 1024), [7..23, 23..39]);
        assert_eq!(of(0..3, AT_ONCE + 1), [0..1, 1..2, 2..3]);
        assert_eq!(of(0..17, AT_ONCE), [0..16, 16..17]);
    }

    fn bits<T: Element<Value = f32>>(
        kind: Kind,
        [p, q]: [ArrayView2<'_, T>; 2],
    ) -> (Vec<u32>, usize) {
        let batch = Batch::of(kind, p, kind, q).unwrap().with_mass(Mass::Normalize);
        let batch = batch.with_on_invalid(OnInvalid::Nan).with_masses();
        let mut outcome = Outcome::of(&batch, "cpu").unwrap();
        outcome.fill_in_tasks(0..batch.rows(), batch.rows(), |first, slots| {
            fill_in(&batch, first, slots)
        });
        let masses = outcome.masses.unwrap();
        let all = outcome.values.iter().chain(&masses.p).chain(&masses.q);
        (all.map(|x| x.to_bits()).collect(), outcome.closer_looks)
    }

    /// Numbers of 16 bits have the results of the same numbers in 32, bit for bit: packed or strided, one row
    /// against many, in one part and several, of ordinary rows and others.
    fn assert_same<T: Element<Value = f32>>() {
        for (bins, rows) in [(1, 40), (3, 9000), (100, 300), (5000, 5), (9000, 3), (140_000, 2)] {
            let side = |rows: usize, step: usize| {
                Array2::from_shape_fn((rows, 2 * bins), |(row, bin)| {
                    let number = ((row + bin) * step % 61) as f64 / 64.0;
                    // A row with an invalid bin, and some with zeros.
                    T::from_f64(if row == 2 && bin == 0 { f64::INFINITY } else { number })
                })
            };
            let (p, q) = (side(rows, 7), side(rows, 12));
            let packed = [&p, &q].map(|side| side.slice_axis(Axis(1), (..bins).into()).to_owned());
            let strided = [&p, &q].map(|side| side.slice_axis(Axis(1), Slice::from(..).step_by(2)));
            let one = [packed[0].view(), packed[1].slice_axis(Axis(0), (..1).into())];
            for sides in [packed.each_ref().map(|side| side.view()), strided, one] {
                let wide = sides.map(|side| side.mapv(|x| x.widen()));
                for kind in [Kind::Probs, Kind::Logits] {
                    let want = bits(kind, wide.each_ref().map(|side| side.view()));
                    assert_eq!(bits(kind, sides), want, "{rows} rows of {bins} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn numbers_of_16_bits_have_the_results_of_the_same_in_32() {
        assert_same::<f16>();
        assert_same::<bf16>();
    }
}
