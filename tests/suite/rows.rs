//! Row-wise divergences: lengths and shapes around every edge, on every backend.

use kullback::{
    Batch, Divergence, Element, Engine, Error, Mass, OnInvalid, Outcome, Rule, Status, Value,
};
use ndarray::{Array2, ArrayView2, Axis, ShapeBuilder, array, concatenate};

use crate::compare::{F32, F64, assert_close, close};
use crate::data::{distributions, nearby};
use crate::engines::{engines, f64_engines, roomy_engines};

/// Rows that every engine takes, those under tiny limits too.
const SHORT: &[usize] = &[
    1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511,
    512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 4097, 16_383, 16_384,
];
/// Longer ones, to a row of 2^20 bins. 65,535 is where lavapipe ends an invocation's loops.
const LONG: &[usize] = &[65_535, 65_536, 65_537, 131_073, 262_144, 262_145, 1 << 20];

fn rows<T: Element>(engine: &Engine, p: &Array2<T>, q: &Array2<T>) -> Outcome<T::Value> {
    engine.rows(Divergence::Kl, &Batch::probs(p, q).unwrap()).unwrap()
}

fn as_f64<V: Value>(outcome: &Outcome<V>) -> Vec<f64> {
    outcome.values.iter().map(|value| value.to_f64()).collect()
}

/// What the f64 reference says of rows that are far enough apart for it to know.
fn reference<T: Element>(p: ArrayView2<'_, T>, q: ArrayView2<'_, T>) -> Vec<f64> {
    let plain =
        |row: ndarray::ArrayView1<'_, T>| row.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    let pairs = p.axis_iter(Axis(0)).zip(q.axis_iter(Axis(0)));
    pairs.map(|(p, q)| kullback::reference::kl(&plain(p), &plain(q), Mass::Check)).collect()
}

fn bits(outcome: &Outcome<f32>) -> Vec<u32> {
    outcome.values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_length() {
    for engine in engines() {
        check_lengths(engine, SHORT);
    }
    for engine in roomy_engines() {
        check_lengths(engine, LONG);
    }
}

fn check_lengths(engine: &Engine, lengths: &[usize]) {
    for &bins in lengths {
        let p = distributions::<f32>(3, bins, 1);
        let q = distributions::<f32>(3, bins, 2);
        let what = format!("{engine:?}, {bins} bins");
        let outcome = rows(engine, &p, &q);
        assert!(outcome.statuses.iter().all(|&status| status == Status::Ok), "{what}");
        // A single bin is equal but for the rounding of its mass, of which f64 knows nothing.
        if bins > 1 {
            assert_close(&as_f64(&outcome), &reference(p.view(), q.view()), F32, &what);
        }
    }
}

#[test]
fn every_length_in_f64() {
    let roomy = |engine: &Engine| roomy_engines().iter().any(|roomy| std::ptr::eq(roomy, engine));
    for engine in f64_engines() {
        // The longest that tiny limits leave room for is 42 records of 256 bins.
        let most = if roomy(engine) { usize::MAX } else { 10_752 };
        let lengths = SHORT.iter().chain(LONG).filter(|&&bins| (2..=most).contains(&bins));
        for &bins in lengths {
            let p = distributions::<f64>(2, bins, 3);
            let q = distributions::<f64>(2, bins, 4);
            // The cross-check allows for what rounding does to the reference itself.
            let batch = Batch::probs(&p, &q).unwrap();
            let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
            let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 2).unwrap();
            assert!(check.compared == 2 && check.worst <= F64, "{engine:?}, {bins}: {check:?}");
        }
    }
}

#[test]
fn rows_too_long_for_the_limits_are_refused() {
    let p = distributions::<f32>(1, 32_769, 1);
    for engine in &engines()[roomy_engines().len()..] {
        let error = engine.rows(Divergence::Kl, &Batch::probs(&p, &p).unwrap()).unwrap_err();
        assert_eq!(error, Error::TooLong { bins: 32_769, most: 32_768 });
    }
}

#[test]
fn every_number_of_rows() {
    for engine in engines() {
        for bins in [2, 17, 300] {
            for count in [0, 1, 2, 3, 4, 7, 8, 9, 16, 31, 33, 64, 65, 127, 129] {
                let p = distributions::<f32>(count, bins, 5);
                let q = distributions::<f32>(count, bins, 6);
                let what = format!("{engine:?}, {count} rows of {bins} bins");
                let outcome = rows(engine, &p, &q);
                assert_close(&as_f64(&outcome), &reference(p.view(), q.view()), F32, &what);
            }
        }
    }
}

#[test]
fn more_workgroups_than_one_dimension_of_a_grid_holds() {
    // 16 rows of 2 bins per workgroup of 16, so that 1,200,000 rows are 75,000 workgroups.
    const ROWS: usize = 1_200_000;
    let p = distributions::<f32>(ROWS, 2, 7);
    let q = distributions::<f32>(ROWS, 2, 8);
    let want = reference(p.view(), q.view());
    let engine = &roomy_engines()[roomy_engines().len().min(2) - 1];
    let got = as_f64(&rows(engine, &p, &q));
    // At 2 bins some of so many rows are nearly equal, and the reference has lost digits there.
    let doubt = 16.0 * f64::EPSILON;
    let right = |(&got, &want): (&f64, &f64)| close(got, want, F32) || (got - want).abs() <= doubt;
    assert_eq!(got.iter().zip(&want).find(|&pair| !right(pair)), None, "{engine:?}");
}

#[test]
fn one_row_against_many() {
    let many = distributions::<f32>(37, 100, 9);
    let one = distributions::<f32>(1, 100, 10);
    let repeated = one.broadcast((37, 100)).unwrap().to_owned();
    for engine in engines() {
        assert_eq!(bits(&rows(engine, &many, &one)), bits(&rows(engine, &many, &repeated)));
        assert_eq!(bits(&rows(engine, &one, &many)), bits(&rows(engine, &repeated, &many)));
        assert_ne!(bits(&rows(engine, &one, &many)), bits(&rows(engine, &many, &one)));
    }
    // Rows longer than a chunk may be, of which each needs the single row again.
    let many = distributions::<f32>(3, 2_000, 11);
    let one = distributions::<f32>(1, 2_000, 12);
    let repeated = one.broadcast((3, 2_000)).unwrap().to_owned();
    for engine in engines() {
        assert_eq!(bits(&rows(engine, &many, &one)), bits(&rows(engine, &many, &repeated)));
    }
}

#[test]
fn views_of_any_stride() {
    let p = distributions::<f32>(6, 50, 13);
    let q = distributions::<f32>(6, 50, 14);
    let mut padded = Array2::<f32>::from_elem((6, 103), f32::NAN);
    let mut columns = Array2::<f32>::zeros((6, 50).f());
    columns.assign(&q);
    let mut every_other = padded.view_mut();
    every_other.slice_axis_inplace(Axis(1), ndarray::Slice::new(1, Some(101), 2));
    every_other.assign(&p);
    let mut backwards = p.clone();
    backwards.invert_axis(Axis(1));
    let turned = Array2::from_shape_fn((6, 50), |(row, bin)| p[[row, 49 - bin]]);
    for engine in engines() {
        let want = bits(&rows(engine, &p, &q));
        let batch = Batch::probs(every_other.view(), &columns).unwrap();
        assert_eq!(bits(&engine.rows(Divergence::Kl, &batch).unwrap()), want, "{engine:?}");
        let reversed = bits(&rows(engine, &backwards, &q));
        assert_eq!(reversed, bits(&rows(engine, &turned, &q)), "{engine:?}");
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    for bins in [3, 64, 700, 3_000] {
        let p = distributions::<f32>(40, bins, 15);
        let q = nearby(&p, 1e-3, 16);
        let batch = Batch::probs(&p, &q).unwrap();
        for engine in engines() {
            let want = bits(&rows(engine, &p, &q));
            let alone = (0..40).map(|row| {
                let outcome = engine.rows(Divergence::Kl, &batch.slice(row..row + 1)).unwrap();
                outcome.values[0].to_bits()
            });
            assert_eq!(alone.collect::<Vec<_>>(), want, "{engine:?}, {bins} bins");
            let twice = concatenate![Axis(0), q, p];
            let turned = concatenate![Axis(0), p, q];
            assert_eq!(bits(&rows(engine, &turned, &twice))[..40], want, "{engine:?}, {bins} bins");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_under_any_number_of_threads() {
    let p = distributions::<f32>(5, 300_000, 17);
    let q = nearby(&p, 1e-3, 18);
    let engine = Engine::cpu();
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&rows(&engine, &p, &q)))
    };
    let want = with_threads(1);
    for threads in [2, 3, 7] {
        assert_eq!(with_threads(threads), want, "{threads} threads");
    }
}

#[test]
fn mass_policies() {
    let p = array![[0.5_f32, 0.25], [0.5, 0.5], [3.0, 1.0], [0.0, 0.0]];
    let q = array![[0.25_f32, 0.25], [0.25, 0.75], [0.5, 0.5], [0.5, 0.5]];
    let ln2 = std::f64::consts::LN_2;
    let ln3 = 3_f64.ln();
    // Worked out by hand: row 1 is 0.5·ln(0.5/0.25) + 0.5·ln(0.5/0.75) = ln 2 − 0.5·ln 3.
    let cases: [(Mass, [f64; 4]); 4] = [
        (Mass::Check, [f64::NAN, ln2 - 0.5 * ln3, f64::NAN, f64::NAN]),
        (
            Mass::Normalize,
            [
                2.0 / 3.0 * (4_f64 / 3.0).ln() + (2_f64 / 3.0).ln() / 3.0,
                ln2 - 0.5 * ln3,
                0.75 * 1.5_f64.ln() - 0.25 * ln2,
                f64::NAN,
            ],
        ),
        (Mass::AsGiven, [0.5 * ln2, ln2 - 0.5 * ln3, 3.0 * (ln2 + ln3) + ln2, 0.0]),
        (
            Mass::Generalized,
            [0.5 * ln2 - 0.25, ln2 - 0.5 * ln3, 3.0 * (ln2 + ln3) + ln2 - 3.0, 1.0],
        ),
    ];
    let batch = Batch::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
    for engine in engines() {
        for (mass, want) in cases {
            let outcome = engine.rows(Divergence::Kl, &batch.with_mass(mass)).unwrap();
            for (row, want) in want.into_iter().enumerate() {
                let got = f64::from(outcome.values[row]);
                let what = format!("{engine:?}, {mass}, row {row}: {got} for {want}");
                let rule = if mass == Mass::Check { Rule::Mass } else { Rule::NoMass };
                if want.is_nan() {
                    assert!(got.is_nan(), "{what}");
                    assert_eq!(outcome.statuses[row], Status::Invalid(rule), "{what}");
                } else {
                    assert!(close(got, want, F32), "{what}");
                    assert_eq!(outcome.statuses[row], Status::Ok, "{what}");
                }
            }
            assert_eq!(outcome.masses, None);
            let batch = batch.with_mass(mass).with_masses();
            let masses = engine.rows(Divergence::Kl, &batch).unwrap().masses.unwrap();
            assert_eq!(masses.p, array![0.75, 1.0, 4.0, 0.0], "{engine:?}");
            assert_eq!(masses.q, array![0.5, 1.0, 1.0, 1.0], "{engine:?}");
        }
    }
}

#[test]
fn as_given_may_be_negative() {
    for engine in engines() {
        let (p, q) = (array![[0.5_f32, 0.5]], array![[1.0_f32, 1.0]]);
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::AsGiven);
        let value = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
        assert!(close(value.into(), -std::f64::consts::LN_2, F32), "{engine:?}: {value}");
    }
}

#[test]
fn the_tolerance_is_sharp_for_either_side() {
    // Sums in f32 are off by more than 1e-10; f64 decides.
    let messy = distributions::<f32>(30, 1000, 34) * 1.01;
    // Adds up to exactly 1, in any order.
    let mut exact = Array2::from_elem((1, 1000), 1.0_f32 / 1024.0);
    exact[[0, 0]] = 25.0 / 1024.0;
    for engine in engines() {
        for row in messy.rows() {
            let one = row.insert_axis(Axis(0));
            let off = (row.iter().map(|&x| f64::from(x)).sum::<f64>() - 1.0).abs();
            let (inside, outside) = (off + 1e-10, off - 1e-10);
            for (p, q) in [(one, exact.view()), (exact.view(), one)] {
                let ok = |tolerance: f64| {
                    let batch = Batch::probs(p, q).unwrap().with_mass_tolerance(tolerance).unwrap();
                    engine.rows(Divergence::Kl, &batch).is_ok()
                };
                assert!(ok(inside), "{engine:?}");
                assert!(outside < 0.0 || !ok(outside), "{engine:?}");
            }
        }
    }
}

#[test]
fn invalid_rows_are_named() {
    let mut p = distributions::<f32>(5, 40, 19);
    let q = distributions::<f32>(1, 40, 20);
    p[[3, 17]] = -0.25;
    p[[4, 2]] = f32::NAN;
    for engine in engines() {
        let error = engine.rows(Divergence::Kl, &Batch::probs(&p, &q).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "P row 3, bin 17: the value is -0.25; a probability is a finite number, 0 or more",
            "{engine:?}"
        );
        // On the side with a single row the row is that one.
        let error = engine.rows(Divergence::Kl, &Batch::probs(&q, &p).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("Q row 3, bin 17: "), "{engine:?}: {error}");
        let batch = Batch::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        assert_eq!(outcome.invalid_rows(), 2);
        assert_eq!(outcome.statuses[3], Status::Invalid(Rule::Negative));
        assert_eq!(outcome.statuses[4], Status::Invalid(Rule::NotANumber));
        assert!(outcome.values[3].is_nan() && outcome.values[4].is_nan());
        let want = reference(p.view(), q.broadcast((5, 40)).unwrap());
        let got = as_f64(&outcome);
        assert_close(&got[..3], &want[..3], F32, "the other rows");
    }
}

#[test]
fn a_mass_off_by_too_much_is_named() {
    let p = array![[0.5_f32, 0.5], [0.5, 0.75]];
    for engine in engines() {
        let error = engine.rows(Divergence::Kl, &Batch::probs(&p, &p).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "P row 1: the mass is 1.25; under mass policy 'check' a row sums to 1 within the \
             tolerance; policy 'normalize' divides each row by its sum"
        );
        let batch = Batch::probs(&p, &p).unwrap().with_mass_tolerance(0.3).unwrap();
        assert_eq!(engine.rows(Divergence::Kl, &batch).unwrap().values, array![0.0, 0.0]);
    }
}

#[test]
fn values_beyond_the_type_are_invalid_not_infinite() {
    let p = array![[f32::MAX, f32::MAX]];
    let q = array![[1e-30_f32, 1.0]];
    for engine in engines() {
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Generalized);
        let error = engine.rows(Divergence::Kl, &batch).unwrap_err();
        assert!(matches!(&error, Error::Invalid(row) if row.rule == Rule::Overflow), "{error}");
        // Divided by the masses it is an ordinary number: ln(1/2) is what is left of each bin.
        let normalized = engine.rows(Divergence::Kl, &batch.with_mass(Mass::Normalize)).unwrap();
        let want = 0.5 * (0.5_f64 / 1e-30_f32 as f64).ln() + 0.5 * 0.5_f64.ln();
        assert!(close(normalized.values[0].into(), want, F32), "{engine:?}");
    }
}

#[test]
fn nothing_in_nothing_out() {
    let none = Array2::<f32>::zeros((0, 7));
    for engine in engines() {
        let outcome = rows(engine, &none, &none);
        assert_eq!((outcome.values.len(), outcome.statuses.len()), (0, 0));
    }
}

/// Exponents for P and for Q: out of the range of f32 sums on either end, and within it.
const SCALES: [(i32, i32); 12] = [
    (-100, -100),
    (-70, -70),
    (-50, -50),
    (63, 63),
    (110, 110),
    (-100, 0),
    (0, -100),
    (90, 0),
    (0, 90),
    (-2, 0),
    (0, -2),
    (1, -1),
];

#[test]
fn scaling_a_side_by_a_power_of_two_changes_nothing() {
    let p = distributions::<f32>(5, 40, 31);
    let q = nearby(&p, 1e-5, 32);
    let kl = |engine: &Engine, p: &Array2<f32>, q: &Array2<f32>| {
        let batch = Batch::probs(p, q).unwrap().with_mass(Mass::Normalize);
        engine.rows(Divergence::Kl, &batch).unwrap().values
    };
    for engine in engines() {
        let want = kl(engine, &p, &q);
        for (by_p, by_q) in SCALES {
            let (p, q) = (&p * 2f32.powi(by_p), &q * 2f32.powi(by_q));
            for (got, want) in kl(engine, &p, &q).iter().zip(&want) {
                let what = format!("{engine:?}, 2^{by_p} and 2^{by_q}: {got:e} for {want:e}");
                assert!(close((*got).into(), (*want).into(), F32), "{what}");
            }
        }
    }
}

#[test]
fn masses_of_any_ratio() {
    let p = array![[0.5_f32, 0.25, 0.25]];
    for engine in engines() {
        for percent in 1..400 {
            let by = percent as f32 / 100.0;
            let q = array![[1e-6 * by, 1e-6 * by, by]];
            let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
            let got = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
            let plain = |row: &Array2<f32>| row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let want = kullback::reference::kl(&plain(&p), &plain(&q), Mass::Normalize);
            assert!(close(got.into(), want, F32), "{engine:?}, {by}: {got} for {want}");
        }
    }
}

#[test]
fn f64_at_the_ends_of_the_polynomial() {
    // The ratio is just inside an octave: 2·ln 2 − 1 and 1 − ln 2, less what the neighbour of 2
    // changes, to 17 digits by mpmath.
    let x = 2.0_f64.next_down();
    for (p, q, want) in [(x, 1.0, 0.386_294_361_119_890_46), (1.0, x, 0.306_852_819_440_054_6)] {
        let (p, q) = (array![[p]], array![[q]]);
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Generalized);
        let got = Engine::cpu().rows(Divergence::Kl, &batch).unwrap().values[0];
        assert!(close(got, want, 2e-15), "{got:e} off {:e}", got / want - 1.0);
    }
}

#[test]
fn f64_values_of_600_decades() {
    // The smaller q, divided by the mass of its row, is no number of the type.
    let (p, q) = (array![[0.5_f64, 0.5]], array![[1e300, 1e-300]]);
    let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
    let got = Engine::cpu().rows(Divergence::Kl, &batch).unwrap().values[0];
    let want = 300.0 * 10_f64.ln() - std::f64::consts::LN_2;
    assert!(close(got, want, 1e-14), "{got}");
}

#[test]
fn the_tolerance_itself_is_within_it() {
    let p = array![[0.5_f32, 0.75]];
    for engine in engines() {
        let batch = Batch::probs(&p, &p).unwrap();
        let values = |tolerance| {
            let batch = batch.with_mass_tolerance(tolerance).unwrap();
            engine.rows(Divergence::Kl, &batch).map(|outcome| outcome.values)
        };
        assert_eq!(values(0.25), Ok(array![0.0]), "{engine:?}");
        assert!(values(0.25_f64.next_down()).is_err(), "{engine:?}");
    }
}

#[test]
fn an_invalid_row_is_found_among_many() {
    let good = distributions::<f32>(10_000, 2, 71);
    for row in [0, 4_095, 4_096, 9_999] {
        let mut p = good.clone();
        p[[row, 1]] = f32::NAN;
        let error = Engine::cpu().kl(&p, &good).unwrap_err();
        assert!(
            matches!(error, Error::Invalid(at) if (at.row, at.bin) == (row, Some(1))),
            "{error}"
        );
    }
}
