//! Short rows of logarithms on both sides, in f32: what [`logs`](super::logs) makes of a row's one block, of `LANES`
//! rows side by side, and their gradients. What a row takes beside its bins is most of the time that it takes, and is
//! made in vectors here.

use std::ops::Range;

use super::form_gradient::{Line, SHOWS};
use super::logs::{self, LEAST_BESIDE_LN, LEAST_OF_MASSES, Near, Terms};
use super::side_by_side::interleave;
use super::sums::LANES;
use super::widen;
use crate::batch::{Batch, Mass};
use crate::element::Element;
use crate::error::Side;
use crate::integrand::ln_ratio;
use crate::kind::Kind;
use crate::slope::LEAST_BESIDE_ALL;
use crate::term;
use crate::verdict::MassRule;

/// Up to so many bins, rows side by side take less time than one after the other.
pub(super) const LONGEST: usize = 64;
// Of so few no derivative is small beside all of them.
const _: () = assert!(LEAST_BESIDE_ALL * LONGEST as f64 <= 1.0);
/// Divergences from here on have their digits in f32.
const LEAST: f64 = 1e-13;
/// Masses whose logarithms are further from 0 are looked at one by one.
const FARTHEST_MASS: f64 = 80.0;

/// Whether the rows of a batch of logarithms are of this sort.
pub(super) fn takes(batch: &Batch<'_, f32>) -> bool {
    let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
    let policy = matches!(batch.mass(), Mass::Check | Mass::Normalize);
    batch.bins() <= LONGEST && (policy || kinds == [Kind::Logits; 2])
}

/// Memory for the numbers of a group.
pub(super) type Space = [Vec<f32>; 2];

/// The rows of a group, and of those that raise no question what they come to.
pub(super) struct Settled {
    /// NaN where there is more to say than a value.
    pub values: [f64; LANES],
    pub masses: [[f64; LANES]; 2],
}

/// How many of so many rows are taken together. Of a few it takes less time to have each by itself.
pub(super) fn rows_together(rows: usize) -> usize {
    if rows < 8 { 1 } else { LANES }
}

/// Up to `LANES` rows of a batch, next to each other or, on a side that has only one, all the same. A row by itself
/// has the same bits.
#[inline(always)]
pub(super) fn settled<S: pulp::Simd>(
    batch: &Batch<'_, f32>,
    rows: usize,
    sides: [&[f32]; 2],
    space: &mut Space,
) -> Settled {
    let (rule, temperature) = (MassRule::of(batch), batch.temperature());
    if rows == 1 {
        let group = Group::<1> { rule, sides, temperature };
        return if S::IS_SCALAR { group.settled::<false>() } else { group.settled::<true>() };
    }
    for (side, into) in sides.into_iter().zip(&mut *space) {
        interleave(side, batch.bins(), rows, into);
    }
    let sides = space.each_ref().map(|side| &side[..]);
    let group = Group::<LANES> { rule, sides, temperature };
    if S::IS_SCALAR { group.settled::<false>() } else { group.settled::<true>() }
}

/// Memory for what is made of a group on the way.
#[derive(Default)]
pub(super) struct GradientSpace {
    widened: Space,
    numbers: Space,
    exponentials: Space,
}

/// What some rows of a batch come to, and which of them have their gradients, times their weights, in these places: of
/// rows side by side, and empty where they are not wanted.
pub(super) fn with_gradients<T: Element>(
    batch: &Batch<'_, T>,
    rows: Range<usize>,
    weights: [f64; LANES],
    space: &mut GradientSpace,
    into: [&mut [f32]; 2],
) -> (Settled, [bool; LANES]) {
    let GradientSpace { widened, numbers, exponentials } = space;
    let mut packed = Vec::new();
    for side in [Side::P, Side::Q] {
        let given = batch.packed_rows(side, rows.clone(), &mut packed);
        let given = widen::in_f32(given, &mut widened[side as usize]);
        interleave(given, batch.bins(), rows.len(), &mut numbers[side as usize]);
        exponentials[side as usize].resize(batch.bins() * LANES, 0.0);
    }
    let (rule, temperature) = (MassRule::of(batch), batch.temperature());
    let sides = numbers.each_ref().map(|side| &side[..]);
    let exponentials = exponentials.each_mut().map(|side| &mut side[..]);
    let group = Group { rule, sides, temperature };
    pulp::Arch::new().dispatch(WithGradients { group, weights, exponentials, into })
}

/// A group of which the gradients are wanted too.
struct WithGradients<'a> {
    group: Group<'a, LANES>,
    weights: [f64; LANES],
    exponentials: [&'a mut [f32]; 2],
    into: [&'a mut [f32]; 2],
}

impl pulp::WithSimd for WithGradients<'_> {
    type Output = (Settled, [bool; LANES]);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        if S::IS_SCALAR { self.made::<false>() } else { self.made::<true>() }
    }
}

impl WithGradients<'_> {
    #[inline(always)]
    fn made<const FUSED: bool>(self) -> (Settled, [bool; LANES]) {
        let WithGradients { group, weights, mut exponentials, into } = self;
        let made = group.made::<FUSED, true>(&mut exponentials);
        let exponentials = exponentials.each_ref().map(|side| &side[..]);
        let are_made = group.write::<FUSED>(&made, exponentials, &weights, into);
        (made.settled, are_made)
    }
}

/// Rows side by side, or one by itself.
struct Group<'a, const ROWS: usize> {
    rule: MassRule,
    sides: [&'a [f32]; 2],
    temperature: f64,
}

impl<const ROWS: usize> Group<'_, ROWS> {
    #[inline(always)]
    fn settled<const FUSED: bool>(self) -> Settled {
        self.made::<FUSED, false>(&mut [&mut [], &mut []]).settled
    }

    /// Keeps the exponentials as well, if it is to.
    #[inline(always)]
    fn made<const FUSED: bool, const KEEP: bool>(&self, kept: &mut [&mut [f32]; 2]) -> Made<ROWS> {
        let (tops, mut are_right) = self.tops();
        let far = self.far::<FUSED, KEEP>(&tops, kept);
        if far.are_odd.contains(&true) {
            self.leave_odd(&tops, &far.are_odd, &mut are_right);
        }
        let (mut values, mut ln_ratios) = (far.values, far.ln_ratios);
        let some_near =
            are_right.iter().zip(&far.have_digits).any(|(is_right, has)| is_right & !has);
        if some_near {
            let near = self.near::<FUSED>(&tops, &far);
            for lane in 0..ROWS {
                let is_far = far.have_digits[lane];
                values[lane] = if is_far { values[lane] } else { near.values[lane] };
                ln_ratios[lane] = if is_far { ln_ratios[lane] } else { near.ln_ratios[lane] };
                are_right[lane] &= is_far | near.have_digits[lane];
            }
        }
        let masses = self.masses::<FUSED>(&tops, &far, &mut are_right);
        let mut settled = Settled { values: [f64::NAN; LANES], masses: [[f64::NAN; LANES]; 2] };
        for lane in 0..ROWS {
            let has_digits_and_room = (values[lane] >= LEAST) & (values[lane] <= f32::MAX.into());
            let is_right = are_right[lane] & has_digits_and_room;
            settled.values[lane] = if is_right { values[lane] } else { f64::NAN };
        }
        for (all, masses) in settled.masses.iter_mut().zip(&masses) {
            all[..ROWS].copy_from_slice(masses);
        }
        let Far { w, v, have_digits: are_far, .. } = far;
        Made { settled, tops, w, v, ln_ratios, are_far }
    }

    /// The largest number of each row, and whether f32 may be right for these: of others they are 0.
    #[inline(always)]
    fn tops(&self) -> ([[f32; ROWS]; 2], [bool; ROWS]) {
        let [mut p, mut q] = [largest::<ROWS>(self.sides[0]), largest::<ROWS>(self.sides[1])];
        let most = (logs::LARGEST_LN * self.temperature).min(logs::LARGEST_TOP.into()) as f32;
        let mut are_right = [false; ROWS];
        for lane in 0..ROWS {
            are_right[lane] = (p[lane].abs() <= most) & (q[lane].abs() <= most);
            p[lane] = if are_right[lane] { p[lane] } else { 0.0 };
            q[lane] = if are_right[lane] { q[lane] } else { 0.0 };
        }
        ([p, q], are_right)
    }

    #[inline(always)]
    fn far<const FUSED: bool, const KEEP: bool>(
        &self,
        tops: &[[f32; ROWS]; 2],
        kept: &mut [&mut [f32]; 2],
    ) -> Far<ROWS> {
        let none = [0.0; ROWS];
        let terms = Terms::of(*tops, [none; 2], [1.0; ROWS], self.temperature);
        let [p, q] = self.sides;
        let ([w, v, y], are_odd) = if ROWS == 1 {
            let (sums, is_odd) = terms.far_alone::<FUSED>(p, q);
            (sums.map(|sum| [sum; ROWS]), [is_odd; ROWS])
        } else {
            let (sums, odd) = terms.far_in_lanes::<FUSED, KEEP>(p, q, kept);
            let mut are_odd = [false; ROWS];
            are_odd.iter_mut().zip(odd).for_each(|(is_odd, odd)| *is_odd = odd != 0);
            (of_rows(&sums), are_odd)
        };
        let (mut ln_ratios, mut values, mut have_digits) =
            ([0.0; ROWS], [0.0; ROWS], [false; ROWS]);
        for lane in 0..ROWS {
            let u = v[lane] - w[lane];
            let s = y[lane] / self.temperature + u;
            ln_ratios[lane] = ln_ratio::<FUSED>(v[lane], w[lane], u);
            let cancelled = u - w[lane] * ln_ratios[lane];
            values[lane] = (s - cancelled) / w[lane];
            // Written so that NaN has none.
            have_digits[lane] = (s >= 0.5 * w[lane]) & (cancelled <= 0.75 * s);
        }
        Far { w, v, ln_ratios, values, have_digits, are_odd }
    }

    /// What the logarithms of the bins' ratios are held against, that of the masses', is in the units of the numbers.
    #[inline(always)]
    fn terms(
        &self,
        tops: &[[f32; ROWS]; 2],
        ln_ratios: &[f64; ROWS],
        unit: [f32; ROWS],
    ) -> Terms<[f32; ROWS]> {
        let (mut high, mut low) = ([0.0; ROWS], [0.0; ROWS]);
        for lane in 0..ROWS {
            let apart = f64::from(tops[0][lane]) - f64::from(tops[1][lane]);
            [high[lane], low[lane]] =
                logs::in_two_parts(apart - ln_ratios[lane] * self.temperature);
        }
        Terms::of(*tops, [high, low], unit, self.temperature)
    }

    /// The values without cancellation, with the ratio of the masses as the reference.
    #[inline(always)]
    fn near<const FUSED: bool>(&self, tops: &[[f32; ROWS]; 2], far: &Far<ROWS>) -> Nearer<ROWS> {
        let mut unit = [0.0; ROWS];
        for (lane, unit) in unit.iter_mut().enumerate() {
            *unit = (far.w[lane] / far.v[lane]) as f32;
        }
        let terms = self.terms(tops, &far.ln_ratios, unit);
        let [p, q] = self.sides;
        let [w, _, s, u] = match ROWS {
            1 => terms.near_alone::<FUSED>(p, q).map(|sum| [sum; ROWS]),
            _ => of_rows(&terms.near_in_lanes::<FUSED, false>(p, q, &mut [&mut [], &mut []]).0),
        };
        let (mut values, mut ln_ratios, mut have_digits) =
            ([0.0; ROWS], [0.0; ROWS], [false; ROWS]);
        for lane in 0..ROWS {
            let excess = u[lane] / w[lane];
            // Next to 0, where this is as good as its series.
            let ln_excess = ln_ratio::<FUSED>(1.0 + excess, 1.0, excess);
            let cancelled = w[lane] * (excess - ln_excess);
            values[lane] = (s[lane] - cancelled) / w[lane];
            ln_ratios[lane] = far.ln_ratios[lane] + ln_excess;
            have_digits[lane] = cancelled <= 0.75 * s[lane];
        }
        Nearer { values, ln_ratios, have_digits }
    }

    /// Those of the rows as they were given, of which those that a rule may refuse are not right.
    #[inline(always)]
    fn masses<const FUSED: bool>(
        &self,
        tops: &[[f32; ROWS]; 2],
        far: &Far<ROWS>,
        are_right: &mut [bool; ROWS],
    ) -> [[f64; ROWS]; 2] {
        let mut masses = [[1.0; ROWS]; 2];
        let (middle, within) = self.rule.sure();
        for side in (0..2).filter(|&side| self.rule.kinds[side] != Kind::Logits) {
            let sums = [&far.w, &far.v][side];
            for lane in 0..ROWS {
                let ln_mass =
                    term::ln::<FUSED>(sums[lane]) + f64::from(tops[side][lane]) / self.temperature;
                masses[side][lane] = term::exp::<FUSED>(ln_mass);
                are_right[lane] &= (ln_mass.abs() <= FARTHEST_MASS)
                    & ((masses[side][lane] - middle).abs() <= within);
            }
        }
        masses
    }

    /// Leaves those odd rows that have bins for f64.
    #[cold]
    #[inline(never)]
    fn leave_odd(
        &self,
        [p_tops, q_tops]: &[[f32; ROWS]; 2],
        are_odd: &[bool; ROWS],
        are_right: &mut [bool; ROWS],
    ) {
        let per_temperature = (1.0 / self.temperature) as f32;
        let [p, q] = self.sides.map(|side| side.chunks(ROWS));
        for (p, q) in p.zip(q) {
            for (lane, (&p, &q)) in p.iter().zip(q).enumerate() {
                let odd = logs::odd_bin([p, q], [p_tops[lane], q_tops[lane]], per_temperature);
                are_right[lane] &= !are_odd[lane] | (odd == [false; 2]);
            }
        }
    }
}

impl Group<'_, LANES> {
    /// Fills places with the derivatives in the numbers, `p·(l − D)` and `q − p` times the weights by the temperature, and
    /// returns which have their digits: see [`logs::Gradient`].
    #[inline(always)]
    fn write<const FUSED: bool>(
        &self,
        made: &Made<LANES>,
        exponentials: [&[f32]; 2],
        weights: &[f64; LANES],
        into: [&mut [f32]; 2],
    ) -> [bool; LANES] {
        let Made { settled, tops, w, v, ln_ratios, are_far } = made;
        let mut are_made = [false; LANES];
        let mut least = [0.0; LANES];
        let (mut by, mut divergence, mut half) = ([[0.0; LANES]; 2], [0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let weight = weights[lane] / self.temperature;
            (by[0][lane], by[1][lane]) = ((weight / w[lane]) as f32, (weight / v[lane]) as f32);
            (divergence[lane], half[lane]) = (settled.values[lane] as f32, (0.5 * w[lane]) as f32);
            are_made[lane] = settled.values[lane] >= 0.0;
            let apart = (f64::from(tops[0][lane]) - f64::from(tops[1][lane])) / self.temperature;
            // The logarithm of the masses' ratio has no more digits than its two parts, or than they.
            let of_parts = LEAST_BESIDE_LN * (1.0 + (apart - ln_ratios[lane]).abs());
            least[lane] = if are_far[lane] { LEAST_OF_MASSES } else { of_parts } as f32;
        }
        for side in &by {
            for (is_made, by) in are_made.iter_mut().zip(side) {
                *is_made &= by.is_normal();
            }
        }
        let terms = self.terms(tops, ln_ratios, [1.0; LANES]);
        let [of_p, of_q] = into;
        if !of_p.is_empty() {
            terms.ln_ratios(self.sides, exponentials[0], of_p);
            let rounding = least.map(|least| least / SHOWS);
            let line = Line { half, mean: divergence, by: by[0], rounding };
            line.times_in_lanes::<true>(of_p, exponentials[0], &mut are_made);
        }
        let near = Near { sides: self.sides, weights: exponentials, terms, by, divergence };
        if !of_q.is_empty() {
            let largest = near.fill::<FUSED, false>(of_q);
            for lane in 0..LANES {
                let top = by[0][lane].abs().max(by[1][lane].abs());
                are_made[lane] &= largest[lane] >= least[lane] * top;
            }
        }
        are_made
    }
}

/// The largest number of each row, of those that are numbers.
#[inline(always)]
fn largest<const ROWS: usize>(numbers: &[f32]) -> [f32; ROWS] {
    let ((tops, _), mut of_rows) = (logs::largest(numbers), [0.0; ROWS]);
    match ROWS {
        1 => of_rows.fill(tops.iter().fold(f32::NEG_INFINITY, |top, &x| logs::larger(x, top))),
        _ => of_rows.copy_from_slice(&tops[..ROWS]),
    }
    of_rows
}

/// The same sums of as many rows as there are lanes.
#[inline(always)]
fn of_rows<const ROWS: usize, const N: usize>(lanes: &[[f64; LANES]; N]) -> [[f64; ROWS]; N] {
    let mut rows = [[0.0; ROWS]; N];
    for (rows, lanes) in rows.iter_mut().zip(lanes) {
        rows.copy_from_slice(&lanes[..ROWS]);
    }
    rows
}

/// What a gradient goes on from.
struct Made<const ROWS: usize> {
    settled: Settled,
    /// See [`Far`].
    tops: [[f32; ROWS]; 2],
    w: [f64; ROWS],
    v: [f64; ROWS],
    ln_ratios: [f64; ROWS],
    /// Whether these are those of the masses alone.
    are_far: [bool; ROWS],
}

/// What comes of differences that do not cancel.
struct Nearer<const ROWS: usize> {
    values: [f64; ROWS],
    ln_ratios: [f64; ROWS],
    have_digits: [bool; ROWS],
}

/// What comes of the exponentials as they stand.
struct Far<const ROWS: usize> {
    /// The masses in units of the largest numbers' exponentials.
    w: [f64; ROWS],
    v: [f64; ROWS],
    /// `ln(v/w)`.
    ln_ratios: [f64; ROWS],
    values: [f64; ROWS],
    /// Whether so little of these cancelled that they have their digits.
    have_digits: [bool; ROWS],
    /// Whether a difference of the two sides is no number, or too large for one that counts.
    are_odd: [bool; ROWS],
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::family::closer_look;
    use super::*;
    use crate::Divergence;
    use crate::cpu::tests::noise;
    use crate::verdict::Verdict;

    /// All rows of a batch, together or one by one.
    struct Rows<'a, 'b> {
        batch: &'a Batch<'b, f32>,
        are_alone: bool,
    }

    impl pulp::WithSimd for Rows<'_, '_> {
        /// The value and the masses of each.
        type Output = Vec<[f64; 3]>;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
            let Rows { batch, are_alone } = self;
            let rows = batch.rows();
            let (together, mut settled_rows) = (if are_alone { 1 } else { rows }, Vec::new());
            for first in (0..rows).step_by(together) {
                let (mut p, mut q) = (Vec::new(), Vec::new());
                let p = batch.packed_rows(Side::P, first..first + together, &mut p);
                let q = batch.packed_rows(Side::Q, first..first + together, &mut q);
                let space = &mut Space::default();
                let Settled { values, masses } = settled::<S>(batch, together, [p, q], space);
                let of_lane = |lane| [values[lane], masses[0][lane], masses[1][lane]];
                settled_rows.extend((0..together).map(of_lane));
            }
            settled_rows
        }
    }

    /// The same numbers together as one by one.
    fn settled_rows(batch: &Batch<'_, f32>) -> Vec<[f64; 3]> {
        assert!(takes(batch));
        let settled = |are_alone| pulp::Arch::new().dispatch(Rows { batch, are_alone });
        let bits =
            |rows: &[[f64; 3]]| rows.iter().map(|row| row.map(f64::to_bits)).collect::<Vec<_>>();
        let together = settled(false);
        let alone = settled(true);
        for (row, (got, want)) in bits(&alone).iter().zip(bits(&together)).enumerate() {
            let left = f64::from_bits(got[0]).is_nan() && f64::from_bits(want[0]).is_nan();
            assert!(left || *got == want, "row {row}: {:?}, not {:?}", alone[row], together[row]);
        }
        together
    }

    #[test]
    fn rows_are_as_good_as_in_f64() {
        for (bins, apart) in [2, 3, 7, 16, 17, 33, 64]
            .into_iter()
            .flat_map(|bins| [20.0, 3.0, 0.3, 1e-2, 1e-4].map(|apart| (bins, apart)))
        {
            // In some rows all others are far below the first number, and have their digits all the same.
            let p = Array2::from_shape_fn((LANES, bins), |(row, bin)| {
                9.0 * noise(row, bin) + if bin == 0 && row % 4 == 1 { 24.0 } else { 0.0 }
            });
            let by = |row: usize, bin: usize| apart * (noise(row + 40, bin) - 0.5);
            let q = Array2::from_shape_fn((LANES, bins), |(row, bin)| p[[row, bin]] + by(row, bin));
            for kinds in [[Kind::Logits; 2], [Kind::LogProbs; 2], [Kind::LogProbs, Kind::Logits]] {
                let [p, q] =
                    [(&p, kinds[0], 3.0), (&q, kinds[1], -70.0)].map(|(side, kind, up)| {
                        let mut side = side.clone();
                        for mut row in side.rows_mut() {
                            let ln_mass = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                            row.mapv_inplace(|x| {
                                x - if kind == Kind::Logits { up } else { ln_mass }
                            });
                        }
                        side.mapv(|x| x as f32)
                    });
                for temperature in [1.0, 0.3, 5.0] {
                    let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                    let batch = match kinds {
                        [Kind::Logits, Kind::Logits] => batch.with_temperature(temperature),
                        _ => Ok(batch),
                    };
                    let batch = batch.unwrap();
                    for (row, [value, masses @ ..]) in settled_rows(&batch).into_iter().enumerate()
                    {
                        let want = closer_look(Divergence::Kl, &batch, row);
                        let what = format!("{bins} bins of {kinds:?}, {apart:e}, row {row}");
                        for (got, want) in masses.into_iter().zip(want.masses) {
                            assert!((got - want).abs() < 1e-6, "{what}: {got}, not {want}");
                        }
                        let Verdict::Value(want) = want.verdict else { panic!("{what}") };
                        let off = (value - want).abs() / want;
                        let is_left = value.is_nan() && want < 1.1 * LEAST;
                        assert!(is_left || off < 1.5e-6, "{what}: {value:e}, not {want:e}");
                    }
                }
            }
        }
    }

    /// Whose value is what, of `[p, q]` in logits that the other rows are not like.
    #[test]
    fn rows_that_raise_questions_are_left() {
        const NONE: f32 = f32::NEG_INFINITY;
        let plain = [[0.0_f32, 1.0, -1.0], [1.0, 0.5, 0.2]];
        let with = |p: [f32; 3], q: [f32; 3]| {
            let mut sides = plain.map(|row| Array2::from_shape_fn((9, 3), |(_, bin)| row[bin]));
            sides[0].row_mut(4).assign(&ndarray::arr1(&p));
            sides[1].row_mut(4).assign(&ndarray::arr1(&q));
            let [p, q] = sides;
            let settled = settled_rows(&Batch::logits(&p, &q).unwrap());
            let is_settled = |row: &[f64; 3]| !row[0].is_nan();
            assert!(settled.iter().enumerate().all(|(row, it)| row == 4 || is_settled(it)));
            is_settled(&settled[4])
        };
        let [p, q] = plain;
        assert!(with(p, q));
        for bin in 0..3 {
            for number in [f32::NAN, f32::INFINITY] {
                let (mut odd_p, mut odd_q) = (p, q);
                (odd_p[bin], odd_q[bin]) = (number, number);
                assert!(!with(odd_p, q) && !with(p, odd_q), "{number} in bin {bin}");
            }
            // Masked on P, on both, and on Q alone, which makes it infinite.
            let (mut masked_p, mut masked_q) = (p, q);
            (masked_p[bin], masked_q[bin]) = (NONE, NONE);
            assert!(with(masked_p, q) && with(masked_p, masked_q), "bin {bin}");
            assert!(!with(p, masked_q), "bin {bin}");
        }
        assert!(!with([NONE; 3], q) && !with(p, [NONE; 3]));
        // Units that are too large, and sums.
        assert!(with([6.5e4, 6.5e4, 0.0], [6.5e4, 0.0, 6.5e4]));
        assert!(!with([6.6e4, 6.6e4, 0.0], q) && !with(p, [6.6e4, 0.0, 6.6e4]));
        assert!(!with([0.0, 0.0, 0.5], [f32::MIN, f32::MIN, 0.5]));
        // A weight that f32 has not, which counts by what Q lacks.
        assert!(!with([-100.0, 0.0, 1.0], [f32::MIN, 0.5, 0.3]));
        assert!(with([-100.0, 0.0, 1.0], [-1e4, 0.5, 0.3]));
        // Equal, or as good as that.
        assert!(!with(p, p));
        assert!(!with(p, [0.0, 1.0, -1.0 + 1e-7]));
    }

    /// By the temperature.
    #[test]
    fn values_that_f32_has_no_room_for_are_left() {
        let p = Array2::zeros((9, 2));
        let q = Array2::from_shape_fn((9, 2), |(row, bin)| [0.0, [-1.0, f32::MIN][row / 8]][bin]);
        for (temperature, has_room) in [(1.0, true), (0.25, false)] {
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
            assert_eq!(!settled_rows(&batch)[8][0].is_nan(), has_room);
            let got = crate::Engine::cpu().rows(Divergence::Kl, &batch);
            assert_eq!(got.is_ok(), has_room);
        }
    }

    #[test]
    fn masses_that_a_rule_may_refuse_are_left() {
        let p = Array2::from_shape_fn((9, 2), |(row, bin)| {
            let more = [0.0, 5e-4, -5e-4, 9.999e-4, 2e-3, 90.0, -90.0, 70.0, 0.0][row];
            [0.4_f64, 0.6][bin].ln() + more
        });
        let (p, q) = (p.mapv(|x| x as f32), Array2::from_elem((9, 2), 0.5_f32.ln()));
        let left = |mass: Mass, swapped: bool| -> Vec<usize> {
            let (p, q) = if swapped { (&q, &p) } else { (&p, &q) };
            let batch = Batch::log_probs(p, q).unwrap().with_mass(mass);
            let rows = settled_rows(&batch).into_iter().enumerate();
            rows.filter(|(_, row)| row[0].is_nan()).map(|(at, _)| at).collect()
        };
        for swapped in [false, true] {
            assert_eq!(left(Mass::Check, swapped), [3, 4, 5, 6, 7]);
            assert_eq!(left(Mass::Normalize, swapped), [5, 6]);
        }
        let batch = Batch::log_probs(&p, &q).unwrap();
        assert!(!takes(&batch.with_mass(Mass::AsGiven)));
        let logits = Batch::logits(&p, &q).unwrap();
        assert!(takes(&logits.with_mass(Mass::AsGiven)));
        let (p, q) = (Array2::zeros((2, LONGEST + 1)), Array2::zeros((2, LONGEST + 1)));
        assert!(!takes(&Batch::logits(&p, &q).unwrap()));
    }
}
