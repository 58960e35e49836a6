//! Divergences other than Kullback-Leibler: special values, symmetry, and what holds between them.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use half::{bf16, f16};
use kullback::{
    Batch, Divergence, Element, Engine, Error, Kind, Mass, OnInvalid, Outcome, Pairs, Rule, Side,
    Status, reference,
};
use ndarray::{Array2, ArrayView2, Axis, array};

use crate::compare::{assert_close, close};
use crate::data::{distributions, nearby};
use crate::engines::{engines, f64_engines, roomy_engines};
use crate::kinds::values;
use serde::Deserialize;

/// Parameters at, next to and between the limits, beside one of each.
const MORE: &[Divergence] = &[
    Divergence::JensenShannon(0.3),
    Divergence::Renyi(0.0),
    Divergence::Renyi(0.25),
    Divergence::Renyi(0.999),
    Divergence::Renyi(1.0),
    Divergence::Renyi(1.5),
    Divergence::Renyi(3.0),
    Divergence::Renyi(f64::INFINITY),
    Divergence::Tsallis(0.0),
    Divergence::Tsallis(0.5),
    Divergence::Tsallis(1.0),
    Divergence::Alpha(-1.0),
    Divergence::Alpha(0.0),
    Divergence::Alpha(0.3),
    Divergence::Alpha(1.0),
    Divergence::Alpha(1.000_01),
    Divergence::Alpha(2.5),
];

pub fn all_divergences() -> impl Iterator<Item = Divergence> {
    Divergence::ALL.iter().chain(MORE).copied()
}

/// The value of one row, and its status.
fn value<T: Element>(engine: &Engine, divergence: Divergence, p: &[T], q: &[T]) -> (f64, Status) {
    let side = |side| ArrayView2::from_shape((1, p.len()), side).unwrap();
    let batch = Batch::probs(side(p), side(q)).unwrap();
    let outcome = engine.rows(divergence, &batch).unwrap();
    (outcome.values[0].to_f64(), outcome.statuses[0])
}

/// A side of a kind from probabilities: logits are shifted, and cooled by the temperature.
pub fn of_kind<T: Element>(kind: Kind, probs: &Array2<f64>, temperature: f64) -> Array2<T> {
    probs.mapv(|p| {
        T::from_f64(match kind {
            Kind::Probs => p,
            Kind::LogProbs => p.ln(),
            Kind::Logits => temperature * p.ln() + 5.0,
        })
    })
}

/// Rows of two levels, of which all bins round alike: those next to the least distance that f32 takes.
#[test]
fn logits_of_two_levels_have_their_digits() {
    let one = |first: f32, second: f32, others: usize| {
        Array2::from_shape_fn((1, others + 1), |(_, bin)| if bin == 0 { first } else { second })
    };
    let nine = [one(0.558_078_94, -1.348_449_8, 8), one(0.631_307_7, -1.396_56, 8)];
    let two = [one(-0.760_419_67, -1.291_521_2, 1), one(-0.841_364_84, -1.243_186_7, 1)];
    for engine in engines() {
        for [p, q] in [&nine, &two] {
            let wide = [p, q].map(|side| side.mapv(f64::from));
            for divergence in all_divergences() {
                let of_wide = Batch::logits(&wide[0], &wide[1]).unwrap();
                let want = Engine::cpu().rows(divergence, &of_wide).unwrap().values[0];
                let got = engine.rows(divergence, &Batch::logits(p, q).unwrap()).unwrap();
                let got = got.values[0].into();
                assert!(close(got, want, 3e-6), "{engine:?}: {divergence} {got} for {want}");
            }
        }
    }
}

/// What overflows on the way is no 0, and what is beside a mass that is out of range no nothing.
#[test]
fn orders_and_masses_at_the_ends_of_the_range() {
    let (p, q) = (array![[0.5, 0.5]], array![[1e-9, 1.0 - 1e-9]]);
    let largest = (0.5_f64 / 1e-9).ln();
    let wide = array![[1e200, 1e-30]];
    let same = array![[0.25, 0.75]];
    for engine in f64_engines() {
        let of = |divergence, p: &Array2<f64>, q: &Array2<f64>, mass| {
            let batch = Batch::probs(p, q).unwrap().with_mass(mass);
            engine.rows(divergence, &batch).unwrap().values[0]
        };
        for order in [1e20, 1e99, 1e101, 1e307, f64::MAX] {
            let got = of(Divergence::Renyi(order), &p, &q, Mass::Check);
            assert!(close(got, largest, 1e-13), "{engine:?}: {got} of order {order:e}");
        }
        for divergence in [Divergence::Tsallis(1e40), Divergence::Alpha(1e40)] {
            assert_eq!(of(divergence, &same, &same, Mass::Check), 0.0, "{engine:?}: {divergence}");
        }
        // P is next to all in its first bin.
        let got = of(Divergence::Jeffreys, &wide, &p, Mass::Normalize);
        let want = 0.5 * (1e200_f64.ln() - 1e-30_f64.ln());
        assert!(close(got, want, 1e-13), "{engine:?}: {got} for {want}");
    }
}

fn check_against_reference<T: Element>(engine: &Engine) {
    for bins in [1, 2, 5, 16, 33, 257, 1_000] {
        let mut p: Array2<f64> = distributions(3, bins, 1);
        let mut q: Array2<f64> = distributions(3, bins, 2);
        q.row_mut(1).assign(&nearby(&p, 1e-1, 3).row(1));
        if bins > 4 {
            // Bins of one side alone, and of none.
            let (p_mass, q_mass) = (1.0 - p[[2, 0]] - p[[2, 1]], 1.0 - q[[2, 1]] - q[[2, 3]]);
            (p[[2, 0]], p[[2, 1]], q[[2, 1]], q[[2, 3]]) = (0.0, 0.0, 0.0, 0.0);
            p.row_mut(2).mapv_inplace(|x| x / p_mass);
            q.row_mut(2).mapv_inplace(|x| x / q_mass);
        }
        for &p_kind in Kind::ALL {
            for &q_kind in Kind::ALL {
                let logits = [p_kind, q_kind].contains(&Kind::Logits);
                let temperature = if logits { 1.5 } else { 1.0 };
                let (p, q) =
                    (of_kind::<T>(p_kind, &p, temperature), of_kind(q_kind, &q, temperature));
                let batch = Batch::of(p_kind, &p, q_kind, &q).unwrap();
                let batch = batch.with_temperature(temperature).unwrap();
                let batch = batch.with_mass_tolerance(5e-2).unwrap();
                for divergence in all_divergences() {
                    let outcome = engine.rows(divergence, &batch).unwrap();
                    let checked = engine.cross_check(divergence, &batch, &outcome, 3);
                    let what = format!("{engine}, {}, {bins} bins, {p_kind}, {q_kind}", T::NAME);
                    assert_eq!(checked.map(|check| check.compared), Ok(3), "{divergence}, {what}");
                }
            }
        }
    }
}

#[test]
fn all_agree_with_the_reference() {
    engines().iter().for_each(check_against_reference::<f32>);
    f64_engines().for_each(check_against_reference::<f64>);
    // Only how they are loaded is another thing, whatever the limits.
    for engine in engines().iter().take(2) {
        check_against_reference::<f16>(engine);
        check_against_reference::<bf16>(engine);
    }
}

/// Rows of several segments, also of one against many, and more divergences than go into a pass.
#[test]
fn long_rows_agree_with_the_reference() {
    let divergences: Vec<_> = all_divergences().collect();
    for engine in roomy_engines() {
        for (bins, rows) in [(1_025, 3), (5_001, 3), (70_000, 1), (140_003, 1)] {
            let mut p: Array2<f32> = distributions(1, bins, 31);
            let mut q: Array2<f32> = distributions(rows, bins, 32);
            // Bins of one side alone all over the first row.
            (0..bins).step_by(11).for_each(|bin| p[[0, bin]] = 0.0);
            (3..bins).step_by(7).for_each(|bin| q[[0, bin]] = 0.0);
            for kind in [Kind::Probs, Kind::Logits] {
                let side = |side: &Array2<f32>| match kind {
                    Kind::Probs => side.clone(),
                    _ => side.mapv(|x| 1.3 * x.ln()),
                };
                let (p, q) = (side(&p), side(&q));
                let mut batch = Batch::of(kind, &p, kind, &q).unwrap().with_mass(Mass::Normalize);
                if kind == Kind::Logits {
                    batch = batch.with_temperature(1.3).unwrap();
                }
                let outcomes = engine.several(&divergences, &batch).unwrap();
                for (&divergence, outcome) in divergences.iter().zip(&outcomes) {
                    let checked = engine.cross_check(divergence, &batch, outcome, rows);
                    let what = format!("{engine}, {divergence}, {bins} bins, {kind}");
                    assert_eq!(checked.map(|check| check.compared), Ok(rows), "{what}");
                    assert_eq!(outcome.closer_looks, 0, "{what}");
                }
            }
        }
    }
}

/// Rows from far apart to 1e-3 apart, one of them with a bin that Q lacks, of such kinds.
fn ordinary<T: Element>(kinds: [Kind; 2], bins: usize, temperature: f64) -> [Array2<T>; 2] {
    let p: Array2<f64> = distributions(8, bins, 41);
    let mut q: Array2<f64> = distributions(8, bins, 42);
    for (row, epsilon) in [1.0, 1e-1, 1e-2, 1e-3].into_iter().enumerate() {
        q.row_mut(row).assign(&nearby(&p, epsilon, 43).row(row));
    }
    q[[6, 3]] = 0.0;
    [of_kind(kinds[0], &p, temperature), of_kind(kinds[1], &q, temperature)]
}

/// What a device has the digits for is not computed on the host, and is what the CPU has, up to some: thrice
/// that between kinds, where logarithms are made of one side's numbers.
fn check_ordinary<T: Element>(engine: &Engine, allowed: f64) {
    let divergences: Vec<_> = all_divergences().collect();
    for (bins, temperature) in [(17, 1.0), (257, 1.3), (1_000, 1.0)] {
        for kinds in Kind::ALL.iter().flat_map(|&p| Kind::ALL.iter().map(move |&q| [p, q])) {
            let [p, q] = ordinary::<T>(kinds, bins, temperature);
            let mut batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
            if kinds.contains(&Kind::Logits) {
                batch = batch.with_temperature(temperature).unwrap();
            }
            let batch = batch.with_mass(Mass::Normalize);
            let mixed = kinds.contains(&Kind::Probs) && kinds != [Kind::Probs; 2];
            let allowed = if mixed { 3.0 * allowed } else { allowed };
            let outcomes = engine.several(&divergences, &batch).unwrap();
            let on_cpu = Engine::cpu().several(&divergences, &batch).unwrap();
            for ((divergence, outcome), want) in divergences.iter().zip(&outcomes).zip(&on_cpu) {
                let what = format!("{engine}, {}, {divergence}, {bins} bins, {kinds:?}", T::NAME);
                assert_eq!(outcome.closer_looks, 0, "{what}");
                engine.cross_check(*divergence, &batch, outcome, 8).expect(&what);
                let [got, want] = [outcome, want].map(|outcome| {
                    outcome.values.iter().map(|value| value.to_f64()).collect::<Vec<_>>()
                });
                assert_close(&got, &want, allowed, &what);
            }
        }
    }
}

#[test]
fn ordinary_rows_take_no_closer_look() {
    roomy_engines().iter().for_each(|engine| check_ordinary::<f32>(engine, 2.0 * PROMISED));
}

#[test]
fn ordinary_rows_of_f64_take_no_closer_look() {
    f64_engines().take(2).for_each(|engine| check_ordinary::<f64>(engine, 1e-12));
}

/// Masses that are divided by nothing, or that count.
#[test]
fn ordinary_rows_of_f64_under_every_mass_policy() {
    for kinds in Kind::ALL.iter().flat_map(|&p| Kind::ALL.iter().map(move |&q| [p, q])) {
        let [p, q] = ordinary::<f64>(kinds, 33, 1.0);
        let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap();
        for &mass in Mass::ALL {
            let batch = batch.with_mass(mass).with_mass_tolerance(0.5).unwrap();
            for divergence in all_divergences() {
                let values = |engine: &Engine| {
                    let outcome = engine.rows(divergence, &batch).ok()?;
                    Some((outcome.values.to_vec(), outcome.statuses))
                };
                let want = values(&Engine::cpu());
                for engine in f64_engines() {
                    let what = format!("{engine}, {divergence}, {mass}, {kinds:?}");
                    let got = values(engine);
                    assert_eq!(got.is_some(), want.is_some(), "{what}");
                    let (Some((got, statuses)), Some((want, due))) = (got, &want) else { continue };
                    assert_eq!(statuses, *due, "{what}");
                    for (&got, &want) in got.iter().zip(want) {
                        // The difference of two masses has a rounding error of theirs.
                        let near = got == want || (got - want).abs() <= 1e-12 * want.abs() + 1e-16;
                        assert!(near, "{what}: {got:e}, not {want:e}");
                    }
                }
            }
        }
    }
}

/// Whatever is beside it, and whatever else is asked of it.
#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    fn check<T: Element>(engine: &Engine) {
        let divergences: Vec<_> = all_divergences().collect();
        let bits = |batch: &Batch<'_, T>, of: &[Divergence]| -> Vec<Vec<u64>> {
            let outcomes = engine.several(of, batch).unwrap();
            let values = |outcome: &Outcome<T::Value>| {
                outcome.values.iter().map(|value| value.to_f64().to_bits()).collect()
            };
            outcomes.iter().map(values).collect()
        };
        for kinds in [[Kind::Probs; 2], [Kind::Logits; 2], [Kind::LogProbs, Kind::Probs]] {
            let [p, q] = ordinary::<T>(kinds, 71, 1.0);
            let batch = Batch::of(kinds[0], &p, kinds[1], &q).unwrap().with_mass(Mass::Normalize);
            let all = bits(&batch, &divergences);
            for row in [0, 3, 5, 7] {
                let alone = bits(&batch.slice(row..row + 1), &divergences);
                for (place, divergence) in divergences.iter().enumerate() {
                    let what = format!("{engine}, {}, {divergence}, {kinds:?}", T::NAME);
                    assert_eq!(alone[place], [all[place][row]], "{what}, row {row}");
                    if row == 5 && engine.backend() == "gpu" {
                        let one = bits(&batch, &[*divergence]);
                        assert_eq!(one[0], all[place], "{what}, by itself");
                    }
                }
            }
        }
    }
    engines().iter().for_each(check::<f32>);
    f64_engines().for_each(check::<f64>);
}

/// Counts, of which each side has as many as it likes, and logarithms with masses far from 1.
#[test]
fn masses_that_are_far_apart() {
    let p: Array2<f64> = distributions(3, 50, 51);
    let mut q: Array2<f64> = distributions(3, 50, 52);
    q.row_mut(1).assign(&nearby(&p, 1e-2, 53).row(1));
    q.row_mut(2).assign(&nearby(&p, 1e-4, 53).row(2));
    for engine in engines() {
        for kind in [Kind::Probs, Kind::LogProbs] {
            let by =
                |side: &Array2<f64>, by: f64| of_kind::<f32>(kind, &side.mapv(|x| x * by), 1.0);
            let (p, q) = (by(&p, 3e9), by(&q, 0.7e-3));
            let batch = Batch::of(kind, &p, kind, &q).unwrap().with_mass(Mass::Normalize);
            for divergence in all_divergences().filter(|&divergence| divergence != Divergence::Kl) {
                let outcome = engine.rows(divergence, &batch).unwrap();
                let checked = engine.cross_check(divergence, &batch, &outcome, 3);
                assert!(checked.is_ok(), "{engine}, {divergence}, {kind}: {checked:?}");
            }
        }
    }
}

fn check_identical<T: Element>(engine: &Engine) {
    for bins in [1, 2, 7, 16, 100, 3_000] {
        let p: Array2<f64> = distributions(2, bins, 7);
        for &kind in Kind::ALL {
            let p = of_kind::<T>(kind, &p, 1.0);
            let batch = Batch::of(kind, &p, kind, &p).unwrap();
            for divergence in all_divergences() {
                let values = engine.rows(divergence, &batch).unwrap().values;
                let values = values.mapv(|value| value.to_f64());
                if !matches!(divergence, Divergence::CrossEntropy | Divergence::Entropy) {
                    let what = format!("{engine}, {}, {divergence}, {kind}", T::NAME);
                    assert_eq!(values, array![0.0, 0.0], "{what}");
                } else if bins > 1 {
                    assert!(values.iter().all(|&value| value > 0.0), "{divergence}");
                }
            }
        }
    }
}

#[test]
fn identical_rows_are_exactly_0_apart() {
    engines().iter().for_each(check_identical::<f32>);
    f64_engines().for_each(check_identical::<f64>);
}

/// The textbook's answer.
fn of_reference(divergence: Divergence, p: &[f32], q: &[f32]) -> f64 {
    let [p, q] = [p, q].map(|side| side.iter().map(|&x| f64::from(x).ln()).collect::<Vec<_>>());
    reference::divergence(divergence, &p, &q)
}

#[test]
fn disjoint_rows_are_as_far_apart_as_can_be() {
    let (p, q) = ([0.25_f32, 0.75, 0.0, 0.0], [0.0_f32, 0.0, 0.5, 0.5]);
    let ln_2 = std::f64::consts::LN_2;
    for engine in engines() {
        for divergence in all_divergences() {
            let want = match divergence {
                Divergence::JensenShannon(0.5) => f64::from(ln_2 as f32),
                Divergence::JensenShannon(w) => -w * w.ln() - (1.0 - w) * (1.0 - w).ln(),
                Divergence::JsDistance => ln_2.sqrt(),
                Divergence::Tsallis(a) if a < 1.0 => 1.0 / (1.0 - a),
                Divergence::Alpha(a) if a > 0.0 && a < 1.0 => 1.0 / (a * (1.0 - a)),
                Divergence::Hellinger | Divergence::TotalVariation => 1.0,
                Divergence::Entropy => -(0.25 * 0.25_f64.ln() + 0.75 * 0.75_f64.ln()),
                other => of_reference(other, &p, &q),
            };
            let (got, status) = value(engine, divergence, &p, &q);
            assert!(close(got, want, 2e-7), "{engine}, {divergence}: {got:e}, not {want:e}");
            let status_due = if want.is_infinite() { Status::Infinite } else { Status::Ok };
            assert_eq!(status, status_due, "{engine}, {divergence}");
        }
        let js = value(engine, Divergence::JensenShannon(0.5), &p, &q).0;
        assert_eq!(js, f64::from(ln_2 as f32), "an ulp is nothing, but it is none");
    }
    let [p, q] = [p, q].map(|side| side.map(f64::from));
    for engine in f64_engines() {
        let (js, status) = value(engine, Divergence::JensenShannon(0.5), &p, &q);
        assert_eq!((js, status), (ln_2, Status::Ok), "{engine}");
        assert_eq!(value(engine, Divergence::Jeffreys, &p, &q).1, Status::Infinite, "{engine}");
        assert_eq!(
            value(engine, Divergence::Bhattacharyya, &p, &q).1,
            Status::Infinite,
            "{engine}"
        );
    }
}

/// Which side has bins of its own decides what is infinite.
#[test]
fn nested_supports() {
    let (inner, outer) = ([0.5_f32, 0.5, 0.0], [0.25_f32, 0.25, 0.5]);
    let infinite = |divergence: Divergence, p: &[f32], q: &[f32]| {
        value(&Engine::cpu(), divergence, p, q).1 == Status::Infinite
    };
    for divergence in all_divergences() {
        let (out, inside) = match divergence.to_string().split(':').next().unwrap() {
            // Of P in bins that Q lacks; of Q in bins that P lacks.
            "kl" | "chi2" | "cross-entropy" => (true, false),
            "reverse-kl" => (false, true),
            "jeffreys" => (true, true),
            "renyi" | "tsallis" => (divergence.parameter() >= Some(1.0), false),
            "alpha" => (divergence.parameter() >= Some(1.0), divergence.parameter() <= Some(0.0)),
            _ => {
                let is_infinite =
                    |p: &[f32], q: &[f32]| of_reference(divergence, p, q).is_infinite();
                (is_infinite(&outer, &inner), is_infinite(&inner, &outer))
            }
        };
        assert_eq!(infinite(divergence, &outer, &inner), out, "{divergence}, Q inside P");
        assert_eq!(infinite(divergence, &inner, &outer), inside, "{divergence}, P inside Q");
    }
}

fn check_symmetric<T: Element>(engine: &Engine) {
    for bins in [2, 3, 17, 300] {
        let p: Array2<f64> = distributions(40, bins, 11);
        let mut q: Array2<f64> = distributions(40, bins, 12);
        for (row, epsilon) in [1e-1, 1e-3, 1e-5, 1e-6].into_iter().enumerate() {
            q.row_mut(row).assign(&nearby(&p, epsilon, 13).row(row));
        }
        for &kind in Kind::ALL {
            let (p, q) = (of_kind::<T>(kind, &p, 1.0), of_kind::<T>(kind, &q, 1.0));
            let there = Batch::of(kind, &p, kind, &q).unwrap();
            let back = Batch::of(kind, &q, kind, &p).unwrap();
            for divergence in all_divergences().filter(|divergence| divergence.is_symmetric()) {
                let values = |batch| engine.rows(divergence, batch).unwrap().values;
                let what = format!("{engine}, {}, {divergence}, {kind}", T::NAME);
                assert_eq!(values(&there), values(&back), "{what}");
            }
        }
    }
}

#[test]
fn what_is_symmetric_is_so_in_its_bits() {
    engines().iter().for_each(check_symmetric::<f32>);
    f64_engines().for_each(check_symmetric::<f64>);
}

/// Also where the overlap is beyond the range, and where the ratio of the masses is next to that of two
/// octaves.
#[test]
fn what_is_symmetric_is_so_far_apart_and_out_of_balance() {
    let noise: Array2<f64> = distributions(200, 12, 14);
    let side = |odd: usize| {
        let low = |bin: usize| if bin % 2 == odd { -700.0 } else { 0.0 };
        Array2::from_shape_fn((200, 6), |(row, bin)| low(bin) + 3.0 * noise[[row, 6 * odd + bin]])
    };
    let (p, q) = (side(0), side(1));
    let (more, less) = (array![[1e8, 218_281_039.0]], array![[1e8, 125_058_681.0]]);
    for engine in f64_engines() {
        for divergence in all_divergences().filter(|divergence| divergence.is_symmetric()) {
            let logits = |p, q| Batch::logits(p, q).unwrap();
            let values = |batch: &Batch<'_, f64>| engine.rows(divergence, batch).unwrap().values;
            assert_eq!(values(&logits(&p, &q)), values(&logits(&q, &p)), "{engine}, {divergence}");
            let counts = |p, q| Batch::probs(p, q).unwrap().with_mass(Mass::Normalize);
            let (there, back) = (values(&counts(&more, &less)), values(&counts(&less, &more)));
            assert_eq!(there, back, "{engine}, {divergence}");
        }
    }
}

/// Where f32 has not the digits, or a submission not the room, the host has, and says so.
#[cfg(feature = "gpu")]
#[test]
fn what_a_device_lacks_the_host_has() {
    use crate::engines::gpu::{TINY, adapter};

    let looks = |engine: &Engine, divergence, p: &Array2<f32>, q: &Array2<f32>| {
        let batch = Batch::probs(p, q).unwrap();
        let outcome = engine.rows(divergence, &batch).unwrap();
        engine.cross_check(divergence, &batch, &outcome, p.nrows()).unwrap();
        outcome.closer_looks
    };
    let gpu = Engine::with_adapter(&adapter()).unwrap();
    let p: Array2<f32> = distributions(3, 300, 61);
    let q: Array2<f32> = distributions(3, 300, 62);
    assert_eq!(looks(&gpu, Divergence::Renyi(20.0), &p, &q), 3);
    assert_eq!(looks(&gpu, Divergence::Renyi(3.0), &p, &q), 0);
    let almost_one = array![[0.99_f32, 0.01], [0.5, 0.5]];
    assert_eq!(looks(&gpu, Divergence::Entropy, &almost_one, &almost_one), 1);
    let mut ulp_off = p.clone();
    ulp_off[[1, 7]] = f32::from_bits(p[[1, 7]].to_bits() ^ 1);
    assert_eq!(looks(&gpu, Divergence::Hellinger, &p, &ulp_off), 1);
    // Longer than a chunk.
    let tiny = kullback::internal::engine_under(&adapter(), TINY).unwrap();
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(3, 700, 61), distributions(3, 700, 62));
    assert_eq!(looks(&tiny, Divergence::Hellinger, &p, &q), 3);
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(3, 40, 61), distributions(3, 40, 62));
    assert_eq!(looks(&tiny, Divergence::Hellinger, &p, &q), 0);
}

/// The same of f64, which has the digits for more.
#[cfg(feature = "gpu")]
#[test]
fn what_a_device_lacks_in_f64_the_host_has() {
    let looks = |divergence, p: &Array2<f64>, q: &Array2<f64>| {
        let per_engine = f64_engines().filter(|engine| engine.adapter().is_some()).map(|engine| {
            let batch = Batch::probs(p, q).unwrap().with_mass(Mass::Normalize);
            let outcome = engine.rows(divergence, &batch).unwrap();
            let want = Engine::cpu().rows(divergence, &batch).unwrap();
            for (&got, &want) in outcome.values.iter().zip(&want.values) {
                assert!(close(got, want, 1e-12), "{engine}, {divergence}: {got} for {want}");
            }
            outcome.closer_looks
        });
        per_engine.max()
    };
    if !crate::engines::gpu::adapter().has_f64() {
        return;
    }
    let p: Array2<f64> = distributions(3, 40, 61);
    let q: Array2<f64> = distributions(3, 40, 62);
    assert_eq!(looks(Divergence::Renyi(20.0), &p, &q), Some(3));
    assert_eq!(looks(Divergence::Renyi(3.0), &p, &q), Some(0));
    assert_eq!(looks(Divergence::JensenShannon(1e-40), &p, &q), Some(3));
    let almost_one = array![[0.999_99, 1e-5], [0.999_8, 2e-4], [0.5, 0.5]];
    assert_eq!(looks(Divergence::Entropy, &almost_one, &almost_one), Some(1));
    let mut ulp_off = p.clone();
    ulp_off[[1, 7]] = f64::from_bits(p[[1, 7]].to_bits() ^ 1);
    assert_eq!(looks(Divergence::Hellinger, &p, &ulp_off), Some(1));
    // Bins, and masses, that are far from those of probabilities.
    let mut far = p.clone();
    (far[[0, 3]], far[[2, 3]]) = (1e-290, 1e60);
    assert_eq!(looks(Divergence::Jeffreys, &far, &q), Some(2));
    assert_eq!(looks(Divergence::Jeffreys, &p.mapv(|x| 1e-50 * x), &q), Some(3));
}

#[test]
fn limits_of_the_order_are_reached() {
    let (p, q) = ([0.5_f64, 0.3, 0.2], [0.2_f64, 0.3, 0.5]);
    let of = |divergence| value(&Engine::cpu(), divergence, &p, &q).0;
    let kl = of(Divergence::Kl);
    for near in [Divergence::Renyi(1.0 + 1e-9), Divergence::Tsallis(1.0 - 1e-9)] {
        assert!(close(of(near), kl, 1e-8), "{near}");
    }
    assert!(close(of(Divergence::Alpha(1e-9)), of(Divergence::ReverseKl), 1e-8));
    assert!(close(of(Divergence::Renyi(1e4)), of(Divergence::Renyi(f64::INFINITY)), 1e-3));
    assert!(close(of(Divergence::Renyi(f64::INFINITY)), 2.5_f64.ln(), 1e-15));
    // Half of the order ½ is Bhattacharyya's; both directions make Jeffreys'.
    assert!(close(of(Divergence::Renyi(0.5)), 2.0 * of(Divergence::Bhattacharyya), 1e-15));
    assert!(close(of(Divergence::Jeffreys), kl + of(Divergence::ReverseKl), 1e-14));
    assert!(close(of(Divergence::ChiSquared), of(Divergence::Tsallis(2.0)), 1e-14));
    assert!(close(of(Divergence::CrossEntropy), of(Divergence::Entropy) + kl, 1e-15));
}

/// Logits so far apart that the probabilities are no numbers, and still have logarithms.
#[test]
fn logits_beyond_the_range_of_probabilities() {
    let (p, q) = (array![[0.0_f64, -10_000.0]], array![[-10_000.0, 0.0]]);
    let batch = Batch::logits(&p, &q).unwrap();
    for (divergence, want) in [
        (Divergence::Jeffreys, 20_000.0),
        (Divergence::JensenShannon(0.5), std::f64::consts::LN_2),
        (Divergence::Renyi(0.5), 2.0 * (5_000.0 - std::f64::consts::LN_2)),
        (Divergence::Renyi(2.0), 10_000.0),
        (Divergence::Renyi(f64::INFINITY), 10_000.0),
        (Divergence::Bhattacharyya, 5_000.0 - std::f64::consts::LN_2),
        (Divergence::Hellinger, 1.0),
        (Divergence::CrossEntropy, 10_000.0),
    ] {
        let outcome = Engine::cpu().rows(divergence, &batch).unwrap();
        let got = outcome.values[0];
        assert!(close(got, want, 1e-14), "{divergence}: {got:e}, not {want:e}");
    }
    let batch = batch.with_on_invalid(OnInvalid::Nan);
    let outcome = Engine::cpu().rows(Divergence::ChiSquared, &batch).unwrap();
    assert_eq!(outcome.statuses[0], Status::Invalid(Rule::Overflow));
    let masked = array![[0.0_f64, f64::NEG_INFINITY]];
    let outcome = Engine::cpu().rows(Divergence::ReverseKl, &Batch::logits(&masked, &q).unwrap());
    assert_eq!(outcome.unwrap().statuses[0], Status::Infinite);
    // Of Q with e^-10000 in a bin that P lacks: no number, but some.
    let q = array![[0.0_f64, -10_000.0]];
    let outcome = Engine::cpu().rows(Divergence::ReverseKl, &Batch::logits(&masked, &q).unwrap());
    assert_eq!(outcome.unwrap().statuses[0], Status::Infinite);
    let outcome = Engine::cpu().rows(Divergence::Jeffreys, &Batch::logits(&masked, &q).unwrap());
    assert_eq!(outcome.unwrap().statuses[0], Status::Infinite);
}

/// Numbers of f64 whose sums, or whose ratios, are not in its range.
#[test]
fn probabilities_at_the_ends_of_the_range() {
    for unit in [1e-320, 1e-300, 1e300] {
        let (p, q) = ([3.0 * unit, unit], [0.25_f64, 0.75]);
        let side = |side: &[f64; 2]| Array2::from_shape_vec((1, 2), side.to_vec()).unwrap();
        let (p, q) = (side(&p), side(&q));
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        let plain = array![[0.75_f64, 0.25]];
        for divergence in all_divergences() {
            let value = |batch| Engine::cpu().rows(divergence, &batch).unwrap().values[0];
            let want = value(Batch::probs(&plain, &q).unwrap());
            // 3e-320 has four digits.
            let tolerance = if unit < 1e-310 { 1e-3 } else { 1e-12 };
            assert!(close(value(batch), want, tolerance), "{divergence}, {unit:e}");
        }
    }
}

#[test]
fn several_at_once_are_what_each_is() {
    let p: Array2<f32> = distributions(50, 100, 21);
    let q: Array2<f32> = distributions(50, 100, 22);
    let triple = q.mapv(|x| 3.0 * x);
    let divergences: Vec<_> = all_divergences().collect();
    for engine in engines() {
        for (mass, q) in [
            (Mass::Check, &q),
            (Mass::Normalize, &triple),
            (Mass::AsGiven, &q),
            (Mass::Generalized, &triple),
        ] {
            let batch = Batch::probs(&p, q).unwrap().with_mass(mass).with_masses();
            let meant = |divergence: &Divergence| engine.rows(*divergence, &batch).is_ok();
            let divergences: Vec<_> = divergences.iter().copied().filter(meant).collect();
            let outcomes = engine.several(&divergences, &batch).unwrap();
            assert_eq!(outcomes.len(), divergences.len());
            for (divergence, several) in divergences.iter().zip(outcomes) {
                let one = engine.rows(*divergence, &batch).unwrap();
                assert_eq!(several.statuses, one.statuses);
                for (got, want) in several.values.iter().zip(&one.values) {
                    assert!(close((*got).into(), (*want).into(), 1e-6), "{divergence}");
                }
                let (got, want) = (several.masses.unwrap(), one.masses.unwrap());
                for (got, want) in got.p.iter().zip(&want.p).chain(got.q.iter().zip(&want.q)) {
                    assert!(close((*got).into(), (*want).into(), 1e-6), "{divergence}");
                }
            }
        }
        assert_eq!(engine.several(&[], &Batch::probs(&p, &q).unwrap()).unwrap().len(), 0);
    }
}

/// Rows of a batch may differ in what f32 is right for: of each those are made again for which it is not.
#[test]
fn several_are_what_each_is_row_by_row() {
    let p: Array2<f64> = distributions(5, 100, 71);
    let (mut q, near): (Array2<f64>, _) = (distributions(5, 100, 72), nearby(&p, 1e-6, 73));
    for row in [1, 3] {
        q.row_mut(row).assign(&near.row(row).mapv(|x| 3.0 * x));
    }
    let [p, q] = [p, q].map(|side| side.mapv(|x| x as f32));
    let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
    let divergences = [
        Divergence::Renyi(3.0),
        Divergence::JensenShannon(0.5),
        Divergence::Jeffreys,
        Divergence::Kl,
    ];
    let outcomes = Engine::cpu().several(&divergences, &batch).unwrap();
    for (divergence, several) in divergences.iter().zip(&outcomes) {
        let one = Engine::cpu().rows(*divergence, &batch).unwrap();
        assert_eq!(several.closer_looks, one.closer_looks, "{divergence}");
        for (&got, &want) in several.values.iter().zip(&one.values) {
            assert!(close(got.into(), want.into(), 1e-6), "{divergence}: {got:e}, not {want:e}");
        }
    }
    assert!(outcomes[3].closer_looks > 0);
}

/// By how much one mass is larger counts, be it much or little.
#[test]
fn several_as_given_are_what_each_is() {
    let p: Array2<f64> = distributions(4, 60, 61);
    let mut q = nearby(&p, 1e-5, 62);
    q.row_mut(1).mapv_inplace(|x| 0.25 * x);
    q.row_mut(2).mapv_inplace(|x| x * (1.0 + 1e-6));
    q.row_mut(3).mapv_inplace(|x| 3.0 * x);
    for (p_kind, q_kind) in [
        (Kind::Probs, Kind::Probs),
        (Kind::LogProbs, Kind::LogProbs),
        (Kind::LogProbs, Kind::Probs),
        (Kind::Probs, Kind::LogProbs),
        (Kind::Logits, Kind::Probs),
        (Kind::LogProbs, Kind::Logits),
    ] {
        let (p, q) = (of_kind::<f64>(p_kind, &p, 1.0), of_kind::<f64>(q_kind, &q, 1.0));
        let batch = Batch::of(p_kind, &p, q_kind, &q).unwrap().with_mass(Mass::AsGiven);
        let divergences = [Divergence::Kl, Divergence::ReverseKl];
        let several = Engine::cpu().several(&divergences, &batch).unwrap();
        for (divergence, several) in divergences.into_iter().zip(several) {
            let one = Engine::cpu().rows(divergence, &batch).unwrap();
            for (&got, &want) in several.values.iter().zip(&one.values) {
                let what = format!("{divergence}, {p_kind}, {q_kind}");
                // The difference of two masses has a rounding error of theirs.
                let near = (got - want).abs() <= 1e-12 * want.abs() + 1e-15;
                assert!(near, "{what}: {got:e}, not {want:e}");
            }
        }
    }
}

/// `−ln Σ √(p·q)` of rows that overlap too little for a number, the most in their last bin.
#[test]
fn overlaps_too_small_for_a_number() {
    let (p, q) = (array![[0.0_f64, -799.0]], array![[-800.0_f64, 0.0]]);
    let batch = Batch::log_probs(&p, &q).unwrap();
    let got = Engine::cpu().rows(Divergence::Bhattacharyya, &batch).unwrap().values[0];
    let want = 399.5 - (-0.5_f64).exp().ln_1p();
    assert!(close(got, want, 1e-14), "{got:e}, not {want:e}");

    // More bins than are summed side by side, −60·k of P and 60·k − 2400 of Q, k from 0 to 40.
    let p = Array2::from_shape_fn((1, 41), |(_, bin)| -60.0 * (bin * 29 % 41) as f64);
    let q = p.mapv(|ln| -2400.0 - ln);
    let batch = Batch::logits(&p, &q).unwrap();
    for (divergence, want) in [
        (Divergence::Bhattacharyya, 1200.0 - 41.0_f64.ln()),
        (Divergence::Renyi(0.25), 600.0 / 0.75),
        (Divergence::Renyi(0.75), 600.0 / 0.25),
    ] {
        let got = Engine::cpu().rows(divergence, &batch).unwrap().values[0];
        assert!(close(got, want, 1e-13), "{divergence}: {got:e}, not {want:e}");
    }
}

/// Of masses of which one is out of range, and what brings it back next to the other.
#[test]
fn one_mass_out_of_range() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(3, 50, 51), distributions(3, 50, 52));
    for [p_by, q_by] in [[664, -336], [-336, 664], [664, 0], [-700, 0]] {
        let (far_p, far_q) = (&p * 2.0_f64.powi(p_by), &q * 2.0_f64.powi(q_by));
        for q_kind in [Kind::Probs, Kind::LogProbs] {
            let of = |p, q: &Array2<f64>, divergence| {
                let q = of_kind::<f64>(q_kind, q, 1.0);
                let batch = Batch::of(Kind::Probs, p, q_kind, &q).unwrap();
                let batch = batch.with_mass(Mass::Normalize);
                Engine::cpu().rows(divergence, &batch).unwrap().values
            };
            for divergence in all_divergences() {
                let (far, plain) = (of(&far_p, &far_q, divergence), of(&p, &q, divergence));
                for (&got, &want) in far.iter().zip(&plain) {
                    let what = format!("{divergence}, 2^{p_by}, 2^{q_by} of {q_kind}");
                    assert!(close(got, want, 1e-11), "{what}: {got:e}, not {want:e}");
                }
            }
        }
    }
}

#[test]
fn rows_that_are_none_are_named_whatever_the_divergence() {
    for engine in engines() {
        for divergence in all_divergences() {
            let none = f32::NEG_INFINITY;
            let (masked, good) = (array![[0.0_f32, 0.0], [none, none]], array![[0.0_f32, 1.0]]);
            let error = engine.rows(divergence, &Batch::logits(&good, &masked).unwrap());
            let Err(Error::Invalid(at)) = error else { panic!("{divergence}: {error:?}") };
            assert_eq!((at.side, at.row, at.bin), (Side::Q, 1, None), "{divergence}");
            let (p, q) = (array![[0.5_f32, 0.5], [0.5, 0.5]], array![[0.5_f32, 0.5], [0.5, -0.5]]);
            let error = engine.rows(divergence, &Batch::probs(&p, &q).unwrap()).unwrap_err();
            let Error::Invalid(at) = error else { panic!("{divergence}: {error}") };
            assert_eq!((at.side, at.row, at.bin, at.rule), (Side::Q, 1, Some(1), Rule::Negative));
            let heavy = array![[0.5_f32, 0.5], [0.5, 0.75]];
            let error = engine.rows(divergence, &Batch::probs(&heavy, &p).unwrap()).unwrap_err();
            let Error::Invalid(at) = error else { panic!("{divergence}: {error}") };
            assert_eq!((at.side, at.row, at.bin, at.rule), (Side::P, 1, None, Rule::Mass));
            assert_eq!(at.value, 1.25, "{divergence}");
            let batch = Batch::probs(&heavy, &p).unwrap().with_on_invalid(OnInvalid::Nan);
            let outcome = engine.rows(divergence, &batch).unwrap();
            assert!(outcome.values[1].is_nan() && outcome.values[0] >= 0.0, "{divergence}");
        }
    }
}

/// Also where a part of the row that is looked at by itself has none.
#[test]
fn invalid_bins_of_long_rows_are_named() {
    let p = Array2::from_elem((1, 140_003), 1.0_f32 / 140_003.0);
    for bin in [0, 70_000, 140_002] {
        let mut q = p.clone();
        q[[0, bin]] = -1.0;
        for engine in roomy_engines() {
            let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
            let error = engine.rows(Divergence::JensenShannon(0.5), &batch).unwrap_err();
            let Error::Invalid(at) = error else { panic!("{engine}: {error}") };
            assert_eq!((at.side, at.bin, at.rule), (Side::Q, Some(bin), Rule::Negative));
        }
    }
}

#[test]
fn policies_without_a_meaning_are_refused_before_anything_is_computed() {
    let p = array![[1.0_f32, 3.0]];
    for engine in engines() {
        for mass in [Mass::AsGiven, Mass::Generalized] {
            let batch = Batch::probs(&p, &p).unwrap().with_mass(mass);
            let error = engine.rows(Divergence::Renyi(0.5), &batch).unwrap_err();
            assert!(matches!(error, Error::Policy { divergence: "renyi", .. }), "{error}");
            assert!(engine.several(&[Divergence::Kl, Divergence::Bhattacharyya], &batch).is_err());
        }
        let batch = Batch::probs(&p, &p).unwrap().with_mass(Mass::Normalize);
        let error = engine.rows(Divergence::JensenShannon(1.5), &batch).unwrap_err();
        assert!(matches!(error, Error::Setting { .. }), "{error}");
    }
}

/// A pair, and its divergences, as decimal strings: `tests/golden/README.md` says how they were made.
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
    values: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

/// The relative error that is allowed.
const PROMISED: f64 = 3e-6;

/// What is wrong with an engine's answers to a row.
fn faults<T: Element>(
    engine: &Engine,
    row: &Row,
    from_bits: impl Fn(u64) -> T + Copy,
    allowed: f64,
) -> Vec<String> {
    let rows = |divergence, batch: &Batch<'_, T>| engine.rows(divergence, batch);
    faults_of(engine, row, from_bits, allowed, rows)
}

/// The same of answers that are had in some way, which may be off by so much.
fn faults_of<T: Element>(
    engine: &Engine,
    row: &Row,
    from_bits: impl Fn(u64) -> T + Copy,
    allowed: f64,
    rows: impl Fn(Divergence, &Batch<'_, T>) -> Result<Outcome<T::Value>, Error>,
) -> Vec<String> {
    let (p, q): (Vec<T>, Vec<T>) = (values(&row.p, from_bits), values(&row.q, from_bits));
    let side = |side| ArrayView2::from_shape((1, p.len()), side).unwrap();
    let [p_kind, q_kind] = [&row.p_kind, &row.q_kind].map(|kind| kind.parse().unwrap());
    let mut batch = Batch::of(p_kind, side(&p), q_kind, side(&q)).unwrap();
    if [p_kind, q_kind].contains(&Kind::Logits) {
        batch = batch.with_temperature(row.temperature).unwrap();
    }
    let batch = batch.with_mass(row.policy.parse().unwrap()).with_on_invalid(OnInvalid::Nan);
    let mut faults = Vec::new();
    let divergences =
        row.values.iter().map(|(name, want)| (name.parse::<Divergence>().unwrap(), want));
    for (divergence, want) in divergences {
        let (want, is_infinite): (f64, _) = (want.parse().unwrap(), want == "inf");
        let outcome = match rows(divergence, &batch) {
            Ok(outcome) => outcome,
            Err(error) => {
                faults.push(format!("{}, {divergence}: {error}", row.name));
                continue;
            }
        };
        let (got, status) = (outcome.values[0].to_f64(), outcome.statuses[0]);
        let rounded = T::Value::from_f64(want).to_f64();
        let status_due = match rounded {
            value if value.is_finite() => Status::Ok,
            _ if is_infinite => Status::Infinite,
            _ => Status::Invalid(Rule::Overflow),
        };
        // Sums below the smallest normal number have no digits, and neither has the root of one.
        let too_small = want < 1e-40 && got == 0.0;
        let overflows = status_due == Status::Invalid(Rule::Overflow) && got.is_nan();
        // Of proportional rows rounding may leave a little, and the root of it.
        let proportional = want == 0.0 && p != q && (0.0..1e-12).contains(&got);
        let right = too_small || overflows || proportional || close(got, rounded, allowed);
        if status != status_due || !right {
            let off = ((got - want) / want).abs();
            let what = format!("{engine}, {}, {}, {divergence}", row.element, row.name);
            faults.push(format!("{what}: {got:e} ({status:?}) is off by {off:e} from {want:e}"));
        }
    }
    faults
}

fn check_golden<T: Element>(
    engines: impl Iterator<Item = &'static Engine>,
    from_bits: impl Fn(u64) -> T + Copy,
    allowed: f64,
) {
    let golden: Golden = serde_json::from_str(include_str!("../golden/divergences.json")).unwrap();
    let rows: Vec<_> = golden.rows.iter().filter(|row| row.element == T::NAME).collect();
    assert!(rows.len() > 30, "{} rows of {}", rows.len(), T::NAME);
    let mut found = Vec::new();
    for engine in engines {
        found.extend(rows.iter().flat_map(|row| faults(engine, row, from_bits, allowed)));
    }
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// The same of the row's bins with others of no probability between them.
fn faults_of_spread<T: Element>(
    engine: &Engine,
    row: &Row,
    from_bits: impl Fn(u64) -> T + Copy,
    allowed: f64,
) -> Vec<String> {
    let all: Vec<Divergence> = row.values.keys().map(|name| name.parse().unwrap()).collect();
    let made = OnceCell::new();
    faults_of(engine, row, from_bits, allowed, |divergence, batch| {
        if matches!(divergence, Divergence::Kl | Divergence::ReverseKl) {
            return engine.rows(divergence, &like(batch, &spread(batch)));
        }
        let outcomes = made.get_or_init(|| engine.several(&all, &like(batch, &spread(batch))));
        let place = all.iter().position(|other| *other == divergence).unwrap();
        Ok(outcomes.as_ref().expect("all have an answer")[place].clone())
    })
}

/// The sides of a batch of one row with bins of no probability between its own, so many that they
/// lie in several of the segments in which long rows are summed.
fn spread<T: Element>(batch: &Batch<'_, T>) -> [Array2<T>; 2] {
    [Side::P, Side::Q].map(|side| {
        let row = batch.row(side, 0);
        let nothing = if batch.kind(side) == Kind::Probs { 0.0 } else { f64::NEG_INFINITY };
        let mut wide = Array2::from_elem((1, SPREAD), T::from_f64(nothing));
        for (bin, &value) in row.iter().enumerate() {
            wide[[0, bin * (SPREAD - 1) / (row.len() - 1)]] = value;
        }
        wide
    })
}

/// More than two of the longest segments.
const SPREAD: usize = 150_000;

/// A batch of other sides that is to be taken in the same way.
fn like<'a, T: Element>(batch: &Batch<'_, T>, [p, q]: &'a [Array2<T>; 2]) -> Batch<'a, T> {
    let like = Batch::of(batch.kind(Side::P), p, batch.kind(Side::Q), q).unwrap();
    let like = like.with_mass(batch.mass()).with_on_invalid(OnInvalid::Nan);
    match batch.temperature() {
        1.0 => like,
        temperature => like.with_temperature(temperature).unwrap(),
    }
}

/// A batch of one row as a pair.
fn pair_of<'a, T: Element>(batch: &'a Batch<'_, T>) -> Pairs<'a, T> {
    let [p, q] = [Side::P, Side::Q].map(|side| batch.row(side, 0).insert_axis(Axis(0)));
    let pairs = Pairs::of(batch.kind(Side::P), p, batch.kind(Side::Q), q).unwrap();
    let pairs = pairs.with_mass(batch.mass()).with_on_invalid(OnInvalid::Nan);
    match batch.temperature() {
        1.0 => pairs,
        temperature => pairs.with_temperature(temperature).unwrap(),
    }
}

/// Rows at the edges of the arithmetic: by themselves, beside other divergences, and as pairs.
fn check_edges<T: Element>(
    engines: impl Iterator<Item = &'static Engine>,
    from_bits: impl Fn(u64) -> T + Copy,
    allowed: f64,
) {
    let golden: Golden = serde_json::from_str(include_str!("../golden/edges.json")).unwrap();
    let rows: Vec<_> = golden.rows.iter().filter(|row| row.element == T::NAME).collect();
    assert!(!rows.is_empty());
    let mut found = Vec::new();
    for engine in engines {
        for row in &rows {
            found.extend(faults_of(engine, row, from_bits, allowed, |divergence, batch| {
                engine.rows(divergence, batch)
            }));
            found.extend(faults_of(engine, row, from_bits, allowed, |divergence, batch| {
                let beside = [Divergence::Kl, divergence, Divergence::Jeffreys];
                Ok(engine.several(&beside, batch)?.swap_remove(1))
            }));
            found.extend(faults_of(engine, row, from_bits, allowed, |divergence, batch| {
                let mut outcome = engine.rows(divergence, batch)?;
                outcome.values[0] = engine.matrix(divergence, &pair_of(batch))?.values[[0, 0]];
                Ok(outcome)
            }));
            if roomy_engines().iter().any(|roomy| std::ptr::eq(roomy, engine)) {
                found.extend(faults_of_spread(engine, row, from_bits, allowed));
            }
        }
    }
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn edges_of_f32() {
    check_edges(engines().iter(), |bits| f32::from_bits(bits as u32), PROMISED);
}

#[test]
fn edges_of_16_bits() {
    check_edges(engines().iter(), |bits| bf16::from_bits(bits as u16), PROMISED);
}

#[test]
fn edges_of_f64() {
    check_edges(f64_engines(), f64::from_bits, 1e-11);
}

#[test]
fn golden_rows_of_f32() {
    check_golden(engines().iter(), |bits| f32::from_bits(bits as u32), PROMISED);
}

#[test]
fn golden_rows_of_16_bits() {
    check_golden(engines().iter(), |bits| f16::from_bits(bits as u16), PROMISED);
    check_golden(engines().iter(), |bits| bf16::from_bits(bits as u16), PROMISED);
}

#[test]
fn golden_rows_of_f64() {
    check_golden(f64_engines(), f64::from_bits, 1e-10);
}

/// A bin that is left out is as if it were not there, whatever stands in it.
#[test]
fn the_first_invalid_bin_that_counts_is_named() {
    let (p, q) = (array![[f32::NAN, 0.5, -1.0]], array![[0.5_f32, 0.5, 0.5]]);
    let weights = [0.0, 1.0, 2.0];
    let batch = Batch::probs(&p, &q).unwrap().with_bin_weights(&weights).unwrap();
    for engine in engines() {
        let error = engine.rows(Divergence::Kl, &batch);
        let Err(Error::Invalid(at)) = error else { panic!("{error:?}") };
        assert_eq!((at.side, at.row, at.bin, at.rule), (Side::P, 0, Some(2), Rule::Negative));
    }
}

#[test]
fn weights_of_0_leave_bins_out() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(3, 20, 31), distributions(3, 20, 32));
    let kept = |bin: usize| bin % 3 != 1;
    let mut weights = [1.0; 20];
    (0..20).filter(|&bin| !kept(bin)).for_each(|bin| weights[bin] = 0.0);
    let columns: Vec<_> = (0..20).filter(|&bin| kept(bin)).collect();
    for engine in engines() {
        for &kind in Kind::ALL {
            let side = |side: &Array2<f64>| of_kind::<f32>(kind, side, 2.0);
            let (mut p, mut q) = (side(&p), side(&q));
            let (p_less, q_less) = (p.select(Axis(1), &columns), q.select(Axis(1), &columns));
            p.column_mut(1).fill(f32::NAN);
            q.column_mut(4).fill(f32::INFINITY);
            let of = |p, q| {
                let batch = Batch::of(kind, p, kind, q).unwrap().with_mass(Mass::Normalize);
                if kind == Kind::Logits { batch.with_temperature(2.0).unwrap() } else { batch }
            };
            let (all, less) = (of(&p, &q), of(&p_less, &q_less));
            let all = all.with_bin_weights(&weights).unwrap();
            for divergence in all_divergences() {
                let outcome = engine.rows(divergence, &all).unwrap();
                engine.cross_check(divergence, &all, &outcome, 3).unwrap();
                let want = engine.several(&[divergence], &less).unwrap().remove(0);
                for (got, want) in outcome.values.iter().zip(&want.values) {
                    assert!(close((*got).into(), (*want).into(), 1e-6), "{divergence}, {kind}");
                }
            }
        }
    }
}

/// Densities on bins of different widths, of any kind.
#[test]
fn weights_of_bins_multiply_both_sides() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(3, 9, 33), distributions(3, 9, 34));
    let weights: Vec<f64> = (0..9).map(|bin| 0.5 + f64::from(bin)).collect();
    let by_weights = |side: &Array2<f64>| {
        Array2::from_shape_fn(side.dim(), |(row, bin)| side[[row, bin]] * weights[bin])
    };
    let (weighted_p, weighted_q) = (by_weights(&p), by_weights(&q));
    let want = Batch::probs(&weighted_p, &weighted_q).unwrap().with_mass(Mass::Normalize);
    let in_f32 = [&p, &q].map(|side| side.mapv(|x| x as f32));
    let batch = Batch::probs(&in_f32[0], &in_f32[1]).unwrap().with_mass(Mass::Normalize);
    let batch = batch.with_bin_weights(&weights).unwrap();
    for divergence in all_divergences() {
        let got = Engine::cpu().rows(divergence, &batch).unwrap().values;
        let want = Engine::cpu().rows(divergence, &want).unwrap().values;
        for (got, want) in got.iter().zip(&want) {
            assert!(close((*got).into(), *want, 1e-5), "{divergence}: {got:e}, not {want:e}");
        }
    }
    for &kind in Kind::ALL {
        let (p, q) = (of_kind::<f64>(kind, &p, 0.5), of_kind::<f64>(kind, &q, 0.5));
        let mut batch = Batch::of(kind, &p, kind, &q).unwrap().with_mass(Mass::Normalize);
        if kind == Kind::Logits {
            batch = batch.with_temperature(0.5).unwrap();
        }
        let batch = batch.with_bin_weights(&weights).unwrap();
        for divergence in all_divergences() {
            let got = Engine::cpu().rows(divergence, &batch).unwrap().values;
            let want = Engine::cpu().rows(divergence, &want).unwrap().values;
            for (got, want) in got.iter().zip(&want) {
                assert!(close(*got, *want, 1e-13), "{divergence}, {kind}: {got:e}, not {want:e}");
            }
        }
    }
}

/// A number may be some, and its product with a weight none.
#[test]
fn products_too_large_are_invalid_not_0() {
    let (p, q) = (array![[3e38_f32, 1.0], [0.5, 0.5]], array![[1.0_f32, 1.0], [0.5, 0.5]]);
    let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
    let batch = batch.with_bin_weights(&[1e300, 1.0]).unwrap();
    for divergence in all_divergences() {
        let error = Engine::cpu().rows(divergence, &batch).unwrap_err();
        assert!(matches!(error, Error::Invalid(at) if at.row == 0 && at.rule == Rule::Overflow));
        let batch = batch.with_on_invalid(OnInvalid::Nan);
        let outcome = Engine::cpu().rows(divergence, &batch).unwrap();
        assert_eq!(outcome.statuses[0], Status::Invalid(Rule::Overflow), "{divergence}");
        assert!(outcome.values[0].is_nan() && outcome.values[1].is_finite(), "{divergence}");
    }
}

#[test]
fn weights_that_are_none_are_refused() {
    let p = array![[0.5_f32, 0.5]];
    let batch = Batch::probs(&p, &p).unwrap();
    for (weights, message) in [
        (&[1.0][..], "there are 1 weights for 2 bins"),
        (&[1.0, -1.0], "the weight at 1 of the bins is -1: a weight is a finite number, 0 or more"),
        (&[f64::NAN, 1.0], "the weight at 0 of the bins is NaN"),
        (&[f64::INFINITY, 1.0], "the weight at 0 of the bins is inf"),
    ] {
        let error = batch.with_bin_weights(weights).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

/// Policies that divide by nothing take rows without mass.
#[test]
fn a_side_without_mass() {
    let (none, q) = (array![[0.0_f32, 0.0]], array![[0.5_f32, 1.5]]);
    for engine in engines() {
        let value = |divergence, p, q, mass| {
            let batch = Batch::probs(p, q).unwrap().with_mass(mass);
            f64::from(engine.rows(divergence, &batch).unwrap().values[0])
        };
        for mass in [Mass::AsGiven, Mass::Generalized] {
            let js = Divergence::JensenShannon(0.5);
            assert!(close(value(js, &none, &q, mass), std::f64::consts::LN_2, 1e-7), "{engine}");
            assert!(close(value(js, &q, &none, mass), std::f64::consts::LN_2, 1e-7), "{engine}");
            assert_eq!(value(Divergence::TotalVariation, &none, &q, mass), 1.0);
            assert_eq!(value(Divergence::Hellinger, &none, &q, mass), 1.0);
            assert_eq!(value(Divergence::ChiSquared, &none, &q, mass), 2.0);
            assert_eq!(value(js, &none, &none, mass), 0.0);
        }
        assert_eq!(value(Divergence::Alpha(0.5), &none, &q, Mass::Generalized), 4.0);
    }
}

#[test]
fn the_readme_has_a_row_for_each() {
    let readme = include_str!("../../README.md");
    for divergence in Divergence::ALL {
        let name = divergence.name();
        let row = ["`", ":"].map(|end| format!("\n| `{name}{end}"));
        assert!(row.iter().any(|row| readme.contains(row)), "{name}");
    }
}
