//! Rows of up to 2^24 bins against exact answers. `tests/golden/README.md` says how the rows are drawn
//! and how each answer was made.

use kullback::{Batch, Divergence, Mass};
use ndarray::Array2;
use serde::Deserialize;

use crate::compare::{F32, LOGS, close};
use crate::data::Random;
use crate::engines::roomy_engines;

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    kind: String,
    bins: usize,
    seed: u64,
    eps: f64,
    temperature: f64,
    mass_p: String,
    mass_q: String,
    check: String,
}

/// Draws the two sides of a row.
fn drawn(row: &Row) -> [Array2<f32>; 2] {
    let mut random = Random(row.seed);
    let mut sides = [(); 2].map(|()| Array2::zeros((1, row.bins)));
    for bin in 0..row.bins {
        let (first, second) = (random.next(), random.next());
        let t = ((second >> 40) as f64 - 8_388_608.0) / 16_777_216.0;
        let (p, q) = if row.kind == "probs" {
            let unit = 2_f64.powi(-40);
            let w = ((first >> 44) + 1) as f64;
            ((w * unit) as f32, ((w * (1.0 + row.eps * t)) * unit) as f32)
        } else {
            let p = (16.0 * ((first >> 40) as f64 / 16_777_216.0) - 8.0) as f32;
            (p, (f64::from(p) + row.eps * t) as f32)
        };
        (sides[0][[0, bin]], sides[1][[0, bin]]) = (p, q);
    }
    sides
}

fn rows(kind: &str) -> Vec<Row> {
    let golden: Golden = serde_json::from_str(include_str!("../golden/long.json")).unwrap();
    golden.rows.into_iter().filter(|row| row.kind == kind).collect()
}

#[test]
fn rows_are_drawn_as_they_were_for_the_answers() {
    let first = |name: &str, kind| {
        let row = rows(kind).into_iter().find(|row| row.name == name).unwrap();
        drawn(&row).map(|side| [0, 1, 2].map(|bin| side[[0, bin]].to_bits()))
    };
    assert_eq!(
        first("probs, eps 1, 4097 bins", "probs"),
        [[0x3409_3f80, 0x353e_6ed0, 0x3458_8280], [0x3409_070e, 0x356f_2e2c, 0x341d_825f]]
    );
    assert_eq!(
        first("logits, eps 1, T 0.25, 32000 bins", "logits"),
        [[0x3faa_c6d0, 0xc0e9_776e, 0x409d_ce08], [0x3fcc_e000, 0xc0f7_8326, 0x409f_88d7]]
    );
}

fn check(kind: &str, tolerance: f64) {
    let rows = rows(kind);
    assert!(rows.len() >= 16);
    for row in rows {
        let [p, q] = drawn(&row);
        let mut batch = Batch::of(kind.parse().unwrap(), &p, kind.parse().unwrap(), &q).unwrap();
        if kind == "logits" {
            batch = batch.with_temperature(row.temperature).unwrap();
        }
        for engine in roomy_engines() {
            let outcome = engine
                .rows(Divergence::Kl, &batch.with_mass(Mass::Normalize).with_masses())
                .unwrap();
            let (got, want) = (f64::from(outcome.values[0]), row.check.parse::<f64>().unwrap());
            let what = format!("{engine:?}, {}", row.name);
            assert!(
                close(got, want, tolerance),
                "{what}: {got:e} is off by {:e} from {want:e}",
                ((got - want) / want).abs()
            );
            let masses = outcome.masses.expect("they were asked for");
            for (mass, want) in [(masses.p[0], &row.mass_p), (masses.q[0], &row.mass_q)] {
                assert!(close(mass.into(), want.parse().unwrap(), tolerance), "{what}: {mass}");
            }
        }
    }
}

#[test]
fn probabilities() {
    check("probs", F32);
}

#[test]
fn logits() {
    check("logits", LOGS);
}
