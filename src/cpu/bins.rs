//! The bins of a row as two distributions, in f64 and block by block, whatever the input is: what the
//! terms of every divergence are made of.
//!
//! A row is gone through twice: once for the masses, once for the terms, the second time from a cache
//! unless it is very long. With masses `P` and `Q` and `δ = (P − Q)/(P + Q)`, which comes of the sum of the
//! differences,
//!
//! ```text
//! p/P − q/Q = ((p − q) − δ·(p + q)) · (P + Q) / (2·P·Q)
//! ```
//!
//! keeps its digits where the two are nearly equal. Of logarithms, `l = (a − b) − (A − B)` is the logarithm
//! of the ratio and `(p + q)·tanh(l/2)` the difference. Both change their signs alone if P and Q are swapped.

use std::ops::Range;

use ndarray::Axis;

use super::distribution::Distribution;
use crate::batch::{Batch, Mass};
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::integrand::{Bin, FLOOR, UNIT, exp_of, ln_ratio};
use crate::kind::Kind;
use crate::pairs::blocks;
use crate::term::{difference_in_two, exp, exp_tail, ln, mul_add_f64};

/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
pub(super) const LANES: usize = 16;
/// Vectors of columns in a block, which fits into the nearest cache.
pub(super) const VECTORS: usize = 16;
/// Bins of one block.
pub(super) const BLOCK: usize = LANES * VECTORS;
/// What stands for the logarithm of none: anything whose exponential is 0.
const LN_FLOOR: f64 = -1000.0;
/// What logarithms further below the largest count as, −inf apart: times `FLOOR` it is nothing.
pub(super) const LEAST_LN: f64 = -1e250;

pub(super) type Vector = [f64; LANES];

/// How the rows of a batch are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    kinds: [Kind; 2],
    /// What numbers are multiplied by: logits by the inverse of the temperature.
    by: [f64; 2],
    /// What stands for a bin that is not there.
    none: [f64; 2],
    /// Whether a side is divided by its mass.
    divided: [bool; 2],
    /// Whether somebody asks for `ln(p/q)`, and for `ln p` and `ln q`.
    needs_l: bool,
    needs_logs: bool,
}

impl Reading {
    pub(super) fn of<T: Element>(batch: &Batch<'_, T>) -> Reading {
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        let policy = matches!(batch.mass(), Mass::Check | Mass::Normalize);
        Reading {
            kinds,
            by: kinds
                .map(|kind| if kind == Kind::Logits { 1.0 / batch.temperature() } else { 1.0 }),
            none: kinds.map(|kind| if kind == Kind::Probs { 0.0 } else { f64::NEG_INFINITY }),
            divided: kinds.map(|kind| policy || kind == Kind::Logits),
            needs_l: false,
            needs_logs: false,
        }
    }

    /// The same for one who asks for such logarithms.
    pub(super) fn with(self, needs_l: bool, needs_logs: bool) -> Reading {
        Reading {
            needs_l: self.needs_l | needs_l | needs_logs,
            needs_logs: self.needs_logs | needs_logs,
            ..self
        }
    }

    /// Whether both sides are probabilities.
    pub(super) fn is_probs(&self) -> bool {
        self.kinds == [Kind::Probs; 2]
    }

    /// What the numbers of a side are.
    pub(super) fn kind(&self, side: Side) -> Kind {
        self.kinds[side as usize]
    }

    /// What they are multiplied by.
    pub(super) fn by(&self, side: Side) -> f64 {
        self.by[side as usize]
    }

    /// The number of a bin that is not there.
    pub(super) fn none(&self, side: Side) -> f64 {
        self.none[side as usize]
    }

    /// Whether a side is divided by its mass.
    pub(super) fn divides(&self, side: Side) -> bool {
        self.divided[side as usize]
    }
}

/// The numbers of the rows of a batch in f64.
pub(super) trait Numbers: Sync {
    /// Numbers per row.
    fn bins(&self) -> usize;
    /// Reads some of one side of a row, from `first` on.
    fn read(&self, side: Side, row: usize, first: usize, into: &mut [f64]);
}

impl<T: Element> Numbers for Batch<'_, T> {
    fn bins(&self) -> usize {
        self.bins()
    }

    fn read(&self, side: Side, row: usize, first: usize, into: &mut [f64]) {
        let (row, kind) = (self.row(side, row), self.kind(side));
        match row.as_slice() {
            Some(row) => {
                let row = &row[first..first + into.len()];
                into.iter_mut().zip(row).for_each(|(to, x)| *to = x.to_f64());
            }
            None => {
                let row = row.slice_axis(Axis(0), (first..first + into.len()).into());
                into.iter_mut().zip(row).for_each(|(to, x)| *to = x.to_f64());
            }
        }
        if let Some(weights) = self.bin_weights() {
            let by = if kind == Kind::Logits { self.temperature() } else { 1.0 };
            for (x, &weight) in into.iter_mut().zip(&weights[first..]) {
                *x = kind.weighted(*x, weight, by);
            }
        }
    }
}

/// Up to `BLOCK` bins of a row, as they are given.
pub(super) struct Window {
    sides: [[Vector; VECTORS]; 2],
    vectors: usize,
    /// The row and the bins that it shows, so that what is in it is not read again.
    shows: Option<(usize, Range<usize>)>,
}

impl Window {
    pub(super) fn new() -> Window {
        Window { sides: [[[0.0; LANES]; VECTORS]; 2], vectors: 0, shows: None }
    }

    /// How many vectors of each side it fills.
    #[inline(always)]
    pub(super) fn vectors(&self) -> usize {
        self.vectors
    }

    /// The bins of its row that it shows.
    pub(super) fn bins(&self) -> Range<usize> {
        self.shows.clone().map_or(0..0, |(_, bins)| bins)
    }

    fn show(&mut self, numbers: &dyn Numbers, reading: &Reading, row: usize, bins: Range<usize>) {
        let shows = Some((row, bins.clone()));
        if self.shows == shows {
            return;
        }
        self.shows = shows;
        self.vectors = bins.len().div_ceil(LANES);
        for (side, none) in [(Side::P, reading.none[0]), (Side::Q, reading.none[1])] {
            let flat = self.sides[side as usize].as_flattened_mut();
            numbers.read(side, row, bins.start, &mut flat[..bins.len()]);
            flat[bins.len()..self.vectors * LANES].fill(none);
        }
    }
}

/// Ranges of up to `BLOCK` bins.
pub(super) fn windows(bins: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    blocks(bins, BLOCK)
}

/// What one look at some bins of a row finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    sides: [SideLook; 2],
    /// `Σ (p − q)` of probabilities on both sides.
    difference: f64,
}

/// The same of one side: `Σ x`, and what it is without a largest; or of logarithms `Σ e^((x − top)·by)`, by how
/// many are the largest, and the rest. Next to 1 all digits of the logarithm are in the rest.
#[derive(Clone, Copy, Debug)]
struct SideLook {
    sum: f64,
    rest: f64,
    /// The largest number.
    top: f64,
    invalid: bool,
}

impl SideLook {
    /// Of logarithms, that of the mass beyond the largest.
    fn ln_beyond(&self) -> f64 {
        ln_of_sum(self.sum, self.rest)
    }
}

/// `ln(largest + rest)` from the number of the largest, and the rest.
pub(super) fn ln_of_sum(largest: f64, rest: f64) -> f64 {
    if largest == 0.0 { f64::NEG_INFINITY } else { largest.ln() + (rest / largest).ln_1p() }
}

impl Default for SideLook {
    fn default() -> SideLook {
        SideLook { sum: 0.0, rest: 0.0, top: f64::NEG_INFINITY, invalid: false }
    }
}

/// The same by columns.
#[derive(Clone, Copy)]
struct Columns {
    sums: Vector,
    tops: Vector,
    /// The sums of numbers above 0 without the largest.
    rests: Vector,
    invalid: [u64; LANES],
}

impl Columns {
    const NONE: Columns = Columns {
        sums: [0.0; LANES],
        tops: [f64::NEG_INFINITY; LANES],
        rests: [0.0; LANES],
        invalid: [0; LANES],
    };

    /// `least` is the least number that is one of the side's kind, or would be.
    #[expect(clippy::needless_range_loop, reason = "several arrays are walked through at a time")]
    #[inline(always)]
    fn see(&mut self, values: &Vector, least: f64) {
        for lane in 0..LANES {
            let (x, top) = (values[lane], self.tops[lane]);
            self.sums[lane] += x;
            let (less, more) = if x > top { (top, x) } else { (x, top) };
            self.rests[lane] += if less > 0.0 { less } else { 0.0 };
            self.tops[lane] = more;
            self.invalid[lane] |= u64::from(!((x >= least) & (x < f64::INFINITY)));
        }
    }

    fn folded(&self) -> SideLook {
        let (mut rest, mut top) = (tree_sum(self.rests), f64::NEG_INFINITY);
        for other in self.tops {
            rest += top.min(other).max(0.0);
            top = top.max(other);
        }
        let (sum, invalid) = (tree_sum(self.sums), self.invalid != [0; LANES]);
        SideLook { sum, rest, top, invalid }
    }
}

impl Look {
    /// Looks at some bins.
    #[inline(always)]
    pub(super) fn at<const FUSED: bool>(
        numbers: &dyn Numbers,
        reading: &Reading,
        row: usize,
        bins: Range<usize>,
        window: &mut Window,
    ) -> Look {
        let mut columns = [Columns::NONE; 2];
        let mut difference = [0.0; LANES];
        for bins in windows(bins.clone()) {
            window.show(numbers, reading, row, bins);
            for at in 0..window.vectors {
                let (p, q) = (&window.sides[0][at], &window.sides[1][at]);
                columns[0].see(p, reading.none[0]);
                columns[1].see(q, reading.none[1]);
                for lane in 0..LANES {
                    difference[lane] += p[lane] - q[lane];
                }
            }
        }
        let mut sides = [columns[0].folded(), columns[1].folded()];
        if !reading.is_probs() {
            let [largest, rest] =
                exponentials::<FUSED>(numbers, reading, row, bins, window, &sides);
            for side in 0..2 {
                if reading.kinds[side] != Kind::Probs {
                    (sides[side].sum, sides[side].rest) =
                        (tree_sum(largest[side]), tree_sum(rest[side]));
                }
            }
        }
        Look { sides, difference: tree_sum(difference) }
    }

    /// Adds what later bins of the row have.
    pub(super) fn merge(&mut self, reading: &Reading, later: &Look) {
        self.difference += later.difference;
        for (side, kind) in reading.kinds.into_iter().enumerate() {
            let (one, other) = (self.sides[side], later.sides[side]);
            let top = one.top.max(other.top);
            // Those that are the largest no more belong to the rest.
            let in_units = |look: SideLook| match kind {
                _ if kind == Kind::Probs || look.top == top => (look.sum, look.rest),
                _ if look.sum == 0.0 => (0.0, 0.0),
                _ => (
                    0.0,
                    (look.sum + look.rest) * exp::<false>((look.top - top) * reading.by[side]),
                ),
            };
            let (one_is, other_is) = (in_units(one), in_units(other));
            // Nor is the smaller of two largest probabilities.
            let less = if kind == Kind::Probs { one.top.min(other.top).max(0.0) } else { 0.0 };
            let (sum, rest) = (one_is.0 + other_is.0, one_is.1 + other_is.1 + less);
            let invalid = one.invalid | other.invalid;
            self.sides[side] = SideLook { sum, rest, top, invalid };
        }
    }

    /// Whether one bin of a side of logarithms has nearly all the mass that the side is divided by.
    pub(super) fn is_sure(&self, reading: &Reading, side: usize) -> bool {
        let SideLook { sum, rest, .. } = self.sides[side];
        reading.divided[side] && reading.kinds[side] != Kind::Probs && sum == 1.0 && rest < 1e-3
    }

    /// Whether some bin holds nothing of its side's kind.
    pub(super) fn is_invalid(&self) -> bool {
        self.sides[0].invalid || self.sides[1].invalid
    }

    /// The masses of the two sides; 1 for logits, if not all of them are masked.
    pub(super) fn masses(&self, reading: &Reading) -> [f64; 2] {
        [0, 1].map(|side| {
            let look = self.sides[side];
            match reading.kinds[side] {
                Kind::Probs => look.sum,
                _ if look.sum == 0.0 => 0.0,
                Kind::Logits => 1.0,
                // A mass may be too small for a number, and still be one to divide by.
                Kind::LogProbs => (look.top + look.ln_beyond()).exp().max(f64::MIN_POSITIVE),
            }
        })
    }

    /// By how much the mass of P is larger than that of Q, for sides that are not divided by it.
    pub(super) fn more_mass(&self, reading: &Reading) -> f64 {
        if reading.is_probs() {
            return self.difference;
        }
        let [p, q] = self.masses(reading);
        let ln_mass = |side: usize| match reading.divided[side] {
            true => 0.0,
            false if reading.kinds[side] == Kind::Probs => self.sides[side].sum.ln(),
            false => self.sides[side].top + self.sides[side].ln_beyond(),
        };
        let ln_ratio = ln_mass(0) - ln_mass(1);
        if ln_ratio.abs() < 0.5 { q * ln_ratio.exp_m1() } else { p - q }
    }

    /// Whether the row has a meaning: its numbers do, and no side is to be divided by a mass of 0.
    pub(super) fn is_usable(&self, reading: &Reading) -> bool {
        let masses = self.masses(reading);
        !self.is_invalid() && (0..2).all(|side| !reading.divided[side] || masses[side] > 0.0)
    }
}

/// `Σ e^((x − top)·by)` of both sides by columns, of which those of probabilities have no meaning: of those
/// that are the largest, and of all others.
#[inline(always)]
fn exponentials<const FUSED: bool>(
    numbers: &dyn Numbers,
    reading: &Reading,
    row: usize,
    bins: Range<usize>,
    window: &mut Window,
    sides: &[SideLook; 2],
) -> [[Vector; 2]; 2] {
    // Of masked sides all exponentials are 0.
    let tops = [0, 1].map(|side| sides[side].top.max(f64::MIN));
    let (mut largest, mut rest) = ([[0.0; LANES]; 2], [[0.0; LANES]; 2]);
    for bins in windows(bins) {
        window.show(numbers, reading, row, bins);
        for side in 0..2 {
            for at in 0..window.vectors {
                for lane in 0..LANES {
                    let x = window.sides[side][at][lane] - tops[side];
                    let exp = exp::<FUSED>(x * reading.by[side]);
                    largest[side][lane] += if x == 0.0 { 1.0 } else { 0.0 };
                    rest[side][lane] += if x == 0.0 { 0.0 } else { exp };
                }
            }
        }
    }
    [largest, rest]
}

/// `Σ (p·a − q·b)` of a row of probabilities.
#[expect(clippy::needless_range_loop, reason = "several arrays are walked through at a time")]
#[inline(always)]
fn difference(numbers: &dyn Numbers, reading: &Reading, row: usize, by: [f64; 2]) -> f64 {
    let (mut sums, mut window) = ([0.0; LANES], Window::new());
    for bins in windows(0..numbers.bins()) {
        window.show(numbers, reading, row, bins);
        for at in 0..window.vectors {
            for lane in 0..LANES {
                let (p, q) = (window.sides[0][at][lane], window.sides[1][at][lane]);
                sums[lane] += p * by[0] - q * by[1];
            }
        }
    }
    tree_sum(sums)
}

/// What makes distributions of the bins of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    reading: Reading,
    /// Of probabilities: exact factors that bring the masses next to each other, and what is to be
    /// divided by then, for probabilities in units.
    by: [f64; 2],
    masses: [f64; 2],
    /// `(P − Q)/(P + Q)`, and what brings differences to the units.
    delta: f64,
    per_mass: f64,
    /// Of sides that are divided by their mass: the largest number, and the logarithm of the mass in units of
    /// what that stands for. Apart, so that what is added to all logarithms of a side goes before anything
    /// is rounded, and that the logarithm of a probability next to 1 has its digits.
    tops: [f64; 2],
    ln_beyond: [f64; 2],
    /// Of probabilities: the logarithm of what brings a number to its probability.
    ln_per_mass: [f64; 2],
}

impl Scale {
    /// From what a look at the whole row found, which is valid and has masses where they are divided by.
    #[inline(always)]
    pub(super) fn new(reading: Reading, look: &Look, numbers: &dyn Numbers, row: usize) -> Scale {
        let mut scale = Scale {
            reading,
            by: [1.0; 2],
            masses: [1.0 / UNIT; 2],
            delta: 0.0,
            per_mass: UNIT,
            tops: [0.0; 2],
            ln_beyond: [0.0; 2],
            ln_per_mass: [0.0; 2],
        };
        if reading.is_probs() && reading.divided[0] {
            scale.of_probs(look, numbers, row);
            return scale;
        }
        for side in 0..2 {
            match reading.kinds[side] {
                _ if !reading.divided[side] => {}
                Kind::Probs => {
                    let (by, mass) = in_range(look.sides[side], numbers, side, row);
                    (scale.by[side], scale.masses[side]) = (by, mass / UNIT);
                    scale.look_beyond(look, side);
                }
                _ => {
                    let look = look.sides[side];
                    (scale.tops[side], scale.ln_beyond[side]) = (look.top, look.ln_beyond());
                }
            }
        }
        scale
    }

    #[inline(always)]
    fn of_probs(&mut self, look: &Look, numbers: &dyn Numbers, row: usize) {
        let (p_by, p_mass) = in_range(look.sides[0], numbers, 0, row);
        let (q_by, q_mass) = in_range(look.sides[1], numbers, 1, row);
        let more = next_to_each_other([p_by, q_by], [p_mass, q_mass]);
        let by = [p_by * more[0], q_by * more[1]];
        let [p_mass, q_mass] = [p_mass * more[0], q_mass * more[1]];
        // Powers of two: of alike masses in the range of a sum, the difference is at hand.
        let is_known = [p_by, q_by] == [1.0; 2] && more[0] == more[1];
        let d = match is_known {
            true => look.difference * more[0],
            false => difference(numbers, &self.reading, row, by),
        };
        self.by = by;
        self.masses = [p_mass / UNIT, q_mass / UNIT];
        self.delta = d / (p_mass + q_mass);
        self.per_mass = (p_mass + q_mass) / (2.0 * p_mass * q_mass) * UNIT;
        self.look_beyond(look, 0);
        self.look_beyond(look, 1);
    }

    /// Notes the largest number of a side of probabilities that is divided by its mass.
    #[inline(always)]
    fn look_beyond(&mut self, look: &Look, side: usize) {
        let SideLook { rest, top, .. } = look.sides[side];
        self.tops[side] = top;
        self.ln_per_mass[side] = self.by[side].ln() - (self.masses[side] * UNIT).ln();
        self.ln_beyond[side] = match rest.is_finite() {
            true => (rest / top).ln_1p(),
            false => (self.masses[side] * UNIT / (top * self.by[side])).ln(),
        };
    }
}

/// Exact factors that bring two masses next to each other, so that differences are exact where they have
/// to be, and the larger of them next to 1, so that small numbers stay numbers: the same for either order of
/// the two. `by` are factors that go before them.
fn next_to_each_other(by: [f64; 2], masses: [f64; 2]) -> [f64; 2] {
    /// What factors of numbers may come to.
    const MOST: f64 = 1000.0;
    let [p, q] = masses;
    let apart = (p.max(q) / p.min(q)).log2().round();
    let down = p.max(q).log2().round();
    let up = if p > q { [0.0, apart] } else { [apart, 0.0] };
    let exponents = up.map(|up| up - down);
    let most = (exponents[0] + by[0].log2()).max(exponents[1] + by[1].log2());
    exponents.map(|exponent| (exponent - (most - MOST).max(0.0)).exp2())
}

impl Scale {
    /// The probability of a number of a side, in units where the number is a logarithm, as it is given
    /// where not; none where there is none, which is not where it is too small.
    pub(super) fn probability(&self, window: &Window, side: usize, bin: usize) -> Option<f64> {
        let given = window.sides[side].as_flattened()[bin];
        match self.reading.kinds[side] {
            Kind::Probs => (given > 0.0).then_some(given),
            _ if given == f64::NEG_INFINITY => None,
            _ => Some(exp_of::<false>(self.ln(side, given)) * UNIT),
        }
    }

    /// Where the first of the largest numbers of a side stands.
    pub(super) fn top_bin(&self, numbers: &dyn Numbers, side: usize, row: usize) -> usize {
        let (of, mut window) = ([Side::P, Side::Q][side], [0.0; BLOCK]);
        let found = windows(0..numbers.bins()).find_map(|bins| {
            let window = &mut window[..bins.len()];
            numbers.read(of, row, bins.start, window);
            Some(bins.start + window.iter().position(|&x| x == self.tops[side])?)
        });
        found.unwrap_or_default()
    }

    /// The logarithm of the probability of a number of a side; −inf where there is none.
    pub(super) fn ln_probability(&self, window: &Window, side: usize, bin: usize) -> f64 {
        let given = window.sides[side].as_flattened()[bin];
        match self.reading.kinds[side] {
            Kind::Probs if given > 0.0 => {
                self.ln_of::<false>(side, given, given * self.by[side] / self.masses[side])
            }
            Kind::Probs => f64::NEG_INFINITY,
            _ if given == f64::NEG_INFINITY => given,
            _ => self.ln(side, given),
        }
    }

    /// The logarithm of a probability `x`, in units, from the number of a side that it was made of.
    #[inline(always)]
    fn ln_of<const FUSED: bool>(&self, side: usize, given: f64, x: f64) -> f64 {
        // A quotient too small for a number has its digits in the number that it was made of. Of none it
        // is whatever: nobody looks.
        let is_small = x < FLOOR * UNIT;
        let of = if is_small { given } else { x / UNIT };
        let ln = ln::<FUSED>(of) + if is_small { self.ln_per_mass[side] } else { 0.0 };
        if given == self.tops[side] { -self.ln_beyond[side] } else { ln }
    }

    /// The logarithm of the probability that a logarithm of a side stands for.
    #[inline(always)]
    fn ln(&self, side: usize, given: f64) -> f64 {
        ((given - self.tops[side]) * self.reading.by[side]).max(LEAST_LN) - self.ln_beyond[side]
    }

    /// What a derivative in a number of a side is of one in its probability, but for the probability
    /// itself where the number is a logarithm.
    pub(super) fn per_number(&self, side: usize) -> f64 {
        match self.reading.kinds[side] {
            Kind::Probs => self.by[side] / (self.masses[side] * UNIT),
            _ => self.reading.by[side],
        }
    }
}

/// A power of two that brings a side's mass into the middle of the range, and the mass it has then.
fn in_range(look: SideLook, numbers: &dyn Numbers, side: usize, row: usize) -> (f64, f64) {
    const MOST: f64 = 1e150;
    if (1.0 / MOST..MOST).contains(&look.sum) {
        return (1.0, look.sum);
    }
    // The inverse of a subnormal number has no power of two next to it, and a sum may be none.
    let by = match look.sum.is_finite() {
        true => (-look.sum.log2().round()).clamp(-1000.0, 900.0).exp2(),
        false => 0.5_f64.powi(1000),
    };
    let (side, mut mass, mut window) = ([Side::P, Side::Q][side], 0.0, [0.0; BLOCK]);
    for bins in windows(0..numbers.bins()) {
        let window = &mut window[..bins.len()];
        numbers.read(side, row, bins.start, window);
        mass += window.iter().map(|x| x * by).sum::<f64>();
    }
    (by, mass)
}

/// Some bins of a row as two distributions.
pub(super) struct Block {
    p: [Vector; VECTORS],
    q: [Vector; VECTORS],
    n: [Vector; VECTORS],
    l: [Vector; VECTORS],
    ln_p: [Vector; VECTORS],
    /// `−p·ln p` and `−p·ln q`, in units.
    entropy: [Vector; VECTORS],
    cross: [Vector; VECTORS],
    /// The probabilities of P where Q has none, and the other way round, in units.
    only: [Vector; 2],
    /// Above 0 in columns with such bins: of logarithms a probability may be too small for a number.
    lone: [Vector; 2],
    /// 1 in bins where both have some, else 0; and in columns with such bins.
    both: [Vector; VECTORS],
    some_both: Vector,
}

/// The memory that it takes to go through rows.
pub(super) struct Space {
    pub window: Window,
    block: Block,
}

impl Space {
    pub(super) fn new() -> Space {
        Space { window: Window::new(), block: Block::new() }
    }

    /// Up to `BLOCK` bins of a row, and how they are given. (Whoever goes through a row has the loop: a
    /// closure in it would not be compiled for the vector unit at hand.)
    #[inline(always)]
    pub(super) fn block<const FUSED: bool>(
        &mut self,
        numbers: &dyn Numbers,
        scale: &Scale,
        row: usize,
        bins: Range<usize>,
    ) -> (&Block, &Window) {
        let Space { window, block } = self;
        window.show(numbers, &scale.reading, row, bins);
        block.fill::<FUSED>(scale, window);
        (block, window)
    }
}

impl Block {
    pub(super) fn new() -> Block {
        let none = [[0.0; LANES]; VECTORS];
        Block {
            p: none,
            q: none,
            n: none,
            l: none,
            ln_p: none,
            entropy: none,
            cross: none,
            only: [[0.0; LANES]; 2],
            lone: [[0.0; LANES]; 2],
            both: none,
            some_both: [0.0; LANES],
        }
    }

    /// Takes up to `BLOCK` bins.
    #[inline(always)]
    fn fill<const FUSED: bool>(&mut self, scale: &Scale, window: &Window) {
        self.only = [[0.0; LANES]; 2];
        self.lone = self.only;
        self.some_both = [0.0; LANES];
        for at in 0..window.vectors {
            self.take::<FUSED>(scale, at, &window.sides[0][at], &window.sides[1][at]);
        }
    }

    #[inline(always)]
    fn take<const FUSED: bool>(&mut self, scale: &Scale, at: usize, p: &Vector, q: &Vector) {
        if scale.reading.is_probs() {
            self.take_probs::<FUSED>(scale, at, p, q);
        } else {
            self.take_logs::<FUSED>(scale, at, p, q);
        }
    }

    /// Probabilities on both sides.
    #[inline(always)]
    fn take_probs<const FUSED: bool>(&mut self, scale: &Scale, at: usize, p: &Vector, q: &Vector) {
        let (given_p, given_q) = (p, q);
        let Scale { by, masses, delta, per_mass, reading, .. } = *scale;
        let none = [0.0; LANES];
        let (mut a, mut b, mut x, mut y, mut n) = (none, none, none, none, none);
        for lane in 0..LANES {
            (a[lane], b[lane]) = (p[lane] * by[0], q[lane] * by[1]);
            // With what rounding takes from the sum and the product: next to equality nothing else is left.
            let (both, lost) = difference_in_two(a[lane], -b[lane]);
            let apart = mul_add_f64::<FUSED>(-delta, both, a[lane] - b[lane]);
            n[lane] = (apart - delta * lost) * per_mass;
            (x[lane], y[lane]) = (a[lane] / masses[0], b[lane] / masses[1]);
        }
        // A number that its factor makes nothing of is one all the same.
        self.put(at, [p, q], [&x, &y], &n);
        self.l[at] = none;
        if reading.needs_l {
            let (p, q, n, mut l) = (self.p[at], self.q[at], self.n[at], none);
            for lane in 0..LANES {
                l[lane] = ln_ratio::<FUSED>(p[lane], q[lane], n[lane]);
            }
            self.l[at] = l;
            let mut small = [0_u64; LANES];
            for lane in 0..LANES {
                let less = if x[lane] < y[lane] { x[lane] } else { y[lane] };
                small[lane] = u64::from((self.both[at][lane] == 1.0) & (less < FLOOR));
            }
            if small.into_iter().fold(0, |some, one| some | one) != 0 {
                self.take_small(scale, at, [given_p, given_q], [&x, &y]);
            }
        }
        if reading.needs_logs {
            let (mut ln_p, mut ln_q) = (none, none);
            for lane in 0..LANES {
                ln_p[lane] = scale.ln_of::<FUSED>(0, p[lane], x[lane]);
                ln_q[lane] = scale.ln_of::<FUSED>(1, q[lane], y[lane]);
            }
            self.put_logs(at, [p, q], &x, [&ln_p, &ln_q]);
        }
    }

    /// The logarithms of ratios of probabilities of which one is too small for a number.
    #[cold]
    #[inline(never)]
    fn take_small(&mut self, scale: &Scale, at: usize, given: [&Vector; 2], x: [&Vector; 2]) {
        for lane in (0..LANES).filter(|&lane| self.both[at][lane] == 1.0) {
            if x[0][lane].min(x[1][lane]) < FLOOR {
                let ln = |side: usize| scale.ln_of::<false>(side, given[side][lane], x[side][lane]);
                self.l[at][lane] = ln(0) - ln(1);
            }
        }
    }

    /// Logarithms on at least one side.
    #[inline(always)]
    fn take_logs<const FUSED: bool>(&mut self, scale: &Scale, at: usize, p: &Vector, q: &Vector) {
        let (p_side, q_side) =
            (LogSide::of::<FUSED>(scale, 0, p), LogSide::of::<FUSED>(scale, 1, q));
        let Reading { kinds, by, .. } = scale.reading;
        let none = [0.0; LANES];
        let (mut l, mut n) = (none, none);
        let [p_top, q_top] = scale.tops;
        let (tops_apart, tops_lost) = difference_in_two(p_top, q_top);
        let ln_ratio = scale.ln_beyond[0] - scale.ln_beyond[1];
        for lane in 0..LANES {
            let (p, q) = (p[lane], q[lane]);
            let apart = if by[0] == by[1] {
                // One temperature divides their differences.
                let (apart, lost) = difference_in_two(p, q);
                ((apart - tops_apart) + (lost - tops_lost)) * by[0]
            } else {
                (p - p_top) * by[0] - (q - q_top) * by[1]
            };
            l[lane] = match kinds.contains(&Kind::Probs) {
                true => p_side.ln[lane] - q_side.ln[lane],
                false => (apart - ln_ratio).clamp(LEAST_LN, -LEAST_LN),
            };
        }
        let (x, y) = (&p_side.x, &q_side.x);
        for lane in 0..LANES {
            let both = p_side.on[lane].min(q_side.on[lane]) > 0.0;
            l[lane] = if both { l[lane] } else { 0.0 };
            n[lane] = difference_of::<FUSED>([x[lane], y[lane]], l[lane]);
        }
        let on = [&p_side.on, &q_side.on];
        self.put(at, on, [x, y], &n);
        self.l[at] = l;
        self.put_logs(at, on, x, [&p_side.ln, &q_side.ln]);
    }

    /// Takes probabilities and their differences. `on` is above 0 where a side has a probability, which
    /// may be too small for a number.
    #[inline(always)]
    fn put(&mut self, at: usize, on: [&Vector; 2], [x, y]: [&Vector; 2], n: &Vector) {
        let [a, b] = on;
        let none = [0.0; LANES];
        let (mut p, mut q, mut apart, mut both) = (none, none, none, none);
        for lane in 0..LANES {
            let some = a[lane].min(b[lane]) > 0.0;
            p[lane] = if some { x[lane].max(FLOOR) } else { FLOOR };
            q[lane] = if some { y[lane].max(FLOOR) } else { FLOOR };
            apart[lane] = if some { n[lane] } else { 0.0 };
            both[lane] = if some { 1.0 } else { 0.0 };
        }
        (self.p[at], self.q[at], self.n[at], self.both[at]) = (p, q, apart, both);
        let ([mut p_only, mut q_only], [mut p_lone, mut q_lone]) = (self.only, self.lone);
        let mut some_both = self.some_both;
        for lane in 0..LANES {
            // Factors, since what is added to memory under a mask has to be waited for.
            let p_alone = if b[lane] <= 0.0 { 1.0 } else { 0.0 };
            let q_alone = if a[lane] <= 0.0 { 1.0 } else { 0.0 };
            p_only[lane] += p_alone * x[lane];
            q_only[lane] += q_alone * y[lane];
            p_lone[lane] = p_lone[lane].max(p_alone * a[lane]);
            q_lone[lane] = q_lone[lane].max(q_alone * b[lane]);
            some_both[lane] = some_both[lane].max(both[lane]);
        }
        (self.only, self.lone) = ([p_only, q_only], [p_lone, q_lone]);
        self.some_both = some_both;
    }

    /// Takes up to `BLOCK` bins of two rows that are distributions already; returns how many vectors
    /// they fill.
    #[inline(always)]
    pub(super) fn fill_with<const FUSED: bool>(
        &mut self,
        reading: &Reading,
        sides: [&Distribution; 2],
        bins: Range<usize>,
    ) -> usize {
        self.only = [[0.0; LANES]; 2];
        self.lone = self.only;
        self.some_both = [0.0; LANES];
        let vectors = bins.len().div_ceil(LANES);
        for at in 0..vectors {
            let first = bins.start + at * LANES;
            self.take_made::<FUSED>(reading, at, sides, first);
        }
        vectors
    }

    #[inline(always)]
    fn take_made<const FUSED: bool>(
        &mut self,
        reading: &Reading,
        at: usize,
        [p, q]: [&Distribution; 2],
        first: usize,
    ) {
        let (x, y) = (vector_of(&p.x, first), vector_of(&q.x, first));
        let (x_rest, y_rest) = (vector_of(&p.x_rest, first), vector_of(&q.x_rest, first));
        let (ln_p, ln_q) = (vector_of(&p.ln, first), vector_of(&q.ln, first));
        let (p_rest, q_rest) = (vector_of(&p.ln_rest, first), vector_of(&q.ln_rest, first));
        let none: Vector = [0.0; LANES];
        let (mut l, mut n, mut p_on, mut q_on) = (none, none, none, none);
        for lane in 0..LANES {
            p_on[lane] = if ln_p[lane] > f64::NEG_INFINITY { 1.0 } else { 0.0 };
            q_on[lane] = if ln_q[lane] > f64::NEG_INFINITY { 1.0 } else { 0.0 };
            let both = p_on[lane].min(q_on[lane]) > 0.0;
            let ratio = (ln_p[lane] - ln_q[lane]) + (p_rest[lane] - q_rest[lane]);
            l[lane] = if both { ratio } else { 0.0 };
            n[lane] = match reading.is_probs() {
                true => (x[lane] - y[lane]) + (x_rest[lane] - y_rest[lane]),
                false => difference_of::<FUSED>([x[lane], y[lane]], l[lane]),
            };
        }
        let on = [&p_on, &q_on];
        self.put(at, on, [&x, &y], &n);
        if reading.is_probs() && !reading.needs_l {
            l = none;
        } else if reading.is_probs() {
            let (p, q, n) = (self.p[at], self.q[at], self.n[at]);
            for lane in 0..LANES {
                // What is too small for a number has its logarithm.
                let usual = x[lane].min(y[lane]) >= FLOOR;
                let ratio = ln_ratio::<FUSED>(p[lane], q[lane], n[lane]);
                l[lane] = if usual { ratio } else { l[lane] };
            }
        }
        self.l[at] = l;
        if reading.needs_logs {
            self.put_logs(at, on, &x, [&ln_p, &ln_q]);
        }
    }

    #[inline(always)]
    fn put_logs(&mut self, at: usize, on: [&Vector; 2], x: &Vector, ln: [&Vector; 2]) {
        let none = [0.0; LANES];
        let (mut ln_p, mut entropy, mut cross) = (none, none, none);
        for lane in 0..LANES {
            let both = on[0][lane].min(on[1][lane]) > 0.0;
            ln_p[lane] = if both { ln[0][lane] } else { LN_FLOOR };
            entropy[lane] = if on[0][lane] > 0.0 { -(x[lane] * ln[0][lane]) } else { 0.0 };
            cross[lane] = if both { -(x[lane] * ln[1][lane]) } else { 0.0 };
        }
        (self.ln_p[at], self.entropy[at], self.cross[at]) = (ln_p, entropy, cross);
    }

    /// The bin in a lane of a vector.
    #[inline(always)]
    pub(super) fn bin(&self, at: usize, lane: usize) -> Bin {
        Bin {
            p: self.p[at][lane],
            q: self.q[at][lane],
            n: self.n[at][lane],
            l: self.l[at][lane],
            ln_p: self.ln_p[at][lane],
        }
    }

    /// The probabilities of a side in bins in which both have some, in units.
    #[inline(always)]
    pub(super) fn probabilities(&self, side: usize) -> &[Vector; VECTORS] {
        if side == 0 { &self.p } else { &self.q }
    }

    /// Whether some of its first bins lack a probability.
    #[inline(always)]
    pub(super) fn has_ends(&self, vectors: usize) -> bool {
        self.both[..vectors].as_flattened().contains(&0.0)
    }

    /// `−p·ln p`, in units.
    #[inline(always)]
    pub(super) fn entropy(&self) -> &[Vector] {
        &self.entropy
    }

    /// `−p·ln q`, in units.
    #[inline(always)]
    pub(super) fn cross(&self) -> &[Vector] {
        &self.cross
    }

    /// 1 in the lanes of a vector in which both sides have a probability.
    #[inline(always)]
    pub(super) fn both(&self, at: usize) -> &Vector {
        &self.both[at]
    }

    /// Whether there are bins of P alone, of Q alone, and of both.
    #[inline(always)]
    pub(super) fn supports(&self) -> [bool; 3] {
        [&self.lone[0], &self.lone[1], &self.some_both].map(|some| some.iter().any(|&x| x > 0.0))
    }

    /// The probabilities that only one side has, in units, by columns.
    #[inline(always)]
    pub(super) fn only(&self) -> &[Vector; 2] {
        &self.only
    }
}

/// `p − q` from the two, and `l = ln(p/q)`.
#[inline(always)]
fn difference_of<const FUSED: bool>([p, q]: [f64; 2], l: f64) -> f64 {
    let near = l.abs() <= 1.0;
    let size = if near { l.abs() } else { 0.0 };
    let expm1 = size + exp_tail::<FUSED>(size);
    let by_tanh = ((p + q) * (expm1 / (expm1 + 2.0))).copysign(l);
    if near { by_tanh } else { p - q }
}

/// Some numbers of a row that is filled up to whole vectors.
#[inline(always)]
fn vector_of(numbers: &[f64], first: usize) -> Vector {
    *numbers[first..].first_chunk().unwrap_or(&[0.0; LANES])
}

/// A vector of one side of a row of which some side is logarithms.
struct LogSide {
    /// The logarithms of the probabilities, and those in units.
    ln: Vector,
    x: Vector,
    /// 1 where there is a probability, else 0.
    on: Vector,
}

impl LogSide {
    #[inline(always)]
    fn of<const FUSED: bool>(scale: &Scale, side: usize, values: &Vector) -> LogSide {
        let none = [0.0; LANES];
        let (mut logs, mut x, mut on) = (none, none, none);
        let (by, mass) = (scale.by[side], scale.masses[side]);
        if scale.reading.kinds[side] == Kind::Probs {
            for lane in 0..LANES {
                x[lane] = values[lane] * by / mass;
                on[lane] = if values[lane] > 0.0 { 1.0 } else { 0.0 };
                logs[lane] = scale.ln_of::<FUSED>(side, values[lane], x[lane]);
            }
            return LogSide { ln: logs, x, on };
        }
        for lane in 0..LANES {
            let some = values[lane] > f64::NEG_INFINITY;
            let ln = scale.ln(side, if some { values[lane] } else { scale.tops[side] });
            let exp = exp_of::<FUSED>(ln) * UNIT;
            (logs[lane], x[lane]) = (ln, if some { exp } else { 0.0 });
            on[lane] = if some { 1.0 } else { 0.0 };
        }
        LogSide { ln: logs, x, on }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn look(batch: &Batch<'_, f64>, bins: Range<usize>) -> Look {
        Look::at::<false>(batch, &Reading::of(batch), 0, bins, &mut Window::new())
    }

    fn scale(batch: &Batch<'_, f64>) -> Scale {
        let all = look(batch, 0..batch.bins());
        Scale::new(Reading::of(batch).with(true, true), &all, batch, 0)
    }

    /// The logarithms of the probabilities of a side.
    fn ln(batch: &Batch<'_, f64>, side: usize) -> Vec<f64> {
        let (scale, mut window) = (scale(batch), Window::new());
        window.show(batch, &scale.reading, 0, 0..batch.bins());
        (0..batch.bins()).map(|bin| scale.ln_probability(&window, side, bin)).collect()
    }

    fn assert_close(got: f64, want: f64, off: f64) {
        assert!((got - want).abs() <= off * want.abs(), "{got:e}, not {want:e}");
    }

    /// Sums of these numbers are exact in any order.
    #[test]
    fn looks_at_parts_make_the_look_at_all() {
        let number = |bin: usize, step: usize| ((bin * step) % 61 + 1) as f64 / 64.0;
        for kinds in [[Kind::Probs; 2], [Kind::Logits; 2], [Kind::LogProbs, Kind::Probs]] {
            let side = |kind, step| {
                let mut side = Array2::from_shape_fn((1, 96), |(_, bin)| number(bin, step));
                // The largest of a part is not that of the row, or is it once more.
                for (bin, most) in [(20, 3.0), (40, 5.0), (70, 5.0)] {
                    side[[0, bin]] = most;
                }
                if kind == Kind::LogProbs { side - 9.0 } else { side }
            };
            let (p, q) = (side(kinds[0], 7), side(kinds[1], 19));
            let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
            let (reading, all) = (Reading::of(&batch), look(&batch, 0..96));
            let mut merged = look(&batch, 0..32);
            merged.merge(&reading, &look(&batch, 32..64));
            merged.merge(&reading, &look(&batch, 64..96));
            assert_eq!(merged.difference, all.difference);
            for (merged, all) in merged.sides.iter().zip(&all.sides) {
                assert_eq!((merged.sum, merged.top), (all.sum, all.top), "{kinds:?}");
                assert_close(merged.rest, all.rest, 1e-15);
                assert!(!merged.invalid);
            }
        }
    }

    #[test]
    fn what_is_invalid_in_two_parts_is_invalid() {
        let p = array![[0.5, f64::NAN, 0.25, f64::NAN]];
        let batch = Batch::probs(&p, &p).unwrap();
        let (mut merged, reading) = (look(&batch, 0..2), Reading::of(&batch));
        merged.merge(&reading, &look(&batch, 2..4));
        assert!(merged.is_invalid() && !merged.is_usable(&reading));
    }

    #[test]
    fn rows_are_usable_where_what_divides_is_some() {
        let (some, none) = (array![[0.5, 0.5]], array![[0.0, 0.0]]);
        for (mass, want) in [(Mass::Normalize, false), (Mass::Generalized, true)] {
            for (p, q, is_usable) in
                [(&some, &some, true), (&none, &some, want), (&some, &none, want)]
            {
                let batch = Batch::probs(p, q).unwrap().with_mass(mass);
                assert_eq!(look(&batch, 0..2).is_usable(&Reading::of(&batch)), is_usable, "{mass}");
            }
        }
    }

    #[test]
    fn a_side_is_sure_of_one_bin_of_logarithms_that_has_nearly_all() {
        let sure = array![[0.0, -20.0, -30.0]];
        for (kind, mass, numbers, want) in [
            (Kind::Logits, Mass::AsGiven, &sure, true),
            (Kind::LogProbs, Mass::Normalize, &sure, true),
            (Kind::LogProbs, Mass::AsGiven, &sure, false),
            (Kind::Probs, Mass::Normalize, &array![[1.0, 1e-9, 1e-9]], false),
            (Kind::Logits, Mass::Check, &array![[0.0, 0.0, -30.0]], false),
            (Kind::Logits, Mass::Check, &array![[0.0, -1.0, -30.0]], false),
        ] {
            let batch = Batch::of(kind, numbers, kind, numbers).unwrap().with_mass(mass);
            assert_eq!(look(&batch, 0..3).is_sure(&Reading::of(&batch), 1), want, "{kind}, {mass}");
        }
    }

    /// Of masses next to each other the difference has the digits that the logarithms have.
    #[test]
    fn masses_of_logarithms_differ_by_what_these_do() {
        let more = |p: f64| {
            let (p, q) = (array![[p]], array![[0.0]]);
            let batch = Batch::log_probs(&p, &q).unwrap().with_mass(Mass::Generalized);
            look(&batch, 0..1).more_mass(&Reading::of(&batch))
        };
        let little = 2.0_f64.powi(-30);
        assert_close(more(little), little + little * little / 2.0, 1e-15);
        assert_close(more(2.0), 2.0_f64.exp() - 1.0, 1e-15);
    }

    #[test]
    fn logarithms_of_probabilities_have_their_digits_at_the_ends() {
        let with = |p: &Array2<f64>| {
            let q = array![[0.25, 0.25, 0.5]];
            ln(&Batch::probs(p, &q).unwrap().with_mass(Mass::Normalize), 0)
        };
        let one = with(&array![[1.0, 1e-17, 1e-19]]);
        assert_close(one[0], -1.01e-17, 1e-14);
        assert_close(one[1], 1e-17_f64.ln(), 1e-15);
        let small = with(&array![[1000.0, 1e-321, 2.0]]);
        assert_close(small[1], 1e-321_f64.ln() - 1002.0_f64.ln(), 1e-15);
        assert_close(small[0], -0.002_f64.ln_1p(), 1e-15);
        let beyond = with(&array![[1e308, 1.5e308, 1e308]]);
        assert_close(beyond[1], (1.5_f64 / 3.5).ln(), 1e-15);
        assert_close(beyond[2], (1.0_f64 / 3.5).ln(), 1e-15);
        // And both sides by themselves, beside logarithms.
        let (p, q) = (array![[1e308, 1.5e308, 1e308]], array![[0.0, 1.0, 2.0]]);
        let mixed = Batch::of(Kind::Probs, &p, Kind::Logits, &q).unwrap();
        assert_close(ln(&mixed.with_mass(Mass::Normalize), 0)[1], (1.5_f64 / 3.5).ln(), 1e-15);
    }

    #[test]
    fn masses_in_the_range_stay_as_they_are() {
        let p = array![[0.25, 0.25]];
        let batch = Batch::probs(&p, &p).unwrap();
        let side = look(&batch, 0..2).sides[0];
        assert_eq!(in_range(side, &batch, 0, 0), (1.0, 0.5));
        let far = SideLook { sum: 1e-200, ..side };
        assert_eq!(in_range(far, &batch, 0, 0).0, 2.0_f64.powi(664));
    }

    #[test]
    fn ends_are_where_one_of_both_is_none() {
        let has_ends = |p: &Array2<f64>| {
            let q = array![[0.25, 0.25, 0.5]];
            let batch = Batch::probs(p, &q).unwrap();
            let (scale, mut space) = (scale(&batch), Space::new());
            let (block, window) = space.block::<false>(&batch, &scale, 0, 0..3);
            block.has_ends(window.vectors())
        };
        // What fills the vector up is no bin, and counts as one: a look at it does no harm.
        assert!(has_ends(&array![[0.5, 0.0, 0.5]]));
        assert_eq!(has_ends(&array![[0.5, 0.25, 0.25]]), 3 % LANES != 0);
    }

    /// Of rows of which one is a multiple of the other nothing is left of the differences.
    #[test]
    fn proportional_rows_are_next_to_equal_in_each_bin() {
        // Three times as much has no more than 53 bits.
        let p = Array2::from_shape_fn((1, 16), |(_, bin)| {
            (0x2_0000_0000_0001_u64 + 0x0_3b9a_ca07_1234 * bin as u64) as f64 / 2.0_f64.powi(51)
        });
        let q = &p * 3.0;
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        let (scale, mut space) = (scale(&batch), Space::new());
        let (block, _) = space.block::<true>(&batch, &scale, 0, 0..16);
        let off: Vec<f64> = block.n[0].iter().zip(&block.p[0]).map(|(n, p)| n / p).collect();
        // All of them by what the masses are rounded by.
        let spread = off.iter().map(|other| (other - off[0]).abs());
        assert!(spread.fold(0.0, f64::max) < 2e-18, "{off:?}");
    }
}
