//! Row-wise divergences on the CPU.

use std::marker::PhantomData;
use std::ops::Range;

use ndarray::ArrayView1;
use pulp::Simd;

use super::Cpu;
use super::gradient;
use super::logs::{self, Kept};
use super::plain::Plain;
use super::short_logs::{self, Settled};
use super::sums::{
    Columns, Four, LANES, Lanes, MIDDLING, Middling, SEGMENT, Short, Wide, longest,
    starts_with_zeros,
};
use super::{fours, usual, ways, widen};
use crate::backend::{Backend, Settings};
use crate::batch::Batch;
use crate::chain;
use crate::element::{Element, Value};
use crate::error::Side;
use crate::gradient::Places;
use crate::outcome::{Row, Slots};
use crate::pairs::blocks;
use crate::sums::{self, Sums};
use crate::{Divergence, Error, Matrix, Outcome, Pairs};

/// Bins that make a task of their own worth its while.
const TASK: usize = 1 << 15;

impl Backend for Cpu {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        _: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        if divergence != Divergence::Kl || ways::are_judged_in_f32(divergence, batch) {
            return Ok(ways::outcomes(&[divergence], batch)?.remove(0));
        }
        let mut outcome = Outcome::of(batch, "cpu")?;
        outcome.fill_in_tasks(0..batch.rows(), rows_per_task(batch.bins()), |first, slots| {
            fill_in(batch, first, slots)
        });
        Ok(outcome)
    }

    async fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        _: Settings,
    ) -> Result<Vec<Outcome<T::Value>>, Error> {
        ways::outcomes(divergences, batch)
    }

    async fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        places: Places<'_, T::Value>,
        _: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        gradient::outcome(divergence, batch, weights, places)
    }

    async fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        _: Settings,
    ) -> Result<Matrix<T::Value>, Error> {
        super::matrix::matrix(divergence, pairs)
    }
}

/// Whole groups of rows.
pub(super) fn rows_per_task(bins: usize) -> usize {
    if bins < TASK { (TASK / bins.max(1)).next_multiple_of(LANES) } else { 1 }
}

/// Fills in the divergences of some rows of a batch. Returns how many took a closer look.
pub(super) fn fill_in<T: Element>(
    batch: &Batch<'_, T>,
    first: usize,
    mut slots: Slots<'_, T::Value>,
) -> usize {
    let bins = batch.bins();
    if !(batch.is_probs() && bins <= SEGMENT || logs::take(batch) && bins <= logs::SEGMENT) {
        let rows = 0..slots.values.len();
        return rows.filter(|&at| slots.put(at, row(batch, first + at))).count();
    }
    if let Some(batch) = T::as_values(batch) {
        return Loops::fill_in(batch, first, slots);
    }
    let (mut space, mut looked_closer) = (widen::Space::default(), 0);
    for rows in widen::parts(first..first + slots.values.len(), bins) {
        let (some, later) = slots.split_at(rows.len());
        looked_closer += Loops::fill_in(&widen::rows(batch, rows, &mut space), 0, some);
        slots = later;
    }
    looked_closer
}

/// The results of a row that is long, or of two kinds.
fn row<T: Element>(batch: &Batch<'_, T>, row: usize) -> Row<T::Value> {
    let sides = || (batch.packed(Side::P, row), batch.packed(Side::Q, row));
    if batch.is_probs() {
        let (p, q) = sides();
        return sums::settle(batch, row, &long_row(&p, &q));
    }
    if logs::take(batch) {
        let (p, q) = sides();
        return logs::settle(batch, row, &logs::long_row(&p, &q, batch.temperature()));
    }
    chain::settle(batch, row, &chain::node(batch, row))
}

/// The loops over bins, compiled where they are implemented: once for each type, and not once more in each
/// crate that calls this one.
/// Public, with what its functions take, only because [`Value`] is; no path leads here from outside.
pub trait Loops: Sized {
    /// Fills in some rows of probabilities, each of at most `SEGMENT` bins, or of what [`logs`] take.
    fn fill_in(batch: &Batch<'_, Self>, first: usize, slots: Slots<'_, Self>) -> usize;

    /// The sums of at most `SEGMENT` bins of a row.
    fn segment(segment: Segment<'_, Self>) -> Wide<Self>
    where
        Self: Value;

    /// The sums of three levels of chains of usual bins, and the least of these, if there is a loop of its own for it.
    #[inline(always)]
    fn usual_chains<S: Simd>(
        _: S,
        _: [&[[Self; LANES]]; 2],
        _: &mut [Self; LANES],
    ) -> Option<Four<Self>> {
        None
    }

    /// The sums of rows, each folded into 4, if there is a way of its own for it.
    #[inline(always)]
    fn sums_of_fours<const WIDTH: usize>(_: &[[Self; WIDTH]; LANES]) -> Option<[Self; LANES]> {
        None
    }
}

impl Loops for f32 {
    fn fill_in(batch: &Batch<'_, f32>, first: usize, slots: Slots<'_, f32>) -> usize {
        if batch.is_probs() {
            return in_manner_of(batch.bins(), batch.rows(), FillIn { batch, first, slots });
        }
        let rows = LogRows { batch, first, slots };
        match short_logs::takes(batch) {
            true => pulp::Arch::new().dispatch(ShortLogRows(rows)),
            false => pulp::Arch::new().dispatch(rows),
        }
    }

    fn segment(segment: Segment<'_, f32>) -> Wide<f32> {
        pulp::Arch::new().dispatch(segment)
    }

    #[inline(always)]
    fn usual_chains<S: Simd>(
        simd: S,
        sides: [&[[f32; LANES]]; 2],
        least: &mut [f32; LANES],
    ) -> Option<Four<f32>> {
        if S::IS_SCALAR { None } else { Some(usual::chains(simd, sides, least)) }
    }

    #[inline(always)]
    fn sums_of_fours<const WIDTH: usize>(rows: &[[f32; WIDTH]; LANES]) -> Option<[f32; LANES]> {
        fours::sums(rows)
    }
}

impl Loops for f64 {
    fn fill_in(batch: &Batch<'_, f64>, first: usize, slots: Slots<'_, f64>) -> usize {
        in_manner_of(batch.bins(), batch.rows(), FillIn { batch, first, slots })
    }

    fn segment(segment: Segment<'_, f64>) -> Wide<f64> {
        pulp::Arch::new().dispatch(segment)
    }
}

/// Does something in the manner in which rows of at most `SEGMENT` bins are summed.
fn in_manner_of<V: Value, U: User<V>>(bins: usize, rows: usize, user: U) -> U::Output {
    // Lengths are constants where they are known, so that bins are moved by whole vectors.
    match bins {
        1 => user.take::<ShortRows<V, 1, 1>>(),
        2 => user.take::<ShortRows<V, 2, 2>>(),
        3 => user.take::<ShortRows<V, 4, 3>>(),
        4 => user.take::<ShortRows<V, 4, 4>>(),
        5 => user.take::<ShortRows<V, 8, 5>>(),
        6 => user.take::<ShortRows<V, 8, 6>>(),
        7 => user.take::<ShortRows<V, 8, 7>>(),
        8 => user.take::<ShortRows<V, 8, 8>>(),
        bins if bins > MIDDLING => user.take::<LongRows>(),
        _ if rows == 1 => user.take::<OneRow>(),
        ..LANES => user.take::<Middling<V, 0>>(),
        bins if bins <= longest(1) => user.take::<Middling<V, 1>>(),
        bins if bins <= longest(2) => user.take::<Middling<V, 2>>(),
        _ => user.take::<Middling<V, 3>>(),
    }
}

/// Who does something in a manner that depends on the length of rows.
trait User<V: Value> {
    type Output;

    fn take<M: Manner<V>>(self) -> Self::Output;
}

/// Fills in rows.
struct FillIn<'a, 'b, V> {
    batch: &'a Batch<'b, V>,
    first: usize,
    slots: Slots<'a, V>,
}

impl<V: Value> User<V> for FillIn<'_, '_, V> {
    type Output = usize;

    fn take<M: Manner<V>>(self) -> usize {
        let FillIn { batch, first, slots } = self;
        pulp::Arch::new().dispatch(Rows { batch, first, slots, manner: PhantomData::<M> })
    }
}

/// A way to sum the rows of a task, with the memory that it takes.
trait Manner<V: Value> {
    /// `zeros` guesses whether some are to be expected.
    fn new(zeros: impl FnOnce() -> bool) -> Self;

    /// The sums of up to `LANES` rows.
    fn columns<S: Simd, const FUSED: bool>(
        &mut self,
        simd: S,
        batch: &Batch<'_, V>,
        rows: Range<usize>,
        space: &mut [Vec<V>; 2],
    ) -> Columns<V>;
}

/// Some rows of probabilities, each of at most `SEGMENT` bins. `dispatch` inlines all that
/// `with_simd` calls into one copy of the loops for each vector instruction set, and runs the best
/// that the machine has. Each manner has a copy of its own: of many in one the compiler makes
/// slower code.
struct Rows<'a, 'b, V, M> {
    batch: &'a Batch<'b, V>,
    first: usize,
    slots: Slots<'a, V>,
    manner: PhantomData<M>,
}

impl<V: Value, M: Manner<V>> pulp::WithSimd for Rows<'_, '_, V, M> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        if S::IS_SCALAR { self.settled::<S, false>(simd) } else { self.settled::<S, true>(simd) }
    }
}

impl<V: Value, M: Manner<V>> Rows<'_, '_, V, M> {
    /// Fills in the rows; returns how many took a closer look.
    #[inline(always)]
    fn settled<S: Simd, const FUSED: bool>(self, simd: S) -> usize {
        let Rows { batch, first, mut slots, .. } = self;
        let plain = Plain::of(batch);
        if slots.values.is_empty() {
            return 0;
        }
        let mut manner = M::new(|| {
            let [p, q] = [Side::P, Side::Q].map(|side| batch.row(side, first));
            starts_with_zeros([p.iter(), q.iter()])
        });
        let mut space = [Vec::new(), Vec::new()];
        let mut looked_closer = 0;
        for start in (0..slots.values.len()).step_by(LANES) {
            let group = start..(start + LANES).min(slots.values.len());
            let rows = first + group.start..first + group.end;
            let columns = manner.columns::<S, FUSED>(simd, batch, rows, &mut space);
            looked_closer += settle(batch, &plain, first, group, &columns, &mut slots);
        }
        looked_closer
    }
}

/// Rows of `BINS` bins, filled up to `WIDTH`.
struct ShortRows<V: Value, const WIDTH: usize, const BINS: usize> {
    short: Short<V>,
}

impl<V: Value, const WIDTH: usize, const BINS: usize> Manner<V> for ShortRows<V, WIDTH, BINS> {
    #[inline(always)]
    fn new(zeros: impl FnOnce() -> bool) -> Self {
        ShortRows { short: Short::new(zeros()) }
    }

    #[inline(always)]
    fn columns<S: Simd, const FUSED: bool>(
        &mut self,
        _: S,
        batch: &Batch<'_, V>,
        rows: Range<usize>,
        space: &mut [Vec<V>; 2],
    ) -> Columns<V> {
        let count = rows.len();
        self.short.columns::<WIDTH, FUSED>(BINS, count, packed(batch, rows, space))
    }
}

impl<V: Value, const DEEP: usize> Manner<V> for Middling<V, DEEP> {
    #[inline(always)]
    fn new(zeros: impl FnOnce() -> bool) -> Self {
        Middling::new(zeros())
    }

    #[inline(always)]
    fn columns<S: Simd, const FUSED: bool>(
        &mut self,
        simd: S,
        batch: &Batch<'_, V>,
        rows: Range<usize>,
        space: &mut [Vec<V>; 2],
    ) -> Columns<V> {
        let count = rows.len();
        self.columns::<S, FUSED>(simd, batch.bins(), count, packed(batch, rows, space))
    }
}

/// A single row of middling length.
struct OneRow;

impl<V: Value> Manner<V> for OneRow {
    #[inline(always)]
    fn new(_: impl FnOnce() -> bool) -> Self {
        OneRow
    }

    #[inline(always)]
    fn columns<S: Simd, const FUSED: bool>(
        &mut self,
        simd: S,
        batch: &Batch<'_, V>,
        rows: Range<usize>,
        space: &mut [Vec<V>; 2],
    ) -> Columns<V> {
        let [p, q] = packed(batch, rows, space);
        Columns::of_one(&Lanes::of::<S, FUSED>(simd, p, q, false))
    }
}

/// Rows of more bins than those of middling length have.
struct LongRows {
    zeros: bool,
}

impl<V: Value> Manner<V> for LongRows {
    #[inline(always)]
    fn new(zeros: impl FnOnce() -> bool) -> Self {
        LongRows { zeros: zeros() }
    }

    #[inline(always)]
    fn columns<S: Simd, const FUSED: bool>(
        &mut self,
        _: S,
        batch: &Batch<'_, V>,
        rows: Range<usize>,
        space: &mut [Vec<V>; 2],
    ) -> Columns<V> {
        let mut columns = Columns::empty();
        for (lane, row) in rows.enumerate() {
            let [p, q] = packed(batch, row..row + 1, space);
            // A function of its own, whose loop is better for it.
            let wide = V::segment(Segment { p, q, zeros: self.zeros });
            self.zeros = wide.zeros;
            columns.put(lane, &wide);
        }
        columns
    }
}

/// Some rows of logarithms that f32 can take.
struct LogRows<'a, 'b> {
    batch: &'a Batch<'b, f32>,
    first: usize,
    slots: Slots<'a, f32>,
}

impl pulp::WithSimd for LogRows<'_, '_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let LogRows { batch, first, mut slots } = self;
        let (mut space, mut kept) = ([Vec::new(), Vec::new()], Kept::default());
        let rows = 0..slots.values.len();
        rows.filter(|&at| {
            let row = first + at;
            let [p, q] = packed(batch, row..row + 1, &mut space);
            let node = logs::segment::<S>(p, q, batch.temperature(), &mut kept);
            slots.put(at, logs::settle(batch, row, &node))
        })
        .count()
    }
}

/// The same of such rows as [`short_logs`] take.
struct ShortLogRows<'a, 'b>(LogRows<'a, 'b>);

impl pulp::WithSimd for ShortLogRows<'_, '_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let LogRows { batch, first, mut slots } = self.0;
        let (mut space, mut lanes) = ([Vec::new(), Vec::new()], short_logs::Space::default());
        let (mut looked_closer, count) = (0, slots.values.len());
        for group in blocks(0..count, short_logs::rows_together(count)) {
            let rows = first + group.start..first + group.end;
            let sides = packed(batch, rows, &mut space);
            let settled = short_logs::settled::<S>(batch, group.len(), sides, &mut lanes);
            looked_closer += put_settled(batch, first, group, &settled, &mut slots);
        }
        looked_closer
    }
}

/// Puts what is settled of a group into its places, and settles all else row by row.
fn put_settled(
    batch: &Batch<'_, f32>,
    first: usize,
    group: Range<usize>,
    Settled { values, masses }: &Settled,
    slots: &mut Slots<'_, f32>,
) -> usize {
    put_group(slots, group.clone(), values, masses.each_ref());
    let mut looked_closer = 0;
    for (lane, at) in group.enumerate() {
        if values[lane].is_nan() {
            let (slots, _) = slots.lent().split_at(at).1.split_at(1);
            let row = LogRows { batch, first: first + at, slots };
            looked_closer += pulp::Arch::new().dispatch(row);
        }
    }
    looked_closer
}

#[inline(always)]
fn packed<'s, V: Value>(
    batch: &'s Batch<'_, V>,
    rows: Range<usize>,
    [p_space, q_space]: &'s mut [Vec<V>; 2],
) -> [&'s [V]; 2] {
    let p = batch.packed_rows(Side::P, rows.clone(), p_space);
    let q = batch.packed_rows(Side::Q, rows, q_space);
    [p, q]
}

/// Settles a group of rows: side by side those that are plain, the others one by one. Returns how
/// many took a closer look.
#[inline(always)]
fn settle<V: Value>(
    batch: &Batch<'_, V>,
    plain: &Plain,
    first: usize,
    group: Range<usize>,
    columns: &Columns<V>,
    slots: &mut Slots<'_, V>,
) -> usize {
    let values = plain.values(columns);
    put_group(slots, group.clone(), &values, [&columns.p, &columns.q]);
    if values.iter().fold(false, |some, value| some | value.is_nan()) {
        return settle_others(batch, first, group, columns, &values, slots);
    }
    0
}

/// Settles those rows of a group one by one that are not plain.
#[cold]
fn settle_others<V: Value>(
    batch: &Batch<'_, V>,
    first: usize,
    group: Range<usize>,
    columns: &Columns<V>,
    values: &[f64; LANES],
    slots: &mut Slots<'_, V>,
) -> usize {
    let others = group.enumerate().filter(|&(lane, _)| values[lane].is_nan());
    others
        .filter(|&(lane, at)| slots.put(at, sums::settle(batch, first + at, &columns.row(lane))))
        .count()
}

/// Puts the values of a group into their places, and the masses if these are wanted.
#[inline(always)]
pub(super) fn put_group<V: Value>(
    slots: &mut Slots<'_, V>,
    group: Range<usize>,
    values: &[f64; LANES],
    [p, q]: [&[f64; LANES]; 2],
) {
    put(&mut slots.values[group.clone()], values);
    if let Some([p_masses, q_masses]) = &mut slots.masses {
        put(&mut p_masses[group.clone()], p);
        put(&mut q_masses[group], q);
    }
}

#[inline(always)]
fn put<V: Value>(places: &mut [V], values: &[f64; LANES]) {
    let mut rounded = [V::default(); LANES];
    for lane in 0..LANES {
        rounded[lane] = V::from_f64(values[lane]);
    }
    match places.first_chunk_mut() {
        Some(all) => *all = rounded,
        None => put_first(places, &rounded),
    }
}

/// Apart from whole groups, or the compiler copies both by a call.
#[cold]
#[inline(never)]
fn put_first<V: Value>(places: &mut [V], values: &[V; LANES]) {
    places.copy_from_slice(&values[..places.len()]);
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
        let [mut p_space, mut q_space] = Default::default();
        let (p, q) = (widen::numbers(p, &mut p_space), widen::numbers(q, &mut q_space));
        let zeros = starts_with_zeros([p.iter(), q.iter()]);
        return Loops::segment(Segment { p, q, zeros });
    }
    let half = p.len().div_ceil(SEGMENT).div_ceil(2) * SEGMENT;
    let (p, q) = (p.split_at(half), q.split_at(half));
    let (mut sums, later) = rayon::join(|| halves(p.0, q.0), || halves(p.1, q.1));
    sums.merge(&later);
    sums
}

/// Bins of a long row.
pub struct Segment<'a, V> {
    p: &'a [V],
    q: &'a [V],
    /// Whether zeros are to be expected.
    zeros: bool,
}

impl<V: Value> pulp::WithSimd for Segment<'_, V> {
    type Output = Wide<V>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Wide<V> {
        let Segment { p, q, zeros } = self;
        match S::IS_SCALAR {
            true => Wide::of::<S, false>(simd, p, q, zeros),
            false => Wide::of::<S, true>(simd, p, q, zeros),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayView2, Axis};

    use super::*;
    use crate::cpu::tests::on_every_vector_unit;
    use crate::sums::tests::{assert_sums, sides};
    use crate::term::Term;
    use crate::{Engine, Mass, OnInvalid, Rule, Status};

    const LENGTHS: [usize; 20] = [
        1, 2, 3, 5, 8, 9, 15, 16, 17, 64, 79, 100, 256, 257, 271, 1_000, 1_024, 1_025, 5_000,
        65_000,
    ];

    /// Tells manners apart.
    struct Name<'a>(&'a mut &'static str);

    impl User<f32> for Name<'_> {
        type Output = ();

        fn take<M: Manner<f32>>(self) {
            *self.0 = std::any::type_name::<M>();
        }
    }

    fn manner(bins: usize, rows: usize) -> &'static str {
        let mut name = "";
        in_manner_of(bins, rows, Name(&mut name));
        name
    }

    #[test]
    fn each_length_has_its_manner() {
        let lengths = [1, 2, 3, 4, 5, 6, 7, 8, 15, 64, 256, MIDDLING, MIDDLING + 1];
        let manners: std::collections::BTreeSet<_> = lengths.map(|bins| manner(bins, 5)).into();
        assert_eq!(manners.len(), lengths.len(), "{manners:?}");
        for (bins, other) in [(9, 15), (16, 64), (65, 256), (257, MIDDLING)] {
            assert_eq!(manner(bins, 2), manner(other, 1_000));
        }
        assert_eq!(manner(MIDDLING + 1, 1), manner(SEGMENT, 5));
        assert_eq!(manner(8, 1), manner(8, 5));
        assert_eq!(manner(9, 1), manner(MIDDLING, 1));
        assert!(!manners.contains(manner(9, 1)));
    }

    /// Some equal rows of each side.
    fn equal_rows(bins: usize, rows: usize) -> [Array2<f32>; 2] {
        sides(bins).map(|side| Array2::from_shape_fn((rows, bins), |(_, bin)| side[bin]))
    }

    /// The sums of the first row of a batch.
    struct First<'a, 'b, M> {
        batch: &'a Batch<'b, f32>,
        manner: PhantomData<M>,
    }

    impl<M: Manner<f32>> pulp::WithSimd for First<'_, '_, M> {
        type Output = Sums;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Sums {
            let (batch, rows) = (self.batch, self.batch.rows());
            let (mut manner, mut space) = (M::new(|| false), Default::default());
            match S::IS_SCALAR {
                true => manner.columns::<S, false>(simd, batch, 0..rows, &mut space).row(0),
                false => manner.columns::<S, true>(simd, batch, 0..rows, &mut space).row(0),
            }
        }
    }

    struct Agree<'a, 'b>(&'a Batch<'b, f32>);

    impl User<f32> for Agree<'_, '_> {
        type Output = ();

        fn take<M: Manner<f32>>(self) {
            let first = || First { batch: self.0, manner: PhantomData::<M> };
            on_every_vector_unit(first, |sums| sums.g / sums.p);
        }
    }

    #[test]
    fn vector_units_agree() {
        for bins in LENGTHS {
            for rows in [1, 3, 16] {
                let [p, q] = equal_rows(bins, rows);
                in_manner_of(bins, rows, Agree(&Batch::probs(&p, &q).unwrap()));
            }
        }
    }

    #[test]
    fn vector_units_agree_on_segments() {
        let [p, q] = sides(5_000);
        let value = |wide: &Wide<f32>| {
            let mut columns = Columns::empty();
            columns.put(0, wide);
            columns.g[0] / columns.p[0]
        };
        on_every_vector_unit(|| Segment { p: &p, q: &q, zeros: false }, value);
    }

    struct Sum<'a, 'b>(&'a Batch<'b, f32>, &'a mut Sums);

    impl User<f32> for Sum<'_, '_> {
        type Output = ();

        fn take<M: Manner<f32>>(self) {
            let first = First { batch: self.0, manner: PhantomData::<M> };
            *self.1 = pulp::Arch::new().dispatch(first);
        }
    }

    fn sums_of_first(bins: usize, rows: usize) -> Sums {
        let [p, q] = equal_rows(bins, rows);
        let mut sums = Sums::default();
        in_manner_of(bins, rows, Sum(&Batch::probs(&p, &q).unwrap(), &mut sums));
        sums
    }

    #[test]
    fn a_row_has_the_same_sums_in_any_company() {
        for bins in LENGTHS {
            let [one, two, many] = [1, 2, 16].map(|rows| sums_of_first(bins, rows));
            assert!(one == two && one == many, "{bins} bins: {one:?}, {two:?}, {many:?}");
        }
    }

    /// What is guessed of a row, and what its task has held before, makes no difference to its bits.
    #[test]
    fn a_row_has_the_same_bits_beside_rows_with_zeros() {
        const ROWS: usize = 120;
        for bins in LENGTHS {
            let number = |row: usize, bin: usize, by: usize| -> f32 {
                // The last ones are larger than usual.
                let scale = if row / 20 == 5 { 2_f32.powi(40) } else { 1.0 };
                let number = scale * ((bin * by + row) % 101 + 1) as f32 / (50 * bins) as f32;
                match (row / 20 % 5, (bin + row) % 4) {
                    _ if row / 20 % 5 == 1 && by == 7 && bin % 7 == 3 => 0.0,
                    // Zeros, subnormal numbers, and both; on the edges of what is usual.
                    (1 | 3, 1) | (3, 2) => 0.0,
                    (2 | 3, 3) => f32::from_bits((bin + by) as u32 + 1),
                    (4, 0) => f32::LEAST_USUAL,
                    (4, 1) => -0.0,
                    _ => number,
                }
            };
            let side = |by| Array2::from_shape_fn((ROWS, bins), |(row, bin)| number(row, bin, by));
            let (p, q) = (side(7), side(11));
            let values = |p: ArrayView2<'_, f32>, q: ArrayView2<'_, f32>| {
                let batch = Batch::probs(p, q).unwrap().with_mass(Mass::Generalized);
                let mut outcome = Outcome::of(&batch, "cpu").unwrap();
                outcome.fill_in_tasks(0..p.nrows(), p.nrows(), |first, slots| {
                    fill_in(&batch, first, slots)
                });
                outcome.values.mapv(f32::to_bits)
            };
            let all = values(p.view(), q.view());
            for row in 0..ROWS {
                let [p, q] = [&p, &q].map(|side| side.slice_axis(Axis(0), (row..row + 1).into()));
                let alone = values(p, q);
                assert_eq!(all[row], alone[0], "row {row} of {bins} bins");
            }
        }
    }

    /// Loops over usual bins may see such numbers in nothing but their sums.
    #[test]
    fn no_place_hides_what_is_no_number_or_nearly_too_large() {
        const NUMBERS: [f32; 4] = [f32::NAN, f32::INFINITY, -1e-3, 3e38];
        for (bins, place) in LENGTHS.into_iter().flat_map(|bins| [(bins, 0), (bins, bins - 1)]) {
            for (number, of_q) in NUMBERS.into_iter().flat_map(|x| [(x, false), (x, true)]) {
                let mut p = Array2::from_elem((3, bins), 0.5_f32);
                let mut q = p.mapv(|p| 0.75 * p);
                p[[1, place]] = number;
                if number == 3e38 {
                    q[[1, place]] = 2.9e38;
                }
                let (p, q) = if of_q { (q, p) } else { (p, q) };
                let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Generalized);
                let batch = batch.with_on_invalid(OnInvalid::Nan);
                let outcome = Engine::cpu().rows(Divergence::Kl, &batch).unwrap();
                let status = match number {
                    3e38 => Status::Ok,
                    _ if number.is_nan() => Status::Invalid(Rule::NotANumber),
                    _ if number < 0.0 => Status::Invalid(Rule::Negative),
                    _ => Status::Invalid(Rule::Infinite),
                };
                let all = [Status::Ok, status, Status::Ok];
                assert_eq!(outcome.statuses.to_vec(), all, "{number} in bin {place} of {bins}");
                if status == Status::Ok {
                    let (p, q) = if of_q { (2.9e38_f64, 3e38) } else { (3e38, 2.9e38) };
                    let want = (p * (p / q).ln() - p + q) as f32;
                    assert!((outcome.values[1] - want).abs() <= 1e-6 * want, "{bins}: {outcome:?}");
                }
            }
        }
    }

    #[test]
    fn tasks_are_whole_groups_of_rows() {
        let bins = [1, 100, 32_767, 32_768, 1 << 20];
        assert_eq!(bins.map(rows_per_task), [32_768, 336, 16, 1, 1]);
    }

    #[test]
    fn the_sums_themselves_are_right() {
        for bins in LENGTHS {
            assert_sums(&sums_of_first(bins, 1), &sides(bins), &format!("{bins} bins"));
        }
        for bins in [70_000, 140_000] {
            let sides = sides(bins);
            assert_sums(&long_row(&sides[0], &sides[1]), &sides, &format!("{bins} bins"));
        }
    }
}
