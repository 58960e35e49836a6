//! All rows against all rows: billions of pairs of bins per second of each divergence on the CPU backend,
//! and on the GPU where there is one.
//!
//! A hundred pairs of each are held against the f64 reference before anything is timed. `cargo bench
//! --bench matrix -- 4096 256` has 4,096 rows of 256 bins on each side, instead of 1,024; two files
//! after that are P and Q as float32 numbers and nothing else, and names after these the divergences.
//! What the GPU leaves to the CPU has no line of its own.

use std::time::Instant;

use kullback::{Divergence, Engine, Kind, Pairs, Side, reference};
use ndarray::Array2;

/// Times that each is timed; the fastest counts.
const ROUNDS: usize = 5;

fn distributions(rows: usize, bins: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    let mut rows = Array2::from_shape_simple_fn((rows, bins), || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // Weights as a Dirichlet distribution with α = 1 has them.
        1e-6 - (((state >> 33) + 1) as f32 / 2_f32.powi(31)).ln()
    });
    for mut row in rows.rows_mut() {
        let mass = row.sum();
        row.mapv_inplace(|weight| weight / mass);
    }
    rows
}

/// The largest relative difference from the reference among a hundred pairs.
fn worst(divergence: Divergence, pairs: &Pairs<'_, f32>, values: &Array2<f32>) -> f64 {
    let (m, n) = pairs.shape();
    let difference = |at: usize| {
        let (row, column) = (at * 7919 % m, at * 104_729 % n);
        let pair = pairs.pair(row, column);
        let [p, q] = [Side::P, Side::Q].map(|side| {
            let row: Vec<f64> = pair.row(side, 0).iter().map(|&x| f64::from(x)).collect();
            let logs = reference::logs(&row, Kind::Probs, 1.0);
            let mass = reference::ln_mass(&logs);
            logs.iter().map(|x| x - mass).collect::<Vec<_>>()
        });
        let want = reference::divergence(divergence, &p, &q);
        (f64::from(values[[row, column]]) - want).abs() / want
    };
    (0..100).map(difference).fold(0.0, f64::max)
}

/// The rows that a file holds.
fn read(path: &str, rows: usize, bins: usize) -> Array2<f32> {
    let bytes = std::fs::read(path).expect("the file can be read");
    let values = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Array2::from_shape_vec((rows, bins), values).expect("the file holds so many rows")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let size =
        |at: usize, default| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(default);
    let (rows, bins) = (size(0, 1_024), size(1, 256));
    let side = |at: usize| match words.get(at) {
        Some(path) => read(path, rows, bins),
        None => distributions(rows, bins, at as u64),
    };
    let (p, q) = (side(2), side(3));
    let named: Vec<Divergence> =
        words.iter().skip(4).map(|name| name.parse().expect("it has such a name")).collect();
    let divergences = if named.is_empty() { Divergence::ALL } else { &named };
    let pairs = Pairs::probs(&p, &q).expect("the shapes match");
    println!("{rows} × {rows} × {bins} bins, f32, on {} threads", rayon_threads());
    let gpu = Engine::gpu();
    match &gpu {
        Ok(engine) => println!("{engine}"),
        Err(error) => println!("{error}"),
    }
    for engine in [Ok(Engine::cpu()), gpu].into_iter().flatten() {
        divergences.iter().for_each(|&divergence| time(&engine, divergence, &pairs));
    }
}

/// Prints a line for a divergence on an engine, if that computes it itself.
fn time(engine: &Engine, divergence: Divergence, pairs: &Pairs<'_, f32>) {
    let matrix = engine.matrix(divergence, pairs).expect("the rows are valid");
    if matrix.backend != engine.backend() {
        return;
    }
    let worst = worst(divergence, pairs, &matrix.values);
    assert!(worst <= 3e-6, "{divergence} is off by {worst:e}");
    let seconds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        let matrix = engine.matrix(divergence, pairs).expect("the rows are valid");
        assert_eq!(matrix.values.dim(), pairs.shape());
        start.elapsed().as_secs_f64()
    });
    let seconds = seconds.fold(f64::INFINITY, f64::min);
    let ((m, n), bins) = (pairs.shape(), pairs.bins());
    let speed = (m * n * bins) as f64 / seconds / 1e9;
    let name = divergence.to_string();
    let backend = engine.backend();
    println!(
        "{name:<16}{backend:<4}{speed:>8.2} billion/s {:>10.1} ms   off by {worst:.1e}",
        1e3 * seconds
    );
}

fn rayon_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
