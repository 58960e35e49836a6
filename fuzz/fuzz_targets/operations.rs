//! Any operations on the CPU backend, one after the other: batches of every kind and type, of numbers
//! as odd as they come, that lie in memory in odd ways. Whole, in parts and as a stream the results
//! have the same bits, and the f64 reference agrees with them.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use half::{bf16, f16};
use kullback::stream::Stream;
use kullback::{Batch, Divergence, Element, Engine, Error, Kind, Mass, OnInvalid, Outcome, Value};
use libfuzzer_sys::fuzz_target;
use ndarray::{Array2, ArrayView2, Axis, Slice};

/// Operations of one input.
const OPERATIONS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    for _ in 0..OPERATIONS {
        let Ok(element) = input.int_in_range(0..=3) else { return };
        // What is missing at the end of the input is 0.
        let _ = match element {
            0 => operate::<f32>(&mut input),
            1 => operate::<f64>(&mut input),
            2 => operate::<f16>(&mut input),
            _ => operate::<bf16>(&mut input),
        };
    }
});

/// How the sides are to be read.
#[derive(Arbitrary, Debug)]
struct Settings {
    p_kind: u8,
    q_kind: u8,
    temperature: f64,
    mass: u8,
    tolerance: f64,
    masses: bool,
}

impl Settings {
    fn batch<'a, T: Element>(
        &self,
        p: ArrayView2<'a, T>,
        q: ArrayView2<'a, T>,
    ) -> std::result::Result<Batch<'a, T>, Error> {
        let kind = |at: u8| Kind::ALL[usize::from(at) % Kind::ALL.len()];
        let kinds = [kind(self.p_kind), kind(self.q_kind)];
        let batch = Batch::of(kinds[0], p, kinds[1], q)?
            .with_mass(Mass::ALL[usize::from(self.mass) % Mass::ALL.len()])
            .with_on_invalid(OnInvalid::Nan);
        let batch = if self.masses { batch.with_masses() } else { batch };
        // What is refused stays as it was.
        let batch = batch.clone().with_temperature(self.temperature).unwrap_or(batch);
        Ok(batch.clone().with_mass_tolerance(self.tolerance).unwrap_or(batch))
    }
}

fn operate<T: Element>(input: &mut Unstructured<'_>) -> Result<()> {
    let settings = Settings::arbitrary(input)?;
    let rows = input.int_in_range(0..=9)?;
    // Mostly a few; at times more than a vector, or than a block of them.
    let bins = match input.int_in_range(0..=7)? {
        0 => input.int_in_range(100..=5_000)?,
        _ => input.int_in_range(0..=70)?,
    };
    let style = input.arbitrary::<u8>()?;
    let single = [style & 3 == 1, style & 3 == 2];
    let mut side = |single| matrix::<T>(input, if single { 1 } else { rows }, bins);
    let [p, q] = [side(single[0])?, side(single[1])?];
    let q = if style & 64 != 0 && p.dim() == q.dim() { p.clone() } else { q };
    let [p_lies, q_lies] = [input.arbitrary::<u8>()?, input.arbitrary()?].map(usize::from);
    let (mut p_memory, mut q_memory) = (Array2::default((0, 0)), Array2::default((0, 0)));
    let p = laid(&p, p_lies, &mut p_memory);
    let q = laid(&q, q_lies, &mut q_memory);

    let batch = match settings.batch(p, q) {
        Ok(batch) => batch,
        Err(Error::NoBins) => return Ok(assert!(bins == 0)),
        Err(error) => panic!("{error}"),
    };
    let engine = Engine::cpu();
    let whole = engine.rows(Divergence::Kl, &batch).expect("no row is an error");
    engine.cross_check(Divergence::Kl, &batch, &whole, rows.max(1)).expect("the reference agrees");
    check_parts(&engine, &batch, &whole, 1 + input.int_in_range(0..=4)?);
    check_stream(&engine, &settings, [p, q], &whole, input.int_in_range(0..=1 << 16)?);
    check_error(&engine, batch, &whole);
    Ok(())
}

/// Numbers of a type: a few odd ones among those that could be probabilities or their logarithms.
fn matrix<T: Element>(input: &mut Unstructured<'_>, rows: usize, bins: usize) -> Result<Array2<T>> {
    const ODD: [f64; 16] = [
        0.0,
        -0.0,
        1.0,
        0.5,
        -1.0,
        1e-45,
        1e-38,
        3e38,
        1e-310,
        1e300,
        65504.0,
        -20_000.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        88.0,
    ];
    let oddness = input.arbitrary::<u8>()?;
    let sign = if input.arbitrary()? { -1.0 } else { 1.0 };
    let normalized = input.arbitrary::<bool>()?;
    let mut number = || -> Result<f64> {
        let byte = input.arbitrary::<u8>()?;
        Ok(match byte < oddness / 8 {
            true => ODD[usize::from(byte) % ODD.len()],
            false => sign * f64::from(input.arbitrary::<u16>()?) / 65536.0,
        })
    };
    let mut values = Vec::with_capacity(rows * bins);
    for _ in 0..rows * bins {
        values.push(number()?);
    }
    let mut values = Array2::from_shape_vec((rows, bins), values).expect("as many");
    if normalized {
        for mut row in values.rows_mut() {
            let sum = row.sum();
            row.mapv_inplace(|value| value / sum);
        }
    }
    Ok(values.mapv(T::from_f64))
}

/// The same numbers, but as they may lie in memory.
fn laid<'a, T: Element>(
    side: &Array2<T>,
    how: usize,
    memory: &'a mut Array2<T>,
) -> ArrayView2<'a, T> {
    let (rows, bins) = side.dim();
    match how % 4 {
        0 => {
            *memory = side.clone();
            memory.view()
        }
        // Column by column.
        1 => {
            *memory = side.t().as_standard_layout().into_owned();
            memory.view().reversed_axes()
        }
        // Every second bin of every third row, the last row first.
        2 => {
            *memory = Array2::from_elem((3 * rows, 2 * bins), T::from_f64(7.0));
            let rows = Slice::new(0, None, -3);
            let mut places = memory.slice_axis_mut(Axis(0), rows);
            places.slice_axis_inplace(Axis(1), Slice::new(0, None, 2));
            places.assign(side);
            let mut view = memory.slice_axis(Axis(0), rows);
            view.slice_axis_inplace(Axis(1), Slice::new(0, None, 2));
            view
        }
        // One row for all, if all are alike.
        _ => {
            let alike = rows > 0 && side.rows().into_iter().all(|row| row == side.row(0));
            let kept = if alike { Slice::from(..1) } else { Slice::from(..) };
            *memory = side.slice_axis(Axis(0), kept).to_owned();
            memory.broadcast((rows, bins)).expect("one row, or all")
        }
    }
}

/// Bits and not values: NaN is like NaN.
fn assert_same<V: Value>(got: &Outcome<V>, want: &Outcome<V>, what: &str) {
    let bits = |outcome: &Outcome<V>| {
        let masses = outcome.masses.iter().flat_map(|masses| masses.p.iter().chain(&masses.q));
        let values = outcome.values.iter().chain(masses);
        values.map(|value| value.to_f64().to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(got.statuses, want.statuses, "{what}");
    assert_eq!(bits(got), bits(want), "{what}");
    assert_eq!(got.closer_looks, want.closer_looks, "{what}");
}

fn check_parts<T: Element>(
    engine: &Engine,
    batch: &Batch<'_, T>,
    whole: &Outcome<T::Value>,
    most: usize,
) {
    let part = |first: usize| {
        let rows = first..batch.rows().min(first + most);
        engine.rows(Divergence::Kl, &batch.slice(rows)).expect("no row is an error")
    };
    let mut parts = part(0);
    (most..batch.rows()).step_by(most).for_each(|first| parts.append(part(first)));
    assert_same(&parts, whole, "in parts");
}

fn check_stream<T: Element>(
    engine: &Engine,
    settings: &Settings,
    [p, q]: [ArrayView2<'_, T>; 2],
    whole: &Outcome<T::Value>,
    memory: usize,
) {
    let stream = Stream::new(p, q).expect("they are a batch").with_memory(memory);
    let mut joined: Option<Outcome<T::Value>> = None;
    let done = stream.rows(
        engine,
        Divergence::Kl,
        |p, q| settings.batch(p, q),
        |part| {
            match &mut joined {
                None => joined = Some(part.outcome),
                Some(joined) => joined.append(part.outcome),
            }
            Ok::<_, Error>(())
        },
    );
    match done {
        Ok(_) => assert_same(&joined.expect("one part at least"), whole, "as a stream"),
        Err(Error::Memory { needed, limit }) => assert!(limit == memory && needed > memory),
        Err(error) => panic!("{error}"),
    }
}

/// Asked for an error, the first invalid row is one.
fn check_error<T: Element>(engine: &Engine, batch: Batch<'_, T>, whole: &Outcome<T::Value>) {
    let first = whole.values.iter().position(|value| value.to_f64().is_nan());
    let done = engine.rows(Divergence::Kl, &batch.with_on_invalid(OnInvalid::Error));
    match (first, done) {
        (None, Ok(outcome)) => assert_same(&outcome, whole, "without an error"),
        (Some(_), Err(Error::Invalid(row))) => assert!(!row.to_string().is_empty()),
        (first, done) => panic!("{first:?}: {done:?}"),
    }
}
