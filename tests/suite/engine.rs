//! Engines as their users hold them.

use kullback::{Batch, Divergence, Engine, Mass, nonblocking};
use ndarray::Array2;

use crate::data::distributions;
use crate::engines::{engines, roomy_engines};

#[test]
fn engines_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync + Clone + 'static>() {}
    shareable::<Engine>();
    shareable::<nonblocking::Engine>();
}

#[test]
fn one_engine_serves_many_threads() {
    const THREADS: u64 = 16;
    for engine in engines() {
        std::thread::scope(|scope| {
            for seed in 0..THREADS {
                scope.spawn(move || {
                    for round in 0..10 {
                        let bins = 10 + (seed * 37 + round * 11) as usize;
                        let p = distributions::<f32>(20, bins, seed);
                        let q = distributions::<f32>(20, bins, seed + THREADS);
                        let batch = Batch::probs(&p, &q).unwrap();
                        let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
                        engine.cross_check(Divergence::Kl, &batch, &outcome, 20).unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn the_engine_says_what_it_is() {
    assert_eq!(Engine::cpu().to_string(), "cpu");
    assert_eq!(Engine::auto().to_string(), "auto");
    assert_eq!(format!("{:?}", Engine::cpu()), "Engine(cpu)");
    let p = distributions::<f32>(1, 5, 1);
    let outcome = Engine::auto().rows(Divergence::Kl, &Batch::probs(&p, &p).unwrap()).unwrap();
    assert_eq!((outcome.backend, outcome.adapter), ("cpu", None));
}

#[test]
fn the_asynchronous_methods_do_the_same() {
    let (p, q) = (distributions::<f32>(9, 50, 23), distributions::<f32>(9, 50, 24));
    let want = Engine::cpu().kl(&p, &q).unwrap();
    let got = pollster::block_on(nonblocking::Engine::cpu().kl(&p, &q)).unwrap();
    assert_eq!(got, want);
    assert_eq!(pollster::block_on(nonblocking::Engine::auto().kl(&p, &q)).unwrap(), want);
}

#[test]
fn every_engine_passes_its_self_test() {
    for engine in roomy_engines() {
        assert_eq!(engine.self_test(), Ok(()), "{engine:?}");
    }
}

#[test]
fn auto_agrees_with_the_cpu_on_large_batches_too() {
    // 8 MiB: large enough for `auto` to look for a hardware GPU.
    let p = distributions::<f32>(1 << 12, 1 << 8, 25);
    let q = distributions::<f32>(1 << 12, 1 << 8, 26);
    let batch = Batch::probs(&p, &q).unwrap();
    let engine = Engine::auto();
    let outcome = engine.rows(Divergence::Kl, &batch).unwrap();
    engine.cross_check(Divergence::Kl, &batch, &outcome, 100).unwrap();
    let want = Engine::cpu().rows(Divergence::Kl, &batch).unwrap();
    assert_eq!(outcome.statuses, want.statuses);
    assert!(outcome.adapter.is_none_or(|name| !name.contains("llvmpipe")), "a software adapter");
}

#[cfg(not(feature = "gpu"))]
#[test]
fn without_the_feature_the_gpu_is_refused_by_name() {
    let error = Engine::gpu().unwrap_err().to_string();
    assert_eq!(error, "no GPU adapter can be used: kullback was built without its feature 'gpu'");
}

#[cfg(feature = "gpu")]
mod gpu {
    use kullback::{AdapterKind, adapters, internal};

    use super::*;
    use crate::engines::gpu::adapter;

    #[test]
    fn f64_is_refused_by_name_where_the_adapter_has_none() {
        let p = distributions::<f64>(1, 5, 1);
        let engine = internal::engine_without_f64(&adapter()).unwrap();
        let message = "the gpu backend cannot do this: f64 input, since the adapter has no f64 \
                       arithmetic; the cpu backend takes it";
        assert_eq!(engine.kl(&p, &p).unwrap_err().to_string(), message);
        let batch = Batch::logits(&p, &p).unwrap();
        assert_eq!(engine.rows(Divergence::Kl, &batch).unwrap_err().to_string(), message);
        assert_eq!(engine.kl(&p.mapv(|p| p as f32), &p.mapv(|p| p as f32)).unwrap()[0], 0.0);
    }

    #[test]
    fn hardware_comes_before_software() {
        let kinds: Vec<_> = adapters().iter().map(|adapter| adapter.kind()).collect();
        assert!(kinds.is_sorted(), "{kinds:?}");
        assert!(AdapterKind::DiscreteGpu < AdapterKind::Software);
        let engine = Engine::gpu().unwrap();
        assert_eq!(engine.adapter().map(|adapter| adapter.kind()), kinds.first().copied());
    }

    #[test]
    fn engines_come_and_go() {
        let (p, q) = (distributions::<f32>(9, 50, 23), distributions::<f32>(9, 50, 24));
        let want = Engine::gpu().unwrap().kl(&p, &q).unwrap();
        for _ in 0..5 {
            let engine = Engine::gpu().unwrap();
            assert_eq!(engine.kl(&p, &q).unwrap(), want);
        }
    }

    #[test]
    fn an_abandoned_call_leaves_the_engine_usable() {
        let (p, q) = (distributions::<f32>(9, 50, 23), distributions::<f32>(9, 50, 24));
        let engine = pollster::block_on(nonblocking::Engine::gpu()).unwrap();
        let want = pollster::block_on(engine.kl(&p, &q)).unwrap();
        for _ in 0..20 {
            let mut call = Box::pin(engine.kl(&p, &q));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = call.as_mut().poll(&mut context);
            drop(call);
        }
        assert_eq!(pollster::block_on(engine.kl(&p, &q)).unwrap(), want);
    }
}

#[test]
fn closer_looks_are_counted() {
    let p = distributions::<f32>(50, 40, 61);
    let q = distributions::<f32>(50, 40, 62);
    let counts = p.mapv(|p| (1e4 * p).round());
    for engine in engines() {
        let looks = |p: &Array2<f32>, mass| {
            let batch = Batch::probs(p, &q).unwrap().with_mass(mass);
            engine.rows(Divergence::Kl, &batch).unwrap().closer_looks
        };
        assert_eq!(looks(&p, Mass::Check), 0, "{engine:?}");
        assert_eq!(looks(&counts, Mass::Normalize), 50, "{engine:?}");
        let batch = Batch::logits(&p, &q).unwrap();
        assert_eq!(engine.rows(Divergence::Kl, &batch).unwrap().closer_looks, 0, "{engine:?}");
        // Logits that are next to equal.
        let mut next = p.clone();
        next.column_mut(0).mapv_inplace(f32::next_up);
        let batch = Batch::logits(&p, &next).unwrap();
        assert_eq!(engine.rows(Divergence::Kl, &batch).unwrap().closer_looks, 50, "{engine:?}");
    }
}
