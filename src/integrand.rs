//! The sums over bins that the divergences are made of.
//!
//! Each is an f-divergence in the form `Σ q·f(p/q)` with `f(1) = f'(1) = 0`, whose terms are never
//! negative, so that nothing cancels in any order; the textbook forms differ from it by a multiple of
//! `Σ (p − q)`, which is 0. What a bin adds is formed from `n = p − q` and `l = ln(p/q)`, both of which
//! have all their digits also where p and q are nearly equal. Swapping p and q changes the signs of n
//! and l and nothing else, so that what is symmetric is so in its bits.

use std::f64::consts::LN_2;

use crate::term::{
    TAIL_REACH, atanh_tail, curve_f64, exp, exp_tail, exponent, mul_add_f64, whole_octaves_f64,
};

/// A sum over the bins of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Integrand {
    /// `p·ln(p/q) − p + q`.
    Kl,
    /// `q·ln(q/p) − q + p`.
    ReverseKl,
    /// `(p − q)·ln(p/q)`.
    Jeffreys,
    /// `w·p·ln(p/m) + (1−w)·q·ln(q/m)` with `m = w·p + (1−w)·q`.
    JensenShannon(f64),
    /// `(a·p + (1−a)·q − pᵃ·q¹⁻ᵃ) / (a·(1−a))`, neither of whose limits is asked for.
    Power(f64),
    /// `pᵃ·q¹⁻ᵃ`.
    Overlap(f64),
    /// `q` where p is 0.
    Unmatched,
    /// The largest `ln(p/q)`: a maximum in the place of a sum.
    Largest,
    /// `½·|p − q|`.
    Variation,
    /// `(p − q)²/q`.
    ChiSquared,
    /// `−p·ln q`.
    CrossEntropy,
    /// `−p·ln p`.
    Entropy,
}

/// A bin of two distributions that both have mass in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bin {
    pub p: f64,
    pub q: f64,
    /// `p − q`, with its digits.
    pub n: f64,
    /// `ln(p/q)`, likewise.
    pub l: f64,
    /// `ln p`; only what [needs](Needs::far) it may look at it.
    pub ln_p: f64,
}

impl Bin {
    /// The same with P and Q in each other's place.
    #[inline(always)]
    pub(crate) fn swapped(self) -> Bin {
        Bin { p: self.q, q: self.p, n: -self.n, l: -self.l, ln_p: self.ln_p - self.l }
    }
}

/// Logarithms that terms are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Whether they look at `ln(p/q)`, and at `ln q` by itself.
    pub l: bool,
    pub ln_q: bool,
    /// From which magnitude of `ln(p/q)` on, and where a probability is too small for a number, they look at `ln p`:
    /// 0 if they always do, infinite if never.
    pub far: f64,
}

impl Needs {
    pub(crate) const NONE: Needs = Needs { l: false, ln_q: false, far: f64::INFINITY };

    /// Those of powers of an order, divided by an overlap whose logarithm is this: [`grown`] goes by the logarithm
    /// where an exponent is far off.
    pub(crate) fn of_power(order: f64, ln_overlap: f64) -> Needs {
        let by = if order < 0.5 { order } else { order - 1.0 };
        let far = (MOST_LN - 1.0 - ln_overlap.abs()) / by.abs();
        Needs { l: true, far: far.clamp(0.0, f64::MAX), ..Needs::NONE }
    }
}

impl Integrand {
    /// The logarithms that the terms look at, of bins that have `ln(p/q)` or not.
    pub(crate) fn needs(self, has_l: bool) -> Needs {
        let none = Needs::NONE;
        match self {
            Integrand::Kl | Integrand::ReverseKl | Integrand::Jeffreys | Integrand::Largest => {
                Needs { l: true, ..none }
            }
            Integrand::Power(0.5) | Integrand::Overlap(0.5) => none,
            Integrand::Power(order) | Integrand::Overlap(order) => Needs::of_power(order, 0.0),
            Integrand::ChiSquared => {
                Needs { far: if has_l { FAR_OF_SQUARES } else { f64::MAX }, ..none }
            }
            Integrand::CrossEntropy => Needs { ln_q: true, ..none },
            Integrand::Entropy => Needs { far: 0.0, ..none },
            Integrand::JensenShannon(_) | Integrand::Unmatched => none,
            Integrand::Variation => none,
        }
    }

    /// What a bin in which only P has mass adds, and one in which only Q has, by that mass. The entropies
    /// are told elsewhere.
    pub(crate) fn alone(self) -> [f64; 2] {
        let (none, inf) = (0.0, f64::INFINITY);
        match self {
            Integrand::Kl | Integrand::ChiSquared => [inf, 1.0],
            Integrand::ReverseKl => [1.0, inf],
            Integrand::Jeffreys => [inf, inf],
            Integrand::JensenShannon(w) => [-w * w.ln(), -(1.0 - w) * (-w).ln_1p()],
            Integrand::Power(a) => {
                [if a < 1.0 { 1.0 / (1.0 - a) } else { inf }, if a > 0.0 { 1.0 / a } else { inf }]
            }
            Integrand::Overlap(a) => [if a < 1.0 { none } else { inf }, none],
            Integrand::Unmatched => [none, 1.0],
            Integrand::Largest | Integrand::CrossEntropy => [inf, none],
            Integrand::Variation => [0.5, 0.5],
            Integrand::Entropy => [none, none],
        }
    }
}

/// What a bin adds to a sum. (Types and no closures: those are not compiled for the vector unit of the
/// function that they stand in.)
pub(crate) trait Term: Copy {
    fn of<const FUSED: bool>(self, bin: Bin) -> f64;
}

/// Who does something with a term.
pub(crate) trait Visit {
    fn take<T: Term>(self, term: T);
}

impl Integrand {
    /// Hands over the term of those that are sums over bins of both sides.
    #[inline(always)]
    pub(crate) fn visit(self, power: &Power, by: impl Visit) {
        match self {
            Integrand::Kl => by.take(Kl),
            Integrand::ReverseKl => by.take(ReverseKl),
            Integrand::Jeffreys => by.take(Jeffreys),
            Integrand::JensenShannon(weight) => by.take(JensenShannon(weight)),
            Integrand::Power(0.5) => by.take(RootPower),
            Integrand::Power(_) => by.take(*power),
            Integrand::Overlap(0.5) => by.take(RootOverlap),
            Integrand::Overlap(order) => by.take(Overlap(order)),
            Integrand::Variation => by.take(Variation),
            Integrand::ChiSquared => by.take(ChiSquared),
            Integrand::Unmatched | Integrand::Largest => {}
            Integrand::CrossEntropy | Integrand::Entropy => {}
        }
    }
}

/// [`Integrand::Kl`], from the product where p and q are near each other.
#[derive(Clone, Copy)]
struct Kl;

impl Term for Kl {
    #[inline(always)]
    fn of<const FUSED: bool>(self, Bin { p, q, n, l, .. }: Bin) -> f64 {
        let s = n / (p + q);
        let near = curve_f64::<FUSED>(n, s, atanh_tail::<FUSED>(s * s), 0.0);
        let far = mul_add_f64::<FUSED>(p, l, -n);
        if s.abs() < 1.0 / 3.0 { near } else { far }
    }
}

/// [`Integrand::ReverseKl`].
#[derive(Clone, Copy)]
struct ReverseKl;

impl Term for ReverseKl {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        Kl.of::<FUSED>(bin.swapped())
    }
}

/// [`Integrand::Jeffreys`].
#[derive(Clone, Copy)]
struct Jeffreys;

impl Term for Jeffreys {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        bin.n * bin.l
    }
}

/// [`Integrand::JensenShannon`] with its weight.
#[derive(Clone, Copy)]
struct JensenShannon(f64);

impl Term for JensenShannon {
    #[inline(always)]
    fn of<const FUSED: bool>(self, Bin { p, q, n, .. }: Bin) -> f64 {
        let (w, v) = (self.0, 1.0 - self.0);
        let m = w * p + v * q;
        w * bregman::<FUSED>(p, m, v * n) + v * bregman::<FUSED>(q, m, -(w * n))
    }
}

/// [`Integrand::Variation`].
#[derive(Clone, Copy)]
struct Variation;

impl Term for Variation {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        0.5 * bin.n.abs()
    }
}

/// [`Integrand::ChiSquared`].
#[derive(Clone, Copy)]
struct ChiSquared;

impl Term for ChiSquared {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        // Of logarithms, which l is there of, also where there is no number of q. Beside 1 the rest of the
        // square is nothing there.
        let far = exp_of::<FUSED>(bin.ln_p + bin.l) * UNIT;
        if bin.l > FAR_OF_SQUARES { far } else { bin.n * (bin.n / bin.q) }
    }
}

/// [`Integrand::Overlap`] with its order.
#[derive(Clone, Copy)]
struct Overlap(f64);

impl Term for Overlap {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        // From the one whose part is the larger: the other's logarithm may be a very large number.
        let order = self.0;
        let (of, z) =
            if order < 0.5 { (bin.q, order * bin.l) } else { (bin.p, (order - 1.0) * bin.l) };
        grown::<FUSED>(of, z, bin.ln_p + (order - 1.0) * bin.l)
    }
}

/// That of order ½.
#[derive(Clone, Copy)]
struct RootOverlap;

impl Term for RootOverlap {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        bin.p.sqrt() * bin.q.sqrt()
    }
}

/// [`Integrand::Power`] of order ½: `2·(√p − √q)²` without a difference of roots.
#[derive(Clone, Copy)]
struct RootPower;

impl Term for RootPower {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        let s = bin.n / (bin.p.sqrt() + bin.q.sqrt());
        2.0 * s * s
    }
}

/// p and q of positive normal numbers within an octave of each other: see [`term`](crate::term).
struct Near {
    /// What the octaves between them add to a logarithm.
    octaves: f64,
    q: f64,
    n: f64,
    s: f64,
}

/// Brings q next to p, with `n = p − q`.
#[inline(always)]
fn near(p: f64, q: f64, n: f64) -> Near {
    let k = whole_octaves_f64(p.to_bits().wrapping_sub(q.to_bits()) as i64);
    let q = f64::from_bits(q.to_bits().wrapping_add(k as u64));
    let n = if k == 0 { n } else { p - q };
    Near { octaves: exponent(k), q, n, s: n / (p + q) }
}

/// `p·ln(p/m) − p + m` of positive normal numbers with `n = p − m`.
#[inline(always)]
fn bregman<const FUSED: bool>(p: f64, m: f64, n: f64) -> f64 {
    let Near { octaves, q: m_near, n, s } = near(p, m, n);
    let beyond = mul_add_f64::<FUSED>(p, octaves * LN_2, m - m_near);
    curve_f64::<FUSED>(n, s, atanh_tail::<FUSED>(s * s), beyond)
}

/// `ln(p/q)` of positive normal numbers with `n = p − q`.
#[inline(always)]
pub(crate) fn ln_ratio<const FUSED: bool>(p: f64, q: f64, n: f64) -> f64 {
    let Near { octaves, s, .. } = near(p, q, n);
    let ln_near = 2.0 * mul_add_f64::<FUSED>(s, atanh_tail::<FUSED>(s * s), s);
    mul_add_f64::<FUSED>(octaves, LN_2, ln_near)
}

/// [`Integrand::Power`] with what it needs of its order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Power {
    /// `1/order`, of one of 1/2 or more: a smaller one is the other of the pair, with P and Q in each other's
    /// place.
    per_order: f64,
    /// `order − 1`, all of whose digits count where it is small.
    less_1: f64,
    swapped: bool,
    /// Where the series holds.
    near: f64,
    /// `Σ_(j ≤ k) orderʲ / (k + 2)!` for k = 0, 1, …
    series: [f64; 10],
}

impl Power {
    pub(crate) fn new(order: f64) -> Power {
        let swapped = order < 0.5;
        let (order, less_1) = if swapped { (1.0 - order, -order) } else { (order, order - 1.0) };
        let (mut series, mut sum, mut factorial) = ([0.0; 10], 0.0, 1.0);
        for (k, term) in series.iter_mut().enumerate() {
            sum = sum * order + 1.0;
            factorial *= (k + 2) as f64;
            *term = sum / factorial;
        }
        Power { less_1, per_order: 1.0 / order, swapped, near: 0.1 / order.max(1.0), series }
    }
}

impl Term for Power {
    #[inline(always)]
    fn of<const FUSED: bool>(self, bin: Bin) -> f64 {
        let bin = if self.swapped { bin.swapped() } else { bin };
        let z = self.less_1 * bin.l;
        // p·(e^z − 1)/δ, which is p·l in the limit.
        let small = z.abs() <= TAIL_REACH;
        let tail = exp_tail::<FUSED>(if small { z } else { 0.0 });
        let far_off = grown::<FUSED>(bin.p, z, bin.ln_p + z) - bin.p;
        let by_delta = if small { tail } else { far_off } / self.less_1;
        let raised = if small { bin.p * (bin.l + by_delta) } else { by_delta };
        let direct = (raised - bin.n) * self.per_order;
        let series = horner::<FUSED>(&self.series, bin.l);
        // The largest orders have no series.
        let near = if bin.l == 0.0 { 0.0 } else { bin.q * (bin.l * bin.l) * series };
        // What is no number stays none.
        let direct = if direct < 0.0 { 0.0 } else { direct };
        if bin.l.abs() < self.near { near } else { direct }
    }
}

#[inline(always)]
fn horner<const FUSED: bool>(series: &[f64; 10], x: f64) -> f64 {
    let mut sum = series[9];
    for at in (0..9).rev() {
        sum = mul_add_f64::<FUSED>(sum, x, series[at]);
    }
    sum
}

/// `x·eᶻ` of a probability in units; where that is too small for a number, from the logarithm of the result.
#[inline(always)]
pub(crate) fn grown<const FUSED: bool>(x: f64, z: f64, ln: f64) -> f64 {
    // One comparison in the place of two, which vectors take better.
    let size = if x > FLOOR { z.abs() } else { f64::INFINITY };
    let (of, by) = if size < MOST_LN { (x, z) } else { (UNIT, ln) };
    of * exp_of::<FUSED>(by)
}

/// From here on `e` to it counts as beyond the range.
const MOST_LN: f64 = 700.0;

/// From this `ln(p/q)` on a squared difference goes by the logarithms.
const FAR_OF_SQUARES: f64 = 40.0;

/// What stands for a probability, in units, where there is none or one that is too small for a number.
pub(crate) const FLOOR: f64 = 1.0020841800044864e-292; // 2^-970

/// Probabilities are held as multiples of its inverse, which keeps the smallest of them normal numbers.
pub(crate) const UNIT: f64 = 1152921504606846976.0; // 2^60

/// `eˣ`, +inf beyond the range of f64.
#[inline(always)]
pub(crate) fn exp_of<const FUSED: bool>(x: f64) -> f64 {
    let inside = x < 709.0;
    let e = exp::<FUSED>(if inside { x } else { 0.0 });
    if inside { e } else { f64::INFINITY }
}
