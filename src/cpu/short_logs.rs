//! Short rows of logarithms on both sides, in f32: what [`logs`](super::logs) makes of a row's one block, of `LANES`
//! rows side by side. What a row takes beside its bins is most of the time that it takes, and is made in vectors here.

use super::logs::{self, Terms};
use super::side_by_side::interleave;
use super::sums::LANES;
use crate::batch::{Batch, Mass};
use crate::error::Side;
use crate::integrand::ln_ratio;
use crate::kind::Kind;
use crate::sums::DOUBT;
use crate::term;
use crate::verdict::MassRule;

/// Up to so many bins, rows side by side take less time than one after the other.
const LONGEST: usize = 64;
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

/// Rows side by side, or one by itself.
struct Group<'a, const ROWS: usize> {
    rule: MassRule,
    sides: [&'a [f32]; 2],
    temperature: f64,
}

impl<const ROWS: usize> Group<'_, ROWS> {
    #[inline(always)]
    fn settled<const FUSED: bool>(self) -> Settled {
        let (tops, mut are_right) = self.tops();
        let far = self.far::<FUSED>(&tops);
        if far.some_odd {
            self.leave_odd(&tops, &mut are_right);
        }
        let (mut values, mut some_near) = (far.values, false);
        for lane in 0..ROWS {
            some_near |= are_right[lane] & !far.have_digits[lane];
        }
        if some_near {
            let (near, have_digits) = self.near::<FUSED>(&tops, &far);
            for lane in 0..ROWS {
                values[lane] = if far.have_digits[lane] { values[lane] } else { near[lane] };
                are_right[lane] &= far.have_digits[lane] | have_digits[lane];
            }
        }
        let masses = self.masses::<FUSED>(&tops, &far, &mut are_right);
        let mut settled = Settled { values: [f64::NAN; LANES], masses: [[f64::NAN; LANES]; 2] };
        for lane in 0..ROWS {
            let is_right = are_right[lane] & (values[lane] >= LEAST);
            settled.values[lane] = if is_right { values[lane] } else { f64::NAN };
        }
        for (all, masses) in settled.masses.iter_mut().zip(&masses) {
            all[..ROWS].copy_from_slice(masses);
        }
        settled
    }

    /// The largest number of each row, and whether f32 may be right for these: of others they are 0.
    #[inline(always)]
    fn tops(&self) -> ([[f32; ROWS]; 2], [bool; ROWS]) {
        let [(mut p, p_wrong), (mut q, q_wrong)] =
            [largest::<ROWS>(self.sides[0]), largest::<ROWS>(self.sides[1])];
        let largest = (logs::LARGEST_LN * self.temperature).min(logs::LARGEST_TOP.into()) as f32;
        let mut are_right = [false; ROWS];
        for lane in 0..ROWS {
            let are_small = (p[lane].abs() <= largest) & (q[lane].abs() <= largest);
            are_right[lane] = are_small & ((p_wrong[lane] | q_wrong[lane]) == 0);
            p[lane] = if are_right[lane] { p[lane] } else { 0.0 };
            q[lane] = if are_right[lane] { q[lane] } else { 0.0 };
        }
        ([p, q], are_right)
    }

    #[inline(always)]
    fn far<const FUSED: bool>(&self, tops: &[[f32; ROWS]; 2]) -> Far<ROWS> {
        let none = [0.0; ROWS];
        let terms = Terms::of(*tops, [none; 2], [1.0; ROWS], self.temperature);
        let [p, q] = self.sides;
        let ([w, v, y], some_odd) = if ROWS == 1 {
            let (sums, is_odd) = terms.far_alone::<FUSED>(p, q);
            (sums.map(|sum| [sum; ROWS]), is_odd)
        } else {
            let (sums, odd) = terms.far_in_lanes::<FUSED, false>(p, q, &mut [&mut [], &mut []]);
            (of_rows(&sums), logs::any(&odd))
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
            have_digits[lane] = (s >= 0.5 * w[lane]) & (s < f64::MAX) & (cancelled <= 0.75 * s);
        }
        Far { w, v, ln_ratios, values, have_digits, some_odd }
    }

    /// The values without cancellation, with the ratio of the masses as the reference, and whether they have digits.
    #[inline(always)]
    fn near<const FUSED: bool>(
        &self,
        tops: &[[f32; ROWS]; 2],
        far: &Far<ROWS>,
    ) -> ([f64; ROWS], [bool; ROWS]) {
        let (mut high, mut low, mut unit) = ([0.0; ROWS], [0.0; ROWS], [0.0; ROWS]);
        for lane in 0..ROWS {
            let apart = f64::from(tops[0][lane]) - f64::from(tops[1][lane]);
            [high[lane], low[lane]] =
                logs::in_two_parts(apart - far.ln_ratios[lane] * self.temperature);
            unit[lane] = (far.w[lane] / far.v[lane]) as f32;
        }
        let terms = Terms::of(*tops, [high, low], unit, self.temperature);
        let [p, q] = self.sides;
        let [w, _, s, u] = match ROWS {
            1 => terms.near_alone::<FUSED>(p, q).map(|sum| [sum; ROWS]),
            _ => of_rows(&terms.near_in_lanes::<FUSED, false>(p, q, &mut [&mut [], &mut []]).0),
        };
        let (mut values, mut have_digits) = ([0.0; ROWS], [false; ROWS]);
        for lane in 0..ROWS {
            let excess = u[lane] / w[lane];
            // Next to 0, where this is as good as its series.
            let cancelled = w[lane] * (excess - ln_ratio::<FUSED>(1.0 + excess, 1.0, excess));
            values[lane] = (s[lane] - cancelled) / w[lane];
            have_digits[lane] =
                (s[lane] < f64::MAX) & (cancelled <= 0.75 * s[lane]) & (excess.abs() < 1e-3);
        }
        (values, have_digits)
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
        let (middle, within) = match self.rule.policy {
            Mass::Check => (1.0, self.rule.tolerance - DOUBT),
            _ => (0.0, f64::MAX),
        };
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

    /// Leaves rows with bins that are for f64.
    #[cold]
    #[inline(never)]
    fn leave_odd(&self, [p_tops, q_tops]: &[[f32; ROWS]; 2], are_right: &mut [bool; ROWS]) {
        let per_temperature = (1.0 / self.temperature) as f32;
        let [p, q] = self.sides.map(|side| side.chunks(ROWS));
        for (p, q) in p.zip(q) {
            for (lane, (&p, &q)) in p.iter().zip(q).enumerate() {
                let odd = logs::odd_bin([p, q], [p_tops[lane], q_tops[lane]], per_temperature);
                are_right[lane] &= odd == [false; 2];
            }
        }
    }
}

/// The largest number of each row, and whether one is none of a logarithm.
#[inline(always)]
fn largest<const ROWS: usize>(numbers: &[f32]) -> ([f32; ROWS], [u32; ROWS]) {
    let (tops, wrong) = logs::largest(numbers);
    if ROWS == 1 {
        let top = tops.iter().fold(f32::NEG_INFINITY, |top, &x| logs::larger(x, top));
        return ([top; ROWS], [u32::from(logs::any(&wrong)); ROWS]);
    }
    let (mut of_rows, mut are_wrong) = ([0.0; ROWS], [0; ROWS]);
    of_rows.copy_from_slice(&tops[..ROWS]);
    are_wrong.copy_from_slice(&wrong[..ROWS]);
    (of_rows, are_wrong)
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
    some_odd: bool,
}
