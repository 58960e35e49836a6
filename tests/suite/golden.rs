//! Every backend against values from multi-precision arithmetic, of which `tests/golden/README.md`
//! says how each was made.

use kullback::{Batch, Divergence, Element, Engine, Mass, Status};
use ndarray::ArrayView2;
use serde::Deserialize;

use crate::compare::{F32, F64, close};
use crate::engines::{engines, f64_engines};

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

/// One pair, and its divergence under each mass policy, as decimal strings.
#[derive(Deserialize)]
pub struct Row {
    pub name: String,
    #[serde(rename = "type")]
    pub element: String,
    pub policy: String,
    pub p: String,
    pub q: String,
    pub mass_p: String,
    pub mass_q: String,
    pub check: String,
    pub as_given: String,
    pub generalized: String,
}

pub fn rows(element: &str) -> Vec<Row> {
    let golden: Golden = serde_json::from_str(include_str!("../golden/rows.json")).unwrap();
    let rows: Vec<_> = golden.rows.into_iter().filter(|row| row.element == element).collect();
    assert!(rows.len() > 50, "{} rows of type {element}", rows.len());
    rows
}

pub fn number(decimal: &str) -> f64 {
    decimal.parse().unwrap()
}

/// The values whose bits stand in a string of hexadecimal digits.
pub fn values<T>(hex: &str, digits: usize, from_bits: impl Fn(u64) -> T) -> Vec<T> {
    let word = |word: &[u8]| u64::from_str_radix(std::str::from_utf8(word).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(digits).map(word).map(from_bits).collect()
}

/// Checks one row on one engine under every mass policy that it is meant for.
fn check_row<T: Element>(engine: &Engine, row: &Row, p: &[T], q: &[T], tolerance: f64) {
    let view = |side| ArrayView2::from_shape((1, p.len()), side).unwrap();
    let batch = Batch::probs(view(p), view(q)).unwrap();
    for &mass in Mass::ALL {
        let want = number(match mass {
            Mass::Check | Mass::Normalize => &row.check,
            Mass::AsGiven => &row.as_given,
            Mass::Generalized => &row.generalized,
        });
        if mass == Mass::Check && row.policy != "check" {
            continue;
        }
        let what = format!("{engine:?}, {mass}, {}", row.name);
        let outcome =
            engine.rows(Divergence::Kl, &batch.with_mass(mass).with_masses()).expect(&what);
        let got = outcome.values[0].to_f64();
        let status = if want.is_infinite() { Status::Infinite } else { Status::Ok };
        assert_eq!(outcome.statuses[0], status, "{what}");
        let masses = outcome.masses.expect("they were asked for");
        for (got, want) in [(masses.p[0], &row.mass_p), (masses.q[0], &row.mass_q)] {
            assert!(close(got.to_f64(), number(want), tolerance), "{what}: mass {got} for {want}");
        }
        // Rows that are proportional, but not equal, have a divergence of exactly 0, of which
        // rounding may leave the square of a unit in the last place of f64.
        let proportional = want == 0.0 && p != q && (0.0..1e-32).contains(&got);
        assert!(
            proportional || close(got, want, tolerance),
            "{what}: {got:e} is off by {:e} from {want:e}",
            ((got - want) / want).abs()
        );
    }
}

#[test]
fn f32_rows() {
    for row in rows("f32") {
        let bits = |bits| f32::from_bits(bits as u32);
        let (p, q) = (values(&row.p, 8, bits), values(&row.q, 8, bits));
        for engine in engines() {
            check_row(engine, &row, &p, &q, F32);
        }
    }
}

#[test]
fn f64_rows() {
    for row in rows("f64") {
        let (p, q) = (values(&row.p, 16, f64::from_bits), values(&row.q, 16, f64::from_bits));
        for engine in f64_engines() {
            check_row(engine, &row, &p, &q, F64);
        }
    }
}
