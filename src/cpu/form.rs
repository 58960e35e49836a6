//! Divergences whose terms have forms in f32, and the sums of these over a row.
//! [`form_gradient`](super::form_gradient) has the gradients of such rows.
//!
//! With `δ = (P − Q)/(P + Q)` of the masses `p·(1 − δ)` and `q·(1 + δ)` have the same mass, and their
//! difference is `(p − q) − δ·(p + q)`: it keeps its digits where rows are nearly equal, since `P − Q` is
//! summed by itself. Swapping P and Q changes its sign and nothing else.

use std::marker::PhantomData;

use super::in_f32::{
    Asked, CHAIN, Known, Method, Numbers, PerLane, Row, Vector, Verdicts, block, differences_of,
};
use super::power::Power;
use super::side_by_side::Group;
use super::sums::LANES;
use crate::Divergence;
use crate::batch::Mass;
use crate::chain::tree_sum;
use crate::integrand::Integrand;
use crate::term::{bregman_f32, greater, ln_ratio_beside_f32, ln_ratio_f32, mul_add};
use crate::verdict::Judged;

/// The least distance of two rows, about the sum of |p − q|, that owes no digits to rounding: by itself, and
/// beside δ.
const LEAST: f64 = 1e-6;
const LEAST_BESIDE: f64 = 0.1;
/// The largest δ with which the smaller of the two keeps its digits.
const MOST_APART: f64 = 1.0 / 3.0;
/// Sums from here on may have overflowed.
const MOST: f64 = 1e30;
/// An overlap that is so much less than 1 has digits that its distance from 1 has not, and is summed by itself.
const FAR: f64 = 0.5;
/// Beside one from here on, probabilities that f32 has not make no difference.
const LEAST_OVERLAP: f64 = 1e-9;

/// What is done with the form of a divergence, and with what its sums are to be multiplied by.
pub(super) trait WithForm {
    type Output;

    fn with<F: Form>(self, factor: f64) -> Self::Output;
}

/// Does it, if the divergence has a form.
pub(super) fn with_form<W: WithForm>(divergence: Divergence, what: W) -> Option<W::Output> {
    Some(match divergence.integrands()[0]? {
        Integrand::Kl | Integrand::ReverseKl => what.with::<KullbackLeibler>(1.0),
        Integrand::JensenShannon(0.5) => what.with::<JensenShannon>(0.25),
        Integrand::JensenShannon(weight) if Skewed::takes(weight) => what.with::<Skewed>(1.0),
        Integrand::Jeffreys => what.with::<Jeffreys>(1.0),
        Integrand::Power(0.5) => what.with::<Roots>(2.0),
        Integrand::Power(2.0) => what.with::<ChiSquared>(0.5),
        Integrand::Power(order) if Power::takes(order) => what.with::<Power>(1.0),
        Integrand::Variation => what.with::<Variation>(0.5),
        Integrand::ChiSquared => what.with::<ChiSquared>(1.0),
        _ => return None,
    })
}

/// Rows in the form of a divergence.
pub(super) struct OfForm<F>(PhantomData<F>);

impl<F: Form> Method for OfForm<F> {
    #[inline(always)]
    fn judged<const FUSED: bool>(row: &Row<'_>) -> Option<Judged> {
        row.settled::<F, FUSED>().map(|settled| settled.judged)
    }

    #[inline(always)]
    fn judged_side_by_side<const FUSED: bool>(asked: &Asked, group: &Group<'_>) -> Verdicts {
        settled_side_by_side::<F, FUSED>(asked, group).verdicts
    }
}

/// What becomes of the rows of a group.
pub(super) struct SettledLanes {
    pub verdicts: Verdicts,
    /// Rows that raise no question.
    pub are_plain: [bool; LANES],
    /// See [`Settled`]. Distances of rows that f32 is not right for are whatever there is.
    pub deltas: [f64; LANES],
    pub distances: [f64; LANES],
    pub are_near_end: [bool; LANES],
}

#[inline(always)]
pub(super) fn settled_side_by_side<F: Form, const FUSED: bool>(
    asked: &Asked,
    group: &Group<'_>,
) -> SettledLanes {
    let (form, numbers) = (F::of(asked.divergence), group.numbers);
    let [p_masses, q_masses, apart] = group.sums();
    let takes_logs = group.sides_of_logs() == 0 || form.takes_logs(false);
    // In arrays, and made again where it is asked for: records that are copied wait for what was just written.
    let (mut are_plain, mut deltas) = (group.are_plain, [0.0; LANES]);
    let mut per_mass = [0.0; LANES];
    for lane in 0..LANES {
        let (p, q) = (p_masses[lane], q_masses[lane]);
        (deltas[lane], per_mass[lane]) = (apart[lane] / (p + q), self::per_mass(p, q));
        are_plain[lane] &= (deltas[lane].abs() <= MOST_APART) & takes_logs;
    }
    let mut are_open = are_plain;
    for lane in (0..LANES).filter(|&lane| !are_plain[lane]) {
        let opened = group.known(lane).and_then(|known| asked.opened(form, &known));
        (are_open[lane], deltas[lane]) = (opened.is_some(), opened.unwrap_or(0.0));
    }
    let by = ToOneMass::<Vector>::of(&deltas);
    let sums = summed::<F, FUSED, false, _>(form, numbers, &by);
    let more_per_sum = asked.more_per_sum();
    let mut are_far = false;
    for lane in 0..LANES {
        are_far |=
            are_open[lane] & (more_per_sum * (asked.factor * per_mass[lane] * sums[lane]) <= -FAR);
    }
    let overlaps = match are_far {
        true => summed::<F, FUSED, true, _>(form, numbers, &by),
        false => [0.0; LANES],
    };
    let least = least_distance::<F>(numbers.differences.is_some(), group.sides_of_logs());
    let (mut verdicts, mut distances) = (Verdicts::none(), [0.0; LANES]);
    let (mut are_near_end, mut are_left) = ([false; LANES], are_open);
    if let Some(of_sum) = asked.divergence.of_one_sum(Mass::Normalize) {
        let half = 0.5 * form.largest();
        for lane in 0..LANES {
            let sum = asked.factor * per_mass[lane] * sums[lane];
            distances[lane] = F::distance(sum);
            let is_right = are_plain[lane] & has_digits(distances[lane], least, deltas[lane], sum);
            are_near_end[lane] = is_right & (sum > half);
            verdicts.values[lane] = of_sum.value(sum);
            verdicts.are_right[lane] = is_right;
            are_left[lane] &= !are_plain[lane];
        }
    }
    for lane in (0..LANES).filter(|&lane| are_left[lane]) {
        let (sum, overlap) = (sums[lane], overlaps[lane]);
        let closed = if are_plain[lane] {
            let (per_mass, delta) = (per_mass[lane], deltas[lane]);
            let end = End { per_mass, delta, least, some_lost: false, more_per_sum };
            asked.ended(form, end, sum, overlap)
        } else {
            let known = group.known(lane);
            known.and_then(|known| asked.closed(form, &known, deltas[lane], sum, overlap))
        };
        if let Some(Closed { distance, is_near_end, .. }) = closed {
            (distances[lane], are_near_end[lane]) = (distance, is_near_end);
        }
        verdicts.put(lane, closed.map(|closed| closed.value));
    }
    SettledLanes { verdicts, are_plain, deltas, distances, are_near_end }
}

/// What a bin adds to a sum, none of whose terms cancel.
pub(super) trait Form: Copy + Send + Sync {
    /// The one of a divergence.
    fn of(divergence: Divergence) -> Self;

    /// From p and q, and from `n = p − q`.
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32;

    /// How fast the sum grows with the probabilities of a bin: what the derivatives in p and in q are, but for a
    /// constant that leaves 0 where p = q, and a factor of the row. In the place of 0 is [`TINY`], of which not
    /// every power is as small.
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2];

    /// The same, but for a constant that leaves 0 where the other number is 0: of rows that are nearly as far
    /// apart as can be slopes are nearly the same wherever there is mass. Asked for where there is a largest sum.
    #[inline(always)]
    fn slopes_from_end<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        self.slopes::<FUSED>(p, q, n)
    }

    /// What a bin adds to the overlap, which is `1 + a·(a − 1)` times the sum of an order a, if there is one.
    #[inline(always)]
    fn overlap<const FUSED: bool>(self, _p: f32, _q: f32) -> f32 {
        0.0
    }

    /// Whether the slopes are powers of small numbers, and not their logarithms.
    const HAS_STEEP_SLOPES: bool = false;

    /// Whether the slopes jump where p = q.
    const HAS_KINK: bool = false;

    /// The sum of rows that have no bin in common, if it is finite.
    fn largest(self) -> f64 {
        f64::INFINITY
    }

    /// The least distance of two rows of which one is of logarithms, and the other is not; twice that of rows
    /// of two kinds of logarithms.
    const LEAST_OF_LOGS: f64 = 0.06;

    /// About how far apart rows are that have a sum. Sums are of second order in that.
    #[inline(always)]
    fn distance(sum: f64) -> f64 {
        sum.sqrt()
    }

    /// Whether it is right for probabilities that were made of logarithms; and if some of these, in bins where
    /// the other side has mass, are too small for a number.
    #[inline(always)]
    fn takes_logs(self, _some_lost: bool) -> bool {
        true
    }
}

/// Small enough to be a divisor in the place of 0.
pub(super) const TINY: f32 = 1e-36;

/// `p·ln(p/q) − p + q`, or the same of Q against P.
#[derive(Clone, Copy)]
struct KullbackLeibler {
    is_reverse: bool,
}

impl Form for KullbackLeibler {
    fn of(divergence: Divergence) -> KullbackLeibler {
        KullbackLeibler { is_reverse: divergence.at_its_limit() == Divergence::ReverseKl }
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32 {
        let (p, q, n) = if self.is_reverse { (q, p, -n) } else { (p, q, n) };
        bregman_f32::<FUSED>(p.max(TINY), q.max(TINY), n)
    }

    /// `ln(p/q)` and `1 − p/q`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let l = ln_ratio_beside_f32::<FUSED>(p, q, n);
        if self.is_reverse { [n / p, -l] } else { [l, -(n / q)] }
    }
}

/// `½·p·ln(p/m) + ½·q·ln(q/m)` with `m = (p + q)/2`.
///
/// With `a = p + q` and `s = n/a` that is `a/4·((1 + s)·ln(1 + s) + (1 − s)·ln(1 − s))`: near 0 a series in
/// s², elsewhere `½·(a·ln(1 + |s|) + min(p, q)·ln t)` of the ratio t of the smaller to the larger.
#[derive(Clone, Copy)]
struct JensenShannon;

/// The former by `a/4·s²`, in s², up to 0.36; and `ln(1 + x)` from 0.6 to 1: minimax fits in 40-digit
/// arithmetic, relative errors 2.9e-9 and 1.8e-8.
const NEAR: [f32; 7] =
    [1.0, 0.166_665_91, 0.066_698_8, 0.035_205_714, 0.025_983_57, 0.001_421_743_4, 0.033_410_866];
const FAR_LN: [f32; 6] =
    [0.001_882_228_8, 0.983_827_8, -0.439_716_28, 0.203_878_15, -0.067_595_73, 0.010_871_05];
const NEARBY: f32 = 0.6;

impl Form for JensenShannon {
    fn of(_: Divergence) -> JensenShannon {
        JensenShannon
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32 {
        let fma = mul_add::<FUSED>;
        let a = p + q;
        let s = n.abs() / if a > TINY { a } else { TINY };
        let z = s * s;
        let [c0, c1, c2, c3, c4, c5, c6] = NEAR;
        let near = fma(fma(fma(fma(fma(fma(c6, z, c5), z, c4), z, c3), z, c2), z, c1), z, c0);
        let [d0, d1, d2, d3, d4, d5] = FAR_LN;
        let ln = fma(fma(fma(fma(fma(d5, s, d4), s, d3), s, d2), s, d1), s, d0);
        let (less, more) = if n > 0.0 { (q, p) } else { (p, q) };
        let (below, above) = (less.max(TINY), more.max(TINY));
        let far = 2.0 * fma(a, ln, less * ln_ratio_f32::<FUSED>(below, above));
        if s <= NEARBY { a * z * near } else { far }
    }

    /// `½·ln(p/m)` and `½·ln(q/m)`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let (m, n) = (0.5 * (p + q), 0.5 * n);
        [0.5 * ln_ratio_beside_f32::<FUSED>(p, m, n), 0.5 * ln_ratio_beside_f32::<FUSED>(q, m, -n)]
    }

    /// `−½·ln(1 + q/p)` and `−½·ln(1 + p/q)`.
    #[inline(always)]
    fn slopes_from_end<const FUSED: bool>(self, p: f32, q: f32, _: f32) -> [f32; 2] {
        let both = p + q;
        let of = |own: f32, other: f32| -0.5 * ln_ratio_beside_f32::<FUSED>(both, own, other);
        [of(p, q), of(q, p)]
    }

    fn largest(self) -> f64 {
        std::f64::consts::LN_2
    }
}

/// `w·p·ln(p/m) + (1−w)·q·ln(q/m)` with `m = w·p + (1−w)·q`, of any weight.
#[derive(Clone, Copy)]
struct Skewed {
    weights: [f32; 2],
}

impl Skewed {
    /// Whether f32 has the digits of the smaller weight's part.
    fn takes(weight: f64) -> bool {
        (1e-3..=1.0 - 1e-3).contains(&weight)
    }
}

impl Form for Skewed {
    fn of(divergence: Divergence) -> Skewed {
        let weight = match divergence {
            Divergence::JensenShannon(weight) => weight,
            _ => 0.5,
        };
        Skewed { weights: [weight, 1.0 - weight].map(|weight| weight as f32) }
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32 {
        let [w, v] = self.weights;
        let (p, q) = (p.max(TINY), q.max(TINY));
        let m = mul_add::<FUSED>(w, p, v * q);
        let of_p = w * bregman_f32::<FUSED>(p, m, v * n);
        mul_add::<FUSED>(v, bregman_f32::<FUSED>(q, m, -(w * n)), of_p)
    }

    /// `w·ln(p/m)` and `(1−w)·ln(q/m)`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let [w, v] = self.weights;
        let m = mul_add::<FUSED>(w, p, v * q);
        let of = |own: f32, apart: f32| ln_ratio_beside_f32::<FUSED>(own, m, apart);
        [w * of(p, v * n), v * of(q, -(w * n))]
    }

    /// `−w·ln(m/(w·p))` and `−(1−w)·ln(m/((1−w)·q))`.
    #[inline(always)]
    fn slopes_from_end<const FUSED: bool>(self, p: f32, q: f32, _: f32) -> [f32; 2] {
        let [w, v] = self.weights;
        let (p, q) = (w * p, v * q);
        let of = |own: f32, other: f32| ln_ratio_beside_f32::<FUSED>(p + q, own, other);
        [-w * of(p, q), -v * of(q, p)]
    }

    fn largest(self) -> f64 {
        let ends = self.weights.map(|weight| -f64::from(weight) * f64::from(weight).ln());
        ends[0] + ends[1]
    }
}

/// `(p − q)·ln(p/q)`.
#[derive(Clone, Copy)]
struct Jeffreys;

impl Form for Jeffreys {
    // Rounding counts twice, or divided by the smaller of the two.
    const LEAST_OF_LOGS: f64 = 0.1;

    fn of(_: Divergence) -> Jeffreys {
        Jeffreys
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32 {
        // Where rows are nearly equal, of the difference and not of the two numbers.
        let s = n / (p + q).max(TINY);
        let z = s * s;
        let high = mul_add::<FUSED>(z, 0.111_111_11, 0.142_857_15);
        let low = mul_add::<FUSED>(z, 0.2, 0.333_333_34);
        let near = (s + s) * mul_add::<FUSED>(mul_add::<FUSED>(z * z, high, low), z, 1.0);
        let (less, more) = if n > 0.0 { (q, p) } else { (p, q) };
        let far = ln_ratio_f32::<FUSED>(more.max(TINY), less.max(TINY));
        if z < 0.02 { n * near } else { n.abs() * far }
    }

    /// `l + n/p` and `−(l + n/q)` with `l = ln(p/q)`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let l = ln_ratio_beside_f32::<FUSED>(p, q, n);
        [l + n / p, -(l + n / q)]
    }
}

/// `(√p − √q)²`, without a difference of roots.
#[derive(Clone, Copy)]
struct Roots;

impl Form for Roots {
    const HAS_STEEP_SLOPES: bool = true;

    fn of(_: Divergence) -> Roots {
        Roots
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32 {
        let s = n / (p.sqrt() + q.sqrt()).max(TINY);
        s * s
    }

    #[inline(always)]
    fn overlap<const FUSED: bool>(self, p: f32, q: f32) -> f32 {
        p.sqrt() * q.sqrt()
    }

    /// `(√p − √q)/√p` and `(√q − √p)/√q`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let (p, q) = (p.sqrt(), q.sqrt());
        let s = n / (p + q);
        [s / p, -s / q]
    }

    /// `−√q/√p` and `−√p/√q`.
    #[inline(always)]
    fn slopes_from_end<const FUSED: bool>(self, p: f32, q: f32, _: f32) -> [f32; 2] {
        let (p, q) = (p.sqrt(), q.sqrt());
        [-q / p, -p / q]
    }

    fn largest(self) -> f64 {
        4.0
    }
}

/// `|p − q|`.
#[derive(Clone, Copy)]
struct Variation;

impl Form for Variation {
    fn of(_: Divergence) -> Variation {
        Variation
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, _: f32, _: f32, n: f32) -> f32 {
        n.abs()
    }

    #[inline(always)]
    fn distance(sum: f64) -> f64 {
        sum
    }

    const HAS_KINK: bool = true;

    /// ±½.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, _: f32, _: f32, n: f32) -> [f32; 2] {
        let half = if n == 0.0 { 0.0 } else { 0.5_f32.copysign(n) };
        [half, -half]
    }

    /// 0 and −1, or −1 and 0.
    #[inline(always)]
    fn slopes_from_end<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let [half, _] = self.slopes::<FUSED>(p, q, n);
        [half - 0.5, -half - 0.5]
    }

    fn largest(self) -> f64 {
        1.0
    }
}

/// `(p − q)²/q`.
#[derive(Clone, Copy)]
struct ChiSquared;

impl Form for ChiSquared {
    // Rounding counts twice, or divided by the smaller of the two.
    const LEAST_OF_LOGS: f64 = 0.1;

    fn of(_: Divergence) -> ChiSquared {
        ChiSquared
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, _: f32, q: f32, n: f32) -> f32 {
        n * (n / q.max(TINY))
    }

    /// `2·n/q` and `−n·(p + q)/q²`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let s = n / q;
        [s + s, -(s * ((p + q) / q))]
    }
}

/// What becomes of a row that f32 is right for.
pub(super) struct Settled {
    pub judged: Judged,
    pub known: Known,
    /// δ of the masses of the probabilities.
    pub delta: f64,
    /// About how far apart its sides are; 0 if that is not known.
    pub distance: f64,
    /// Whether they are nearer to having no bin in common than to each other.
    pub is_near_end: bool,
    /// Whether what stands for 0 shows beside the overlap, of a value that is its logarithm.
    pub is_overlap_faint: bool,
}

/// The value of a row, and how far apart its sides are.
#[derive(Clone, Copy)]
struct Closed {
    value: f64,
    distance: f64,
    is_near_end: bool,
    is_overlap_faint: bool,
}

/// What a sum over a row, brought to the same mass, is to be multiplied by.
#[inline(always)]
fn per_mass(p_mass: f64, q_mass: f64) -> f64 {
    (p_mass + q_mass) / (2.0 * p_mass * q_mass)
}

/// The least distance that rows have their digits from, of which so many sides are logarithms.
#[inline(always)]
fn least_distance<F: Form>(has_differences: bool, sides_of_logs: usize) -> f64 {
    let owe_digits = if has_differences { 0 } else { sides_of_logs };
    LEAST.max(owe_digits as f64 * F::LEAST_OF_LOGS)
}

/// Whether a distance owes none of its digits to rounding.
#[inline(always)]
fn has_digits(distance: f64, least: f64, delta: f64, sum: f64) -> bool {
    (distance >= greater(least, LEAST_BESIDE * delta.abs())) & (sum < MOST)
}

/// What makes a value of the sums of a row.
#[derive(Clone, Copy)]
struct End {
    per_mass: f64,
    delta: f64,
    /// See [`least_distance`].
    least: f64,
    some_lost: bool,
    /// See [`Asked::more_per_sum`].
    more_per_sum: f64,
}

impl Known {
    #[inline(always)]
    fn per_mass(&self) -> f64 {
        let [p_mass, q_mass] = self.look.masses;
        per_mass(p_mass, q_mass)
    }
}

impl Asked {
    /// δ of a row, if f32 may be right for it.
    #[inline(always)]
    fn opened<F: Form>(&self, form: F, known: &Known) -> Option<f64> {
        let Known { look, logs, .. } = known;
        let some_lost = known.some_lost() && look.alone != [false; 2];
        let takes_logs = logs.iter().all(Option::is_none) || form.takes_logs(some_lost);
        let delta = look.difference / (look.masses[0] + look.masses[1]);
        let is_near = delta.abs() <= MOST_APART || self.is_infinite(known);
        (self.takes(known) && takes_logs && is_near).then_some(delta)
    }

    /// By how much the overlap of a row is larger than 1, in terms of its sum.
    #[inline(always)]
    fn more_per_sum(&self) -> f64 {
        match self.divergence.integrands()[1] {
            Some(Integrand::Overlap(order)) => order * (order - 1.0),
            _ => 0.0,
        }
    }

    /// Whether the overlap of a row is to be summed by itself.
    #[inline(always)]
    fn is_far(&self, known: &Known, summed: f64) -> bool {
        self.more_per_sum() * (self.factor * known.per_mass() * summed) <= -FAR
    }

    /// What becomes of a row whose sum was made, and its overlap if it is far.
    #[inline(always)]
    fn closed<F: Form>(
        &self,
        form: F,
        known: &Known,
        delta: f64,
        summed: f64,
        overlap: f64,
    ) -> Option<Closed> {
        if self.is_infinite(known) {
            let (value, distance) = (f64::INFINITY, 0.0);
            return Some(Closed { value, distance, is_near_end: false, is_overlap_faint: false });
        }
        let end = End {
            per_mass: known.per_mass(),
            delta,
            least: least_distance::<F>(known.has_differences, known.logs.iter().flatten().count()),
            some_lost: known.some_lost(),
            more_per_sum: self.more_per_sum(),
        };
        if known.look.both == 0 { None } else { self.ended(form, end, summed, overlap) }
    }

    /// The same where some bin has mass on both sides, and the value is finite.
    ///
    /// What has an end has it to the last digit where rows have no bin in common. All that has a form is divided by
    /// its mass, whatever the policy.
    #[inline(always)]
    fn ended<F: Form>(&self, form: F, end: End, summed: f64, overlap: f64) -> Option<Closed> {
        let End { per_mass, delta, least, some_lost, more_per_sum } = end;
        let sum = self.factor * per_mass * summed;
        let distance = F::distance(sum);
        if !has_digits(distance, least, delta, sum) {
            return None;
        }
        let more = more_per_sum * sum;
        let overlap = if more <= -FAR { per_mass * overlap } else { 1.0 + more };
        let has_all = overlap > 0.0 && !some_lost;
        if !(has_all || overlap >= LEAST_OVERLAP) {
            return None;
        }
        // Nearer to 1 it comes of the sum.
        let ln_overlap = if more.abs() < FAR { 0.0 } else { overlap.ln() };
        let value = self.divergence.of_sums(sum, ln_overlap, Mass::Normalize);
        let is_near_end = sum > 0.5 * form.largest();
        let is_overlap_faint = overlap < LEAST_OVERLAP;
        Some(Closed { value, distance, is_near_end, is_overlap_faint })
    }
}

impl Row<'_> {
    /// What becomes of it, if f32 is right for it.
    #[inline(always)]
    pub(super) fn settled<F: Form, const FUSED: bool>(&self) -> Option<Settled> {
        let Row { asked, sides } = self;
        let (form, known) = (F::of(asked.divergence), self.known());
        let delta = asked.opened(form, &known)?;
        let by = ToOneMass::<f32>::of(delta);
        let sum = match asked.is_infinite(&known) {
            true => 0.0,
            false => tree_sum(summed::<F, FUSED, false, _>(form, sides.numbers, &by)),
        };
        let overlap = match asked.is_far(&known, sum) {
            true => tree_sum(summed::<F, FUSED, true, _>(form, sides.numbers, &by)),
            false => 0.0,
        };
        let Closed { value, distance, is_near_end, is_overlap_faint } =
            asked.closed(form, &known, delta, sum, overlap)?;
        let judged = Judged { verdict: Asked::verdict(value), masses: known.masses() };
        Some(Settled { judged, known, delta, distance, is_near_end, is_overlap_faint })
    }
}

/// What brings p and q to the same mass.
pub(super) struct ToOneMass<B> {
    pub p: B,
    pub q: B,
    pub delta: B,
}

impl ToOneMass<f32> {
    #[inline(always)]
    pub(super) fn of(delta: f64) -> ToOneMass<f32> {
        let [p, q, delta] = [1.0 - delta, 1.0 + delta, delta].map(|by| by as f32);
        ToOneMass { p, q, delta }
    }
}

impl ToOneMass<Vector> {
    /// Of the rows in all lanes.
    #[inline(always)]
    pub(super) fn of(deltas: &[f64; LANES]) -> ToOneMass<Vector> {
        let none = [0.0; LANES];
        let mut by = ToOneMass { p: none, q: none, delta: none };
        for (lane, &delta) in deltas.iter().enumerate() {
            let ToOneMass { p, q, delta } = ToOneMass::<f32>::of(delta);
            (by.p[lane], by.q[lane], by.delta[lane]) = (p, q, delta);
        }
        by
    }
}

/// The sums of all lanes, brought to the same mass; or those of their overlaps.
#[inline(always)]
fn summed<F: Form, const FUSED: bool, const OVERLAP: bool, B: PerLane>(
    form: F,
    Numbers { p, q, differences }: Numbers<'_>,
    by: &ToOneMass<B>,
) -> [f64; LANES] {
    let mut sums = [0.0_f64; LANES];
    let mut first = 0;
    while first < p.len() {
        let mut chain: Vector = [0.0; LANES];
        for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
            let (p, q) = (block(p, at), block(q, at));
            let n = differences_of(differences, &p, &q, at);
            for lane in 0..LANES {
                let (p, q) = (p[lane], q[lane]);
                let n = mul_add::<FUSED>(-by.delta.at(lane), p + q, n[lane]);
                let (p, q) = (p * by.p.at(lane), q * by.q.at(lane));
                chain[lane] += match OVERLAP {
                    true => form.overlap::<FUSED>(p, q),
                    false => form.bin::<FUSED>(p, q, n),
                };
            }
        }
        for lane in 0..LANES {
            sums[lane] += f64::from(chain[lane]);
        }
        first += CHAIN * LANES;
    }
    sums
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::in_f32::judged_in_f32;
    use super::super::logs;
    use super::*;
    use crate::Batch;
    use crate::cpu::family::closer_look;
    use crate::cpu::tests::{noise, on_every_vector_unit};
    use crate::kind::Kind;
    use crate::verdict::Verdict;

    struct Sum<'a, F> {
        p: &'a [f32],
        q: &'a [f32],
        form: F,
    }

    impl<F: Form> pulp::WithSimd for Sum<'_, F> {
        type Output = f64;

        fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
            let Sum { p, q, form } = self;
            let numbers = Numbers { p, q, differences: None };
            let by = ToOneMass::<f32>::of(1e-3);
            tree_sum(match S::IS_SCALAR {
                true => summed::<F, false, false, _>(form, numbers, &by),
                false => summed::<F, true, false, _>(form, numbers, &by),
            })
        }
    }

    fn check<F: Form>(divergence: Divergence) {
        let side = |step: u32| -> Vec<f32> {
            (0..300).map(|at| ((at * step % 101) as f32 - 3.0).max(0.0) / 15_000.0).collect()
        };
        let (p, q) = (side(37), side(53));
        on_every_vector_unit(|| Sum { p: &p, q: &q, form: F::of(divergence) }, |sum| *sum);
    }

    /// Holds rows against f64, to which only those may be left that are near each other.
    fn compare<F: Form>(divergence: Divergence, factor: f64, zeros: bool) {
        for bins in [2, 5, 16, 33, 300] {
            for (at, apart) in [9.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4].into_iter().enumerate() {
                let mut p = Array2::from_shape_fn((8, bins), |(row, bin)| noise(row, bin).powi(4));
                let mut q = p.clone();
                q.indexed_iter_mut().for_each(|((row, bin), x)| {
                    *x *= 1.0 + apart * (noise(row + 40 + at, bin) - 0.5 / (1.0 + apart));
                });
                if zeros && bins > 2 {
                    (p[[0, 0]], q[[1, 1]]) = (0.0, 0.0);
                }
                for (side, mass) in [(&mut p, 1.0), (&mut q, 1.3)] {
                    side.rows_mut().into_iter().for_each(|mut row| {
                        let by = if row[1] > 0.01 { 1.0 } else { mass } / row.sum();
                        row.mapv_inplace(|x| x * by);
                    });
                }
                let [p, q] = [p, q].map(|side| side.mapv(|x| x as f32));
                let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
                let mut fast = 0;
                for row in 0..8 {
                    let judged = judged_in_f32::<OfForm<F>>(divergence, factor, &batch, row);
                    let Some(judged) = judged else { continue };
                    let want = closer_look(divergence, &batch, row);
                    let what = format!("{divergence}, {bins} bins, {apart:e}, row {row}");
                    match (judged.verdict, want.verdict) {
                        (Verdict::Value(got), Verdict::Value(want)) => {
                            let off = (got - want).abs() / want;
                            assert!(off < 2e-6, "{what}: {got:e}, not {want:e}: {off:e}");
                        }
                        (got, want) => assert_eq!(got, want, "{what}"),
                    }
                    fast += 1;
                }
                let least = if apart >= 1.0 { 6 } else { 2 };
                assert!(fast >= least, "{divergence}, {bins} bins, {apart:e}: {fast}");
            }
        }
    }

    /// The name of a form, and the factor that comes with it.
    struct Named;

    impl WithForm for Named {
        type Output = (&'static str, f64);

        fn with<F: Form>(self, factor: f64) -> Self::Output {
            (std::any::type_name::<F>().rsplit("::").next().unwrap(), factor)
        }
    }

    /// Values do not tell: what is left to f64 is right as well, and comes later.
    #[test]
    fn what_has_a_form_takes_it() {
        for (divergence, want) in [
            (Divergence::JensenShannon(0.5), Some(("JensenShannon", 0.25))),
            (Divergence::JsDistance, Some(("JensenShannon", 0.25))),
            (Divergence::JensenShannon(0.3), Some(("Skewed", 1.0))),
            (Divergence::JensenShannon(1e-4), None),
            (Divergence::Jeffreys, Some(("Jeffreys", 1.0))),
            (Divergence::Hellinger, Some(("Roots", 2.0))),
            (Divergence::Renyi(2.0), Some(("ChiSquared", 0.5))),
            (Divergence::Renyi(3.0), Some(("Power", 1.0))),
            (Divergence::Alpha(-2.0), Some(("Power", 1.0))),
            (Divergence::Tsallis(7.0), None),
            (Divergence::TotalVariation, Some(("Variation", 0.5))),
            (Divergence::ChiSquared, Some(("ChiSquared", 1.0))),
            (Divergence::Kl, Some(("KullbackLeibler", 1.0))),
            (Divergence::Renyi(1.0), Some(("KullbackLeibler", 1.0))),
            (Divergence::Entropy, None),
        ] {
            assert_eq!(with_form(divergence, Named), want, "{divergence}");
        }
    }

    #[test]
    fn rows_are_as_good_as_in_f64() {
        for zeros in [false, true] {
            compare::<KullbackLeibler>(Divergence::Kl, 1.0, zeros);
            compare::<KullbackLeibler>(Divergence::ReverseKl, 1.0, zeros);
            compare::<JensenShannon>(Divergence::JensenShannon(0.5), 0.25, zeros);
            compare::<JensenShannon>(Divergence::JsDistance, 0.25, zeros);
            compare::<Jeffreys>(Divergence::Jeffreys, 1.0, zeros);
            compare::<Roots>(Divergence::Hellinger, 2.0, zeros);
            compare::<Roots>(Divergence::Renyi(0.5), 2.0, zeros);
            compare::<Roots>(Divergence::Bhattacharyya, 2.0, zeros);
            compare::<ChiSquared>(Divergence::Renyi(2.0), 0.5, zeros);
            compare::<ChiSquared>(Divergence::Tsallis(2.0), 0.5, zeros);
            compare::<ChiSquared>(Divergence::ChiSquared, 1.0, zeros);
            compare::<Variation>(Divergence::TotalVariation, 0.5, zeros);
            for order in [-4.0, -0.3, 0.1, 0.45, 0.7, 0.999, 1.001, 1.5, 3.0, 6.0] {
                compare::<Power>(Divergence::Alpha(order), 1.0, zeros);
            }
            for weight in [0.1, 0.3, 0.8, 0.9] {
                compare::<Skewed>(Divergence::JensenShannon(weight), 1.0, zeros);
            }
            for order in [0.2, 0.7, 1.3, 4.0] {
                compare::<Power>(Divergence::Renyi(order), 1.0, zeros);
            }
        }
    }

    /// Holds rows of which one side at least is of logarithms against f64. Those of which both are may be near
    /// each other.
    fn compare_logs<F: Form>(divergence: Divergence, factor: f64) -> f64 {
        let mut worst = 0.0_f64;
        for bins in [2, 5, 33, 300, 4_000] {
            for (at, apart) in [3.0, 1.0, 0.3, 0.1, 1e-2, 1e-3, 1e-4, 15.0].into_iter().enumerate()
            {
                let p = Array2::from_shape_fn((6, bins), |(row, bin)| 12.0 * noise(row, bin));
                let by = |row: usize, bin: usize| apart * (2.0 * noise(row + 40 + at, bin) - 1.0);
                let q = Array2::from_shape_fn((6, bins), |(row, bin)| p[[row, bin]] + by(row, bin));
                let wide = [p, q];
                for kinds in [[Kind::Logits; 2], [Kind::LogProbs; 2], [Kind::Probs, Kind::Logits]] {
                    let side = |at: usize| {
                        let mut side = wide[at].clone();
                        for mut row in side.rows_mut() {
                            let mass: f64 = row.iter().map(|x| x.exp()).sum();
                            row.mapv_inplace(|x| match kinds[at] {
                                Kind::Probs => x.exp() / mass,
                                _ => x - 30.0,
                            });
                        }
                        side.mapv(|x| x as f32)
                    };
                    let (p, q) = (side(0), side(1));
                    let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                    let batch = batch.with_mass(Mass::Normalize);
                    let mut fast = 0;
                    for row in 0..6 {
                        let judged = judged_in_f32::<OfForm<F>>(divergence, factor, &batch, row);
                        let Some(judged) = judged else { continue };
                        let want = closer_look(divergence, &batch, row);
                        let (Verdict::Value(got), Verdict::Value(want)) =
                            (judged.verdict, want.verdict)
                        else {
                            panic!("{divergence}");
                        };
                        let off = (got - want).abs() / want;
                        let what = format!("{divergence}, {bins} {}, {apart:e}", kinds[0]);
                        assert!(off < 2e-6, "{what}, row {row}: {got:e}, not {want:e}: {off:e}");
                        worst = worst.max(off);
                        fast += 1;
                    }
                    let least = if bins > 2 { 4 } else { 2 };
                    let is_fast = apart >= 1.0 || kinds[0] != Kind::Probs;
                    assert!(!is_fast || fast >= least, "{divergence}, {bins}, {apart}: {fast}");
                }
            }
        }
        worst
    }

    #[test]
    fn rows_of_logarithms_are_as_good_as_in_f64() {
        let worst = [
            compare_logs::<KullbackLeibler>(Divergence::Kl, 1.0),
            compare_logs::<KullbackLeibler>(Divergence::ReverseKl, 1.0),
            compare_logs::<JensenShannon>(Divergence::JensenShannon(0.5), 0.25),
            compare_logs::<Jeffreys>(Divergence::Jeffreys, 1.0),
            compare_logs::<Roots>(Divergence::Hellinger, 2.0),
            compare_logs::<Roots>(Divergence::Bhattacharyya, 2.0),
            compare_logs::<ChiSquared>(Divergence::Renyi(2.0), 0.5),
            compare_logs::<ChiSquared>(Divergence::ChiSquared, 1.0),
            compare_logs::<Variation>(Divergence::TotalVariation, 0.5),
            compare_logs::<Skewed>(Divergence::JensenShannon(0.2), 1.0),
            compare_logs::<Power>(Divergence::Alpha(-1.5), 1.0),
            compare_logs::<Power>(Divergence::Renyi(0.3), 1.0),
            compare_logs::<Power>(Divergence::Tsallis(0.8), 1.0),
            compare_logs::<Power>(Divergence::Renyi(3.0), 1.0),
            compare_logs::<Power>(Divergence::Alpha(-2.0), 1.0),
        ];
        println!("{worst:?}");
    }

    /// Most of the mass is in bins that the other side lacks: what stands for 0 there is not to be raised to a
    /// power.
    #[test]
    fn overlaps_are_those_of_what_is_there() {
        let p = ndarray::array![[0.7_f32, 0.3, 0.0], [0.999, 1e-3, 0.0], [0.5, 0.0, 0.5]];
        let q = ndarray::array![[0.0_f32, 0.2, 0.8], [0.0, 1e-3, 0.999], [0.0, 0.98, 0.02]];
        let batch = Batch::probs(&p, &q).unwrap();
        for (order, row) in
            [0.01, 0.3, 0.5, 0.7, 0.99].into_iter().flat_map(|a| [(a, 0), (a, 1), (a, 2)])
        {
            let divergence = Divergence::Renyi(order);
            let judged = with_form(divergence, Judging { divergence, batch: &batch, row }).unwrap();
            let (got, want) =
                (judged.unwrap().verdict, closer_look(divergence, &batch, row).verdict);
            let (Verdict::Value(got), Verdict::Value(want)) = (got, want) else {
                panic!("{order}")
            };
            assert!((got - want).abs() < 1e-6 * want, "{order}, row {row}: {got:e}, not {want:e}");
        }
    }

    /// The verdict on a row by whatever form a divergence has.
    struct Judging<'a> {
        divergence: Divergence,
        batch: &'a Batch<'a, f32>,
        row: usize,
    }

    impl WithForm for Judging<'_> {
        type Output = Option<Judged>;

        fn with<F: Form>(self, factor: f64) -> Option<Judged> {
            let Judging { divergence, batch, row } = self;
            judged_in_f32::<OfForm<F>>(divergence, factor, batch, row)
        }
    }

    /// One number far above thousands that are equal, as logits of language models are: what rounding takes
    /// from their differences is the same of all.
    #[test]
    fn flat_tails_are_as_good_as_others() {
        let side = |top: f32, tail: f32| {
            Array2::from_shape_fn((1, 20_001), |(_, bin)| if bin == 0 { top } else { tail })
        };
        for (at, [p, q]) in [
            [(-0.639_758_9, -10.354_857), (-0.739_758_9, -10.354_857)],
            [(-0.609_216_2, -10.270_434), (-0.809_216_1, -10.270_434)],
            [(-0.609_216_2, -10.270_434), (-1.309_216_1, -10.170_434)],
        ]
        .into_iter()
        .enumerate()
        {
            let (p, q) = (side(p.0, p.1), side(q.0, q.1));
            let batch = Batch::logits(&p, &q).unwrap();
            type Judged32 = fn(Divergence, f64, &Batch<'_, f32>, usize) -> Option<Judged>;
            let check = |divergence: Divergence, judged: Judged32, factor| {
                let Some(judged) = judged(divergence, factor, &batch, 0) else {
                    assert!(at < 2, "{divergence}");
                    return;
                };
                let want = closer_look(divergence, &batch, 0);
                let (Verdict::Value(got), Verdict::Value(want)) = (judged.verdict, want.verdict)
                else {
                    panic!("{divergence}");
                };
                let off = (got - want).abs() / want;
                assert!(off < 3e-6, "{divergence}: {got:e}, not {want:e}: {off:e}");
            };
            check(Divergence::Jeffreys, judged_in_f32::<OfForm<Jeffreys>>, 1.0);
            check(Divergence::ChiSquared, judged_in_f32::<OfForm<ChiSquared>>, 1.0);
            check(Divergence::Hellinger, judged_in_f32::<OfForm<Roots>>, 2.0);
            check(Divergence::TotalVariation, judged_in_f32::<OfForm<Variation>>, 0.5);
            let js = Divergence::JensenShannon(0.5);
            check(js, judged_in_f32::<OfForm<JensenShannon>>, 0.25);
        }
    }

    /// The masses are those that were given, and decided upon in f64 where they are next to the tolerance.
    #[test]
    fn masses_are_those_of_the_rows() {
        let judged = |kind, p: [f32; 2], q: [f32; 2], mass| {
            let (p, q) = (ndarray::array![p], ndarray::array![q]);
            let batch = Batch::of(kind, &p, kind, &q).unwrap().with_mass(mass);
            let divergence = Divergence::Jeffreys;
            let judged = judged_in_f32::<OfForm<Jeffreys>>(divergence, 1.0, &batch, 0);
            judged.map(|judged| judged.masses)
        };
        let check = |got: Option<[f64; 2]>, want: [f64; 2]| {
            let got = got.unwrap();
            assert!((0..2).all(|at| (got[at] - want[at]).abs() < 1e-6 * want[at]), "{got:?}");
        };
        let (p, q) = ([0.5, 0.5], [0.25, 0.75]);
        check(judged(Kind::Logits, p, q, Mass::Check), [1.0, 1.0]);
        let of_logs = [[0.5_f64, 0.5], [0.25, 0.75]].map(|x| x[0].exp() + x[1].exp());
        check(judged(Kind::LogProbs, p, q, Mass::Normalize), of_logs);
        check(judged(Kind::Probs, p, q, Mass::Check), [1.0, 1.0]);
        check(judged(Kind::Probs, [0.5, 0.5005], q, Mass::Check), [1.0005, 1.0]);
        for (first, second) in [(0.5, 0.501), (0.501, 0.498), (0.5, 0.503), (0.5, 0.497)] {
            assert!(judged(Kind::Probs, [first, second], q, Mass::Check).is_none(), "{second}");
            assert!(judged(Kind::Probs, q, [first, second], Mass::Check).is_none(), "{second}");
        }
        assert!(judged(Kind::Probs, [1e-22, 1e-22], [1e-22, 2e-22], Mass::Normalize).is_none());
    }

    /// What underflows makes no finite value infinite.
    #[test]
    fn probabilities_too_small_for_f32_are_some() {
        let (p, q) =
            (ndarray::array![[0.0_f32, -200.0, 1.0]], ndarray::array![[0.5_f32, 1.0, 0.0]]);
        let batch = Batch::logits(&p, &q).unwrap();
        let judged = |divergence| judged_in_f32::<OfForm<Jeffreys>>(divergence, 1.0, &batch, 0);
        assert!(judged(Divergence::Jeffreys).is_none());
        assert!(judged(Divergence::JensenShannon(0.5)).is_some());
        // Powers bring it next to 1.
        let (p_sides, q_sides) = ([[0.0_f32, -0.85], [0.0, -90.0]], [[0.0_f32, -90.0], [0.0; 2]]);
        for (p, q) in p_sides.into_iter().zip(q_sides) {
            let (p, q) = (ndarray::array![p], ndarray::array![q]);
            let batch = Batch::logits(&p, &q).unwrap();
            for order in [0.001, 0.1, 0.999] {
                let judged = judged_in_f32::<OfForm<Power>>;
                assert!(judged(Divergence::Renyi(order), 1.0, &batch, 0).is_none(), "{order}");
            }
        }
        let near = [ndarray::array![[0.0_f32, 1.0]], ndarray::array![[0.5_f32, 0.0]]];
        let batch = Batch::logits(&near[0], &near[1]).unwrap();
        for (order, takes) in [(3.0, true), (-2.0, true), (3.5, false), (-2.5, false)] {
            let judged = judged_in_f32::<OfForm<Power>>(Divergence::Alpha(order), 1.0, &batch, 0);
            assert_eq!(judged.is_some(), takes, "{order}");
        }
        let apart = [ndarray::array![[0.0_f32, -200.0]], ndarray::array![[-200.0_f32, 0.0]]];
        let batch = Batch::logits(&apart[0], &apart[1]).unwrap();
        let divergence = Divergence::Bhattacharyya;
        assert!(judged_in_f32::<OfForm<Roots>>(divergence, 2.0, &batch, 0).is_none());
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut p = p.clone();
            p[[0, 1]] = wrong;
            let mut into = [0.0; 3];
            let row = p.as_slice().unwrap();
            assert!(logs::probabilities::<true>(row, 1.0, &mut into).is_none());
        }
        let mut into = [0.0; 2];
        let none = [f32::NEG_INFINITY; 2];
        assert!(logs::probabilities::<true>(&none, 1.0, &mut into).is_none());
    }

    #[test]
    fn sums_do_not_depend_on_the_vector_unit() {
        check::<JensenShannon>(Divergence::JsDistance);
        check::<Roots>(Divergence::Hellinger);
        check::<Variation>(Divergence::TotalVariation);
        check::<ChiSquared>(Divergence::ChiSquared);
        check::<Jeffreys>(Divergence::Jeffreys);
        check::<Power>(Divergence::Tsallis(0.7));
        check::<Skewed>(Divergence::JensenShannon(0.3));
        check::<KullbackLeibler>(Divergence::ReverseKl);
    }
}
