//! Seeded rows at chosen distances.

use kullback::{Element, Kind};
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;

use crate::exact::{self, Side};

pub const ROWS: usize = 40;
pub const BINS: usize = 1000;

/// The powers of ten next to the divergences.
pub const DECADES: std::ops::RangeInclusive<i32> = -12..=1;

/// How often Q is drawn again, where rounding keeps it from the distance that is wanted.
const TRIES: usize = 5;

/// Rows whose divergences lie within half a decade of a power of ten. Every number is exact in f64.
pub struct Cell {
    pub decade: i32,
    pub p: Array2<f64>,
    pub q: Array2<f64>,
    pub exact: Vec<f64>,
}

/// One cell per decade, nearest last; the P are the same in all. Decades are left out that the
/// rounding of the type leaves no rows in.
pub fn draw<T: Element>(kinds: [Kind; 2], seed: u64) -> Vec<Cell> {
    let rows = (0..ROWS as u64).into_par_iter();
    let rows: Vec<Row> = rows.map(|row| Row::draw::<T>(kinds, seed * ROWS as u64 + row)).collect();
    let p = matrix(rows.iter().map(|row| &row.p));
    let cells = DECADES.rev().enumerate().filter_map(|(at, decade)| {
        let q: Option<Vec<_>> = rows.iter().map(|row| row.q[at].as_ref()).collect();
        Some((decade, matrix(q?.into_iter())))
    });
    with_exact(kinds, &p, cells.collect())
}

fn matrix<'a>(rows: impl Iterator<Item = &'a Vec<f64>>) -> Array2<f64> {
    let values: Vec<f64> = rows.flatten().copied().collect();
    Array2::from_shape_vec((ROWS, BINS), values).expect("each row has as many bins")
}

fn with_exact(kinds: [Kind; 2], p: &Array2<f64>, cells: Vec<(i32, Array2<f64>)>) -> Vec<Cell> {
    let p_side = Side::of(kinds[0], p.iter().copied());
    let q_side = Side::of(kinds[1], cells.iter().flat_map(|(_, q)| q).copied());
    let cell = |(decade, q): (i32, Array2<f64>)| {
        let row = |row| {
            let row = [p, &q].map(|side| side.row(row).to_vec());
            exact::divergence([&row[0], &row[1]], [&p_side, &q_side])
        };
        let exact: Vec<f64> = (0..ROWS).into_par_iter().map(row).collect();
        for kl in &exact {
            assert!((kl.log10() - f64::from(decade)).abs() < 0.5, "{kl:e} is not near 1e{decade}");
        }
        Cell { decade, p: p.clone(), q, exact }
    };
    cells.into_iter().map(cell).collect()
}

/// A row of P, and one of Q for each decade, where there is one.
struct Row {
    p: Vec<f64>,
    q: Vec<Option<Vec<f64>>>,
}

impl Row {
    fn draw<T: Element>(kinds: [Kind; 2], seed: u64) -> Row {
        let mut random = Random(seed);
        let logs: Vec<f64> = (0..BINS).map(|_| 2.0 * random.gaussian()).collect();
        let p = stored::<T>(kinds[0], &logs);
        let q = DECADES
            .rev()
            .map(|decade| (0..TRIES).find_map(|_| neighbour::<T>(kinds, &p, decade, &mut random)));
        Row { q: q.collect(), p }
    }
}

/// A row whose logarithms differ from those of P by `epsilon` times gaussian numbers, with the
/// epsilon that takes it as far away as the decade wants; found by bisection.
fn neighbour<T: Element>(
    kinds: [Kind; 2],
    p: &[f64],
    decade: i32,
    random: &mut Random,
) -> Option<Vec<f64>> {
    let logs = logs(kinds[0], p);
    let direction: Vec<f64> = (0..BINS).map(|_| random.gaussian()).collect();
    let target = f64::from(decade) + 0.8 * (random.uniform() - 0.5);
    let (mut low, mut high) = (1e-9_f64.ln(), 40_f64.ln());
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        let epsilon = middle.exp();
        let moved: Vec<f64> = logs.iter().zip(&direction).map(|(l, g)| l + epsilon * g).collect();
        let q = stored::<T>(kinds[1], &moved);
        let off = estimate(kinds, p, &q).log10() - target;
        if off.abs() < 0.05 {
            return Some(q);
        }
        *(if off < 0.0 { &mut low } else { &mut high }) = middle;
    }
    None
}

/// The row with these logarithms as a kind and a type hold it. Nothing is rounded to a probability of
/// 0, as the divergence would be infinite, or the bin without any part in it.
fn stored<T: Element>(kind: Kind, logs: &[f64]) -> Vec<f64> {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_mass = top + logs.iter().map(|log| (log - top).exp()).sum::<f64>().ln();
    let smallest = if T::NAME == "f16" { 2_f64.powi(-24) } else { f32::MIN_POSITIVE.into() };
    let value = |log: &f64| match kind {
        Kind::Probs => (log - ln_mass).exp().max(smallest),
        Kind::LogProbs => log - ln_mass,
        Kind::Logits => *log,
    };
    logs.iter().map(value).map(|value| T::from_f64(value).to_f64()).collect()
}

fn logs(kind: Kind, row: &[f64]) -> Vec<f64> {
    let log = |&value: &f64| if kind == Kind::Probs { value.ln() } else { value };
    row.iter().map(log).collect()
}

/// The divergence in f64, to a few digits also where it is 1e-12: with the logarithms `y` of the
/// ratios of the normalized probabilities it is `Σ p·(e^y − 1 − y)`, of which no term is negative.
fn estimate(kinds: [Kind; 2], p: &[f64], q: &[f64]) -> f64 {
    let (p, q) = (logs(kinds[0], p), logs(kinds[1], q));
    let top = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = p.iter().map(|log| (log - top).exp());
    let bins: Vec<(f64, f64)> = weights.zip(p.iter().zip(&q).map(|(p, q)| q - p)).collect();
    let mass: f64 = bins.iter().map(|(weight, _)| weight).sum();
    let ratio = bins.iter().map(|(weight, log)| weight * log.exp()).sum::<f64>() / mass;
    let term = |&(weight, log): &(f64, f64)| {
        let y = log - ratio.ln();
        weight * (y.exp_m1() - y)
    };
    bins.iter().map(term).sum::<f64>() / mass
}

/// The bytes of some rows as their type has them, least significant first.
pub fn bytes<T: Element>(rows: &Array2<f64>) -> Vec<u8> {
    let row = |row: ArrayView1<f64>| row.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
    rows.rows().into_iter().flat_map(|r| bytemuck::cast_slice(&row(r)).to_vec()).collect()
}

/// A generator of its own, so that the rows stay the same whatever the dependencies do
/// (Steele, Lea and Flood 2014: SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// With mean 0 and variance 1 (Box and Muller 1958).
    fn gaussian(&mut self) -> f64 {
        let angle = std::f64::consts::TAU * self.uniform();
        (-2.0 * self.uniform().ln()).sqrt() * angle.cos()
    }
}
