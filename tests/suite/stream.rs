//! Batches that come part by part: the same results as at once, and every way to stop.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kullback::stream::{Part, Source, Stream};
use kullback::{
    Batch, Divergence, Element, Engine, Error, InvalidRow, Kind, Mass, OnInvalid, Outcome, Rule,
    Side,
};
use ndarray::{Array2, ArrayView2, array};

use crate::data::{distributions, nearby};
use crate::engines::{engines, f64_engines};

/// What a source or a sink fails with in these tests.
#[derive(Debug, PartialEq)]
enum Failure {
    Library(Error),
    Source(&'static str),
    Sink,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Library(error)
    }
}

/// A side that counts what is read of it, and may fail at a row.
struct Counted<'a> {
    rows: ArrayView2<'a, f32>,
    name: &'static str,
    fails_at: usize,
    read: Arc<AtomicUsize>,
}

impl<'a> Counted<'a> {
    fn new(name: &'static str, rows: &'a Array2<f32>, fails_at: usize) -> Counted<'a> {
        Counted { rows: rows.view(), name, fails_at, read: Arc::default() }
    }
}

impl Source for Counted<'_> {
    type Item = f32;
    type Error = Failure;

    fn shape(&self) -> (usize, usize) {
        self.rows.dim()
    }

    fn read(&mut self, rows: Range<usize>, into: &mut [f32]) -> Result<(), Failure> {
        // In order, each row once, into a buffer of the right size.
        assert_eq!(rows.start, self.read.load(Ordering::SeqCst));
        assert_eq!(into.len(), rows.len() * self.rows.ncols());
        self.read.fetch_add(rows.len(), Ordering::SeqCst);
        if rows.contains(&self.fails_at) {
            return Err(Failure::Source(self.name));
        }
        self.rows.read(rows, into).map_err(Failure::Library)
    }
}

type View<'a, T> = ArrayView2<'a, T>;

fn probs<'a, T: Element>(p: View<'a, T>, q: View<'a, T>) -> Result<Batch<'a, T>, Error> {
    Batch::probs(p, q)
}

fn swapped<'a, T: Element>(p: View<'a, T>, q: View<'a, T>) -> Result<Batch<'a, T>, Error> {
    Batch::probs(q, p)
}

/// As few errors as possible.
fn lenient<'a, T: Element>(p: View<'a, T>, q: View<'a, T>) -> Result<Batch<'a, T>, Error> {
    let batch = Batch::probs(p, q)?.with_mass(Mass::Normalize).with_masses();
    Ok(batch.with_on_invalid(OnInvalid::Nan))
}

/// All parts in one outcome, and how many there were.
fn joined<T: Element>(
    engine: &Engine,
    [p, q]: [ArrayView2<'_, T>; 2],
    memory: usize,
    batch: impl for<'a> Fn(ArrayView2<'a, T>, ArrayView2<'a, T>) -> Result<Batch<'a, T>, Error>,
) -> Result<(Outcome<T::Value>, usize), Error> {
    let mut whole: Option<Outcome<T::Value>> = None;
    let mut parts = 0;
    let stream = Stream::new(p, q)?.with_memory(memory).with_cross_check(7);
    let (rows, _) = stream.shape();
    let check = stream.rows(engine, Divergence::Kl, batch, |part: Part<'_, T>| {
        let done = whole.as_ref().map_or(0, |whole| whole.values.len());
        assert_eq!(part.rows, done..done + part.outcome.values.len());
        assert_eq!(part.batch.rows(), part.rows.len());
        parts += 1;
        match &mut whole {
            Some(whole) => whole.append(part.outcome),
            None => whole = Some(part.outcome),
        }
        Ok::<_, Error>(())
    })?;
    assert_eq!(check.compared, rows.min(7));
    Ok((whole.expect("there is always a part"), parts))
}

/// Bits, so that NaN is itself.
fn bits<T: Element>(outcome: &Outcome<T>) -> Vec<[u64; 3]> {
    let bits = |value: &T| value.to_f64().to_bits();
    let masses = outcome.masses.as_ref().expect("they were asked for");
    let masses = masses.p.iter().zip(&masses.q);
    outcome.values.iter().zip(masses).map(|(v, (p, q))| [bits(v), bits(p), bits(q)]).collect()
}

fn assert_same<T: Element>(engine: &Engine, p: &Array2<T>, q: &Array2<T>, budgets: &[usize]) {
    let whole = engine.rows(Divergence::Kl, &lenient(p.view(), q.view()).unwrap()).unwrap();
    for &budget in budgets {
        let (got, parts) = joined(engine, [p.view(), q.view()], budget, lenient).unwrap();
        assert_eq!(bits(&got), bits(&whole), "{engine}, {budget} bytes");
        assert_eq!(got.statuses, whole.statuses);
        assert_eq!((got.backend, got.closer_looks), (whole.backend, whole.closer_looks));
        assert_eq!(got.adapter, whole.adapter);
        // A row may take the budget, and no more.
        let held = (p.nrows().max(q.nrows()) * p.ncols() * 2 * size_of::<T>()).div_ceil(parts);
        assert!(parts == 1 || held <= budget, "{held} bytes of {budget} in {parts} parts");
        assert!(budget >= 1 << 20 || parts > 1, "one part under {budget} bytes");
    }
}

#[test]
fn parts_have_the_bits_of_the_whole() {
    let (rows, bins) = (301, 37);
    let mut p = distributions::<f32>(rows, bins, 1);
    let q = nearby(&p, 0.1, 2);
    p[[200, 3]] = f32::NAN;
    p[[17, 5]] = -1.0;
    let (p_one, q_one) = (distributions(1, bins, 3), distributions(1, bins, 4));
    for engine in engines() {
        // Of a row or a few, of some tens, and all at once. Devices are slow with single rows.
        let budgets = [1_300, 3_000, 20_011, 1 << 20];
        let budgets = if engine.backend() == "cpu" { &budgets } else { &budgets[2..] };
        assert_same(engine, &p, &q, budgets);
        assert_same(engine, &p, &q_one, budgets);
        assert_same(engine, &p_one, &q, budgets);
    }
    let wide = distributions::<f64>(rows, bins, 5);
    for engine in f64_engines() {
        assert_same(engine, &wide, &nearby(&wide, 1e-4, 6), &[2_600, 9_999, 1 << 20]);
    }
}

#[test]
fn every_size_of_a_part_is_right() {
    let p = distributions::<f32>(23, 3, 7);
    let q = nearby(&p, 0.5, 8);
    let budgets: Vec<_> = (40..700).step_by(3).collect();
    assert_same(&Engine::cpu(), &p, &q, &budgets);
    // As many results as numbers of a side.
    let ones = Array2::<f32>::ones((99, 1));
    assert_same(&Engine::cpu(), &ones, &ones, &[64, 100, 999]);
}

/// A record is larger than a row of a bin, and there are several of each.
#[test]
fn the_records_of_a_device_count() {
    let ones = Array2::<f32>::ones((99, 1));
    for engine in engines().iter().filter(|engine| engine.backend() != "cpu") {
        let few = joined(engine, [ones.view(), ones.view()], 640, probs);
        assert!(matches!(few, Err(Error::Memory { needed: 640.., .. })), "{engine}: {few:?}");
    }
}

#[test]
fn strided_views_are_sources_too() {
    let p = distributions::<f32>(40, 20, 9);
    let q = nearby(&p, 0.1, 10);
    let fortran = q.t().as_standard_layout().to_owned();
    let engine = Engine::cpu();
    let (got, _) = joined(&engine, [p.view(), fortran.t()], 2_000, probs).unwrap();
    let whole = engine.rows(Divergence::Kl, &Batch::probs(&p, &q).unwrap()).unwrap();
    assert_eq!(got, whole);
    // Boxed, as where the type is not known before.
    let side = |side| Box::new(side) as Box<dyn Source<Item = f32, Error = Error>>;
    let stream = Stream::new(side(p.view()), side(q.view())).unwrap().with_memory(1 << 20);
    let mut values = None;
    let sink = |part: Part<'_, f32>| {
        values = Some(part.outcome.values);
        Ok::<_, Error>(())
    };
    stream.rows(&engine, Divergence::Kl, probs, sink).unwrap();
    assert_eq!(values, Some(whole.values));
}

#[test]
fn nothing_is_one_empty_part() {
    for (p, q) in [((0, 3), (0, 3)), ((1, 3), (0, 3)), ((0, 3), (1, 3)), ((0, 0), (0, 0))] {
        let (p, q) = (Array2::<f32>::ones(p), Array2::<f32>::ones(q));
        for engine in [Engine::cpu(), Engine::auto()] {
            let (got, parts) = joined(&engine, [p.view(), q.view()], 1_000, probs).unwrap();
            assert_eq!((got.values.len(), parts, got.backend), (0, 1, "cpu"));
        }
    }
}

#[test]
fn shapes_and_settings_are_refused() {
    let (two, three) = (Array2::<f32>::ones((2, 3)), Array2::<f32>::ones((3, 3)));
    let error = Stream::new(two.view(), three.view()).unwrap_err();
    assert_eq!(error, Error::Shape { p: (2, 3), q: (3, 3) });
    let none = Array2::<f32>::ones((2, 0));
    assert_eq!(Stream::new(none.view(), none.view()).unwrap_err(), Error::NoBins);
    let sides = [two.view(), two.view()];
    let cold =
        joined(&Engine::cpu(), sides, 1_000, |p, q| Batch::logits(p, q)?.with_temperature(0.0));
    assert!(matches!(cold.unwrap_err(), Error::Setting { name: "temperature", .. }));
    let cut = joined(&Engine::cpu(), sides, 1_000, |p, q| Ok(Batch::probs(p, q)?.slice(0..1)));
    assert_eq!(cut.unwrap_err(), Error::Part { part: (2, 3), batch: (1, 3) });
}

#[test]
fn a_row_beyond_the_budget_is_an_error_that_says_what_it_takes() {
    let p = distributions::<f32>(5, 1_000, 11);
    let one = distributions::<f32>(1, 1_000, 12);
    for (p, q) in [(&p, &p), (&p, &one), (&one, &p), (&one, &one)] {
        let run = |memory| joined(&Engine::cpu(), [p.view(), q.view()], memory, probs);
        let Error::Memory { needed, limit: 3_000 } = run(3_000).unwrap_err() else { panic!() };
        assert!((8_000..8_050).contains(&needed), "{needed}");
        assert!(matches!(run(needed - 1), Err(Error::Memory { .. })));
        assert!(run(needed).is_ok());
    }
    // Sizes that no address reaches.
    struct Endless;
    impl Source for Endless {
        type Item = f32;
        type Error = Error;

        fn shape(&self) -> (usize, usize) {
            (usize::MAX, usize::MAX)
        }

        fn read(&mut self, _: Range<usize>, _: &mut [f32]) -> Result<(), Error> {
            panic!("nothing is read")
        }
    }
    for memory in [1 << 30, usize::MAX - 1, usize::MAX] {
        let stream = Stream::new(Endless, Endless).unwrap().with_memory(memory);
        let sink = |_: Part<'_, f32>| Ok::<_, Error>(());
        let error = stream.rows(&Engine::cpu(), Divergence::Kl, probs, sink);
        assert_eq!(error.unwrap_err(), Error::Memory { needed: usize::MAX, limit: memory });
    }
}

#[test]
fn invalid_rows_are_counted_in_the_whole() {
    let p = distributions::<f32>(100, 4, 13);
    let mut bad = distributions::<f32>(100, 4, 14);
    bad[[71, 2]] = -0.5;
    let bad_one = array![[0.5_f32, 0.25, f32::NAN, 0.25]];
    for engine in engines() {
        for (p, q, side, row, rule) in [
            (&p, &bad, Side::Q, 71, Rule::Negative),
            (&bad, &p, Side::P, 71, Rule::Negative),
            (&bad_one, &p, Side::P, 0, Rule::NotANumber),
            (&p, &bad_one, Side::Q, 0, Rule::NotANumber),
        ] {
            for memory in [999, 1 << 20] {
                let sides = [p.view(), q.view()];
                let error = joined(engine, sides, memory, probs).unwrap_err();
                let Error::Invalid(at) = error else { panic!("{error}") };
                let found = InvalidRow { value: 0.0, ..at };
                let (kind, bin) = (Kind::Probs, Some(2));
                assert_eq!(found, InvalidRow { side, kind, row, bin, value: 0.0, rule });
                // Whatever the caller makes of the two sides.
                let error = joined(engine, sides, memory, swapped).unwrap_err();
                assert!(matches!(error, Error::Invalid(at) if at.row == row && at.side != side));
            }
        }
    }
}

/// Runs over 100 rows in parts of 10, and tells how many rows of each side were read.
fn run(
    p_fails_at: usize,
    q_fails_at: usize,
    sink_fails_at: usize,
) -> (Result<(), Failure>, [usize; 2], usize) {
    let rows = distributions::<f32>(100, 4, 15);
    let p = Counted::new("p", &rows, p_fails_at);
    let q = Counted::new("q", &rows, q_fails_at);
    let read = [p.read.clone(), q.read.clone()];
    let mut sunk = 0;
    // Two buffers of 10 rows for each side, and their results.
    let memory = 10 * (2 * 2 * 4 * 4 + 13);
    let stream = Stream::new(p, q).unwrap().with_memory(memory);
    let sink = |part: Part<'_, f32>| {
        assert_eq!(part.rows.len(), 10);
        if part.rows.contains(&sink_fails_at) {
            return Err(Failure::Sink);
        }
        sunk = part.rows.end;
        Ok(())
    };
    let done = stream.rows(&Engine::cpu(), Divergence::Kl, probs, sink);
    // The thread is gone, and what it held.
    assert!(read.iter().all(|read| Arc::strong_count(read) == 1));
    (done.map(|_| ()), read.map(|read| read.load(Ordering::SeqCst)), sunk)
}

#[test]
fn the_first_failure_ends_it() {
    const NEVER: usize = usize::MAX;
    assert_eq!(run(NEVER, NEVER, NEVER), (Ok(()), [100, 100], 100));
    // What came before a failure of a source is still computed.
    assert_eq!(run(34, NEVER, NEVER), (Err(Failure::Source("p")), [40, 30], 30));
    assert_eq!(run(NEVER, 34, NEVER), (Err(Failure::Source("q")), [40, 40], 30));
    assert_eq!(run(0, 0, NEVER), (Err(Failure::Source("p")), [10, 0], 0));
    assert_eq!(run(99, NEVER, NEVER), (Err(Failure::Source("p")), [100, 90], 90));
    for row in [0, 50, 99] {
        let (done, read, sunk) = run(NEVER, NEVER, row);
        assert_eq!((done, sunk), (Err(Failure::Sink), row / 10 * 10));
        assert!(read[0] <= sunk + 30, "{read:?} rows were read, and {sunk} taken");
    }
    // A source of one row fails before there is a thread.
    let (one, many) = (distributions::<f32>(1, 4, 16), distributions::<f32>(100, 4, 17));
    let stream = Stream::new(Counted::new("p", &one, 0), Counted::new("q", &many, NEVER));
    let sink = |_: Part<'_, f32>| Err(Failure::Sink);
    let done = stream.unwrap().rows(&Engine::cpu(), Divergence::Kl, probs, sink);
    assert_eq!(done, Err(Failure::Source("p")));
}

/// Rows that are all the same, and nowhere.
struct Uniform {
    rows: usize,
    bins: usize,
}

impl Source for Uniform {
    type Item = f32;
    type Error = Error;

    fn shape(&self) -> (usize, usize) {
        (self.rows, self.bins)
    }

    fn read(&mut self, _: Range<usize>, into: &mut [f32]) -> Result<(), Error> {
        into.fill(1.0 / self.bins as f32);
        Ok(())
    }
}

#[test]
fn parts_are_large_for_a_device_and_small_for_the_cpu() {
    // 100 MiB of each side.
    let lens = |engine: &Engine| {
        let [p, q] = [(); 2].map(|()| Uniform { rows: 25_600, bins: 1_024 });
        let (mut lens, mut backend) = (Vec::<usize>::new(), "");
        let sink = |part: Part<'_, f32>| {
            assert_eq!(part.rows.start, lens.iter().sum::<usize>());
            assert!(part.outcome.values.iter().all(|&value| value == 0.0));
            backend = part.outcome.backend;
            lens.push(part.rows.len());
            Ok::<_, Error>(())
        };
        let stream = Stream::new(p, q).unwrap().with_memory(1 << 30);
        stream.rows(engine, Divergence::Kl, probs, sink).unwrap();
        assert_eq!(lens.iter().sum::<usize>(), 25_600);
        (lens, backend)
    };
    let (small, _) = lens(&Engine::cpu());
    let most = *small.iter().max().unwrap();
    assert!(small.len() > 4 && small.iter().all(|&len| len + 1 >= most), "{small:?}");
    let (auto, backend) = lens(&Engine::auto());
    // `auto` shows what it takes with the first part; two are read by then.
    assert_eq!(auto[..2], [6_400; 2]);
    let later = &auto[2..];
    match backend {
        "cpu" => assert!(later.iter().all(|&len| len <= most || len == 6_400), "{auto:?}"),
        _ => assert_eq!(later, [6_400; 2]),
    }
    assert!(backend != "cpu" || later.last() <= Some(&most), "{auto:?}");
}

#[test]
#[should_panic(expected = "a source may panic")]
fn a_panic_of_a_source_goes_on_in_the_caller() {
    struct Broken;
    impl Source for Broken {
        type Item = f32;
        type Error = Error;

        fn shape(&self) -> (usize, usize) {
            (100, 4)
        }

        fn read(&mut self, rows: Range<usize>, into: &mut [f32]) -> Result<(), Error> {
            assert!(rows.start < 50, "a source may panic");
            into.fill(0.25);
            Ok(())
        }
    }
    let stream = Stream::new(Broken, Broken).unwrap().with_memory(1_000);
    let sink = |_: Part<'_, f32>| Ok::<_, Error>(());
    let _ = stream.rows(&Engine::cpu(), Divergence::Kl, probs, sink);
}

#[test]
#[should_panic(expected = "a sink may panic")]
fn a_panic_of_the_sink_ends_the_reading() {
    let rows = distributions::<f32>(100, 4, 18);
    let stream = Stream::new(rows.view(), rows.view()).unwrap().with_memory(1_000);
    let sink = |part: Part<'_, f32>| {
        assert!(part.rows.start < 50, "a sink may panic");
        Ok::<_, Error>(())
    };
    let _ = stream.rows(&Engine::cpu(), Divergence::Kl, probs, sink);
}
