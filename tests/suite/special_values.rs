//! A grid of special values in every position class: what each row's status has to be is worked out
//! here from the values alone, and its value by the reference, for every backend alike.

use kullback::{Batch, Divergence, Error, InvalidRow, Mass, OnInvalid, Rule, Status, reference};
use ndarray::{Array2, array};

use crate::compare::{F32, close};
use crate::data::distributions;
use crate::engines::{engines, roomy_engines};

/// Zeros, subnormals, the edges of the ranges in which the kernels change their ways, and what is
/// no probability, by bit patterns.
const SPECIAL: &[u32] = &[
    0x0000_0000, // 0
    0x8000_0000, // −0
    0x0000_0001, // the smallest subnormal
    0x0007_1234, // a subnormal
    0x007f_ffff, // the largest subnormal
    0x0080_0000, // the smallest normal
    0x0c7f_ffff, // just below 2^-102
    0x0c80_0000, // 2^-102
    0x2edb_e6ff, // 1e-10
    0x3e80_0000, // 1/4
    0x3e80_0001, // and its neighbour
    0x3f00_0000, // 1/2
    0x3f80_0000, // 1
    0x4b00_0000, // 2^23, where the largest subnormal is lifted to
    0x5680_0000, // 2^46, where what lies just below 2^-102 is lifted to
    0x5f7f_ffff, // just below 2^64
    0x5f80_0000, // 2^64
    0x7149_f2ca, // 1e30
    0x7f7f_ffff, // the largest finite
    0x7f80_0000, // inf
    0xff80_0000, // −inf
    0x7fc0_0000, // a quiet NaN
    0x7f80_0001, // a signalling NaN
    0xffc0_1234, // a negative NaN
    0xbf00_0000, // −1/2
    0x8000_0001, // the negative subnormal next to −0
];

/// Rows of so many bins, with the special pair at one of these.
const LENGTHS: &[(usize, &[usize])] = &[
    (1, &[0]),
    (37, &[0, 1, 15, 16, 33, 36]),
    // Cut into segments and chunks under tiny limits.
    (700, &[0, 256, 699]),
];

fn pairs() -> impl Iterator<Item = (f32, f32)> {
    let values = || SPECIAL.iter().map(|&bits| f32::from_bits(bits));
    values().flat_map(move |p| values().map(move |q| (p, q)))
}

fn rule(value: f32) -> Option<Rule> {
    match value {
        value if value.is_nan() => Some(Rule::NotANumber),
        value if value < 0.0 => Some(Rule::Negative),
        value if value.is_infinite() => Some(Rule::Infinite),
        _ => None,
    }
}

/// What a row has to be: its status, and its value if it has one.
fn want(p: &[f32], q: &[f32], mass: Mass) -> (Status, f64) {
    let invalid = |rule| (Status::Invalid(rule), f64::NAN);
    let first = p.iter().zip(q).find_map(|(&p, &q)| rule(p).or(rule(q)));
    if let Some(rule) = first {
        return invalid(rule);
    }
    let plain = |side: &[f32]| side.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let (p, q) = (plain(p), plain(q));
    let masses = [p.iter().sum::<f64>(), q.iter().sum::<f64>()];
    match mass {
        Mass::Check if masses.iter().any(|mass| (mass - 1.0).abs() > 1e-3) => {
            return invalid(Rule::Mass);
        }
        Mass::Normalize if masses.contains(&0.0) => return invalid(Rule::NoMass),
        _ => {}
    }
    let value = reference::kl(&p, &q, mass);
    if value.is_infinite() {
        (Status::Infinite, value)
    } else if value.abs() > f64::from(f32::MAX) {
        invalid(Rule::Overflow)
    } else {
        (Status::Ok, value)
    }
}

/// Every pair in every position, over rows that are equal elsewhere but in one pair of bins.
fn grid(bins: usize, positions: &[usize]) -> (Array2<f32>, Array2<f32>) {
    let rows = pairs().count() * positions.len();
    let rest = if bins == 1 { 0.0 } else { 0.75 / (bins - 1) as f32 };
    let mut p = Array2::from_elem((rows, bins), rest);
    let mut q = Array2::from_elem((rows, bins), rest);
    for (row, (&position, pair)) in
        positions.iter().flat_map(|position| pairs().map(move |pair| (position, pair))).enumerate()
    {
        if bins > 5 {
            q[[row, 4]] *= 1.5;
            q[[row, 5]] *= 0.5;
        }
        (p[[row, position]], q[[row, position]]) = pair;
    }
    (p, q)
}

#[test]
fn every_pair_in_every_position() {
    let mut cases = 0;
    for &(bins, positions) in LENGTHS {
        let (p, q) = grid(bins, positions);
        let batch = Batch::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
        for &mass in Mass::ALL {
            let outcomes: Vec<_> = engines()
                .iter()
                .map(|engine| {
                    (engine, engine.rows(Divergence::Kl, &batch.with_mass(mass)).unwrap())
                })
                .collect();
            for row in 0..batch.rows() {
                let (p, q) = (p.row(row).to_vec(), q.row(row).to_vec());
                let (status, value) = want(&p, &q, mass);
                cases += 1;
                for (engine, outcome) in &outcomes {
                    let got = f64::from(outcome.values[row]);
                    let right = outcome.statuses[row] == status && agrees(got, value, &p, &q, mass);
                    assert!(
                        right,
                        "{engine:?}, {mass}: {got:e} and {:?}, not {value:e} and {status:?}: \
                         {p:?} {q:?}",
                        outcome.statuses[row]
                    );
                }
            }
        }
    }
    assert!(cases >= 27_000, "{cases} cases");
}

fn agrees(got: f64, want: f64, p: &[f32], q: &[f32], mass: Mass) -> bool {
    if want.is_nan() {
        return got.is_nan();
    }
    if want.is_infinite() {
        return got == want;
    }
    if close(got, want, F32) {
        return true;
    }
    // What f64 loses in the reference, and half of the smallest subnormal, which is as fine as an
    // f32 result can be.
    let plain = |side: &[f32]| side.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let size = reference::size(&plain(p), &plain(q), mass);
    let half = f64::from(f32::from_bits(1)) / 2.0;
    (got - want).abs() <= 4.0 * f64::EPSILON * size + half
}

/// The f32 kernel takes such a p as the lowest of these, and leaves rows of which it is a part that
/// counts to the host.
#[test]
fn a_p_below_the_normal_numbers_counts() {
    for [large, p, q] in [[1.0_f32, 1e-38, 1e-37], [1e-17, 1e-38, 1e-35]] {
        let [x, y] = [p, q].map(f64::from);
        let want = x * (x / y).ln() - x + y;
        let (p, q) = (array![[large, p]], array![[large, q]]);
        for engine in engines() {
            let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Generalized);
            let got = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
            assert!(close(got.into(), want, 1e-6), "{engine:?}: {got:e} for {want:e}");
        }
    }
}

/// The f32 kernel makes the terms of an invocation's bins once more where one of them has such a q.
#[test]
fn a_q_below_the_normal_numbers_counts() {
    for (bins, engines) in [(5, engines()), (300, engines()), (4_096, roomy_engines())] {
        for (small, at) in [(1e-42_f32, 0), (1e-45, bins / 2), (1e-38, bins - 1)] {
            let p = Array2::from_elem((1, bins), 1.0 / bins as f32);
            let mut q = p.mapv(|x| 1.3 * x);
            q[[0, at]] = small;
            let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Generalized);
            let terms = p.iter().zip(&q).map(|(&x, &y)| [x, y].map(f64::from));
            let want: f64 = terms.map(|[x, y]| x * (x / y).ln() - x + y).sum();
            for engine in engines {
                let got = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
                let what = format!("{engine:?}, {small:e} at {at} of {bins}: {got:e} for {want:e}");
                assert!(close(got.into(), want, F32), "{what}");
            }
        }
    }
}

#[test]
fn tiny_bins_beside_an_equal_large_one() {
    for engine in engines() {
        for exponent in -110..-90 {
            for ratio in [1_f32 / 3.0, 0.75, 1.5, 3.0, 1000.0] {
                let tiny = 2f32.powi(exponent);
                let (p, q) = (array![[0.5_f32, tiny]], array![[0.5, tiny * ratio]]);
                let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Generalized);
                let got = f64::from(engine.rows(Divergence::Kl, &batch).unwrap().values[0]);
                let (p, q) = (f64::from(p[[0, 1]]), f64::from(q[[0, 1]]));
                let want = p * (p / q).ln() + (q - p);
                let what = format!("{engine:?}, 2^{exponent} × {ratio}: {got:e} for {want:e}");
                assert!(close(got, want, F32), "{what}");
            }
        }
    }
}

#[test]
fn invalid_bins_at_the_end_of_long_rows() {
    let p = distributions::<f32>(1, 140_000, 33);
    for engine in roomy_engines() {
        for at in [65_535, 65_536, 100_000, 139_999] {
            for bad in [-0.5_f32, f32::NAN, f32::INFINITY] {
                let mut q = p.clone();
                q[[0, at]] = bad;
                let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
                let error = engine.rows(Divergence::Kl, &batch).unwrap_err();
                let named = |row: &InvalidRow| row.bin == Some(at);
                assert!(
                    matches!(&error, Error::Invalid(row) if named(row)),
                    "{engine:?} {at} {bad}: {error}"
                );
            }
            let mut q = p.clone();
            q[[0, at]] = 0.0;
            let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
            assert_eq!(engine.rows(Divergence::Kl, &batch).unwrap().statuses[0], Status::Infinite);
        }
    }
}

#[test]
fn every_load_of_a_trip() {
    for engine in engines() {
        for at in 0..64 {
            let row = Array2::from_elem((1, 64), 1.0_f32 / 64.0);
            let mut bad = row.clone();
            bad[[0, at]] = -1e-3;
            for (p, q) in [(&row, &bad), (&bad, &row)] {
                let batch = Batch::probs(p, q).unwrap().with_on_invalid(OnInvalid::Nan);
                let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
                assert_eq!(
                    outcome.statuses[0],
                    Status::Invalid(Rule::Negative),
                    "{engine:?}, {at}"
                );
            }
            let mut none = row.clone();
            none[[0, at]] = 0.0;
            let batch = Batch::probs(&row, &none).unwrap().with_mass(Mass::Normalize);
            assert_eq!(engine.rows(Divergence::Kl, &batch).unwrap().statuses[0], Status::Infinite);
        }
    }
}
