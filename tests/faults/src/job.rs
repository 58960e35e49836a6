//! The work that is done under faults, and its right answers by plain sums in f64.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use kullback::Kind;
use ndarray::{Array2, ArrayView1, Axis};

use crate::report::{Call, End, Recovery};

/// A batch and its answers.
#[derive(Debug)]
pub struct Work {
    /// What it is called in reports.
    pub name: &'static str,
    /// What the numbers are, of P and of Q.
    pub kinds: [Kind; 2],
    /// By what logits are divided.
    pub temperature: f64,
    /// The rows of P.
    pub p: Array2<f32>,
    /// The rows of Q.
    pub q: Array2<f32>,
    /// The divergence of each row.
    pub answers: Vec<f64>,
}

/// Batches that between them need every kernel there is: short rows, a row that is split and merged on any
/// adapter, logits, and probabilities against logits.
pub fn all() -> Vec<Work> {
    const LOGITS: [Kind; 2] = [Kind::Logits, Kind::Logits];
    const MIXED: [Kind; 2] = [Kind::Probs, Kind::Logits];
    vec![
        work("short rows", PROBS, 1.0, [40, 50]),
        work("long row", PROBS, 1.0, [1, 150_000]),
        work("logits", LOGITS, 1.0, [20, 60]),
        work("probabilities and logits", MIXED, 1.5, [20, 60]),
    ]
}

/// A batch for which it can pay to look for a GPU, and more than a program that acts as one takes in one
/// submission.
pub fn large() -> Work {
    work("a large batch", PROBS, 1.0, [2_200, 1_000])
}

/// Probabilities on both sides.
pub const PROBS: [Kind; 2] = [Kind::Probs, Kind::Probs];

fn work(name: &'static str, kinds: [Kind; 2], temperature: f64, shape: [usize; 2]) -> Work {
    let [p, q] = [0, 1].map(|side| match kinds[side] {
        Kind::Probs => normalized(noise(1 + side as u64, shape)),
        _ => noise(3 + side as u64, shape) * 8.0,
    });
    let distribution = |kind, row: ArrayView1<'_, f32>| -> Vec<f64> {
        let row = row.into_iter().map(|&x| f64::from(x));
        match kind {
            Kind::Probs => row.collect(),
            _ => {
                let powers: Vec<f64> = row.map(|x| (x / temperature).exp()).collect();
                let mass: f64 = powers.iter().sum();
                powers.iter().map(|power| power / mass).collect()
            }
        }
    };
    let answer = |(p, q)| {
        let (p, q) = (distribution(kinds[0], p), distribution(kinds[1], q));
        p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum()
    };
    let answers = p.outer_iter().zip(q.outer_iter()).map(answer).collect();
    Work { name, kinds, temperature, p, q, answers }
}

fn normalized(mut side: Array2<f32>) -> Array2<f32> {
    for mut row in side.axis_iter_mut(Axis(0)) {
        let mass: f64 = row.iter().map(|&x| f64::from(x)).sum();
        row.mapv_inplace(|x| (f64::from(x) / mass) as f32);
    }
    side
}

/// Numbers in (0, 1], of which no two rows are alike.
fn noise(seed: u64, [rows, bins]: [usize; 2]) -> Array2<f32> {
    Array2::from_shape_fn((rows, bins), |(row, bin)| {
        let at = (seed << 40) + (row as u64 * bins as u64) + bin as u64 + 1;
        let mixed = (at ^ at >> 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 40) as f32 + 1.0) / (1 << 24) as f32
    })
}

/// Compares values with the right ones.
pub fn judge(values: &[f32], answers: &[f64], tolerance: f64) -> End {
    let is_wrong = |&(_, (&got, &want)): &(usize, (&f32, &f64))| {
        // So that NaN is wrong.
        let is_right = (f64::from(got) - want).abs() <= tolerance * want.abs();
        !is_right
    };
    let pairs = || values.iter().zip(answers).enumerate().filter(is_wrong);
    let example = pairs().next();
    End::Rows {
        // Values that nobody asked for are no answers either.
        wrong: pairs().count() + values.len().saturating_sub(answers.len()),
        lost: answers.len().saturating_sub(values.len()),
        example: example.map(|(row, (got, want))| format!("row {row}: {got:e}, not {want:e}")),
    }
}

/// Does something as a caller would, and reports how it ended.
pub fn call<R>(
    name: &str,
    run: impl FnOnce() -> Result<(R, End, Recovery), String>,
) -> (Option<R>, Call) {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let seconds = started.elapsed().as_secs_f64();
    let (result, end, recovery) = match outcome {
        Ok(Ok((result, end, recovery))) => (Some(result), end, recovery),
        Ok(Err(error)) => (None, End::Error(error), Recovery::default()),
        Err(panic) => (None, End::Panic(message(&*panic)), Recovery::default()),
    };
    (result, Call { name: name.to_owned(), end, seconds, recovery })
}

/// The call that opens a device or an engine.
pub const OPENING: &str = "open";

/// A call that has no rows to return.
pub const NO_ROWS: End = End::Rows { wrong: 0, lost: 0, example: None };

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Writes a line of the report, at once.
pub fn say(call: &Call) {
    println!("{}", serde_json::to_string(call).expect("a call is plain data"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: [f64; 3] = [1.0, 0.5, 0.25];

    fn counts(values: &[f32]) -> (usize, usize) {
        match judge(values, &RIGHT, 1e-5) {
            End::Rows { wrong, lost, .. } => (wrong, lost),
            end => panic!("{end:?}"),
        }
    }

    #[test]
    fn whatever_is_not_the_answer_is_wrong() {
        assert_eq!(counts(&[1.0, 0.5, 0.25]), (0, 0));
        assert_eq!(counts(&[1.000_001, 0.5, 0.25]), (0, 0));
        assert_eq!(counts(&[1.000_1, 0.5, 0.25]), (1, 0));
        assert_eq!(counts(&[1.0, 0.0, 0.0]), (2, 0));
        assert_eq!(counts(&[f32::NAN, f32::INFINITY, -0.25]), (3, 0));
        assert_eq!(counts(&[0.5, 1.0, 0.25]), (2, 0));
        assert_eq!(counts(&[1.0]), (0, 2));
        assert_eq!(counts(&[1.0, 0.5, 0.25, 0.0]), (1, 0));
    }

    #[test]
    fn the_rows_differ_so_that_none_passes_for_another() {
        for work in all() {
            let mut answers = work.answers.clone();
            assert_eq!(answers.len(), work.p.nrows());
            answers.sort_by(f64::total_cmp);
            assert!(answers[0] > 0.1, "{}: {}", work.name, answers[0]);
            for pair in answers.windows(2) {
                assert!(pair[1] > pair[0] * 1.000_02, "{}: {pair:?}", work.name);
            }
        }
    }

    #[test]
    fn a_panic_is_told_from_an_error() {
        let (_, panicked) =
            call("it", || -> Result<((), End, Recovery), String> { panic!("ouch") });
        assert_eq!(panicked.end, End::Panic("ouch".into()));
        let (_, failed) = call("it", || Err::<((), End, Recovery), _>("no".into()));
        assert_eq!(failed.end, End::Error("no".into()));
    }
}
