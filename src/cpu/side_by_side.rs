//! Short rows in f32, `LANES` of them side by side: what a row takes beside its bins is most of the time that it
//! takes, and vectors that reach across rows have it for all of them at once. Each lane sums its row from the first
//! bin to the last, so that a row has the same bits in any company.

use std::ops::Range;

use super::in_f32::{Known, Looks, Numbers, Vector};
use super::logs::{self, LaneLogs};
use super::sums::LANES;
use super::widen;
use crate::batch::Batch;
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::verdict::MassRule;

/// The most bins of rows that are taken so.
const LONGEST: usize = 64;

/// How many rows of so many bins make a group.
pub(super) fn rows_together(bins: usize) -> usize {
    if bins <= LONGEST { LANES } else { 1 }
}

/// The probabilities of up to `LANES` rows.
pub(super) struct Group<'a> {
    pub rule: MassRule,
    pub numbers: Numbers<'a>,
    looks: Looks,
    /// What logarithms were, that the probabilities were made of.
    logs: [Option<LaneLogs>; 2],
}

/// Memory for the numbers of a group.
#[derive(Default)]
pub(super) struct Space {
    widened: Vec<f32>,
    given: [Vec<f32>; 2],
    made: [Vec<f32>; 2],
    differences: Vec<f32>,
}

impl<'a> Group<'a> {
    pub(super) fn of<T: Element>(
        batch: &Batch<'_, T>,
        rows: Range<usize>,
        space: &'a mut Space,
        needs_differences: bool,
    ) -> Group<'a> {
        let Space { widened, given, made, differences } = space;
        let mut packed = Vec::new();
        for (side, given) in [Side::P, Side::Q].into_iter().zip(&mut *given) {
            let numbers = batch.packed_rows(side, rows.clone(), &mut packed);
            interleave(widen::in_f32(numbers, widened), batch.bins(), rows.len(), given);
        }
        let differences = (needs_differences && logs::take(batch)).then_some(differences);
        let (rule, temperature) = (MassRule::of(batch), batch.temperature());
        let given = given.each_ref().map(|side| &side[..]);
        pulp::Arch::new().dispatch(Making { rule, given, temperature, made, differences })
    }

    /// What is known of the row in a lane, unless it is not for f32.
    #[inline(always)]
    pub(super) fn known(&self, lane: usize) -> Option<Known> {
        let has_differences = self.numbers.differences.is_some();
        let mut logs = [None; 2];
        for (found, of_side) in logs.iter_mut().zip(&self.logs) {
            let Some(of_side) = of_side else { continue };
            let of_lane = of_side.in_lane(lane)?;
            if has_differences && !of_lane.has_small_ln_mass() {
                return None;
            }
            *found = Some(of_lane);
        }
        Some(Known { look: self.looks.in_lane(lane), logs, has_differences })
    }

    /// The masses of the row in a lane, of which something is known.
    pub(super) fn masses(&self, lane: usize) -> [f64; 2] {
        self.known(lane).map_or([f64::NAN; 2], |known| known.masses())
    }
}

/// Puts rows side by side. One that is repeated is in all lanes.
fn interleave(rows: &[f32], bins: usize, count: usize, into: &mut Vec<f32>) {
    into.resize(bins * LANES, 0.0);
    let places = into.as_chunks_mut::<LANES>().0;
    for lane in 0..count {
        let row = if rows.len() == bins { rows } else { &rows[lane * bins..][..bins] };
        places.iter_mut().zip(row).for_each(|(place, &x)| place[lane] = x);
    }
}

/// A group that is to be made probabilities, where it is logarithms.
struct Making<'a> {
    rule: MassRule,
    given: [&'a [f32]; 2],
    temperature: f64,
    made: &'a mut [Vec<f32>; 2],
    differences: Option<&'a mut Vec<f32>>,
}

impl<'a> pulp::WithSimd for Making<'a> {
    type Output = Group<'a>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Group<'a> {
        if S::IS_SCALAR { self.made::<false>() } else { self.made::<true>() }
    }
}

impl<'a> Making<'a> {
    #[inline(always)]
    fn made<const FUSED: bool>(self) -> Group<'a> {
        let Making { rule, given, temperature, made: [p_made, q_made], differences } = self;
        let of = |side: Side| (rule.kinds[side as usize], temperature);
        let (p, p_logs) = made_probabilities::<FUSED>(of(Side::P), given[0], p_made);
        let (q, q_logs) = made_probabilities::<FUSED>(of(Side::Q), given[1], q_made);
        let differences = match (differences, &p_logs, &q_logs) {
            (Some(into), Some(p_logs), Some(q_logs)) => {
                let temperature = rule.kinds[0].divided_by(temperature);
                let reference = references(p_logs, q_logs, temperature);
                into.resize(p.len(), 0.0);
                logs::differences::<FUSED, _>(given, [p, q], &reference, temperature, into);
                Some(&**into)
            }
            _ => None,
        };
        let numbers = Numbers { p, q, differences };
        Group { rule, numbers, looks: Looks::at(numbers), logs: [p_logs, q_logs] }
    }
}

/// Numbers of a kind as probabilities: logarithms as some with a mass of 1, and what they were.
#[inline(always)]
fn made_probabilities<'a, const FUSED: bool>(
    (kind, temperature): (Kind, f64),
    given: &'a [f32],
    into: &'a mut Vec<f32>,
) -> (&'a [f32], Option<LaneLogs>) {
    if kind == Kind::Probs {
        return (given, None);
    }
    into.resize(given.len(), 0.0);
    let temperature = kind.divided_by(temperature);
    let made = logs::probabilities_side_by_side::<FUSED>(kind, given, temperature, into);
    (into, Some(made))
}

/// What the differences of each lane are held against, in two parts.
#[inline(always)]
fn references(p: &LaneLogs, q: &LaneLogs, temperature: f64) -> [Vector; 2] {
    let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        if let (Some(p), Some(q)) = (p.in_lane(lane), q.in_lane(lane)) {
            [high[lane], low[lane]] = logs::reference([p, q], temperature);
        }
    }
    [high, low]
}
