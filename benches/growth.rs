//! The time per bin as batches grow: 10^6 bins a side, 10^7, … up to 10^8, or to 10^9 with
//! `cargo bench --bench growth -- --largest`, which takes 8 GB of memory.
//!
//! Answers are cross-checked before anything is timed. Beside each stands the bare read of the same
//! memory, since small batches lie in a cache.

use std::error::Error;
use std::time::Instant;

use kullback::{Batch, Divergence, Engine};
use ndarray::ArrayView2;
use rayon::prelude::*;

#[path = "contest/src/memory.rs"]
mod memory;

const BINS: usize = 1_000;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    // `cargo test --benches` and `cargo bench -- --test` only want to know that it runs.
    let most = match (asked("--bench"), asked("--largest")) {
        (false, _) => 6,
        (true, false) => 8,
        (true, true) => 9,
    };
    let engine = Engine::cpu();
    println!("{:>12} {:>12} {:>12} {:>8}", "bins a side", "ps a bin", "bare read", "GB/s");
    for power in 6..=most {
        let bins = 10_usize.pow(power);
        let (p, q) = (side(bins, 389), side(bins, 577));
        let rows = |side| ArrayView2::from_shape((bins / BINS, BINS), side);
        let batch = Batch::probs(rows(&p)?, rows(&q)?)?;
        let outcome = engine.rows(Divergence::Kl, &batch)?;
        engine.cross_check(Divergence::Kl, &batch, &outcome, 64)?;
        let mut seconds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            seconds[0].push(timed(bins, || engine.rows(Divergence::Kl, &batch).map(drop))?);
            seconds[1].push(timed(bins, || {
                std::hint::black_box(memory::read(&p, &q));
                Ok(())
            })?);
        }
        let [ours, read] = seconds.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[ROUNDS / 2] / bins as f64
        });
        let gb_per_s = 8.0 / ours / 1e9;
        println!("{bins:>12} {:>12.1} {:>12.1} {gb_per_s:>8.2}", 1e12 * ours, 1e12 * read);
    }
    Ok(())
}

/// Rows of probabilities.
fn side(bins: usize, step: usize) -> Vec<f32> {
    let mut side = vec![0.0; bins];
    side.par_chunks_mut(BINS).enumerate().for_each(|(row, bins)| {
        let weight = |bin: usize| (1 + (row + bin) * step % 1013) as f32;
        bins.iter_mut().enumerate().for_each(|(bin, p)| *p = weight(bin));
        let mass: f64 = bins.iter().map(|&weight| f64::from(weight)).sum();
        bins.iter_mut().for_each(|weight| *weight = (f64::from(*weight) / mass) as f32);
    });
    side
}

/// The seconds of one call, the mean of several where there are few bins.
fn timed(
    bins: usize,
    mut call: impl FnMut() -> Result<(), kullback::Error>,
) -> Result<f64, kullback::Error> {
    let calls = (20_000_000 / bins).max(1);
    let start = Instant::now();
    for _ in 0..calls {
        call()?;
    }
    Ok(start.elapsed().as_secs_f64() / calls as f64)
}
