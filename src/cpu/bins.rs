//! What it takes to make distributions of the bins of a row, in f64, whatever the input is.
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

use crate::batch::{Batch, Mass};
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::integrand::{FLOOR, Needs, UNIT, exp_of};
use crate::kind::Kind;
use crate::pairs::blocks;
use crate::term::{exp, greater, lesser, ln};

/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
pub(super) const LANES: usize = 16;
/// Bins of one [block](super::block), all whose numbers fit into the nearest cache.
pub(super) const BLOCK: usize = 8 * LANES;
/// What logarithms further below the largest count as, −inf apart: times `FLOOR` it is nothing.
pub(super) const LEAST_LN: f64 = -1e250;

pub(super) type Vector = [f64; LANES];
pub(super) type Values = [f64; BLOCK];

/// How the rows of a batch are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub kinds: [Kind; 2],
    /// What numbers are multiplied by: logits by the inverse of the temperature.
    pub by: [f64; 2],
    /// What stands for a bin that is not there.
    pub none: [f64; 2],
    /// Whether a side is divided by its mass.
    divided: [bool; 2],
    /// Whether somebody asks for `ln(p/q)`, and for `ln q`.
    pub needs_l: bool,
    pub needs_ln_q: bool,
    /// See [`Needs::far`].
    pub far: f64,
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
            needs_ln_q: false,
            far: f64::INFINITY,
        }
    }

    /// The same for one who needs such logarithms too.
    pub(super) fn with(self, needs: Needs) -> Reading {
        Reading {
            needs_l: self.needs_l | needs.l,
            needs_ln_q: self.needs_ln_q | needs.ln_q,
            far: self.far.min(needs.far),
            ..self
        }
    }

    /// Whether both sides are probabilities.
    pub(super) fn is_probs(&self) -> bool {
        self.kinds == [Kind::Probs; 2]
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
    sides: [Values; 2],
    /// How many, with those that fill them up to whole vectors.
    len: usize,
    /// The row and the bins that it shows, so that what is in it is not read again.
    shows: Option<(usize, Range<usize>)>,
}

impl Window {
    pub(super) fn new() -> Window {
        Window { sides: [[0.0; BLOCK]; 2], len: 0, shows: None }
    }

    /// The numbers of the two sides, in whole vectors.
    #[inline(always)]
    pub(super) fn sides(&self) -> [&[f64]; 2] {
        self.sides.each_ref().map(|side| &side[..self.len])
    }

    /// The bins of its row that it shows.
    pub(super) fn bins(&self) -> Range<usize> {
        self.shows.clone().map_or(0..0, |(_, bins)| bins)
    }

    pub(super) fn show(
        &mut self,
        numbers: &dyn Numbers,
        reading: &Reading,
        row: usize,
        bins: Range<usize>,
    ) {
        let shows = Some((row, bins.clone()));
        if self.shows == shows {
            return;
        }
        self.shows = shows;
        self.len = bins.len().next_multiple_of(LANES);
        for (side, none) in [(Side::P, reading.none[0]), (Side::Q, reading.none[1])] {
            let into = &mut self.sides[side as usize];
            numbers.read(side, row, bins.start, &mut into[..bins.len()]);
            into[bins.len()..self.len].fill(none);
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
    /// Of logarithms how many are the largest.
    sums: Vector,
    /// Of logarithms the largest of all columns in each.
    tops: Vector,
    /// Of logarithms what the exponentials are made beside: not much less than the largest.
    reference: f64,
    /// The sums of numbers above 0 without the largest; of logarithms those of the exponentials.
    rests: Vector,
    invalid: [u64; LANES],
}

impl Columns {
    const NONE: Columns = Columns {
        sums: [0.0; LANES],
        tops: [f64::NEG_INFINITY; LANES],
        reference: f64::NEG_INFINITY,
        rests: [0.0; LANES],
        invalid: [0; LANES],
    };

    /// Sees some numbers of a kind.
    #[inline(always)]
    fn see<const FUSED: bool>(&mut self, kind: Kind, by: f64, values: &[f64]) {
        match kind {
            Kind::Probs => self.see_probs(values),
            _ => self.see_logs::<FUSED>(by, values),
        }
    }

    #[inline(always)]
    fn see_probs(&mut self, values: &[f64]) {
        let Columns { mut sums, mut tops, mut rests, mut invalid, reference } = *self;
        for vector in values.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                let (x, top) = (vector[lane], tops[lane]);
                sums[lane] += x;
                rests[lane] += greater(lesser(x, top), 0.0);
                tops[lane] = greater(x, top);
                invalid[lane] |= u64::from(!(0.0..f64::INFINITY).contains(&x));
            }
        }
        *self = Columns { sums, tops, rests, invalid, reference };
    }

    #[inline(always)]
    fn see_logs<const FUSED: bool>(&mut self, by: f64, values: &[f64]) {
        let Columns { mut tops, mut invalid, .. } = *self;
        for vector in values.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                tops[lane] = greater(vector[lane], tops[lane]);
                let is_valid = (f64::NEG_INFINITY..f64::INFINITY).contains(&vector[lane]);
                invalid[lane] |= u64::from(!is_valid);
            }
        }
        let top = tops.into_iter().fold(f64::NEG_INFINITY, greater);
        if top > self.tops[0] {
            self.raise::<FUSED>(by, top);
        }
        self.invalid = invalid;
        self.add_exponentials::<FUSED>(by, values);
    }

    /// Takes a larger number for the largest: those that were belong to the rest. Where numbers rise from block to
    /// block, the rest is not brought to the next at each step, whose rounding would come together.
    #[inline(always)]
    fn raise<const FUSED: bool>(&mut self, by: f64, top: f64) {
        let was_top = exp::<FUSED>((self.tops[0] - self.reference) * by);
        for lane in 0..LANES {
            let more = if self.sums[lane] > 0.0 { self.sums[lane] * was_top } else { 0.0 };
            self.rests[lane] += more;
        }
        (self.sums, self.tops) = ([0.0; LANES], [top; LANES]);
        if (top - self.reference) * by > 1.0 {
            self.refer_to::<FUSED>(by, top);
        }
    }

    /// Brings the rest to another number that exponentials are made beside.
    #[inline(always)]
    fn refer_to<const FUSED: bool>(&mut self, by: f64, reference: f64) {
        if self.reference != reference {
            let unit = exp::<FUSED>((self.reference - reference) * by);
            self.rests.iter_mut().for_each(|rest| *rest *= unit);
            self.reference = reference;
        }
    }

    #[inline(always)]
    fn add_exponentials<const FUSED: bool>(&mut self, by: f64, values: &[f64]) {
        // Of masked sides all exponentials are 0.
        let [top, reference] = [self.tops[0], self.reference].map(|x| greater(x, f64::MIN));
        let mut made = [0.0; BLOCK];
        let made = &mut made[..values.len()];
        for bin in 0..values.len() {
            made[bin] = exp::<FUSED>((values[bin] - reference) * by);
        }
        let Columns { mut sums, mut rests, .. } = *self;
        for (vector, made) in values.as_chunks::<LANES>().0.iter().zip(made.as_chunks::<LANES>().0)
        {
            for lane in 0..LANES {
                let is_top = vector[lane] == top;
                sums[lane] += if is_top { 1.0 } else { 0.0 };
                rests[lane] += if is_top { 0.0 } else { made[lane] };
            }
        }
        (self.sums, self.rests) = (sums, rests);
    }

    #[inline(always)]
    fn folded<const FUSED: bool>(mut self, kind: Kind, by: f64) -> SideLook {
        let (sum, invalid) = (tree_sum(self.sums), self.invalid != [0; LANES]);
        let top = self.tops.into_iter().fold(f64::NEG_INFINITY, greater);
        if kind != Kind::Probs {
            self.refer_to::<FUSED>(by, top);
        }
        let mut rests = self.rests;
        if kind == Kind::Probs {
            // The largest of each column but the one that is that of all.
            let first = self.tops.iter().position(|&x| x == top);
            for (lane, (rest, &top)) in rests.iter_mut().zip(&self.tops).enumerate() {
                *rest += if Some(lane) == first { 0.0 } else { greater(top, 0.0) };
            }
        }
        let rest = tree_sum(rests);
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
        let (mut columns, mut differences) = ([Columns::NONE; 2], [0.0; LANES]);
        for bins in windows(bins) {
            window.show(numbers, reading, row, bins);
            let sides = window.sides();
            for side in 0..2 {
                columns[side].see::<FUSED>(reading.kinds[side], reading.by[side], sides[side]);
            }
            if reading.is_probs() {
                add_differences(&mut differences, sides, [1.0; 2]);
            }
        }
        // Without a closure, which would not be compiled for the vector unit at hand.
        let ([p, q], Reading { kinds, by, .. }) = (columns, *reading);
        let sides = [p.folded::<FUSED>(kinds[0], by[0]), q.folded::<FUSED>(kinds[1], by[1])];
        Look { sides, difference: tree_sum(differences) }
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

/// Adds `p·a − q·b` of some bins by columns.
#[inline(always)]
fn add_differences(sums: &mut Vector, [p, q]: [&[f64]; 2], by: [f64; 2]) {
    for (p, q) in p.as_chunks::<LANES>().0.iter().zip(q.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += p[lane] * by[0] - q[lane] * by[1];
        }
    }
}

/// `Σ (p·a − q·b)` of a row of probabilities.
#[inline(always)]
fn difference(numbers: &dyn Numbers, reading: &Reading, row: usize, by: [f64; 2]) -> f64 {
    let (mut sums, mut window) = ([0.0; LANES], Window::new());
    for bins in windows(0..numbers.bins()) {
        window.show(numbers, reading, row, bins);
        add_differences(&mut sums, window.sides(), by);
    }
    tree_sum(sums)
}

/// What makes distributions of the bins of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub reading: Reading,
    /// Of probabilities: exact factors that bring the masses next to each other, and what brings numbers to
    /// probabilities in units then.
    pub by: [f64; 2],
    pub per: [f64; 2],
    /// `(P − Q)/(P + Q)`, and what brings differences to the units.
    pub delta: f64,
    pub per_mass: f64,
    /// Of logarithms that are divided by their mass: the largest number, and the logarithm of the mass in units of
    /// what that stands for. Apart, so that what is added to all logarithms of a side goes before anything
    /// is rounded, and that the logarithm of a probability next to 1 has its digits.
    pub tops: [f64; 2],
    pub ln_beyond: [f64; 2],
    /// Of probabilities: what their logarithms are made of, and how they are, where somebody is sure to ask.
    looks: [SideLook; 2],
    masses: [f64; 2],
    logs: [Option<LogsOfProbs>; 2],
}

/// How the logarithms of a side's probabilities are made: that of the largest from what is beyond it, all others from
/// the probability itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogsOfProbs {
    top: f64,
    ln_beyond: f64,
    /// The logarithm of what brings a number to its probability.
    ln_per_mass: f64,
}

impl LogsOfProbs {
    /// Those of numbers that are probabilities already.
    const AS_GIVEN: LogsOfProbs = LogsOfProbs { top: 0.0, ln_beyond: 0.0, ln_per_mass: 0.0 };

    fn new(look: SideLook, by: f64, mass: f64) -> LogsOfProbs {
        let SideLook { rest, top, .. } = look;
        let ln_beyond = match rest.is_finite() {
            true => (rest / top).ln_1p(),
            false => (mass / (top * by)).ln(),
        };
        LogsOfProbs { top, ln_beyond, ln_per_mass: by.ln() - mass.ln() }
    }

    /// The logarithm of a probability `x`, in units, from the number that it was made of.
    #[inline(always)]
    pub(super) fn ln<const FUSED: bool>(&self, given: f64, x: f64) -> f64 {
        // A quotient too small for a number has its digits in the number that it was made of. Of none it
        // is whatever: nobody looks.
        let is_small = x < FLOOR * UNIT;
        let of = if is_small { given } else { x / UNIT };
        let ln = ln::<FUSED>(of) + if is_small { self.ln_per_mass } else { 0.0 };
        if given == self.top { -self.ln_beyond } else { ln }
    }
}

impl Scale {
    /// From what a look at the whole row found, which is valid and has masses where they are divided by.
    #[inline(always)]
    pub(super) fn new(reading: Reading, look: &Look, numbers: &dyn Numbers, row: usize) -> Scale {
        let mut scale = Scale {
            reading,
            by: [1.0; 2],
            per: [UNIT; 2],
            delta: 0.0,
            per_mass: UNIT,
            tops: [0.0; 2],
            ln_beyond: [0.0; 2],
            looks: look.sides,
            masses: [1.0; 2],
            logs: [None; 2],
        };
        if reading.is_probs() && reading.divided[0] {
            scale.of_probs(look, numbers, row);
        }
        for side in 0..2 {
            match reading.kinds[side] {
                Kind::Probs if !reading.divided[side] => {
                    scale.logs[side] = Some(LogsOfProbs::AS_GIVEN);
                }
                _ if !reading.divided[side] => {}
                Kind::Probs if !reading.is_probs() => {
                    let (by, mass) = in_range(look.sides[side], numbers, side, row);
                    (scale.by[side], scale.per[side]) = (by, UNIT / mass);
                    scale.masses[side] = mass;
                    scale.logs[side] = Some(scale.logs_of_probs(side));
                }
                Kind::Probs if [reading.far == 0.0, reading.needs_ln_q][side] => {
                    scale.logs[side] = Some(scale.logs_of_probs(side));
                }
                Kind::Probs => {}
                _ => {
                    let look = look.sides[side];
                    (scale.tops[side], scale.ln_beyond[side]) = (look.top, look.ln_beyond());
                }
            }
        }
        scale
    }

    /// How the logarithms of the probabilities of a side are made.
    pub(super) fn logs_of_probs(&self, side: usize) -> LogsOfProbs {
        let Scale { looks, by, masses, logs, .. } = self;
        logs[side].unwrap_or_else(|| LogsOfProbs::new(looks[side], by[side], masses[side]))
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
        (self.by, self.masses) = (by, [p_mass, q_mass]);
        self.per = [UNIT / p_mass, UNIT / q_mass];
        self.delta = d / (p_mass + q_mass);
        self.per_mass = (p_mass + q_mass) / (2.0 * p_mass * q_mass) * UNIT;
    }
}

/// Exact factors that bring two masses next to each other, so that differences are exact where they have
/// to be, and the larger of them next to 1, so that small numbers stay numbers: the same for either order of
/// the two. `by` are factors that go before them.
fn next_to_each_other(by: [f64; 2], masses: [f64; 2]) -> [f64; 2] {
    /// What factors of numbers may come to.
    const MOST: i32 = 1000;
    let [p, q] = masses;
    let apart = nearest_power(p.max(q) / p.min(q));
    let down = nearest_power(p.max(q));
    let up = if p > q { [0, apart] } else { [apart, 0] };
    let exponents = up.map(|up| up - down);
    let most = (exponents[0] + nearest_power(by[0])).max(exponents[1] + nearest_power(by[1]));
    exponents.map(|exponent| power_of_2(exponent - (most - MOST).max(0)))
}

/// The exponent of the power of two next to a normal number.
fn nearest_power(x: f64) -> i32 {
    ((x * std::f64::consts::SQRT_2).to_bits() >> 52) as i32 - 1023
}

/// The power of two of an exponent that normal numbers have.
fn power_of_2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl Scale {
    /// The probability of a number of a side, in units where the number is a logarithm, as it is given
    /// where not; none where there is none, which is not where it is too small.
    pub(super) fn probability(&self, window: &Window, side: usize, bin: usize) -> Option<f64> {
        let given = window.sides[side][bin];
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

    /// The logarithms of the probabilities of the numbers in a bin; −inf where there is none.
    pub(super) fn ln_probabilities(
        &self,
        window: &Window,
        logs: &[LogsOfProbs; 2],
        bin: usize,
    ) -> [f64; 2] {
        [0, 1].map(|side| {
            let given = window.sides[side][bin];
            match self.reading.kinds[side] {
                _ if given == self.reading.none[side] => f64::NEG_INFINITY,
                Kind::Probs => {
                    logs[side].ln::<false>(given, given * self.by[side] * self.per[side])
                }
                _ => self.ln(side, given),
            }
        })
    }

    /// The logarithm of the probability that a logarithm of a side stands for.
    #[inline(always)]
    pub(super) fn ln(&self, side: usize, given: f64) -> f64 {
        ((given - self.tops[side]) * self.reading.by[side]).max(LEAST_LN) - self.ln_beyond[side]
    }

    /// What a derivative in a number of a side is of one in its probability, but for the probability
    /// itself where the number is a logarithm.
    pub(super) fn per_number(&self, side: usize) -> f64 {
        match self.reading.kinds[side] {
            // First what is exact, lest the product pass what there are numbers for.
            Kind::Probs => self.by[side] * (self.per[side] / UNIT),
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
        true => power_of_2((-look.sum.log2().round()).clamp(-1000.0, 900.0) as i32),
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

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    fn look(batch: &Batch<'_, f64>, bins: Range<usize>) -> Look {
        Look::at::<false>(batch, &Reading::of(batch), 0, bins, &mut Window::new())
    }

    fn scale(batch: &Batch<'_, f64>) -> Scale {
        let all = look(batch, 0..batch.bins());
        Scale::new(Reading::of(batch), &all, batch, 0)
    }

    /// The logarithms of the probabilities of a side.
    fn ln(batch: &Batch<'_, f64>, side: usize) -> Vec<f64> {
        let (scale, mut window) = (scale(batch), Window::new());
        window.show(batch, &scale.reading, 0, 0..batch.bins());
        let logs = [0, 1].map(|side| scale.logs_of_probs(side));
        let ln = |bin| scale.ln_probabilities(&window, &logs, bin)[side];
        (0..batch.bins()).map(ln).collect()
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

    /// The rest of such a row is brought to the next largest number time and again.
    #[test]
    fn rows_that_rise_keep_their_digits() {
        for step in [2.0_f64.powi(-17), 2.0_f64.powi(-10), 2.0_f64.powi(-7)] {
            let side = Array2::from_shape_fn((1, 60_000), |(_, bin)| bin as f64 * step);
            let batch = Batch::logits(&side, &side).unwrap();
            let made = look(&batch, 0..60_000).sides[0];
            let want = (-59_999.0 * step).exp_m1() / (-step).exp_m1() * (-step).exp();
            assert_eq!(made.sum, 1.0);
            assert_close(made.rest, want, 2e-15);
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
}
