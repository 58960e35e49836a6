//! Pairs of rows in f32: the sums of a few rows of one side against a few of the other.
//!
//! What a row adds to all its pairs is made once, in f64, and split into an f32 and what that rounds
//! off: so `d = ln q − ln p` keeps its digits where p and q are nearly equal, and no term cancels. The
//! products of reciprocals and probabilities take the place of a division.

#![expect(clippy::needless_range_loop, reason = "several arrays are walked through at a time")]

use std::f32::consts::LN_2;
use std::marker::PhantomData;

use super::distribution::Distribution;
use crate::integrand::UNIT;
use crate::term::mul_add;

/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
const LANES: usize = 16;
/// Vectors that are added one after the other, and as many such chains before f64 takes over.
const CHAIN: usize = 8;
const CHAINS: usize = 2;
/// Rows of P that share what is loaded of a row of Q.
const GROUP: usize = 4;

/// What is kept of `LANES` bins in one respect.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Lanes(Vector);

impl Lanes {
    #[cfg(feature = "gpu")]
    pub(crate) fn get(&self, lane: usize) -> f32 {
        self.0[lane]
    }
}

type Vector = [f32; LANES];

/// A sum over the bins of a pair, of which `N` numbers are kept for each bin of a row.
trait Summed<const N: usize>: Sync {
    /// Adds what each bin comes to.
    fn add<const FUSED: bool>(sums: Vector, p: &[Lanes; N], q: &[Lanes; N]) -> Vector;
}

/// A sum that is the greater part of a divergence, and what it needs of each row.
trait Form<const N: usize>: Summed<N> {
    /// Sums below it owe digits to rounding.
    const LEAST: f64;
    /// What the sum is to be multiplied by.
    const FACTOR: f64;
    /// The same with fewer operations, for pairs so far apart that cancellation does no harm.
    type Far: Summed<N>;
    /// The sums from which on that is as good.
    const FAR_FROM: f64;

    /// What is kept of a probability and its logarithm.
    fn fields(x: f64, ln: f64) -> [f32; N];

    /// Whether f32 can tell what a bin comes to.
    #[inline(always)]
    fn takes(x: f64, ln: f64) -> bool {
        x >= 0.0 && (ln > -1e12 || ln == f64::NEG_INFINITY)
    }
}

/// A sum for which there is a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sum {
    /// `p·ln(p/q) − p + q`
    Kl,
    /// `q·ln(q/p) − q + p`
    ReverseKl,
    /// `(p − q)·ln(p/q)`
    Jeffreys,
    /// That of the Jensen-Shannon divergence, twice
    JensenShannon,
    /// `(√p − √q)²`
    Roots,
    /// `√p·√q`, of what is kept for the former
    #[cfg(feature = "gpu")]
    Overlap,
    /// `|p − q|`
    Variation,
    /// `(p − q)²/q`
    ChiSquared,
    /// `−p·ln q`
    CrossEntropy,
}

/// The sums of some rows of P against some of Q, of what is kept of them, row by row.
type Sums = fn(&[&[Lanes]], &[&[Lanes]], &mut [f64]);

/// What there is to know of a form, whichever it is. What it points at is compiled in this crate: once, and
/// not again for each type of numbers.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    #[cfg(feature = "gpu")]
    pub sum: Sum,
    pub fields: usize,
    pub least: f64,
    pub factor: f64,
    /// What is kept of a row, vector by vector and field by field, and whether it does for its pairs.
    pub keep: fn(Distribution) -> (Vec<Lanes>, bool),
    sums: Sums,
    /// See [`Form::Far`].
    far: Sums,
    far_from: f64,
}

impl Sum {
    pub(crate) fn known(self) -> Known {
        match self {
            Sum::Kl => self.of::<Kl, 3>(),
            Sum::ReverseKl => self.of::<ReverseKl, 3>(),
            Sum::Jeffreys => self.of::<Jeffreys, 4>(),
            Sum::JensenShannon => self.of::<JensenShannon, 4>(),
            Sum::Roots => self.of::<Roots, 2>(),
            // It comes beside the former, of what is kept for it.
            #[cfg(feature = "gpu")]
            Sum::Overlap => self.of::<Roots, 2>(),
            Sum::Variation => self.of::<Variation, 2>(),
            Sum::ChiSquared => self.of::<ChiSquared, 3>(),
            Sum::CrossEntropy => self.of::<CrossEntropy, 2>(),
        }
    }

    fn of<F: Form<N>, const N: usize>(self) -> Known {
        Known {
            #[cfg(feature = "gpu")]
            sum: self,
            fields: N,
            least: F::LEAST,
            factor: F::FACTOR,
            keep: kept::<F, N>,
            sums: sums::<F, N>,
            far: sums::<F::Far, N>,
            far_from: F::FAR_FROM,
        }
    }
}

impl Known {
    /// The sums of all pairs in the manner of those far apart, and of those that are not once more.
    pub(super) fn near_and_far(&self, p: &[&[Lanes]], q: &[&[Lanes]], into: &mut [f64]) {
        (self.far)(p, q, into);
        let (mut near, mut again) = (Vec::new(), Vec::new());
        for (p, into) in p.iter().zip(into.chunks_mut(q.len())) {
            near.clear();
            near.extend((0..q.len()).filter(|&column| into[column] < self.far_from));
            if near.is_empty() {
                continue;
            }
            again.resize(near.len(), 0.0);
            let columns: Vec<_> = near.iter().map(|&column| q[column]).collect();
            (self.sums)(&[p], &columns, &mut again);
            near.iter().zip(&again).for_each(|(&column, &sum)| into[column] = sum);
        }
    }
}

/// What stands for the logarithm of 0.
const LN_NONE: f64 = -1000.0;

/// A number in two parts.
#[inline(always)]
fn split(x: f64) -> [f32; 2] {
    let high = x as f32;
    [high, (x - f64::from(high)) as f32]
}

#[inline(always)]
fn split_ln(ln: f64) -> [f32; 2] {
    split(if ln > f64::NEG_INFINITY { ln } else { LN_NONE })
}

/// `p·ln(p/q) − p + q`.
struct Kl;

/// `(eᵈ − 1 − d)/d²` for `|d| ≤ 1.25`: minimax fit in 40-digit arithmetic, relative error below 2.6e-8.
pub(crate) const EXP_TAIL: [f32; 8] = [
    0.5,
    0.166_666_69,
    0.041_666_925,
    0.008_333_245,
    0.001_388_051,
    0.000_198_480_43,
    2.566_783_6e-5,
    2.781_476e-6,
];

impl Summed<3> for Kl {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, ln_p, ln_p_rest]: &[Lanes; 3],
        [q, ln_q, ln_q_rest]: &[Lanes; 3],
    ) -> Vector {
        for lane in 0..LANES {
            let fma = mul_add::<FUSED>;
            let (p, q) = (p.0[lane], q.0[lane]);
            let d = (ln_q.0[lane] - ln_p.0[lane]) + (ln_q_rest.0[lane] - ln_p_rest.0[lane]);
            let product = p * d;
            let [c0, c1, c2, c3, c4, c5, c6, c7] = EXP_TAIL;
            let tail = fma(fma(fma(fma(c7, d, c6), d, c5), d, c4), d, c3);
            let tail = fma(fma(fma(tail, d, c2), d, c1), d, c0);
            let (near, far) = ((product * d) * tail, (q - p) - product);
            sums[lane] += if d.abs() < 1.25 { near } else { far };
        }
        sums
    }
}

impl Form<3> for Kl {
    const LEAST: f64 = 1e-13;
    const FACTOR: f64 = 1.0;
    type Far = FarKl;
    /// The negative terms of `p·ln(p/q)` come to the total variation at most, since `ln x ≤ x − 1`, and
    /// that is at most `√(D/2)` (Pinsker 1960): so the terms' sizes sum up to less than four times D here.
    const FAR_FROM: f64 = 0.25;

    #[inline(always)]
    fn fields(x: f64, ln: f64) -> [f32; 3] {
        let [high, low] = split_ln(ln);
        [x as f32, high, low]
    }
}

/// `p·ln(p/q)`, the same of rows that have equal masses.
struct FarKl;

impl Summed<3> for FarKl {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, ln_p, ln_p_rest]: &[Lanes; 3],
        [_, ln_q, ln_q_rest]: &[Lanes; 3],
    ) -> Vector {
        for lane in 0..LANES {
            let l = (ln_p.0[lane] - ln_q.0[lane]) + (ln_p_rest.0[lane] - ln_q_rest.0[lane]);
            sums[lane] = mul_add::<FUSED>(p.0[lane], l, sums[lane]);
        }
        sums
    }
}

/// `q·ln(q/p) − q + p`.
struct ReverseKl;

impl Summed<3> for ReverseKl {
    #[inline(always)]
    fn add<const FUSED: bool>(sums: Vector, p: &[Lanes; 3], q: &[Lanes; 3]) -> Vector {
        Kl::add::<FUSED>(sums, q, p)
    }
}

impl Form<3> for ReverseKl {
    const LEAST: f64 = Kl::LEAST;
    const FACTOR: f64 = Kl::FACTOR;
    type Far = FarReverseKl;
    const FAR_FROM: f64 = Kl::FAR_FROM;

    #[inline(always)]
    fn fields(x: f64, ln: f64) -> [f32; 3] {
        Kl::fields(x, ln)
    }
}

/// `q·ln(q/p)`.
struct FarReverseKl;

impl Summed<3> for FarReverseKl {
    #[inline(always)]
    fn add<const FUSED: bool>(sums: Vector, p: &[Lanes; 3], q: &[Lanes; 3]) -> Vector {
        FarKl::add::<FUSED>(sums, q, p)
    }
}

/// `(p − q)·ln(p/q)`.
struct Jeffreys;

impl Summed<4> for Jeffreys {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, p_rest, ln_p, ln_p_rest]: &[Lanes; 4],
        [q, q_rest, ln_q, ln_q_rest]: &[Lanes; 4],
    ) -> Vector {
        for lane in 0..LANES {
            let n = (p.0[lane] - q.0[lane]) + (p_rest.0[lane] - q_rest.0[lane]);
            let l = (ln_p.0[lane] - ln_q.0[lane]) + (ln_p_rest.0[lane] - ln_q_rest.0[lane]);
            sums[lane] = mul_add::<FUSED>(n, l, sums[lane]);
        }
        sums
    }
}

impl Form<4> for Jeffreys {
    const LEAST: f64 = 1e-13;
    const FACTOR: f64 = 1.0;
    type Far = Self;
    const FAR_FROM: f64 = 0.0;

    #[inline(always)]
    fn fields(x: f64, ln: f64) -> [f32; 4] {
        let ([x, x_rest], [ln, ln_rest]) = (split(x), split_ln(ln));
        [x, x_rest, ln, ln_rest]
    }
}

/// Twice the Jensen-Shannon divergence of weight ½.
///
/// With `m = (p + q)/2` and `d = ln q − ln p` a bin adds `2m·k(d/2)`, where
/// `k(y) = y·tanh y − ln cosh y`. Near 0 that is a series in d². Elsewhere, with t the smaller of p/q and
/// q/p, it is `(p + q)·(ln 2 − ln(1 + t)) − min(p, q)·|d|`. One polynomial serves both, of chosen
/// coefficients.
struct JensenShannon;

/// `k(d/2)/d²` in `d²`, up to 1.44; and `−ln(1 + t)/t` in `t`, up to e^−1.2: minimax fits in 40-digit
/// arithmetic, relative error of the bin below 1.4e-7.
pub(crate) const NEAR: [f32; 5] =
    [0.125, -0.015_624_407, 0.001_732_773_7, -0.000_177_764_89, 1.350_019_4e-5];
pub(crate) const FAR: [f32; 5] =
    [-0.999_992_5, 0.499_684_5, -0.328_789_65, 0.219_718_77, -0.098_989_28];

impl Summed<4> for JensenShannon {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, per_p, ln_p, ln_p_rest]: &[Lanes; 4],
        [q, per_q, ln_q, ln_q_rest]: &[Lanes; 4],
    ) -> Vector {
        for lane in 0..LANES {
            let fma = mul_add::<FUSED>;
            let least = |a: f32, b: f32| if a < b { a } else { b };
            let (p, q) = (p.0[lane], q.0[lane]);
            let d = (ln_q.0[lane] - ln_p.0[lane]) + (ln_q_rest.0[lane] - ln_p_rest.0[lane]);
            let z = d * d;
            let near = z < 1.44;
            let u = if near { z } else { least(p * per_q.0[lane], q * per_p.0[lane]) };
            let of = |at: usize| if near { NEAR[at] } else { FAR[at] };
            let w = fma(fma(fma(fma(of(4), u, of(3)), u, of(2)), u, of(1)), u, of(0));
            let w = fma(w, u, if near { 0.0 } else { LN_2 });
            let less = if near { 0.0 } else { least(p, q) };
            sums[lane] = fma(-less, d.abs(), fma(p + q, w, sums[lane]));
        }
        sums
    }
}

impl Form<4> for JensenShannon {
    const LEAST: f64 = 1e-13;
    const FACTOR: f64 = 0.5;
    type Far = Self;
    const FAR_FROM: f64 = 0.0;

    #[inline(always)]
    fn fields(x: f64, ln: f64) -> [f32; 4] {
        let [high, low] = split_ln(ln);
        let some = x > 1e-37;
        [if some { x as f32 } else { 0.0 }, if some { (1.0 / x) as f32 } else { 0.0 }, high, low]
    }
}

/// `(√p − √q)²`.
struct Roots;

impl Summed<2> for Roots {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, p_rest]: &[Lanes; 2],
        [q, q_rest]: &[Lanes; 2],
    ) -> Vector {
        for lane in 0..LANES {
            let n = (p.0[lane] - q.0[lane]) + (p_rest.0[lane] - q_rest.0[lane]);
            sums[lane] = mul_add::<FUSED>(n, n, sums[lane]);
        }
        sums
    }
}

impl Form<2> for Roots {
    const LEAST: f64 = 1e-13;
    const FACTOR: f64 = 2.0;
    type Far = Self;
    const FAR_FROM: f64 = 0.0;

    #[inline(always)]
    fn fields(x: f64, _: f64) -> [f32; 2] {
        split(x.sqrt())
    }
}

/// `√p·√q` of what is kept for [`Roots`].
struct Overlap;

impl Summed<2> for Overlap {
    #[inline(always)]
    fn add<const FUSED: bool>(mut sums: Vector, p: &[Lanes; 2], q: &[Lanes; 2]) -> Vector {
        for lane in 0..LANES {
            sums[lane] = mul_add::<FUSED>(p[0].0[lane], q[0].0[lane], sums[lane]);
        }
        sums
    }
}

/// `|p − q|`.
struct Variation;

impl Summed<2> for Variation {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, p_rest]: &[Lanes; 2],
        [q, q_rest]: &[Lanes; 2],
    ) -> Vector {
        for lane in 0..LANES {
            let n = (p.0[lane] - q.0[lane]) + (p_rest.0[lane] - q_rest.0[lane]);
            sums[lane] += n.abs();
        }
        sums
    }
}

impl Form<2> for Variation {
    const LEAST: f64 = 1e-7;
    const FACTOR: f64 = 0.5;
    type Far = Self;
    const FAR_FROM: f64 = 0.0;

    #[inline(always)]
    fn fields(x: f64, _: f64) -> [f32; 2] {
        split(x)
    }
}

/// `(p − q)²/q`.
struct ChiSquared;

impl Summed<3> for ChiSquared {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, p_rest, _]: &[Lanes; 3],
        [q, q_rest, per_q]: &[Lanes; 3],
    ) -> Vector {
        for lane in 0..LANES {
            let n = (p.0[lane] - q.0[lane]) + (p_rest.0[lane] - q_rest.0[lane]);
            // Where Q has nothing, neither has P, or the pair is infinitely far apart.
            sums[lane] = mul_add::<FUSED>(n, n * per_q.0[lane], sums[lane]);
        }
        sums
    }
}

impl Form<3> for ChiSquared {
    const LEAST: f64 = 1e-13;
    const FACTOR: f64 = 1.0;
    type Far = Self;
    const FAR_FROM: f64 = 0.0;

    #[inline(always)]
    fn fields(x: f64, _: f64) -> [f32; 3] {
        let [high, low] = split(x);
        [high, low, if x > 0.0 { (1.0 / x) as f32 } else { 0.0 }]
    }

    /// What is too small to divide by is a probability all the same.
    #[inline(always)]
    fn takes(x: f64, ln: f64) -> bool {
        x > 0.0 || ln == f64::NEG_INFINITY
    }
}

/// `−p·ln q`.
struct CrossEntropy;

impl Summed<2> for CrossEntropy {
    #[inline(always)]
    fn add<const FUSED: bool>(
        mut sums: Vector,
        [p, _]: &[Lanes; 2],
        [_, ln_q]: &[Lanes; 2],
    ) -> Vector {
        for lane in 0..LANES {
            sums[lane] = mul_add::<FUSED>(-p.0[lane], ln_q.0[lane], sums[lane]);
        }
        sums
    }
}

impl Form<2> for CrossEntropy {
    const LEAST: f64 = 1e-13;
    const FACTOR: f64 = 1.0;
    type Far = Self;
    const FAR_FROM: f64 = 0.0;

    #[inline(always)]
    fn fields(x: f64, ln: f64) -> [f32; 2] {
        [x as f32, split_ln(ln)[0]]
    }
}

/// What is kept of a row, and whether f32 can tell what its bins come to.
fn kept<F: Form<N>, const N: usize>(row: Distribution) -> (Vec<Lanes>, bool) {
    pulp::Arch::new().dispatch(Keep { form: PhantomData::<F>, row: &row })
}

struct Keep<'a, F, const N: usize> {
    form: PhantomData<F>,
    row: &'a Distribution,
}

impl<F: Form<N>, const N: usize> pulp::WithSimd for Keep<'_, F, N> {
    type Output = (Vec<Lanes>, bool);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> (Vec<Lanes>, bool) {
        let (x, ln) = (self.row.x.as_chunks::<LANES>().0, self.row.ln.as_chunks::<LANES>().0);
        let (mut kept, mut takes) = (vec![Lanes([0.0; LANES]); x.len() * N], true);
        for ((kept, x), ln) in kept.as_chunks_mut::<N>().0.iter_mut().zip(x).zip(ln) {
            for lane in 0..LANES {
                let x = x[lane] / UNIT;
                takes &= F::takes(x, ln[lane]);
                let fields = F::fields(x, ln[lane]);
                for field in 0..N {
                    kept[field].0[lane] = fields[field];
                }
            }
        }
        (kept, takes)
    }
}

/// The overlaps of some rows of P with some of Q, of what [`Sum::Roots`] keeps.
pub(super) fn overlaps(p: &[&[Lanes]], q: &[&[Lanes]], into: &mut [f64]) {
    sums::<Overlap, 2>(p, q, into);
}

fn sums<F: Summed<N>, const N: usize>(p: &[&[Lanes]], q: &[&[Lanes]], into: &mut [f64]) {
    pulp::Arch::new().dispatch(Tile { form: PhantomData::<F>, p, q, into });
}

/// Some rows of P against some of Q.
struct Tile<'a, F, const N: usize> {
    form: PhantomData<F>,
    p: &'a [&'a [Lanes]],
    q: &'a [&'a [Lanes]],
    into: &'a mut [f64],
}

impl<F: Summed<N>, const N: usize> pulp::WithSimd for Tile<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.all::<false>() } else { self.all::<true>() }
    }
}

impl<F: Summed<N>, const N: usize> Tile<'_, F, N> {
    #[inline(always)]
    fn all<const FUSED: bool>(self) {
        let Tile { p, q, into, .. } = self;
        let columns = q.len();
        let mut first = 0;
        while first < p.len() {
            let many = p.len() - first >= GROUP;
            for (column, q) in q.iter().enumerate() {
                if many {
                    let group = [p[first], p[first + 1], p[first + 2], p[first + 3]];
                    let sums = group_sums::<F, N, GROUP, FUSED>(group, q);
                    for (at, sum) in sums.into_iter().enumerate() {
                        into[(first + at) * columns + column] = sum;
                    }
                } else {
                    into[first * columns + column] = group_sums::<F, N, 1, FUSED>([p[first]], q)[0];
                }
            }
            first += if many { GROUP } else { 1 };
        }
    }
}

/// The sums of `R` rows of P against one of Q.
#[inline(always)]
fn group_sums<F: Summed<N>, const N: usize, const R: usize, const FUSED: bool>(
    p: [&[Lanes]; R],
    q: &[Lanes],
) -> [f64; R] {
    let q = q.as_chunks::<N>().0;
    let vectors = q.len();
    let mut bins = [q; R];
    for row in 0..R {
        bins[row] = &p[row].as_chunks().0[..vectors];
    }
    let mut sums = [0.0; R];
    for first in (0..vectors).step_by(CHAIN * CHAINS) {
        let mut folds = [[0.0; LANES]; R];
        let end = (first + CHAIN * CHAINS).min(vectors);
        for first in (first..end).step_by(CHAIN) {
            let mut chains = [[0.0; LANES]; R];
            for at in first..(first + CHAIN).min(end) {
                for row in 0..R {
                    chains[row] = F::add::<FUSED>(chains[row], &bins[row][at], &q[at]);
                }
            }
            for row in 0..R {
                folds[row] = halves_added(folds[row], chains[row]);
            }
        }
        for row in 0..R {
            sums[row] += f64::from(lanes_added(folds[row]));
        }
    }
    sums
}

#[inline(always)]
fn halves_added<const W: usize>(one: [f32; W], other: [f32; W]) -> [f32; W] {
    let mut sums = [0.0; W];
    for lane in 0..W {
        sums[lane] = one[lane] + other[lane];
    }
    sums
}

/// The sum of all lanes, halves upon halves.
#[inline(always)]
fn lanes_added(lanes: Vector) -> f32 {
    let half = |from: usize| -> [f32; 8] { *lanes[from..].first_chunk().unwrap_or(&[0.0; 8]) };
    let eight = halves_added(half(0), half(8));
    let four = halves_added(
        [eight[0], eight[1], eight[2], eight[3]],
        [eight[4], eight[5], eight[6], eight[7]],
    );
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::bins::Reading;
    use super::*;
    use crate::batch::Batch;
    use crate::error::Side;

    /// What a form keeps of a row of probabilities.
    fn made(sum: Sum, row: &[f64]) -> Vec<Lanes> {
        let numbers = Array2::from_shape_fn((1, row.len()), |(_, bin)| row[bin]);
        let batch = Batch::probs(&numbers, &numbers).unwrap();
        (sum.known().keep)(Distribution::new(Side::P, row.to_vec(), &Reading::of(&batch))).0
    }

    #[test]
    fn f32_takes_probabilities_that_are_none_or_not_too_small() {
        assert!(Kl::takes(0.5, -0.7) && Kl::takes(0.0, f64::NEG_INFINITY));
        assert!(Kl::takes(0.0, -0.9e12) && !Kl::takes(0.0, -1e12));
        assert!(!Kl::takes(-0.5, -0.7) && !Kl::takes(f64::NAN, -0.7));
    }

    /// Pairs that are not near are summed with fewer operations, and what lacks digits once more: so values
    /// do not tell what of it is wrong.
    #[test]
    fn sums_of_pairs_far_apart_are_right_by_themselves() {
        for bins in [2, 16, 50, 700] {
            let side = |step: usize| -> Vec<f64> {
                let weight = |bin: usize| 1.0 + (bin * step % 31) as f64;
                let mass: f64 = (0..bins).map(weight).sum();
                (0..bins).map(|bin| weight(bin) / mass).collect()
            };
            let (p, q) = (side(7), side(12));
            let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
                p.iter().zip(&q).map(|(&p, &q)| term(p, q)).sum()
            };
            let check = |got: f64, want: f64| {
                assert!((got - want).abs() < 1e-6 * want, "{bins} bins: {got:e}, not {want:e}");
            };
            let of = |sum: Sum, sums: Sums| {
                let mut into = [0.0];
                sums(&[&made(sum, &p)], &[&made(sum, &q)], &mut into);
                into[0]
            };
            let far = |sum: Sum| of(sum, sum.known().far);
            check(far(Sum::Kl), sum(&|p, q| p * (p / q).ln()));
            check(far(Sum::ReverseKl), sum(&|p, q| q * (q / p).ln()));
            let overlap = of(Sum::Roots, overlaps);
            check(overlap, sum(&|p, q| (p * q).sqrt()));
        }
    }
}
