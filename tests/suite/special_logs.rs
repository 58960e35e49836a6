//! A grid of special values in every position class for rows of which a side is logarithms, and for
//! 16-bit numbers: what each row's status has to be is worked out here from the values alone, and
//! its value by the reference, for every backend alike.

use half::{bf16, f16};
use kullback::{
    Batch, Divergence, Element, Engine, Kind, Mass, OnInvalid, Rule, Status, reference,
};
use ndarray::Array2;

use crate::compare::{LOGS, close};
use crate::engines::{engines, f64_engines};

const PROBS: &[f32] = &[
    0.0,
    -0.0,
    f32::from_bits(1),           // the smallest subnormal
    f32::from_bits(0x007f_ffff), // the largest
    f32::MIN_POSITIVE,
    1e-10,
    0.25,
    1.0,
    1e30,
    f32::INFINITY,
    f32::NAN,
    f32::from_bits(0x7f80_0001), // a signalling NaN
    f32::from_bits(0xffc0_1234), // a negative NaN
    -0.5,
    f32::from_bits(0x8000_0001), // the negative subnormal next to −0
];

const LOGS_: &[f32] = &[
    0.0,
    -0.0,
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::MIN_POSITIVE,
    -0.7,
    -3.25,
    5.5,
    -87.5,  // the logarithms of the smallest normal number
    -104.0, // and of less than any
    -1e4,
    1e4,
    f32::NEG_INFINITY,
    f32::INFINITY,
    f32::NAN,
    f32::from_bits(0x7f80_0001),
    f32::from_bits(0xffc0_1234),
];

/// More of them in f64: NaN that only the lower word tells from infinities, and the ends of the range
/// in which the shaders compute.
const DOUBLES: &[u64] = &[
    0x7ff0_0000_0000_0001,
    0xfff0_0000_0000_0001,
    0x0000_0000_0000_0001, // the smallest subnormal
    0x07b0_0000_0000_0000, // 2^-900
    0x07af_ffff_ffff_ffff, // just below
    0x0010_0000_0000_0000, // the smallest normal
];

/// Rows of so many bins, with the special pair at one of these.
const LENGTHS: &[(usize, &[usize])] = &[(1, &[0]), (37, &[0, 16, 36]), (300, &[255, 299])];

fn specials<T: Element>(kind: Kind) -> Vec<T> {
    let values = if kind == Kind::Probs { PROBS } else { LOGS_ };
    let doubles = if T::NAME == "f64" { DOUBLES } else { &[] };
    let doubles = doubles.iter().map(|&bits| f64::from_bits(bits));
    values.iter().map(|&value| f64::from(value)).chain(doubles).map(T::from_f64).collect()
}

/// Every pair in every position, over rows that are near each other elsewhere.
fn grid<T: Element>(kinds: [Kind; 2], bins: usize, positions: &[usize]) -> [Array2<T>; 2] {
    let (p_specials, q_specials) = (specials::<T>(kinds[0]), specials::<T>(kinds[1]));
    let pairs = p_specials.len() * q_specials.len();
    let rest = 0.75 / (bins.max(2) - 1) as f64;
    let plain = |kind: Kind, p: f64| T::from_f64(if kind == Kind::Probs { p } else { p.ln() });
    let mut sides =
        kinds.map(|kind| Array2::from_elem((pairs * positions.len(), bins), plain(kind, rest)));
    for row in 0..pairs * positions.len() {
        if bins > 5 {
            sides[1][[row, 4]] = plain(kinds[1], 1.5 * rest);
            sides[1][[row, 5]] = plain(kinds[1], 0.5 * rest);
        }
        let (pair, at) = (row % pairs, positions[row / pairs]);
        sides[0][[row, at]] = p_specials[pair / q_specials.len()];
        sides[1][[row, at]] = q_specials[pair % q_specials.len()];
    }
    sides
}

fn rule(kind: Kind, value: f64) -> Option<Rule> {
    match value {
        value if value.is_nan() => Some(Rule::NotANumber),
        value if value == f64::INFINITY => Some(Rule::Infinite),
        value if kind == Kind::Probs && value < 0.0 => Some(Rule::Negative),
        _ => None,
    }
}

/// What a row has to be: its status, its value if it has one, and how far rounding in the
/// reference may have carried that.
fn want<T: Element>(kinds: [Kind; 2], p: &[f64], q: &[f64], mass: Mass) -> (Status, f64, f64) {
    let invalid = |rule| (Status::Invalid(rule), f64::NAN, 0.0);
    let first = p.iter().zip(q).find_map(|(&p, &q)| rule(kinds[0], p).or(rule(kinds[1], q)));
    if let Some(rule) = first {
        return invalid(rule);
    }
    let mut logs = [reference::logs(p, kinds[0], 1.0), reference::logs(q, kinds[1], 1.0)];
    let mut size = 1.0;
    for (logs, kind) in logs.iter_mut().zip(kinds) {
        let ln_mass = reference::ln_mass(logs);
        let off = (ln_mass.exp() - 1.0).abs();
        match (kind, mass) {
            (Kind::Logits, _) | (_, Mass::Normalize) if ln_mass == f64::NEG_INFINITY => {
                return invalid(Rule::NoMass);
            }
            (Kind::Probs | Kind::LogProbs, Mass::Check) if off > T::MASS_TOLERANCE => {
                return invalid(Rule::Mass);
            }
            _ => {}
        }
        size += if ln_mass.is_finite() { ln_mass.abs() } else { 0.0 };
        if kind == Kind::Logits || matches!(mass, Mass::Check | Mass::Normalize) {
            logs.iter_mut().for_each(|log| *log -= ln_mass);
        }
    }
    let [p, q] = logs;
    let masses = [&p, &q].map(|logs| reference::ln_mass(logs).exp());
    let mut value = reference::relative_entropy_of_logs(&p, &q);
    if value == f64::INFINITY && p.iter().zip(&q).any(|(p, q)| p.is_finite() && q.is_infinite()) {
        return (Status::Infinite, value, 0.0);
    }
    if mass == Mass::Generalized {
        value += masses[1] - masses[0];
    }
    if !T::Value::from_f64(value).to_f64().is_finite() {
        return invalid(Rule::Overflow);
    }
    let sizes = p.iter().zip(&q).filter(|(p, _)| p.is_finite());
    let sizes: f64 = sizes.map(|(p, q)| p.exp() * (p - q).abs()).sum();
    (Status::Ok, value, 8.0 * f64::EPSILON * (sizes + (masses[0] + masses[1]) * size))
}

fn check<T: Element>(engines: &[&Engine], kinds: impl Iterator<Item = [Kind; 2]>) -> usize {
    let mut cases = 0;
    for kinds in kinds {
        for &(bins, positions) in LENGTHS {
            let [p, q] = grid::<T>(kinds, bins, positions);
            let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
            let batch = batch.with_on_invalid(OnInvalid::Nan);
            for &mass in Mass::ALL {
                let batch = batch.with_mass(mass);
                let outcomes: Vec<_> = engines
                    .iter()
                    .map(|engine| (engine, engine.rows(Divergence::Kl, &batch).unwrap()))
                    .collect();
                for row in 0..batch.rows() {
                    let [p, q] = [p.row(row), q.row(row)]
                        .map(|row| row.iter().map(|x| x.to_f64()).collect::<Vec<_>>());
                    let (status, value, doubt) = want::<T>(kinds, &p, &q, mass);
                    let half = f64::from(f32::from_bits(1)) / 2.0;
                    cases += 1;
                    for (engine, outcome) in &outcomes {
                        let got = outcome.values[row].to_f64();
                        let near = close(got, value, LOGS) || (got - value).abs() <= doubt + half;
                        let right = outcome.statuses[row] == status
                            && (near || value.is_nan() && got.is_nan());
                        assert!(
                            right,
                            "{engine:?}, {}, {kinds:?}, {mass}: {got:e} and {:?}, not {value:e} \
                             and {status:?}: {p:?} {q:?}",
                            T::NAME,
                            outcome.statuses[row]
                        );
                    }
                }
            }
        }
    }
    cases
}

fn all() -> Vec<&'static Engine> {
    engines().iter().collect()
}

#[test]
fn every_pair_of_kinds() {
    let kinds = Kind::ALL.iter().flat_map(|&p| Kind::ALL.iter().map(move |&q| [p, q]));
    let cases = check::<f32>(&all(), kinds.filter(|kinds| *kinds != [Kind::Probs; 2]));
    assert!(cases >= 50_000, "{cases} cases");
}

#[test]
fn numbers_of_16_bits() {
    let kinds = [[Kind::Probs; 2], [Kind::Logits; 2], [Kind::Probs, Kind::Logits]];
    let cases = check::<f16>(&all(), kinds.into_iter()) + check::<bf16>(&all(), kinds.into_iter());
    assert!(cases >= 20_000, "{cases} cases");
}

#[test]
fn numbers_of_64_bits() {
    let kinds = [
        [Kind::Probs; 2],
        [Kind::LogProbs; 2],
        [Kind::Probs, Kind::Logits],
        [Kind::Logits, Kind::Probs],
    ];
    let engines: Vec<_> = f64_engines().collect();
    let cases = check::<f64>(&engines, kinds.into_iter());
    assert!(cases >= 40_000, "{cases} cases");
}
