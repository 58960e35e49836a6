//! The crates that reach the vector units, on one loop: `Σ p·ln(p/q) − p + q` of one long row of
//! usual probabilities, as `src/term.rs` has it, on as many threads as there are.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml --bin vectors
//!
//! The README here says what was found, and which one the library took.

use std::time::Instant;

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, f32x16, i32x16};
use rayon::prelude::*;

/// Bins of a side: 128 MiB, several times the last cache of most machines.
const BINS: usize = 1 << 25;
/// Bins that a task sums.
const TASK: usize = 1 << 16;
const LANES: usize = 16;
const ROUNDS: usize = 15;
const ATANH: [f32; 5] = [0.333_333_34, 0.199_998_53, 0.142_961_79, 0.108_532_876, 0.116_121_65];
const ONE_OCTAVE: i32 = 1 << 23;
const LN_2: f32 = std::f32::consts::LN_2 / ONE_OCTAVE as f32;

/// A loop over part of a row.
type Loop = fn(&[f32], &[f32]) -> f64;

const LOOPS: [(&str, Loop); 5] = [
    ("read", |p, q| f64::from(contest::read_part(p, q))),
    ("no crate", |p, q| arrays::<false>(p, q)),
    ("pulp", |p, q| pulp::Arch::new().dispatch(Arrays { p, q })),
    ("fearless_simd", |p, q| dispatch!(Level::new(), _simd => arrays::<true>(p, q))),
    ("its vectors", |p, q| dispatch!(Level::new(), simd => vectors(simd, p, q))),
];

fn main() {
    let side = |step: usize| -> Vec<f32> {
        let weight = |bin: usize| (1 + bin * step % 1013) as f32 / (507.0 * BINS as f32);
        (0..BINS).into_par_iter().map(weight).collect()
    };
    let (p, q) = (side(389), side(577));
    let terms = p.par_iter().zip(&q).map(|(&p, &q)| {
        let (p, q) = (f64::from(p), f64::from(q));
        p * (p / q).ln() - p + q
    });
    let want: f64 = terms.sum();
    let sum = |of: Loop| -> f64 {
        p.par_chunks(TASK).zip(q.par_chunks(TASK)).map(|(p, q)| of(p, q)).sum()
    };
    for (name, of) in &LOOPS[1..] {
        let got = sum(*of);
        assert!((got / want - 1.0).abs() < 1e-6, "{name}: {got} for {want}");
    }
    let mut seconds = [const { Vec::new() }; LOOPS.len()];
    for _ in 0..ROUNDS {
        for ((_, of), seconds) in LOOPS.iter().zip(&mut seconds) {
            let start = Instant::now();
            std::hint::black_box(sum(*of));
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    println!("level of pulp {:?}, of fearless_simd {:?}", pulp::Arch::new(), Level::new());
    for ((name, _), mut seconds) in LOOPS.into_iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        let speed = |seconds: f64| (2 * 4 * BINS) as f64 / seconds / 1e9;
        let (median, best) = (speed(seconds[ROUNDS / 2]), speed(seconds[0]));
        println!("{name:<14} {median:5.1} GB/s, best {best:5.1}");
    }
}

/// `pulp` inlines what a trait's method calls, not what a closure does.
struct Arrays<'a> {
    p: &'a [f32],
    q: &'a [f32],
}

impl pulp::WithSimd for Arrays<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        arrays::<true>(self.p, self.q)
    }
}

/// Left to the compiler, which makes vectors of the arrays: one text for all vector units.
#[inline(always)]
fn arrays<const FUSED: bool>(p: &[f32], q: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let (p, q) = (p.as_chunks::<LANES>().0, q.as_chunks::<LANES>().0);
    for (p, q) in p.chunks(8).zip(q.chunks(8)) {
        let mut chain = [0_f32; LANES];
        for (p, q) in p.iter().zip(q) {
            for lane in 0..LANES {
                chain[lane] += term::<FUSED>(p[lane], q[lane]);
            }
        }
        for lane in 0..LANES {
            sums[lane] += f64::from(chain[lane]);
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn term<const FUSED: bool>(p: f32, q: f32) -> f32 {
    let fma = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let apart = p.to_bits().wrapping_sub(q.to_bits()) as i32;
    let k = apart.wrapping_add((apart >> 31) & (ONE_OCTAVE - 1)) & -ONE_OCTAVE;
    let q_near = f32::from_bits(q.to_bits().wrapping_add(k as u32));
    let n = p - q_near;
    let s = n / (p + q_near);
    let z = s * s;
    let t = z * fma(
        z * z,
        fma(z * z, ATANH[4], fma(ATANH[3], z, ATANH[2])),
        fma(ATANH[1], z, ATANH[0]),
    );
    fma(n, fma(s, t, s + t), fma(p, k as f32 * LN_2, q - q_near))
}

/// Spelt out in vectors.
#[inline(always)]
fn vectors<S: Simd>(simd: S, p: &[f32], q: &[f32]) -> f64 {
    let mut sum = 0.0;
    let (p, q) = (p.as_chunks::<LANES>().0, q.as_chunks::<LANES>().0);
    for (p, q) in p.chunks(8).zip(q.chunks(8)) {
        let mut chain = f32x16::splat(simd, 0.0);
        for (p, q) in p.iter().zip(q) {
            chain += vector_term(simd, f32x16::from_slice(simd, p), f32x16::from_slice(simd, q));
        }
        sum += f64::from(chain.reduce_sum());
    }
    sum
}

#[inline(always)]
fn vector_term<S: Simd>(simd: S, p: f32x16<S>, q: f32x16<S>) -> f32x16<S> {
    let number = |x: f32| f32x16::splat(simd, x);
    let bits = |x: f32x16<S>| x.bitcast::<i32x16<S>>();
    let apart = bits(p) - bits(q);
    let below = (apart >> 31) & i32x16::splat(simd, ONE_OCTAVE - 1);
    let k = (apart + below) & i32x16::splat(simd, -ONE_OCTAVE);
    let q_near = (bits(q) + k).bitcast::<f32x16<S>>();
    let n = p - q_near;
    let s = n / (p + q_near);
    let z = s * s;
    let high = (z * z).mul_add(number(ATANH[4]), number(ATANH[3]).mul_add(z, number(ATANH[2])));
    let t = z * (z * z).mul_add(high, number(ATANH[1]).mul_add(z, number(ATANH[0])));
    let log = f32x16::float_from(k) * number(LN_2);
    n.mul_add(s.mul_add(t, s + t), p.mul_add(log, q - q_near))
}
