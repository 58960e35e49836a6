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

use crate::batch::{Batch, Mass};
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::integrand::{Bin, UNIT, exp_of, ln_ratio};
use crate::kind::Kind;
use crate::term::{exp, exp_tail, ln};

/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
pub(super) const LANES: usize = 16;
/// Vectors of columns in a block, which fits into the nearest cache.
pub(super) const VECTORS: usize = 16;
/// Bins of one block.
pub(super) const BLOCK: usize = LANES * VECTORS;
/// What stands for a probability where there is none.
const FLOOR: f64 = 1.0020841800044864e-292; // 2^-970
/// Its logarithm: anything whose exponential is 0.
const LN_FLOOR: f64 = -1000.0;

type Vector = [f64; LANES];

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

    fn is_probs(&self) -> bool {
        self.kinds == [Kind::Probs; 2]
    }

    /// What the numbers of a side are.
    pub(super) fn kind(&self, side: usize) -> Kind {
        self.kinds[side]
    }

    /// Whether a side is divided by its mass.
    pub(super) fn divides(&self, side: usize) -> bool {
        self.divided[side]
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
        let row = self.row(side, row);
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
fn windows(bins: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = bins.end;
    bins.step_by(BLOCK).map(move |first| first..(first + BLOCK).min(end))
}

/// What one look at some bins of a row finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    sides: [SideLook; 2],
    /// `Σ (p − q)` of probabilities on both sides.
    difference: f64,
}

/// The same of one side: `Σ x`, or `Σ e^(x − top)` of logarithms.
#[derive(Clone, Copy, Debug)]
struct SideLook {
    sum: f64,
    /// The largest number.
    top: f64,
    invalid: bool,
}

impl Default for SideLook {
    fn default() -> SideLook {
        SideLook { sum: 0.0, top: f64::NEG_INFINITY, invalid: false }
    }
}

/// The same by columns.
#[derive(Clone, Copy)]
struct Columns {
    sums: Vector,
    tops: Vector,
    invalid: [u64; LANES],
}

impl Columns {
    const NONE: Columns =
        Columns { sums: [0.0; LANES], tops: [f64::NEG_INFINITY; LANES], invalid: [0; LANES] };

    /// `least` is the least number that is one of the side's kind, or would be.
    #[inline(always)]
    fn see(&mut self, values: &Vector, least: f64) {
        for lane in 0..LANES {
            let x = values[lane];
            self.sums[lane] += x;
            self.tops[lane] = if x > self.tops[lane] { x } else { self.tops[lane] };
            self.invalid[lane] |= u64::from(!((x >= least) & (x < f64::INFINITY)));
        }
    }

    fn folded(&self) -> SideLook {
        let top = self.tops.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        SideLook { sum: tree_sum(self.sums), top, invalid: self.invalid != [0; LANES] }
    }
}

impl Look {
    /// Looks at some bins.
    #[inline(always)]
    pub(super) fn at(
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
            let exponentials = exponentials(numbers, reading, row, bins, window, &sides);
            for side in 0..2 {
                if reading.kinds[side] != Kind::Probs {
                    sides[side].top *= reading.by[side];
                    sides[side].sum = tree_sum(exponentials[side]);
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
            let in_units = |look: SideLook| match kind {
                Kind::Probs => look.sum,
                _ if look.sum == 0.0 => 0.0,
                _ => look.sum * exp(look.top - top),
            };
            let sum = in_units(one) + in_units(other);
            self.sides[side] = SideLook { sum, top, invalid: one.invalid | other.invalid };
        }
    }

    /// Whether some bin holds nothing of its side's kind.
    pub(super) fn is_invalid(&self) -> bool {
        self.sides[0].invalid || self.sides[1].invalid
    }

    /// The masses of the two sides; 1 for logits, if not all of them are masked.
    pub(super) fn masses(&self, reading: &Reading) -> [f64; 2] {
        [0, 1].map(|side| {
            let SideLook { sum, top, .. } = self.sides[side];
            match reading.kinds[side] {
                Kind::Probs => sum,
                _ if sum == 0.0 => 0.0,
                Kind::Logits => 1.0,
                // A mass may be too small for a number, and still be one to divide by.
                Kind::LogProbs => (top + sum.ln()).exp().max(f64::MIN_POSITIVE),
            }
        })
    }

    /// Whether the row has a meaning: its numbers do, and neither side is without mass.
    pub(super) fn is_usable(&self, reading: &Reading) -> bool {
        !self.is_invalid() && !self.masses(reading).contains(&0.0)
    }
}

/// `Σ e^(x − top)` of both sides by columns, of which those of probabilities have no meaning.
#[inline(always)]
fn exponentials(
    numbers: &dyn Numbers,
    reading: &Reading,
    row: usize,
    bins: Range<usize>,
    window: &mut Window,
    sides: &[SideLook; 2],
) -> [Vector; 2] {
    // Of masked sides all exponentials are 0.
    let tops = [0, 1].map(|side| sides[side].top.max(f64::MIN) * reading.by[side]);
    let mut sums = [[0.0; LANES]; 2];
    for bins in windows(bins) {
        window.show(numbers, reading, row, bins);
        for side in 0..2 {
            for at in 0..window.vectors {
                for lane in 0..LANES {
                    let x = window.sides[side][at][lane] * reading.by[side] - tops[side];
                    sums[side][lane] += exp(x);
                }
            }
        }
    }
    sums
}

/// `Σ (p·a − q·b)` of a row of probabilities.
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
    /// Of logarithms: those of the masses, and of their ratio.
    ln_masses: [f64; 2],
    ln_ratio: f64,
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
            ln_masses: [0.0; 2],
            ln_ratio: 0.0,
        };
        if reading.is_probs() && reading.divided[0] {
            scale.of_probs(look, numbers, row);
            return scale;
        }
        for side in 0..2 {
            let SideLook { sum, top, .. } = look.sides[side];
            match reading.kinds[side] {
                _ if !reading.divided[side] => {}
                Kind::Probs => {
                    let (by, mass) = in_range(look.sides[side], numbers, side, row);
                    (scale.by[side], scale.masses[side]) = (by, mass / UNIT);
                }
                _ => scale.ln_masses[side] = top + ln(sum),
            }
        }
        scale.ln_ratio = scale.ln_masses[0] - scale.ln_masses[1];
        scale
    }

    #[inline(always)]
    fn of_probs(&mut self, look: &Look, numbers: &dyn Numbers, row: usize) {
        let (p_by, p_mass) = in_range(look.sides[0], numbers, 0, row);
        let (q_by, q_mass) = in_range(look.sides[1], numbers, 1, row);
        // Next to each other, so that the differences are exact where they have to be.
        let octaves = (p_mass / q_mass).log2().round();
        let q_by_more = octaves.exp2();
        let (q_by, q_mass) = (q_by * q_by_more, q_mass * q_by_more);
        let same = p_by == 1.0 && q_by == 1.0;
        let d = match same {
            true => look.difference,
            false => difference(numbers, &self.reading, row, [p_by, q_by]),
        };
        self.by = [p_by, q_by];
        self.masses = [p_mass / UNIT, q_mass / UNIT];
        self.delta = d / (p_mass + q_mass);
        self.per_mass = (p_mass + q_mass) / (2.0 * p_mass * q_mass) * UNIT;
    }
}

impl Scale {
    /// The probability, in units, of a number of a side; none where there is none, which is not where
    /// it is too small.
    pub(super) fn probability(&self, window: &Window, side: usize, bin: usize) -> Option<f64> {
        let given = window.sides[side].as_flattened()[bin];
        match self.reading.kinds[side] {
            Kind::Probs if given > 0.0 => Some(given * self.by[side] / self.masses[side]),
            Kind::Probs => None,
            _ if given == f64::NEG_INFINITY => None,
            _ => Some(exp_of(given * self.reading.by[side] - self.ln_masses[side]) * UNIT),
        }
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
    // The inverse of a subnormal number has no power of two next to it.
    let by = if look.top > 1.0 { 0.5_f64.powi(1000) } else { 2.0_f64.powi(900) };
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
    /// 1 in columns with such bins, else 0: of logarithms a probability may be too small for a number.
    lone: [Vector; 2],
    /// 1 in bins where both have some, else 0.
    both: [Vector; VECTORS],
}

/// Who takes the blocks of a row: a trait, since of closures the compiler makes functions that know of
/// no vector unit.
pub(super) trait Take {
    fn take(&mut self, block: &Block, window: &Window);
}

/// Goes through some bins of a row, block by block.
#[inline(always)]
pub(super) fn each_block<const FUSED: bool>(
    numbers: &dyn Numbers,
    scale: &Scale,
    row: usize,
    bins: Range<usize>,
    space: &mut Space,
    take: &mut impl Take,
) {
    let Space { window, block } = space;
    for bins in windows(bins) {
        window.show(numbers, &scale.reading, row, bins);
        block.fill::<FUSED>(scale, window);
        take.take(block, window);
    }
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
}

impl Block {
    fn new() -> Block {
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
        }
    }

    /// Takes up to `BLOCK` bins.
    #[inline(always)]
    fn fill<const FUSED: bool>(&mut self, scale: &Scale, window: &Window) {
        self.only = [[0.0; LANES]; 2];
        self.lone = self.only;
        for at in 0..window.vectors {
            self.take::<FUSED>(scale, at, &window.sides[0][at], &window.sides[1][at]);
        }
    }

    #[inline(always)]
    fn take<const FUSED: bool>(&mut self, scale: &Scale, at: usize, p: &Vector, q: &Vector) {
        if scale.reading.is_probs() {
            self.take_probs::<FUSED>(scale, at, p, q);
        } else {
            self.take_logs(scale, at, p, q);
        }
    }

    /// Probabilities on both sides.
    #[inline(always)]
    fn take_probs<const FUSED: bool>(&mut self, scale: &Scale, at: usize, p: &Vector, q: &Vector) {
        let (by, masses) = (scale.by, scale.masses);
        for lane in 0..LANES {
            let (x, y) = (p[lane] * by[0], q[lane] * by[1]);
            let n = ((x - y) - scale.delta * (x + y)) * scale.per_mass;
            self.put(at, lane, [x / masses[0], y / masses[1]], n, x > 0.0, y > 0.0);
        }
        if scale.reading.needs_l {
            for lane in 0..LANES {
                let (p, q, n) = (self.p[at][lane], self.q[at][lane], self.n[at][lane]);
                self.l[at][lane] = ln_ratio::<FUSED>(p, q, n);
            }
        }
        if scale.reading.needs_logs {
            for lane in 0..LANES {
                let x = p[lane] * by[0] / masses[0];
                let (ln_p, ln_q) = (ln(x / UNIT), ln(self.q[at][lane] / UNIT));
                self.put_logs(at, lane, x, ln_p, ln_q);
            }
        }
    }

    /// Logarithms on at least one side.
    #[inline(always)]
    fn take_logs(&mut self, scale: &Scale, at: usize, p: &Vector, q: &Vector) {
        let (p_side, q_side) = (LogSide::of(scale, 0, p), LogSide::of(scale, 1, q));
        let both_logits = scale.reading.kinds == [Kind::Logits; 2];
        let mixed = scale.reading.kinds.contains(&Kind::Probs);
        for lane in 0..LANES {
            let both = p_side.on[lane] & q_side.on[lane];
            let apart = if both_logits {
                (p[lane] - q[lane]) * scale.reading.by[0]
            } else {
                p_side.given[lane] - q_side.given[lane]
            };
            let l = if mixed { p_side.ln[lane] - q_side.ln[lane] } else { apart - scale.ln_ratio };
            let l = if both { l } else { 0.0 };
            let (x, y) = (p_side.x[lane], q_side.x[lane]);
            let near = l.abs() <= 1.0;
            let size = if near { l.abs() } else { 0.0 };
            let expm1 = size + exp_tail(size);
            let tanh = expm1 / (expm1 + 2.0);
            let n = if near { (x + y) * if l < 0.0 { -tanh } else { tanh } } else { x - y };
            self.put(at, lane, [x, y], n, p_side.on[lane], q_side.on[lane]);
            self.l[at][lane] = l;
            self.put_logs(at, lane, x, p_side.ln[lane], q_side.ln[lane]);
        }
    }

    #[inline(always)]
    fn put(&mut self, at: usize, lane: usize, [x, y]: [f64; 2], n: f64, p_on: bool, q_on: bool) {
        let both = p_on & q_on;
        self.p[at][lane] = if both & (x > FLOOR) { x } else { FLOOR };
        self.q[at][lane] = if both & (y > FLOOR) { y } else { FLOOR };
        self.n[at][lane] = if both { n } else { 0.0 };
        self.both[at][lane] = if both { 1.0 } else { 0.0 };
        self.only[0][lane] += if p_on & !q_on { x } else { 0.0 };
        self.only[1][lane] += if q_on & !p_on { y } else { 0.0 };
        self.lone[0][lane] = if p_on & !q_on { 1.0 } else { self.lone[0][lane] };
        self.lone[1][lane] = if q_on & !p_on { 1.0 } else { self.lone[1][lane] };
    }

    #[inline(always)]
    fn put_logs(&mut self, at: usize, lane: usize, x: f64, ln_p: f64, ln_q: f64) {
        let both = self.both[at][lane] == 1.0;
        self.ln_p[at][lane] = if both { ln_p } else { LN_FLOOR };
        self.entropy[at][lane] = if x > 0.0 { -(x * ln_p) } else { 0.0 };
        self.cross[at][lane] = if both { -(x * ln_q) } else { 0.0 };
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

    /// `−p·ln p` of a vector, in units.
    #[inline(always)]
    pub(super) fn entropy(&self, at: usize) -> &Vector {
        &self.entropy[at]
    }

    /// `−p·ln q` of a vector, in units.
    #[inline(always)]
    pub(super) fn cross(&self, at: usize) -> &Vector {
        &self.cross[at]
    }

    /// 1 in the lanes of a vector in which both sides have a probability.
    #[inline(always)]
    pub(super) fn both(&self, at: usize) -> &Vector {
        &self.both[at]
    }

    /// The probabilities that only one side has, in units, by columns.
    #[inline(always)]
    pub(super) fn only(&self) -> &[Vector; 2] {
        &self.only
    }

    /// 1 in the columns in which some bin has them, else 0.
    #[inline(always)]
    pub(super) fn lone(&self) -> &[Vector; 2] {
        &self.lone
    }
}

/// A vector of one side of a row of which some side is logarithms.
struct LogSide {
    /// The logarithms before they are divided by the mass, those after it, and the probabilities in
    /// units.
    given: Vector,
    ln: Vector,
    x: Vector,
    on: [bool; LANES],
}

impl LogSide {
    #[inline(always)]
    fn of(scale: &Scale, side: usize, values: &Vector) -> LogSide {
        let none = [0.0; LANES];
        let mut made = LogSide { given: none, ln: none, x: none, on: [false; LANES] };
        if scale.reading.kinds[side] == Kind::Probs {
            for lane in 0..LANES {
                let x = values[lane] * scale.by[side] / scale.masses[side];
                let on = values[lane] > 0.0;
                let ln = ln(if on { x / UNIT } else { 1.0 });
                (made.given[lane], made.ln[lane]) = (ln, ln);
                (made.x[lane], made.on[lane]) = (if on { x } else { 0.0 }, on);
            }
            return made;
        }
        let by = scale.reading.by[side];
        for lane in 0..LANES {
            let on = values[lane] > f64::NEG_INFINITY;
            let given = if on { values[lane] * by } else { 0.0 };
            let ln = given - scale.ln_masses[side];
            (made.given[lane], made.ln[lane], made.on[lane]) = (given, ln, on);
            made.x[lane] = if on { exp_of(ln) * UNIT } else { 0.0 };
        }
        made
    }
}
