//! Gradients: against values from multi-precision arithmetic and against finite differences, and what
//! holds of them whatever the values are.

use std::collections::BTreeMap;

use half::{bf16, f16};
use kullback::{
    Batch, Divergence, Element, Engine, Error, Kind, Mass, OnInvalid, Side, Status, Wanted,
};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Slice, array};
use serde::Deserialize;

use crate::compare::close;
use crate::data::{distributions, nearby};
use crate::engines::engines;
use crate::family::{all_divergences, of_kind};
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
fn promised<T: Element>(engine: &Engine) -> f64 {
    match engine.backend() {
        _ if T::NAME == f64::NAME => 1e-12,
        "cpu" => 1e-6,
        _ => 1e-5,
    }
}

/// Derivatives of which the exact ones are all 0, but for the digits of what computed those.
const VANISHES: f64 = 1e-90;
/// What rounding may leave of them, on the CPU and on a GPU.
const ROUNDING: [f64; 2] = [1e-15, 1e-13];

/// The largest error of a row by its largest entry, unless what is infinite or masked differs.
fn error(got: &[f64], want: &[f64], rounding: f64, masked: impl Fn(usize) -> bool) -> f64 {
    let finite = want.iter().filter(|x| x.is_finite());
    let largest = finite.fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let off = got.iter().zip(want).enumerate().map(|(bin, (&got, &want))| {
        if got == want {
            0.0
        } else if want.is_infinite() || got.is_nan() || masked(bin) {
            f64::INFINITY
        } else if largest < VANISHES && got.abs() < rounding {
            0.0
        } else {
            (got - want).abs() / largest
        }
    });
    off.fold(0.0, f64::max)
}

/// What is wrong with the gradients of a row.
fn faults<T: Element>(
    engine: &Engine,
    row: &Row,
    from_bits: impl Fn(u64) -> T + Copy,
) -> Vec<String> {
    let (p, q): (Vec<T>, Vec<T>) = (values(&row.p, from_bits), values(&row.q, from_bits));
    let side = |side| ArrayView2::from_shape((1, p.len()), side).unwrap();
    let [p_kind, q_kind] = [&row.p_kind, &row.q_kind].map(|kind| kind.parse().unwrap());
    let mut batch = Batch::of(p_kind, side(&p), q_kind, side(&q)).unwrap();
    if [p_kind, q_kind].contains(&Kind::Logits) {
        batch = batch.with_temperature(row.temperature).unwrap();
    }
    let batch = batch.with_mass(row.policy.parse().unwrap());
    let rounding = ROUNDING[usize::from(engine.backend() != "cpu")];
    let mut faults = Vec::new();
    let fits = |value: &str| T::Value::from_f64(value.parse().unwrap()).to_f64().is_finite();
    // What is beyond the type is refused.
    let refused = |entry: &Entry| entry.value != "inf" && !fits(&entry.value);
    for (name, entry) in row.gradients.iter().filter(|(_, entry)| !refused(entry)) {
        let divergence: Divergence = name.parse().unwrap();
        let mut fault = |what: String| faults.push(format!("{}, {name}: {what}", row.name));
        let gradient = engine.gradient(divergence, &batch, Wanted::Both, None).expect("valid rows");
        let (value, due) = (gradient.outcome.values[0].to_f64(), entry.value.parse().unwrap());
        if error(&[value], &[due], rounding, |_| false) > 3e-6 && due > 1e-20 {
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
            let off = error(&got, &want, rounding, masked);
            if off > promised::<T>(engine) {
                fault(format!("off by {off:e} of the largest: {got:?}, not {want:?}"));
            }
        }
    }
    faults
}

fn check_golden<T: Element>(golden: &str, least: usize, from_bits: impl Fn(u64) -> T + Copy) {
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let rows: Vec<_> = golden.rows.iter().filter(|row| row.element == T::NAME).collect();
    assert!(rows.len() >= least, "{} rows of {}", rows.len(), T::NAME);
    for engine in engines() {
        let found: Vec<_> = rows.iter().flat_map(|row| faults(engine, row, from_bits)).collect();
        assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
    }
}

#[test]
fn golden_gradients() {
    let golden = include_str!("../golden/gradients.json");
    check_golden(golden, 88, |bits| f32::from_bits(bits as u32));
    check_golden(golden, 12, f64::from_bits);
    check_golden(golden, 4, |bits| f16::from_bits(bits as u16));
    check_golden(golden, 4, |bits| bf16::from_bits(bits as u16));
}

/// Of rows at the edges of the arithmetic.
#[test]
fn golden_gradients_at_the_edges() {
    let golden = include_str!("../golden/gradient_edges.json");
    check_golden(golden, 16, |bits| f32::from_bits(bits as u32));
    check_golden(golden, 8, f64::from_bits);
}

/// Rows of f64 of every kind, of which some are near each other and some lack bins.
fn sides(bins: usize) -> [Array2<f64>; 2] {
    let mut p: Array2<f64> = distributions(3, bins, 31);
    let mut q: Array2<f64> = distributions(3, bins, 32);
    q.row_mut(1).assign(&nearby(&p, 1e-1, 33).row(1));
    (p[[2, 0]], q[[2, 1]]) = (0.0, 0.0);
    for side in [&mut p, &mut q] {
        for mut row in side.rows_mut() {
            let mass = row.sum();
            row.mapv_inplace(|x| x / mass);
        }
    }
    [p, q]
}

fn is_zero(kind: Kind, x: f64) -> bool {
    if kind == Kind::Probs { x == 0.0 } else { x == f64::NEG_INFINITY }
}

/// The derivative along a way that moves all numbers of a side but those of bins without mass, by a
/// difference of fourth order.
fn difference(
    divergence: Divergence,
    batch: impl Fn(&Array2<f64>) -> f64,
    side: &Array2<f64>,
    way: &Array2<f64>,
) -> f64 {
    let at = |step: f64| batch(&(side + &(way * step)));
    let h = if divergence == Divergence::TotalVariation { 1e-6 } else { 1e-4 };
    (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h)
}

/// A way to move numbers: small steps, logarithms by as much as probabilities by their share.
fn way(kind: Kind, side: &Array2<f64>, seed: u64) -> Array2<f64> {
    let mut random = crate::data::Random(seed);
    side.mapv(|x| match random.uniform() - 0.5 {
        _ if is_zero(kind, x) => 0.0,
        step if kind == Kind::Probs => step * x,
        step => step,
    })
}

#[test]
fn finite_differences_agree() {
    let mut compared = 0;
    let [p_probs, q_probs] = sides(9);
    for (p_kind, q_kind, mass) in Kind::ALL.iter().flat_map(|&p_kind| {
        Kind::ALL.iter().flat_map(move |&q_kind| {
            [Mass::Normalize, Mass::Generalized, Mass::AsGiven].map(|mass| (p_kind, q_kind, mass))
        })
    }) {
        let temperature = if [p_kind, q_kind].contains(&Kind::Logits) { 1.5 } else { 1.0 };
        let (p, q) = (of_kind::<f64>(p_kind, &p_probs, temperature), {
            of_kind::<f64>(q_kind, &q_probs, temperature)
        });
        for divergence in all_divergences() {
            for row in 0..3 {
                let one =
                    |side: &Array2<f64>| side.slice_axis(Axis(0), (row..row + 1).into()).to_owned();
                let [p, q] = [one(&p), one(&q)];
                let made = |p: &Array2<f64>, q: &Array2<f64>, wanted| {
                    let batch = Batch::of(p_kind, p, q_kind, q).unwrap().with_mass(mass);
                    let batch = batch.with_temperature(temperature).unwrap();
                    Engine::cpu().gradient(divergence, &batch, wanted, None)
                };
                let Ok(gradient) = made(&p, &q, Wanted::Both) else { continue };
                if gradient.outcome.statuses[0] == Status::Infinite {
                    continue;
                }
                let value = |p: &Array2<f64>, q: &Array2<f64>| {
                    made(p, q, Wanted::Q).unwrap().outcome.values[0]
                };
                let (p_way, q_way) = (way(p_kind, &p, 5), way(q_kind, &q, 6));
                for (got, kind, given, way, want) in [
                    (
                        gradient.p,
                        p_kind,
                        &p,
                        &p_way,
                        difference(divergence, |p| value(p, &q), &p, &p_way),
                    ),
                    (
                        gradient.q,
                        q_kind,
                        &q,
                        &q_way,
                        difference(divergence, |q| value(&p, q), &q, &q_way),
                    ),
                ] {
                    let moved =
                        || got.as_ref().unwrap().iter().zip(way).filter(|(_, way)| **way != 0.0);
                    let along: f64 = moved().map(|(x, way)| x * way).sum();
                    let size: f64 = moved().map(|(x, way)| (x * way).abs()).sum();
                    let what =
                        format!("{divergence}, {p_kind}, {q_kind}, {mass}, row {row}, {kind}");
                    assert!(
                        (along - want).abs() <= 1e-8 * size + 1e-11 * (1.0 + value(&p, &q)),
                        "{what}: {along:e}, not {want:e}, of {given} along {way}"
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 2_000, "{compared}");
}

/// Adding a constant to a row of logits changes nothing, and neither does a factor of probabilities.
#[test]
fn what_changes_nothing_has_no_derivative() {
    let [p_probs, q_probs] = sides(70);
    for &kind in Kind::ALL {
        let [p, q] = [&p_probs, &q_probs].map(|side| of_kind::<f64>(kind, side, 1.0));
        let batch = Batch::of(kind, &p, kind, &q).unwrap();
        for divergence in all_divergences() {
            let gradient = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap();
            for (got, given) in [(gradient.p.unwrap(), &p), (gradient.q.unwrap(), &q)] {
                for ((got, given), status) in
                    got.rows().into_iter().zip(given.rows()).zip(&gradient.outcome.statuses)
                {
                    if *status == Status::Infinite {
                        assert!(got.iter().all(|x| x.is_nan()), "{divergence}, {kind}");
                        continue;
                    }
                    let terms = got.iter().zip(given).filter(|(x, _)| x.is_finite());
                    let terms = terms.map(|(&x, &p)| if kind == Kind::Probs { x * p } else { x });
                    let terms: Vec<f64> = terms.collect();
                    let size: f64 = terms.iter().map(|x| x.abs()).sum();
                    let sum: f64 = terms.iter().sum();
                    assert!(sum.abs() <= 1e-13 * size + 1e-15, "{divergence}, {kind}: {sum:e}");
                }
            }
        }
    }
}

/// What GPUs take for the least of probabilities is far above this one, which has no derivative beside it but
/// its mirror image.
#[test]
fn a_side_that_is_next_to_one_bin_has_the_derivatives_of_the_other() {
    let (p, q) =
        (array![[-4.0_f32, -0.018], [-1.0, -0.5]], array![[-90.7_f32, -20.7], [0.5, 75.0]]);
    let [wide_p, wide_q] = [&p, &q].map(|side| side.mapv(f64::from));
    let (batch, wide) = (Batch::logits(&p, &q).unwrap(), Batch::logits(&wide_p, &wide_q).unwrap());
    for engine in engines() {
        for divergence in
            ["kl", "reverse-kl", "jeffreys", "js", "js:0.3", "js-distance", "hellinger"]
        {
            let divergence: Divergence = divergence.parse().unwrap();
            for weights in [array![1.0_f32, 1.0], array![1e6, 1e-6]] {
                let wide_weights = weights.mapv(f64::from);
                let found = engine.gradient(divergence, &batch, Wanted::Both, Some(weights.view()));
                let want = Engine::cpu().gradient(
                    divergence,
                    &wide,
                    Wanted::Both,
                    Some(wide_weights.view()),
                );
                let (found, want) = (found.unwrap(), want.unwrap());
                for (found, want) in [(found.p, want.p), (found.q, want.q)] {
                    let (found, want) = (found.unwrap().mapv(f64::from), want.unwrap());
                    for (found, want) in found.rows().into_iter().zip(want.rows()) {
                        let off = error(&found.to_vec(), &want.to_vec(), 1e-60, |_| false);
                        assert!(off < 1e-5, "{engine:?}, {divergence}: {found} for {want}");
                    }
                }
            }
        }
    }
}

/// Of `ln max p/q` with the masses divided out, by hand.
#[test]
fn bins_that_share_the_largest_ratio_share_its_slope() {
    let (p, q) = (array![[0.375, 0.375, 0.25]], array![[0.1875, 0.1875, 0.625]]);
    let batch = Batch::probs(&p, &q).unwrap();
    let largest = Divergence::Renyi(f64::INFINITY);
    let gradient = Engine::cpu().gradient(largest, &batch, Wanted::Both, None).unwrap();
    let (of_p, of_q) = (1.0 / 3.0, 5.0 / 3.0);
    for (got, want) in
        [(gradient.p, array![[of_p, of_p, -1.0]]), (gradient.q, array![[-of_q, -of_q, 1.0]])]
    {
        let got: Array2<f64> = got.unwrap();
        let off = (&got - &want).fold(0.0_f64, |off, x| off.max(x.abs()));
        assert!(off < 1e-14, "{got}, not {want}");
    }
}

/// Each divergence on each engine.
fn of_all(engines: &[Engine]) -> impl Iterator<Item = (&Engine, Divergence)> {
    engines.iter().flat_map(|engine| all_divergences().map(move |divergence| (engine, divergence)))
}

#[test]
fn identical_rows_have_no_slope() {
    for bins in [1, 7, 16, 100, 3_000] {
        let probs: Array2<f64> = distributions(2, bins, 7);
        for &kind in Kind::ALL {
            let p = of_kind::<f32>(kind, &probs, 1.0);
            let batch = Batch::of(kind, &p, kind, &p).unwrap();
            for (engine, divergence) in of_all(engines()) {
                if matches!(divergence, Divergence::CrossEntropy | Divergence::Entropy) {
                    continue;
                }
                let gradient = engine.gradient(divergence, &batch, Wanted::Both, None).unwrap();
                for side in [gradient.p, gradient.q] {
                    let zeros = side.unwrap().iter().all(|&x| x == 0.0);
                    assert!(zeros, "{divergence}, {kind}, {bins} bins");
                }
            }
        }
    }
}

/// Of probabilities that are divided by their mass, a factor divides the gradient.
#[test]
fn masses_out_of_range_have_gradients_all_the_same() {
    let [p, q] = sides(40);
    for by in [[664, -336], [-336, 664], [-700, 0], [0, 700]] {
        let scales = by.map(|by| 2.0_f64.powi(by));
        let (far_p, far_q) = (&p * scales[0], &q * scales[1]);
        for divergence in all_divergences() {
            let gradient = |p: &Array2<f64>, q: &Array2<f64>| {
                let batch = Batch::probs(p, q).unwrap().with_mass(Mass::Normalize);
                Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap()
            };
            let (far, plain) = (gradient(&far_p, &far_q), gradient(&p, &q));
            assert_eq!(far.outcome.statuses, plain.outcome.statuses);
            for ((got, want), scale) in [(far.p, plain.p), (far.q, plain.q)].iter().zip(scales) {
                let (got, want) = (got.as_ref().unwrap() * scale, want.as_ref().unwrap());
                for (got, want) in got.rows().into_iter().zip(want.rows()) {
                    if want.iter().all(|x| x.is_nan()) {
                        assert!(got.iter().all(|x| x.is_nan()), "{divergence}, {by:?}");
                        continue;
                    }
                    let off = error(&got.to_vec(), &want.to_vec(), ROUNDING[0], |_| false);
                    assert!(off < 1e-12, "{divergence}, {by:?}: off by {off:e} of the largest");
                }
            }
        }
    }
}

#[test]
fn weights_are_factors_of_rows() {
    weights_are_factors_on::<f64>(&Engine::cpu(), 1e-15);
    engines().iter().for_each(|engine| weights_are_factors_on::<f32>(engine, 3e-7));
}

fn weights_are_factors_on<T: Element<Value = T>>(engine: &Engine, rounding: f64) {
    let (p, q): (Array2<T>, Array2<T>) = (distributions(5, 20, 1), distributions(5, 20, 2));
    let mut p = p;
    // The fourth row is none, and the weight of the fifth leaves it out.
    (p[[3, 0]], p[[4, 0]]) = (T::from_f64(-1.0), T::from_f64(f64::NAN));
    let batch = Batch::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
    let weights = array![2.0, -0.5, 0.0, 1.0, 0.0].mapv(T::from_f64);
    let plain = engine.gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
    let weighted = engine.gradient(Divergence::Kl, &batch, Wanted::Both, Some(weights.view()));
    let weighted = weighted.unwrap();
    assert_eq!(weighted.outcome.statuses, plain.outcome.statuses);
    for (got, want) in weighted.outcome.values.iter().zip(&plain.outcome.values).take(3) {
        assert!((got.to_f64() - want.to_f64()).abs() <= rounding * want.to_f64());
    }
    for (got, want) in [(weighted.p, plain.p), (weighted.q, plain.q)] {
        let (got, want) = (got.unwrap(), want.unwrap());
        for row in 0..3 {
            for (got, want) in got.row(row).iter().zip(want.row(row)) {
                let (got, want) = (got.to_f64(), want.to_f64());
                let off = (got - want * weights[row].to_f64()).abs();
                assert!(off <= rounding * want.abs(), "{got:e} for {want:e} in row {row}");
            }
        }
        let all = |row: usize, is: fn(f64) -> bool, of: &Array2<T>| {
            of.row(row).iter().all(|x| is(x.to_f64()))
        };
        assert!(all(3, f64::is_nan, &got) && all(4, f64::is_nan, &want));
        assert!(all(4, |x| x == 0.0, &got));
    }
    let invalid = batch.with_on_invalid(OnInvalid::Error);
    let error = engine.gradient(Divergence::Kl, &invalid, Wanted::P, Some(weights.view()));
    assert!(matches!(error, Err(Error::Invalid(at)) if at.row == 3 && at.side == Side::P));
}

/// A batch whose bins have weights beside one of the products, whose derivatives have those as factors; and
/// one of the bins that are left.
#[test]
fn weights_of_bins_count_in_the_numbers_given() {
    let [p, q] = sides(77);
    let weights: Vec<f64> = (0..77).map(|bin| f64::from(bin % 5) * 0.75).collect();
    let left: Vec<usize> = (0..77).filter(|&bin| weights[bin] > 0.0).collect();
    for (&kind, engine) in Kind::ALL.iter().zip(engines().iter().cycle()) {
        let numbers = [&p, &q].map(|side| of_kind::<f64>(kind, side, 0.5));
        let products = numbers.each_ref().map(|side| {
            let product = |row: usize, bin: usize| match kind {
                Kind::Probs => side[[row, bin]] * weights[bin],
                Kind::LogProbs => side[[row, bin]] + weights[bin].ln(),
                Kind::Logits => side[[row, bin]] + 0.5 * weights[bin].ln(),
            };
            Array2::from_shape_fn((side.nrows(), left.len()), |(row, at)| product(row, left[at]))
        });
        // Whatever stands in what is left out.
        let [p, q] = numbers.map(|mut side| {
            side.column_mut(5).fill(f64::NAN);
            side
        });
        let rows = Array1::from_iter((0..p.nrows()).map(|row| row as f64 - 1.0));
        for repeats in [false, true] {
            let p_rows = if repeats { 1 } else { p.nrows() };
            let of = |p: &Array2<f64>| p.slice_axis(Axis(0), (..p_rows).into()).to_owned();
            let (p, product) = (of(&p), of(&products[0]));
            let batch = |p, q| {
                let batch = Batch::of(kind, p, kind, q).unwrap().with_mass(Mass::Normalize);
                if kind == Kind::Logits { batch.with_temperature(0.5).unwrap() } else { batch }
            };
            let (all, less) = (batch(&p, &q), batch(&product, &products[1]));
            let all = all.with_bin_weights(&weights).unwrap();
            for divergence in all_divergences() {
                let of = |batch: &Batch<'_, f64>| {
                    engine.gradient(divergence, batch, Wanted::Both, Some(rows.view()))
                };
                let got = of(&all).unwrap();
                let want = Engine::cpu()
                    .gradient(divergence, &less, Wanted::Both, Some(rows.view()))
                    .unwrap();
                for (got, want) in [(got.p, want.p), (got.q, want.q)] {
                    check_weighted(&got.unwrap(), &want.unwrap(), kind, &weights, &left);
                }
            }
        }
    }
}

/// Holds derivatives in numbers against those in their products with weights.
fn check_weighted(
    got: &Array2<f64>,
    want: &Array2<f64>,
    kind: Kind,
    weights: &[f64],
    left: &[usize],
) {
    for (got, want) in got.rows().into_iter().zip(want.rows()) {
        if want.iter().any(|x| x.is_nan()) {
            assert!(got.iter().all(|x| x.is_nan()), "{kind}");
            continue;
        }
        let by = |bin: usize| if kind == Kind::Probs { weights[bin] } else { 1.0 };
        let want: Vec<f64> = left.iter().zip(want).map(|(&bin, want)| by(bin) * want).collect();
        let of_left: Vec<f64> = left.iter().map(|&bin| got[bin]).collect();
        assert!(error(&of_left, &want, ROUNDING[0], |_| false) < 1e-12, "{kind}");
        let out = (0..weights.len()).filter(|&bin| weights[bin] == 0.0);
        assert!(out.into_iter().all(|bin| got[bin].to_bits() == 0), "{kind}");
    }
}

/// A row that is repeated has the sum of what each of them would have.
#[test]
fn repeated_rows_are_summed_over() {
    for shape in [(1, 5), (3, 5), (40, 33), (700, 100), (9, 70_000)] {
        repeated_rows_are_summed_on::<f64>(&Engine::cpu(), shape, 1e-13);
    }
    for shape in [(1, 5), (3, 5), (40, 33), (700, 100)] {
        engines().iter().for_each(|engine| {
            repeated_rows_are_summed_on::<f32>(engine, shape, 1e-6);
        });
    }
}

fn repeated_rows_are_summed_on<T: Element<Value = T>>(
    engine: &Engine,
    (rows, bins): (usize, usize),
    rounding: f64,
) {
    let (p, q): (Array2<T>, Array2<T>) = (distributions(rows, bins, 1), distributions(1, bins, 2));
    let every = q.broadcast((rows, bins)).unwrap().to_owned();
    // A weight of 0 adds nothing to the sum.
    let weights = Array1::from_shape_fn(rows, |row| T::from_f64((row % 7) as f64));
    for divergence in [Divergence::Kl, Divergence::Hellinger, Divergence::Renyi(2.0)] {
        let gradient = |p: &Array2<T>, q: &Array2<T>| {
            let batch = Batch::probs(p, q).unwrap();
            engine.gradient(divergence, &batch, Wanted::Both, Some(weights.view())).unwrap()
        };
        for (once, each) in [(gradient(&p, &q), gradient(&p, &every)), {
            let swapped = |mut made: kullback::Gradient<T>| {
                std::mem::swap(&mut made.p, &mut made.q);
                made
            };
            (swapped(gradient(&q, &p)), swapped(gradient(&every, &p)))
        }] {
            assert_eq!(once.p, each.p, "{divergence}");
            let (got, each) = (once.q.unwrap(), each.q.unwrap().mapv(|x| x.to_f64()));
            assert_eq!(got.dim(), (1, bins));
            let size = each.mapv(f64::abs).sum_axis(Axis(0));
            for ((got, want), size) in got.iter().zip(each.sum_axis(Axis(0))).zip(size) {
                let got = got.to_f64();
                assert!((got - want).abs() <= rounding * size, "{got:e}, not {want:e}");
            }
        }
    }
}

/// In each copy of what a row repeats the gradient is that of one, by their number.
#[test]
fn long_rows_have_the_gradients_of_what_they_repeat() {
    let (bins, copies) = (6_000, 23);
    let probs: [Array2<f64>; 2] = [distributions(2, bins, 1), distributions(1, bins, 2)];
    for kind in [Kind::Probs, Kind::Logits] {
        let short = probs.each_ref().map(|side| of_kind::<f64>(kind, side, 1.0));
        let long = short
            .each_ref()
            .map(|side| ndarray::concatenate(Axis(1), &vec![side.view(); copies]).unwrap());
        for divergence in [
            Divergence::Kl,
            Divergence::Hellinger,
            Divergence::JensenShannon(0.5),
            Divergence::Renyi(f64::INFINITY),
        ] {
            let gradients = |[p, q]: &[Array2<f64>; 2]| {
                let batch = Batch::of(kind, p, kind, q).unwrap().with_mass(Mass::Normalize);
                let made = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap();
                [made.p.unwrap(), made.q.unwrap()]
            };
            for (got, want) in gradients(&long).iter().zip(&gradients(&short)) {
                let largest = want.fold(0.0_f64, |largest, x| largest.max(x.abs()));
                for ((row, bin), x) in got.indexed_iter() {
                    let (x, want) = (x * copies as f64, want[[row, bin % bins]]);
                    let what = format!("{divergence}, {kind}, row {row}, bin {bin}");
                    assert!((x - want).abs() <= 1e-10 * largest, "{what}: {x:e}, not {want:e}");
                }
            }
        }
    }
}

/// The same in f32, from probabilities and from logits, some of them side by side and some not.
#[test]
fn repeated_rows_of_f32_are_summed_over() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(40, 33, 1), distributions(1, 33, 2));
    let every = q.broadcast((40, 33)).unwrap().to_owned();
    for kind in [Kind::Probs, Kind::Logits] {
        let [p, q, every] = [&p, &q, &every].map(|side| of_kind::<f32>(kind, side, 1.0));
        for divergence in [Divergence::Kl, Divergence::ReverseKl, Divergence::Hellinger] {
            let gradient = |p: &Array2<f32>, q: &Array2<f32>| {
                let batch = Batch::of(kind, p, kind, q).unwrap();
                Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap()
            };
            let pairs = [(gradient(&p, &q).q, gradient(&p, &every).q), {
                (gradient(&q, &p).p, gradient(&every, &p).p)
            }];
            for (once, each) in pairs {
                let each = each.unwrap().mapv(f64::from);
                let size = each.mapv(f64::abs).sum_axis(Axis(0));
                let sums = each.sum_axis(Axis(0));
                for ((&got, want), size) in once.unwrap().iter().zip(sums).zip(size) {
                    let near = (f64::from(got) - want).abs() <= 1e-6 * size;
                    assert!(near, "{divergence}, {kind}: {got:e}, not {want:e}");
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut all = Vec::new();
            for (rows, bins) in [(300, 100), (9, 33_000), (3, 140_000)] {
                let (p, q): (Array2<f32>, Array2<f32>) =
                    (distributions(rows, bins, 1), distributions(1, bins, 2));
                for divergence in [Divergence::Kl, Divergence::JensenShannon(0.5)] {
                    let batch = Batch::probs(&p, &q).unwrap();
                    let made = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None);
                    let made = made.unwrap();
                    all.extend([made.p.unwrap(), made.q.unwrap()]);
                }
            }
            all
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn a_place_of_any_stride_is_written_to() {
    engines().iter().for_each(places_of_any_stride_are_written_to);
}

fn places_of_any_stride_are_written_to(engine: &Engine) {
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(6, 30, 1), distributions(6, 30, 2));
    let batch = Batch::probs(&p, &q).unwrap();
    let want = engine.gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
    let mut transposed = Array2::from_elem((30, 6), 9.0);
    let mut every_other = Array2::from_elem((12, 30), 9.0);
    let (p_place, q_place) = (transposed.view_mut().reversed_axes(), {
        every_other.slice_axis_mut(Axis(0), Slice::new(0, None, 2))
    });
    let outcome =
        engine.gradient_into(Divergence::Kl, &batch, None, Some(p_place), Some(q_place)).unwrap();
    assert_eq!(outcome, want.outcome);
    assert_eq!(transposed.view().reversed_axes(), want.p.unwrap());
    assert_eq!(every_other.slice_axis(Axis(0), Slice::new(0, None, 2)), want.q.unwrap());
    assert!(every_other.slice_axis(Axis(0), Slice::new(1, None, 2)).iter().all(|&x| x == 9.0));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_computed() {
    let (p, q) = (array![[0.5_f32, f32::NAN], [0.5, 0.5]], array![[0.5_f32, 0.5]]);
    let batch = Batch::probs(&p, &q).unwrap();
    let engine = Engine::cpu();
    let of = |weights: Array1<f32>| {
        engine.gradient(Divergence::Kl, &batch, Wanted::Q, Some(weights.view())).unwrap_err()
    };
    assert_eq!(of(array![1.0]).to_string(), "there are 1 weights for 2 rows");
    let error = of(array![1.0, f32::INFINITY]).to_string();
    assert_eq!(error, "the weight of row 1 is inf: a weight is a finite number");
    let mut place = Array2::zeros((2, 2));
    let place = Some(place.view_mut());
    let error = engine.gradient_into(Divergence::Kl, &batch, None, None, place).unwrap_err();
    assert_eq!(error.to_string(), "the gradient in Q is 1 × 2, and its place 2 × 2");
    let given = batch.with_mass(Mass::AsGiven);
    let error = engine.gradient(Divergence::Renyi(0.5), &given, Wanted::Q, None).unwrap_err();
    assert!(matches!(error, Error::Policy { .. }), "{error}");
}

#[test]
fn no_rows_have_an_empty_gradient() {
    let (p, q) = (Array2::<f32>::zeros((0, 3)), array![[0.5_f32, 0.25, 0.25]]);
    let batch = Batch::probs(&p, &q).unwrap();
    let made = Engine::cpu().gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
    assert_eq!(made.p.unwrap().dim(), (0, 3));
    assert_eq!(made.q.unwrap(), array![[0.0, 0.0, 0.0]]);
}

#[test]
fn values_are_those_of_rows() {
    let [p, q] = sides(40);
    for mass in [Mass::Normalize, Mass::AsGiven, Mass::Generalized] {
        let batch = Batch::probs(&p, &q).unwrap().with_mass(mass).with_masses();
        for divergence in all_divergences() {
            let Ok(rows) = Engine::cpu().rows(divergence, &batch) else { continue };
            let made = Engine::cpu().gradient(divergence, &batch, Wanted::P, None).unwrap();
            assert_eq!(made.outcome.statuses, rows.statuses, "{divergence}");
            assert!(made.q.is_none());
            for (got, want) in made.outcome.values.iter().zip(&rows.values) {
                assert!(close(*got, *want, 1e-13), "{divergence}, {mass}");
            }
        }
    }
}

/// Rows that a GPU leaves to the CPU among others, and whole batches of them.
#[test]
fn what_a_gpu_does_not_take_the_cpu_does() {
    let bins = 40;
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(9, bins, 1), distributions(9, bins, 2));
    let (mut p, mut q) = (p.mapv(|x| x as f32), q.mapv(|x| x as f32));
    q.row_mut(1).assign(&p.row(1));
    (p[[2, 3]], q[[3, 4]], q[[4, 5]], p[[5, 6]]) = (0.0, 0.0, 1e-35, f32::NAN);
    (p[[6, 7]], q[[6, 7]]) = (0.0, 0.0);
    // Nearly all bins at the kink of `tv`.
    q.row_mut(7).assign(&p.row(7));
    (q[[7, 0]], q[[7, 1]]) = (p[[7, 1]], p[[7, 0]]);
    let batch = Batch::probs(&p, &q).unwrap();
    let batch = batch.with_mass(Mass::Normalize).with_on_invalid(OnInvalid::Nan).with_masses();
    let weights = array![1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -2.0, 0.5, 0.0];
    let weights = Some(weights.view());
    for (engine, divergence) in of_all(engines()).filter(|(engine, _)| engine.backend() == "gpu") {
        let want = Engine::cpu().gradient(divergence, &batch, Wanted::Both, weights).unwrap();
        let got = engine.gradient(divergence, &batch, Wanted::Both, weights).unwrap();
        assert_eq!(got.outcome.statuses, want.outcome.statuses, "{divergence}");
        for (&got, &want) in got.outcome.values.iter().zip(&want.outcome.values) {
            let same = got == want || got.is_nan() && want.is_nan();
            let close = close(got.into(), want.into(), 3e-6);
            assert!(same || close, "{divergence}: {got:e}, not {want:e}");
        }
        assert_eq!(got.outcome.masses.is_some(), want.outcome.masses.is_some());
        for (got, want) in [(got.p, want.p), (got.q, want.q)] {
            let (got, want) = (got.unwrap(), want.unwrap());
            for (row, (got, want)) in got.rows().into_iter().zip(want.rows()).enumerate() {
                let wide = |row: ArrayView1<'_, f32>| row.mapv(f64::from).to_vec();
                let (got, want) = (wide(got), wide(want));
                let same = got.iter().zip(&want).all(|(got, want)| got.is_nan() == want.is_nan());
                assert!(same, "{divergence}, row {row}");
                let off = match want.iter().any(|x| x.is_nan()) {
                    true => 0.0,
                    false => error(&got, &want, ROUNDING[1], |_| false),
                };
                assert!(off <= 1e-5, "{divergence}, row {row}: off by {off:e}");
            }
        }
        assert!(got.outcome.closer_looks >= 3, "{} of {divergence}", got.outcome.closer_looks);
    }
}

/// The largest number is next to that of the other side, and what is alike of thousands of others is rounded alike,
/// which has to come to nothing there.
#[test]
fn what_rounding_takes_from_all_that_is_alike_is_no_derivative() {
    for (bins, top, by) in [(1_000, 9.0, 4e-4), (4_000, 12.7, 0.045), (20_000, 11.0, 0.002)] {
        let p = Array2::from_shape_fn((8, bins), |(_, bin)| if bin == 7 { top } else { 0.0_f32 });
        let mut q = Array2::from_shape_fn((8, bins), |(row, bin)| {
            p[[row, bin]] + by * ((((bin + 1) * (377 + 2 * row)) % 1013) as f32 / 1012.0 - 0.5)
        });
        q.column_mut(7).fill(top);
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        let (batch, wide) =
            (Batch::logits(&p, &q).unwrap(), Batch::logits(&wide_p, &wide_q).unwrap());
        for name in ["kl", "js", "chi2", "hellinger", "renyi:0.7"] {
            let divergence: Divergence = name.parse().unwrap();
            // A weight is in all derivatives alike, and in what the largest is held against.
            let (weights, wide_weights) =
                (Array1::from_elem(8, 0.125_f32), Array1::from_elem(8, 0.125));
            let weights = Some(weights.view());
            let wide_weights = Some(wide_weights.view());
            let want = Engine::cpu().gradient(divergence, &wide, Wanted::Both, wide_weights);
            let want = want.unwrap();
            for engine in engines() {
                let got = engine.gradient(divergence, &batch, Wanted::Both, weights).unwrap();
                let sides = [(got.p, &want.p), (got.q, &want.q)];
                for (got, want) in sides.map(|(got, want)| (got.unwrap(), want.as_ref().unwrap())) {
                    for (row, (got, want)) in got.outer_iter().zip(want.outer_iter()).enumerate() {
                        let got: Vec<f64> = got.iter().map(|x| f64::from(*x)).collect();
                        let off = error(&got, &want.to_vec(), 0.0, |_| false);
                        let backend = engine.backend();
                        assert!(off < 1e-5, "{backend}, {name}, {bins}, row {row}: off by {off:e}");
                    }
                }
            }
        }
    }
}

/// The bits that the two backends give the derivatives of usual rows differ, or one did not compute them.
#[test]
fn a_gpu_computes_them_by_itself() {
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(6, 30, 1), distributions(6, 30, 2));
    let batch = Batch::probs(&p, &q).unwrap();
    for engine in engines().iter().filter(|engine| engine.backend() == "gpu") {
        for (wanted, divergence) in
            [(Wanted::Q, Divergence::Kl), (Wanted::P, Divergence::JensenShannon(0.5))]
        {
            let made = engine.gradient(divergence, &batch, wanted, None).unwrap();
            assert_eq!((made.outcome.backend, made.outcome.closer_looks), ("gpu", 0));
            assert_eq!(
                (made.p.is_some(), made.q.is_some()),
                (wanted == Wanted::P, wanted == Wanted::Q)
            );
            let cpu = Engine::cpu().gradient(divergence, &batch, wanted, None).unwrap();
            assert!(made.p != cpu.p || made.q != cpu.q, "{divergence}");
        }
    }
}

/// One side alone has the bits that it has beside the other, and none is asked for nothing.
#[test]
fn what_is_not_wanted_makes_no_difference() {
    let [p, q] = sides(77);
    for &kind in Kind::ALL {
        let (p, q) = (of_kind::<f32>(kind, &p, 1.0), of_kind::<f32>(kind, &q, 1.0));
        let batch = Batch::of(kind, &p, kind, &q).unwrap();
        for divergence in all_divergences() {
            let of = |wanted| Engine::cpu().gradient(divergence, &batch, wanted, None).unwrap();
            let bits = |side: Option<Array2<f32>>| side.unwrap().mapv(f32::to_bits);
            let (both, of_p, of_q) = (of(Wanted::Both), of(Wanted::P), of(Wanted::Q));
            assert_eq!(bits(of_p.p), bits(both.p), "{divergence}, {kind}");
            assert_eq!(bits(of_q.q), bits(both.q), "{divergence}, {kind}");
            let none = Engine::cpu().gradient_into(divergence, &batch, None, None, None).unwrap();
            assert_eq!(none.values.mapv(f32::to_bits), both.outcome.values.mapv(f32::to_bits));
        }
    }
}

/// The slopes of `tv` jump where p = q: that is not for rounding to decide.
#[test]
fn kinks_are_kinks_whatever_the_masses() {
    let mut p = Array2::from_elem((1, 32), 1e-3_f32);
    (p[[0, 0]], p[[0, 1]], p[[0, 16]], p[[0, 2]]) = (0.5, 0.25, 0.1, 0.05);
    let mut q = p.clone();
    q.swap([0, 0], [0, 1]);
    q.swap([0, 16], [0, 2]);
    let counts = [array![[6.0_f32, 44.0, 10.0]], array![[5.0_f32, 10.0, 35.0]]];
    for [p, q] in [&[p, q], &counts] {
        let batch = Batch::probs(p, q).unwrap().with_mass(Mass::Normalize);
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        let wide = Batch::probs(&wide_p, &wide_q).unwrap().with_mass(Mass::Normalize);
        for engine in engines() {
            let of_tv = Divergence::TotalVariation;
            let got = engine.gradient(of_tv, &batch, Wanted::P, None).unwrap().p.unwrap();
            let want = Engine::cpu().gradient(of_tv, &wide, Wanted::P, None).unwrap().p.unwrap();
            let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
            assert!(error(&got, &want.into_raw_vec_and_offset().0, 0.0, |_| false) < 1e-5);
        }
    }
}

/// Masses that balance what the rows differ by leave little of the value, with its digits.
#[test]
fn values_beside_gradients_have_their_digits_where_masses_balance() {
    let (p, q) = (array![[0.6_f64, 0.3]], array![[0.3, 1.25]]);
    let want = 0.6 * 2.0_f64.ln() + 0.3 * 0.24_f64.ln();
    for (divergence, p, q) in [(Divergence::Kl, &p, &q), (Divergence::ReverseKl, &q, &p)] {
        let batch = Batch::probs(p, q).unwrap().with_mass(Mass::AsGiven);
        let made = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap();
        let got = made.outcome.values[0];
        assert!(close(got, want, 1e-13), "{divergence}: {got:e}, not {want:e}");
    }
}

/// A probability that is too small for a number is one all the same.
#[test]
fn probabilities_too_small_for_a_number_have_their_slopes() {
    let none = f64::NEG_INFINITY;
    let logits = array![[0.0, -1000.0]];
    let slope = |divergence, kinds: [Kind; 2], p: &Array2<f64>, q: &Array2<f64>, wanted| {
        let batch = Batch::of(kinds[0], p, kinds[1], q).unwrap().with_mass(Mass::Normalize);
        let got = Engine::cpu().gradient(divergence, &batch, wanted, None).unwrap();
        if wanted == Wanted::P { got.p.unwrap()[[0, 1]] } else { got.q.unwrap()[[0, 1]] }
    };
    let both = [Kind::Logits; 2];
    let of = slope(Divergence::Entropy, both, &logits, &array![[0.0, none]], Wanted::P);
    assert_eq!(of, 0.0);
    let mixed = [Kind::Probs, Kind::Logits];
    let certain = array![[1.0, 0.0]];
    let of = slope(Divergence::CrossEntropy, mixed, &certain, &logits, Wanted::P);
    assert!((of - 1000.0).abs() < 1e-9, "{of}");
    let of = slope(Divergence::Renyi(f64::INFINITY), mixed, &certain, &logits, Wanted::P);
    assert_eq!(of, 0.0);
    for divergence in [Divergence::Renyi(0.0), Divergence::Tsallis(0.0)] {
        let of = slope(divergence, [Kind::Logits, Kind::Probs], &logits, &certain, Wanted::Q);
        assert_eq!(of, 0.0, "{divergence}");
    }
    // −(ln p + H) by the mass, of a number that has no digits left once it is divided by the mass.
    let (given, mass): (_, f64) = (array![[1000.0, 1e-321, 2.0]], 1002.0);
    let half = array![[0.5, 0.0, 0.5]];
    let of = slope(Divergence::Entropy, [Kind::Probs; 2], &given, &half, Wanted::P);
    let entropy = mass.ln() - (1000.0 * 1000.0_f64.ln() + 2.0 * 2.0_f64.ln()) / mass;
    let want = (mass.ln() - 1e-321_f64.ln() - entropy) / mass;
    assert!(close(of, want, 1e-13), "{of:e}, not {want:e}");
}

/// Where P = Q distances have no slope, in a bin without mass on both sides neither.
#[test]
fn bins_without_mass_have_no_slope_where_rows_are_equal() {
    let p = array![[0.5_f64, 0.5, 0.0]];
    let batch = Batch::probs(&p, &p).unwrap();
    for divergence in [Divergence::Renyi(f64::INFINITY), Divergence::JsDistance] {
        let gradient = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap();
        assert!(gradient.p.unwrap().iter().all(|&x| x == 0.0), "{divergence}");
        assert!(gradient.q.unwrap().iter().all(|&x| x == 0.0), "{divergence}");
    }
}

/// Sides of two kinds, in f32 and in f64.
#[test]
fn mixed_kinds_of_f32_are_as_good_as_of_f64() {
    // The second pair has numbers of all sizes.
    let wide = |bin: usize| (-60.0 * (bin * 7 % 12) as f64 / 11.0).exp();
    let near = |bin: usize| wide(bin) * (0.9 * (bin * 5 % 12) as f64 / 11.0 - 0.45).exp();
    let of = |weight: &dyn Fn(usize) -> f64| {
        let mass: f64 = (0..12).map(weight).sum();
        Array2::from_shape_fn((1, 12), |(_, bin)| weight(bin) / mass)
    };
    for [p, q] in [sides(100), [of(&near), of(&wide)]] {
        check_mixed_kinds(&p, &q);
    }
}

fn check_mixed_kinds(p: &Array2<f64>, q: &Array2<f64>) {
    for (p_kind, q_kind) in Kind::ALL
        .iter()
        .flat_map(|&p| Kind::ALL.iter().map(move |&q| (p, q)))
        .filter(|(p, q)| p != q)
    {
        let (p, q) = (of_kind::<f32>(p_kind, p, 1.0), of_kind::<f32>(q_kind, q, 1.0));
        let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
        for (engine, divergence) in of_all(engines()) {
            let batch = Batch::of(p_kind, &p, q_kind, &q).unwrap();
            let made = engine.gradient(divergence, &batch, Wanted::Both, None).unwrap();
            let batch = Batch::of(p_kind, &wide_p, q_kind, &wide_q).unwrap();
            let wide = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap();
            for (got, want) in [(made.p, wide.p), (made.q, wide.q)] {
                let (got, want) = (got.unwrap(), want.unwrap());
                for (got, want) in got.rows().into_iter().zip(want.rows()) {
                    let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
                    if want.iter().any(|x| x.is_nan()) {
                        assert!(got.iter().all(|x| x.is_nan()));
                        continue;
                    }
                    let off = error(&got, &want.to_vec(), ROUNDING[1], |_| false);
                    let what = format!("{}: {divergence}, {p_kind}, {q_kind}", engine.backend());
                    assert!(off < 1e-5, "{what}: off by {off:e} of the largest");
                }
            }
        }
    }
}

/// Those whose gradients have f32 forms on the CPU.
const IN_F32: &[Divergence] = &[
    Divergence::Kl,
    Divergence::ReverseKl,
    Divergence::JensenShannon(0.5),
    Divergence::JsDistance,
    Divergence::Jeffreys,
    Divergence::Hellinger,
    Divergence::Bhattacharyya,
    Divergence::Renyi(0.5),
    Divergence::Renyi(2.0),
    Divergence::Tsallis(2.0),
    Divergence::Alpha(0.5),
    Divergence::Alpha(2.0),
    Divergence::ChiSquared,
    Divergence::TotalVariation,
    Divergence::JensenShannon(0.3),
    Divergence::Renyi(0.7),
    Divergence::Renyi(0.2),
    Divergence::Tsallis(1.5),
    Divergence::Alpha(-2.0),
];

/// Rows of which fewer bins have most of the mass.
fn steeper(rows: &Array2<f64>, power: i32) -> Array2<f64> {
    let mut rows = rows.mapv(|x| x.powi(power));
    for mut row in rows.rows_mut() {
        let mass = row.sum();
        row.mapv_inplace(|x| x / mass);
    }
    rows
}

/// Rows in f32 near each other, far off, and with next to no bin in common, against the same numbers in f64.
#[test]
fn f32_is_as_good_as_f64_beside_the_largest() {
    let mut worst = 0.0_f64;
    for bins in [1, 5, 16, 100, 1_000, 2_049, 9_000] {
        let flat: Array2<f64> = distributions(3, bins, 41);
        let far = f64::INFINITY;
        let steep = [(4, far), (12, far), (12, 1.0)];
        let apart = [far, 1.0, 1e-1, 1e-2, 1e-4, 1e-6].map(|apart| (1, apart));
        for (power, apart) in steep.into_iter().chain(apart) {
            let probs = steeper(&flat, power);
            let others: Array2<f64> = match apart.is_finite() {
                true => nearby(&probs, apart, 42),
                false => steeper(&distributions(3, bins, 42), power),
            };
            for [p_kind, q_kind] in [
                [Kind::Probs; 2],
                [Kind::LogProbs; 2],
                [Kind::Logits; 2],
                [Kind::Probs, Kind::Logits],
                [Kind::Logits, Kind::Probs],
            ] {
                let mut p = of_kind::<f32>(p_kind, &probs, 1.0);
                let q = of_kind::<f32>(q_kind, &others, 1.0);
                if p_kind == Kind::Logits {
                    // Shifted, peaked and masked.
                    p.row_mut(0).mapv_inplace(|x| x + 100.0);
                    p[[1, bins / 2]] += 20.0;
                    p[[2, 0]] = if bins > 1 { f32::NEG_INFINITY } else { 0.0 };
                }
                let (wide_p, wide_q) = (p.mapv(f64::from), q.mapv(f64::from));
                let few = &[Divergence::Kl, Divergence::ReverseKl][..];
                let asked = |at| if at == 0 { IN_F32 } else { few };
                for (engine, divergence) in engines().iter().enumerate().flat_map(|(at, engine)| {
                    asked(at).iter().map(move |&divergence| (engine, divergence))
                }) {
                    // Some numbers of the steepest are beyond f32.
                    let batch = Batch::of(p_kind, &p, q_kind, &q).unwrap();
                    let batch = batch.with_on_invalid(OnInvalid::Nan);
                    let made = engine.gradient(divergence, &batch, Wanted::Both, None);
                    let batch = Batch::of(p_kind, &wide_p, q_kind, &wide_q).unwrap();
                    let wide = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None);
                    let (made, wide) = (made.unwrap(), wide.unwrap());
                    let is_beyond = |x: f64| x.abs() > f64::from(f32::MAX);
                    for (got, want) in [(made.p, &wide.p), (made.q, &wide.q)] {
                        let (got, want) = (got.unwrap(), want.as_ref().unwrap());
                        let rows = got.rows().into_iter().zip(want.rows()).enumerate();
                        for (row, (got, want)) in rows {
                            if want.iter().all(|x| x.is_nan()) {
                                assert!(got.iter().all(|x| x.is_nan()));
                                continue;
                            }
                            let value = wide.outcome.values[row];
                            if is_beyond(value) || want.iter().any(|&x| is_beyond(x)) {
                                continue;
                            }
                            let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
                            let off = error(&got, &want.to_vec(), ROUNDING[1], |_| false);
                            let what = format!("{divergence}, {bins} {p_kind} {q_kind}, {apart:e}");
                            let what = format!("{what}, to the power {power}, row {row}");
                            let by = engine.backend();
                            assert!(off < 1e-5, "{by}: {what}: off by {off:e} of the largest");
                            worst = worst.max(off);
                        }
                    }
                }
            }
        }
    }
    println!("the worst is off by {worst:e} of the largest");
}
