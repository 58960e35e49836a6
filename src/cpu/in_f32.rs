//! Rows in f32, for those that it is right for: of numbers of at most 32 bits that are divided by their
//! masses. Logarithms are made probabilities first, which takes a digit or two of their differences: where both
//! sides are logarithms these are made by themselves. A row is looked at, and gone through once more by the
//! [`Method`] of each divergence, from the cache; of short rows so are many
//! [side by side](super::side_by_side). What lacks digits in f32 is left to [`family`](super::family).

use std::marker::PhantomData;

use super::entropies_of_logs::Entropies;
use super::entropy::{CrossEntropy, Entropy};
use super::form::{self, Form, OfForm, WithForm};
use super::logs::{self, Exponentials};
use super::side_by_side::Group;
use super::sums::LANES;
use super::widen;
use crate::Divergence;
use crate::batch::{Batch, Mass};
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::sums::DOUBT;
use crate::term::Term;
use crate::verdict::{Judged, MassRule, Verdict};

/// Blocks of lanes that are added one after the other, before f64 takes over.
pub(super) const CHAIN: usize = 8;
/// The most bins of a row: one thread goes through all of them.
pub(super) const LONGEST: usize = 1 << 18;

pub(super) type Vector = [f32; LANES];

/// Whether the rows of a batch are of this sort.
pub(super) fn takes<T: Element>(batch: &Batch<'_, T>) -> bool {
    let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
    let policy = matches!(batch.mass(), Mass::Check | Mass::Normalize);
    let divided = policy || kinds == [Kind::Logits; 2];
    let in_f32 = size_of::<T::Value>() == size_of::<f32>();
    in_f32 && divided && batch.bin_weights().is_none() && batch.bins() <= LONGEST
}

/// How a divergence is made of a row, and of rows side by side.
pub(super) trait Method {
    /// The verdict on the row, if f32 is right for it.
    fn judged<const FUSED: bool>(row: &Row<'_>) -> Option<Judged>;

    /// The same of each row of a group.
    fn judged_side_by_side<const FUSED: bool>(asked: &Asked, group: &Group<'_>) -> Verdicts;
}

/// Those on the rows of a group.
pub(super) struct Verdicts {
    /// Infinite ones among them; whatever there is where f32 is not right.
    pub values: [f64; LANES],
    /// Whether f32 is right for a row.
    pub are_right: [bool; LANES],
}

impl Verdicts {
    #[inline(always)]
    pub(super) fn none() -> Verdicts {
        Verdicts { values: [0.0; LANES], are_right: [false; LANES] }
    }

    #[inline(always)]
    pub(super) fn put(&mut self, lane: usize, value: Option<f64>) {
        (self.values[lane], self.are_right[lane]) = (value.unwrap_or(0.0), value.is_some());
    }
}

/// A divergence that has a method.
#[derive(Clone, Copy)]
pub(super) struct Judge {
    divergence: Divergence,
    /// See [`Asked::factor`].
    factor: f64,
    /// See [`Numbers::differences`].
    pub needs_differences: bool,
    /// Values of rows that are not short are made of the logarithms themselves, where both sides are some.
    pub of_logs: Option<Entropies>,
    method: fn(&Row<'_>) -> Option<Judged>,
    side_by_side: fn(&Asked, &Group<'_>) -> Verdicts,
}

impl Judge {
    /// The one of a divergence, if it has a method.
    pub(super) fn of(divergence: Divergence) -> Option<Judge> {
        match divergence {
            Divergence::CrossEntropy => {
                let of_logs = Some(Entropies::Cross);
                let judge = Judge::by::<CrossEntropy>(divergence, 1.0, false);
                Some(Judge { of_logs, ..judge })
            }
            Divergence::Entropy => {
                let of_logs = Some(Entropies::Own);
                Some(Judge { of_logs, ..Judge::by::<Entropy>(divergence, 1.0, false) })
            }
            _ => form::with_form(divergence, ByForm(divergence)),
        }
    }

    fn by<M: Method>(divergence: Divergence, factor: f64, needs_differences: bool) -> Judge {
        let (method, side_by_side) = (judged::<M>, judged_side_by_side::<M>);
        Judge { divergence, factor, needs_differences, of_logs: None, method, side_by_side }
    }

    /// The verdict on a row, if f32 is right for it.
    pub(super) fn judged(&self, sides: Sides<'_>) -> Option<Judged> {
        (self.method)(&Row { asked: self.asked(sides.rule), sides })
    }

    /// The verdicts on the rows of a group.
    pub(super) fn judged_side_by_side(&self, group: &Group<'_>) -> Verdicts {
        (self.side_by_side)(&self.asked(group.rule), group)
    }

    fn asked(&self, rule: MassRule) -> Asked {
        Asked { divergence: self.divergence, factor: self.factor, rule }
    }
}

struct ByForm(Divergence);

impl WithForm for ByForm {
    type Output = Judge;

    fn with<F: Form>(self, factor: f64) -> Judge {
        Judge::by::<OfForm<F>>(self.0, factor, true)
    }
}

fn judged<M: Method>(row: &Row<'_>) -> Option<Judged> {
    pulp::Arch::new().dispatch(By { row, method: PhantomData::<M> })
}

struct By<'a, M> {
    row: &'a Row<'a>,
    method: PhantomData<M>,
}

impl<M: Method> pulp::WithSimd for By<'_, M> {
    type Output = Option<Judged>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Option<Judged> {
        if S::IS_SCALAR { M::judged::<false>(self.row) } else { M::judged::<true>(self.row) }
    }
}

fn judged_side_by_side<M: Method>(asked: &Asked, group: &Group<'_>) -> Verdicts {
    pulp::Arch::new().dispatch(BySides { asked, group, method: PhantomData::<M> })
}

struct BySides<'a, M> {
    asked: &'a Asked,
    group: &'a Group<'a>,
    method: PhantomData<M>,
}

impl<M: Method> pulp::WithSimd for BySides<'_, M> {
    type Output = Verdicts;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Verdicts {
        let BySides { asked, group, .. } = self;
        match S::IS_SCALAR {
            true => M::judged_side_by_side::<false>(asked, group),
            false => M::judged_side_by_side::<true>(asked, group),
        }
    }
}

/// What is asked of a row, whatever its numbers.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub divergence: Divergence,
    /// What the sums of its form are to be multiplied by.
    pub factor: f64,
    pub rule: MassRule,
}

/// A row of which a divergence is asked.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub asked: Asked,
    pub sides: Sides<'a>,
}

/// The probabilities of a row; or those of rows side by side, `LANES` of each bin.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub p: &'a [f32],
    pub q: &'a [f32],
    /// `p − q` of each bin with more digits than the two have, where both were made of logarithms.
    pub differences: Option<&'a [f32]>,
}

/// The two sides of a row as probabilities.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub rule: MassRule,
    pub numbers: Numbers<'a>,
    /// What a look at them found, unless each divergence is to look for itself.
    look: Option<Look>,
    /// What logarithms were, that the probabilities were made of.
    pub logs: [Option<Exponentials>; 2],
}

/// What is known of a row besides its numbers.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub look: Look,
    /// See [`Sides::logs`].
    pub logs: [Option<Exponentials>; 2],
    /// Whether there are [`Numbers::differences`].
    pub has_differences: bool,
}

/// A number for all lanes, or one for each.
pub(super) trait PerLane: Copy {
    fn at(&self, lane: usize) -> f32;
}

impl PerLane for f32 {
    #[inline(always)]
    fn at(&self, _: usize) -> f32 {
        *self
    }
}

impl<const N: usize> PerLane for [f32; N] {
    /// One number is for all lanes.
    #[inline(always)]
    fn at(&self, lane: usize) -> f32 {
        self[lane % N]
    }
}

/// Memory for the numbers of a row.
#[derive(Default)]
pub(super) struct Space {
    widened: [Vec<f32>; 2],
    made: [Vec<f32>; 2],
    differences: Vec<f32>,
}

impl<'a> Sides<'a> {
    /// Those of a batch, if all logarithms among them can be made probabilities; looked at once for several
    /// divergences.
    pub(super) fn of<T: Element>(
        batch: &Batch<'_, T>,
        numbers: [&'a [T]; 2],
        space: &'a mut Space,
        are_several: bool,
        needs_differences: bool,
    ) -> Option<Sides<'a>> {
        let [p_widened, q_widened] = &mut space.widened;
        let [p, q] = numbers;
        let numbers = [widen::in_f32(p, p_widened), widen::in_f32(q, q_widened)];
        let (rule, temperature) = (MassRule::of(batch), batch.temperature());
        let made = &mut space.made;
        if batch.is_probs() && !are_several {
            let [p, q] = numbers;
            let numbers = Numbers { p, q, differences: None };
            return Some(Sides { rule, numbers, look: None, logs: [None; 2] });
        }
        let differences =
            (needs_differences && logs::take(batch)).then_some(&mut space.differences);
        pulp::Arch::new().dispatch(Making { rule, numbers, temperature, made, differences })
    }
}

impl Sides<'_> {
    /// What a look at them finds.
    #[inline(always)]
    pub(super) fn look(&self) -> Look {
        self.look.unwrap_or_else(|| Looks::at(self.numbers).at_one_row())
    }
}

/// The numbers of a row that are to be made probabilities, where they are logarithms.
struct Making<'a> {
    rule: MassRule,
    numbers: [&'a [f32]; 2],
    temperature: f64,
    made: &'a mut [Vec<f32>; 2],
    differences: Option<&'a mut Vec<f32>>,
}

impl<'a> pulp::WithSimd for Making<'a> {
    type Output = Option<Sides<'a>>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Option<Sides<'a>> {
        if S::IS_SCALAR { self.made::<false>() } else { self.made::<true>() }
    }
}

impl<'a> Making<'a> {
    #[inline(always)]
    fn made<const FUSED: bool>(self) -> Option<Sides<'a>> {
        let Making { rule, numbers, temperature, made: [p_made, q_made], differences } = self;
        let of = |side: Side| (rule.kinds[side as usize], temperature);
        let (p, p_logs) = made_probabilities::<FUSED>(of(Side::P), numbers[0], p_made)?;
        let (q, q_logs) = made_probabilities::<FUSED>(of(Side::Q), numbers[1], q_made)?;
        let logs = [p_logs, q_logs];
        let differences = match (differences, logs) {
            (Some(into), [Some(p_logs), Some(q_logs)])
                if logs.into_iter().flatten().all(|logs| logs.has_small_ln_mass()) =>
            {
                let temperature = rule.kinds[0].divided_by(temperature);
                let reference = logs::reference([p_logs, q_logs], temperature);
                into.resize(p.len(), 0.0);
                logs::differences::<FUSED, _>(numbers, [p, q], &reference, temperature, into);
                Some(&**into)
            }
            _ => None,
        };
        let numbers = Numbers { p, q, differences };
        Some(Sides { rule, numbers, look: Some(Looks::at(numbers).at_one_row()), logs })
    }
}

/// Numbers of a kind as probabilities: logarithms as some with a mass of 1, and what they were.
#[inline(always)]
fn made_probabilities<'a, const FUSED: bool>(
    (kind, temperature): (Kind, f64),
    numbers: &'a [f32],
    into: &'a mut Vec<f32>,
) -> Option<(&'a [f32], Option<Exponentials>)> {
    if kind == Kind::Probs {
        return Some((numbers, None));
    }
    into.resize(numbers.len(), 0.0);
    let made = logs::probabilities::<FUSED>(numbers, kind.divided_by(temperature), into)?;
    Some((into, Some(made.of_kind(kind))))
}

impl Row<'_> {
    /// What is known of it, once it was looked at.
    #[inline(always)]
    pub(super) fn known(&self) -> Known {
        let Sides { numbers, logs, .. } = self.sides;
        let look = self.sides.look();
        Known { look, logs, has_differences: numbers.differences.is_some() }
    }
}

impl Asked {
    /// The verdict on a row of this value, which is infinite where the divergence is: others are far below.
    pub(super) fn verdict(value: f64) -> Verdict {
        if value == f64::INFINITY { Verdict::Infinite } else { Verdict::Value(value) }
    }

    /// Whether a row is infinite, by the bins that have mass.
    #[inline(always)]
    pub(super) fn is_infinite(&self, known: &Known) -> bool {
        self.divergence.is_infinite(known.look.alone, known.look.both > 0)
    }

    /// Whether f32 may be right for a row.
    #[inline(always)]
    pub(super) fn takes(&self, known: &Known) -> bool {
        let (Asked { divergence, rule, .. }, Known { look, logs, .. }) = (self, known);
        // Probabilities that f32 has not make no difference to a value, unless it is infinite by them, or by their
        // lack.
        let lost = [0, 1].map(|side: usize| logs[side].is_some_and(|logs| logs.some_lost));
        let alone = [look.alone[0] || lost[0], look.alone[1] || lost[1]];
        if look.is_strange() || lost.contains(&true) && divergence.is_infinite(alone, look.both > 0)
        {
            return false;
        }
        let faint = look.masses.into_iter().any(|sum| sum < f32::FAINT);
        !faint && admits(rule, known.masses())
    }
}

/// Whether masses that were summed in f32 are surely none that a rule refuses.
#[inline(always)]
pub(super) fn admits(rule: &MassRule, masses: [f64; 2]) -> bool {
    let doubtful = |mass: f64| ((mass - 1.0).abs() - rule.tolerance).abs() < DOUBT;
    let on_the_edge = rule.policy == Mass::Check && masses.into_iter().any(doubtful);
    !on_the_edge && rule.refuses(masses).is_none()
}

impl Known {
    /// Those of the sides as they were given.
    #[inline(always)]
    pub(super) fn masses(&self) -> [f64; 2] {
        [0, 1].map(|side: usize| self.logs[side].map_or(self.look.masses[side], |logs| logs.mass))
    }

    /// Whether logarithms were of numbers that f32 has not.
    #[inline(always)]
    pub(super) fn some_lost(&self) -> bool {
        self.logs.iter().flatten().any(|logs| logs.some_lost)
    }
}

/// What a first look at a row finds.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// Of the probabilities.
    pub masses: [f64; 2],
    /// Of the masses, summed by itself: of bins' differences, which need not be those of the probabilities.
    pub difference: f64,
    /// Whether bins have mass on one side alone.
    pub alone: [bool; 2],
    /// How many have mass on both.
    pub both: u32,
    strange: u32,
}

impl Look {
    fn is_strange(&self) -> bool {
        self.strange & f32::STRANGE != 0
    }
}

/// What a look at numbers finds in each lane.
pub(super) struct Looks {
    /// Of p, of q and of their differences.
    pub sums: [[f64; LANES]; 3],
    /// Whether there are bins of P alone and of Q alone, and how many of both.
    found: [[u32; LANES]; 3],
    /// Bits that all numbers but 0 and the usual ones have.
    strange: [u32; LANES],
}

impl Looks {
    #[inline(always)]
    pub(super) fn at(Numbers { p, q, differences }: Numbers<'_>) -> Looks {
        let mut sums = [[0.0_f64; LANES]; 3];
        let (mut strange, mut found) = ([0_u32; LANES], [[0_u32; LANES]; 3]);
        let mut first = 0;
        while first < p.len() {
            let mut chains = [[0.0_f32; LANES]; 3];
            for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
                let (p, q) = (block(p, at), block(q, at));
                let n = differences_of(differences, &p, &q, at);
                for lane in 0..LANES {
                    let (p, q) = (p[lane], q[lane]);
                    let (on_p, on_q) = (u32::from(p != 0.0), u32::from(q != 0.0));
                    strange[lane] |= is_odd(p) | is_odd(q);
                    found[0][lane] |= on_p & !on_q;
                    found[1][lane] |= on_q & !on_p;
                    found[2][lane] += on_p & on_q;
                    chains[0][lane] += p;
                    chains[1][lane] += q;
                    chains[2][lane] += n[lane];
                }
            }
            add(&mut sums, &chains);
            first += CHAIN * LANES;
        }
        Looks { sums, found, strange }
    }

    /// What was found in a row that all lanes are of.
    #[inline(always)]
    pub(super) fn at_one_row(self) -> Look {
        let Looks { sums, found, strange } = self;
        let any = |lanes: &[u32; LANES]| lanes.iter().fold(0, |any, lane| any | lane);
        Look {
            masses: [tree_sum(sums[0]), tree_sum(sums[1])],
            difference: tree_sum(sums[2]),
            alone: [any(&found[0]) != 0, any(&found[1]) != 0],
            both: found[2].iter().sum(),
            strange: any(&strange),
        }
    }

    /// How many bins of each lane have mass on both sides.
    #[inline(always)]
    pub(super) fn both(&self) -> &[u32; LANES] {
        &self.found[2]
    }

    /// Whether all numbers of each lane are usual or 0, with enough of mass, and on both sides where there is any.
    #[inline(always)]
    pub(super) fn are_plain(&self) -> [bool; LANES] {
        let Looks { sums: [p, q, _], found: [p_alone, q_alone, both], strange } = self;
        let mut are_plain = [false; LANES];
        for lane in 0..LANES {
            let alone = p_alone[lane] | q_alone[lane] | (strange[lane] & f32::STRANGE);
            are_plain[lane] = (alone == 0) & (both[lane] > 0);
        }
        for lane in 0..LANES {
            are_plain[lane] &= (p[lane] >= f32::FAINT) & (q[lane] >= f32::FAINT);
        }
        are_plain
    }

    /// What was found in the row of a lane.
    #[inline(always)]
    pub(super) fn in_lane(&self, lane: usize) -> Look {
        let Looks { sums, found, strange } = self;
        Look {
            masses: [sums[0][lane], sums[1][lane]],
            difference: sums[2][lane],
            alone: [found[0][lane] != 0, found[1][lane] != 0],
            both: found[2][lane],
            strange: strange[lane],
        }
    }
}

/// Has bits of [`Term::STRANGE`] unless the number is 0 or usual.
#[inline(always)]
fn is_odd(x: f32) -> u32 {
    if x.to_bits() == 0 { 0 } else { x.strangeness() }
}

/// Adds what chains came to, in f64.
#[inline(always)]
pub(super) fn add<const N: usize>(sums: &mut [[f64; LANES]; N], chains: &[Vector; N]) {
    for (sums, chains) in sums.iter_mut().zip(chains) {
        for lane in 0..LANES {
            sums[lane] += f64::from(chains[lane]);
        }
    }
}

/// The bins from one on, and zeros behind the last.
#[inline(always)]
pub(super) fn block(row: &[f32], at: usize) -> Vector {
    match row[at..].first_chunk::<LANES>() {
        Some(whole) => *whole,
        None => {
            let mut block = [0.0; LANES];
            block.iter_mut().zip(&row[at..]).for_each(|(to, bin)| *to = *bin);
            block
        }
    }
}

/// Puts a block of lanes into the first places, as far as there are any.
#[inline(always)]
pub(super) fn put(lanes: &Vector, places: &mut [f32]) {
    match places.first_chunk_mut::<LANES>() {
        Some(whole) => *whole = *lanes,
        None => places.iter_mut().zip(lanes).for_each(|(to, x)| *to = *x),
    }
}

/// `p − q` of a block of bins from one on: as they are known, or of the two.
#[inline(always)]
pub(super) fn differences_of(known: Option<&[f32]>, p: &Vector, q: &Vector, at: usize) -> Vector {
    if let Some(known) = known {
        return block(known, at);
    }
    let mut differences = [0.0; LANES];
    for lane in 0..LANES {
        differences[lane] = p[lane] - q[lane];
    }
    differences
}

/// The verdict on a row of a batch, with fused products.
#[cfg(test)]
pub(super) fn judged_in_f32<M: Method>(
    divergence: Divergence,
    factor: f64,
    batch: &Batch<'_, f32>,
    row: usize,
) -> Option<Judged> {
    let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
    let mut space = Space::default();
    let sides = Sides::of(batch, [&p, &q], &mut space, false, true)?;
    M::judged::<true>(&Row { asked: Asked { divergence, factor, rule: sides.rule }, sides })
}
