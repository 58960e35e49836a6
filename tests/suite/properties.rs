//! What a Kullback-Leibler divergence does, whatever the rows.

use kullback::{Batch, Divergence, Engine, Mass};
use ndarray::{Array2, Axis};
use proptest::prelude::*;

use crate::data::{Random, distributions, nearby, normalized};
use crate::engines::engines;

const ROWS: usize = 8;

fn kl(engine: &Engine, p: &Array2<f32>, q: &Array2<f32>) -> Vec<f32> {
    let batch = Batch::probs(p, q).unwrap().with_mass(Mass::Normalize);
    engine.rows(Divergence::Kl, &batch).unwrap().values.to_vec()
}

/// The same permutation of the bins on both sides.
fn permutation(bins: usize, seed: u64) -> Vec<usize> {
    let mut random = Random(seed);
    let mut order: Vec<usize> = (0..bins).collect();
    for at in (1..bins).rev() {
        order.swap(at, (random.next() % (at as u64 + 1)) as usize);
    }
    order
}

/// Whether two values of the same divergence are equal up to rounding, `units` f32 roundings of it.
fn same(a: f32, b: f32, units: f32) -> bool {
    (a - b).abs() <= units * f32::EPSILON * a.max(b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn never_negative_and_zero_only_for_equal_rows(
        bins in 1_usize..600, seed: u64, exponent in 0_i32..9,
    ) {
        let p = distributions::<f32>(ROWS, bins, seed);
        let q = nearby(&p, 10_f64.powi(-exponent), seed ^ 1);
        for engine in engines() {
            prop_assert!(kl(engine, &p, &p).iter().all(|&value| value.to_bits() == 0));
            for (row, value) in kl(engine, &p, &q).into_iter().enumerate() {
                prop_assert!(value >= 0.0, "{engine:?}: {value:e}");
                let equal = p.row(row) == q.row(row) || bins == 1;
                prop_assert_eq!(value == 0.0, equal, "{:?}: {:e}", engine, value);
            }
        }
    }

    #[test]
    fn the_order_of_the_bins_does_not_matter(bins in 1_usize..600, seed: u64) {
        let p = distributions::<f32>(ROWS, bins, seed);
        let q = nearby(&p, 0.1, seed ^ 1);
        let order = permutation(bins, seed);
        for engine in engines() {
            let before = kl(engine, &p, &q);
            let after = kl(engine, &p.select(Axis(1), &order), &q.select(Axis(1), &order));
            for (a, b) in before.into_iter().zip(after) {
                prop_assert!(same(a, b, 8.0) || bins == 1, "{engine:?}: {a:e} {b:e}");
            }
        }
    }

    #[test]
    fn splitting_a_bin_in_equal_proportions_changes_nothing(
        bins in 1_usize..300, seed: u64, bin: prop::sample::Index,
    ) {
        // Halves are exact, and so is their sum.
        let split = |rows: &Array2<f32>| {
            let at = bin.index(bins);
            let mut halves = rows.clone();
            halves.column_mut(at).mapv_inplace(|value| value / 2.0);
            let half = halves.column(at).to_owned();
            halves.push_column(half.view()).unwrap();
            halves
        };
        let p = distributions::<f32>(ROWS, bins, seed);
        let q = distributions::<f32>(ROWS, bins, seed ^ 1);
        for engine in engines() {
            let (whole, halves) = (kl(engine, &p, &q), kl(engine, &split(&p), &split(&q)));
            for (a, b) in whole.into_iter().zip(halves) {
                prop_assert!(same(a, b, 8.0) || bins == 1, "{engine:?}: {a:e} {b:e}");
            }
        }
    }

    #[test]
    fn merging_bins_never_adds(bins in 2_usize..300, seed: u64) {
        // The data processing inequality, for the map that joins neighbours.
        let merged = |rows: &Array2<f32>| {
            let mut sums = Array2::<f64>::zeros((ROWS, bins.div_ceil(2)));
            for ((row, bin), &value) in rows.indexed_iter() {
                sums[[row, bin / 2]] += f64::from(value);
            }
            normalized::<f32>(sums.view())
        };
        let p = distributions::<f32>(ROWS, bins, seed);
        let q = distributions::<f32>(ROWS, bins, seed ^ 1);
        for engine in engines() {
            let (fine, coarse) = (kl(engine, &p, &q), kl(engine, &merged(&p), &merged(&q)));
            for (fine, coarse) in fine.into_iter().zip(coarse) {
                prop_assert!(coarse <= fine * (1.0 + 1e-6), "{engine:?}: {coarse:e} {fine:e}");
            }
        }
    }

    #[test]
    fn pinsker_bounds_the_total_variation(bins in 2_usize..300, seed: u64, exponent in 0_i32..5) {
        let p = distributions::<f32>(ROWS, bins, seed);
        let q = nearby(&p, 10_f64.powi(-exponent), seed ^ 1);
        for engine in engines() {
            for (row, value) in kl(engine, &p, &q).into_iter().enumerate() {
                let distance: f64 = p
                    .row(row)
                    .iter()
                    .zip(q.row(row))
                    .map(|(p, q)| (f64::from(*p) - f64::from(*q)).abs() / 2.0)
                    .sum();
                let bound = (f64::from(value) / 2.0).sqrt();
                prop_assert!(distance <= bound * (1.0 + 1e-3) + 1e-7, "{engine:?}");
            }
        }
    }
}

/// Rows of a joint distribution of two variables, the second of `columns` values, as a matrix of
/// f64 that is the exact content of f32 rows.
fn marginal(joint: &Array2<f32>, columns: usize) -> Array2<f32> {
    let mut sums = Array2::<f64>::zeros((joint.nrows(), joint.ncols() / columns));
    for ((row, bin), &value) in joint.indexed_iter() {
        sums[[row, bin / columns]] += f64::from(value);
    }
    sums.mapv(|sum| sum as f32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn the_chain_rule_adds_up(rows in 1_usize..12, columns in 1_usize..12, seed: u64) {
        // D(P(x, y)‖Q(x, y)) = D(P(x)‖Q(x)) + Σ P(x)·D(P(y|x)‖Q(y|x)).
        let p = distributions::<f32>(1, rows * columns, seed);
        let q = distributions::<f32>(1, rows * columns, seed ^ 1);
        let conditional = |joint: &Array2<f32>| {
            joint.to_shape((rows, columns)).unwrap().to_owned()
        };
        let weights = marginal(&p, columns);
        for engine in engines() {
            let joint = f64::from(kl(engine, &p, &q)[0]);
            let of_marginals = f64::from(kl(engine, &weights, &marginal(&q, columns))[0]);
            let within = kl(engine, &conditional(&p), &conditional(&q));
            let within: f64 =
                within.iter().zip(&weights).map(|(kl, w)| f64::from(*kl) * f64::from(*w)).sum();
            let sum = of_marginals + within;
            prop_assert!((joint - sum).abs() <= 2e-6 * sum + 1e-9, "{engine:?}: {joint} {sum}");
        }
    }

    #[test]
    fn it_is_jointly_convex(bins in 1_usize..300, seed: u64, share in 0.0_f64..1.0) {
        let [p, q, r, s] = [0, 1, 2, 3].map(|side| distributions::<f32>(ROWS, bins, seed ^ side));
        let mixed = |a: &Array2<f32>, b: &Array2<f32>| {
            let mix = |a: f32, b: f32| share * f64::from(a) + (1.0 - share) * f64::from(b);
            Array2::from_shape_fn(a.dim(), |at| mix(a[at], b[at]) as f32)
        };
        for engine in engines() {
            let of_mixtures = kl(engine, &mixed(&p, &r), &mixed(&q, &s));
            let (one, other) = (kl(engine, &p, &q), kl(engine, &r, &s));
            for row in 0..ROWS {
                let bound = share * f64::from(one[row]) + (1.0 - share) * f64::from(other[row]);
                let got = f64::from(of_mixtures[row]);
                prop_assert!(got <= bound * (1.0 + 2e-6) + 1e-12, "{engine:?}: {got} {bound}");
            }
        }
    }

    #[test]
    fn bretagnolle_and_huber_bound_the_total_variation(bins in 2_usize..300, seed: u64) {
        // TV ≤ √(1 − e^−D), which stays below 1 where Pinsker's bound does not.
        let far = |seed: u64| {
            let rows = distributions::<f64>(ROWS, bins, seed);
            normalized::<f32>(rows.mapv(|p| p.powi(6)).view())
        };
        let (p, q) = (far(seed), far(seed ^ 1));
        for engine in engines() {
            for (row, value) in kl(engine, &p, &q).into_iter().enumerate() {
                let pairs = p.row(row).into_iter().zip(q.row(row).to_vec());
                let distance: f64 =
                    pairs.map(|(&p, q)| (f64::from(p) - f64::from(q)).abs() / 2.0).sum();
                let bound = (-(-f64::from(value)).exp_m1()).sqrt();
                prop_assert!(distance <= bound * (1.0 + 1e-6) + 1e-6, "{engine:?}");
                prop_assert!(bound <= 1.0);
            }
        }
    }

    #[test]
    fn softmax_and_logarithms_of_it_are_the_same(bins in 1_usize..300, seed: u64) {
        let mut random = Random(seed);
        let mut logits = || Array2::from_shape_simple_fn((ROWS, bins), || 6.0 * random.uniform());
        let (p, q) = (logits(), logits());
        let probs = |logits: &Array2<f64>| normalized::<f32>(logits.mapv(f64::exp).view());
        let [p_logits, q_logits] = [&p, &q].map(|logits| logits.mapv(|x| x as f32));
        for engine in engines() {
            let want = kl(engine, &probs(&p), &probs(&q));
            let batch = Batch::logits(&p_logits, &q_logits).unwrap();
            let got = engine.rows(Divergence::Kl, &batch).unwrap().values;
            for (got, want) in got.iter().zip(want) {
                // The inputs themselves are rounded.
                prop_assert!((got - want).abs() <= 1e-5 * want + 1e-9, "{engine:?}: {got} {want}");
            }
        }
    }
}

#[test]
fn it_is_not_symmetric() {
    let p = normalized::<f32>(ndarray::array![[0.9, 0.1]].view());
    let q = normalized::<f32>(ndarray::array![[0.5, 0.5]].view());
    for engine in engines() {
        assert!((kl(engine, &p, &q)[0] - kl(engine, &q, &p)[0]).abs() > 0.1, "{engine:?}");
    }
}

#[test]
fn it_does_not_satisfy_the_triangle_inequality() {
    // Bernoulli distributions with means 0.5, 0.25 and 0.1; the values were computed by mpmath.
    let [p, q, r] =
        [0.5, 0.25, 0.1].map(|mean| normalized::<f32>(ndarray::array![[mean, 1.0 - mean]].view()));
    for engine in engines() {
        let direct = f64::from(kl(engine, &p, &r)[0]);
        let detour = f64::from(kl(engine, &p, &q)[0] + kl(engine, &q, &r)[0]);
        assert!((direct - 0.510825623765991).abs() < 1e-6, "{engine:?}: {direct}");
        assert!((detour - 0.236172551598963).abs() < 1e-6, "{engine:?}: {detour}");
    }
}
