//! Values and gradients in one call, beside what the memory alone would take: reads of both inputs and
//! writes of the gradients asked for, by the same threads in the same run.
//!
//! Answers are held against plain f64 arithmetic before anything is timed.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use kullback::{Batch, Divergence, Engine, Kind, Wanted};
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

const ROUNDS: usize = 9;
/// Numbers that a task moves.
const TASK: usize = 1 << 16;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test --benches` and `cargo bench -- --test` only want to know that it runs.
    let numbers =
        if std::env::args().any(|argument| argument == "--bench") { 1 << 24 } else { 1 << 18 };
    println!("{:<52} {:>9} {:>9} {:>7}", "", "seconds", "memory", "ratio");
    for (kinds, bins, near) in [
        ([Kind::Logits; 2], 32_000, false),
        ([Kind::Logits; 2], 32_000, true),
        ([Kind::Probs, Kind::Logits], 32_000, false),
        ([Kind::Probs; 2], 1_024, false),
    ] {
        let rows = numbers / bins;
        let (p, mut q) = (side(kinds[0], rows, bins, 389), side(kinds[1], rows, bins, 577));
        if near {
            // A student's beside its teacher's.
            q.zip_mut_with(&p, |q, p| *q = p + 0.1 * (*q - 8.0));
        }
        let batch = Batch::of(kinds[0], &p, kinds[1], &q)?;
        let mut places = [Array2::zeros(p.dim()), Array2::zeros(q.dim())];
        for divergence in [
            Divergence::Kl,
            Divergence::ReverseKl,
            Divergence::JensenShannon(0.5),
            Divergence::Renyi(0.7),
        ] {
            for wanted in [Wanted::Q, Wanted::P, Wanted::Both] {
                call(divergence, &batch, wanted, &mut places)?;
                if divergence == Divergence::Kl {
                    check(kinds, &p, &q, wanted, &places);
                }
                let mut seconds = [Vec::new(), Vec::new()];
                for _ in 0..ROUNDS {
                    let start = Instant::now();
                    call(divergence, &batch, wanted, &mut places)?;
                    seconds[0].push(start.elapsed().as_secs_f64());
                    let start = Instant::now();
                    move_memory(&p, &q, wanted, &mut places);
                    seconds[1].push(start.elapsed().as_secs_f64());
                }
                let [ours, memory] = seconds.map(|mut seconds| {
                    seconds.sort_by(f64::total_cmp);
                    seconds[ROUNDS / 2]
                });
                let far = if near { "near" } else { "far" };
                let [p_kind, q_kind] = kinds;
                let kinds = match p_kind == q_kind {
                    true => p_kind.to_string(),
                    false => format!("{p_kind} and {q_kind}"),
                };
                let what =
                    format!("{divergence}, {bins} {far} {kinds}, gradient in {}", wanted.name());
                println!("{what:<52} {ours:>9.4} {memory:>9.4} {:>7.2}", ours / memory);
            }
        }
    }
    Ok(())
}

fn call(
    divergence: Divergence,
    batch: &Batch<'_, f32>,
    wanted: Wanted,
    places: &mut [Array2<f32>; 2],
) -> Result<(), kullback::Error> {
    let [p, q] = places;
    let p = (wanted != Wanted::Q).then(|| p.view_mut());
    let q = (wanted != Wanted::P).then(|| q.view_mut());
    black_box(Engine::cpu().gradient_into(divergence, batch, None, p, q)?);
    Ok(())
}

/// Reads both inputs and writes what is wanted, all of it once.
fn move_memory(p: &Array2<f32>, q: &Array2<f32>, wanted: Wanted, places: &mut [Array2<f32>; 2]) {
    let [p_place, q_place] = places;
    let (p, q) = (flat(p), flat(q));
    let (p_place, q_place) = (flat_mut(p_place), flat_mut(q_place));
    let inputs = || p.par_chunks(TASK).zip(q.par_chunks(TASK));
    let sum = |to: &mut [f32], p: &[f32], q: &[f32]| {
        to.iter_mut().zip(p).zip(q).for_each(|((to, p), q)| *to = p + q);
    };
    match wanted {
        Wanted::Both => {
            let places = p_place.par_chunks_mut(TASK).zip(q_place.par_chunks_mut(TASK));
            places.zip(inputs()).for_each(|((p_place, q_place), (p, q))| {
                for (((a, b), p), q) in p_place.iter_mut().zip(q_place).zip(p).zip(q) {
                    (*a, *b) = (p + q, p - q);
                }
            });
        }
        Wanted::P => {
            p_place.par_chunks_mut(TASK).zip(inputs()).for_each(|(to, (p, q))| sum(to, p, q))
        }
        Wanted::Q => {
            q_place.par_chunks_mut(TASK).zip(inputs()).for_each(|(to, (p, q))| sum(to, p, q))
        }
    }
    black_box(places);
}

fn flat(side: &Array2<f32>) -> &[f32] {
    side.as_slice().expect("contiguous")
}

fn flat_mut(side: &mut Array2<f32>) -> &mut [f32] {
    side.as_slice_mut().expect("contiguous")
}

/// Rows of probabilities, or of the logits of a language model's kind.
fn side(kind: Kind, rows: usize, bins: usize, step: usize) -> Array2<f32> {
    let mut side = Array2::zeros((rows.max(1), bins));
    let chunks = flat_mut(&mut side).par_chunks_mut(bins).enumerate();
    chunks.for_each(|(row, side)| {
        let weight = |bin: usize| (1 + (row + bin) * step % 1013) as f64;
        let mass: f64 = (0..bins).map(weight).sum();
        side.iter_mut().enumerate().for_each(|(bin, x)| {
            *x = match kind {
                Kind::Probs => weight(bin) / mass,
                _ => weight(bin) / 60.0,
            } as f32;
        });
    });
    side
}

/// Holds some rows against the formulas in f64.
fn check(
    kinds: [Kind; 2],
    p: &Array2<f32>,
    q: &Array2<f32>,
    wanted: Wanted,
    places: &[Array2<f32>; 2],
) {
    let are_probs = kinds.map(|kind| kind == Kind::Probs);
    for row in (0..p.nrows()).step_by(p.nrows().div_ceil(5)) {
        let (p, q) = (distribution(kinds[0], p.row(row)), distribution(kinds[1], q.row(row)));
        let logs = || p.iter().zip(&q).map(|(p, q)| (p / q).ln());
        let kl: f64 = p.iter().zip(logs()).map(|(p, l)| p * l).sum();
        let in_p =
            p.iter().zip(logs()).map(|(p, l)| if are_probs[0] { l - kl } else { p * (l - kl) });
        let in_q = p.iter().zip(&q).map(|(p, q)| if are_probs[1] { 1.0 - p / q } else { q - p });
        if wanted != Wanted::Q {
            assert_close(places[0].row(row), in_p.collect());
        }
        if wanted != Wanted::P {
            assert_close(places[1].row(row), in_q.collect());
        }
    }
}

fn distribution(kind: Kind, row: ArrayView1<'_, f32>) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::MIN, f32::max);
    let weight = |&x: &f32| match kind {
        Kind::Probs => f64::from(x),
        _ => f64::from(x - top).exp(),
    };
    let mass: f64 = row.iter().map(weight).sum();
    row.iter().map(|x| weight(x) / mass).collect()
}

fn assert_close(got: ArrayView1<'_, f32>, want: Vec<f64>) {
    let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    for (got, want) in got.iter().zip(want) {
        let off = (f64::from(*got) - want).abs();
        assert!(off <= 1e-5 * largest, "{got:e}, not {want:e}, of {largest:e}");
    }
}
