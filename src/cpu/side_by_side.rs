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
use crate::slope::LEAST_BESIDE_ALL;
use crate::verdict::MassRule;

/// The most bins of rows that are taken so.
const LONGEST: usize = 64;
// Of so few no derivative is small beside all of them.
const _: () = assert!(LEAST_BESIDE_ALL * LONGEST as f64 <= 1.0);

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
    /// Those of the rows as they were given, of which something is known.
    pub masses: [[f64; LANES]; 2],
    /// The rows that raise no question: their numbers are usual, of their masses nothing is to be said, and all have
    /// mass in the same bins on both sides.
    pub are_plain: [bool; LANES],
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

    /// Those of the probabilities of each row, and their difference.
    #[inline(always)]
    pub(super) fn sums(&self) -> &[[f64; LANES]; 3] {
        &self.looks.sums
    }

    /// Whether all bins of each row have mass on both sides.
    #[inline(always)]
    pub(super) fn are_full(&self) -> [bool; LANES] {
        let bins = self.numbers.p.len() / LANES;
        self.looks.both().map(|both| both as usize == bins)
    }

    /// How many sides are of logarithms.
    #[inline(always)]
    pub(super) fn sides_of_logs(&self) -> usize {
        self.logs.iter().flatten().count()
    }
}

/// Which rows raise no question.
#[inline(always)]
fn are_plain(
    rule: MassRule,
    looks: &Looks,
    logs: &[Option<LaneLogs>; 2],
    masses: &[[f64; LANES]; 2],
) -> [bool; LANES] {
    let mut are_plain = looks.are_plain();
    for of_side in logs.iter().flatten() {
        let are_whole = of_side.are_whole();
        for lane in 0..LANES {
            are_plain[lane] &= are_whole[lane];
        }
    }
    let (middle, within) = rule.sure();
    for side in masses {
        for lane in 0..LANES {
            are_plain[lane] &= (side[lane] > 0.0) & ((side[lane] - middle).abs() <= within);
        }
    }
    are_plain
}

/// Puts rows side by side. One that is repeated is in all lanes.
pub(super) fn interleave(rows: &[f32], bins: usize, count: usize, into: &mut Vec<f32>) {
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
        let (looks, logs) = (Looks::at(numbers), [p_logs, q_logs]);
        let mut masses = [looks.sums[0], looks.sums[1]];
        for (masses, logs) in masses.iter_mut().zip(&logs) {
            *masses = logs.as_ref().map_or(*masses, |logs| logs.masses);
        }
        let are_plain = are_plain(rule, &looks, &logs, &masses);
        Group { rule, numbers, looks, logs, masses, are_plain }
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

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};

    use super::super::family::closer_look;
    use super::super::in_f32::{Judge, Verdicts};
    use super::*;
    use crate::cpu::tests::noise;
    use crate::verdict::Verdict;
    use crate::{Divergence, Engine, Mass, OnInvalid};

    const ASKED: &[Divergence] = &[
        Divergence::Kl,
        Divergence::ReverseKl,
        Divergence::Jeffreys,
        Divergence::JensenShannon(0.5),
        Divergence::JensenShannon(0.2),
        Divergence::Renyi(0.5),
        Divergence::Renyi(0.8),
        Divergence::Tsallis(2.0),
        Divergence::Hellinger,
        Divergence::TotalVariation,
        Divergence::CrossEntropy,
        Divergence::Entropy,
    ];

    /// More rows than a group has, each like none of its neighbours: near each other and far off, with zeros, with
    /// masses that are off, and with numbers that are none.
    fn sides(kinds: [Kind; 2], bins: usize) -> [Array2<f32>; 2] {
        let logits = |side: usize| {
            Array2::from_shape_fn((37, bins), |(row, bin)| {
                let apart = [3.0, 1e-3, 20.0, 0.3][row % 4];
                8.0 * noise(row, bin) + side as f64 * apart * noise(row + 40, bin)
            })
        };
        [0, 1].map(|side| {
            let mut numbers = logits(side);
            for (at, mut row) in numbers.rows_mut().into_iter().enumerate() {
                if at % 5 == side && bins > 1 {
                    row[bins / 2] = f64::NEG_INFINITY;
                }
                let mass: f64 = row.iter().map(|x| x.exp()).sum();
                let by = if at % 7 == 0 { 1.5 } else { 1.0 } / mass;
                row.mapv_inplace(|x| match kinds[side] {
                    Kind::Probs => x.exp() * by,
                    Kind::LogProbs => x + by.ln(),
                    Kind::Logits => x - 100.0,
                });
                if at % 11 == 3 {
                    row[bins - 1] = [f64::NAN, f64::INFINITY][side];
                }
            }
            numbers.mapv(|x| x as f32)
        })
    }

    const KINDS: [[Kind; 2]; 5] = [
        [Kind::Probs; 2],
        [Kind::LogProbs; 2],
        [Kind::Logits; 2],
        [Kind::Probs, Kind::Logits],
        [Kind::LogProbs, Kind::Probs],
    ];

    #[test]
    fn rows_are_as_good_as_in_f64() {
        for (kinds, bins) in KINDS.into_iter().flat_map(|kinds| [1, 2, 7, 64].map(|n| (kinds, n))) {
            let [p, q] = sides(kinds, bins);
            for (&divergence, mass) in
                ASKED.iter().flat_map(|d| [Mass::Check, Mass::Normalize].map(|mass| (d, mass)))
            {
                let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap().with_mass(mass);
                let (judge, mut fast) = (Judge::of(divergence).unwrap(), 0);
                for rows in [0..LANES, LANES..2 * LANES, 2 * LANES..37] {
                    let mut space = Space::default();
                    let group = Group::of(&batch, rows.clone(), &mut space, true);
                    let Verdicts { values, are_right } = judge.judged_side_by_side(&group);
                    for (lane, row) in rows.enumerate().filter(|&(lane, _)| are_right[lane]) {
                        let want = closer_look(divergence, &batch, row);
                        let what = format!("{divergence}, {bins} of {kinds:?}, row {row}");
                        let masses = group.masses.iter().map(|side| side[lane]).zip(want.masses);
                        for (got, want) in masses {
                            assert!((got - want).abs() < 1e-6 * want, "{what}: {got}, not {want}");
                        }
                        let got = values[lane];
                        match want.verdict {
                            Verdict::Value(want) => {
                                let off = (got - want).abs() / want;
                                assert!(got == want || off < 2e-6, "{what}: {got:e}, not {want:e}");
                            }
                            want => assert_eq!(
                                (got, want),
                                (f64::INFINITY, Verdict::Infinite),
                                "{what}"
                            ),
                        }
                        fast += 1;
                    }
                }
                // Others are near each other, or no distributions. A bin by itself is the same on both sides.
                let least = if bins > 1 { 12 } else { 0 };
                assert!(fast >= least, "{divergence}, {bins} of {kinds:?}: {fast}");
            }
        }
    }

    /// Probabilities that are too small for f32 are there all the same.
    #[test]
    fn what_is_lost_makes_nothing_infinite_nor_finite() {
        let p = ndarray::array![[0.0_f32, -1.0, -3.0], [0.0, -200.0, -1.0], [0.0, -200.0, -1.0]];
        let none = f32::NEG_INFINITY;
        let q = ndarray::array![[0.0_f32, -200.0, -1.0], [0.0, none, -1.0], [0.0, -2.0, -1.0]];
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        let (batch, wide) =
            (Batch::logits(&p, &q).unwrap(), Batch::logits(&wide_p, &wide_q).unwrap());
        // That of squares is too large for f32.
        for &divergence in
            ASKED.iter().filter(|&&divergence| divergence != Divergence::Tsallis(2.0))
        {
            let got = Engine::cpu().rows(divergence, &batch).unwrap();
            let want = Engine::cpu().rows(divergence, &wide).unwrap();
            assert_eq!(got.statuses, want.statuses, "{divergence}");
            for (&got, want) in got.values.iter().zip(want.values.mapv(|x| x as f32)) {
                let off = (got - want).abs() / want;
                assert!(got == want || off < 2e-6, "{divergence}: {got:e}, not {want:e}");
            }
        }
    }

    #[test]
    fn rows_of_which_something_is_to_be_said_are_not_plain() {
        let plain = [0.25_f32, 0.75];
        let rows = [
            (plain, [0.5, 0.5], true),
            (plain, [0.2504, 0.7504], true),
            (plain, [0.25, 0.7505], true),
            // Masses that are off, or nearly so, or faint; and a bin of one side alone.
            (plain, [0.25, 0.752], false),
            (plain, [0.25, 0.750_999_5], false),
            ([1e-20, 1e-20], plain, false),
            (plain, [0.0, 1.0], false),
            ([0.0, 1.0], [0.0, 1.0], true),
            (plain, [f32::NAN, 0.5], false),
            (plain, [-0.25, 1.25], false),
        ];
        let side = |numbers: Vec<f32>| Array2::from_shape_vec((10, 2), numbers).unwrap();
        let p = side(rows.iter().flat_map(|row| row.0).collect());
        let q = side(rows.iter().flat_map(|row| row.1).collect());
        let batch = Batch::probs(&p, &q).unwrap();
        let faint = batch.with_mass(Mass::Normalize);
        for (lane, row) in rows.iter().enumerate() {
            let (mut space, mut other) = (Space::default(), Space::default());
            let group = Group::of(&batch, 0..10, &mut space, true);
            assert_eq!(group.are_plain[lane], row.2, "row {lane}");
            // Other masses are all right then.
            let group = Group::of(&faint, 0..10, &mut other, true);
            let is_plain = row.2 || [3, 4].contains(&lane);
            assert_eq!(group.are_plain[lane], is_plain, "row {lane}, by its mass");
        }
    }

    #[test]
    fn logarithms_of_large_masses_have_no_difference() {
        let p = ndarray::array![[0.0_f32, 1.0], [0.0, 1.0]];
        let q = ndarray::array![[65_000.0_f32, 65_001.0], [66_000.0, 66_001.0]];
        let batch = Batch::logits(&p, &q).unwrap();
        for (needs_differences, want) in [(true, [true, false]), (false, [true, true])] {
            let mut space = Space::default();
            let group = Group::of(&batch, 0..2, &mut space, needs_differences);
            assert_eq!([0, 1].map(|lane| group.known(lane).is_some()), want);
        }
    }

    /// Whatever stands beside it, wherever it stands, and whether the other side is repeated or not.
    #[test]
    fn a_row_has_the_same_bits_in_any_company() {
        for (kinds, bins) in KINDS.into_iter().flat_map(|kinds| [2, 5, 64].map(|n| (kinds, n))) {
            let [p, q] = sides(kinds, bins);
            let of = |p: &Array2<f32>, q: &Array2<f32>| {
                let batch = Batch::of(kinds[0], p, kinds[1], q).unwrap();
                let batch = batch.with_on_invalid(OnInvalid::Nan).with_mass(Mass::Normalize);
                let outcomes = Engine::cpu().several(ASKED, &batch).unwrap();
                outcomes.into_iter().map(|outcome| outcome.values.mapv(f32::to_bits)).collect()
            };
            let all: Vec<_> = of(&p, &q);
            let first_q = q.select(Axis(0), &[0]);
            let repeated: Vec<_> = of(&p, &first_q);
            for row in 0..p.nrows() {
                let own = [&p, &q].map(|side| side.select(Axis(0), &[row]));
                for (at, &divergence) in ASKED.iter().enumerate() {
                    let what = format!("{divergence}, {bins} of {kinds:?}, row {row}");
                    assert_eq!(of(&own[0], &own[1])[at][0], all[at][row], "{what}");
                    assert_eq!(of(&own[0], &first_q)[at][0], repeated[at][row], "{what}");
                }
            }
        }
    }
}
