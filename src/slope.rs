//! The slopes of the divergences: how fast each grows with the probabilities of a bin.
//!
//! With p and q as distributions, `u = ∂D/∂p` and `v = ∂D/∂q`, each up to a constant per row. Where
//! sides are divided by their masses the derivatives in what was given are made of `u − ū`, with the
//! mean `ū = Σ p·u`, and a constant makes no difference to them. It is chosen so that u and v are 0
//! where p = q, and nothing large has to cancel near there. What is formed are the products `p·u` and
//! `q·v`, from the differences and logarithms of [`Bin`], which need no division by what may be 0.

use crate::integrand::{Bin, Needs, UNIT, grown, ln_ratio};
use crate::term::{TAIL_REACH, exp_tail};
use crate::{Divergence, Mass};

/// The slopes of a divergence, but for a factor of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    divergence: Divergence,
    /// The value of the row, once it is known.
    value: f64,
    /// How many bins share the largest ratio.
    tops: f64,
}

/// The least that the largest derivative in the logarithms of a row may be in f32, by the sum of all their magnitudes
/// and the largest probability. Of bins that are alike rounding takes the same from every slope, up to 6e-8 of it, and
/// what all others have lost shows in the derivative of the largest probability.
pub(crate) const LEAST_BESIDE_ALL: f64 = 0.01;

/// Who does something with the products of each bin, given what they are of one.
pub(crate) trait Bins {
    fn each(self, products: impl Fn(Bin) -> [f64; 2]);
}

impl Slope {
    pub(crate) fn new(divergence: Divergence) -> Slope {
        Slope { divergence: divergence.at_its_limit(), value: 0.0, tops: 1.0 }
    }

    /// The same for a row of this value, of which so many bins share the largest ratio.
    pub(crate) fn at(self, value: f64, tops: f64) -> Slope {
        Slope { value, tops, ..self }
    }

    /// `p·u` and `q·v` of bins in which both sides have some probability, in units.
    #[expect(
        clippy::extra_unused_type_parameters,
        reason = "closures that several vector units share would not be inlined"
    )]
    #[inline(always)]
    pub(crate) fn products<Unit, const FUSED: bool>(&self, bins: impl Bins) {
        match self.divergence {
            Divergence::Kl => bins.each(|Bin { p, n, l, .. }| [p * l, -n]),
            Divergence::ReverseKl => bins.each(|Bin { q, n, l, .. }| [n, -(q * l)]),
            Divergence::Jeffreys => {
                bins.each(|Bin { p, q, n, l, .. }| [p * l + n, -(q * l + n)]);
            }
            Divergence::JensenShannon(w) => bins.each(|bin| to_mixture::<FUSED>(bin, w)),
            Divergence::JsDistance => bins.each(|bin| to_mixture::<FUSED>(bin, 0.5)),
            Divergence::Renyi(0.0) => {
                let v = -self.value.exp_m1();
                bins.each(|Bin { q, .. }| [0.0, q * v]);
            }
            Divergence::Renyi(f64::INFINITY) => {
                let Slope { value, tops, .. } = *self;
                bins.each(|Bin { l, .. }| {
                    let share = if l == value { UNIT / tops } else { 0.0 };
                    [share, -share]
                });
            }
            Divergence::Renyi(a) => {
                let ln_overlap = (a - 1.0) * self.value;
                bins.each(|bin| power::<FUSED>(bin, a, ln_overlap, [a / (a - 1.0), 1.0]));
            }
            Divergence::Bhattacharyya => {
                bins.each(|bin| power::<FUSED>(bin, 0.5, -self.value, [-0.5, 0.5]));
            }
            Divergence::Tsallis(0.0) => bins.each(|_| [0.0, 0.0]),
            Divergence::Tsallis(a) => {
                bins.each(|bin| power::<FUSED>(bin, a, 0.0, [a / (a - 1.0), 1.0]))
            }
            Divergence::Alpha(a) => {
                bins.each(|bin| power::<FUSED>(bin, a, 0.0, [1.0 / (a - 1.0), 1.0 / a]));
            }
            Divergence::Hellinger => bins.each(|Bin { p, q, n, .. }| {
                let (p, q) = (p.sqrt(), q.sqrt());
                let roots_apart = n / (p + q);
                [p * roots_apart, -(q * roots_apart)]
            }),
            Divergence::TotalVariation => bins.each(|Bin { p, q, n, .. }| {
                let sign = half_sign(n);
                [p * sign, -(q * sign)]
            }),
            Divergence::ChiSquared => bins.each(|Bin { p, q, n, .. }| {
                let by_q = n / q;
                [2.0 * p * by_q, -((p + q) * by_q)]
            }),
            Divergence::CrossEntropy => {
                bins.each(|Bin { p, n, l, ln_p, .. }| [-(p * (ln_p - l)), -n]);
            }
            Divergence::Entropy => bins.each(|Bin { p, ln_p, .. }| [-(p * ln_p), 0.0]),
        }
    }

    /// u and v themselves where one of the two probabilities is 0 or both are, as their limits: with
    /// `l = ln(p/q)`, which is ∞ or −∞ there, and `ln p` and `ln q`, of which one is −inf at least. The
    /// formulas are those of the products.
    pub(crate) fn at_end(&self, [ln_p, ln_q]: [f64; 2], l: f64) -> [f64; 2] {
        let has_p = ln_p > f64::NEG_INFINITY;
        let power = |a: f64, ln_overlap: f64, [by_u, by_v]: [f64; 2]| {
            [by_u * ((a - 1.0) * l - ln_overlap).exp_m1(), -by_v * (a * l - ln_overlap).exp_m1()]
        };
        match self.divergence {
            Divergence::Kl => [l, -l.exp_m1()],
            Divergence::ReverseKl => [-(-l).exp_m1(), -l],
            Divergence::Jeffreys => [l - (-l).exp_m1(), -l - l.exp_m1()],
            Divergence::JensenShannon(w) => to_mixture_at_end(l, w),
            Divergence::JsDistance => to_mixture_at_end(l, 0.5),
            Divergence::Renyi(0.0) => [0.0, if has_p { -self.value.exp_m1() } else { 1.0 }],
            Divergence::Renyi(f64::INFINITY) => {
                [if !has_p && ln_q == f64::NEG_INFINITY { f64::INFINITY } else { 0.0 }, 0.0]
            }
            Divergence::Renyi(a) => power(a, (a - 1.0) * self.value, [a / (a - 1.0), 1.0]),
            Divergence::Bhattacharyya => power(0.5, -self.value, [-0.5, 0.5]),
            Divergence::Tsallis(0.0) => [0.0, if has_p { 0.0 } else { 1.0 }],
            Divergence::Tsallis(a) => power(a, 0.0, [a / (a - 1.0), 1.0]),
            Divergence::Alpha(a) => power(a, 0.0, [1.0 / (a - 1.0), 1.0 / a]),
            Divergence::Hellinger => [-(-l / 2.0).exp_m1(), -(l / 2.0).exp_m1()],
            Divergence::TotalVariation => [half_sign(l), -half_sign(l)],
            Divergence::ChiSquared => [2.0 * l.exp_m1(), -(2.0 * l).exp_m1()],
            Divergence::CrossEntropy => [-ln_q, -l.exp_m1()],
            Divergence::Entropy => [-ln_p, 0.0],
        }
    }

    /// `Σ p·u` and `Σ q·v` of a row of distributions, from the sums of the products that were made before
    /// its value was known.
    pub(crate) fn means(&self, summed: [f64; 2]) -> [f64; 2] {
        // Exactly 0, of what l is rounded to not quite: where the overlap is next to 1 that shows.
        let of_power = |ln_overlap: f64, [by_u, by_v]: [f64; 2]| match ln_overlap.abs() < 1.0 {
            true => {
                let (less, by) = (ln_overlap.exp_m1(), (-ln_overlap).exp());
                [by * (summed[0] - by_u * less), by * (summed[1] + by_v * less)]
            }
            false => [0.0, 0.0],
        };
        match self.divergence {
            Divergence::Renyi(f64::INFINITY) => [1.0, -1.0],
            Divergence::Renyi(0.0) => [0.0, 0.0],
            Divergence::Renyi(a) => of_power((a - 1.0) * self.value, [a / (a - 1.0), 1.0]),
            Divergence::Bhattacharyya => of_power(-self.value, [-0.5, 0.5]),
            Divergence::CrossEntropy => [self.value, summed[1]],
            Divergence::Entropy => [self.value, 0.0],
            _ => summed,
        }
    }

    /// What u and v are yet to be multiplied by. Distances have a cone where
    /// P = Q, and no derivative; 0 is the middle of its slopes.
    pub(crate) fn factor(&self) -> f64 {
        let by = match self.divergence {
            Divergence::JsDistance => 2.0 * self.value,
            Divergence::Hellinger => 4.0 * self.value,
            Divergence::Renyi(f64::INFINITY) if self.value == 0.0 => return 0.0,
            _ => return 1.0,
        };
        if by > 0.0 { 1.0 / by } else { 0.0 }
    }

    /// What the slopes of the f32 forms ([`cpu::form`](crate::cpu)) are yet to be multiplied by: those of orders
    /// are of powers of p/q that are not divided by the overlap.
    pub(crate) fn factor_of_form(&self) -> f64 {
        match self.divergence {
            Divergence::Renyi(a) => ((1.0 - a) * self.value).exp(),
            Divergence::Bhattacharyya => 0.5 * self.value.exp(),
            Divergence::Alpha(a) => 1.0 / a,
            _ => self.factor(),
        }
    }

    /// Whether [`at`](Self::at) is to be told how many bins share the largest ratio.
    pub(crate) fn counts_tops(&self) -> bool {
        self.divergence == Divergence::Renyi(f64::INFINITY)
    }

    /// What u and v leave out, where nothing is divided by a mass.
    pub(crate) fn constants(&self, mass: Mass) -> [f64; 2] {
        match (self.divergence, mass) {
            (Divergence::Kl, Mass::AsGiven) => [1.0, -1.0],
            (Divergence::ReverseKl, Mass::AsGiven) => [-1.0, 1.0],
            (Divergence::CrossEntropy, _) => [0.0, -1.0],
            (Divergence::Entropy, _) => [-1.0, 0.0],
            _ => [0.0, 0.0],
        }
    }

    /// The logarithms that the products look at.
    pub(crate) fn needs(&self) -> Needs {
        let none = Needs::NONE;
        match self.divergence {
            Divergence::Kl | Divergence::ReverseKl | Divergence::Jeffreys => {
                Needs { l: true, ..none }
            }
            Divergence::Renyi(f64::INFINITY) => Needs { l: true, ..none },
            Divergence::Renyi(0.0) | Divergence::Tsallis(0.0) => none,
            Divergence::Renyi(a) => Needs::of_power(a, (a - 1.0) * self.value),
            Divergence::Bhattacharyya => Needs::of_power(0.5, self.value),
            Divergence::Tsallis(a) | Divergence::Alpha(a) => Needs::of_power(a, 0.0),
            Divergence::JensenShannon(_) | Divergence::JsDistance => none,
            Divergence::Hellinger | Divergence::TotalVariation | Divergence::ChiSquared => none,
            Divergence::CrossEntropy => Needs { l: true, far: 0.0, ..none },
            Divergence::Entropy => Needs { far: 0.0, ..none },
        }
    }
}

/// `w·p·ln(p/m)` and `(1−w)·q·ln(q/m)` with `m = w·p + (1−w)·q`.
#[inline(always)]
fn to_mixture<const FUSED: bool>(bin: Bin, w: f64) -> [f64; 2] {
    let Bin { p, q, n, .. } = bin;
    let v = 1.0 - w;
    let m = w * p + v * q;
    [w * p * ln_ratio::<FUSED>(p, m, v * n), v * q * ln_ratio::<FUSED>(q, m, -(w * n))]
}

fn to_mixture_at_end(l: f64, w: f64) -> [f64; 2] {
    let v = 1.0 - w;
    [-w * (v * (-l).exp_m1()).ln_1p(), -v * (w * l.exp_m1()).ln_1p()]
}

/// `by·p·(e^((a−1)·l − s) − 1)` and `−by·q·(e^(a·l − s) − 1)`: with S the sum of `g = pᵃ·q¹⁻ᵃ` and s its
/// logarithm these are multiples of `g/S − p` and `q − g/S`.
#[inline(always)]
fn power<const FUSED: bool>(bin: Bin, a: f64, s: f64, [by_u, by_v]: [f64; 2]) -> [f64; 2] {
    let Bin { p, q, l, ln_p, .. } = bin;
    let (of_p, of_q) = ((a - 1.0) * l - s, a * l - s);
    // From the one whose part is the larger.
    let g = match a < 0.5 {
        true => grown::<FUSED>(q, of_q, (ln_p - l) + of_q),
        false => grown::<FUSED>(p, of_p, ln_p + of_p),
    };
    [by_u * times_expm1::<FUSED>(p, of_p, g), -by_v * times_expm1::<FUSED>(q, of_q, g)]
}

/// `p·(eˣ − 1)` with `g = p·eˣ`, which it is the difference from where that is far off.
#[inline(always)]
fn times_expm1<const FUSED: bool>(p: f64, x: f64, g: f64) -> f64 {
    let near = x.abs() <= TAIL_REACH;
    let x = if near { x } else { 0.0 };
    if near { p * (x + exp_tail::<FUSED>(x)) } else { g - p }
}

/// ½ with the sign of a number; 0 of 0.
#[inline(always)]
fn half_sign(x: f64) -> f64 {
    0.5 * (f64::from(u8::from(x > 0.0)) - f64::from(u8::from(x < 0.0)))
}
