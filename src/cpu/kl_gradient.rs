//! Values and gradients of `kl` in f32, for the rows that it is right for: of numbers of at most 32 bits,
//! of one kind on both sides, and divided by their masses. A row is summed as [`rows`](super::rows) does
//! it, many together where they are short enough for all of them to stay in the cache, and gone through once more
//! from there, the shortest at once. Short rows of logarithms have [`short_logs`](super::short_logs) before this. What
//! lacks digits in f32, and what is not an ordinary row, is left to [`gradient`](super::gradient).

use std::ops::Range;

use super::logs::{self, Gradient, Keeping, Kept};
use super::plain::Plain;
use super::sums::{self, Columns, LANES, Lanes, Middling, Short, Wide, longest, starts_with_zeros};
use super::widen;
use crate::batch::{Batch, Mass};
use crate::element::{Element, Value};
use crate::error::Side;
use crate::integrand::ln_ratio;
use crate::kind::Kind;
use crate::outcome::{Row, Status};
use crate::sums::{Sums, settle};
use crate::term::{Term, ln_ratio_f32, mul_add};
use crate::verdict::{Judged, Verdict};

/// Memory for what is made of a row on the way.
#[derive(Default)]
pub(super) struct Space {
    kept: Kept,
    widened: [Vec<f32>; 2],
    each: [Vec<f32>; 2],
    repeated: [Vec<f32>; 2],
}

/// How such rows are gone through.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    Probs,
    Logs,
}

impl Manner {
    /// The one for a batch, if its rows are of this sort.
    pub(super) fn of<T: Element>(batch: &Batch<'_, T>) -> Option<Manner> {
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        let policy = matches!(batch.mass(), Mass::Check | Mass::Normalize);
        let divided = policy || kinds == [Kind::Logits; 2];
        let in_f32 = size_of::<T::Value>() == size_of::<f32>();
        match batch.is_probs() {
            _ if !(divided && in_f32 && batch.bin_weights().is_none()) => None,
            true => (batch.bins() <= sums::SEGMENT).then_some(Manner::Probs),
            false => (logs::take(batch) && batch.bins() <= logs::SEGMENT).then_some(Manner::Logs),
        }
    }

    /// Whether rows are to be [summed together](Ready::together) first.
    pub(super) fn sums_together<T: Element>(self, batch: &Batch<'_, T>) -> bool {
        matches!(self, Manner::Probs) && batch.bins() <= TOGETHER
    }

    /// The results of a row, and its gradients, times a weight, into places that are empty where they
    /// are not wanted. Nothing if the row is not of this sort, whatever is in the places then.
    pub(super) fn row<T: Element>(
        self,
        batch: &Batch<'_, T>,
        row: usize,
        weight: f64,
        Space { kept, widened: [p_space, q_space], .. }: &mut Space,
        into: [&mut [f32]; 2],
    ) -> Option<Row<T::Value>> {
        let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
        let (p, q) = (widen::in_f32(&p, p_space), widen::in_f32(&q, q_space));
        let is_ordinary = |row: &Row<T::Value>| row.status == Status::Ok && !row.looked_closer;
        match self {
            Manner::Probs => {
                let (plain, wants_p) = (Plain::of(batch), !into[0].is_empty());
                let (sums, is_right, ready) = Summed { plain, p, q, weight, wants_p }.dispatch();
                if let Some((row, slopes)) = ready.row(0) {
                    Probs { p, q, slopes, into }.dispatch();
                    return Some(row);
                }
                let row = settle(batch, row, &sums);
                if !is_right || sums.masses_are_apart() || !is_ordinary(&row) {
                    return None;
                }
                let slopes = Slopes::new(&sums, row.value.to_f64(), weight);
                if weight != 0.0 && !slopes.by.into_iter().all(f32::is_normal) {
                    return None;
                }
                let [of_p, of_q] = into;
                Probs { p, q, slopes, into: [&mut *of_p, &mut *of_q] }.dispatch();
                let are_finite = |side: &[f32]| side.iter().all(|x| x.is_finite());
                (sums.p < BOUNDED || are_finite(of_p) && are_finite(of_q)).then_some(row)
            }
            Manner::Logs => {
                let temperature = batch.temperature();
                let node = &Keeping { p, q, temperature, kept }.dispatch();
                let row = logs::settle(batch, row, node);
                // Beside the logarithms of such masses, those of their ratios have too few digits.
                let is_small = |scale: &f64| scale.abs() < 1e6;
                if !is_ordinary(&row) || !node.scales.iter().all(is_small) {
                    return None;
                }
                let by = weight / temperature;
                let has_room = |mass: &f64| ((by / mass) as f32).is_normal();
                if weight != 0.0 && !node.masses.iter().all(has_room) {
                    return None;
                }
                let is_sound = Gradient { p, q, temperature, node, by, kept, into }.dispatch();
                is_sound.then_some(row)
            }
        }
    }
}

/// The most bins of rows that are summed together, and of those that are written at once.
const TOGETHER: usize = sums::MIDDLING;
pub(super) const AT_ONCE: usize = 64;
/// Of smaller sums no ratio is too large for f32: masses that are not far apart count for a quarter.
const BOUNDED: f64 = f32::MAX as f64 / 1.25 * f32::LEAST_USUAL as f64;

/// Whether f32 is right for the gradients of each row, by what numbers it has; those below [`Term::MOST`] count as
/// usual here. Where p is 0, the derivative in it is infinite; that in q is the same number for all such bins.
#[inline(always)]
fn are_right(columns: &Columns<f32>, have_zeros: bool, wants_p: bool) -> [bool; LANES] {
    let mut are_right = [false; LANES];
    for (is_right, &top) in are_right.iter_mut().zip(&columns.top) {
        *is_right = (top == 0) & !(have_zeros & wants_p);
    }
    are_right
}

/// Rows that were summed, and of those among them that raise no question all that makes their gradients.
pub(super) struct Ready {
    pub values: [f64; LANES],
    pub masses: [[f64; LANES]; 2],
    /// See [`Slopes`].
    by: [[f32; LANES]; 2],
    more: [f32; LANES],
    less: [f32; LANES],
    are_right: [bool; LANES],
}

impl Ready {
    /// Some rows of a batch that is to be [summed so](Manner::sums_together), times their weights.
    pub(super) fn together<T: Element>(
        batch: &Batch<'_, T>,
        rows: Range<usize>,
        weights: [f64; LANES],
        wants_p: bool,
        Space { widened: [p_space, q_space], .. }: &mut Space,
    ) -> Ready {
        let (mut p_packed, mut q_packed) = (Vec::new(), Vec::new());
        let p = batch.packed_rows(Side::P, rows.clone(), &mut p_packed);
        let q = batch.packed_rows(Side::Q, rows.clone(), &mut q_packed);
        let sides = [widen::in_f32(p, p_space), widen::in_f32(q, q_space)];
        let (plain, bins) = (Plain::of(batch), batch.bins());
        let together = Together { plain, bins, rows: rows.len(), sides, weights, wants_p };
        pulp::Arch::new().dispatch(together)
    }

    #[inline(always)]
    fn of<const FUSED: bool>(
        plain: &Plain,
        columns: &Columns<f32>,
        mut are_right: [bool; LANES],
        weights: &[f64; LANES],
    ) -> Ready {
        let values = plain.values(columns);
        let Columns { p: p_masses, q: q_masses, d, .. } = columns;
        let (mut by, mut more, mut less) = ([[0.0; LANES]; 2], [0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (p, q, weight) = (p_masses[lane], q_masses[lane], weights[lane]);
            let apart = -d[lane] / p;
            let ln_ratio = ln_ratio::<FUSED>(1.0 + apart, 1.0, apart);
            (by[0][lane], by[1][lane]) = ((weight / p) as f32, (weight / q) as f32);
            (more[lane], less[lane]) = (apart as f32, (values[lane] - ln_ratio) as f32);
        }
        for lane in 0..LANES {
            let [by_p, by_q] = [by[0][lane].abs(), by[1][lane].abs()];
            let are_there = (by_p >= f32::MIN_POSITIVE) & (by_q >= f32::MIN_POSITIVE);
            let are_finite = (by_p <= f32::MAX) & (by_q <= f32::MAX);
            are_right[lane] &= (are_there & are_finite) | (weights[lane] == 0.0);
        }
        for lane in 0..LANES {
            are_right[lane] &= (values[lane] >= 0.0) & (p_masses[lane] < BOUNDED);
        }
        Ready { values, masses: [*p_masses, *q_masses], by, more, less, are_right }
    }

    /// Whether all of the first rows are ready and count.
    pub(super) fn has_all(&self, rows: usize) -> bool {
        let mut has_all = true;
        for lane in 0..LANES {
            has_all &= self.has(lane) | (lane >= rows);
        }
        has_all
    }

    /// Whether a row is, and is not weighed by 0.
    pub(super) fn has(&self, lane: usize) -> bool {
        self.are_right[lane] & (self.by[0][lane] != 0.0)
    }

    /// Writes the gradients of those of these rows that are ready, and anything for the others: of up to [`AT_ONCE`] bins,
    /// into places that are next to each other, and empty where they are not wanted.
    pub(super) fn write_all<T: Element>(
        &self,
        batch: &Batch<'_, T>,
        rows: Range<usize>,
        Space { widened: [p_space, q_space], each, repeated: [p_repeated, q_repeated], .. }: &mut Space,
        into: [&mut [f32]; 2],
    ) {
        let (mut p_packed, mut q_packed) = (Vec::new(), Vec::new());
        let p = batch.packed_rows(Side::P, rows.clone(), &mut p_packed);
        let q = batch.packed_rows(Side::Q, rows.clone(), &mut q_packed);
        let (p, q) = (widen::in_f32(p, p_space), widen::in_f32(q, q_space));
        let p = as_often(p, batch.bins() * rows.len(), p_repeated);
        let q = as_often(q, batch.bins() * rows.len(), q_repeated);
        pulp::Arch::new().dispatch(All { ready: self, bins: batch.bins(), p, q, each, into });
    }

    /// The results of one, and what its derivatives have in common.
    pub(super) fn row<V: Value>(&self, lane: usize) -> Option<(Row<V>, Slopes)> {
        let Ready { values, masses: [p, q], by: [by_p, by_q], more, less, are_right } = self;
        let verdict = Verdict::Value(values[lane]);
        let results = Judged { verdict, masses: [p[lane], q[lane]] }.row();
        let by = [by_p[lane], by_q[lane]];
        let slopes = Slopes { by, more: more[lane], less: less[lane] };
        are_right[lane].then_some((results, slopes))
    }
}

/// Rows to be summed, next to each other or, on a side that has only one, all the same.
struct Together<'a> {
    plain: Plain,
    bins: usize,
    rows: usize,
    sides: [&'a [f32]; 2],
    weights: [f64; LANES],
    wants_p: bool,
}

impl pulp::WithSimd for Together<'_> {
    type Output = Ready;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> Ready {
        if S::IS_SCALAR { self.ready::<S, false>(simd) } else { self.ready::<S, true>(simd) }
    }
}

impl Together<'_> {
    #[inline(always)]
    fn ready<S: pulp::Simd, const FUSED: bool>(self, simd: S) -> Ready {
        let (columns, have_zeros) = match self.bins {
            ..=2 => self.short::<S, 2, FUSED>(simd),
            3..=4 => self.short::<S, 4, FUSED>(simd),
            5..=8 => self.short::<S, 8, FUSED>(simd),
            9..LANES => self.middling::<S, 0, FUSED>(simd),
            bins if FUSED && bins <= longest(1) => self.middling::<S, 1, FUSED>(simd),
            _ => self.middling::<S, 3, FUSED>(simd),
        };
        let are_right = are_right(&columns, have_zeros, self.wants_p);
        Ready::of::<FUSED>(&self.plain, &columns, are_right, &self.weights)
    }

    /// The sums, and whether there may be zeros.
    #[inline(always)]
    fn short<S: pulp::Simd, const WIDTH: usize, const FUSED: bool>(
        &self,
        simd: S,
    ) -> (Columns<f32>, bool) {
        let mut short = Short::new(starts_with_zeros(self.sides.map(|side| side.iter())));
        let columns = short.columns::<WIDTH, FUSED>(self.bins, self.rows, self.sides);
        match columns.top == [0; LANES] {
            true => (columns, short.zeros),
            // It does not tell the odd rows from those beside them.
            false => self.middling::<S, 0, FUSED>(simd),
        }
    }

    #[inline(always)]
    fn middling<S: pulp::Simd, const DEEP: usize, const FUSED: bool>(
        &self,
        simd: S,
    ) -> (Columns<f32>, bool) {
        let guess = starts_with_zeros(self.sides.map(|side| side.iter()));
        let mut middling = Middling::<f32, DEEP>::new(guess);
        let columns = middling.columns::<S, FUSED>(simd, self.bins, self.rows, self.sides);
        (columns, middling.zeros)
    }
}

/// Short rows that are written at once: a row has too few bins for vectors of its own.
struct All<'a> {
    ready: &'a Ready,
    bins: usize,
    p: &'a [f32],
    q: &'a [f32],
    /// What the derivatives of a row have in common, once for each bin.
    each: &'a mut [Vec<f32>; 2],
    into: [&'a mut [f32]; 2],
}

impl pulp::WithSimd for All<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.write::<false>() } else { self.write::<true>() }
    }
}

impl All<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(self) {
        let All { ready: Ready { by, more, less, .. }, bins, p, q, each, into: [of_p, of_q] } =
            self;
        let [each_by, each_other] = each;
        if !of_p.is_empty() {
            repeat_each(&by[0], bins, each_by);
            repeat_each(less, bins, each_other);
            let rows = each_by.iter().zip(&*each_other).zip(p).zip(q);
            for (place, (((&by, &less), &p), &q)) in of_p.iter_mut().zip(rows) {
                let slopes = Slopes { by: [by, 0.0], more: 0.0, less };
                *place = slopes.derivative::<FUSED, true>(p, q);
            }
        }
        if !of_q.is_empty() {
            repeat_each(&by[1], bins, each_by);
            repeat_each(more, bins, each_other);
            let rows = each_by.iter().zip(&*each_other).zip(p).zip(q);
            for (place, (((&by, &more), &p), &q)) in of_q.iter_mut().zip(rows) {
                let slopes = Slopes { by: [0.0, by], more, less: 0.0 };
                *place = slopes.derivative::<FUSED, false>(p, q);
            }
        }
    }
}

/// A row that is repeated as often as makes so many bins; others as they are.
fn as_often<'s>(side: &'s [f32], bins: usize, space: &'s mut Vec<f32>) -> &'s [f32] {
    if side.len() == bins {
        return side;
    }
    space.clear();
    (0..bins / side.len()).for_each(|_| space.extend(side));
    space
}

#[inline(always)]
fn repeat_each(numbers: &[f32; LANES], times: usize, into: &mut Vec<f32>) {
    into.resize(LANES * times, 0.0);
    for (places, &number) in into.chunks_exact_mut(times).zip(numbers) {
        places.iter_mut().for_each(|place| *place = number);
    }
}

/// One row of probabilities that is to be summed: the sums, whether its numbers are right for f32, and what is ready
/// of it.
struct Summed<'a> {
    plain: Plain,
    p: &'a [f32],
    q: &'a [f32],
    weight: f64,
    wants_p: bool,
}

impl Summed<'_> {
    #[inline(never)]
    fn dispatch(self) -> (Sums, bool, Ready) {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Summed<'_> {
    type Output = (Sums, bool, Ready);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> (Sums, bool, Ready) {
        if S::IS_SCALAR { self.sums::<S, false>(simd) } else { self.sums::<S, true>(simd) }
    }
}

impl Summed<'_> {
    #[inline(always)]
    fn sums<S: pulp::Simd, const FUSED: bool>(self, simd: S) -> (Sums, bool, Ready) {
        let Summed { plain, p, q, weight, wants_p } = self;
        let guess = starts_with_zeros([p.iter(), q.iter()]);
        let (columns, has_zeros) = if p.len() > sums::MIDDLING {
            let (wide, mut columns) = (Wide::of::<S, FUSED>(simd, p, q, guess), Columns::empty());
            columns.put(0, &wide);
            (columns, wide.zeros)
        } else {
            let lanes = Lanes::of::<S, FUSED>(simd, p, q, guess);
            (Columns::of_one(&lanes), lanes.zeros)
        };
        let are_right = are_right(&columns, has_zeros, wants_p);
        let ready = Ready::of::<FUSED>(&plain, &columns, are_right, &[weight; LANES]);
        (columns.row(0), are_right[0], ready)
    }
}

/// What the derivatives of a row have in common.
#[derive(Clone, Copy)]
pub(super) struct Slopes {
    /// The weight by the masses.
    by: [f32; 2],
    /// `Q/P − 1`.
    more: f32,
    /// `D − ln(Q/P)`.
    less: f32,
}

impl Slopes {
    /// Writes the gradients of a row of probabilities, into places that are empty where they are not wanted.
    pub(super) fn write<T: Element>(
        self,
        batch: &Batch<'_, T>,
        row: usize,
        Space { widened: [p_space, q_space], .. }: &mut Space,
        into: [&mut [f32]; 2],
    ) {
        let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
        let (p, q) = (widen::in_f32(&p, p_space), widen::in_f32(&q, q_space));
        Probs { p, q, slopes: self, into }.dispatch();
    }

    fn new(sums: &Sums, divergence: f64, weight: f64) -> Slopes {
        Slopes {
            by: [weight / sums.p, weight / sums.q].map(|by| by as f32),
            more: (-sums.d / sums.p) as f32,
            less: (divergence - sums.ln_mass_ratio()) as f32,
        }
    }
}

/// The gradients of a row of usual probabilities: `(l − D)/P` and `(1 − p/q)/Q` of what is divided by
/// the masses. The second also where some are 0: `1/Q` without p.
struct Probs<'a> {
    p: &'a [f32],
    q: &'a [f32],
    slopes: Slopes,
    into: [&'a mut [f32]; 2],
}

impl Probs<'_> {
    #[inline(never)]
    fn dispatch(self) {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Probs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.write::<false>() } else { self.write::<true>() }
    }
}

impl Probs<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(self) {
        let Probs { p, q, slopes, into: [of_p, of_q] } = self;
        if !of_p.is_empty() {
            fill::<FUSED, true>(p, q, slopes, of_p);
        }
        if !of_q.is_empty() {
            fill::<FUSED, false>(p, q, slopes, of_q);
        }
    }
}

#[inline(always)]
fn fill<const FUSED: bool, const OF_P: bool>(
    p: &[f32],
    q: &[f32],
    slopes: Slopes,
    into: &mut [f32],
) {
    let (p_blocks, p_rest) = p.as_chunks::<LANES>();
    let (q_blocks, q_rest) = q.as_chunks::<LANES>();
    let (places, rest) = into.as_chunks_mut::<LANES>();
    for ((p, q), place) in p_blocks.iter().zip(q_blocks).zip(places) {
        let mut lanes = [0.0; LANES];
        for lane in 0..LANES {
            lanes[lane] = slopes.derivative::<FUSED, OF_P>(p[lane], q[lane]);
        }
        // Seen through, the loop over blocks would be the one that is made vectors of, with gathers.
        *place = std::hint::black_box(lanes);
    }
    for ((p, q), place) in p_rest.iter().zip(q_rest).zip(rest) {
        *place = slopes.derivative::<FUSED, OF_P>(*p, *q);
    }
}

impl Slopes {
    #[inline(always)]
    fn derivative<const FUSED: bool, const OF_P: bool>(&self, p: f32, q: f32) -> f32 {
        if OF_P {
            return self.by[0] * (ln_ratio_f32::<FUSED>(p, q) - self.less);
        }
        let q = if q == 0.0 { f32::LEAST_USUAL } else { q };
        self.by[1] * (mul_add::<FUSED>(-p, self.more, q - p) / q)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::kind::Kind;
    use crate::{Divergence, Engine, Wanted};

    #[test]
    fn each_sort_of_rows_has_its_manner() {
        let of = |kinds: [Kind; 2], bins: usize| {
            let side = Array2::from_elem((1, bins), 0.5_f32);
            let batch = Batch::of(kinds[0], &side, kinds[1], &side).unwrap();
            match Manner::of(&batch.with_mass(Mass::Normalize)) {
                Some(Manner::Probs) => "probs",
                Some(Manner::Logs) => "logs",
                None => "",
            }
        };
        let (probs, logits) = ([Kind::Probs; 2], [Kind::Logits; 2]);
        assert_eq!([of(probs, 16), of(probs, sums::SEGMENT)], ["probs"; 2]);
        assert_eq!([of(logits, 16), of(logits, logs::SEGMENT)], ["logs"; 2]);
        assert_eq!([of(probs, sums::SEGMENT + 1), of(logits, logs::SEGMENT + 1)], [""; 2]);
        assert_eq!(of([Kind::Probs, Kind::Logits], 16), "");
    }

    /// Which of some rows are ready, and each of these as it is by itself.
    fn ready(side: [&Array2<f32>; 2], weights: [f64; LANES], wants_p: bool) -> Vec<bool> {
        let batch = Batch::probs(side[0], side[1]).unwrap().with_mass(Mass::Normalize);
        assert!(Manner::Probs.sums_together(&batch));
        let (rows, space) = (0..batch.rows(), &mut Space::default());
        let together = Ready::together(&batch, rows.clone(), weights, wants_p, space);
        let is_same = |lane: usize| {
            let [p, q] = side.map(|side| side.row(lane).to_slice().unwrap());
            let (plain, weight) = (Plain::of(&batch), weights[lane]);
            let (.., alone) = Summed { plain, p, q, weight, wants_p }.dispatch();
            let bits = |Slopes { by: [p, q], more, less }| [p, q, more, less].map(f32::to_bits);
            let of = |ready: &Ready, lane| {
                ready.row::<f32>(lane).map(|(row, slopes)| (row.value.to_bits(), bits(slopes)))
            };
            let got = of(&together, lane);
            assert!(got.is_none() || got == of(&alone, 0), "row {lane}");
            got.is_some()
        };
        rows.map(is_same).collect()
    }

    #[test]
    fn ordinary_rows_are_summed_together() {
        for bins in [2, 3, 5, 8, 9, 15, 16, 17, 40, 64, 65, 256, 300, sums::MIDDLING] {
            let side = |step: usize| {
                let number = move |(row, bin): (usize, usize)| ((bin * step + row) % 13 + 1) as f32;
                let mut side = Array2::from_shape_fn((LANES, bins), number);
                side.rows_mut().into_iter().for_each(|mut row| row /= row.sum());
                side
            };
            let (mut p, mut q) = (side(5), side(7));
            let mut weights = [1.0; LANES];
            assert_eq!(ready([&p, &q], weights, true), [true; LANES]);
            // Masses that are apart, sums that are too large, numbers that are none, and a product with a weight that
            // is subnormal. One that is 0 does no harm.
            q.row_mut(1).mapv_inplace(|x| 1.1 * x);
            [&mut p, &mut q]
                .into_iter()
                .for_each(|side| side.row_mut(2).mapv_inplace(|x| 1e20 * x));
            q[[3, bins - 1]] = f32::NAN;
            (weights[4], weights[5]) = (1e-40, 0.0);
            let others = [1, 2, 3, 4];
            let want: Vec<_> = (0..LANES).map(|lane| !others.contains(&lane)).collect();
            assert_eq!(ready([&p, &q], weights, false), want, "{bins} bins");
            p[[6, bins - 1]] = 0.0;
            q[[7, 0]] = 0.0;
            [p.row_mut(6), q.row_mut(7)].into_iter().for_each(|mut row| row /= row.sum());
            let want: Vec<_> =
                (0..LANES).map(|lane| lane != 7 && !others.contains(&lane)).collect();
            assert_eq!(ready([&p, &q], weights, false), want, "{bins} bins, with zeros");
            assert_eq!(ready([&p, &q], weights, true), [false; LANES], "{bins} bins, with zeros");
        }
    }

    /// Masses that differ by as much as leaves a row ready.
    #[test]
    fn masses_count_in_gradients() {
        for bins in [17, 100] {
            let side = |step: usize, mass: f64| {
                let number = |row: usize, bin: usize| ((bin * step + row) % 13 + 1) as f64;
                let mut side = Array2::from_shape_fn((LANES, bins), |(row, bin)| number(row, bin));
                side.rows_mut().into_iter().for_each(|mut row| row *= mass / row.sum());
                side.mapv(|x| x as f32)
            };
            let (p, q) = (side(5, 1.0), side(7, 1.003));
            assert_eq!(ready([&p, &q], [1.0; LANES], true), [true; LANES]);
            let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
            let narrow = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
            let wide = Batch::probs(&wide_p, &wide_q).unwrap().with_mass(Mass::Normalize);
            let engine = Engine::cpu();
            let got = engine.gradient(Divergence::Kl, &narrow, Wanted::Both, None).unwrap();
            let want = engine.gradient(Divergence::Kl, &wide, Wanted::Both, None).unwrap();
            for (got, want) in [(got.p, want.p), (got.q, want.q)] {
                for (&got, &want) in got.unwrap().iter().zip(&want.unwrap()) {
                    assert!((f64::from(got) - want).abs() < 2e-6, "{got}, not {want}");
                }
            }
        }
    }

    /// The gradient in Q of one row of probabilities, if this has it.
    fn of_q(p: &[f32], q: &[f32], of_p: &mut [f32]) -> Option<Vec<f32>> {
        weighted_of_q(p, q, of_p, 1.0)
    }

    fn weighted_of_q(p: &[f32], q: &[f32], of_p: &mut [f32], weight: f64) -> Option<Vec<f32>> {
        let [p, q] = [p, q].map(|side| Array2::from_shape_vec((1, side.len()), side.to_vec()));
        let (p, q) = (p.unwrap(), q.unwrap());
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        let mut into = vec![f32::NAN; batch.bins()];
        let row = Manner::Probs.row(&batch, 0, weight, &mut Space::default(), [of_p, &mut into]);
        row.map(|_| into)
    }

    #[test]
    fn what_f32_has_no_room_for_is_left_to_f64() {
        let two = |octaves: i32| 2_f32.powi(octaves);
        let p = [two(30); 4];
        // A ratio of 2^130, of which the mass takes 2^32 away.
        let far = [two(-100), two(31), two(30), two(30)];
        assert_eq!(of_q(&p, &far, &mut []), None);
        let side = |side: [f32; 4]| Array2::from_shape_vec((1, 4), side.to_vec()).unwrap();
        let (p_row, q_row) = (side(p), side(far));
        let batch = Batch::probs(&p_row, &q_row).unwrap().with_mass(Mass::Normalize);
        let gradient = Engine::cpu().gradient(Divergence::Kl, &batch, Wanted::Q, None).unwrap();
        assert_eq!(gradient.q.unwrap()[[0, 0]], -two(98));

        let near = [two(-90), two(31), two(30), two(30)];
        let got = of_q(&p, &near, &mut []).expect("f32 is right for it");
        assert_eq!(got[0], -two(88));
        // The weight by the mass is subnormal.
        assert_eq!(weighted_of_q(&p, &near, &mut [], 1e-35), None);
        assert_eq!(weighted_of_q(&p, &near, &mut [], 0.0), Some(vec![0.0; 4]));
    }

    #[test]
    fn rows_with_zeros_have_their_gradient_in_q() {
        for bins in [4, 30, 300, 3000] {
            let side = |step: usize, is_zero: fn(usize) -> bool| -> Vec<f32> {
                let number = |bin: usize| ((bin * step) % 13 + 1) as f32;
                let number = |bin| if is_zero(bin) { 0.0 } else { number(bin) };
                let mass: f32 = (0..bins).map(number).sum();
                (0..bins).map(|bin| number(bin) / mass).collect()
            };
            // The last bins of long rows have none.
            let p = side(5, |bin| bin % 4 < 2 && bin < 1500);
            let q = side(7, |bin| bin % 4 == 1 && bin < 1500);
            let [p_mass, q_mass] =
                [&p, &q].map(|side| side.iter().map(|&x| f64::from(x)).sum::<f64>());
            let got = of_q(&p, &q, &mut []).expect("f32 is right for it");
            for ((&p, &q), &got) in p.iter().zip(&q).zip(&got) {
                let (p, q) = (f64::from(p), f64::from(q));
                let more = if p == 0.0 { 0.0 } else { (p / p_mass) / (q / q_mass) };
                let want = (1.0 - more) / q_mass;
                let allowed = 1e-6 * (1.0 + more) / q_mass;
                assert!((f64::from(got) - want).abs() <= allowed, "{p} {q}: {got:e}, not {want:e}");
            }
            // Infinite in some of P, and subnormal numbers are not for these loops.
            assert_eq!(of_q(&p, &q, &mut vec![0.0; bins]), None);
            let mut strange = p.clone();
            strange[bins - 1] = 1e-41;
            assert_eq!(of_q(&strange, &q, &mut []), None);
        }
    }
}
