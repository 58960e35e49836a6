//! Random rows of every kind: never negative, exactly 0 for the same bits, exactly +inf where due.
//!
//! `KULLBACK_RANDOM_BINS` says how many bins to try of each pair of kinds and each type, in large
//! batches on the engines that are not under tiny limits; without it, a few on all of them.

use half::{bf16, f16};
use kullback::{Batch, Divergence, Element, Engine, Kind, Mass, OnInvalid, Status};
use ndarray::Array2;

use crate::data::Random;
use crate::engines::{engines, roomy_engines};

/// Weights over many decades, and their logarithms, with some entries of 0.
fn drawn<T: Element>(
    random: &mut Random,
    kind: Kind,
    shape: (usize, usize),
    spread: f64,
) -> Array2<T> {
    let zeros = if random.next().is_multiple_of(2) { 0.1 } else { 0.0 };
    Array2::from_shape_simple_fn(shape, || {
        let log = spread * (random.uniform() + random.uniform() - 1.0);
        let zero = random.uniform() < zeros;
        T::from_f64(match kind {
            Kind::Probs if zero => 0.0,
            Kind::Probs => log.exp(),
            _ if zero => f64::NEG_INFINITY,
            _ => log,
        })
    })
}

/// The same numbers, of which some are changed by so many units in the last place.
fn changed<T: Element>(random: &mut Random, side: &Array2<T>, relative: f64) -> Array2<T> {
    side.mapv(|x| match random.next() % 3 {
        0 => x,
        _ => T::from_f64(x.to_f64() * (1.0 + relative * (random.uniform() - 0.5))),
    })
}

fn check<T: Element<Value = f32>>(engine: &Engine, kinds: [Kind; 2], p: &Array2<T>, q: &Array2<T>) {
    let batch = Batch::of(kinds[0], p, kinds[1], q).unwrap();
    let batch = batch.with_mass(Mass::Normalize).with_on_invalid(OnInvalid::Nan);
    let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
    let zero = |kind, x: &T| match kind {
        Kind::Probs => x.to_f64() == 0.0,
        _ => x.to_f64() == f64::NEG_INFINITY,
    };
    for row in 0..batch.rows() {
        let (p, q) = (p.row(row), q.row(row));
        let (value, status) = (outcome.values[row], outcome.statuses[row]);
        let what = || format!("{engine:?}, {} {kinds:?}: {value:e}, {p} {q}", T::NAME);
        let none = p.iter().all(|x| zero(kinds[0], x)) || q.iter().all(|x| zero(kinds[1], x));
        let infinite = p.iter().zip(q).any(|(p, q)| !zero(kinds[0], p) && zero(kinds[1], q));
        if none {
            assert!(matches!(status, Status::Invalid(_)), "{}", what());
        } else if infinite {
            assert!(value == f32::INFINITY && status == Status::Infinite, "{}", what());
        } else {
            assert!(value >= 0.0 && value.is_finite() && status == Status::Ok, "{}", what());
            if kinds[0] == kinds[1] && p == q {
                assert_eq!(value.to_bits(), 0, "{}", what());
            }
        }
    }
}

/// How much to try, and on which engines.
struct Extent {
    rows: usize,
    bins: usize,
    engines: &'static [Engine],
}

fn run<T: Element<Value = f32>>(extent: &Extent, kinds: [Kind; 2], seed: u64) {
    let mut random = Random(seed);
    let mut tried = 0;
    while tried < extent.bins {
        let bins = 1 + (random.next() % 300) as usize;
        let spread = [0.1, 1.0, 5.0, 9.0][(random.next() % 4) as usize];
        let shape = (extent.rows, bins);
        let p = drawn::<T>(&mut random, kinds[0], shape, spread);
        let q = match random.next() % 4 {
            0 if kinds[0] == kinds[1] => p.clone(),
            1 if kinds[0] == kinds[1] => {
                let relative = 10_f64.powi(-((random.next() % 8) as i32));
                changed(&mut random, &p, relative)
            }
            _ => drawn::<T>(&mut random, kinds[1], shape, spread),
        };
        for engine in extent.engines {
            check(engine, kinds, &p, &q);
        }
        tried += extent.rows * bins;
    }
}

#[test]
fn never_negative() {
    let extent = match std::env::var("KULLBACK_RANDOM_BINS") {
        Ok(bins) => Extent {
            rows: 4096,
            bins: bins.parse().unwrap(),
            engines: roomy_engines().get(..2).unwrap_or(roomy_engines()),
        },
        Err(_) => Extent { rows: 64, bins: 50_000, engines: engines() },
    };
    for (at, &p) in Kind::ALL.iter().enumerate() {
        for (also, &q) in Kind::ALL.iter().enumerate() {
            let seed = (3 * at + also) as u64;
            run::<f32>(&extent, [p, q], seed);
            run::<f16>(&extent, [p, q], seed + 100);
            run::<bf16>(&extent, [p, q], seed + 200);
        }
    }
}
