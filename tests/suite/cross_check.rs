//! The cross-check has to notice what it is there to notice.

use kullback::{
    Batch, Divergence, Engine, Error, Mass, OnInvalid, Outcome, Rule, Status, reference,
};
use ndarray::{Array2, array};

use crate::data::{Random, distributions, nearby};
use crate::engines::engines;
use crate::family::all_divergences;

fn pair() -> (Array2<f32>, Array2<f32>) {
    let p = distributions::<f32>(50, 30, 21);
    let q = nearby(&p, 0.1, 22);
    (p, q)
}

/// Checks the outcome of a batch after it was tampered with.
fn check(tamper: impl Fn(&mut Outcome<f32>)) -> Result<usize, Error> {
    let (p, q) = pair();
    let batch = Batch::probs(&p, &q).unwrap();
    let engine = Engine::cpu();
    let mut outcome = engine.rows(Divergence::Kl, &batch).unwrap();
    tamper(&mut outcome);
    engine.cross_check(Divergence::Kl, &batch, &outcome, 50).map(|check| check.compared)
}

#[test]
fn accepts_what_is_right_on_every_backend() {
    let (mut p, mut q) = pair();
    q[[7, 3]] = 0.0; // an infinite row
    let mass = q.row(7).sum();
    q.row_mut(7).mapv_inplace(|value| value / mass);
    let row = q.row(8).to_owned();
    p.row_mut(8).assign(&row); // an identical pair
    for engine in engines() {
        for &mass in Mass::ALL {
            let batch = Batch::probs(&p, &q).unwrap().with_mass(mass);
            let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
            let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 50).unwrap();
            assert_eq!(check.compared, 50);
        }
    }
}

/// Masks that are numbers, of which there is nothing left, and −inf on one side or both.
#[test]
fn accepts_what_is_right_of_masked_logits() {
    let none = f32::NEG_INFINITY;
    for mask in [-1e4, f32::MIN, none] {
        for (of_p, of_q) in [(mask, mask), (mask, none), (none, mask), (mask, 0.0), (0.0, mask)] {
            let p = array![[0.0, 1.0, of_p], [of_p, of_p, 0.5]];
            let q = array![[1.0, 0.0, of_q], [0.0, of_q, 0.5]];
            let batch = Batch::logits(&p, &q).unwrap();
            for engine in engines() {
                for divergence in all_divergences() {
                    let outcome = match engine.rows(divergence, &batch) {
                        // e^10,000 is no number.
                        Err(Error::Invalid(row)) if row.rule == Rule::Overflow => continue,
                        outcome => outcome.unwrap(),
                    };
                    let check = engine.cross_check(divergence, &batch, &outcome, 2);
                    assert!(check.is_ok(), "{engine:?}: {divergence} of {p}, {q}: {check:?}");
                }
            }
        }
    }
}

/// There the logarithms of the reference are rounded by more than the ratio's last places.
#[test]
fn accepts_a_largest_ratio_that_lies_far_below_the_mass() {
    let mut random = Random(24);
    let p = Array2::from_shape_fn((9, 257), |_| 4000.0 * (random.uniform() - 0.5));
    let q = p.mapv(|p| p + 4e-3 * (random.uniform() - 0.5));
    let batch = Batch::logits(&p, &q).unwrap();
    let (engine, divergence) = (Engine::cpu(), Divergence::Renyi(f64::INFINITY));
    let mut outcome = engine.rows(divergence, &batch).unwrap();
    let check = engine.cross_check(divergence, &batch, &outcome, 9);
    assert!(check.is_ok(), "{check:?}");
    outcome.values[4] *= 1.0 + 1e-6;
    assert!(engine.cross_check(divergence, &batch, &outcome, 9).is_err());

    // A mask that is a number has a ratio too: here the largest one.
    let (p, q) = (array![[0.0, 1.0, f32::MIN]], array![[1.0, 5.0, f32::MIN]]);
    let batch = Batch::logits(&p, &q).unwrap();
    for engine in engines() {
        let outcome = engine.rows(divergence, &batch).unwrap();
        let check = engine.cross_check(divergence, &batch, &outcome, 1);
        assert!(check.is_ok(), "{engine:?}: {outcome:?}, {check:?}");
    }
}

/// The plain reference overflows too, and is no judge then of what is infinite.
#[test]
fn tells_a_value_beyond_the_type_from_an_infinite_one() {
    let none = f32::NEG_INFINITY;
    let p = array![[0.0, 800.0], [0.0, 0.0], [0.0, none]];
    let q = array![[800.0, 0.0], [0.0, none], [0.0, 0.0]];
    let batch = Batch::logits(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
    for (divergence, infinite) in [
        (Divergence::ChiSquared, 1),
        (Divergence::Tsallis(2.0), 1),
        (Divergence::Alpha(3.0), 1),
        (Divergence::Alpha(-1.0), 2),
    ] {
        for engine in engines() {
            let outcome = engine.rows(divergence, &batch).unwrap();
            let beyond = Status::Invalid(Rule::Overflow);
            assert_eq!(
                (outcome.statuses[0], outcome.statuses[infinite]),
                (beyond, Status::Infinite)
            );
            let check = engine.cross_check(divergence, &batch, &outcome, 3);
            assert!(check.is_ok(), "{engine:?}: {divergence}: {check:?}");
            for (row, status, value) in
                [(0, Status::Infinite, f32::INFINITY), (infinite, beyond, f32::NAN)]
            {
                let mut wrong = outcome.clone();
                (wrong.statuses[row], wrong.values[row]) = (status, value);
                let check = engine.cross_check(divergence, &batch, &wrong, 3);
                assert!(matches!(check, Err(Error::Disagreement(_))), "{divergence}, row {row}");
            }
        }
    }
}

#[test]
fn rejects_what_is_no_number_of_a_valid_row() {
    assert!(check(|outcome| outcome.values[3] = f32::NAN).is_err());
}

#[test]
fn rejects_what_is_wrong() {
    assert_eq!(check(|_| ()), Ok(50));
    let tampered: [fn(&mut Outcome<f32>); 7] = [
        |outcome| outcome.values[17] = f32::NAN,
        |outcome| outcome.values[17] = f32::INFINITY,
        |outcome| outcome.values[17] *= -1.0,
        |outcome| outcome.values[17] *= 1.0 + 1e-5,
        |outcome| outcome.values[17] = 0.0,
        |outcome| outcome.values.fill(0.0),
        |outcome| outcome.values.as_slice_mut().unwrap().rotate_left(1),
    ];
    for (case, tamper) in tampered.into_iter().enumerate() {
        assert!(matches!(check(tamper), Err(Error::Disagreement(_))), "case {case}");
    }
}

#[test]
fn rejects_swapped_arguments() {
    let (p, q) = pair();
    let engine = Engine::cpu();
    let forward = Batch::probs(&p, &q).unwrap();
    let backward = engine.rows(Divergence::Kl, &Batch::probs(&q, &p).unwrap()).unwrap();
    assert!(engine.cross_check(Divergence::Kl, &forward, &backward, 50).is_err());
}

#[test]
fn names_the_worst_row_and_both_values() {
    let error = check(|outcome| {
        outcome.values[3] = 1.0;
        outcome.values[40] = 2.0;
    });
    let Err(Error::Disagreement(wrong)) = &error else { panic!("{error:?}") };
    assert_eq!((wrong.row, wrong.got, wrong.rows, wrong.compared), (40, 2.0, 2, 50));
    assert!(wrong.want > 0.0 && wrong.want < 0.01, "{wrong:?}");
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with("cross-check failed in 2 of 50 rows; worst is row 40: got 2e0, "));
}

#[test]
fn spreads_its_rows_from_the_first_to_the_last() {
    for row in [0, 49] {
        let (p, q) = pair();
        let batch = Batch::probs(&p, &q).unwrap();
        let engine = Engine::cpu();
        let mut outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        outcome.values[row] = 1.0;
        assert!(engine.cross_check(Divergence::Kl, &batch, &outcome, 2).is_err(), "row {row}");
        // Rows between are not looked at, and none at all if none are asked for.
        outcome.values[row] = outcome.values[1];
        assert!(engine.cross_check(Divergence::Kl, &batch, &outcome, 0).is_ok());
    }
}

#[test]
fn judges_which_rows_are_invalid() {
    let (mut p, q) = pair();
    p[[5, 5]] = -1.0;
    p[[6, 6]] += 0.5;
    let batch = Batch::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
    for engine in engines() {
        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 1000).unwrap();
        assert_eq!(check.compared, 50);
        // A row called valid that is not, or the other way round, whatever its value.
        let mut wrong = outcome.clone();
        wrong.statuses[6] = Status::Ok;
        wrong.values[6] = 0.1;
        assert!(engine.cross_check(Divergence::Kl, &batch, &wrong, 1000).is_err());
        let mut wrong = outcome;
        wrong.statuses[7] = Status::Invalid(Rule::Mass);
        assert!(engine.cross_check(Divergence::Kl, &batch, &wrong, 1000).is_err());
    }
}

#[test]
fn refuses_the_outcome_of_another_batch() {
    let (p, q) = pair();
    let batch = Batch::probs(&p, &q).unwrap();
    let engine = Engine::cpu();
    let outcome = engine.rows(Divergence::Kl, &batch.slice(0..49)).unwrap();
    let error = engine.cross_check(Divergence::Kl, &batch, &outcome, 10).unwrap_err();
    assert_eq!(error, Error::Mismatch { batch: 50, outcome: 49 });
}

#[test]
fn does_not_let_a_small_as_given_value_pass_as_0() {
    // A divergence of 5e-9 of rows whose masses are 1.
    let (p, _) = pair();
    let q = nearby(&p, 1e-4, 23);
    let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::AsGiven);
    let engine = Engine::cpu();
    let mut outcome = engine.rows(Divergence::Kl, &batch).unwrap();
    assert!(engine.cross_check(Divergence::Kl, &batch, &outcome, 50).is_ok());
    outcome.values[10] = 0.0;
    assert!(engine.cross_check(Divergence::Kl, &batch, &outcome, 50).is_err());
}

#[test]
fn rejects_a_small_error_near_equality() {
    let p = distributions::<f32>(5, 30, 35);
    let q = nearby(&p, 1e-3, 36);
    let batch = Batch::probs(&p, &q).unwrap();
    let engine = Engine::cpu();
    let mut outcome = engine.rows(Divergence::Kl, &batch).unwrap();
    outcome.values[2] *= 1.0 + 1e-5;
    assert!(engine.cross_check(Divergence::Kl, &batch, &outcome, 5).is_err());
}

#[test]
fn allows_for_cancellation_as_given() {
    let p = distributions::<f32>(20, 300, 37);
    let mut q = distributions::<f32>(20, 300, 38);
    for (p, mut q) in p.rows().into_iter().zip(q.rows_mut()) {
        let plain = |row: ndarray::ArrayView1<'_, f32>| {
            row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
        };
        let by = reference::relative_entropy(&plain(p), &plain(q.view())).exp();
        q.mapv_inplace(|x| (f64::from(x) * by) as f32);
    }
    let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::AsGiven);
    for engine in engines() {
        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        assert!(engine.cross_check(Divergence::Kl, &batch, &outcome, 20).is_ok(), "{engine:?}");
    }
}

#[test]
fn names_the_worst_of_rows_of_different_size() {
    let p = distributions::<f32>(2, 30, 21);
    let mut q = nearby(&p, 1e-2, 22);
    q.row_mut(1).assign(&distributions::<f32>(1, 30, 23).row(0));
    let batch = Batch::probs(&p, &q).unwrap();
    let engine = Engine::cpu();
    let right = engine.rows(Divergence::Kl, &batch).unwrap();
    assert!(engine.cross_check(Divergence::Kl, &batch, &right, 2).unwrap().worst > 0.0);
    for first in [2.0, f32::NAN] {
        let mut outcome = right.clone();
        outcome.values[0] *= first;
        outcome.values[1] *= 1.001;
        let Err(Error::Disagreement(wrong)) =
            engine.cross_check(Divergence::Kl, &batch, &outcome, 2)
        else {
            panic!()
        };
        assert_eq!(wrong.row, 0);
    }
    let mut outcome = right;
    outcome.values[0] *= 1.5;
    outcome.values[1] = f32::NAN;
    let Err(Error::Disagreement(wrong)) = engine.cross_check(Divergence::Kl, &batch, &outcome, 2)
    else {
        panic!()
    };
    assert_eq!(wrong.row, 1);
}
