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
const VECTORS: usize = 16;
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
    per_temperature: f64,
    /// Whether a side is divided by its mass.
    divided: [bool; 2],
    /// Whether somebody asks for `ln(p/q)`, and for `ln p` and `ln q`.
    needs_l: bool,
    needs_logs: bool,
}

impl Reading {
    pub(super) fn of<T: Element>(batch: &Batch<'_, T>, needs_l: bool, needs_logs: bool) -> Reading {
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        let policy = matches!(batch.mass(), Mass::Check | Mass::Normalize);
        Reading {
            kinds,
            per_temperature: 1.0 / batch.temperature(),
            divided: kinds.map(|kind| policy || kind == Kind::Logits),
            needs_l,
            needs_logs,
        }
    }

    /// The same for one who asks for all logarithms.
    pub(super) fn with_logs(self) -> Reading {
        Reading { needs_l: true, needs_logs: true, ..self }
    }

    fn is_probs(&self) -> bool {
        self.kinds == [Kind::Probs; 2]
    }
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

impl Look {
    /// Looks at some bins.
    #[inline(always)]
    pub(super) fn at<T: Element>(reading: &Reading, p: &[T], q: &[T]) -> Look {
        let sides = [0, 1].map(|side| match reading.kinds[side] {
            Kind::Probs => SideLook::at_probs([p, q][side]),
            Kind::LogProbs => SideLook::at_logs([p, q][side], 1.0),
            Kind::Logits => SideLook::at_logs([p, q][side], reading.per_temperature),
        });
        let difference = if reading.is_probs() { difference(p, q, [1.0; 2]) } else { 0.0 };
        Look { sides, difference }
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
}

impl SideLook {
    #[inline(always)]
    fn at_probs<T: Element>(side: &[T]) -> SideLook {
        let (mut sums, mut tops) = ([0.0; LANES], [0.0; LANES]);
        let mut valid = [true; LANES];
        let mut see = |values: &Vector| {
            for lane in 0..LANES {
                let x = values[lane];
                sums[lane] += x;
                tops[lane] = if x > tops[lane] { x } else { tops[lane] };
                valid[lane] &= (x >= 0.0) & (x < f64::INFINITY);
            }
        };
        let (vectors, rest) = side.as_chunks();
        for vector in vectors {
            see(&widen(vector, 1.0));
        }
        if !rest.is_empty() {
            see(&filled_up(rest, 0.0, 1.0));
        }
        let invalid = valid.contains(&false);
        SideLook { sum: tree_sum(sums), top: largest(&tops), invalid }
    }

    #[inline(always)]
    fn at_logs<T: Element>(side: &[T], by: f64) -> SideLook {
        let mut tops = [f64::NEG_INFINITY; LANES];
        let mut valid = [true; LANES];
        let (vectors, rest) = side.as_chunks();
        let mut see = |values: &Vector| {
            for lane in 0..LANES {
                let x = values[lane];
                tops[lane] = if x > tops[lane] { x } else { tops[lane] };
                valid[lane] &= x < f64::INFINITY;
            }
        };
        for vector in vectors {
            see(&widen(vector, by));
        }
        if !rest.is_empty() {
            see(&filled_up(rest, f64::NEG_INFINITY, by));
        }
        let (top, invalid) = (largest(&tops), valid.contains(&false));
        let mut sums = [0.0; LANES];
        if top > f64::NEG_INFINITY {
            let mut add = |values: &Vector| {
                for lane in 0..LANES {
                    sums[lane] += exp(values[lane] - top);
                }
            };
            for vector in vectors {
                add(&widen(vector, by));
            }
            if !rest.is_empty() {
                add(&filled_up(rest, f64::NEG_INFINITY, by));
            }
        }
        SideLook { sum: tree_sum(sums), top, invalid }
    }
}

/// `Σ (p − q)` of probabilities in other units.
#[inline(always)]
fn difference<T: Element>(p: &[T], q: &[T], by: [f64; 2]) -> f64 {
    let mut sums = [0.0; LANES];
    let mut add = |p: &Vector, q: &Vector| {
        for lane in 0..LANES {
            sums[lane] += p[lane] - q[lane];
        }
    };
    let ((p, p_rest), (q, q_rest)) = (p.as_chunks(), q.as_chunks());
    for (p, q) in p.iter().zip(q) {
        add(&widen(p, by[0]), &widen(q, by[1]));
    }
    if !p_rest.is_empty() {
        add(&filled_up(p_rest, 0.0, by[0]), &filled_up(q_rest, 0.0, by[1]));
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
    pub(super) fn new<T: Element>(reading: Reading, look: &Look, p: &[T], q: &[T]) -> Scale {
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
            scale.of_probs(look, p, q);
            return scale;
        }
        for side in 0..2 {
            let SideLook { sum, top, .. } = look.sides[side];
            match reading.kinds[side] {
                _ if !reading.divided[side] => {}
                Kind::Probs => {
                    let (by, mass) = in_range(sum, top, [p, q][side]);
                    (scale.by[side], scale.masses[side]) = (by, mass / UNIT);
                }
                _ => scale.ln_masses[side] = top + ln(sum),
            }
        }
        scale.ln_ratio = scale.ln_masses[0] - scale.ln_masses[1];
        scale
    }

    fn of_probs<T: Element>(&mut self, look: &Look, p: &[T], q: &[T]) {
        let [(p_by, p_mass), (q_by, q_mass)] =
            [(0, p), (1, q)].map(|(at, side)| in_range(look.sides[at].sum, look.sides[at].top, side));
        // Next to each other, so that the differences are exact where they have to be.
        let octaves = (p_mass / q_mass).log2().round();
        let q_by_more = octaves.exp2();
        let (q_by, q_mass) = (q_by * q_by_more, q_mass * q_by_more);
        let same = p_by == 1.0 && q_by == 1.0;
        let d = if same { look.difference } else { difference(p, q, [p_by, q_by]) };
        self.by = [p_by, q_by];
        self.masses = [p_mass / UNIT, q_mass / UNIT];
        self.delta = d / (p_mass + q_mass);
        self.per_mass = (p_mass + q_mass) / (2.0 * p_mass * q_mass) * UNIT;
    }
}

/// A power of two that brings a side's mass into the middle of the range, and the mass it has then.
fn in_range<T: Element>(sum: f64, top: f64, side: &[T]) -> (f64, f64) {
    const MOST: f64 = 1e150;
    if (1.0 / MOST..MOST).contains(&sum) {
        return (1.0, sum);
    }
    // Two steps: the inverse of a subnormal number has no power of two next to it.
    let by = if top > 1.0 { (0.5_f64).powi(1000) } else { (2.0_f64).powi(900) };
    (by, side.iter().map(|x| x.to_f64() * by).sum())
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
        }
    }

    /// Takes up to `BLOCK` bins; returns how many vectors they fill.
    #[inline(always)]
    pub(super) fn fill<T: Element, const FUSED: bool>(
        &mut self,
        scale: &Scale,
        p: &[T],
        q: &[T],
    ) -> usize {
        self.only = [[0.0; LANES]; 2];
        self.lone = self.only;
        let [p_none, q_none] = scale.reading.kinds.map(|kind| match kind {
            Kind::Probs => 0.0,
            Kind::LogProbs | Kind::Logits => f64::NEG_INFINITY,
        });
        let ((p, p_rest), (q, q_rest)) = (p.as_chunks(), q.as_chunks());
        for (at, (p, q)) in p.iter().zip(q).enumerate() {
            self.take::<FUSED>(scale, at, &widen(p, 1.0), &widen(q, 1.0));
        }
        if p_rest.is_empty() {
            return p.len();
        }
        let (p_rest, q_rest) = (filled_up(p_rest, p_none, 1.0), filled_up(q_rest, q_none, 1.0));
        self.take::<FUSED>(scale, p.len(), &p_rest, &q_rest);
        p.len() + 1
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
                (p[lane] - q[lane]) * scale.reading.per_temperature
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
        let is_logits = scale.reading.kinds[side] == Kind::Logits;
        let by = if is_logits { scale.reading.per_temperature } else { 1.0 };
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

#[inline(always)]
fn widen<T: Element>(values: &[T; LANES], by: f64) -> Vector {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = values[lane].to_f64() * by;
    }
    wide
}

/// The last bins of a row, and what stands for none.
#[inline(always)]
fn filled_up<T: Element>(rest: &[T], none: f64, by: f64) -> Vector {
    let mut vector = [none; LANES];
    for (to, x) in vector.iter_mut().zip(rest) {
        *to = x.to_f64() * by;
    }
    vector
}

#[inline(always)]
fn largest(values: &Vector) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
