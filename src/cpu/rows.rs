//! Row-wise divergences on the CPU.

use std::ops::Range;

use super::Cpu;
use super::logs;
use super::plain::Plain;
use super::sums::{Columns, LANES, Lanes, Middling, SEGMENT, Short, Wide};
use crate::backend::Backend;
use crate::batch::Batch;
use crate::chain;
use crate::element::{Element, Value};
use crate::error::Side;
use crate::outcome::Slots;
use crate::sums::{self, Sums};
use crate::{Divergence, Error, Outcome};

/// Bins that make a task of their own worth its while.
const TASK: usize = 1 << 15;

impl Backend for Cpu {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        let Divergence::Kl = divergence;
        let mut outcome = Outcome::of(batch, "cpu");
        let (all, bins) = (0..batch.rows(), batch.bins());
        // Whole groups of rows.
        let rows_per_task =
            if bins < TASK { (TASK / bins.max(1)).next_multiple_of(LANES) } else { 1 };
        let arch = pulp::Arch::new();
        if batch.is_probs() && bins <= SEGMENT {
            outcome.fill_in_tasks(all, rows_per_task, |first, slots| {
                arch.dispatch(Rows { batch, first, slots })
            });
        } else if batch.is_probs() {
            outcome.fill_in_parallel(all, rows_per_task, |row| {
                let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
                sums::settle(batch, row, &long_row(&p, &q))
            });
        } else if logs::take(batch) && bins <= logs::SEGMENT {
            outcome.fill_in_tasks(all, rows_per_task, |first, slots| {
                arch.dispatch(LogRows { batch, first, slots })
            });
        } else if logs::take(batch) {
            outcome.fill_in_parallel(all, rows_per_task, |row| {
                let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
                logs::settle(batch, row, &logs::long_row(&p, &q, batch.temperature()))
            });
        } else {
            outcome.fill_in_parallel(all, rows_per_task, |row| {
                chain::settle(batch, row, &chain::node(batch, row))
            });
        }
        Ok(outcome)
    }
}

/// Some rows of probabilities, each of at most `SEGMENT` bins. `dispatch` inlines all that
/// `with_simd` calls into one copy of the loops for each vector instruction set, and runs the best
/// that the machine has.
struct Rows<'a, 'b, T: Element> {
    batch: &'a Batch<'b, T>,
    first: usize,
    slots: Slots<'a, T::Value>,
}

impl<T: Element> pulp::WithSimd for Rows<'_, '_, T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
        if S::IS_SCALAR { self.settled::<false>() } else { self.settled::<true>() }
    }
}

impl<T: Element> Rows<'_, '_, T> {
    /// Fills in the rows; returns how many took a closer look.
    #[inline(always)]
    fn settled<const FUSED: bool>(self) -> usize {
        let Rows { batch, first, mut slots } = self;
        let plain = Plain::of(batch);
        let mut scratch = Scratch::of(batch.bins(), slots.values.len());
        let mut space = [Vec::new(), Vec::new()];
        let mut looked_closer = 0;
        for start in (0..slots.values.len()).step_by(LANES) {
            let group = start..(start + LANES).min(slots.values.len());
            let rows = first + group.start..first + group.end;
            let columns = columns::<T, FUSED>(batch, rows, &mut scratch, &mut space);
            looked_closer += settle(batch, &plain, first, group, &columns, &mut slots);
        }
        looked_closer
    }
}

/// Some rows of logarithms that f32 can take.
struct LogRows<'a, 'b, T: Element> {
    batch: &'a Batch<'b, T>,
    first: usize,
    slots: Slots<'a, T::Value>,
}

impl<T: Element> pulp::WithSimd for LogRows<'_, '_, T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
        let LogRows { batch, first, mut slots } = self;
        let mut space = [Vec::new(), Vec::new()];
        let rows = 0..slots.values.len();
        rows.filter(|&at| {
            let row = first + at;
            let [p, q] = packed(batch, row..row + 1, &mut space);
            let node = logs::segment::<T, S>(p, q, batch.temperature());
            slots.put(at, logs::settle(batch, row, &node))
        })
        .count()
    }
}

/// The sums of up to `LANES` rows.
#[inline(always)]
fn columns<T: Element, const FUSED: bool>(
    batch: &Batch<'_, T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T::Value>,
    space: &mut [Vec<T>; 2],
) -> Columns<T::Value> {
    let (bins, some) = (batch.bins(), rows.len());
    match scratch {
        Scratch::Short(short) => {
            let sides = packed(batch, rows, space);
            // Lengths are constants where they are known, so that bins are moved by whole vectors.
            match bins {
                1 => short.columns::<T, 1, FUSED>(1, some, sides),
                2 => short.columns::<T, 2, FUSED>(2, some, sides),
                3 => short.columns::<T, 4, FUSED>(3, some, sides),
                4 => short.columns::<T, 4, FUSED>(4, some, sides),
                5 => short.columns::<T, 8, FUSED>(5, some, sides),
                6 => short.columns::<T, 8, FUSED>(6, some, sides),
                7 => short.columns::<T, 8, FUSED>(7, some, sides),
                8 => short.columns::<T, 8, FUSED>(8, some, sides),
                16 => short.columns::<T, 16, FUSED>(16, some, sides),
                _ => short.columns::<T, 16, FUSED>(bins, some, sides),
            }
        }
        Scratch::Middling(middling) => {
            for (lane, row) in rows.enumerate() {
                let [p, q] = packed(batch, row..row + 1, space);
                middling.put(lane, &Lanes::of::<T, FUSED>(p, q));
            }
            middling.columns()
        }
        Scratch::None if bins <= Middling::<T::Value>::BINS => {
            let [p, q] = packed(batch, rows, space);
            Columns::of_one(&Lanes::of::<T, FUSED>(p, q))
        }
        Scratch::None => {
            let mut columns = Columns::empty();
            for (lane, row) in rows.enumerate() {
                let [p, q] = packed(batch, row..row + 1, space);
                columns.put(lane, &Wide::of::<T, FUSED>(p, q));
            }
            columns
        }
    }
}

/// Where rows are put side by side before their sums are taken.
enum Scratch<V: Value> {
    Short(Short<V>),
    Middling(Middling<V>),
    /// Long rows and single ones need none.
    None,
}

impl<V: Value> Scratch<V> {
    #[inline(always)]
    fn of(bins: usize, rows: usize) -> Scratch<V> {
        match bins {
            ..=LANES => Scratch::Short(Short::empty()),
            _ if bins <= Middling::<V>::BINS && rows > 1 => Scratch::Middling(Middling::empty()),
            _ => Scratch::None,
        }
    }
}

#[inline(always)]
fn packed<'s, T: Element>(
    batch: &'s Batch<'_, T>,
    rows: Range<usize>,
    [p_space, q_space]: &'s mut [Vec<T>; 2],
) -> [&'s [T]; 2] {
    let p = batch.packed_rows(Side::P, rows.clone(), p_space);
    let q = batch.packed_rows(Side::Q, rows, q_space);
    [p, q]
}

/// Settles a group of rows: side by side those that are plain, the others one by one. Returns how
/// many took a closer look.
#[inline(always)]
fn settle<T: Element>(
    batch: &Batch<'_, T>,
    plain: &Plain,
    first: usize,
    group: Range<usize>,
    columns: &Columns<T::Value>,
    slots: &mut Slots<'_, T::Value>,
) -> usize {
    let values = plain.values(columns);
    put(&mut slots.values[group.clone()], &values);
    if let Some([p_masses, q_masses]) = &mut slots.masses {
        put(&mut p_masses[group.clone()], &columns.p);
        put(&mut q_masses[group.clone()], &columns.q);
    }
    if values.iter().fold(false, |some, value| some | value.is_nan()) {
        return settle_others(batch, first, group, columns, &values, slots);
    }
    0
}

/// Settles those rows of a group one by one that are not plain.
#[cold]
fn settle_others<T: Element>(
    batch: &Batch<'_, T>,
    first: usize,
    group: Range<usize>,
    columns: &Columns<T::Value>,
    values: &[f64; LANES],
    slots: &mut Slots<'_, T::Value>,
) -> usize {
    let others = group.enumerate().filter(|&(lane, _)| values[lane].is_nan());
    others
        .filter(|&(lane, at)| slots.put(at, sums::settle(batch, first + at, &columns.row(lane))))
        .count()
}

/// Puts the values of a group into their places.
#[inline(always)]
fn put<V: Value>(places: &mut [V], values: &[f64; LANES]) {
    let mut rounded = [V::default(); LANES];
    for lane in 0..LANES {
        rounded[lane] = V::from_f64(values[lane]);
    }
    match places.first_chunk_mut() {
        Some(all) => *all = rounded,
        None => places.copy_from_slice(&rounded[..places.len()]),
    }
}

/// The sums of a row of more than `SEGMENT` bins, over as many threads as there are.
fn long_row<T: Element>(p: &[T], q: &[T]) -> Sums {
    let mut columns = Columns::empty();
    columns.put(0, &halves(p, q));
    columns.row(0)
}

/// The sums of a row, halves upon halves: the bits do not depend on which thread was first.
fn halves<T: Element>(p: &[T], q: &[T]) -> Wide<T::Value> {
    if p.len() <= SEGMENT {
        return pulp::Arch::new().dispatch(Segment { p, q });
    }
    let half = p.len().div_ceil(SEGMENT).div_ceil(2) * SEGMENT;
    let (p, q) = (p.split_at(half), q.split_at(half));
    let (mut sums, later) = rayon::join(|| halves(p.0, q.0), || halves(p.1, q.1));
    sums.merge(&later);
    sums
}

/// Bins of a long row.
struct Segment<'a, T> {
    p: &'a [T],
    q: &'a [T],
}

impl<T: Element> pulp::WithSimd for Segment<'_, T> {
    type Output = Wide<T::Value>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Wide<T::Value> {
        match S::IS_SCALAR {
            true => Wide::of::<T, false>(self.p, self.q),
            false => Wide::of::<T, true>(self.p, self.q),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;

    use super::*;
    use crate::cpu::tests::on_every_vector_unit;
    use crate::sums::tests::{assert_sums, sides};

    /// The sums of some equal rows.
    struct Equal<'a> {
        batch: Batch<'a, f32>,
    }

    impl pulp::WithSimd for Equal<'_> {
        type Output = Sums;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> Sums {
            let (batch, rows) = (&self.batch, self.batch.rows());
            let mut scratch = Scratch::of(batch.bins(), rows);
            let mut space = Default::default();
            match S::IS_SCALAR {
                true => columns::<f32, false>(batch, 0..rows, &mut scratch, &mut space).row(0),
                false => columns::<f32, true>(batch, 0..rows, &mut scratch, &mut space).row(0),
            }
        }
    }

    const LENGTHS: [usize; 14] = [1, 2, 3, 5, 8, 9, 15, 16, 17, 64, 257, 1_000, 5_000, 65_000];

    #[test]
    fn vector_units_agree() {
        for bins in LENGTHS {
            let sides = sides(bins);
            let [p, q] =
                [0, 1].map(|side| ArrayView2::from_shape((1, bins), &sides[side]).unwrap());
            let equal = || Equal { batch: Batch::probs(p, q).unwrap() };
            on_every_vector_unit(equal, |sums| sums.g / sums.p);
        }
    }

    #[test]
    fn a_row_has_the_same_sums_in_any_company() {
        for bins in LENGTHS {
            let sides = sides(bins);
            let sums = |rows| {
                let [p, q] = [0, 1].map(|side| {
                    ndarray::Array2::from_shape_fn((rows, bins), |(_, bin)| sides[side][bin])
                });
                pulp::Arch::new().dispatch(Equal { batch: Batch::probs(&p, &q).unwrap() })
            };
            assert!(sums(1) == sums(2) && sums(1) == sums(16), "{bins} bins");
        }
    }

    #[test]
    fn the_sums_themselves_are_right() {
        for bins in LENGTHS.into_iter().chain([70_000, 140_000]) {
            let sides = sides(bins);
            let [p, q] =
                [0, 1].map(|side| ArrayView2::from_shape((1, bins), &sides[side]).unwrap());
            let batch = Batch::probs(p, q).unwrap();
            let sums = match bins <= SEGMENT {
                true => pulp::Arch::new().dispatch(Equal { batch }),
                false => long_row(&sides[0], &sides[1]),
            };
            assert_sums(&sums, &sides, &format!("{bins} bins"));
        }
    }
}
