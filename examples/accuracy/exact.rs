//! Divergences by multi-precision arithmetic: what every tool is held against.

use std::collections::HashMap;

use dashu_float::round::mode::HalfEven;
use dashu_float::{ConstCache, Context, FBig};
use half::{bf16, f16};
use kullback::Kind;
use rayon::prelude::*;
use serde::Deserialize;

type Big = FBig<HalfEven, 2>;

/// What the page says of it.
pub const DIGITS: usize = 48;

/// As many bits. The smallest divergences are 1e-12 of the largest terms, so that over 30 remain.
const BITS: usize = 160;

/// One number as a weight, and the logarithm of that weight; not normalized.
struct Bin {
    weight: Big,
    log: Big,
}

/// The bins of one side, by the bits of the number that stands for them. Rows that are nearly equal
/// share numbers, and 16 bits have few, so each is worked out once.
pub struct Side(HashMap<u64, Bin>);

impl Side {
    pub fn of(kind: Kind, values: impl Iterator<Item = f64>) -> Side {
        let mut bits: Vec<u64> = values.map(f64::to_bits).collect();
        bits.sort_unstable();
        bits.dedup();
        let bin = |cache: &mut ConstCache, bits| (bits, bin(kind, f64::from_bits(bits), cache));
        Side(bits.into_par_iter().map_init(ConstCache::new, bin).collect())
    }
}

/// D(P‖Q) in nats of a row, both sides divided by their sums.
pub fn divergence([p, q]: [&[f64]; 2], sides: [&Side; 2]) -> f64 {
    let (mut p_mass, mut q_mass, mut sum) = (big(0.0), big(0.0), big(0.0));
    for (p, q) in p.iter().zip(q) {
        let (p, q) = (&sides[0].0[&p.to_bits()], &sides[1].0[&q.to_bits()]);
        p_mass += &p.weight;
        q_mass += &q.weight;
        sum += &p.weight * (&p.log - &q.log);
    }
    let divergence = sum / &p_mass + q_mass.ln() - p_mass.ln();
    divergence.to_f64().value()
}

fn big(value: f64) -> Big {
    let exact = Big::try_from(value).expect("the number is finite");
    exact.with_precision(BITS).value()
}

fn bin(kind: Kind, value: f64, cache: &mut ConstCache) -> Bin {
    match kind {
        Kind::Probs => Bin { weight: big(value), log: ln(value, cache) },
        Kind::LogProbs | Kind::Logits => Bin { weight: exp(value, cache), log: big(value) },
    }
}

fn exp(value: f64, cache: &mut ConstCache) -> Big {
    let exp = Context::new(BITS).exp(big(value).repr(), Some(cache));
    exp.expect("no number here is beyond the range of the exponents").value()
}

/// The f64 logarithm y, and what is missing: the next is `ln(1 + d)` with `d = v·e^−y − 1` near
/// 1e-16. This takes a third of the time of the crate's own logarithm, which the check against the
/// golden values would tell from it.
fn ln(value: f64, cache: &mut ConstCache) -> Big {
    let y = value.ln();
    let d = big(value) * exp(-y, cache) - big(1.0);
    let square = &d * &d;
    big(y) + &d - &square / big(2.0) + square * d / big(3.0)
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<GoldenRow>,
}

#[derive(Deserialize)]
struct GoldenRow {
    name: String,
    #[serde(rename = "type")]
    element: String,
    p_kind: String,
    q_kind: String,
    temperature: f64,
    p: String,
    q: String,
    check: String,
}

/// Holds this arithmetic against values that another program made with another library, and says
/// how many rows that were.
pub fn verify() -> usize {
    let golden = include_str!("../../tests/golden/kinds.json");
    let golden: Golden = serde_json::from_str(golden).expect("the golden values are readable");
    // Masked bins and divergences of 0 have no place here; the library's own tests have them.
    let finite = |row: &&GoldenRow| row.check.parse().is_ok_and(|kl: f64| kl.is_normal());
    let rows = golden.rows.iter().filter(|row| row.temperature == 1.0).filter(finite);
    let close = rows.filter_map(agrees).collect::<Vec<_>>();
    assert!(close.len() > 150, "only {} golden rows", close.len());
    for (row, got) in &close {
        let want: f64 = row.check.parse().expect("it was parsed before");
        assert!((got / want - 1.0).abs() < 1e-15, "{}: {got:e} for {want:e}", row.name);
    }
    close.len()
}

/// What this arithmetic makes of a row; nothing if it has masked bins.
fn agrees(row: &GoldenRow) -> Option<(&GoldenRow, f64)> {
    let side = |kind: &str, hex: &str| {
        let kind = kind.parse().expect("the golden values name the library's kinds");
        let values = values(&row.element, hex);
        let usable = |v: &f64| v.is_finite() && (kind != Kind::Probs || *v > 0.0);
        let bins = values.iter().all(usable).then(|| Side::of(kind, values.iter().copied()));
        bins.map(|bins| (values, bins))
    };
    let (p, p_bins) = side(&row.p_kind, &row.p)?;
    let (q, q_bins) = side(&row.q_kind, &row.q)?;
    Some((row, divergence([&p, &q], [&p_bins, &q_bins])))
}

/// The numbers whose bits stand in a string of hexadecimal digits.
fn values(element: &str, hex: &str) -> Vec<f64> {
    let (digits, from_bits): (usize, fn(u64) -> f64) = match element {
        "f16" => (4, |bits| f16::from_bits(bits as u16).to_f64()),
        "bf16" => (4, |bits| bf16::from_bits(bits as u16).to_f64()),
        "f32" => (8, |bits| f32::from_bits(bits as u32).into()),
        _ => (16, f64::from_bits),
    };
    let word = |at| u64::from_str_radix(&hex[at..at + digits], 16).expect("these are digits");
    (0..hex.len()).step_by(digits).map(word).map(from_bits).collect()
}
