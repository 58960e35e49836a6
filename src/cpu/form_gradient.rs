//! Gradients of rows in the forms of [`form`](super::form): a row is settled as there, and gone through twice
//! more, from the cache. The slopes are written into their places while their means are summed, and the means
//! are subtracted there. What lacks digits in f32, and probabilities of 0, whose slopes may be infinite, are left
//! to [`gradient`](super::gradient).
//!
//! Slopes are 0 where p = q, and the masses are brought to the same: so they have both signs, and in
//! probabilities no derivative is much smaller than what the mean is subtracted from. In logarithms that of a bin
//! that has most of the mass is, and comes of all the others: together they are nothing. Of rows that are nearly as
//! far apart as can be, slopes are nearly the same wherever there is mass, and are held against that.

use std::marker::PhantomData;

use super::form::{Form, SettledLanes, TINY, ToOneMass, WithForm, settled_side_by_side, with_form};
use super::in_f32::{
    self, Asked, CHAIN, Numbers, PerLane, Row, Sides, Vector, Verdicts, add, block, differences_of,
    put,
};
use super::logs::{larger, stands_out};
use super::side_by_side::Group;
use super::sums::LANES;
use crate::Divergence;
use crate::batch::Batch;
use crate::chain::tree_sum;
use crate::element::Element;
use crate::kind::Kind;
use crate::outcome::Status;
use crate::slope::Slope;
use crate::term::mul_add;
use crate::verdict::{Judged, Verdict};

/// Whether there is a form for rows of a batch.
pub(super) fn takes<T: Element>(divergence: Divergence, batch: &Batch<'_, T>) -> bool {
    struct Nothing;
    impl WithForm for Nothing {
        type Output = ();

        fn with<F: Form>(self, _: f64) {}
    }
    in_f32::takes(batch) && with_form(divergence, Nothing).is_some()
}

/// Where the gradients of a row go, and what they are multiplied by.
pub(super) struct Destination<'a> {
    pub weight: f64,
    pub temperature: f64,
    /// Empty where they are not wanted.
    pub places: [&'a mut [f32]; 2],
}

/// The verdict on a row, and whether the gradients of P and Q are made: if not, whatever is in their places.
/// Nothing if f32 is not right for the row.
pub(super) fn row(
    divergence: Divergence,
    sides: Sides<'_>,
    into: Destination<'_>,
) -> Option<(Judged, [bool; 2])> {
    with_form(divergence, Written { divergence, sides, into })?
}

/// A row whose gradients are written.
struct Written<'a> {
    divergence: Divergence,
    sides: Sides<'a>,
    into: Destination<'a>,
}

impl WithForm for Written<'_> {
    type Output = Option<(Judged, [bool; 2])>;

    fn with<F: Form>(self, factor: f64) -> Self::Output {
        let Written { divergence, sides, into } = self;
        let row = Row { asked: Asked { divergence, factor, rule: sides.rule }, sides };
        pulp::Arch::new().dispatch(Write { row, into, form: PhantomData::<F> })
    }
}

struct Write<'a, F> {
    row: Row<'a>,
    into: Destination<'a>,
    form: PhantomData<F>,
}

impl<F: Form> pulp::WithSimd for Write<'_, F> {
    type Output = Option<(Judged, [bool; 2])>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        match S::IS_SCALAR {
            true => write::<F, false>(&self.row, self.into),
            false => write::<F, true>(&self.row, self.into),
        }
    }
}

#[inline(always)]
fn write<F: Form, const FUSED: bool>(
    row: &Row<'_>,
    into: Destination<'_>,
) -> Option<(Judged, [bool; 2])> {
    let Row { asked: Asked { divergence, rule, .. }, sides: Sides { numbers, logs, .. } } = *row;
    let Numbers { p, q, differences } = numbers;
    let settled = row.settled::<F, FUSED>()?;
    let Verdict::Value(value) = settled.judged.verdict else { return None };
    if settled.judged.row::<f32>().status != Status::Ok {
        return None;
    }
    let (form, delta) = (F::of(divergence), settled.delta);
    let Destination { weight, temperature, places: [of_p, of_q] } = into;
    // Beside a large δ single differences have not the digits that their sum has; nor has what is left of slopes that
    // are nearly the same, where it is of the size of what was lost, times its slopes.
    let is_buried = F::HAS_STEEP_SLOPES && settled.is_near_end && settled.known.some_lost();
    let is_full = settled.known.look.both as usize == p.len();
    let is_hidden = settled.is_overlap_faint && !is_full;
    let has_digits = settled.distance >= delta.abs() && !is_buried && !is_hidden;
    // A probability of 0 may have a slope that is infinite, which a logarithm is not told of.
    let has_slopes = |side: usize| has_digits && (is_full || logs[side].is_some());
    let mut are_made = [of_p.is_empty() || has_slopes(0), of_q.is_empty() || has_slopes(1)];
    let of_p = if are_made[0] { of_p } else { &mut [] };
    let of_q = if are_made[1] { of_q } else { &mut [] };
    let (into, by) = ([&mut *of_p, &mut *of_q], ToOneMass::<f32>::of(delta));
    let at_end = &[settled.is_near_end; LANES];
    let Slopes { sums, doubtful } = match settled.is_near_end {
        true => slopes_if_wanted::<F, FUSED, END, _>(form, numbers, &by, at_end, into),
        false => slopes_if_wanted::<F, FUSED, MIDDLE, _>(form, numbers, &by, at_end, into),
    };
    if doubtful != [0; LANES] {
        return Some((settled.judged, [false; 2]));
    }
    let sums = sums.map(tree_sum);
    let factor = weight * Slope::new(divergence).at(value, 1.0).factor_of_form();
    let rounding = rounding(settled.is_near_end, differences);
    for (side, (into, numbers)) in [(of_p, p), (of_q, q)].into_iter().enumerate() {
        if into.is_empty() {
            continue;
        }
        let mass = settled.known.look.masses[side];
        let kind = rule.kinds[side];
        let per_number = kind.divided_by(temperature);
        let line = Line::<f32>::of(mass, sums[side], factor, per_number, rounding);
        are_made[side] = line.is_sound()
            && match kind {
                Kind::Probs if rule.kinds == [Kind::Probs; 2] => {
                    line.without_mean(into);
                    true
                }
                Kind::Probs => line.times_in_row::<false>(into, numbers),
                _ => line.times_in_row::<true>(into, numbers),
            };
    }
    Some((settled.judged, are_made))
}

/// Where the gradients of the rows of a group go, side by side as its numbers are, and what they are multiplied by.
pub(super) struct Lanes<'a> {
    pub weights: [f64; LANES],
    pub temperature: f64,
    /// Empty where they are not wanted.
    pub places: [&'a mut [f32]; 2],
}

/// The verdicts on the rows of a group, and which of them have their gradients made; whatever is in the places of
/// others. These may be for f32 one by one: here are those that raise no question.
pub(super) fn side_by_side(
    divergence: Divergence,
    group: &Group<'_>,
    into: Lanes<'_>,
) -> (Verdicts, [bool; LANES]) {
    let made = with_form(divergence, WrittenLanes { divergence, group, into });
    made.unwrap_or_else(|| (Verdicts::none(), [false; LANES]))
}

struct WrittenLanes<'a> {
    divergence: Divergence,
    group: &'a Group<'a>,
    into: Lanes<'a>,
}

impl WithForm for WrittenLanes<'_> {
    type Output = (Verdicts, [bool; LANES]);

    fn with<F: Form>(self, factor: f64) -> Self::Output {
        let WrittenLanes { divergence, group, into } = self;
        let asked = Asked { divergence, factor, rule: group.rule };
        pulp::Arch::new().dispatch(WriteLanes { asked, group, into, form: PhantomData::<F> })
    }
}

struct WriteLanes<'a, F> {
    asked: Asked,
    group: &'a Group<'a>,
    into: Lanes<'a>,
    form: PhantomData<F>,
}

impl<F: Form> pulp::WithSimd for WriteLanes<'_, F> {
    type Output = (Verdicts, [bool; LANES]);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        let WriteLanes { asked, group, into, .. } = self;
        match S::IS_SCALAR {
            true => write_side_by_side::<F, false>(asked, group, into),
            false => write_side_by_side::<F, true>(asked, group, into),
        }
    }
}

#[inline(always)]
fn write_side_by_side<F: Form, const FUSED: bool>(
    asked: Asked,
    group: &Group<'_>,
    into: Lanes<'_>,
) -> (Verdicts, [bool; LANES]) {
    let SettledLanes { verdicts, are_plain, deltas, distances, are_near_end } =
        settled_side_by_side::<F, FUSED>(&asked, group);
    let Lanes { weights, temperature, places: [of_p, of_q] } = into;
    let (form, by) = (F::of(asked.divergence), ToOneMass::<Vector>::of(&deltas));
    let into = [&mut *of_p, &mut *of_q];
    let (numbers, at_end) = (group.numbers, &are_near_end);
    let Slopes { sums, doubtful } = match are_near_end.contains(&true) {
        true => slopes_if_wanted::<F, FUSED, EITHER, _>(form, numbers, &by, at_end, into),
        false => slopes_if_wanted::<F, FUSED, MIDDLE, _>(form, numbers, &by, at_end, into),
    };
    let (slope, are_full) = (Slope::new(asked.divergence), group.are_full());
    let Verdicts { values, are_right } = &verdicts;
    let (mut are_made, mut factors) = (*are_right, [0.0; LANES]);
    for lane in 0..LANES {
        are_made[lane] &= are_plain[lane]
            && are_full[lane]
            && doubtful[lane] == 0
            && distances[lane] >= deltas[lane].abs();
        factors[lane] = weights[lane] * slope.at(values[lane], 1.0).factor_of_form();
    }
    let Numbers { p, q, differences } = group.numbers;
    for (side, (into, numbers)) in [(of_p, p), (of_q, q)].into_iter().enumerate() {
        if into.is_empty() {
            continue;
        }
        let kinds = group.rule.kinds;
        let (masses, per_number) = (&group.sums()[side], kinds[side].divided_by(temperature));
        let roundings = are_near_end.map(|is_near_end| rounding(is_near_end, differences));
        let line =
            Line::<Vector>::of(masses, &sums[side], &factors, per_number, roundings, &mut are_made);
        match kinds[side] {
            Kind::Probs if kinds == [Kind::Probs; 2] => line.without_mean(into),
            Kind::Probs => line.times_in_lanes::<false>(into, numbers, &mut are_made),
            _ => line.times_in_lanes::<true>(into, numbers, &mut are_made),
        }
    }
    (verdicts, are_made)
}

/// What rounding of probabilities that were made of logarithms moves slopes by: no more than by units in their last
/// places if they are held against the end, or made of differences that have their digits.
fn rounding(is_near_end: bool, differences: Option<&[f32]>) -> f32 {
    if is_near_end || differences.is_some() { 0.0 } else { 1.0 }
}

/// How large the largest derivative has to be beside what is subtracted in it, and beside what rounding moves.
pub(super) const SHOWS: f32 = 0.1;
/// And how large it has to be by itself: below are numbers that f32 has not.
const LEAST: f32 = 1e-30;

/// What the derivatives of a row have in common, or those of the rows in all lanes.
pub(super) struct Line<B> {
    /// Of the mass: no more than one bin has more.
    pub half: B,
    pub mean: B,
    pub by: B,
    /// See [`rounding`].
    pub rounding: B,
}

/// What is found in all lanes while derivatives are made.
struct Found {
    /// The largest of them, and of what they are to be held against.
    largest: Vector,
    beside: Vector,
    /// The largest number.
    top: Vector,
}

impl<B: PerLane> Line<B> {
    /// Makes slopes derivatives; in the place of one by a number of more than half of the mass is 0 then.
    #[inline(always)]
    fn times<const LOGS: bool>(&self, into: &mut [f32], numbers: &[f32]) -> Found {
        let Line { half, mean, by, rounding } = self;
        let (mut largest, mut beside) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let mut top = [0.0_f32; LANES];
        for at in (0..into.len()).step_by(LANES) {
            let (slopes, p) = (block(into, at), block(numbers, at));
            let mut derivatives = [0.0_f32; LANES];
            for lane in 0..LANES {
                let (slope, p, mean) = (slopes[lane], p[lane], mean.at(lane));
                let is_most = LOGS & (p > half.at(lane));
                top[lane] = larger(p, top[lane]);
                // Behind the last bin there is none.
                let by_p = if LOGS | (at + lane >= into.len()) { p } else { 1.0 };
                let by_p = if is_most { 0.0 } else { by_p };
                let derivative = by_p * (slope - mean);
                let of_slope = by_p * larger(larger(slope.abs(), mean.abs()), rounding.at(lane));
                largest[lane] = larger(derivative.abs(), largest[lane]);
                beside[lane] = larger(of_slope, beside[lane]);
                derivatives[lane] = by.at(lane) * derivative;
            }
            put(&derivatives, &mut into[at..]);
        }
        Found { largest, beside, top }
    }

    /// Makes slopes derivatives in probabilities.
    #[inline(always)]
    fn without_mean(&self, into: &mut [f32]) {
        let (blocks, rest) = into.as_chunks_mut::<LANES>();
        for block in blocks {
            for (lane, slope) in block.iter_mut().enumerate() {
                *slope = self.by.at(lane) * (*slope - self.mean.at(lane));
            }
        }
        for (lane, slope) in rest.iter_mut().enumerate() {
            *slope = self.by.at(lane) * (*slope - self.mean.at(lane));
        }
    }

    /// The sums in all lanes of the derivatives, and of all numbers but one of more than half of the mass.
    #[inline(always)]
    fn sums_of_others(&self, into: &[f32], numbers: &[f32]) -> [[f64; LANES]; 2] {
        let mut sums = [[0.0_f64; LANES]; 2];
        for at in (0..into.len()).step_by(LANES) {
            let (derivatives, mut numbers) = (block(into, at), block(numbers, at));
            for (lane, number) in numbers.iter_mut().enumerate() {
                *number = if *number > self.half.at(lane) { 0.0 } else { *number };
            }
            add(&mut sums, &[derivatives, numbers]);
        }
        sums
    }

    /// Counts the derivative that takes away all others. What rounding takes from the mean is the same in all of
    /// those, and comes together there.
    #[inline(always)]
    fn balance(
        &self,
        [others, numbers]: [f32; 2],
        largest: &mut f32,
        beside: &mut f32,
        lane: usize,
    ) {
        let (mean, by) = (self.mean.at(lane), self.by.at(lane));
        *largest = larger((others / by).abs(), *largest);
        *beside = larger(*beside, numbers * larger(mean.abs(), self.rounding.at(lane)));
    }
}

impl Line<f32> {
    /// Of a side's mass, and the sum of its slopes' products with p; of what derivatives are multiplied by, and
    /// numbers are divided by.
    #[inline(always)]
    pub(super) fn of(
        mass: f64,
        sum: f64,
        factor: f64,
        per_number: f64,
        rounding: f32,
    ) -> Line<f32> {
        Line {
            half: (0.5 * mass) as f32,
            mean: (sum / mass) as f32,
            by: (factor / (mass * per_number)) as f32,
            rounding,
        }
    }

    /// Whether f32 has room for all of them.
    #[inline(always)]
    pub(super) fn is_sound(&self) -> bool {
        self.by.is_normal() & self.mean.is_finite()
    }

    /// Makes slopes derivatives, in logarithms if they are to be multiplied by probabilities. Returns whether
    /// they have their digits.
    #[inline(always)]
    pub(super) fn times_in_row<const LOGS: bool>(&self, into: &mut [f32], numbers: &[f32]) -> bool {
        let Found { largest, beside, top } = self.times::<LOGS>(into, numbers);
        let most = |lanes: Vector| lanes.into_iter().fold(0.0, larger);
        let (mut largest, mut beside, top) = (most(largest), most(beside), most(top));
        if LOGS & (top > self.half) {
            let sums = self.sums_of_others(into, numbers).map(|lanes| tree_sum(lanes) as f32);
            if let Some(place) = numbers.iter().position(|&number| number > self.half) {
                into[place] = -sums[0];
            }
            self.balance(sums, &mut largest, &mut beside, 0);
        }
        let has_digits = largest >= LEAST.max(SHOWS * beside);
        let top = if LOGS { 0.5 * top / self.half } else { 0.0 };
        has_digits && stands_out(into, largest * self.by.abs(), top)
    }
}

impl Line<Vector> {
    /// Those of rows side by side, and which of them are sound besides.
    #[inline(always)]
    pub(super) fn of(
        masses: &[f64; LANES],
        sums: &[f64; LANES],
        factors: &[f64; LANES],
        per_number: f64,
        rounding: Vector,
        are_made: &mut [bool; LANES],
    ) -> Line<Vector> {
        let none = [0.0; LANES];
        let mut line = Line { half: none, mean: none, by: none, rounding };
        for lane in 0..LANES {
            let (mass, sum, factor) = (masses[lane], sums[lane], factors[lane]);
            let of_lane = Line::<f32>::of(mass, sum, factor, per_number, rounding[lane]);
            (line.half[lane], line.mean[lane]) = (of_lane.half, of_lane.mean);
            line.by[lane] = of_lane.by;
            are_made[lane] &= of_lane.is_sound();
        }
        line
    }

    /// The same of rows side by side: those that have not their digits are not right.
    #[inline(always)]
    pub(super) fn times_in_lanes<const LOGS: bool>(
        &self,
        into: &mut [f32],
        numbers: &[f32],
        are_right: &mut [bool; LANES],
    ) {
        let Found { mut largest, mut beside, top } = self.times::<LOGS>(into, numbers);
        let mut has_most = [false; LANES];
        for lane in 0..LANES {
            has_most[lane] = LOGS & (top[lane] > self.half[lane]);
        }
        if has_most != [false; LANES] {
            let sums = self.sums_of_others(into, numbers);
            let (mut others, mut of_others) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            for lane in 0..LANES {
                (others[lane], of_others[lane]) = (sums[0][lane] as f32, sums[1][lane] as f32);
            }
            for at in (0..into.len()).step_by(LANES) {
                let (mut derivatives, numbers) = (block(into, at), block(numbers, at));
                for lane in 0..LANES {
                    let is_most = numbers[lane] > self.half[lane];
                    derivatives[lane] = if is_most { -others[lane] } else { derivatives[lane] };
                }
                put(&derivatives, &mut into[at..]);
            }
            for lane in (0..LANES).filter(|&lane| has_most[lane]) {
                let sums = [others[lane], of_others[lane]];
                self.balance(sums, &mut largest[lane], &mut beside[lane], lane);
            }
        }
        for lane in 0..LANES {
            are_right[lane] &= largest[lane] >= LEAST.max(SHOWS * beside[lane]);
        }
    }
}

/// Of p + q: differences up to it may have the wrong sign.
const DOUBT: f32 = 1e-6;

/// What slopes are held against: where p = q, or where the other number is 0; or that which is right for each lane.
const MIDDLE: u8 = 0;
const END: u8 = 1;
const EITHER: u8 = 2;

/// Writes the slopes of the sides that are wanted.
#[inline(always)]
fn slopes_if_wanted<F: Form, const FUSED: bool, const FROM: u8, B: PerLane>(
    form: F,
    numbers: Numbers<'_>,
    by: &ToOneMass<B>,
    are_near_end: &[bool; LANES],
    into: [&mut [f32]; 2],
) -> Slopes {
    match into.each_ref().map(|into| !into.is_empty()) {
        [true, true] => {
            slopes::<F, FUSED, FROM, true, true, B>(form, numbers, by, are_near_end, into)
        }
        [true, false] => {
            slopes::<F, FUSED, FROM, true, false, B>(form, numbers, by, are_near_end, into)
        }
        [false, true] => {
            slopes::<F, FUSED, FROM, false, true, B>(form, numbers, by, are_near_end, into)
        }
        [false, false] => Slopes { sums: [[0.0; LANES]; 2], doubtful: [0; LANES] },
    }
}

/// What is found in all lanes while slopes are written.
struct Slopes {
    /// Of their products with what was given.
    sums: [[f64; LANES]; 2],
    /// Whether one jumps where f32 cannot tell on which side a bin is.
    doubtful: [u32; LANES],
}

#[inline(always)]
fn slopes<
    F: Form,
    const FUSED: bool,
    const FROM: u8,
    const OF_P: bool,
    const OF_Q: bool,
    B: PerLane,
>(
    form: F,
    Numbers { p, q, differences }: Numbers<'_>,
    by: &ToOneMass<B>,
    are_near_end: &[bool; LANES],
    [of_p, of_q]: [&mut [f32]; 2],
) -> Slopes {
    let (mut sums, mut doubtful) = ([[0.0_f64; LANES]; 2], [0_u32; LANES]);
    let mut first = 0;
    while first < p.len() {
        let mut chains = [[0.0_f32; LANES]; 2];
        for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
            let (p_block, q_block) = (block(p, at), block(q, at));
            let n_block = differences_of(differences, &p_block, &q_block, at);
            let mut found = [[0.0_f32; LANES]; 2];
            for lane in 0..LANES {
                let (p, q) = (p_block[lane], q_block[lane]);
                let n = mul_add::<FUSED>(-by.delta.at(lane), p + q, n_block[lane]);
                // Behind the last bin there is none, and no slope.
                let p_there = (p * by.p.at(lane)).max(TINY);
                let q_there = (q * by.q.at(lane)).max(TINY);
                let near = || form.slopes::<FUSED>(p_there, q_there, n);
                let from_end = || form.slopes_from_end::<FUSED>(p_there, q_there, n);
                let [u, v] = match FROM {
                    MIDDLE => near(),
                    END => from_end(),
                    _ => {
                        let (near, far) = (near(), from_end());
                        let is_far = are_near_end[lane];
                        [0, 1].map(|side| if is_far { far[side] } else { near[side] })
                    }
                };
                [found[0][lane], found[1][lane]] = [u, v];
                if OF_P {
                    chains[0][lane] = mul_add::<FUSED>(p, u, chains[0][lane]);
                }
                if OF_Q {
                    chains[1][lane] = mul_add::<FUSED>(q, v, chains[1][lane]);
                }
                if F::HAS_KINK {
                    doubtful[lane] |= u32::from((p > 0.0) & (n.abs() <= DOUBT * (p + q)));
                }
            }
            if OF_P {
                put(&found[0], &mut of_p[at..]);
            }
            if OF_Q {
                put(&found[1], &mut of_q[at..]);
            }
        }
        add(&mut sums, &chains);
        first += CHAIN * LANES;
    }
    Slopes { sums, doubtful }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use crate::cpu::tests::noise;
    use crate::{Batch, Divergence, Engine, Kind, Mass, Wanted};

    /// Rows that are so far apart, with bins that are masked on one side or the other, as numbers of a kind.
    fn side(kind: Kind, at: usize, bins: usize, apart: f64, masked: bool) -> Array2<f32> {
        let mut side = Array2::from_shape_fn((6, bins), |(row, bin)| {
            5.0 * noise(row, bin) + at as f64 * apart * noise(row + 50, bin)
        });
        for (row, mut numbers) in side.rows_mut().into_iter().enumerate() {
            if masked && row % 3 == at {
                numbers.iter_mut().skip(at).step_by(3).for_each(|x| *x = f64::NEG_INFINITY);
            }
            let mass: f64 = numbers.iter().map(|x| x.exp()).sum();
            numbers.mapv_inplace(|x| match kind {
                Kind::Probs => x.exp() / mass,
                Kind::LogProbs => x - mass.ln(),
                Kind::Logits => x + 2.0,
            });
        }
        side.mapv(|x| x as f32)
    }

    /// Against the same numbers in f64, by the largest derivative of a row.
    fn check(divergence: Divergence, kinds: [Kind; 2], [p, q]: [&Array2<f32>; 2], what: &str) {
        let made = Batch::of(kinds[0], p, kinds[1], q).unwrap().with_mass(Mass::Normalize);
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        let wide = Batch::of(kinds[0], &wide_p, kinds[1], &wide_q).unwrap();
        let wide = wide.with_mass(Mass::Normalize);
        let engine = Engine::cpu();
        let got = engine.gradient(divergence, &made, Wanted::Both, None).unwrap();
        let want = engine.gradient(divergence, &wide, Wanted::Both, None).unwrap();
        for (got, want) in [(got.p, want.p), (got.q, want.q)] {
            let (got, want) = (got.unwrap(), want.unwrap());
            for (row, (got, want)) in got.rows().into_iter().zip(want.rows()).enumerate() {
                let finite = want.iter().filter(|x| x.is_finite());
                let largest = finite.fold(0.0_f64, |largest, x| largest.max(x.abs()));
                for (got, want) in got.iter().map(|&x| f64::from(x)).zip(want) {
                    // Beyond f32 they are infinite, or there is no value.
                    let is_beyond = largest > f32::MAX.into();
                    let alike = is_beyond || got == *want || got.is_nan() && want.is_nan();
                    // The rounding of f64 is a part of what is so much less than its slopes.
                    let off = (got - want).abs() / largest.max(1e-9);
                    assert!(alike || off < 1e-5, "{what}, row {row}: {got:e}, not {want:e}");
                }
            }
        }
    }

    /// What f32 has not of one side is seen in the root of its product with the other, and so would be what stands
    /// for 0.
    #[test]
    fn what_is_lost_is_not_lost_on_derivatives() {
        let none = f32::NEG_INFINITY;
        let p = ndarray::array![
            [0.0, -88.0, -60.0, none],
            [0.0, -60.0, -89.0, none],
            [0.0, -0.3, -0.6, -65.0],
        ];
        let q = ndarray::array![
            [-40.0, 0.0, -60.0, none],
            [-200.0, -60.0, 0.0, none],
            [none, none, none, 0.0],
        ];
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        let engine = Engine::cpu();
        for divergence in [Divergence::Bhattacharyya, Divergence::Renyi(0.5)] {
            let batch = Batch::logits(&p, &q).unwrap();
            let got = engine.gradient(divergence, &batch, Wanted::P, None).unwrap().p.unwrap();
            let batch = Batch::logits(&wide_p, &wide_q).unwrap();
            let want = engine.gradient(divergence, &batch, Wanted::P, None).unwrap().p.unwrap();
            for (got, want) in got.rows().into_iter().zip(want.rows()) {
                let largest = want.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
                for (&got, want) in got.iter().zip(want) {
                    let off = (f64::from(got) - want).abs();
                    assert!(off <= 1e-5 * largest, "{divergence}: {got:e}, not {want:e}");
                }
            }
        }
    }

    /// Near each other, far off and with next to nothing in common: the number that stands for 0 is not seen.
    #[test]
    fn derivatives_are_as_good_as_in_f64() {
        let asked = [
            Divergence::Kl,
            Divergence::ReverseKl,
            Divergence::Jeffreys,
            Divergence::JensenShannon(0.5),
            Divergence::JensenShannon(0.2),
            Divergence::Renyi(0.1),
            Divergence::Renyi(0.999),
            Divergence::Tsallis(0.7),
            Divergence::Alpha(2.5),
            Divergence::Alpha(-1.5),
            Divergence::Hellinger,
            Divergence::Bhattacharyya,
            Divergence::ChiSquared,
        ];
        let [probs, log_probs, logits] = [Kind::Probs, Kind::LogProbs, Kind::Logits];
        for kinds in [[probs; 2], [log_probs; 2], [logits; 2], [probs, logits], [logits, probs]] {
            for (bins, apart) in
                [2, 40, 600].into_iter().flat_map(|n| [(n, 0.01), (n, 2.0), (n, 60.0)])
            {
                for masked in [false, true] {
                    let [p, q] = [0, 1].map(|at| side(kinds[at], at, bins, apart, masked));
                    for divergence in asked {
                        let what = format!("{divergence}, {bins} of {kinds:?}, {apart}, {masked}");
                        check(divergence, kinds, [&p, &q], &what);
                    }
                }
            }
        }
    }
}
