//! Gradients in P of cross-entropy and entropy in f32: with the slopes `u = −ln q`, or `−ln p`, and their mean ū
//! over P, they are `(u − ū)/P` in probabilities and `p·(u − ū)/T` in logarithms. The mean is the value: slopes are
//! made of probabilities that are multiplied by its exponential, so that nearly nothing is left to subtract. What
//! lacks digits all the same, as that of rows that are nearly flat, is left to [`gradient`](super::gradient).

use super::entropies_of_logs::Entropies;
use super::form_gradient::Line;
use super::in_f32::{CHAIN, Numbers, PerLane, Sides, Vector, add, block, put};
use super::side_by_side::Group;
use super::sums::LANES;
use crate::chain::tree_sum;
use crate::kind::Kind;
use crate::term::{exp, lesser, ln_ratio_f32, mul_add};

/// The value of a row, which is finite, and what its gradient is multiplied by; or those of rows side by side.
pub(super) struct Given<N> {
    pub value: N,
    pub weight: N,
    pub temperature: f64,
}

/// The slopes that are made of this or a higher value are yet to have their mean subtracted.
const HIGHEST: f64 = 60.0;
/// What rounding moves slopes by, in units that [`Line`] allows for.
const ROUNDING: f32 = 0.5;

/// Writes the gradient of a row; returns whether it has its digits.
pub(super) fn row(which: Entropies, sides: Sides<'_>, given: Given<f64>, into: &mut [f32]) -> bool {
    pulp::Arch::new().dispatch(OfRow { which, sides, given, into })
}

/// The same of the rows of a group: those that have not their digits are not right.
pub(super) fn side_by_side(
    which: Entropies,
    group: &Group<'_>,
    given: Given<[f64; LANES]>,
    into: &mut [f32],
    are_right: &mut [bool; LANES],
) {
    pulp::Arch::new().dispatch(OfLanes { which, group, given, into, are_right });
}

struct OfRow<'a> {
    which: Entropies,
    sides: Sides<'a>,
    given: Given<f64>,
    into: &'a mut [f32],
}

impl pulp::WithSimd for OfRow<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> bool {
        if S::IS_SCALAR { self.write::<false>() } else { self.write::<true>() }
    }
}

impl OfRow<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(self) -> bool {
        let OfRow { which, sides, given, into } = self;
        let (look, kind) = (sides.look(), sides.rule.kinds[0]);
        if kind == Kind::Probs && look.both as usize != into.len() {
            return false;
        }
        let mass = look.masses[0];
        let (value, weight) = (given.value, given.weight);
        let per_mass = (value.min(HIGHEST).exp() / look.masses[which.side()]) as f32;
        let sum = tree_sum(slopes::<FUSED, _>(which, sides.numbers, &per_mass, into));
        let per_number = kind.divided_by(given.temperature);
        let line = Line::<f32>::of(mass, sum, weight, per_number, ROUNDING);
        line.is_sound()
            && match kind {
                Kind::Probs => line.times_in_row::<false>(into, sides.numbers.p),
                _ => line.times_in_row::<true>(into, sides.numbers.p),
            }
    }
}

struct OfLanes<'a> {
    which: Entropies,
    group: &'a Group<'a>,
    given: Given<[f64; LANES]>,
    into: &'a mut [f32],
    are_right: &'a mut [bool; LANES],
}

impl pulp::WithSimd for OfLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.write::<false>() } else { self.write::<true>() }
    }
}

impl OfLanes<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(self) {
        let OfLanes { which, group, given, into, are_right } = self;
        let (numbers, kind, are_full) = (group.numbers, group.rule.kinds[0], group.are_full());
        let mut per_mass = [0.0; LANES];
        let masses = &group.sums()[which.side()];
        for ((per_mass, mass), &value) in per_mass.iter_mut().zip(masses).zip(&given.value) {
            *per_mass = (exp::<FUSED>(lesser(value, HIGHEST)) / mass) as f32;
        }
        let sums = slopes::<FUSED, _>(which, numbers, &per_mass, into);
        let (masses, per_number) = (&group.sums()[0], kind.divided_by(given.temperature));
        let rounding = [ROUNDING; LANES];
        let line =
            Line::<Vector>::of(masses, &sums, &given.weight, per_number, rounding, are_right);
        for (is_right, is_full) in are_right.iter_mut().zip(are_full) {
            *is_right &= is_full | (kind != Kind::Probs);
        }
        match kind {
            Kind::Probs => line.times_in_lanes::<false>(into, numbers.p, are_right),
            _ => line.times_in_lanes::<true>(into, numbers.p, are_right),
        }
    }
}

/// Writes the slopes, and sums their products with p in all lanes.
#[inline(always)]
fn slopes<const FUSED: bool, B: PerLane>(
    which: Entropies,
    Numbers { p, q, .. }: Numbers<'_>,
    per_mass: &B,
    into: &mut [f32],
) -> [f64; LANES] {
    let of = [p, q][which.side()];
    let mut sums = [[0.0_f64; LANES]];
    let mut first = 0;
    while first < p.len() {
        let mut chain: Vector = [0.0; LANES];
        for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
            let (p, mut of) = (block(p, at), block(of, at));
            for lane in 0..LANES {
                let probability = (of[lane] * per_mass.at(lane)).max(f32::MIN_POSITIVE);
                of[lane] = -ln_ratio_f32::<FUSED>(probability, 1.0);
                chain[lane] = mul_add::<FUSED>(p[lane], of[lane], chain[lane]);
            }
            put(&of, &mut into[at..]);
        }
        add(&mut sums, &[chain]);
        first += CHAIN * LANES;
    }
    sums[0]
}
