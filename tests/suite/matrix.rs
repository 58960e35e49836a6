//! All rows against all rows: held against rows computed one by one and against the reference.

use half::f16;
use kullback::{
    Batch, Divergence, Element, Engine, Error, Kind, Mass, Matrix, OnInvalid, Pairs, Rule, Side,
    Status, reference,
};
use ndarray::{Array2, Axis, array, concatenate};

use crate::compare::close;
use crate::data::{distributions, nearby, normalized};
use crate::engines::engines;

/// Of f32 results.
const PROMISED: f64 = 3e-6;

/// The CPU, and a GPU if there is one.
fn two() -> &'static [Engine] {
    &engines()[..engines().len().min(2)]
}

/// Beside one of each: those whose sums have limits or two parts.
fn divergences() -> impl Iterator<Item = Divergence> {
    let more = [
        Divergence::JensenShannon(0.3),
        Divergence::Renyi(0.0),
        Divergence::Renyi(2.0),
        Divergence::Renyi(f64::INFINITY),
        Divergence::Tsallis(0.5),
        Divergence::Alpha(0.0),
        Divergence::Alpha(1.0),
        Divergence::Alpha(-1.0),
    ];
    Divergence::ALL.iter().copied().chain(more)
}

/// Each of some engines with each divergence.
fn on_each(engines: &[Engine]) -> impl Iterator<Item = (&Engine, Divergence)> {
    engines.iter().flat_map(|engine| divergences().map(move |divergence| (engine, divergence)))
}

/// Random rows, rows nearly equal to them, rows with zeros, and rows that share no bin.
fn side(bins: usize, seed: u64) -> Array2<f64> {
    let random: Array2<f64> = distributions(3, bins, seed);
    let near = nearby(&distributions(3, bins, 1), 1e-1, seed);
    let mut sparse: Array2<f64> = distributions(2, bins, seed + 1);
    for (row, mut sparse) in sparse.axis_iter_mut(Axis(0)).enumerate() {
        for (bin, x) in sparse.iter_mut().enumerate() {
            if bins > 2 && (bin + row + seed as usize).is_multiple_of(3) {
                *x = 0.0;
            }
        }
        let mass = sparse.sum();
        sparse.mapv_inplace(|x| x / mass);
    }
    concatenate![Axis(0), random, near, sparse]
}

fn of_kind<T: Element>(kind: Kind, probs: &Array2<f64>, temperature: f64) -> Array2<T> {
    probs.mapv(|p| {
        T::from_f64(match kind {
            Kind::Probs => p,
            Kind::LogProbs => p.ln(),
            Kind::Logits => temperature * p.ln() + 5.0,
        })
    })
}

/// Holds a matrix against the rows of batches, pair by pair.
fn check_against_rows<T: Element>(
    engine: &Engine,
    divergence: Divergence,
    pairs: &Pairs<'_, T>,
    tolerance: f64,
) {
    let Matrix { values, .. } = engine.matrix(divergence, pairs).unwrap();
    assert_eq!(values.dim(), pairs.shape());
    for ((row, column), got) in values.indexed_iter() {
        let outcome = Engine::cpu().rows(divergence, &pairs.pair(row, column)).unwrap();
        let want = outcome.values[0].to_f64();
        // The one distribution over one bin is 0 away from itself, but for what logarithms are rounded.
        let rounded = pairs.bins() == 1 && want < 1e-14 && got.to_f64() < 1e-14;
        assert!(
            rounded || close(got.to_f64(), want, tolerance),
            "{engine}, {divergence}, {} bins, {} against {}, {}, [{row}, {column}]: {got:e}, not {want:e}",
            pairs.bins(),
            pairs.kind(Side::P),
            pairs.kind(Side::Q),
            T::NAME
        );
    }
}

fn check_kinds<T: Element>(engine: &Engine, tolerance: f64) {
    for bins in [1, 2, 17, 130, 300] {
        let (p, q) = (side(bins, 3), side(bins, 5));
        for &p_kind in Kind::ALL {
            for &q_kind in Kind::ALL {
                let logits = [p_kind, q_kind].contains(&Kind::Logits);
                let temperature = if logits { 1.5 } else { 1.0 };
                let p = of_kind::<T>(p_kind, &p, temperature);
                let q = of_kind::<T>(q_kind, &q, temperature);
                let pairs = Pairs::of(p_kind, &p, q_kind, &q).unwrap();
                let pairs = pairs.with_temperature(temperature).unwrap();
                let pairs = pairs.with_mass_tolerance(0.05).unwrap();
                for divergence in divergences() {
                    check_against_rows(engine, divergence, &pairs, tolerance);
                }
            }
        }
    }
}

#[test]
fn all_divergences_of_all_kinds_are_those_of_rows() {
    for engine in two() {
        check_kinds::<f32>(engine, PROMISED);
        check_kinds::<f16>(engine, PROMISED);
    }
}

/// What f32 has the digits for is not computed pair by pair.
#[test]
fn ordinary_pairs_take_no_closer_look() {
    let p: Array2<f64> = distributions(5, 257, 41);
    let mut q: Array2<f64> = distributions(3, 257, 42);
    for (row, epsilon) in [1e-1, 1e-3].into_iter().enumerate() {
        q.row_mut(row).assign(&nearby(&p, epsilon, 43).row(row));
    }
    for &p_kind in Kind::ALL {
        for &q_kind in Kind::ALL {
            let (p, q) = (of_kind::<f32>(p_kind, &p, 1.0), of_kind::<f32>(q_kind, &q, 1.0));
            let pairs = Pairs::of(p_kind, &p, q_kind, &q).unwrap();
            for (engine, divergence) in on_each(engines()) {
                let matrix = engine.matrix(divergence, &pairs).unwrap();
                assert_eq!(matrix.closer_looks, 0, "{engine}, {divergence}, {p_kind}, {q_kind}");
            }
        }
    }
}

/// Sums of pairs of equal rows have no digits, and such pairs are counted, over all tiles.
#[test]
fn equal_rows_take_a_closer_look() {
    let rows: Array2<f32> = distributions(40, 9, 44);
    let copy = rows.clone();
    for engine in engines() {
        for divergence in [Divergence::Kl, Divergence::JensenShannon(0.5), Divergence::ChiSquared] {
            for pairs in [Pairs::probs(&rows, &copy), Pairs::probs(&rows, &rows)] {
                let matrix = engine.matrix(divergence, &pairs.unwrap()).unwrap();
                assert_eq!(matrix.closer_looks, 40, "{engine}, {divergence}");
            }
        }
    }
}

/// Sums of such numbers, or what divides by them, may lie beyond the range of numbers.
#[test]
fn masses_far_from_1_divide_as_well() {
    let (p, q): (Array2<f64>, Array2<f64>) = (distributions(2, 20, 1), distributions(2, 20, 2));
    for scales in [[1e-250, 1.0], [1e250, 1.0], [1.0, 1e250], [1e-250, 1e-250], [1e250, 1e-250]] {
        let (p, q) = (&p * scales[0], &q * scales[1]);
        let pairs = Pairs::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        for divergence in divergences() {
            check_against_rows(&Engine::cpu(), divergence, &pairs, 1e-11);
        }
    }
}

#[test]
fn f64_has_the_digits_of_rows() {
    two().iter().for_each(|engine| check_kinds::<f64>(engine, 1e-11));
    let p: Array2<f64> = distributions(4, 100, 1);
    for epsilon in [1e-2, 1e-5, 1e-8] {
        let q = nearby(&p, epsilon, 2);
        for divergence in divergences() {
            let pairs = Pairs::probs(&p, &q).unwrap();
            check_against_rows(&Engine::cpu(), divergence, &pairs, 1e-11);
            // Divided by other masses than 1, all bins are rounded.
            let (p, q) = (&p * 3.0, &q * 6.0);
            let pairs = Pairs::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
            check_against_rows(&Engine::cpu(), divergence, &pairs, 1e-11);
        }
    }
}

#[test]
fn logarithms_near_each_other_have_the_digits_of_rows() {
    let p: Array2<f64> = distributions(4, 100, 1);
    let q = nearby(&p, 1e-8, 2);
    for kind in [Kind::LogProbs, Kind::Logits] {
        let (p, q) = (of_kind::<f64>(kind, &p, 1.5), of_kind::<f64>(kind, &q, 1.5));
        let pairs = Pairs::of(kind, &p, kind, &q).unwrap().with_mass(Mass::Normalize);
        let temperature = if kind == Kind::Logits { 1.5 } else { 1.0 };
        let pairs = pairs.with_temperature(temperature).unwrap();
        for divergence in divergences() {
            check_against_rows(&Engine::cpu(), divergence, &pairs, 1e-10);
        }
    }
}

/// A tile without a pair that is near.
#[test]
fn pairs_all_far_apart() {
    let (p, q) = (array![[0.98_f32, 0.01, 0.01]], array![[0.001_f32, 0.009, 0.99]]);
    for divergence in divergences() {
        let pairs = Pairs::probs(&p, &q).unwrap();
        check_against_rows(&Engine::cpu(), divergence, &pairs, PROMISED);
    }
}

#[test]
fn engines_agree() {
    for bins in [1, 3, 17, 40, 1_000, 2_500] {
        let (p, q) = (side(bins, 3), side(bins, 5));
        let (p, q) = (p.mapv(|x| x as f32), q.mapv(|x| x as f32));
        let pairs = Pairs::probs(&p, &q).unwrap();
        check_against_rows(&Engine::auto(), Divergence::Kl, &pairs, PROMISED);
        for (engine, divergence) in on_each(engines()) {
            check_against_rows(engine, divergence, &pairs, PROMISED);
        }
    }
}

#[cfg(feature = "gpu")]
#[test]
fn what_has_no_form_in_f32_is_left_to_the_cpu() {
    let p = array![[0.5_f32, 0.5], [0.25, 0.75]];
    let pairs = Pairs::probs(&p, &p).unwrap();
    let gpu = &engines()[1];
    let found = gpu.matrix(Divergence::Kl, &pairs).unwrap();
    assert_eq!((found.backend, &found.recovery), ("gpu", &Default::default()));
    assert_eq!(found.closer_looks, 2, "those of the diagonal");
    assert_eq!(found.adapter.as_deref(), gpu.adapter().map(|adapter| adapter.name()));
    let left = gpu.matrix(Divergence::Renyi(2.0), &pairs).unwrap();
    let of_f64 = p.mapv(f64::from);
    let of_f64 = Pairs::probs(&of_f64, &of_f64).unwrap();
    let of_f64 = gpu.matrix(Divergence::Kl, &of_f64).unwrap();
    let as_given = gpu.matrix(Divergence::Kl, &pairs.with_mass(Mass::AsGiven)).unwrap();
    let told = |backend, recovery: kullback::Recovery, why: &str| {
        assert_eq!((backend, recovery.cpu_rows, recovery.faults), ("cpu", 2, 0), "{why}");
        let reason = recovery.reason.unwrap();
        assert!(reason.contains(why), "{reason}, not {why}");
    };
    told(left.backend, left.recovery, "renyi:2");
    told(of_f64.backend, of_f64.recovery, "f64");
    told(as_given.backend, as_given.recovery, "as-given");
}

/// Every pair of rows of many shapes, from nearly equal to disjoint, against plain sums in f64, and
/// where these lack digits against rows.
#[test]
fn every_pair_is_as_good_as_promised() {
    for bins in [2, 3, 8, 50, 256] {
        let base: Array2<f32> = distributions(6, bins, 9);
        let mut all = base.clone();
        for epsilon in [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6] {
            all = concatenate![Axis(0), all, nearby(&base, epsilon, (1.0 / epsilon) as u64)];
        }
        let pairs = Pairs::probs(&all, &all).unwrap();
        for (engine, divergence) in on_each(two()) {
            let values = engine.matrix(divergence, &pairs).unwrap().values;
            for ((row, column), &got) in values.indexed_iter() {
                let pair = pairs.pair(row, column);
                let want = Engine::cpu().rows(divergence, &pair).unwrap().values[0];
                let bar = if divergence == Divergence::Kl { 5e-7 } else { PROMISED };
                let what = format!("{engine}, {divergence}, {bins} bins, [{row}, {column}]");
                assert!(close(got.into(), want.into(), bar), "{what}: {got:e}, not {want:e}");
                let [p, q] = [Side::P, Side::Q].map(|side| {
                    let row: Vec<f64> = pair.row(side, 0).iter().map(|&x| x.into()).collect();
                    let mass: f64 = row.iter().sum();
                    row.iter().map(|x| (x / mass).ln()).collect::<Vec<_>>()
                });
                let plain = reference::divergence(divergence, &p, &q);
                let lost = 16.0 * f64::EPSILON * reference::size_of(divergence, &p, &q);
                let allowed = bar * plain.abs() + lost;
                assert!(
                    (f64::from(got) - plain).abs() <= allowed,
                    "{what}: {got:e}, not {plain:e}"
                );
            }
        }
    }
}

/// Rounding errors of equal terms all point the same way.
#[test]
fn equal_terms_are_summed_as_well_as_others() {
    for bins in [256, 4_096] {
        let level =
            |apart: f64, bin: usize| 1.0 + if bin.is_multiple_of(2) { apart } else { -apart };
        let apart = [0.0, 1e-5, 1e-3, 0.03, 0.3, 0.5, 0.6, 0.7, 0.9, 0.99, 0.9999];
        let rows = Array2::from_shape_fn((apart.len(), bins), |(row, bin)| level(apart[row], bin));
        let rows: Array2<f32> = normalized(rows.view());
        let pairs = Pairs::probs(&rows, &rows).unwrap();
        for (engine, divergence) in on_each(two()) {
            let bar = if divergence == Divergence::Kl { 5e-7 } else { PROMISED };
            check_against_rows(engine, divergence, &pairs, bar);
        }
    }
}

#[test]
fn tiles_end_anywhere() {
    let all: Array2<f32> = distributions(70, 33, 4);
    for engine in engines() {
        let whole = engine.matrix(Divergence::Kl, &Pairs::probs(&all, &all).unwrap()).unwrap();
        for rows in [1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 69, 70] {
            for columns in [1, 2, 16, 31, 70] {
                let pairs = Pairs::probs(&all, &all).unwrap().part(0..rows, 0..columns);
                let part = engine.matrix(Divergence::Kl, &pairs).unwrap().values;
                let want = whole.values.slice_axis(Axis(0), (0..rows).into());
                assert_eq!(
                    part,
                    want.slice_axis(Axis(1), (0..columns).into()),
                    "{engine}: {rows} × {columns}"
                );
            }
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(50, 90, 1), distributions(60, 90, 2));
    let pairs = Pairs::probs(&p, &q).unwrap();
    for (engine, divergence) in on_each(two()) {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| engine.matrix(divergence, &pairs).unwrap())
        };
        assert_eq!(on(1), on(5), "{engine}, {divergence}");
    }
}

#[test]
fn what_is_symmetric_is_so_in_its_bits_and_0_on_the_diagonal() {
    // So many that there are tiles below the diagonal.
    let rows: Array2<f32> = distributions(270, 5, 6);
    let copy = rows.clone();
    for (engine, divergence) in on_each(engines()) {
        let once = engine.matrix(divergence, &Pairs::probs(&rows, &rows).unwrap()).unwrap();
        let twice = engine.matrix(divergence, &Pairs::probs(&rows, &copy).unwrap()).unwrap();
        assert_eq!(once.values, twice.values, "{engine}, {divergence}");
        if divergence.is_symmetric() {
            assert_eq!(once.values, once.values.t(), "{engine}, {divergence}");
        }
        if !matches!(divergence, Divergence::CrossEntropy | Divergence::Entropy) {
            assert!(once.values.diag().iter().all(|&value| value == 0.0), "{engine}, {divergence}");
        }
    }
}

/// Two sides have pairs below the diagonal of their own, and so have the same numbers read in two ways: here
/// there are tiles there.
#[test]
fn two_sides_are_not_mirrored() {
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(40, 3, 1), distributions(40, 3, 2));
    for engine in two() {
        let ways = Pairs::of(Kind::Probs, &p, Kind::Logits, &p);
        for pairs in [Pairs::probs(&p, &q).unwrap(), ways.unwrap()] {
            check_against_rows(engine, Divergence::Hellinger, &pairs, PROMISED);
        }
    }
}

/// e^−800 is too small for a number, and what is divided by it too large.
#[test]
fn what_is_divided_by_almost_nothing_is_too_large() {
    let (p, q) = (array![[0.0_f32, 0.0]], array![[0.0_f32, -800.0]]);
    let pairs = Pairs::logits(&p, &q).unwrap();
    let row = Engine::cpu().rows(Divergence::ChiSquared, &pairs.pair(0, 0)).unwrap_err();
    let error = Engine::cpu().matrix(Divergence::ChiSquared, &pairs).unwrap_err();
    assert_eq!(error.to_string(), row.to_string());
}

#[test]
fn bands_are_parts_of_the_matrix() {
    const ASKED: [Divergence; 2] = [Divergence::Kl, Divergence::JsDistance];
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(45, 30, 1), distributions(7, 30, 2));
    for (engine, divergence) in on_each(engines()).filter(|(_, one)| ASKED.contains(one)) {
        let pairs = Pairs::probs(&p, &q).unwrap();
        let whole = engine.matrix(divergence, &pairs).unwrap().values;
        for memory in [0, 28, 300, usize::MAX] {
            let (mut next, pairs) = (0, pairs.with_memory(memory));
            let take = |rows: std::ops::Range<usize>, band: Matrix<f32>| {
                assert_eq!(rows.start, next);
                assert!(rows.len() * 28 <= memory.max(28), "{rows:?} of {memory} bytes");
                assert_eq!(band.values, whole.slice_axis(Axis(0), rows.clone().into()));
                next = rows.end;
                Ok::<(), Error>(())
            };
            engine.matrix_into(divergence, &pairs, take).unwrap();
            assert_eq!(next, 45);
        }
    }
    let pairs = Pairs::probs(&p, &q).unwrap().with_memory(0);
    let stopped = Engine::cpu().matrix_into(Divergence::Kl, &pairs, |_, _| Err(Error::NoBins));
    assert_eq!(stopped, Err(Error::NoBins));
}

#[test]
fn what_is_infinitely_far_apart() {
    let p = array![[0.5_f32, 0.5, 0.0], [0.25, 0.25, 0.5]];
    let inf = f32::INFINITY;
    for engine in engines() {
        let values =
            |divergence| engine.matrix(divergence, &Pairs::probs(&p, &p).unwrap()).unwrap().values;
        let ln_2 = std::f32::consts::LN_2;
        assert_eq!(values(Divergence::Kl), array![[0.0, ln_2], [inf, 0.0]]);
        assert_eq!(values(Divergence::ReverseKl), array![[0.0, inf], [ln_2, 0.0]]);
        assert_eq!(values(Divergence::Jeffreys), array![[0.0, inf], [inf, 0.0]]);
        assert_eq!(values(Divergence::ChiSquared)[[1, 0]], inf);
        let apart = array![[1.0_f32, 0.0], [0.0, 1.0]];
        for (divergence, want) in [
            (Divergence::JensenShannon(0.5), ln_2),
            (Divergence::Hellinger, 1.0),
            (Divergence::TotalVariation, 1.0),
            (Divergence::Bhattacharyya, inf),
            (Divergence::Renyi(0.5), inf),
        ] {
            let pairs = Pairs::probs(&apart, &apart).unwrap();
            let values = engine.matrix(divergence, &pairs).unwrap().values;
            assert_eq!(values, array![[0.0, want], [want, 0.0]], "{divergence}");
        }
    }
}

#[test]
fn an_invalid_row_is_named_or_makes_nan_of_its_own() {
    let p = array![[0.5_f32, 0.5], [0.5, f32::NAN], [0.75, 0.75]];
    let q = array![[0.5_f32, 0.5], [0.5, 0.5], [0.5, 0.5], [1.5, -0.5]];
    let negative = array![[0.5_f32, 0.5, 0.0], [-0.25, -0.25, 1.5]];
    let masked = array![[0.0_f32, 0.0], [f32::NEG_INFINITY, f32::NEG_INFINITY]];
    let good = array![[0.5_f32, 0.5]];
    for (engine, divergence) in on_each(engines()) {
        let offender =
            |p, q| match engine.matrix(divergence, &Pairs::probs(p, q).unwrap()).unwrap_err() {
                Error::Invalid(at) => (at.side, at.row, at.bin, at.rule),
                error => panic!("{error}"),
            };
        assert_eq!(offender(&p, &q), (Side::P, 1, Some(1), Rule::NotANumber));
        assert_eq!(offender(&good, &q), (Side::Q, 3, Some(1), Rule::Negative));
        let heavy = p.select(Axis(0), &[0, 2]);
        assert_eq!(offender(&heavy, &q), (Side::P, 1, None, Rule::Mass));
        assert_eq!(offender(&negative, &negative), (Side::P, 1, Some(0), Rule::Negative));
        let pairs = Pairs::logits(&masked, &masked).unwrap();
        let error = Engine::cpu().matrix(divergence, &pairs).unwrap_err();
        assert!(matches!(error, Error::Invalid(at) if at.side == Side::P && at.row == 1));

        let pairs = Pairs::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
        let matrix = engine.matrix(divergence, &pairs).unwrap();
        for ((row, column), value) in matrix.values.indexed_iter() {
            assert_eq!(
                value.is_nan(),
                row > 0 || column == 3,
                "{engine}, {divergence}, [{row}, {column}]"
            );
        }
        let refused = |rule| Status::Invalid(rule);
        let statuses = [Status::Ok, refused(Rule::NotANumber), refused(Rule::Mass)];
        assert_eq!(matrix.p_statuses.to_vec(), statuses);
        assert_eq!(matrix.q_statuses[3], refused(Rule::Negative));
    }
    // In whatever band or part it lies.
    let pairs = Pairs::probs(&p, &q).unwrap().with_memory(16);
    let error = Engine::cpu().matrix_into(Divergence::Kl, &pairs, |_, _| Ok::<(), Error>(()));
    assert!(matches!(error, Err(Error::Invalid(at)) if at.side == Side::Q && at.row == 3));
    let pairs = Pairs::probs(&p, &good).unwrap().with_memory(4);
    let error = Engine::cpu().nearest(Divergence::Kl, &pairs, 1).unwrap_err();
    assert!(matches!(error, Error::Invalid(at) if at.side == Side::P && at.row == 1));
}

#[test]
fn mass_policies_are_those_of_rows() {
    let mut p = side(20, 3).mapv(|x| (1_000.0 * x) as f32);
    p.row_mut(2).fill(0.0);
    p.row_mut(2)[4] = 7.0;
    let q = side(20, 5).mapv(|x| (30.0 * x) as f32);
    for mass in [Mass::Normalize, Mass::AsGiven, Mass::Generalized] {
        let pairs = Pairs::probs(&p, &q).unwrap().with_mass(mass);
        for (engine, divergence) in on_each(two()) {
            match engine.matrix(divergence, &pairs) {
                Ok(_) => check_against_rows(engine, divergence, &pairs, PROMISED),
                Err(error) => assert!(matches!(error, Error::Policy { .. }), "{error}"),
            }
        }
    }
    // Logits are divided by their masses whatever the policy, and what they are compared with is not.
    let logits = of_kind::<f32>(Kind::Logits, &side(20, 3), 1.0);
    for mass in [Mass::AsGiven, Mass::Generalized] {
        for divergence in [Divergence::Hellinger, Divergence::TotalVariation] {
            for (p_kind, p, q_kind, q) in
                [(Kind::Logits, &logits, Kind::Probs, &q), (Kind::Probs, &q, Kind::Logits, &logits)]
            {
                let pairs = Pairs::of(p_kind, p, q_kind, q).unwrap().with_mass(mass);
                check_against_rows(&Engine::cpu(), divergence, &pairs, PROMISED);
            }
        }
    }
    let none = array![[0.0_f32, 0.0]];
    let pairs = Pairs::probs(&none, &none).unwrap().with_mass(Mass::Normalize);
    let error = Engine::cpu().matrix(Divergence::Kl, &pairs).unwrap_err();
    assert!(matches!(error, Error::Invalid(at) if at.rule == Rule::NoMass));
}

/// Numbers that f32 has no place for, of results in f32.
#[test]
fn probabilities_at_the_ends_of_the_range() {
    let p = array![[1.0_f32, 1e-40, 1e-44], [0.5, 0.5, 1e-30], [1e-45, 1.0, 1e-38]];
    let pairs = Pairs::probs(&p, &p).unwrap();
    for (engine, divergence) in on_each(engines()) {
        let pairs = pairs.with_on_invalid(OnInvalid::Nan);
        let values = engine.matrix(divergence, &pairs).unwrap().values;
        for ((row, column), &got) in values.indexed_iter() {
            let pair = pairs.pair(row, column);
            let want = Engine::cpu().rows(divergence, &pair).unwrap().values[0];
            let same = got.is_nan() && want.is_nan();
            let what = format!("{engine}, {divergence}, [{row}, {column}]");
            assert!(same || close(got.into(), want.into(), PROMISED), "{what}: {got:e}, {want:e}");
        }
    }
    let (two, one) = (array![[1e-40_f32, 1.0], [0.5, 0.5]], array![[1e-40_f32, 1.0]]);
    let second = Pairs::probs(&two, &one).unwrap();
    for engine in engines() {
        let error = engine.matrix(Divergence::ChiSquared, &pairs).unwrap_err();
        assert!(matches!(error, Error::Invalid(at) if at.rule == Rule::Overflow), "{error}");
        let error = engine.matrix(Divergence::ChiSquared, &second).unwrap_err();
        assert!(matches!(error, Error::Invalid(at) if at.row == 1), "{error}");
    }
    let logits = array![[0.0_f64, -1e5, 3.0], [1.0, 2.0, -1e300], [0.0, f64::NEG_INFINITY, 1.0]];
    let logits_in_f32 = logits.mapv(|x| x as f32);
    for divergence in [Divergence::Kl, Divergence::JensenShannon(0.5), Divergence::Hellinger] {
        check_against_rows(
            &Engine::cpu(),
            divergence,
            &Pairs::logits(&logits, &logits).unwrap(),
            1e-12,
        );
        let pairs = Pairs::logits(&logits_in_f32, &logits_in_f32).unwrap();
        let pairs = pairs.part(0..1, 0..3);
        check_against_rows(&Engine::cpu(), divergence, &pairs, PROMISED);
    }
}

/// What is too small for a number once it is divided is some probability all the same.
#[test]
fn quotients_too_small_for_a_number() {
    let p = array![[0.5_f64, 0.5]];
    let q = array![[1e149, 1e-200], [1e200, 1e-60], [1e149, 1e-100], [1.0, 5e-324]];
    let pairs = Pairs::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
    for divergence in [Divergence::Kl, Divergence::ReverseKl, Divergence::Hellinger] {
        check_against_rows(&Engine::cpu(), divergence, &pairs, 1e-12);
    }
}

/// Rows are made ready by the megabyte.
#[test]
fn many_long_rows() {
    let (many, few): (Array2<f64>, Array2<f64>) =
        (distributions(2_200, 1_000, 1), distributions(2, 1_000, 2));
    let kl = Divergence::Kl;
    for (p, q) in [(&many, &few), (&few, &many)] {
        let pairs = Pairs::probs(p, q).unwrap();
        check_against_rows(&Engine::cpu(), kl, &pairs, 1e-11);
        let is_p = p.nrows() > q.nrows();
        let (mut p, mut q) = (p.clone(), q.clone());
        (if is_p { &mut p } else { &mut q })[[2_150, 7]] = -1.0;
        let error = Engine::cpu().matrix(kl, &Pairs::probs(&p, &q).unwrap()).unwrap_err();
        let side = if is_p { Side::P } else { Side::Q };
        assert!(matches!(error, Error::Invalid(at) if at.side == side && at.row == 2_150));
    }
}

/// `−p·ln q` has its digits where q, divided by its mass, is too small for a number.
#[test]
fn logarithms_of_the_smallest_numbers() {
    let (p, q) = (array![[0.25_f64, 0.25, 0.5, 0.0]], array![[1e3_f64, 2e3, 1e-321, 0.0]]);
    let ln = |bin: usize| q[[0, bin]].ln() - 3e3_f64.ln();
    let want = -(0.25 * ln(0) + 0.25 * ln(1) + 0.5 * ln(2));
    for bins in [3, 4] {
        let [p, q] = [&p, &q].map(|side| side.slice_axis(Axis(1), (..bins).into()));
        let pairs = Pairs::probs(p, q).unwrap().with_mass(Mass::Normalize);
        let got = Engine::cpu().matrix(Divergence::CrossEntropy, &pairs).unwrap().values[[0, 0]];
        assert!(close(got, want, 1e-14), "{bins} bins: {got:e}, not {want:e}");
    }
}

#[test]
fn logits_far_from_0_at_a_low_temperature() {
    let probs: Array2<f64> = distributions(3, 20, 1);
    let logits = of_kind::<f64>(Kind::Logits, &probs, 0.02).mapv(|x| x + 1e4);
    let pairs = Pairs::logits(&logits, &logits).unwrap().with_temperature(0.02).unwrap();
    for divergence in divergences() {
        check_against_rows(&Engine::cpu(), divergence, &pairs, 1e-9);
    }
}

#[test]
fn shapes() {
    let none = Array2::<f32>::zeros((0, 3));
    let some = array![[0.5_f32, 0.25, 0.25]];
    let matrix = |p: &Array2<f32>, q: &Array2<f32>| {
        Engine::cpu().matrix(Divergence::Kl, &Pairs::probs(p, q).unwrap()).unwrap().values.dim()
    };
    assert_eq!(matrix(&none, &some), (0, 1));
    assert_eq!(matrix(&some, &none), (1, 0));
    assert_eq!(matrix(&none, &none), (0, 0));
    assert_eq!(matrix(&some, &some), (1, 1));
    let wide = Array2::<f32>::zeros((2, 4));
    let error = Pairs::probs(&some, &wide).unwrap_err();
    assert_eq!(error, Error::Bins { p: (1, 3), q: (2, 4) });
    let no_bins = Array2::<f32>::zeros((2, 0));
    assert_eq!(Pairs::probs(&no_bins, &no_bins).unwrap_err(), Error::NoBins);
    for engine in engines() {
        for (p, q) in [(&none, &some), (&some, &none), (&none, &none)] {
            let pairs = Pairs::probs(p, q).unwrap();
            let found = engine.matrix(Divergence::Jeffreys, &pairs).unwrap();
            assert_eq!(found.values.dim(), (p.nrows(), q.nrows()), "{engine}");
        }
    }
    // Strided, and of a single long row.
    let (p, q): (Array2<f32>, Array2<f32>) = (distributions(6, 50, 1), distributions(5, 50, 2));
    let want = Engine::cpu().matrix(Divergence::Kl, &Pairs::probs(&p, &q).unwrap()).unwrap();
    let turned = p.t().as_standard_layout().to_owned();
    let strided = Pairs::probs(turned.t(), &q).unwrap();
    assert_eq!(Engine::cpu().matrix(Divergence::Kl, &strided).unwrap(), want);
    let (p, q): (Array2<f32>, Array2<f32>) =
        (distributions(1, 200_000, 1), distributions(2, 200_000, 2));
    for divergence in [Divergence::Kl, Divergence::JsDistance, Divergence::Tsallis(2.0)] {
        for engine in two() {
            check_against_rows(engine, divergence, &Pairs::probs(&p, &q).unwrap(), PROMISED);
        }
    }
}

/// More rows of Q than are made ready at a time, which is 64 MiB of what is kept; and on the GPU more rows
/// of P than a submission has.
#[test]
fn rows_are_made_ready_block_by_block() {
    let (p, mut q): (Array2<f32>, Array2<f32>) =
        (distributions(96, 4_096, 1), distributions(1_200, 4_096, 2));
    q[[1_150, 7]] = f32::NAN;
    let pairs = Pairs::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
    let of_cpu = Engine::cpu().matrix(Divergence::Jeffreys, &pairs).unwrap();
    assert_eq!(of_cpu.q_statuses[1_150], Status::Invalid(Rule::NotANumber));
    for (row, column) in [(0, 0), (95, 0), (50, 1_023), (0, 1_024), (95, 1_199)] {
        let outcome = Engine::cpu().rows(Divergence::Jeffreys, &pairs.pair(row, column)).unwrap();
        let (got, want) = (of_cpu.values[[row, column]].into(), outcome.values[0].into());
        assert!(close(got, want, PROMISED), "[{row}, {column}]: {got:e}, not {want:e}");
    }
    for engine in &two()[1..] {
        let found = engine.matrix(Divergence::Jeffreys, &pairs).unwrap();
        assert_eq!(
            (&found.p_statuses, &found.q_statuses),
            (&of_cpu.p_statuses, &of_cpu.q_statuses)
        );
        for ((at, &got), &want) in found.values.indexed_iter().zip(&of_cpu.values) {
            let same = got.is_nan() && want.is_nan();
            assert!(same || close(got.into(), want.into(), PROMISED), "{at:?}: {got:e}, {want:e}");
        }
    }
}

#[test]
fn the_nearest_rows_are_those_of_the_matrix() {
    const ASKED: [Divergence; 3] =
        [Divergence::Kl, Divergence::JsDistance, Divergence::Tsallis(2.0)];
    let p: Array2<f32> = distributions(9, 12, 1);
    let q: Array2<f32> = distributions(40, 12, 2);
    // Rows that are as near as others, by the same bits.
    let q = concatenate![Axis(0), q, q.select(Axis(0), &[3, 1, 7])];
    for (engine, divergence) in on_each(engines()).filter(|(_, one)| ASKED.contains(one)) {
        let pairs = Pairs::probs(&p, &q).unwrap();
        let values = engine.matrix(divergence, &pairs).unwrap().values;
        for memory in [4, 100, 1_000, 1 << 20] {
            for k in [0, 1, 5, 43, 1_000] {
                let pairs = pairs.with_memory(memory);
                let nearest = engine.nearest(divergence, &pairs, k).unwrap();
                assert_eq!(nearest.indices.dim(), (9, k.min(43)));
                for row in 0..9 {
                    let mut order: Vec<usize> = (0..43).collect();
                    order.sort_by(|&a, &b| values[[row, a]].total_cmp(&values[[row, b]]));
                    order.truncate(k);
                    assert_eq!(nearest.indices.row(row).to_vec(), order, "{divergence}, {memory}");
                    for (at, &column) in order.iter().enumerate() {
                        assert_eq!(nearest.values[[row, at]], values[[row, column]]);
                    }
                }
            }
        }
    }
}

#[test]
fn infinite_rows_come_after_all_others_and_invalid_ones_last() {
    let p = array![[0.5_f32, 0.5], [0.5, -0.5]];
    let q = array![[2.0_f32, 0.5], [1.0, 0.0], [0.9, 0.1], [0.5, 0.5]];
    let pairs = Pairs::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
    let nearest = Engine::cpu().nearest(Divergence::Kl, &pairs, 4).unwrap();
    assert_eq!(nearest.indices, array![[3, 2, 1, 0], [0, 1, 2, 3]]);
    assert_eq!(nearest.values[[0, 2]], f32::INFINITY);
    assert!(nearest.values[[0, 3]].is_nan() && nearest.values.row(1).iter().all(|x| x.is_nan()));
    assert_eq!(nearest.p_statuses[1], Status::Invalid(Rule::Negative));
    assert_eq!(nearest.q_statuses[0], Status::Invalid(Rule::Mass));
}

#[test]
fn a_pair_is_a_batch_of_one_row() {
    let (p, q) = (array![[0.5_f32, 0.5], [0.25, 0.75]], array![[0.125_f32, 0.875]]);
    let batch: Batch<'_, f32> = Pairs::probs(&p, &q).unwrap().pair(1, 0);
    assert_eq!((batch.rows(), batch.row(Side::P, 0).to_vec()), (1, vec![0.25, 0.75]));
}

/// The overlap of rows far apart is one of the smallest numbers of f32.
#[test]
fn overlaps_of_the_smallest_numbers() {
    let p = array![[0.0_f32, -200.0], [0.0, -205.0], [0.0, -80.0]];
    let q = array![[-200.0_f32, 0.0], [-205.0, 0.0], [-80.0, 0.0]];
    for engine in engines() {
        let found = engine.matrix(Divergence::Bhattacharyya, &Pairs::logits(&p, &q).unwrap());
        for (row, x) in [200.0_f64, 205.0, 80.0].into_iter().enumerate() {
            let got = f64::from(found.as_ref().unwrap().values[[row, row]]);
            let want = x / 2.0 - std::f64::consts::LN_2;
            assert!(close(got, want, 1e-6), "{engine:?}: {got} for {want}");
        }
    }
}
