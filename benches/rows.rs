//! Row-wise divergences: the throughput of each backend by row length, and the latency of one row.
//!
//! Each answer is cross-checked before anything is timed. A throughput means little by itself: set
//! it beside `read`, the speed at which the same machine sums the same bytes as integers.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kullback::{Batch, Divergence, Engine, Kind};
use ndarray::Array2;

#[path = "contest/src/memory.rs"]
mod memory;

/// Bins of one side in each batch for the throughput: 16 MiB.
const BINS: usize = 1 << 22;

fn engines() -> Vec<Engine> {
    let mut engines = vec![Engine::cpu()];
    match Engine::gpu() {
        Ok(gpu) => engines.push(gpu),
        Err(error) => eprintln!("the GPU backend is left out: {error}"),
    }
    engines
}

fn distributions(rows: usize, bins: usize, seed: u32) -> Array2<f32> {
    let weight = |(row, bin): (usize, usize)| {
        let mixed = (row * bins + bin) as u32 ^ seed;
        (mixed.wrapping_mul(0x9e37_79b9) >> 8) as f32 + 1.0
    };
    let mut rows = Array2::from_shape_fn((rows, bins), weight);
    for mut row in rows.rows_mut() {
        let mass: f64 = row.iter().map(|&weight| f64::from(weight)).sum();
        row.mapv_inplace(|weight| (f64::from(weight) / mass) as f32);
    }
    rows
}

fn slice(side: &Array2<f32>) -> &[f32] {
    side.as_slice().expect("contiguous")
}

fn checked(engine: &Engine, divergence: Divergence, batch: &Batch<'_, f32>) {
    let outcome = engine.rows(divergence, batch).expect("the batch is valid");
    engine.cross_check(divergence, batch, &outcome, 64).expect("the answers are right");
}

fn throughput(criterion: &mut Criterion) {
    for bins in [2, 8, 16, 64, 256, 1024, 1 << 16, 1 << 20] {
        let (p, q) = (distributions(BINS / bins, bins, 1), distributions(BINS / bins, bins, 2));
        probs(criterion, &format!("rows of {bins} bins"), &p, &q);
    }
}

/// Histograms: of both sides a fourth of the bins is empty, and of P another fourth.
fn histograms(criterion: &mut Criterion) {
    for bins in [8, 64, 1024, 1 << 16] {
        let side = |seed, empty: &[usize]| {
            let mut rows = distributions(BINS / bins, bins, seed);
            for mut row in rows.rows_mut() {
                for (_, x) in row.indexed_iter_mut().filter(|(bin, _)| empty.contains(&(bin % 4))) {
                    *x = 0.0;
                }
                let mass: f64 = row.iter().map(|&x| f64::from(x)).sum();
                row.mapv_inplace(|x| (f64::from(x) / mass) as f32);
            }
            rows
        };
        let (p, q) = (side(1, &[1, 2]), side(2, &[1]));
        probs(criterion, &format!("rows of {bins} bins with zeros"), &p, &q);
    }
}

fn probs(criterion: &mut Criterion, name: &str, p: &Array2<f32>, q: &Array2<f32>) {
    let batch = Batch::probs(p, q).expect("the shapes match");
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes((2 * BINS * size_of::<f32>()) as u64));
    group.sample_size(10);
    group.bench_function("read", |bencher| {
        bencher.iter(|| memory::read(slice(p), slice(q)));
    });
    for engine in &engines() {
        checked(engine, Divergence::Kl, &batch);
        group.bench_function(engine.backend(), |bencher| {
            bencher.iter(|| engine.rows(Divergence::Kl, black_box(&batch)));
        });
    }
    group.finish();
}

/// Logits of a language model's kind, beside a teacher's or their like: read once, and nothing of a softmax
/// written down.
fn logits(criterion: &mut Criterion) {
    let engines = engines();
    for (bins, p_kind) in
        [64, 1024, 32_000].into_iter().flat_map(|bins| [(bins, Kind::Logits), (bins, Kind::Probs)])
    {
        let logits = |seed| distributions(BINS / bins, bins, seed).mapv(|p| 20.0 * p * bins as f32);
        let q = logits(2);
        let (p, what) = match p_kind {
            Kind::Probs => (distributions(BINS / bins, bins, 1), "logits beside probs"),
            _ => (logits(1), "logits"),
        };
        let batch = Batch::of(p_kind, &p, Kind::Logits, &q).expect("the shapes match");
        let mut group = criterion.benchmark_group(format!("rows of {bins} {what}"));
        group.throughput(Throughput::Bytes(((p.len() + q.len()) * size_of::<f32>()) as u64));
        group.sample_size(10);
        group.bench_function("read", |bencher| {
            bencher.iter(|| memory::read(slice(&p), slice(&q)));
        });
        for engine in &engines {
            checked(engine, Divergence::Kl, &batch);
            group.bench_function(engine.backend(), |bencher| {
                bencher.iter(|| engine.rows(Divergence::Kl, black_box(&batch)));
            });
        }
        group.finish();
    }
}

/// Every divergence there is, those with a parameter for some more numbers, and all of them in one go.
fn divergences(criterion: &mut Criterion) {
    let more = [Divergence::JensenShannon(0.3), Divergence::Renyi(0.7), Divergence::Renyi(3.0)];
    let divergences = [Divergence::ALL, &more].concat();
    let engines = engines();
    for bins in [4, 16, 256, 32_000] {
        let (p, q) = (distributions(BINS / bins, bins, 1), distributions(BINS / bins, bins, 2));
        let batch = Batch::probs(&p, &q).expect("the shapes match");
        let mut group = criterion.benchmark_group(format!("divergences of {bins} bins"));
        group.throughput(Throughput::Bytes((2 * BINS * size_of::<f32>()) as u64));
        group.sample_size(10);
        group.bench_function("read", |bencher| {
            bencher.iter(|| memory::read(slice(&p), slice(&q)));
        });
        for engine in &engines {
            for &divergence in &divergences {
                checked(engine, divergence, &batch);
                group.bench_function(format!("{divergence}, {}", engine.backend()), |bencher| {
                    bencher.iter(|| engine.rows(divergence, black_box(&batch)));
                });
            }
            group.bench_function(format!("all at once, {}", engine.backend()), |bencher| {
                bencher.iter(|| engine.several(Divergence::ALL, black_box(&batch)));
            });
        }
        group.finish();
    }
}

fn latency(criterion: &mut Criterion) {
    let (p, q) = (distributions(1, 64, 1), distributions(1, 64, 2));
    let batch = Batch::probs(&p, &q).expect("the shapes match");
    let mut group = criterion.benchmark_group("one row of 64 bins");
    for engine in engines() {
        checked(&engine, Divergence::Kl, &batch);
        group.bench_function(engine.backend(), |bencher| {
            bencher.iter(|| engine.rows(Divergence::Kl, black_box(&batch)));
        });
    }
    group.finish();
}

criterion_group!(benches, throughput, histograms, logits, divergences, latency);
criterion_main!(benches);
