//! Known rows for a backend to prove itself on.

#[cfg(feature = "gpu")]
use ndarray::Array1;
use ndarray::{Array2, Axis};

use crate::backend::{Backend, Settings};
use crate::batch::{Batch, OnInvalid};
use crate::cross_check::cross_check;
use crate::element::Element;
use crate::error::Cause;
use crate::{Divergence, Error, Kind, Outcome};

#[cfg(feature = "gpu")]
pub(crate) use proof::{prove, prove_for, prove_gradients_for, prove_pairs_for};

/// Lengths around every edge that a shader has: vector loads, workgroups, segments, and the
/// 65,535 loop trips after which some adapters stop without a word.
const LENGTHS: &[usize] = &[2, 3, 15, 16, 17, 64, 65, 256, 257, 1_000, 4_097, 65_536, 70_001];

/// Runs them in f32, for all kernels of that type.
pub(crate) async fn run(backend: &impl Backend, settings: Settings) -> Result<(), Error> {
    of_probs::<f32>(backend, settings).await?;
    of_logs::<f32>(backend, &[SLANTED], settings).await?;
    of_logs::<f32>(backend, &[MIXED, COOLED], settings).await
}

/// What known rows are given as.
#[derive(Clone, Copy)]
struct Given {
    kinds: [Kind; 2],
    temperature: f64,
    /// Logits are so many times the logarithms, and so much more.
    logits: [f64; 2],
}

const SLANTED: Given =
    Given { kinds: [Kind::LogProbs, Kind::Logits], temperature: 1.0, logits: [1.01, 10.0] };
/// Some 1.01 times the logarithms once they are divided.
const COOLED: Given = Given { temperature: 1.3, logits: [1.313, 10.0], ..SLANTED };
const MIXED: Given = Given { kinds: [Kind::Probs, Kind::Logits], ..COOLED };

impl Given {
    fn rows<T: Element>(self, bins: usize) -> [Array2<T>; 2] {
        let [times, more] = self.logits;
        let [p, q] = known_rows(bins, 10.0 * T::MASS_TOLERANCE);
        let stored = |kind, side: Array2<f64>| {
            side.mapv(|x| match kind {
                Kind::Probs => T::from_f64(x),
                Kind::LogProbs => T::from_f64(x.ln()),
                Kind::Logits => T::from_f64(times * x.ln() + more),
            })
        };
        [stored(self.kinds[0], p), stored(self.kinds[1], q)]
    }

    fn batch<'a, T: Element>(self, [p, q]: &'a [Array2<T>; 2]) -> Result<Batch<'a, T>, Error> {
        Batch::of(self.kinds[0], p, self.kinds[1], q)?.with_temperature(self.temperature)
    }
}

/// Those of probabilities, and some that hold what is not one.
async fn of_probs<T: Element>(backend: &impl Backend, settings: Settings) -> Result<(), Error> {
    for &bins in LENGTHS {
        let [p, q] = known_rows(bins, 10.0 * T::MASS_TOLERANCE).map(|side| side.mapv(T::from_f64));
        check(backend, &Batch::probs(&p, &q)?, settings).await?;
    }
    let [p, q] = special_rows().map(|side| side.mapv(T::from_f64));
    let batch = Batch::probs(&p, &q)?.with_on_invalid(OnInvalid::Nan);
    let outcome = backend.rows(Divergence::Kl, &batch, settings).await?;
    cross_check(Divergence::Kl, &batch, &outcome, batch.rows()).map(|_| ())
}

/// Those of which a side is logarithms, given in turn as each of these.
async fn of_logs<T: Element>(
    backend: &impl Backend,
    in_turn: &[Given],
    settings: Settings,
) -> Result<(), Error> {
    for (&bins, given) in LENGTHS.iter().zip(in_turn.iter().cycle()) {
        check(backend, &given.batch(&given.rows::<T>(bins))?, settings).await?;
    }
    Ok(())
}

async fn check<T: Element>(
    backend: &impl Backend,
    batch: &Batch<'_, T>,
    settings: Settings,
) -> Result<(), Error> {
    match backend.rows(Divergence::Kl, batch, settings).await {
        // What nobody can ask of it needs no proof.
        Err(Error::TooLong { .. }) => Ok(()),
        outcome => proven(Divergence::Kl, batch, &outcome?),
    }
}

fn proven<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    outcome: &Outcome<T::Value>,
) -> Result<(), Error> {
    cross_check(divergence, batch, outcome, batch.rows())?;
    match outcome.closer_looks {
        0 => Ok(()),
        // A closer look is right whatever the sums are: here they were so far off that it was taken.
        rows => Err(Error::Device {
            adapter: outcome.adapter.clone().unwrap_or_else(|| outcome.backend.to_owned()),
            cause: Cause::Wrong,
            message: format!(
                "the sums of {rows} known rows of {} bins are wrong for {divergence}",
                batch.bins()
            ),
        }),
    }
}

/// Five pairs: far apart, near by so much, identical, infinite, and zeros in both. Of long rows only
/// the first: the reference takes its time for each.
fn known_rows(bins: usize, near: f64) -> [Array2<f64>; 2] {
    let noise = |row: usize, bin: usize| {
        let mixed = (row as u64 * 0x9e37_79b9 + bin as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        ((mixed >> 40) as f64 + 1.0) / f64::from(1 << 24)
    };
    let pairs = if bins > 10_000 { 1 } else { 5 };
    let mut p = Array2::from_shape_fn((pairs, bins), |(row, bin)| noise(row, bin));
    let mut q = Array2::from_shape_fn((pairs, bins), |(row, bin)| match row {
        0 => noise(9, bin),
        1 => noise(1, bin) * (1.0 + near * noise(8, bin)),
        _ => noise(row, bin),
    });
    if pairs == 5 {
        q[[3, bins - 1]] = 0.0;
        q[[3, 0]] *= 1.5;
        p[[4, 0]] = 0.0;
        for zero in (1..bins).step_by(3).filter(|_| bins > 2) {
            (p[[4, zero]], q[[4, zero]]) = (0.0, 0.0);
        }
    }
    for side in [&mut p, &mut q] {
        for mut row in side.axis_iter_mut(Axis(0)) {
            let mass = row.sum();
            row.mapv_inplace(|value| value / mass);
        }
    }
    [p, q]
}

/// Rows with one number in the place of another, in P or in Q: none, nothing, too much, too little
/// for arithmetic that has no subnormal numbers.
fn special_rows() -> [Array2<f64>; 2] {
    const SPECIAL: [f64; 7] = [f64::NAN, f64::INFINITY, -1.0, -0.0, 0.0, 1e-40, 1.5];
    let rows = 2 * SPECIAL.len();
    [0, 1].map(|side| {
        Array2::from_shape_fn((rows, 21), |(row, bin)| match (row % 2 == side, bin) {
            (true, 17) => SPECIAL[row / 2],
            _ => (1.0 + ((bin + side) % 5) as f64) / 63.0,
        })
    })
}

/// The verdicts on the adapters of this process. Each is asked once, for the sake of time.
#[cfg(feature = "gpu")]
mod proof {
    use std::sync::{Mutex, PoisonError};
    use std::time::Instant;

    use super::*;
    use crate::cpu::Cpu;
    use crate::element::Value;
    use crate::gpu::Gpu;
    use crate::gpu::variant::Family;
    use crate::gradient::{Gradient, Places};
    use crate::plan::Limits;
    use crate::{Pairs, Wanted};

    /// An adapter with its driver, under which limits, and for which input.
    #[derive(PartialEq)]
    struct Case {
        adapter: String,
        limits: Limits,
        element: &'static str,
        asked: Asked,
    }

    /// What is proven at a time: kernels of a family, which are shaders of their own.
    #[derive(Clone, Debug, PartialEq)]
    struct Asked {
        family: Family,
        of: Of,
    }

    /// The same bit for bit on both sides, some of them.
    const PROBS: Given =
        Given { kinds: [Kind::Probs, Kind::Probs], temperature: 1.0, logits: [1.0, 0.0] };
    const LOGS: Given = Given { logits: [1.0, 0.0], ..SLANTED };

    impl Asked {
        fn given(&self) -> Given {
            match self.family {
                Family::Sums => PROBS,
                Family::Logs => LOGS,
                _ => MIXED,
            }
        }
    }

    /// Which kernels.
    #[derive(Clone, Debug, PartialEq)]
    enum Of {
        Kl,
        /// Divergences other than Kullback-Leibler's, which are summed together.
        Others(Vec<Divergence>),
        Gradients(Divergence, Wanted),
        /// A divergence of all rows from all rows.
        Pairs(Divergence),
    }

    type Verdict = Result<(), String>;

    static VERDICTS: Mutex<Vec<(Case, Verdict)>> = Mutex::new(Vec::new());

    /// Has a device prove itself with f32, probabilities and logarithms, until then.
    ///
    /// # Errors
    /// [`Error::Device`] with [`Cause::Wrong`] if it computes something wrong.
    pub(crate) async fn prove(gpu: &Gpu, until: Instant) -> Result<(), Error> {
        for family in [Family::Sums, Family::Logs] {
            let asked = Asked { family, of: Of::Kl };
            if let Err(message) = verdict::<f32>(gpu, asked, until).await? {
                let adapter = gpu.adapter().name().to_owned();
                return Err(Error::Device { adapter, cause: Cause::Wrong, message });
            }
        }
        Ok(())
    }

    /// Has a device prove itself with input such as that of a batch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it computes something wrong: other input may do.
    pub(crate) async fn prove_for<T: Element>(
        gpu: &Gpu,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        until: Instant,
    ) -> Result<(), Error> {
        let family = gpu.variant_for(batch)?.family;
        able::<T>(gpu, Asked { family, of: Of::Kl }, until).await?;
        let mut others = Vec::new();
        for &divergence in divergences {
            let example = example_of(divergence);
            let is_new = example != Divergence::Kl && !others.contains(&example);
            if is_new && !gpu.leaves_to_host(&[divergence], batch)? {
                others.push(example);
            }
        }
        match others.is_empty() {
            true => Ok(()),
            false => able::<T>(gpu, Asked { family, of: Of::Others(others) }, until).await,
        }
    }

    /// Has a device prove that it makes gradients of such input.
    ///
    /// # Errors
    /// As those of [`prove_for`].
    pub(crate) async fn prove_gradients_for<T: Element>(
        gpu: &Gpu,
        divergence: Divergence,
        wanted: Wanted,
        batch: &Batch<'_, T>,
        until: Instant,
    ) -> Result<(), Error> {
        let family = gpu.variant_for(batch)?.family;
        let of = Of::Gradients(example_of(divergence), wanted);
        able::<T>(gpu, Asked { family, of }, until).await
    }

    /// One whose value and slopes are made by the same kernels, with numbers for which these have the digits.
    fn example_of(divergence: Divergence) -> Divergence {
        let example = |order| match order {
            0.0 | 0.5 | f64::INFINITY => order,
            ..0.5 => 0.3,
            _ => 2.5,
        };
        match divergence.at_its_limit() {
            Divergence::JensenShannon(_) => Divergence::JensenShannon(0.5),
            Divergence::Renyi(order) => Divergence::Renyi(example(order)),
            Divergence::Tsallis(order) => Divergence::Tsallis(example(order)),
            Divergence::Alpha(order) => Divergence::Alpha(example(order)),
            other => other,
        }
    }

    /// Has a device prove that it sums pairs of rows, which are made ready alike whatever the input.
    ///
    /// # Errors
    /// As those of [`prove_for`].
    pub(crate) async fn prove_pairs_for(
        gpu: &Gpu,
        divergence: Divergence,
        until: Instant,
    ) -> Result<(), Error> {
        let asked = Asked { family: Family::Sums, of: Of::Pairs(divergence) };
        able::<f32>(gpu, asked, until).await
    }

    async fn able<T: Element>(gpu: &Gpu, asked: Asked, until: Instant) -> Result<(), Error> {
        verdict::<T>(gpu, asked, until).await?.map_err(|message| {
            let adapter = gpu.adapter().name();
            let what = format!("{} input on '{adapter}': {message}", T::NAME);
            Error::Unsupported { backend: "gpu", what }
        })
    }

    async fn verdict<T: Element>(
        gpu: &Gpu,
        asked: Asked,
        until: Instant,
    ) -> Result<Verdict, Error> {
        let case = Case {
            adapter: gpu.adapter().identity(),
            limits: Limits { chunk_bytes: 0, ..gpu.limits() },
            element: T::NAME,
            asked,
        };
        if let Some(known) = known(&case) {
            return Ok(known);
        }
        let deadline = until.saturating_duration_since(Instant::now());
        let settings = Settings { deadline, ..Settings::default() };
        let given = case.asked.given();
        let result = match &case.asked.of {
            Of::Kl => of_kl::<T>(gpu, case.asked.family, settings).await,
            Of::Others(divergences) => of_others::<T>(gpu, divergences, given, settings).await,
            &Of::Gradients(divergence, wanted) => {
                of_gradients::<T>(gpu, divergence, wanted, given, settings).await
            }
            &Of::Pairs(divergence) => of_pairs(gpu, divergence, settings).await,
        };
        let verdict = match result {
            Ok(()) => Ok(()),
            Err(error @ (Error::Disagreement(_) | Error::Device { cause: Cause::Wrong, .. })) => {
                Err(format!("it failed the self-test: {error}"))
            }
            // It may do better the next time.
            Err(error) => return Err(error),
        };
        VERDICTS.lock().unwrap_or_else(PoisonError::into_inner).push((case, verdict.clone()));
        Ok(verdict)
    }

    fn known(case: &Case) -> Option<Verdict> {
        let verdicts = VERDICTS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = verdicts.iter().find(|(known, _)| known == case);
        found.map(|(_, verdict)| verdict.clone())
    }

    async fn of_kl<T: Element>(gpu: &Gpu, family: Family, settings: Settings) -> Result<(), Error> {
        match family {
            Family::Sums => of_probs::<T>(gpu, settings).await,
            Family::Logs => of_logs::<T>(gpu, &[SLANTED], settings).await,
            _ => of_logs::<T>(gpu, &[MIXED, COOLED], settings).await,
        }
    }

    /// Known rows in other divergences than Kullback-Leibler's.
    async fn of_others<T: Element>(
        gpu: &Gpu,
        divergences: &[Divergence],
        given: Given,
        settings: Settings,
    ) -> Result<(), Error> {
        for bins in [17, 257, 4_097] {
            let rows = given.rows::<T>(bins);
            let batch = given.batch(&rows)?;
            if gpu.leaves_to_host(divergences, &batch)? {
                continue;
            }
            let outcomes = gpu.several(divergences, &batch, settings).await?;
            for (&divergence, outcome) in divergences.iter().zip(&outcomes) {
                proven(divergence, &batch, outcome)?;
            }
        }
        Ok(())
    }

    /// By how much of the largest in a row derivatives may differ, and by how much of its value: where all
    /// finite ones nearly vanish, they are differences of slopes as large as that.
    const APART: [f64; 2] = [1e-5, 1e-6];

    /// Gradients of known rows, against those of the CPU.
    async fn of_gradients<T: Element>(
        gpu: &Gpu,
        divergence: Divergence,
        wanted: Wanted,
        given: Given,
        settings: Settings,
    ) -> Result<(), Error> {
        for bins in [17, 257, 4_097] {
            let rows = given.rows::<T>(bins);
            let batch = given.batch(&rows)?;
            let mut due = Gradient::zeros(&batch, wanted)?;
            Cpu.gradient(divergence, &batch, None, places(&mut due), settings).await?;
            let mut made = Gradient::zeros(&batch, wanted)?;
            let outcome =
                gpu.gradient(divergence, &batch, None, places(&mut made), settings).await?;
            cross_check(divergence, &batch, &outcome, batch.rows())?;
            for (due, made) in due.iter().flatten().zip(made.iter().flatten()) {
                close(gpu, divergence, &outcome.values, due, made)?;
            }
        }
        Ok(())
    }

    fn places<V: Value>(sides: &mut [Option<Array2<V>>; 2]) -> Places<'_, V> {
        Places(sides.each_mut().map(|side| side.as_mut().map(|side| side.view_mut())))
    }

    fn close<V: Value>(
        gpu: &Gpu,
        divergence: Divergence,
        values: &Array1<V>,
        due: &Array2<V>,
        made: &Array2<V>,
    ) -> Result<(), Error> {
        for (row, (due, made)) in due.rows().into_iter().zip(made.rows()).enumerate() {
            let finite = due.iter().map(|x| x.to_f64().abs()).filter(|x| x.is_finite());
            let largest = finite.fold(0.0, f64::max);
            let allowed = APART[0] * largest + APART[1] * values[row].to_f64();
            let pairs = due.iter().zip(made).map(|(due, made)| (due.to_f64(), made.to_f64()));
            let is_close = |(due, made): (f64, f64)| {
                due == made || due.is_nan() && made.is_nan() || (due - made).abs() <= allowed
            };
            if let Some((bin, (due, made))) = pairs.enumerate().find(|&(_, pair)| !is_close(pair)) {
                return Err(Error::Device {
                    adapter: gpu.adapter().name().to_owned(),
                    cause: Cause::Wrong,
                    message: format!(
                        "the gradient of {divergence} has {made} in the place of {due}, in bin {bin} \
                         of known row {row}"
                    ),
                });
            }
        }
        Ok(())
    }

    /// All against all of known rows, so many that they take several tiles and segments.
    async fn of_pairs(gpu: &Gpu, divergence: Divergence, settings: Settings) -> Result<(), Error> {
        for bins in [17, 1_100] {
            let sides = known_rows(bins, 10.0 * f32::MASS_TOLERANCE);
            let [p, q] = sides.map(|side| side.mapv(|x| x as f32));
            // Without equal ones, which are the host's.
            let (p, q) =
                (p.select(Axis(0), &[0, 1, 3, 4, 0, 1]), q.select(Axis(0), &[0, 1, 3, 4, 3]));
            let matrix = gpu.matrix(divergence, &Pairs::probs(&p, &q)?, settings).await?;
            let rows = |of: fn(usize) -> usize| (0..30).map(of).collect::<Vec<_>>();
            let p = p.select(Axis(0), &rows(|pair| pair / 5));
            let q = q.select(Axis(0), &rows(|pair| pair % 5));
            let batch = Batch::probs(&p, &q)?;
            let mut outcome = Outcome::of(&batch, "gpu")?;
            outcome.values.iter_mut().zip(&matrix.values).for_each(|(to, value)| *to = *value);
            outcome.closer_looks = matrix.closer_looks;
            outcome.adapter = matrix.adapter;
            proven(divergence, &batch, &outcome)?;
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use half::{bf16, f16};

        use super::*;
        use crate::gpu::OPENING;
        use crate::gpu::call::from_now;
        use crate::gpu::rows::tests::gpu;

        /// Those that are not tried wherever a device is opened.
        fn prove_all<T: Element>(gpu: &Gpu) {
            let mut examples: Vec<_> = Divergence::ALL.iter().copied().map(example_of).collect();
            examples.extend([0.0, 0.4, 3.0, f64::INFINITY].map(Divergence::Renyi).map(example_of));
            let gradients = examples.iter().filter(|&&of| of != Divergence::Renyi(f64::INFINITY));
            let gradients = gradients.map(|&of| Of::Gradients(of, Wanted::Both));
            let others = examples.iter().filter(|&&of| of != Divergence::Kl);
            let others = others.map(|&of| Of::Others(vec![of]));
            for of in [Of::Kl].into_iter().chain(others).chain(gradients) {
                let asked = Asked { family: Family::Chain, of };
                let verdict = verdict::<T>(gpu, asked.clone(), from_now(OPENING));
                assert_eq!(pollster::block_on(verdict), Ok(Ok(())), "{} {asked:?}", T::NAME);
            }
        }

        #[test]
        fn right_kernels_are_not_refused() {
            let gpu = gpu();
            prove_all::<f32>(&gpu);
            prove_all::<f16>(&gpu);
            prove_all::<bf16>(&gpu);
            if gpu.adapter().has_f64() {
                prove_all::<f64>(&gpu);
            }
        }
    }
}
