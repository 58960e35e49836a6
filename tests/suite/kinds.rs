//! Log-probabilities, logits and 16-bit numbers against values from multi-precision arithmetic, of
//! which `tests/golden/README.md` says how each was made.

use half::{bf16, f16};
use kullback::{Batch, Divergence, Element, Engine, Kind, Mass, Status};
use ndarray::ArrayView2;
use serde::Deserialize;

use crate::compare::{F32, F64, LOGS, close};
use crate::engines::{engines, f64_engines};

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

/// One pair, and its divergence under each mass policy, as decimal strings.
#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(rename = "type")]
    element: String,
    p_kind: String,
    q_kind: String,
    temperature: f64,
    policy: String,
    p: String,
    q: String,
    mass_p: String,
    mass_q: String,
    check: String,
    as_given: String,
    generalized: String,
}

fn rows(element: &str) -> Vec<Row> {
    let golden: Golden = serde_json::from_str(include_str!("../golden/kinds.json")).unwrap();
    let rows: Vec<_> = golden.rows.into_iter().filter(|row| row.element == element).collect();
    assert!(rows.len() > 50, "{} rows of type {element}", rows.len());
    rows
}

/// The values whose bits stand in a string of hexadecimal digits.
pub fn values<T>(hex: &str, from_bits: impl Fn(u64) -> T) -> Vec<T> {
    let word = |word: &[u8]| u64::from_str_radix(std::str::from_utf8(word).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2 * size_of::<T>()).map(word).map(from_bits).collect()
}

/// The relative error that is allowed: what is promised of f32 results, and of f64 what is promised of
/// probabilities. Of f64 logarithms the docs say how they come off: near equality the rounding of
/// `ln p` shows where one side is probabilities, and that of the masses where no policy divides by
/// them.
fn allowed<T: Element>(row: &Row, mass: Mass, want: f64, p: &[T], q: &[T]) -> f64 {
    let probs = [&row.p_kind, &row.q_kind].map(|kind| kind == "probs");
    if T::NAME != "f64" {
        return if probs == [true, true] { F32 } else { LOGS };
    }
    let mixed = if probs[0] != probs[1] { 1e-15 / want.abs().sqrt() } else { 0.0 };
    let largest = p.iter().chain(q).map(|x| x.to_f64().abs()).filter(|x| x.is_finite());
    let largest = largest.fold(1.0, f64::max) / row.temperature.min(1.0);
    let divided = matches!(mass, Mass::Check | Mass::Normalize) || probs == [true, true];
    let masses = if divided { 0.0 } else { 1e-15 * largest / want.abs() };
    F64 + mixed + masses
}

/// What is wrong with an engine's answers to a row, under every mass policy that it is meant for.
fn faults<T: Element>(engine: &Engine, row: &Row, p: &[T], q: &[T]) -> Vec<String> {
    let view = |side| ArrayView2::from_shape((1, p.len()), side).unwrap();
    let [p_kind, q_kind] = [&row.p_kind, &row.q_kind].map(|kind| kind.parse().unwrap());
    let mut batch = Batch::of(p_kind, view(p), q_kind, view(q)).unwrap();
    if [p_kind, q_kind].contains(&Kind::Logits) {
        batch = batch.with_temperature(row.temperature).unwrap();
    }
    let mut faults = Vec::new();
    for &mass in Mass::ALL {
        let want = match mass {
            Mass::Check | Mass::Normalize => &row.check,
            Mass::AsGiven => &row.as_given,
            Mass::Generalized => &row.generalized,
        };
        if mass == Mass::Check && row.policy != "check" {
            continue;
        }
        let want: f64 = want.parse().unwrap();
        let tolerance = allowed(row, mass, want, p, q);
        let what = format!("{engine:?}, {}, {mass}, {}", row.element, row.name);
        let outcome = match engine.rows(Divergence::Kl, &batch.with_mass(mass).with_masses()) {
            Ok(outcome) => outcome,
            Err(error) => {
                faults.push(format!("{what}: {error}"));
                continue;
            }
        };
        let got = outcome.values[0].to_f64();
        let status = if want.is_infinite() { Status::Infinite } else { Status::Ok };
        if outcome.statuses[0] != status {
            faults.push(format!("{what}: {:?}", outcome.statuses[0]));
        }
        let masses = outcome.masses.expect("they were asked for");
        for (got, want) in [(masses.p[0], &row.mass_p), (masses.q[0], &row.mass_q)] {
            if !close(got.to_f64(), want.parse().unwrap(), tolerance.min(LOGS)) {
                faults.push(format!("{what}: mass {got:e} for {want}"));
            }
        }
        let proportional = want == 0.0 && (0.0..1e-25).contains(&got);
        if !proportional && !close(got, want, tolerance) {
            let off = ((got - want) / want).abs();
            faults.push(format!("{what}: {got:e} is off by {off:e} from {want:e}"));
        }
    }
    faults
}

fn check<T: Element>(
    engines: impl Iterator<Item = &'static Engine>,
    from_bits: impl Fn(u64) -> T + Copy,
) {
    let rows = rows(T::NAME);
    let mut found = Vec::new();
    for engine in engines {
        for row in &rows {
            let (p, q) = (values(&row.p, from_bits), values(&row.q, from_bits));
            found.extend(faults(engine, row, &p, &q));
        }
    }
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn f32_rows() {
    check(engines().iter(), |bits| f32::from_bits(bits as u32));
}

#[test]
fn f16_rows() {
    check(engines().iter(), |bits| f16::from_bits(bits as u16));
}

#[test]
fn bf16_rows() {
    check(engines().iter(), |bits| bf16::from_bits(bits as u16));
}

#[test]
fn f64_rows() {
    check(f64_engines(), f64::from_bits);
}
