//! Rows of each length in f32 and f64 on the CPU: values, and values with the gradients in both sides.
//!
//! Values are held against the f64 reference before anything is timed, and the gradient of `kl` against its formula.
//! `cargo bench --bench types -- f64` takes that type alone, and `-- f64 logits 32 32000 P Q` that kind of rows, so
//! many of so many bins, from two files that hold float64 numbers and nothing else.

use std::hint::black_box;
use std::time::Instant;

use kullback::{Batch, Divergence, Element, Engine, Kind, Wanted, reference};
use ndarray::Array2;

/// Times that each is timed; the fastest counts.
const ROUNDS: usize = 7;
/// Bins of a side of the rows that are drawn.
const BINS: usize = 1 << 20;

fn drawn(kind: Kind, rows: usize, bins: usize, seed: u64) -> Array2<f64> {
    let mut state = seed;
    let mut rows = Array2::from_shape_simple_fn((rows, bins), || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let uniform = ((state >> 11) + 1) as f64 / 2_f64.powi(53);
        if kind == Kind::Probs { 1e-6 - uniform.ln() } else { 8.0 * uniform }
    });
    if kind == Kind::Probs {
        for mut row in rows.rows_mut() {
            let mass = row.sum();
            row.mapv_inplace(|weight| weight / mass);
        }
    }
    rows
}

/// The rows that a file holds.
fn read(path: &str, rows: usize, bins: usize) -> Array2<f64> {
    let bytes = std::fs::read(path).expect("the file can be read");
    let values = bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
    Array2::from_shape_vec((rows, bins), values).expect("the file holds so many rows")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    println!("{} threads", rayon::current_num_threads());
    let types: &[&str] = match words.first().map(String::as_str) {
        Some("f32") => &["f32"],
        Some("f64") => &["f64"],
        _ => &["f32", "f64"],
    };
    for name in types {
        println!("{name}");
        if let [_, kind, rows, bins, p, q] = &words[..] {
            let kind = kind.parse().expect("there is such a kind");
            let [rows, bins] = [rows, bins].map(|number| number.parse().expect("a number"));
            time_as(name, kind, [p, q].map(|path| read(path, rows, bins)));
            continue;
        }
        for kind in [Kind::Probs, Kind::Logits] {
            for bins in [2, 16, 64, 1_024, 32_000] {
                time_as(name, kind, [1, 2].map(|seed| drawn(kind, BINS / bins, bins, seed)));
            }
        }
    }
}

fn time_as(name: &str, kind: Kind, [p, q]: [Array2<f64>; 2]) {
    if name == "f64" {
        return time(kind, &p, &q);
    }
    let [p, q] = [p, q].map(|side| side.mapv(|x| x as f32));
    time(kind, &p, &q);
}

/// Prints a line for each divergence, and for some with their gradients.
fn time<T: Element<Value = T>>(kind: Kind, p: &Array2<T>, q: &Array2<T>) {
    let engine = Engine::cpu();
    let batch = Batch::of(kind, p, kind, q).expect("the shapes match");
    let line = |what: &str, call: &mut dyn FnMut()| {
        call();
        let seconds = (0..ROUNDS).map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        });
        let seconds = seconds.fold(f64::INFINITY, f64::min);
        let per_bin = seconds * 1e9 / p.len() as f64;
        let bins = p.ncols();
        println!(
            "{what:<24} {bins:>6} {kind:<10} {:>8.3} ms {per_bin:>7.2} ns a bin",
            seconds * 1e3
        );
    };
    for divergence in [
        Divergence::Kl,
        Divergence::JensenShannon(0.5),
        Divergence::Renyi(0.7),
        Divergence::Entropy,
    ] {
        let outcome = engine.rows(divergence, &batch).expect("the rows are valid");
        engine.cross_check(divergence, &batch, &outcome, 64).expect("the answers are right");
        line(&divergence.to_string(), &mut || {
            black_box(engine.rows(divergence, &batch).expect("the rows are valid"));
        });
    }
    check_gradient(&engine, kind, &batch);
    let mut places = [p.clone(), q.clone()];
    for divergence in [Divergence::Kl, Divergence::JensenShannon(0.5), Divergence::Entropy] {
        line(&format!("{divergence}-gradient"), &mut || {
            let [p, q] = places.each_mut().map(|place| Some(place.view_mut()));
            let outcome = engine.gradient_into(divergence, &batch, None, p, q);
            black_box(outcome.expect("the rows are valid"));
        });
    }
}

/// In the logits of Q it is `q − p`, in its probabilities `1 − p/q`.
fn check_gradient<T: Element<Value = T>>(engine: &Engine, kind: Kind, batch: &Batch<'_, T>) {
    let made = engine.gradient(Divergence::Kl, batch, Wanted::Q, None).expect("the rows are valid");
    let made = made.q.expect("it is wanted");
    let logs = [kullback::Side::P, kullback::Side::Q].map(|side| {
        let row: Vec<f64> = batch.row(side, 0).iter().map(|x| x.to_f64()).collect();
        let logs = reference::logs(&row, kind, 1.0);
        let ln_mass = reference::ln_mass(&logs);
        logs.into_iter().map(|ln| ln - ln_mass).collect::<Vec<_>>()
    });
    let wanted = logs[0].iter().zip(&logs[1]).map(|(ln_p, ln_q)| {
        let by_ratio = -(ln_p - ln_q).exp_m1();
        if kind == Kind::Probs { by_ratio } else { ln_q.exp() * by_ratio }
    });
    let wanted: Vec<_> = wanted.collect();
    let largest = wanted.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let allowed = if T::NAME == "f64" { 1e-10 } else { 1e-5 } * largest;
    for (got, want) in made.row(0).iter().zip(wanted) {
        assert!((got.to_f64() - want).abs() <= allowed, "{got:?}, not {want:e}");
    }
}
