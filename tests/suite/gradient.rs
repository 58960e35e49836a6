//! Gradients: against values from multi-precision arithmetic and against finite differences, and what
//! holds of them whatever the values are.

use std::collections::BTreeMap;

use half::{bf16, f16};
use kullback::{
    Batch, Divergence, Element, Engine, Error, Kind, Mass, OnInvalid, Side, Status, Wanted,
};
use ndarray::{Array1, Array2, ArrayView2, Axis, array, s};
use serde::Deserialize;

use crate::data::{distributions, nearby};
use crate::engines::engines;
use crate::family::{all, of_kind};
use crate::kinds::values;

/// A pair, and its gradients by divergence: `tests/golden/README.md` says how they were made.
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
    gradients: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    value: String,
    p: Option<String>,
    q: Option<String>,
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

/// How far a derivative may lie off, by the largest of its row.
fn promised<T: Element>() -> f64 {
    if T::NAME == f64::NAME { 1e-12 } else { 2e-7 }
}

/// Derivatives of which the exact ones are all 0, but for the digits of what computed those.
const VANISHES: f64 = 1e-90;
/// What rounding may leave of them.
const ROUNDING: f64 = 1e-15;

/// The largest error of a row by its largest entry, unless what is infinite or masked differs.
fn error(got: &[f64], want: &[f64], masked: impl Fn(usize) -> bool) -> f64 {
    let finite = want.iter().filter(|x| x.is_finite());
    let largest = finite.fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let off = got.iter().zip(want).enumerate().map(|(bin, (&got, &want))| {
        if got == want {
            0.0
        } else if want.is_infinite() || got.is_nan() || masked(bin) {
            f64::INFINITY
        } else if largest < VANISHES && got.abs() < ROUNDING {
            0.0
        } else {
            (got - want).abs() / largest
        }
    });
    off.fold(0.0, f64::max)
}

/// What is wrong with the gradients of a row.
fn faults<T: Element>(row: &Row, from_bits: impl Fn(u64) -> T + Copy) -> Vec<String> {
    let (p, q): (Vec<T>, Vec<T>) = (values(&row.p, from_bits), values(&row.q, from_bits));
    let side = |side| ArrayView2::from_shape((1, p.len()), side).unwrap();
    let [p_kind, q_kind] = [&row.p_kind, &row.q_kind].map(|kind| kind.parse().unwrap());
    let mut batch = Batch::of(p_kind, side(&p), q_kind, side(&q)).unwrap();
    if [p_kind, q_kind].contains(&Kind::Logits) {
        batch = batch.with_temperature(row.temperature).unwrap();
    }
    let batch = batch.with_mass(row.policy.parse().unwrap());
    let mut faults = Vec::new();
    for (name, entry) in &row.gradients {
        let divergence: Divergence = name.parse().unwrap();
        let mut fault = |what: String| faults.push(format!("{}, {name}: {what}", row.name));
        let gradient =
            Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).expect("valid rows");
        let (value, due) = (gradient.outcome.values[0].to_f64(), entry.value.parse().unwrap());
        if error(&[value], &[due], |_| false) > 3e-6 && due > 1e-20 {
            fault(format!("the value is {value:e}, not {due:e}"));
        }
        let sides = [(gradient.p, &entry.p, &p, p_kind), (gradient.q, &entry.q, &q, q_kind)];
        for (got, want, given, kind) in sides {
            let got: Vec<f64> = got.unwrap().iter().map(|x| x.to_f64()).collect();
            let Some(want) = want else {
                if got.iter().any(|x| !x.is_nan()) {
                    fault(format!("there is none, and not {got:?}"));
                }
                continue;
            };
            let want: Vec<f64> = want.split(' ').map(|x| x.parse().unwrap()).collect();
            let masked =
                |bin: usize| kind != Kind::Probs && given[bin].to_f64() == f64::NEG_INFINITY;
            let off = error(&got, &want, masked);
            if off > promised::<T>() {
                fault(format!("off by {off:e} of the largest: {got:?}, not {want:?}"));
            }
        }
    }
    faults
}

fn check_golden<T: Element>(least: usize, from_bits: impl Fn(u64) -> T + Copy) {
    let golden: Golden = serde_json::from_str(include_str!("../golden/gradients.json")).unwrap();
    let rows: Vec<_> = golden.rows.iter().filter(|row| row.element == T::NAME).collect();
    assert!(rows.len() >= least, "{} rows of {}", rows.len(), T::NAME);
    let found: Vec<_> = rows.iter().flat_map(|row| faults(row, from_bits)).collect();
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn golden_gradients() {
    check_golden(88, |bits| f32::from_bits(bits as u32));
    check_golden(12, f64::from_bits);
    check_golden(4, |bits| f16::from_bits(bits as u16));
    check_golden(4, |bits| bf16::from_bits(bits as u16));
}
