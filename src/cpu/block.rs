//! Some bins of a row as two distributions, in f64: what the terms of every divergence are made of.
//!
//! Each step goes through all bins of a block, from arrays in the nearest cache into arrays there. Such loops the
//! compiler makes vectors of that stay in registers; of one loop in which a bin goes all its way it does not.

use std::ops::Range;

use super::bins::{BLOCK, LANES, LEAST_LN, Numbers, Reading, Scale, Values, Vector, Window};
use super::distribution::Distribution;
use crate::integrand::{Bin, FLOOR, UNIT, exp_of, ln_ratio};
use crate::kind::Kind;
use crate::term::{difference_in_two, greater, lesser, mul_add_f64};

/// What stands for the logarithm of none, where terms look at it: its exponential is 0.
const LN_FLOOR: f64 = -1000.0;

/// Up to `BLOCK` bins of a row, and what fills them up to whole vectors.
pub(super) struct Block {
    len: usize,
    /// The probabilities of the two sides, in units, and their logarithms, where somebody asks for them.
    x: [Values; 2],
    ln: [Values; 2],
    /// What terms are made of, in bins in which both sides have a probability; that may be too small for a number.
    /// In all others it is such that most terms come to nothing.
    p: Values,
    q: Values,
    n: Values,
    l: Values,
    ln_p: Values,
    /// 1 in those bins, else 0.
    both: Values,
    /// The probabilities in bins of one side alone, by columns, in units.
    only: [Vector; 2],
    /// Whether there are such bins, and any of both.
    supports: [bool; 3],
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
        block.fill::<FUSED>(scale, window.sides());
        (block, window)
    }
}

impl Block {
    pub(super) fn new() -> Block {
        let none = [0.0; BLOCK];
        Block {
            len: 0,
            x: [none; 2],
            ln: [none; 2],
            p: none,
            q: none,
            n: none,
            l: none,
            ln_p: none,
            both: none,
            only: [[0.0; LANES]; 2],
            supports: [false; 3],
        }
    }

    /// Takes up to `BLOCK` bins, in whole vectors.
    #[inline(always)]
    fn fill<const FUSED: bool>(&mut self, scale: &Scale, given: [&[f64]; 2]) {
        let reading = &scale.reading;
        self.len = given[0].len();
        if reading.is_probs() {
            self.take_probs::<FUSED>(scale, given);
            let some_small = self.put(given, reading.none);
            self.put_ratios::<FUSED>(scale, given, some_small);
        } else {
            self.take_logs::<FUSED>(scale, given);
            self.put(given, reading.none);
            self.put_ln_p_for(reading);
        }
    }

    /// Probabilities on both sides, and their differences.
    #[inline(always)]
    fn take_probs<const FUSED: bool>(&mut self, scale: &Scale, given: [&[f64]; 2]) {
        let Scale { by, per, delta, per_mass, .. } = *scale;
        let Block { len, x: [x, y], n, .. } = self;
        let [p, q] = given.map(|side| &side[..*len]);
        let [x, y, n] = [x, y, n].map(|values| &mut values[..*len]);
        for bin in 0..*len {
            let (a, b) = (p[bin] * by[0], q[bin] * by[1]);
            // With what rounding takes from the sum and the product: next to equality nothing else is left.
            let (both, lost) = difference_in_two(a, -b);
            let apart = mul_add_f64::<FUSED>(-delta, both, a - b);
            n[bin] = (apart - delta * lost) * per_mass;
        }
        for bin in 0..*len {
            (x[bin], y[bin]) = (p[bin] * by[0] * per[0], q[bin] * by[1] * per[1]);
        }
    }

    /// Logarithms on at least one side.
    #[inline(always)]
    fn take_logs<const FUSED: bool>(&mut self, scale: &Scale, given: [&[f64]; 2]) {
        self.take_side::<FUSED>(scale, 0, given[0]);
        self.take_side::<FUSED>(scale, 1, given[1]);
        self.take_ratios(scale, given);
        let Block { len, x: [x, y], n, l, .. } = self;
        let ([x, y, l], n) = ([x, y, l].map(|values| &values[..*len]), &mut n[..*len]);
        for bin in 0..*len {
            n[bin] = difference_of::<FUSED>([x[bin], y[bin]], l[bin]);
        }
    }

    /// Probabilities of a side, and their logarithms.
    #[inline(always)]
    fn take_side<const FUSED: bool>(&mut self, scale: &Scale, side: usize, given: &[f64]) {
        let Block { len, x, ln, .. } = self;
        let (given, x) = (&given[..*len], &mut x[side][..*len]);
        if scale.reading.kinds[side] == Kind::Probs {
            for bin in 0..*len {
                x[bin] = given[bin] * scale.by[side] * scale.per[side];
            }
            return self.put_logs::<FUSED>(scale, side, given);
        }
        let ln = &mut ln[side][..*len];
        let scale = *scale;
        for bin in 0..*len {
            // Of −inf it is so far down that the exponential is 0.
            ln[bin] = scale.ln(side, given[bin]);
        }
        for bin in 0..*len {
            x[bin] = exp_of::<FUSED>(ln[bin]) * UNIT;
        }
    }

    /// `l` where logarithms are given, which keep digits that those of probabilities have lost.
    #[inline(always)]
    fn take_ratios(&mut self, scale: &Scale, given: [&[f64]; 2]) {
        let Reading { kinds, by, none, .. } = scale.reading;
        let Block { len, l, ln, .. } = self;
        let ([p, q], l) = (given.map(|side| &side[..*len]), &mut l[..*len]);
        let [p_top, q_top] = scale.tops;
        let ln_ratio = scale.ln_beyond[0] - scale.ln_beyond[1];
        if kinds.contains(&Kind::Probs) {
            let [ln_p, ln_q] = ln.each_ref().map(|side| &side[..*len]);
            for bin in 0..*len {
                l[bin] = ln_p[bin] - ln_q[bin];
            }
        } else if by[0] == by[1] {
            // One temperature divides their differences.
            let (tops_apart, tops_lost) = difference_in_two(p_top, q_top);
            for bin in 0..*len {
                let (apart, lost) = difference_in_two(p[bin], q[bin]);
                l[bin] = ((apart - tops_apart) + (lost - tops_lost)) * by[0] - ln_ratio;
            }
        } else {
            for bin in 0..*len {
                l[bin] = (p[bin] - p_top) * by[0] - (q[bin] - q_top) * by[1] - ln_ratio;
            }
        }
        for bin in 0..*len {
            let both = (p[bin] > none[0]) & (q[bin] > none[1]);
            let within = lesser(greater(l[bin], LEAST_LN), -LEAST_LN);
            l[bin] = if both { within } else { 0.0 };
        }
    }

    /// Tells bins in which both sides have a probability from others; returns whether some has one that is too small
    /// for a number. What is `given` is above `none` where there is a probability, whatever its factor makes of it.
    #[inline(always)]
    fn put(&mut self, given: [&[f64]; 2], none: [f64; 2]) -> bool {
        let Block { len, x: [x, y], p, q, n, both, .. } = self;
        let [of_p, of_q] = given.map(|side| &side[..*len]);
        let [x, y] = [x, y].map(|values| &values[..*len]);
        let [p, q, n, both] = [p, q, n, both].map(|values| &mut values[..*len]);
        let (mut p_alone, mut q_alone, mut some_both, mut some_small) =
            (0_u64, 0_u64, 0_u64, 0_u64);
        for bin in 0..*len {
            let (on_p, on_q) = (of_p[bin] > none[0], of_q[bin] > none[1]);
            let some = on_p & on_q;
            p[bin] = if some { greater(x[bin], FLOOR) } else { FLOOR };
            q[bin] = if some { greater(y[bin], FLOOR) } else { FLOOR };
            both[bin] = if some { 1.0 } else { 0.0 };
            // No choice between it and 0, which would be put in place under a mask: many vector units are slow at that.
            // (Where it is no number, neither is the value.)
            n[bin] *= both[bin];
            p_alone |= u64::from(on_p & !on_q);
            q_alone |= u64::from(on_q & !on_p);
            some_both |= u64::from(some);
            some_small |= u64::from(some & (lesser(x[bin], y[bin]) <= FLOOR));
        }
        self.supports = [p_alone, q_alone, some_both].map(|some| some != 0);
        self.only = [[0.0; LANES]; 2];
        if self.supports[0] | self.supports[1] {
            self.put_only(given, none);
        }
        some_small != 0
    }

    /// Sums the probabilities in bins of one side alone.
    #[inline(always)]
    fn put_only(&mut self, given: [&[f64]; 2], none: [f64; 2]) {
        for side in 0..2 {
            let other = &given[1 - side][..self.len];
            let mut sums = [0.0; LANES];
            for (x, other) in
                self.x[side].as_chunks::<LANES>().0.iter().zip(other.as_chunks::<LANES>().0)
            {
                for lane in 0..LANES {
                    sums[lane] += if other[lane] > none[1 - side] { 0.0 } else { x[lane] };
                }
            }
            self.only[side] = sums;
        }
    }

    /// `l` of probabilities, and their logarithms, if somebody asks.
    #[inline(always)]
    fn put_ratios<const FUSED: bool>(
        &mut self,
        scale: &Scale,
        given: [&[f64]; 2],
        some_small: bool,
    ) {
        let Reading { needs_l, needs_ln_q, far, .. } = scale.reading;
        let Block { len, p, q, n, l, .. } = self;
        let ([p, q, n], l) = ([p, q, n].map(|values| &values[..*len]), &mut l[..*len]);
        let mut some_far = u64::from(far == 0.0);
        if needs_l {
            for bin in 0..*len {
                l[bin] = ln_ratio::<FUSED>(p[bin], q[bin], n[bin]);
                some_far |= u64::from(l[bin].abs() >= far);
            }
        } else {
            l.fill(0.0);
        }
        let is_small_asked = some_small && (needs_l || far < f64::INFINITY);
        if is_small_asked {
            self.put_small(scale, given);
        }
        if needs_ln_q {
            self.put_logs::<FUSED>(scale, 1, given[1]);
        }
        if some_far != 0 || is_small_asked {
            self.put_logs::<FUSED>(scale, 0, given[0]);
            self.put_ln_p();
        } else {
            self.ln_p[..self.len].fill(LN_FLOOR);
        }
    }

    /// The logarithms of ratios of probabilities of which one is too small for a number.
    #[cold]
    #[inline(never)]
    fn put_small(&mut self, scale: &Scale, given: [&[f64]; 2]) {
        let logs = [0, 1].map(|side| scale.logs_of_probs(side));
        for bin in (0..self.len).filter(|&bin| self.both[bin] == 1.0) {
            if self.x[0][bin].min(self.x[1][bin]) < FLOOR {
                let ln = |side: usize| logs[side].ln::<false>(given[side][bin], self.x[side][bin]);
                self.l[bin] = ln(0) - ln(1);
            }
        }
    }

    /// The logarithms of the probabilities of a side, from the numbers that they were made of.
    #[inline(always)]
    fn put_logs<const FUSED: bool>(&mut self, scale: &Scale, side: usize, given: &[f64]) {
        let Block { len, x, ln, .. } = self;
        let (given, x, ln) = (&given[..*len], &x[side][..*len], &mut ln[side][..*len]);
        let logs = scale.logs_of_probs(side);
        for bin in 0..*len {
            ln[bin] = logs.ln::<FUSED>(given[bin], x[bin]);
        }
    }

    /// `ln p`, if somebody looks at it.
    #[inline(always)]
    fn put_ln_p_for(&mut self, reading: &Reading) {
        if reading.far < f64::INFINITY {
            self.put_ln_p();
        }
    }

    #[inline(always)]
    fn put_ln_p(&mut self) {
        let Block { len, ln: [ln, _], ln_p, both, .. } = self;
        let ([ln, both], ln_p) = ([ln, both].map(|values| &values[..*len]), &mut ln_p[..*len]);
        for bin in 0..*len {
            ln_p[bin] = if both[bin] == 1.0 { ln[bin] } else { LN_FLOOR };
        }
    }

    /// Takes up to `BLOCK` bins of two rows that are distributions already.
    #[inline(always)]
    pub(super) fn fill_with<const FUSED: bool>(
        &mut self,
        reading: &Reading,
        sides: [&Distribution; 2],
        bins: Range<usize>,
    ) {
        self.len = bins.len().next_multiple_of(LANES);
        let bins = bins.start..bins.start + self.len;
        for (at, side) in sides.into_iter().enumerate() {
            self.x[at][..self.len].copy_from_slice(&side.x[bins.clone()]);
            self.ln[at][..self.len].copy_from_slice(&side.ln[bins.clone()]);
        }
        let ln = sides.map(|side| &side.ln[bins.clone()]);
        self.take_made::<FUSED>(reading, sides, bins.clone());
        self.put(ln, [f64::NEG_INFINITY; 2]);
        if reading.is_probs() && !reading.needs_l {
            self.l[..self.len].fill(0.0);
        } else if reading.is_probs() {
            self.put_made_ratios::<FUSED>();
        }
        self.put_ln_p_for(reading);
    }

    /// The logarithms of the ratios, and the differences.
    #[inline(always)]
    fn take_made<const FUSED: bool>(
        &mut self,
        reading: &Reading,
        sides: [&Distribution; 2],
        bins: Range<usize>,
    ) {
        let Block { len, x: [x, y], ln: [ln_p, ln_q], n, l, .. } = self;
        let [x, y, ln_p, ln_q] = [x, y, ln_p, ln_q].map(|values| &values[..*len]);
        let [n, l] = [n, l].map(|values| &mut values[..*len]);
        let [p_rest, q_rest] = sides.map(|side| &side.ln_rest[bins.clone()][..*len]);
        for bin in 0..*len {
            let both = lesser(ln_p[bin], ln_q[bin]) > f64::NEG_INFINITY;
            let ratio = (ln_p[bin] - ln_q[bin]) + (p_rest[bin] - q_rest[bin]);
            l[bin] = if both { ratio } else { 0.0 };
        }
        if reading.is_probs() {
            let [x_rest, y_rest] = sides.map(|side| &side.x_rest[bins.clone()][..*len]);
            for bin in 0..*len {
                n[bin] = (x[bin] - y[bin]) + (x_rest[bin] - y_rest[bin]);
            }
        } else {
            for bin in 0..*len {
                n[bin] = difference_of::<FUSED>([x[bin], y[bin]], l[bin]);
            }
        }
    }

    /// The logarithms of the ratios of probabilities: what is too small for a number has its own.
    #[inline(always)]
    fn put_made_ratios<const FUSED: bool>(&mut self) {
        let Block { len, x: [x, y], p, q, n, l, .. } = self;
        let ([x, y], l) = ([x, y].map(|values| &values[..*len]), &mut l[..*len]);
        let [p, q, n] = [p, q, n].map(|values| &values[..*len]);
        for bin in 0..*len {
            let usual = lesser(x[bin], y[bin]) >= FLOOR;
            let ratio = ln_ratio::<FUSED>(p[bin], q[bin], n[bin]);
            l[bin] = if usual { ratio } else { l[bin] };
        }
    }

    /// How many bins it has, with what fills them up to whole vectors.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All its bins.
    #[inline(always)]
    pub(super) fn bins(&self) -> BinsOfBlock<'_> {
        let Block { len, p, q, n, l, ln_p, .. } = self;
        let [p, q, n, l, ln_p] = [p, q, n, l, ln_p].map(|values| &values[..*len]);
        BinsOfBlock { p, q, n, l, ln_p }
    }

    /// `ln(p/q)`.
    #[inline(always)]
    pub(super) fn ln_ratios(&self) -> &[f64] {
        &self.l[..self.len]
    }

    /// The probabilities of a side in bins in which both have some, in units.
    #[inline(always)]
    pub(super) fn probabilities(&self, side: usize) -> &[f64] {
        let of = if side == 0 { &self.p } else { &self.q };
        &of[..self.len]
    }

    /// Whether some of its bins lack a probability.
    #[inline(always)]
    pub(super) fn has_ends(&self) -> bool {
        self.both[..self.len].contains(&0.0)
    }

    /// `−p·ln p`, in units.
    #[inline(always)]
    pub(super) fn put_entropies(&self, into: &mut Values) {
        let (x, ln) = (&self.x[0][..self.len], &self.ln[0][..self.len]);
        let into = &mut into[..self.len];
        for bin in 0..self.len {
            into[bin] = -(x[bin] * if x[bin] > 0.0 { ln[bin] } else { 0.0 });
        }
    }

    /// `−p·ln q` in bins in which both have some, in units.
    #[inline(always)]
    pub(super) fn put_cross_entropies(&self, into: &mut Values) {
        let (x, ln) = (&self.x[0][..self.len], &self.ln[1][..self.len]);
        let (both, into) = (&self.both[..self.len], &mut into[..self.len]);
        for bin in 0..self.len {
            into[bin] = -(x[bin] * if both[bin] == 1.0 { ln[bin] } else { 0.0 });
        }
    }

    /// 1 in bins in which both sides have a probability, else 0.
    #[inline(always)]
    pub(super) fn both(&self) -> &[f64] {
        &self.both[..self.len]
    }

    /// Whether there are bins of P alone, of Q alone, and of both.
    #[inline(always)]
    pub(super) fn supports(&self) -> [bool; 3] {
        self.supports
    }

    /// The probabilities that only one side has, in units, by columns.
    #[inline(always)]
    pub(super) fn only(&self) -> &[Vector; 2] {
        &self.only
    }
}

/// The bins of a block.
#[derive(Clone, Copy)]
pub(super) struct BinsOfBlock<'a> {
    p: &'a [f64],
    q: &'a [f64],
    n: &'a [f64],
    l: &'a [f64],
    ln_p: &'a [f64],
}

impl BinsOfBlock<'_> {
    #[inline(always)]
    pub(super) fn at(&self, bin: usize) -> Bin {
        let BinsOfBlock { p, q, n, l, ln_p } = *self;
        Bin { p: p[bin], q: q[bin], n: n[bin], l: l[bin], ln_p: ln_p[bin] }
    }
}

/// `p − q` from the two, and `l = ln(p/q)`: `(p + q)·tanh(l/2)`, by its continued fraction up to the 13, where that
/// is right to 2e-16. Swapping the two changes the sign alone.
#[inline(always)]
fn difference_of<const FUSED: bool>([p, q]: [f64; 2], l: f64) -> f64 {
    let fma = mul_add_f64::<FUSED>;
    let half = 0.5 * l;
    let z = half * half;
    let over = half * fma(z, fma(z, z + 378.0, 17325.0), 135135.0);
    let under = fma(z, fma(z, fma(z, 28.0, 3150.0), 62370.0), 135135.0);
    let by_tanh = (p + q) * (over / under);
    if l.abs() <= 1.0 { by_tanh } else { p - q }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::super::bins::Look;
    use super::*;
    use crate::batch::{Batch, Mass};

    fn scale(batch: &Batch<'_, f64>) -> Scale {
        let (reading, bins) = (Reading::of(batch), 0..batch.bins());
        let look = Look::at::<false>(batch, &reading, 0, bins, &mut Window::new());
        Scale::new(reading, &look, batch, 0)
    }

    #[test]
    fn ends_are_where_one_of_both_is_none() {
        let has_ends = |p: &Array2<f64>| {
            let q = array![[0.25, 0.25, 0.5]];
            let batch = Batch::probs(p, &q).unwrap();
            let (scale, mut space) = (scale(&batch), Space::new());
            let (block, _) = space.block::<false>(&batch, &scale, 0, 0..3);
            block.has_ends()
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
        let off: Vec<f64> = block.n[..16].iter().zip(&block.p).map(|(n, p)| n / p).collect();
        // All of them by what the masses are rounded by.
        let spread = off.iter().map(|other| (other - off[0]).abs());
        assert!(spread.fold(0.0, f64::max) < 2e-18, "{off:?}");
    }
}
