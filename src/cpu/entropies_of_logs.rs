//! Cross-entropy and entropy of rows of logarithms in f32, of the logarithms themselves: with the largest numbers
//! a and b of P and Q, and exponentials w and v in units of theirs,
//!
//! ```text
//! −Σ p·ln q = ln Σ v + Σ w·(b − ln q) / Σ w
//! ```
//!
//! and the same of P alone. No term is negative. Where one bin has nearly all of a side, `Σ v` is 1 and what the
//! other bins have, which is summed by itself.

use super::entropy::LEAST;
use super::in_f32::{CHAIN, Vector, add, admits};
use super::logs::{Below, any, larger, largest, numbers_of};
use super::sums::LANES;
use crate::chain::tree_sum;
use crate::kind::Kind;
use crate::verdict::{Judged, MassRule, Verdict};

/// Which of the two.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Entropies {
    Cross,
    Own,
}

impl Entropies {
    /// The side whose logarithms they are of.
    pub(super) fn side(self) -> usize {
        if self == Entropies::Cross { 1 } else { 0 }
    }
}

/// The verdict on a row, if f32 is right for it.
pub(super) fn judged(
    which: Entropies,
    rule: MassRule,
    numbers: [&[f32]; 2],
    temperature: f64,
) -> Option<Judged> {
    pulp::Arch::new().dispatch(Row { which, rule, numbers, temperature })
}

struct Row<'a> {
    which: Entropies,
    rule: MassRule,
    numbers: [&'a [f32]; 2],
    temperature: f64,
}

impl pulp::WithSimd for Row<'_> {
    type Output = Option<Judged>;

    /// Without fused products rounding would take digits of exponentials.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Option<Judged> {
        if S::IS_SCALAR { None } else { self.judged() }
    }
}

impl Row<'_> {
    #[inline(always)]
    fn judged(self) -> Option<Judged> {
        let Row { which, rule, numbers: [p, q], temperature } = self;
        let temperatures = rule.kinds.map(|kind| kind.divided_by(temperature));
        let tops = [top(p)?, top(q)?];
        let sums = match which {
            Entropies::Cross => {
                let of_p = Sums::of::<true>(p, tops[0], temperatures[0], q, tops[1]);
                [of_p, Sums::of::<false>(q, tops[1], temperatures[1], q, tops[1])]
            }
            Entropies::Own => {
                let of_p = Sums::of::<true>(p, tops[0], temperatures[0], p, tops[0]);
                // Nothing is to be known of Q but that it is a distribution.
                let is_known = rule.kinds[1] == Kind::Logits;
                let of_q = || Sums::of::<false>(q, tops[1], temperatures[1], q, tops[1]);
                [of_p, if is_known { Sums::ONE } else { of_q() }]
            }
        };
        let masses = [0, 1].map(|side| match rule.kinds[side] {
            Kind::Logits => 1.0,
            _ => sums[side].mass() * f64::from(tops[side]).exp(),
        });
        if !admits(&rule, masses) {
            return None;
        }
        if sums[0].is_infinite {
            return Some(Judged { verdict: Verdict::Infinite, masses });
        }
        let of = which.side();
        let apart = sums[0].apart / (sums[0].mass() * temperatures[of]);
        let value = sums[of].others.ln_1p() + apart;
        let is_cross = which == Entropies::Cross;
        let some_lost = sums[0].lost > NONE || is_cross && sums[1].lost > NONE;
        // A lost p counts by how far q is below: that of P's own is no further than e^−87 makes up for.
        let apart_of_lost = f64::from(sums[0].lost) / temperatures[of];
        let shows = is_cross && LOST * apart_of_lost > 1e-8 * value;
        let has_all = !some_lost || value >= LEAST && !shows;
        let verdict = Verdict::Value(value);
        (value.is_finite() && has_all).then_some(Judged { verdict, masses })
    }
}

/// The largest number of a side, if it has a probability, and all of them are logarithms.
#[inline(always)]
fn top(side: &[f32]) -> Option<f32> {
    let (tops, wrong) = largest(side);
    let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (top > f32::NEG_INFINITY && !any(&wrong)).then_some(top)
}

/// The sums of a side, in units of the exponential of its largest number.
struct Sums {
    /// Of the exponentials of all numbers but one of the largest.
    others: f64,
    /// Of their products with how far the numbers of a side are below its largest.
    apart: f64,
    /// Whether that side has none where this one has.
    is_infinite: bool,
    /// How far the numbers of that side are below its largest at most where this one has a number that is not −inf
    /// and has no exponential in f32; [`NONE`] if there is none.
    lost: f32,
}

/// Below what any number may be.
const NONE: f32 = -1.0;
/// All exponentials together that f32 has not: 2^18 of 2^−126.
const LOST: f64 = 3.081_487_911_019_577_4e-33;
/// From so far below the largest on, in units of the temperature, exponentials are nothing beside anything.
const NOTHING: f64 = -170.0;

impl Sums {
    /// Those of a side that has one bin.
    const ONE: Sums = Sums { others: 0.0, apart: 0.0, is_infinite: false, lost: NONE };

    fn mass(&self) -> f64 {
        1.0 + self.others
    }

    #[inline(always)]
    fn of<const APART: bool>(
        numbers: &[f32],
        top: f32,
        temperature: f64,
        of: &[f32],
        of_top: f32,
    ) -> Sums {
        let below = Below::new(temperature);
        let nothing = (NOTHING * temperature) as f32;
        let (mut sums, mut infinite) = ([[0.0_f64; LANES]; 3], [0_u32; LANES]);
        let mut lost = [NONE; LANES];
        let blocks = numbers.len().div_ceil(LANES);
        for first in (0..blocks).step_by(CHAIN) {
            let mut chains = [[0.0_f32; LANES]; 3];
            for at in first..blocks.min(first + CHAIN) {
                let (block, of): (Vector, Vector) = (numbers_of(numbers, at), numbers_of(of, at));
                for lane in 0..LANES {
                    let (x, y) = (block[lane], of[lane]);
                    let (weight, some) = below.exp::<true>(x, top);
                    let none = f32::NEG_INFINITY;
                    // The exponential of the largest is 1, and is taken away again: of a choice the compiler makes
                    // stores under a mask.
                    let tops = if x == top { 1.0 } else { 0.0 };
                    chains[0][lane] += weight - tops;
                    chains[1][lane] += tops;
                    let apart = if APART { of_top - y } else { 0.0 };
                    let of_lost = if !some & (x - top > nothing) { apart } else { NONE };
                    lost[lane] = larger(of_lost, lost[lane]);
                    if APART {
                        let apart = if some { apart } else { 0.0 };
                        chains[2][lane] = weight.mul_add(apart, chains[2][lane]);
                        infinite[lane] |= u32::from((y == none) & (x > none));
                    }
                }
            }
            add(&mut sums, &chains);
        }
        let [others, tops, apart] = sums.map(tree_sum);
        let lost = lost.into_iter().fold(NONE, larger);
        Sums { others: others + (tops - 1.0), apart, is_infinite: any(&infinite), lost }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::cpu::family::closer_look;
    use crate::cpu::tests::noise;
    use crate::{Batch, Divergence, Mass};

    const BOTH: [(Entropies, Divergence); 2] =
        [(Entropies::Cross, Divergence::CrossEntropy), (Entropies::Own, Divergence::Entropy)];

    fn of_row(which: Entropies, batch: &Batch<'_, f32>, row: usize) -> Option<Judged> {
        use crate::error::Side;
        let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
        judged(which, MassRule::of(batch), [&p, &q], batch.temperature())
    }

    /// Rows of one bin that is so far above the others.
    fn logits(bins: usize, seed: usize, steep: f64, above: f64) -> Array2<f64> {
        Array2::from_shape_fn((4, bins), |(row, bin)| {
            steep * noise(row + seed, bin) + if bin == 7 * row { above } else { 0.0 }
        })
    }

    fn check(batch: &Batch<'_, f32>, what: &str) {
        for row in 0..batch.rows() {
            for (which, divergence) in BOTH {
                let what = format!("{divergence}, {what}, row {row}");
                let got = of_row(which, batch, row).unwrap_or_else(|| panic!("{what}"));
                let want = closer_look(divergence, batch, row);
                for (got, want) in got.masses.into_iter().zip(want.masses) {
                    assert!((got - want).abs() < 1e-6 * want, "{what}: {got}, not {want}");
                }
                let (Verdict::Value(value), Verdict::Value(wanted)) = (got.verdict, want.verdict)
                else {
                    assert_eq!(got.verdict, want.verdict, "{what}");
                    continue;
                };
                let off = (value - wanted).abs();
                assert!(off <= 1e-6 * wanted, "{what}: {value:e}, not {wanted:e}");
            }
        }
    }

    /// From rows that are flat to those of which one bin has nearly all, next to it or elsewhere.
    #[test]
    fn rows_are_as_good_as_in_f64() {
        for (bins, steep, above) in [
            (65, 1.0, 0.0),
            (300, 0.0, 0.0),
            (300, 10.0, 5.0),
            (1_000, 40.0, 0.0),
            (1_000, 3.0, 30.0),
            (4_001, 1.0, 60.0),
        ] {
            for (kinds, temperature) in [
                ([Kind::Logits; 2], 1.0),
                ([Kind::Logits; 2], 2.5),
                ([Kind::LogProbs; 2], 1.0),
                ([Kind::Logits, Kind::LogProbs], 0.7),
            ] {
                let [p, q] = [0, 1].map(|at: usize| {
                    let mut side = logits(bins, 10 * at, steep, above);
                    for mut row in side.rows_mut() {
                        let mass: f64 = row.iter().map(|x| x.exp()).sum();
                        row.mapv_inplace(|x| match kinds[at] {
                            Kind::Logits => 100.0 + x,
                            _ => x - mass.ln() + 0.25,
                        });
                    }
                    side.mapv(|x| x as f32)
                });
                let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
                let batch = batch.with_mass(Mass::Normalize);
                let batch = batch.with_temperature(temperature).unwrap();
                check(&batch, &format!("{bins} bins of {kinds:?}, {steep}, {above}"));
            }
        }
    }

    #[test]
    fn masked_bins_have_no_probability_and_may_make_it_infinite() {
        let [mut p, mut q] = [0, 10].map(|seed| logits(100, seed, 2.0, 0.0).mapv(|x| x as f32));
        let none = f32::NEG_INFINITY;
        (p[[0, 3]], q[[0, 3]], p[[0, 99]]) = (none, none, none);
        q[[1, 5]] = none;
        // Far below, but there; and the largest twice.
        (q[[2, 5]], p[[2, 6]]) = (-1e9, -300.0);
        (p[[3, 1]], p[[3, 2]]) = (9.0, 9.0);
        let batch = Batch::logits(&p, &q).unwrap();
        check(&batch, "masked");
        let verdict = of_row(Entropies::Cross, &batch, 1).unwrap().verdict;
        assert_eq!(verdict, Verdict::Infinite);
    }

    #[test]
    fn what_is_not_for_f32_is_left() {
        let side = logits(100, 0, 2.0, 0.0).mapv(|x| x as f32);
        let taken = |change: &dyn Fn(&mut Array2<f32>, &mut Array2<f32>)| {
            let [mut p, mut q] = [side.clone(), side.clone()];
            change(&mut p, &mut q);
            let batch = Batch::logits(&p, &q).unwrap();
            BOTH.map(|(which, _)| of_row(which, &batch, 0).is_some())
        };
        assert_eq!(taken(&|_, _| {}), [true; 2]);
        assert_eq!(taken(&|p, _| p[[0, 9]] = f32::NAN), [false; 2]);
        assert_eq!(taken(&|_, q| q[[0, 9]] = f32::INFINITY), [false; 2]);
        assert_eq!(taken(&|_, q| q.fill(f32::NEG_INFINITY)), [false; 2]);
        // A lost probability beside a number that is so far below the others, and lost ones that are all there is.
        let least = f32::MIN;
        assert_eq!(taken(&|p, q| (p[[0, 9]], q[[0, 9]]) = (-95.0, least)), [false, true]);
        assert_eq!(taken(&|p, q| (p[[0, 9]], q[[0, 9]]) = (least, least)), [true, true]);
        assert_eq!(taken(&|p, q| (p[[0, 9]], q[[0, 9]]) = (-95.0, -1e9)), [true, true]);
        let sure =
            |side: &mut Array2<f32>| side.row_mut(0).iter_mut().skip(1).for_each(|x| *x = -95.0);
        assert_eq!(
            taken(&|p, q| (
                p.row_mut(0).iter_mut().skip(1).for_each(|x| *x = f32::NEG_INFINITY),
                sure(q)
            )
                .1),
            [false, true]
        );
        // All but the first have exponentials that f32 has not, and they are all of the entropy.
        assert_eq!(
            taken(&|p, _| p.row_mut(0).iter_mut().skip(1).for_each(|x| *x = -95.0)),
            [true, false]
        );
        // Log-probabilities whose mass is on the edge of what is allowed.
        let off = |by: f64| {
            let p = Array2::from_elem((1, 100), (-(100.0_f64.ln()) + by) as f32);
            let batch = Batch::log_probs(&p, &p).unwrap();
            of_row(Entropies::Own, &batch, 0).is_some()
        };
        assert_eq!([0.0, 1e-3, 2e-3].map(off), [true, false, false]);
    }
}
