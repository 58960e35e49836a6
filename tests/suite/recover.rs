//! Devices that fail, and what becomes of the rows.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kullback::internal::{Injury, engine_under, idle_adapter, injure};
use kullback::{Batch, Cause, Divergence, Engine, Error, Outcome, Pairs, Wanted, nonblocking};
use ndarray::{Array2, Axis};

use crate::data::distributions;
use crate::engines::gpu::{TINY, adapter};

/// How much of the long tests is run; 1 in the suite.
fn times() -> usize {
    std::env::var("KULLBACK_STORM").map_or(1, |times| times.parse().expect("a number"))
}

fn data(rows: usize, bins: usize) -> (Array2<f32>, Array2<f32>) {
    (distributions(rows, bins, 71), distributions(rows, bins, 72))
}

fn rows(engine: &Engine, p: &Array2<f32>, q: &Array2<f32>) -> Result<Outcome<f32>, Error> {
    engine.rows(Divergence::Kl, &Batch::probs(p, q).unwrap().with_masses())
}

fn gpu() -> Engine {
    Engine::with_adapter(&adapter()).unwrap()
}

fn cause(error: Error) -> Cause {
    match error {
        Error::Device { cause, .. } => cause,
        other => panic!("{other:?} is no fault of a device"),
    }
}

const QUICK: [Injury; 4] =
    [Injury::Loss, Injury::Panic, Injury::Fault("injured"), Injury::Fault("no memory left")];

#[test]
fn a_call_after_a_fault_opens_the_device_anew() {
    let (p, q) = data(9, 50);
    let engine = gpu();
    let want = rows(&engine, &p, &q).unwrap();
    assert_eq!((want.recovery.faults, want.recovery.reopened), (0, 0));
    for injury in QUICK {
        injure(&engine, injury).unwrap();
        let got = rows(&engine, &p, &q).unwrap();
        assert_eq!((&got.values, &got.masses), (&want.values, &want.masses), "{injury:?}");
        assert_eq!((got.recovery.faults, got.recovery.reopened), (1, 1), "{injury:?}");
        assert_eq!((got.backend, got.recovery.cpu_rows), ("gpu", 0), "{injury:?}");
        assert!(got.recovery.reason.unwrap().contains(adapter().name()), "{injury:?}");
        assert_eq!(rows(&engine, &p, &q).unwrap(), want, "{injury:?}");
    }
}

/// Several divergences of many small chunks, while devices die under them.
#[test]
fn no_row_of_several_divergences_is_lost() {
    const ASKED: &[Divergence] = &[
        Divergence::Kl,
        Divergence::Jeffreys,
        Divergence::JensenShannon(0.5),
        Divergence::Renyi(2.0),
        Divergence::TotalVariation,
        Divergence::Entropy,
    ];
    let engine = engine_under(&adapter(), TINY).unwrap().with_cpu_fallback();
    let (p, q) = data(2_000, 40);
    let batch = Batch::probs(&p, &q).unwrap();
    let want = engine_under(&adapter(), TINY).unwrap().several(ASKED, &batch).unwrap();
    for injury in QUICK {
        let outcomes = under_injuries(&engine, injury, || engine.several(ASKED, &batch)).unwrap();
        for ((outcome, want), &divergence) in outcomes.iter().zip(&want).zip(ASKED) {
            let what = format!("{divergence}, {injury:?}: {:?}", outcome.recovery);
            assert!(outcome.recovery.reason.is_some(), "{what}");
            assert_eq!(outcome.recovery, outcomes[0].recovery, "{what}");
            let from_gpu = batch.rows() - outcome.recovery.cpu_rows;
            assert_eq!(
                outcome.values.as_slice().unwrap()[..from_gpu],
                want.values.as_slice().unwrap()[..from_gpu],
                "{what}"
            );
            engine.cross_check(divergence, &batch, outcome, 200).unwrap();
        }
    }
}

/// Gradients of many small chunks, of which those in Q are sums over all rows, while devices die under them.
#[test]
fn no_gradient_is_lost_with_a_device() {
    let engine = engine_under(&adapter(), TINY).unwrap().with_cpu_fallback();
    let (p, q) = data(1_500, 40);
    let q = q.slice_axis(Axis(0), (..1).into());
    for divergence in [Divergence::Kl, Divergence::JensenShannon(0.5)] {
        let batch = Batch::probs(&p, q).unwrap();
        let want = Engine::cpu().gradient(divergence, &batch, Wanted::Both, None).unwrap();
        for injury in QUICK {
            let made = under_injuries(&engine, injury, || {
                engine.gradient(divergence, &batch, Wanted::Both, None).unwrap()
            });
            let what = format!("{divergence}, {injury:?}: {:?}", made.outcome.recovery);
            assert!(made.outcome.recovery.reason.is_some(), "{what}");
            assert_eq!(made.outcome.statuses, want.outcome.statuses, "{what}");
            for (got, want) in [(made.p, &want.p), (made.q, &want.q)] {
                let (got, want) = (got.unwrap(), want.as_ref().unwrap());
                for (got, want) in got.rows().into_iter().zip(want.rows()) {
                    let largest = want.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                    let off = got.iter().zip(want).map(|(got, want)| (got - want).abs());
                    let off = off.fold(0.0, f32::max);
                    assert!(off <= 1e-5 * largest, "{what}: off by {off:e} of {largest:e}");
                }
            }
        }
    }
}

/// What comes of a call during which its devices die.
fn under_injuries<R>(engine: &Engine, injury: Injury, call: impl FnOnce() -> R) -> R {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // It may be resting.
                let _ = injure(engine, injury);
                thread::sleep(Duration::from_millis(40));
            }
        });
        let result = call();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

/// Many small chunks, and long rows of several chunks each, while devices die under them.
#[test]
fn no_row_is_lost_with_a_device() {
    let (engine, bins) = (engine_under(&adapter(), TINY).unwrap().with_cpu_fallback(), [40, 3000]);
    let calm = engine_under(&adapter(), TINY).unwrap();
    for (bins, injury) in bins.into_iter().flat_map(|bins| QUICK.map(|injury| (bins, injury))) {
        let (p, q) = data(120_000 / bins, bins);
        let want = rows(&calm, &p, &q).unwrap();
        let outcome = under_injuries(&engine, injury, || rows(&engine, &p, &q)).unwrap();
        let what = format!("{bins} bins, {injury:?}: {:?}", outcome.recovery);
        assert!(outcome.recovery.reason.is_some(), "{what}");
        assert_eq!(outcome.statuses, want.statuses, "{what}");
        // The rows that the CPU computed are right, if not the same bits.
        let from_gpu = want.values.len() - outcome.recovery.cpu_rows;
        assert_eq!(
            outcome.values.as_slice().unwrap()[..from_gpu],
            want.values.as_slice().unwrap()[..from_gpu],
            "{what}"
        );
        let batch = Batch::probs(&p, &q).unwrap();
        engine.cross_check(Divergence::Kl, &batch, &outcome, batch.rows()).unwrap();
        let masses = outcome.masses.unwrap();
        assert!(masses.p.iter().chain(&masses.q).all(|mass| (mass - 1.0).abs() < 1e-5), "{what}");
    }
}

/// All against all in many small submissions, while devices die under them.
#[test]
fn no_pair_is_lost_with_a_device() {
    let (p, q) = data(70, 40);
    let calm = engine_under(&adapter(), TINY).unwrap();
    let engine = calm.clone().with_cpu_fallback();
    let cases = [(Divergence::Kl, &q), (Divergence::JensenShannon(0.5), &p)];
    for ((divergence, q), injury) in cases.into_iter().flat_map(|case| QUICK.map(|one| (case, one)))
    {
        let pairs = Pairs::probs(&p, q).unwrap();
        let want = Engine::cpu().matrix(divergence, &pairs).unwrap();
        let from_calm = loop {
            // It may be resting.
            match calm.matrix(divergence, &pairs) {
                Ok(matrix) => break matrix.values,
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        };
        let ended = AtomicBool::new(false);
        let matrix = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let _ = injure(&engine, injury);
                    thread::sleep(Duration::from_millis(40));
                }
            });
            // However fast the device is.
            let hit = loop {
                let matrix = engine.matrix(divergence, &pairs).unwrap();
                if matrix.recovery.faults > 0 {
                    break matrix;
                }
            };
            ended.store(true, Ordering::Relaxed);
            hit
        });
        let what = format!("{divergence}, {injury:?}: {:?}", matrix.recovery);
        assert!(matrix.recovery.reason.is_some(), "{what}");
        let from_gpu = pairs.shape().0 - matrix.recovery.cpu_rows;
        for ((row, column), &got) in matrix.values.indexed_iter() {
            // Of a symmetric one what lies below the diagonal is what lies above it.
            let symmetric = divergence.is_symmetric();
            let first = if symmetric { row.min(column) } else { row };
            let same = got == from_calm[[row, column]];
            assert!(same || first >= from_gpu, "{what}: [{row}, {column}]");
            let want = want.values[[row, column]];
            assert!((got - want).abs() <= 3e-6 * want, "{what}: [{row}, {column}]: {got}, {want}");
        }
        assert_eq!((&matrix.p_statuses, &matrix.q_statuses), (&want.p_statuses, &want.q_statuses));
    }
}

#[test]
fn a_matrix_survives_faults_as_rows_do() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let (p, q) = data(9, 50);
    let pairs = Pairs::probs(&p, &q).unwrap();
    let engine = gpu();
    let want = engine.matrix(Divergence::Kl, &pairs).unwrap();
    for injury in QUICK {
        injure(&engine, injury).unwrap();
        let got = engine.matrix(Divergence::Kl, &pairs).unwrap();
        assert_eq!(got.values, want.values, "{injury:?}");
        let recovery = &got.recovery;
        let counts = (recovery.faults, recovery.reopened, recovery.cpu_rows);
        assert_eq!((got.backend, counts), ("gpu", (1, 1, 0)), "{injury:?}");
        assert_eq!(engine.matrix(Divergence::Kl, &pairs).unwrap(), want, "{injury:?}");
    }
    let hasty = engine.with_deadline(DEADLINE);
    for fallback in [true, false] {
        injure(&hasty, Injury::Hang(Duration::from_secs(40))).unwrap();
        let start = Instant::now();
        if fallback {
            let got = hasty.clone().with_cpu_fallback().matrix(Divergence::Kl, &pairs).unwrap();
            assert_eq!((got.backend, got.adapter, got.recovery.cpu_rows), ("cpu", None, 9));
        } else {
            let error = hasty.matrix(Divergence::Kl, &pairs).unwrap_err();
            assert_eq!(cause(error), Cause::TimedOut);
        }
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(5), "{:?}", start.elapsed());
        // After its rest there is another device.
        let until = Instant::now() + Duration::from_secs(30);
        let patient = hasty.clone().with_deadline(Duration::from_secs(30));
        while patient.matrix(Divergence::Kl, &pairs).is_err() {
            assert!(Instant::now() < until, "it is never tried again");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_device_that_fails_again_and_again_is_left_alone() {
    let (p, q) = data(9, 50);
    let engine = gpu();
    let ended = AtomicBool::new(false);
    let (error, injured, again, outcome) = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let _ = injure(&engine, Injury::Fault("injured"));
            }
        });
        let error = loop {
            match rows(&engine, &p, &q) {
                Ok(outcome) => assert!(outcome.recovery.reopened <= 2, "{:?}", outcome.recovery),
                Err(error) => break error,
            }
        };
        // At once: it rests for a second, and the other thread may take longer to end.
        let injured = injure(&engine, Injury::Loss);
        let again = rows(&engine, &p, &q);
        let outcome = rows(&engine.clone().with_cpu_fallback(), &p, &q);
        ended.store(true, Ordering::Relaxed);
        (error, injured, again, outcome.unwrap())
    });
    assert!(error.to_string().ends_with("failed: injured"), "{error}");
    assert_eq!(cause(error), Cause::Other);
    // Without a try, so that its next device is not asked for either.
    assert!(injured.is_err() && again.is_err());
    assert_eq!((outcome.backend, outcome.adapter.as_deref()), ("cpu", None));
    assert_eq!((outcome.recovery.cpu_rows, outcome.recovery.faults), (9, 0));
    assert!(outcome.recovery.reason.unwrap().ends_with("failed: injured"));
    // And then it is tried again.
    let until = Instant::now() + Duration::from_secs(30);
    while rows(&engine, &p, &q).is_err() {
        assert!(Instant::now() < until, "it is never tried again");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_device_that_hangs_is_not_waited_for() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let (p, q) = data(9, 50);
    let engine = gpu().with_deadline(DEADLINE);
    let want = rows(&gpu(), &p, &q).unwrap();
    for fallback in [false, true] {
        // The device has its kernels by now.
        let engine = if fallback { engine.clone().with_cpu_fallback() } else { engine.clone() };
        injure(&engine, Injury::Hang(Duration::from_secs(40))).unwrap();
        let start = Instant::now();
        let result = rows(&engine, &p, &q);
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(5), "{:?}", start.elapsed());
        if fallback {
            let outcome = result.unwrap();
            assert_eq!((outcome.recovery.cpu_rows, outcome.recovery.faults), (9, 1));
        } else {
            assert_eq!(cause(result.unwrap_err()), Cause::TimedOut);
        }
        // After its rest there is another device.
        let patient = engine.with_deadline(Duration::from_secs(30));
        let until = Instant::now() + Duration::from_secs(30);
        let outcome = loop {
            match rows(&patient, &p, &q) {
                Ok(outcome) if outcome.backend == "gpu" => break outcome,
                _ => assert!(Instant::now() < until, "it is never tried again"),
            }
            thread::sleep(Duration::from_millis(100));
        };
        assert_eq!(outcome.values, want.values);
    }
    // Nor is it when the engine goes.
    injure(&engine, Injury::Hang(Duration::from_secs(40))).unwrap();
    assert!(rows(&engine, &p, &q).is_err());
    let start = Instant::now();
    drop(engine);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn what_the_gpu_does_not_take_the_cpu_does_if_asked() {
    let p = distributions::<f64>(3, 5, 1);
    let engine = kullback::internal::engine_without_f64(&adapter()).unwrap().with_cpu_fallback();
    let outcome = engine.rows(Divergence::Kl, &Batch::probs(&p, &p).unwrap()).unwrap();
    assert_eq!((outcome.backend, outcome.recovery.cpu_rows), ("cpu", 3));
    assert!(outcome.recovery.reason.unwrap().contains("no f64"));

    let engine = engine_under(&adapter(), TINY).unwrap();
    let (p, q) = data(2, 1 << 20);
    assert!(matches!(rows(&engine, &p, &q), Err(Error::TooLong { .. })));
    let outcome = rows(&engine.with_cpu_fallback(), &p, &q).unwrap();
    assert_eq!((outcome.backend, outcome.recovery.cpu_rows), ("cpu", 2));
    // What is wrong with the input is wrong on the CPU too.
    let engine = gpu().with_cpu_fallback();
    assert!(matches!(engine.kl(&(2.0 * &p), &q), Err(Error::Invalid(_))));
}

/// Losses of the device in the midst of the calls of many threads. `KULLBACK_STORM=50` makes it a
/// thousand and more.
#[test]
fn a_storm_of_losses_loses_no_row() {
    const THREADS: u64 = 64;
    let losses_wanted = 20 * times();
    let engine = gpu().with_cpu_fallback();
    let (losses, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while losses.load(Ordering::Relaxed) < losses_wanted {
                if injure(&engine, Injury::Loss).is_ok() {
                    losses.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        for seed in 0..THREADS {
            let (engine, losses, calls) = (&engine, &losses, &calls);
            scope.spawn(move || {
                let bins = 10 + seed as usize * 7;
                let (p, q) = (distributions::<f32>(20, bins, seed), distributions(20, bins, 99));
                let batch = Batch::probs(&p, &q).unwrap();
                while losses.load(Ordering::Relaxed) < losses_wanted {
                    let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
                    engine.cross_check(Divergence::Kl, &batch, &outcome, 20).unwrap();
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{losses_wanted} losses under {THREADS} threads: {calls:?} calls, all right");
}

/// Jobs of many threads on one device, none of which is to miss its own answer.
/// `KULLBACK_STORM=100` makes it 640,000.
#[test]
fn many_threads_lose_no_job() {
    const THREADS: usize = 64;
    let jobs = 100 * times();
    let engine = gpu();
    let (p, q) = data(THREADS, 16);
    let want = rows(&Engine::cpu(), &p, &q).unwrap().values;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, p, q, want) = (&engine, &p, &q, &want);
            scope.spawn(move || {
                let batch = Batch::probs(p, q).unwrap();
                let batch = batch.slice(thread..thread + 1);
                for _ in 0..jobs {
                    let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
                    let (got, want) = (outcome.values[0], want[thread]);
                    assert!((got / want - 1.0).abs() < 1e-5, "{got} {want}");
                    assert_eq!(outcome.recovery, Default::default());
                }
            });
        }
    });
}

/// Calls that are dropped at each of their waits, in turn.
#[test]
fn abandoned_calls_take_nothing_with_them() {
    let adapter = adapter();
    let engine = pollster::block_on(nonblocking::Engine::with_adapter(&adapter)).unwrap();
    let (p, q) = data(9, 50);
    let want = pollster::block_on(engine.kl(&p, &q)).unwrap();
    for round in 0..200 * times() {
        let mut call = Box::pin(engine.kl(&p, &q));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // The device answers in between, now and then.
        for _ in 0..round % 5 {
            if call.as_mut().poll(&mut context).is_ready() {
                break;
            }
            thread::sleep(Duration::from_micros(300));
        }
        drop(call);
    }
    // Each held a slot: of those there are no more than 64.
    assert_eq!(pollster::block_on(engine.kl(&p, &q)).unwrap(), want);
}

#[test]
fn an_adapter_that_does_nothing_is_refused_by_name() {
    let idle = idle_adapter().expect("wgpu is built with it for the tests");
    for _ in 0..2 {
        let error = Engine::with_adapter(&idle).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(idle.name()), "{message}");
        assert!(message.contains("self-test"), "{message}");
        assert_eq!(cause(error), Cause::Wrong);
    }
}
