//! Rows of which a side is logarithms, and 16-bit ones: lengths, shapes and positions around every
//! edge, on every backend.

use half::{bf16, f16};
use kullback::{
    Batch, Divergence, Element, Engine, Error, Kind, Mass, OnInvalid, Pairs, Rule, Side, Status,
    Wanted, reference,
};
use ndarray::{Array1, Array2, ArrayView1, Axis, ShapeBuilder, array, concatenate};

use crate::compare::{LOGS, close};
use crate::data::{Random, distributions};
use crate::engines::{engines, f64_engines, roomy_engines};
use crate::family::all_divergences;

/// Rows of a kind: of probabilities that a softmax makes of numbers from −5 to 5, or these.
fn side<T: Element>(kind: Kind, rows: usize, bins: usize, seed: u64) -> Array2<T> {
    let mut random = Random(seed);
    let mut logits = Array2::from_shape_simple_fn((rows, bins), || 10.0 * random.uniform() - 5.0);
    for mut row in logits.axis_iter_mut(Axis(0)) {
        let ln_mass = row.iter().map(|x: &f64| x.exp()).sum::<f64>().ln();
        row.mapv_inplace(|x| match kind {
            Kind::Probs => (x - ln_mass).exp(),
            Kind::LogProbs => x - ln_mass,
            Kind::Logits => x,
        });
    }
    logits.mapv(T::from_f64)
}

/// All pairs of kinds.
fn kinds() -> impl Iterator<Item = [Kind; 2]> {
    Kind::ALL.iter().flat_map(|&p| Kind::ALL.iter().map(move |&q| [p, q]))
}

fn batch<'a, T: Element>(
    [p_kind, q_kind]: [Kind; 2],
    p: &'a Array2<T>,
    q: &'a Array2<T>,
) -> Batch<'a, T> {
    Batch::of(p_kind, p, q_kind, q).unwrap()
}

fn bits<T: Element<Value = f32>>(engine: &Engine, batch: &Batch<'_, T>) -> Vec<u32> {
    let outcome = engine.rows(Divergence::Kl, batch).unwrap();
    outcome.values.iter().map(|value| value.to_bits()).collect()
}

/// Holds every length against the reference.
fn lengths<T: Element<Value = f32>>(lengths: &[usize], engines: &[Engine]) {
    for &bins in lengths {
        for kinds in kinds() {
            let [p, q] =
                [(kinds[0], 41), (kinds[1], 42)].map(|(kind, seed)| side::<T>(kind, 3, bins, seed));
            let batch = batch(kinds, &p, &q).with_mass(Mass::Normalize);
            for engine in engines {
                let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
                let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 3);
                assert!(check.is_ok(), "{engine:?}, {} {kinds:?}, {bins}: {check:?}", T::NAME);
            }
        }
    }
}

#[test]
fn every_length() {
    let short = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 255, 256, 257, 1023, 4097];
    lengths::<f32>(&short, engines());
    lengths::<f16>(&short, engines());
    lengths::<bf16>(&short, engines());
    lengths::<f32>(&[16_384, 16_385, 65_535, 65_537, 262_144], roomy_engines());
    lengths::<f16>(&[70_001], roomy_engines());
}

/// Numbers from −1 to 1.
fn noise(random: &mut Random, bins: usize) -> Array1<f64> {
    Array1::from_shape_simple_fn(bins, || 2.0 * random.uniform() - 1.0)
}

/// What a kernel may miss that looks at `length` bins of each `length × every` first.
fn rows_that_mislead(
    bins: usize,
    length: usize,
    every: usize,
) -> Vec<(&'static str, [Vec<f32>; 2])> {
    let seen = |bin: usize| (bin / length).is_multiple_of(every);
    let mut random = Random(47);
    let [rough, other] = [(); 2].map(|()| noise(&mut random, bins));
    let [rough, other] = [rough, other].map(|side| side.mapv(|x| x as f32));
    let row = |of: &dyn Fn(usize) -> [f32; 2]| {
        let pairs: Vec<[f32; 2]> = (0..bins).map(of).collect();
        [0, 1].map(|side| pairs.iter().map(|pair| pair[side]).collect::<Vec<f32>>())
    };
    let near = |bin: usize| [rough[bin], rough[bin] + 1e-3 * other[bin]];
    let mut rows = Vec::new();
    for height in [3.0, 30.0, 60.0, 89.0, 140.0, 300.0] {
        rows.push(("peaks", row(&|bin| near(bin).map(|x| if seen(bin) { x } else { x + height }))));
    }
    for height in [45.0, 100.0] {
        let [of_p, of_q] = [[height, 0.0], [0.0, height]];
        for [p_by, q_by] in [of_p, of_q] {
            let of = |bin: usize| match seen(bin) {
                true => near(bin),
                false => {
                    [rough[bin] + p_by * other[bin].abs(), rough[bin] + q_by * other[bin].abs()]
                }
            };
            rows.push(("peaks of one side", row(&of)));
        }
    }
    rows.push(("far too large", row(&|bin| if seen(bin) { near(bin) } else { [1e30; 2] })));
    let none = f32::NEG_INFINITY;
    rows.push(("masks", row(&|bin| if seen(bin) { [none; 2] } else { near(bin) })));
    rows.push(("masks of P", row(&|bin| [if seen(bin) { none } else { rough[bin] }, other[bin]])));
    rows.push(("lows", row(&|bin| if seen(bin) { [-7e4, -8e4] } else { near(bin) })));
    // The same but for a constant, and something else where little is.
    for (by, little) in [(0.0, -9.0), (2.5, -12.0), (-40.0, -12.0)] {
        let of = |bin: usize| match seen(bin) {
            true => [rough[bin] + little, other[bin] + little],
            false => [rough[bin], rough[bin] + by],
        };
        rows.push(("little that differs", row(&of)));
    }
    // One heap that P has, and one that Q has.
    rows.push(("heaps", row(&|bin| if seen(bin) { [rough[bin], 6.0] } else { [6.0, other[bin]] })));
    rows
}

#[test]
fn some_bins_that_mislead_about_the_others() {
    // Trips of one invocation, and of all that share a row.
    let samples =
        [(1_024, 16, 8), (1_024, 64, 4), (4_100, 16, 8), (4_100, 512, 2), (65_536, 2_048, 8)];
    for (bins, length, every) in samples {
        let (names, rows): (Vec<_>, Vec<_>) =
            rows_that_mislead(bins, length, every).into_iter().unzip();
        let [p, q] = [0, 1].map(|side| {
            let bins_of = |row: &[Vec<f32>; 2]| row[side].clone();
            let all = rows.iter().flat_map(bins_of).collect();
            Array2::from_shape_vec((rows.len(), bins), all).unwrap()
        });
        let batch = Batch::logits(&p, &q).unwrap();
        for engine in roomy_engines() {
            let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
            for (row, name) in names.iter().enumerate() {
                let [p, q] = [&p, &q].map(|side| side.row(row).mapv(f64::from).to_vec());
                let [p, q] = [p, q].map(|row| normalized(reference::logs(&row, Kind::Logits, 1.0)));
                let want = reference::relative_entropy_of_logs(&p, &q);
                let value = f64::from(outcome.values[row]);
                assert!(
                    close(value, want, LOGS),
                    "{engine:?}, {name}, {bins} bins in {length}s: {value:e} for {want:e}"
                );
            }
        }
    }
}

/// A ratio of the masses that a sample has not, since little of the masses is in it: next to such a ratio
/// these divergences are small.
#[test]
fn what_a_sample_has_little_of_beside_rows_that_are_nearly_the_same() {
    let mut random = Random(53);
    for (bins, length, every) in
        [(1_024, 16, 8), (1_024, 128, 8), (4_096, 256, 4), (65_536, 2_048, 16)]
    {
        let is_seen = |bin: usize| (bin / length).is_multiple_of(every);
        // Logits of P, and how far those of Q lie above them.
        let mut rows = Vec::new();
        for height in [4.0, 8.0, 12.0] {
            // One bin has nearly all.
            let [mut p, d] = [(); 2].map(|()| noise(&mut random, bins).to_vec());
            p[bins - 1] = (bins as f64).ln() + height;
            rows.push((p, d.into_iter().map(|d| 7e-4 * d).collect::<Vec<_>>()));
        }
        // All those of a sample but one are unlikely.
        let low = |bin: usize| is_seen(bin) && bin > 0;
        let p = (0..bins).map(|bin| if low(bin) { -10.0 } else { 0.0 }).collect();
        rows.push((p, (0..bins).map(|bin| if is_seen(bin) { 0.0 } else { 5e-4 }).collect()));
        for (row, (p, d)) in rows.into_iter().enumerate() {
            let q: Vec<f64> = p.iter().zip(&d).map(|(x, d)| x + d).collect();
            let [p, q] = [p, q].map(|side| {
                let side = side.into_iter().map(|x| x as f32).collect();
                Array2::from_shape_vec((1, bins), side).unwrap()
            });
            let want = divergence_of_near(p.row(0), q.row(0));
            let batch = Batch::logits(&p, &q).unwrap();
            for engine in roomy_engines() {
                let value = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
                assert!(
                    close(f64::from(value), want, LOGS),
                    "{engine:?}, {bins} bins, row {row}: {value:e} for {want:e}"
                );
            }
        }
    }
}

/// ln Σ P·e^y for differences y of logits less their mean under P: no terms of first order cancel.
fn divergence_of_near(p: ArrayView1<f32>, q: ArrayView1<f32>) -> f64 {
    let logs = normalized(p.iter().map(|&x| f64::from(x)).collect());
    let weights: Vec<f64> = logs.into_iter().map(f64::exp).collect();
    let d: Vec<f64> = p.iter().zip(q).map(|(&p, &q)| f64::from(q) - f64::from(p)).collect();
    let mean: f64 = weights.iter().zip(&d).map(|(w, d)| w * d).sum();
    let beyond = |d: f64| (d - mean).exp_m1() - (d - mean);
    weights.iter().zip(&d).map(|(w, &d)| w * beyond(d)).sum::<f64>().ln_1p()
}

fn normalized(mut logs: Vec<f64>) -> Vec<f64> {
    let ln_mass = reference::ln_mass(&logs);
    logs.iter_mut().for_each(|log| *log -= ln_mass);
    logs
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    fn check<T: Element<Value = f32>>() {
        for bins in [3, 37, 700] {
            for kinds in kinds() {
                let p = side::<T>(kinds[0], 9, bins, 43);
                let q = side::<T>(kinds[1], 9, bins, 44);
                let batch = batch(kinds, &p, &q).with_mass(Mass::Normalize);
                // Views of a larger array, at odd offsets and in another order of memory.
                let mut wide = Array2::from_elem((11, bins + 3), T::from_f64(f64::NAN));
                let mut view = wide.view_mut();
                view.slice_axis_inplace(Axis(0), (2..11).into());
                view.slice_axis_inplace(Axis(1), (1..bins + 1).into());
                view.assign(&p);
                let mut columns = Array2::default((9, bins).f());
                columns.assign(&q);
                let strided = Batch::of(kinds[0], view.view(), kinds[1], &columns).unwrap();
                let twice = concatenate![Axis(0), q, q];
                let more = concatenate![Axis(0), p, p];
                let more = Batch::of(kinds[0], &more, kinds[1], &twice).unwrap();
                for engine in engines() {
                    let what = format!("{engine:?}, {} {kinds:?}, {bins} bins", T::NAME);
                    let want = bits(engine, &batch);
                    let alone = (0..9).flat_map(|row| bits(engine, &batch.slice(row..row + 1)));
                    assert_eq!(alone.collect::<Vec<_>>(), want, "{what}");
                    let strided = strided.with_mass(Mass::Normalize);
                    assert_eq!(bits(engine, &strided), want, "{what}");
                    let more = bits(engine, &more.with_mass(Mass::Normalize));
                    assert_eq!(more[..9], want, "{what}");
                    assert_eq!(more[9..], want, "{what}");
                }
            }
        }
    }
    check::<f32>();
    check::<f16>();
    check::<bf16>();
}

#[test]
fn a_row_has_the_same_bits_under_any_number_of_threads() {
    let p = side::<f32>(Kind::Logits, 3, 100_000, 45);
    let q = side::<f32>(Kind::Logits, 3, 100_000, 46);
    let batch = Batch::logits(&p, &q).unwrap();
    let with_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&Engine::cpu(), &batch))
    };
    let want = with_threads(1);
    for threads in [2, 3, 7] {
        assert_eq!(with_threads(threads), want, "{threads} threads");
    }
}

#[test]
fn one_row_against_many() {
    for kinds in kinds() {
        let many = side::<f16>(kinds[0], 7, 33, 47);
        let one = side::<f16>(kinds[1], 1, 33, 48);
        let repeated = one.broadcast((7, 33)).unwrap().to_owned();
        for engine in engines() {
            let want = bits(engine, &batch(kinds, &many, &repeated).with_mass(Mass::Normalize));
            let got = bits(engine, &batch(kinds, &many, &one).with_mass(Mass::Normalize));
            assert_eq!(got, want, "{engine:?}, {kinds:?}");
        }
    }
}

#[test]
fn the_same_bits_have_no_divergence() {
    for kind in [Kind::LogProbs, Kind::Logits] {
        for bins in [1, 5, 300, 5_000] {
            let p = side::<f32>(kind, 4, bins, 49);
            for engine in engines() {
                for temperature in [0.25, 0.7, 1.0, 3.0, 8.0] {
                    let mut batch = batch([kind; 2], &p, &p);
                    if kind == Kind::Logits {
                        batch = batch.with_temperature(temperature).unwrap();
                    }
                    let got = bits(engine, &batch);
                    assert!(got.iter().all(|&bits| bits == 0), "{engine:?}, {kind}, {bins} bins");
                }
            }
        }
    }
}

#[test]
fn a_constant_added_to_logits_changes_nothing() {
    // Multiples of 2^-10, so that the shifted ones are exact.
    let exact = |side: Array2<f32>| side.mapv(|x| (x * 1024.0).round() / 1024.0);
    let p = exact(side::<f32>(Kind::Logits, 5, 300, 50));
    let near = p.mapv(|x| x + 1.0 / 256.0 * (x * 1e4).sin().signum());
    let far = exact(side::<f32>(Kind::Logits, 5, 300, 57));
    // Near, with bins that are not.
    let mixed = Array2::from_shape_fn(p.dim(), |(row, bin)| {
        p[[row, bin]] - if bin % 11 == 0 { 3.0 } else { 0.0 }
    });
    let cases = |engine| [(engine, &near), (engine, &far), (engine, &mixed)];
    for (engine, q) in engines().iter().flat_map(cases) {
        let values = |p: &Array2<f32>, q: &Array2<f32>| {
            engine.rows(Divergence::Kl, &Batch::logits(p, q).unwrap()).unwrap().values
        };
        let want = values(&p, q);
        for shift in [1.0, -37.5, 1000.0, -8000.0] {
            let got = [values(&(&p + shift), q), values(&p, &(q + shift))];
            for (got, want) in got.iter().flat_map(|got| got.iter().zip(&want)) {
                assert!(close((*got).into(), (*want).into(), 1e-6), "{engine:?}: {got} {want}");
            }
        }
    }
}

/// Whatever its size: all of P's logits are one number, and those of Q are not.
#[test]
fn logits_that_are_all_alike_may_be_any_number() {
    fn check<T: Element>(engine: &Engine, alike: &[f64], tolerance: f64) {
        let q = [0.0, 1.0, 2.0, 3.0, -5.0].map(T::from_f64);
        let (q, none) = (Array2::from_shape_vec((1, 5), q.into()).unwrap(), T::from_f64(0.0));
        let all: Vec<_> = all_divergences().collect();
        let found = |p: &Array2<T>, q: &Array2<T>| {
            let batch = Batch::logits(p, q).unwrap();
            let outcomes = engine.several(&all, &batch).unwrap();
            for (&divergence, outcome) in all.iter().zip(&outcomes) {
                let check = engine.cross_check(divergence, &batch, outcome, 1);
                assert!(check.is_ok(), "{engine:?}: {divergence} of {p} {q}: {check:?}");
            }
            let mut values: Vec<_> = outcomes.iter().map(|found| found.values[0]).collect();
            let pairs = Pairs::logits(p, q).unwrap();
            let pair = |&divergence| engine.matrix(divergence, &pairs).unwrap().values[[0, 0]];
            values.extend(all.iter().map(pair));
            let slopes = engine.gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
            values.extend(slopes.p.unwrap().into_iter().chain(slopes.q.unwrap()));
            values.extend(engine.rows(Divergence::Kl, &batch).unwrap().values);
            values
        };
        let zeros = Array2::from_elem((1, 5), none);
        let want = [found(&zeros, &q), found(&q, &zeros)];
        for &alike in alike {
            let p = Array2::from_elem((1, 5), T::from_f64(alike));
            for (want, got) in want.iter().zip([found(&p, &q), found(&q, &p)]) {
                for (at, (got, want)) in got.into_iter().zip(want).enumerate() {
                    let (got, want) = (got.to_f64(), want.to_f64());
                    assert!(
                        close(got, want, tolerance),
                        "{engine:?}, {alike:e}, value {at}: {got} for {want}"
                    );
                }
            }
        }
    }
    let f32_s = [1e4, -69_999.0, -69_990.0, -7e4, 1e12, -1e30, f32::MAX.into(), f32::MIN.into()];
    for engine in engines() {
        check::<f32>(engine, &f32_s, 2e-6);
    }
    for engine in f64_engines() {
        check::<f64>(engine, &[1e4, -1e12, 1e300, -1e307], 1e-14);
    }
}

/// A bin that is next to nothing of P counts where Q has far less: masks are as low as numbers go.
#[test]
fn what_is_too_small_for_f32_counts_beside_a_mask() {
    let least = f32::MIN;
    let p = array![[0.0_f32, 0.1, -88.0], [0.0, 0.1, -100.0], [0.0, -26.5, 0.1], [0.0, 0.1, -70.0]];
    let q = array![[0.1_f32, 0.0, least], [0.1, 0.0, -1e36], [0.1, least, 0.0], [0.1, 0.0, least]];
    let wide = |side: &Array2<f32>| side.mapv(f64::from);
    for temperature in [0.3, 1.0] {
        for engine in engines() {
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
            let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
            engine.cross_check(Divergence::Kl, &batch, &outcome, 4).unwrap();
            let got = engine.gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
            let (p, q) = (wide(&p), wide(&q));
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
            let want = Engine::cpu().gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
            for (got, want) in [(got.p, want.p), (got.q, want.q)] {
                let (got, want) = (got.unwrap(), want.unwrap());
                for (got, want) in got.rows().into_iter().zip(want.rows()) {
                    let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
                    let off = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
                    let off = off.fold(0.0, f64::max);
                    assert!(off <= 1e-5 * largest, "{engine:?}: {got} for {want}");
                }
            }
        }
    }
}

/// The mass that is not in the largest bin is all that counts.
#[test]
fn confident_rows_have_their_digits() {
    let labels = Array2::from_shape_fn((5, 2), |(_, bin)| if bin == 0 { 1.0_f32 } else { 0.0 });
    let sure = array![[25.0_f32, 0.0], [30.0, 0.0], [35.0, 0.0], [40.0, 0.0], [88.0, 0.0]];
    let more = &sure + &array![[1.0_f32, 0.0]];
    for engine in engines() {
        let batch = Batch::of(Kind::Probs, &labels, Kind::Logits, &sure).unwrap();
        let cross = engine.rows(Divergence::CrossEntropy, &batch).unwrap().values;
        let batch = Batch::logits(&sure, &more).unwrap();
        let entropy = engine.rows(Divergence::Entropy, &batch).unwrap().values;
        let tv = engine.rows(Divergence::TotalVariation, &batch).unwrap().values;
        let pairs = Pairs::logits(&sure, &more).unwrap();
        let pair = |divergence, row| engine.matrix(divergence, &pairs).unwrap().values[[row, row]];
        for (row, x) in sure.column(0).iter().map(|&x| f64::from(x)).enumerate() {
            let rest = |x: f64| (-x).exp() / (1.0 + (-x).exp());
            let ln_mass = (-x).exp().ln_1p();
            let h = ln_mass + rest(x) * x;
            let apart = rest(x) - rest(x + 1.0);
            for (what, got, want) in [
                ("cross-entropy", cross[row], ln_mass),
                ("entropy", entropy[row], h),
                ("entropy of a pair", pair(Divergence::Entropy, row), h),
                ("tv", tv[row], apart),
                ("tv of a pair", pair(Divergence::TotalVariation, row), apart),
            ] {
                assert!(close(got.into(), want, 3e-6), "{engine:?}: {what} {got} for {want}");
            }
        }
    }
}

/// Probabilities of which there is no number, on either side.
#[test]
fn squares_by_what_is_too_small_for_a_number() {
    let p = array![[0.0_f32, -320.0], [0.0, -460.0], [0.0, -3.0]];
    let q = array![[0.0_f32, -720.0], [0.0, -1000.0], [0.0, -1.0]];
    let outside = |x: f64| (2.0 * x).exp();
    for engine in engines() {
        let outcome = engine.rows(Divergence::ChiSquared, &Batch::logits(&p, &q).unwrap()).unwrap();
        for (row, want) in [outside(40.0), outside(40.0)].into_iter().enumerate() {
            let got = outcome.values[row].into();
            assert!(close(got, want, 3e-6), "{engine:?}: {got} for {want}");
        }
        assert!((0.0..1.0).contains(&outcome.values[2]), "{engine:?}: {outcome:?}");
    }
}

/// A mask that a temperature takes beyond the range is low, and no −inf.
#[test]
fn masks_at_the_end_of_f64() {
    let p = array![[0.1, 0.0, -1e9], [0.0, 0.1, f64::MIN]];
    let q = array![[0.0, 0.1, f64::MIN], [0.1, 0.0, f64::MIN]];
    for engine in f64_engines() {
        for temperature in [0.5, 1.0, 1e-3] {
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
            // The squares are beyond the range.
            let squares =
                [Divergence::ChiSquared, Divergence::Renyi(2.0), Divergence::Tsallis(2.0)];
            let all = Divergence::ALL.iter().filter(|divergence| !squares.contains(divergence));
            for &divergence in all {
                let Ok(outcome) = engine.rows(divergence, &batch) else {
                    panic!("{engine:?}: {divergence} at {temperature}");
                };
                assert!(
                    outcome.values.iter().all(|value| value.is_finite()),
                    "{engine:?}: {divergence} at {temperature} is {}",
                    outcome.values
                );
            }
            let got = engine.gradient(Divergence::Kl, &batch, Wanted::Both, None).unwrap();
            let sums = got.p.unwrap().sum_axis(Axis(1)).mapv(f64::abs);
            assert!(sums.iter().all(|&sum| sum < 1e-12), "{engine:?}: {sums}");
        }
    }
}

/// Bins that both sides have the same low number for are nothing beside others, and need no closer look.
#[test]
fn masks_may_be_numbers() {
    const BINS: usize = 300;
    fn side<T: Element>(mask: f64, seed: f64) -> Array2<T> {
        Array2::from_shape_fn((3, BINS), |(row, bin)| match row {
            // The last row has nothing else, and is uniform.
            2 => T::from_f64(mask),
            _ if bin < 80 || bin % 7 == 3 => T::from_f64(mask),
            _ => T::from_f64(3.0 * (seed * bin as f64 + row as f64).sin()),
        })
    }
    fn check<T: Element>(engine: &Engine, divergences: &[Divergence], mask: f64, temperature: f64) {
        let [p, q] = [side::<T>(mask, 0.7), side(mask, 0.4)];
        let [wide_p, wide_q] = [&p, &q].map(|side| side.mapv(|x| x.to_f64()));
        let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
        let wide = Batch::logits(&wide_p, &wide_q).unwrap().with_temperature(temperature).unwrap();
        let what = format!("{engine:?}, {}, {mask:e} at {temperature}", T::NAME);
        let outcomes = engine.several(divergences, &batch).unwrap();
        let wanted = Engine::cpu().several(divergences, &wide).unwrap();
        for ((divergence, outcome), want) in divergences.iter().zip(&outcomes).zip(&wanted) {
            for (&got, &want) in outcome.values.iter().zip(&want.values) {
                assert!(close(got.to_f64(), want, 3e-6), "{what}: {divergence} {got} for {want}");
            }
        }
        // The host has the uniform row.
        let due = usize::from(engine.backend() != "cpu");
        assert_eq!(outcomes[0].closer_looks, due, "{what}");
        let got = engine.gradient(divergences[0], &batch, Wanted::P, None).unwrap().p.unwrap();
        let want = Engine::cpu().gradient(divergences[0], &wide, Wanted::P, None).unwrap();
        for (&got, &want) in got.iter().zip(&want.p.unwrap()) {
            let off = (got.to_f64() - want).abs();
            assert!(off < 1e-7, "{what}: {got} for {want}");
        }
    }
    let all: Vec<_> = all_divergences().collect();
    for engine in engines() {
        for mask in [f32::MIN.into(), -1e9, -70_000.0] {
            for temperature in [1.0, 0.7] {
                check::<f32>(engine, &[Divergence::Kl], mask, temperature);
            }
        }
        check::<f32>(engine, &all, -1e30, 1.0);
        check::<f32>(engine, &[Divergence::JensenShannon(0.5)], -1e30, 0.7);
        check::<bf16>(engine, &[Divergence::Kl], -1e30, 1.0);
    }
    for engine in f64_engines() {
        check::<f64>(engine, &[Divergence::Kl], f64::MIN, 0.7);
        check::<f64>(engine, &all, -1e30, 1.0);
    }
}

/// Roundings that are all alike add up, the more there are one after the other.
#[test]
fn bins_that_are_alike() {
    for bins in [1_024, 70_001] {
        let p = Array2::from_shape_fn((8, bins), |(row, _)| 0.1 * row as f32);
        let q = Array2::from_shape_fn((8, bins), |(row, bin)| match bin % 2 {
            0 => 0.07 * row as f32,
            _ => 3.3 - 0.9 * row as f32,
        });
        let batch = Batch::logits(&p, &q).unwrap();
        for engine in roomy_engines() {
            let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
            let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 8);
            assert!(check.is_ok(), "{engine:?}, {bins} bins: {check:?}");
        }
    }
}

#[test]
fn masked_entries() {
    let inf = f32::INFINITY;
    let p = array![[0.0, 1.0, -inf], [0.0, -inf, 1.0], [0.0, 1.0, 2.0], [-inf, 3.0, -inf]];
    let q = array![[1.0, 0.0, -inf], [0.0, -inf, -inf], [0.0, 1.0, -inf], [-inf, -7.0, -inf]];
    // Two bins of σ(1) and σ(−1), exchanged: (2σ(1) − 1)·1, by mpmath.
    let first = 0.462_117_157_260_009_76;
    for engine in engines() {
        let batch = Batch::logits(&p, &q).unwrap().with_masses();
        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        assert!(close(outcome.values[0].into(), first, 5e-7), "{engine:?}: {outcome:?}");
        let statuses = [Status::Ok, Status::Infinite, Status::Infinite, Status::Ok];
        assert_eq!(outcome.statuses.to_vec(), statuses, "{engine:?}");
        assert_eq!((outcome.values[1], outcome.values[3]), (inf, 0.0), "{engine:?}");
        let masses = outcome.masses.unwrap();
        assert_eq!(masses.p, array![1.0, 1.0, 1.0, 1.0], "{engine:?}");
    }
}

#[test]
fn invalid_rows_are_named() {
    let good = side::<f32>(Kind::Logits, 5, 40, 51);
    for (kind, what) in [(Kind::Logits, "logit"), (Kind::LogProbs, "log-probability")] {
        for (bad, rule) in [(f32::NAN, Rule::NotANumber), (f32::INFINITY, Rule::Infinite)] {
            let mut p = good.clone();
            p[[3, 17]] = bad;
            for engine in engines() {
                let both = batch([kind; 2], &p, &good).with_mass(Mass::Normalize);
                let error = engine.rows(Divergence::Kl, &both).unwrap_err();
                let value = if bad.is_nan() { "NaN" } else { "inf" };
                assert_eq!(
                    error.to_string(),
                    format!("P row 3, bin 17: the value is {value}; a {what} is a number or -inf")
                );
                let both = both.with_on_invalid(OnInvalid::Nan).with_masses();
                let outcome = engine.rows(Divergence::Kl, &both).unwrap();
                assert_eq!(outcome.statuses[3], Status::Invalid(rule), "{engine:?}");
                let masses = outcome.masses.as_ref().unwrap();
                assert!(outcome.values[3].is_nan() && masses.p[3].is_nan());
                let rest = engine.rows(Divergence::Kl, &both.slice(4..5)).unwrap();
                assert_eq!(outcome.values[4], rest.values[0], "{engine:?}");
                assert_eq!(outcome.invalid_rows(), 1, "{engine:?}");
            }
        }
    }
}

#[test]
fn a_row_of_masked_logits_is_invalid() {
    let mut p = side::<f32>(Kind::Logits, 3, 20, 52);
    let q = p.clone();
    p.row_mut(1).fill(f32::NEG_INFINITY);
    for engine in engines() {
        for &mass in Mass::ALL {
            for (p, q, side) in [(&p, &q, Side::P), (&q, &p, Side::Q)] {
                let batch = Batch::logits(p, q).unwrap().with_mass(mass);
                let Err(Error::Invalid(row)) = engine.rows(Divergence::Kl, &batch) else {
                    panic!("{engine:?}, {mass}");
                };
                assert_eq!((row.side, row.row, row.rule), (side, 1, Rule::NoMass), "{engine:?}");
            }
        }
    }
}

#[test]
fn masses_of_log_probabilities_are_checked() {
    let p = side::<f32>(Kind::LogProbs, 2, 50, 53);
    let mut heavy = p.clone();
    heavy.row_mut(1).mapv_inplace(|x| x + 0.01);
    for engine in engines() {
        let error = engine.rows(Divergence::Kl, &Batch::log_probs(&p, &heavy).unwrap());
        assert!(
            error.as_ref().unwrap_err().to_string().starts_with("Q row 1: the mass is 1.01005"),
            "{engine:?}: {error:?}"
        );
        let batch = Batch::log_probs(&p, &heavy).unwrap().with_mass_tolerance(0.02).unwrap();
        assert!(engine.rows(Divergence::Kl, &batch).is_ok(), "{engine:?}");
    }
}

#[test]
fn temperatures_outside_their_range_are_refused() {
    let p = array![[0.0_f32, 1.0]];
    let batch = Batch::logits(&p, &p).unwrap();
    for temperature in [0.0, -1.0, 1e-7, 1e7, f64::NAN, f64::INFINITY] {
        let error = batch.with_temperature(temperature).unwrap_err();
        let message =
            format!("temperature is {temperature}: it must be at least 1e-6 and at most 1e6");
        assert_eq!(error.to_string(), message);
    }
    let error = Batch::log_probs(&p, &p).unwrap().with_temperature(2.0).unwrap_err();
    let message = "temperature is 2: only logits have one, and neither side is logits";
    assert_eq!(error.to_string(), message);
    assert_eq!(batch.with_temperature(2.0).unwrap().temperature(), 2.0);
}

#[test]
fn rows_of_16_bits_may_be_off_by_more() {
    // 1,000 times the nearest bf16 of 1/1000 is 1.0009765625; of 1/300, 1.0030.
    for engine in engines() {
        let row = Array2::from_elem((1, 300), bf16::from_f64(1.0 / 300.0));
        let outcome = engine.rows(Divergence::Kl, &Batch::probs(&row, &row).unwrap());
        assert!(outcome.is_ok(), "{engine:?}: {outcome:?}");
        let heavy = Array2::from_elem((1, 300), bf16::from_f64(1.02 / 300.0));
        assert!(engine.rows(Divergence::Kl, &Batch::probs(&row, &heavy).unwrap()).is_err());
    }
}

#[test]
fn logits_of_any_size() {
    // The host takes over what the shader does not.
    let p = array![[0.0_f32, 1e4, -1e4], [1e30, 0.0, 1e30], [f32::MAX, f32::MIN, 0.0]];
    let q = array![[0.0_f32, -1e4, 1e4], [1e30, 1e30, 0.0], [f32::MAX, 0.0, 0.0]];
    for engine in engines() {
        let outcome = engine.rows(Divergence::Kl, &Batch::logits(&p, &q).unwrap()).unwrap();
        assert_eq!(outcome.values[0], 2e4, "{engine:?}");
        assert!(close(outcome.values[1].into(), 0.5e30, 1e-6), "{engine:?}: {outcome:?}");
        assert_eq!(outcome.values[2], 0.0, "{engine:?}");
    }
    // Far below 0: all of a side, or what was masked with a large number.
    let (low, least, mask) = (-1e5_f32, f32::MIN, -1e9_f32);
    let p = array![
        [low, low, low + 1.0],
        [least, least, least],
        [mask, 0.0, 1.0],
        [0.0, 0.0, 1.0],
        [mask, mask, 0.5],
        [0.0, 1.0, mask],
    ];
    let q = array![
        [low, low + 2.0, low],
        [0.0, 1.0, 0.0],
        [0.5, 0.0, 0.0],
        [mask, 0.0, 0.0],
        [mask, mask, 0.0],
        [0.5, 0.0, f32::NEG_INFINITY],
    ];
    for engine in engines() {
        let batch = Batch::logits(&p, &q).unwrap();
        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 6);
        assert!(check.is_ok(), "{engine:?}: {check:?}");
        assert_eq!(outcome.values[5], f32::INFINITY, "{engine:?}");
    }
    // Q all but lacks a bin that is half of P.
    let p = array![[0.0_f32, 0.0], [0.0, 0.0]];
    let q = array![[0.0_f32, -65_000.0], [0.0, -100_000.0]];
    let want = [32_500.0, 50_000.0].map(|half| half - std::f64::consts::LN_2);
    for engine in engines() {
        let outcome = engine.rows(Divergence::Kl, &Batch::logits(&p, &q).unwrap()).unwrap();
        for (&got, want) in outcome.values.iter().zip(want) {
            assert!(close(got.into(), want, 1e-7), "{engine:?}: {got} for {want}");
        }
    }
    let p = distributions::<f32>(3, 40, 54);
    let logits = p.mapv(|p| p.ln() * 1e-3);
    for engine in engines() {
        let batch = Batch::of(Kind::Probs, &p, Kind::Logits, &logits).unwrap();
        let batch = batch.with_temperature(1e-3).unwrap();
        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
        assert!(outcome.values.iter().all(|&kl| (0.0..1e-12).contains(&kl)), "{outcome:?}");
    }
}

#[test]
fn logits_that_are_large_only_once_divided() {
    fn check<T: Element>(engines: impl Iterator<Item = &'static Engine>) {
        let p = side::<T>(Kind::Logits, 3, 60, 55).mapv(|x| T::from_f64(x.to_f64() * 40.0));
        let q = side::<T>(Kind::Logits, 3, 60, 56).mapv(|x| T::from_f64(x.to_f64() * 40.0));
        let batch = Batch::logits(&p, &q).unwrap().with_temperature(1e-3).unwrap();
        for engine in engines {
            let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
            let check = engine.cross_check(Divergence::Kl, &batch, &outcome, 3);
            assert!(check.is_ok(), "{engine:?}, {}: {check:?}", T::NAME);
        }
    }
    check::<f32>(engines().iter());
    check::<f16>(engines().iter());
    check::<f64>(f64_engines());
}

#[test]
fn temperatures_next_to_1() {
    // The leading bits of 1/T are those of 1 here, and T is not 1.
    let p = array![[0.0_f64, 1.0, 2.5, -3.0]];
    let q = array![[0.5_f64, -1.0, 2.0, 1.0]];
    for temperature in [0.9996, 0.9999, 0.99999, 1.0 - 1e-9, 1.00001, 1.0001] {
        // The same in another way: the logits are divided beforehand.
        let [cooled_p, cooled_q] = [&p, &q].map(|side| side.mapv(|x| x / temperature));
        let cooled = Batch::logits(&cooled_p, &cooled_q).unwrap();
        let want = Engine::cpu().rows(Divergence::Kl, &cooled).unwrap().values[0];
        let [p_narrow, q_narrow] = [&p, &q].map(|side| side.mapv(|x| x as f32));
        for engine in f64_engines() {
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(temperature).unwrap();
            let got = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
            assert!(close(got, want, 1e-14), "{engine:?}, f64, {temperature}: {got} for {want}");
        }
        for engine in engines() {
            let batch = Batch::logits(&p_narrow, &q_narrow).unwrap();
            let batch = batch.with_temperature(temperature).unwrap();
            let got = engine.rows(Divergence::Kl, &batch).unwrap().values[0];
            assert!(close(got.into(), want, 1e-6), "{engine:?}, {temperature}: {got} for {want}");
        }
    }
}

/// What rounding takes from a logit divided by the temperature shows where logits are far from 0.
#[test]
fn shifted_logits_of_f64_at_a_temperature() {
    let (p, q) = (array![[0.0_f64, 1.0, 2.5]], array![[0.0_f64, 4.0, 1.0]]);
    for engine in f64_engines() {
        let value = |shift: f64| {
            let (p, q) = (p.mapv(|x| x + shift), q.mapv(|x| x + shift));
            let batch = Batch::logits(&p, &q).unwrap().with_temperature(3.0).unwrap();
            engine.rows(Divergence::Kl, &batch).unwrap().values[0]
        };
        for shift in [4e4, -7e4, 1e5] {
            let (got, want) = (value(shift), value(0.0));
            assert!(close(got, want, 2e-14), "{engine}, {shift}: {got:e}, not {want:e}");
        }
    }
}
