//! Cross-entropy and entropy of rows in f32.
//!
//! `−ln q` has no digits where q is next to 1, as it is in the rows of confident models. There it is
//! `−ln(1 − r)` of what all the other bins have, which is summed by itself.

use super::in_f32::{Asked, CHAIN, Known, Method, Numbers, PerLane, Row, Verdicts, add, block};
use super::side_by_side::Group;
use super::sums::LANES;
use crate::chain::tree_sum;
use crate::integrand::ln_ratio;
use crate::term::{ln_ratio_f32, mul_add};
use crate::verdict::Judged;

/// `−Σ p·ln q`.
pub(super) struct CrossEntropy;

/// `−Σ p·ln p`.
pub(super) struct Entropy;

/// Of two probabilities of a row one at most is as large.
const MOST: f32 = 0.6;
/// The largest mass by which the least usual number may be divided and stay a normal one.
const LARGEST: f64 = 16_777_216.0; // 2^24
/// Beside a result from here on, the probabilities that f32 has not are less than its rounding: 2^18 of
/// e^−87, each by 87.
pub(super) const LEAST: f64 = 1e-24;

impl Method for CrossEntropy {
    #[inline(always)]
    fn judged<const FUSED: bool>(row: &Row<'_>) -> Option<Judged> {
        judged::<FUSED, 1>(row)
    }

    #[inline(always)]
    fn judged_side_by_side<const FUSED: bool>(asked: &Asked, group: &Group<'_>) -> Verdicts {
        judged_side_by_side::<FUSED, 1>(asked, group)
    }
}

impl Method for Entropy {
    #[inline(always)]
    fn judged<const FUSED: bool>(row: &Row<'_>) -> Option<Judged> {
        judged::<FUSED, 0>(row)
    }

    #[inline(always)]
    fn judged_side_by_side<const FUSED: bool>(asked: &Asked, group: &Group<'_>) -> Verdicts {
        judged_side_by_side::<FUSED, 0>(asked, group)
    }
}

/// With the logarithms of one of the sides.
#[inline(always)]
fn judged<const FUSED: bool, const OF: usize>(row: &Row<'_>) -> Option<Judged> {
    let known = row.known();
    let per_mass = opened::<OF>(&row.asked, &known)?;
    let sums = sums::<FUSED, OF, _>(row.sides.numbers, &per_mass);
    let value = closed::<FUSED>(&row.asked, &known, sums.map(tree_sum))?;
    Some(Judged { verdict: Asked::verdict(value), masses: known.masses() })
}

#[inline(always)]
fn judged_side_by_side<const FUSED: bool, const OF: usize>(
    asked: &Asked,
    group: &Group<'_>,
) -> Verdicts {
    let masses = group.sums();
    let (mut are_plain, mut per_mass) = (group.are_plain, [0.0; LANES]);
    for lane in 0..LANES {
        per_mass[lane] = (1.0 / masses[OF][lane]) as f32;
        are_plain[lane] &= masses[OF][lane] <= LARGEST;
    }
    let mut are_open = are_plain;
    for lane in (0..LANES).filter(|&lane| !are_plain[lane]) {
        let opened = group.known(lane).and_then(|known| opened::<OF>(asked, &known));
        (are_open[lane], per_mass[lane]) = (opened.is_some(), opened.unwrap_or(0.0));
    }
    let [logs, top, others] = sums::<FUSED, OF, _>(group.numbers, &per_mass);
    let mut verdicts = Verdicts::none();
    for lane in 0..LANES {
        let sums = [logs[lane], top[lane], others[lane]];
        verdicts.values[lane] = value::<FUSED>(sums, masses[0][lane]);
        verdicts.are_right[lane] = are_plain[lane];
    }
    for lane in (0..LANES).filter(|&lane| are_open[lane] & !are_plain[lane]) {
        let sums = [logs[lane], top[lane], others[lane]];
        let known = group.known(lane);
        verdicts.put(lane, known.and_then(|known| closed::<FUSED>(asked, &known, sums)));
    }
    verdicts
}

/// What the numbers of a side are to be multiplied by, if f32 may be right for a row.
#[inline(always)]
fn opened<const OF: usize>(asked: &Asked, known: &Known) -> Option<f32> {
    let mass = known.look.masses[OF];
    (asked.takes(known) && mass <= LARGEST).then_some((1.0 / mass) as f32)
}

/// The value of a row whose sums were made, which may be infinite.
#[inline(always)]
fn closed<const FUSED: bool>(asked: &Asked, known: &Known, sums: [f64; 3]) -> Option<f64> {
    if asked.is_infinite(known) {
        return Some(f64::INFINITY);
    }
    let value = value::<FUSED>(sums, known.look.masses[0]);
    (value >= LEAST || !known.some_lost()).then_some(value)
}

/// That of the sums of a row, by the mass of P.
#[inline(always)]
fn value<const FUSED: bool>([logs, top, others]: [f64; 3], mass: f64) -> f64 {
    // Without a largest bin there are as good as no others.
    let others = if top > 0.0 { others } else { 0.0 };
    let ln_top = ln_ratio::<FUSED>(1.0 - others, 1.0, -others);
    (logs - top * ln_top) / mass
}

/// What is summed in all lanes: `−Σ p·ln q` without the bin in which q is most of its mass, if there is one; p in
/// that bin; and `Σ q` of all the others.
///
/// Of p as it is given, and by its mass the side whose logarithms these are.
#[inline(always)]
fn sums<const FUSED: bool, const OF: usize, B: PerLane>(
    Numbers { p, q, .. }: Numbers<'_>,
    per_mass: &B,
) -> [[f64; LANES]; 3] {
    let q = [p, q][OF];
    let mut sums = [[0.0_f64; LANES]; 3];
    let mut first = 0;
    while first < p.len() {
        let mut chains = [[0.0_f32; LANES]; 3];
        for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
            let (p, q) = (block(p, at), block(q, at));
            for lane in 0..LANES {
                let (p, q) = (p[lane], q[lane] * per_mass.at(lane));
                let is_top = q > MOST;
                let ln = ln_ratio_f32::<FUSED>(q.max(f32::MIN_POSITIVE), 1.0);
                let [logs, top, others] = if is_top { [0.0, p, 0.0] } else { [p, 0.0, q] };
                chains[0][lane] = mul_add::<FUSED>(-logs, ln, chains[0][lane]);
                chains[1][lane] += top;
                chains[2][lane] += others;
            }
        }
        add(&mut sums, &chains);
        first += CHAIN * LANES;
    }
    sums
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::super::in_f32::judged_in_f32;
    use super::*;
    use crate::cpu::family::closer_look;
    use crate::cpu::tests::{noise, on_every_vector_unit};
    use crate::kind::Kind;
    use crate::verdict::Verdict;
    use crate::{Batch, Divergence, Mass};

    fn both(batch: &Batch<'_, f32>, row: usize) -> [(Option<Judged>, Judged); 2] {
        let (cross, own) = (Divergence::CrossEntropy, Divergence::Entropy);
        [
            (judged_in_f32::<CrossEntropy>(cross, 1.0, batch, row), closer_look(cross, batch, row)),
            (judged_in_f32::<Entropy>(own, 1.0, batch, row), closer_look(own, batch, row)),
        ]
    }

    fn check(batch: &Batch<'_, f32>, row: usize, what: &str) {
        for (of, (got, want)) in both(batch, row).into_iter().enumerate() {
            let got = got.unwrap_or_else(|| panic!("{what}, row {row}, {of}"));
            let (Verdict::Value(got), Verdict::Value(want)) = (got.verdict, want.verdict) else {
                assert_eq!(got.verdict, want.verdict, "{what}, row {row}, {of}");
                continue;
            };
            let off = (got - want).abs() / want.abs();
            assert!(got == want || off < 1e-6, "{what}, row {row}, {of}: {got:e}, not {want:e}");
        }
    }

    /// From rows that are flat to those of which one bin has nearly all.
    #[test]
    fn rows_are_as_good_as_in_f64() {
        for bins in [2, 5, 16, 33, 300, 4_000] {
            for steep in [0.0, 1.0, 10.0, 40.0] {
                let logits = |seed: usize| {
                    Array2::from_shape_fn((8, bins), |(row, bin)| steep * noise(row + seed, bin))
                };
                let (p, q) = (logits(0), logits(8));
                for kinds in [[Kind::Probs; 2], [Kind::Logits; 2], [Kind::LogProbs, Kind::Probs]] {
                    let side = |at: usize, mass: f64| {
                        let mut side = [&p, &q][at].clone();
                        if kinds[at] == Kind::Probs {
                            side.rows_mut().into_iter().for_each(|mut row| {
                                row.mapv_inplace(f64::exp);
                                let by = mass / row.sum();
                                row.mapv_inplace(|x| x * by);
                            });
                        }
                        side.mapv(|x| x as f32)
                    };
                    let (p, q) = (side(0, 1.0), side(1, 1e6));
                    let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                    let batch = batch.with_mass(Mass::Normalize);
                    for row in 0..8 {
                        check(&batch, row, &format!("{bins} {}, {steep}", kinds[0]));
                    }
                }
            }
        }
    }

    #[test]
    fn sure_rows_and_zeros() {
        let p = array![[1.0_f32, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.999, 0.001, 0.0]];
        let q = array![[1.0_f32, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1.0, 1e-30, 0.0]];
        let batch = Batch::probs(&p, &q).unwrap();
        (0..4).for_each(|row| check(&batch, row, "zeros"));
        let sure = both(&batch, 0).map(|(got, _)| got.unwrap().verdict);
        assert_eq!(sure, [Verdict::Value(0.0); 2]);
        assert_eq!(both(&batch, 2)[0].0.unwrap().verdict, Verdict::Infinite);
        let faint = array![[1.0_f32, 1e-30]];
        check(&Batch::probs(&faint, &faint).unwrap(), 0, "faint");
        let logits = array![[50.0_f32, 0.0, -15.0]];
        check(&Batch::logits(&logits, &logits).unwrap(), 0, "sure logits");
        // What f32 has no number for is not left out where nothing is beside it.
        let far = array![[0.0_f32, -110.0]];
        let found = both(&Batch::logits(&far, &far).unwrap(), 0).map(|(got, _)| got.is_some());
        assert_eq!(found, [false, false]);
        // Nor is a mass divided by, of which least numbers would be subnormal.
        let heavy = array![[3e7_f32, 1e-30]];
        let batch = Batch::probs(&heavy, &heavy).unwrap().with_mass(Mass::Normalize);
        assert_eq!(both(&batch, 0).map(|(got, _)| got.is_some()), [false, false]);
    }

    struct Summed<'a> {
        p: &'a [f32],
        q: &'a [f32],
    }

    impl pulp::WithSimd for Summed<'_> {
        type Output = f64;

        fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
            let numbers = Numbers { p: self.p, q: self.q, differences: None };
            let sums = match S::IS_SCALAR {
                true => sums::<false, 1, _>(numbers, &0.5),
                false => sums::<true, 1, _>(numbers, &0.5),
            };
            sums.map(tree_sum).into_iter().sum()
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_vector_unit() {
        let side = |step: usize| (0..300).map(move |at| (at * step % 101) as f32 / 15_000.0);
        let (p, mut q): (Vec<_>, Vec<_>) = (side(37).collect(), side(53).collect());
        q[77] = 1.5;
        on_every_vector_unit(|| Summed { p: &p, q: &q }, |sum| *sum);
    }
}
