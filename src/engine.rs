//! The engine: the handle a user holds, and the choice of a backend.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array1, ArrayView1, ArrayView2, ArrayViewMut2};

use crate::backend::{Backend, Settings};
use crate::batch::{Batch, OnInvalid};
use crate::cost::{self, Costs};
use crate::cpu::Cpu;
use crate::cpu::family::closer_look;
use crate::cross_check::{CrossCheck, cross_check};
use crate::element::Element;
#[cfg(feature = "gpu")]
use crate::gpu::adapter::Adapter;
use crate::gradient::{self, Places};
#[cfg(feature = "gpu")]
use crate::recover::Recovering;
use crate::{
    Divergence, Error, Gradient, InvalidRow, Matrix, Nearest, Outcome, Pairs, Wanted, auto, chain,
    self_test, sums, threads,
};

/// The asynchronous engine. [`kullback::Engine`](crate::Engine) has the same methods, blocking.
///
/// Cloning gives another handle on the same backend; handles can be shared between threads. What is
/// awaited is the device. Work on the CPU is done while the call is polled: all of it on the CPU
/// backend, on rayon's threads; for the GPU the packing of chunks and the reading of results; and
/// the looking for adapters. An executor that must not be held up should put such calls on a thread
/// for blocking work.
///
/// ```
/// use kullback::nonblocking::Engine;
/// use ndarray::array;
///
/// # pollster::block_on(async {
/// let engine = Engine::cpu();
/// let kl = engine.kl(&array![[0.5_f32, 0.5]], &array![[0.25_f32, 0.75]]).await?;
/// assert!((kl[0] - 0.143841).abs() < 1e-6);
/// # Ok::<(), kullback::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Engine {
    choice: Arc<Choice>,
    settings: Settings,
}

enum Choice {
    Cpu(Cpu),
    #[cfg(feature = "gpu")]
    Gpu(Recovering),
    Auto(auto::Auto),
    /// The CPU in the place of a GPU, which there is none of.
    Instead(Cpu, Error),
}

impl Engine {
    /// Whichever backend finishes first for the batch at hand: a hardware GPU or the CPU, never a
    /// software adapter. Adapters are looked for when the first batch comes that is large enough
    /// for them to matter.
    pub fn auto() -> Engine {
        Engine::of(Choice::Auto(auto::Auto::default()))
    }

    /// The CPU backend. It is always there.
    pub fn cpu() -> Engine {
        Engine::of(Choice::Cpu(Cpu))
    }

    /// The GPU backend, on the first adapter that can be opened and computes known rows right:
    /// discrete before integrated before software. Each has 20 seconds for it.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none, which says of each why; there is no silent substitute.
    pub async fn gpu() -> Result<Engine, Error> {
        #[cfg(feature = "gpu")]
        {
            threads::ready()?;
            Ok(Engine::of(Choice::Gpu(Recovering::first(|_| true).await?)))
        }
        #[cfg(not(feature = "gpu"))]
        Err(Error::NoAdapter { reasons: "kullback was built without its feature 'gpu'".into() })
    }

    /// The GPU backend with the CPU to [fall back](Self::with_cpu_fallback) on, or the CPU backend
    /// where no adapter can be used. Then [`Outcome::recovery`] says why not.
    pub async fn gpu_or_cpu() -> Engine {
        match Engine::gpu().await {
            Ok(engine) => engine.with_cpu_fallback(),
            Err(error) => {
                log::warn!("{error}; the CPU is used instead");
                Engine::of(Choice::Instead(Cpu, error))
            }
        }
    }

    /// The GPU backend on a certain adapter, one of [`adapters`](crate::adapters).
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened, or computes known rows wrong.
    #[cfg(feature = "gpu")]
    pub async fn with_adapter(adapter: &Adapter) -> Result<Engine, Error> {
        threads::ready()?;
        Ok(Engine::of(Choice::Gpu(Recovering::open(adapter, None).await?)))
    }

    /// The same engine, except that rows which the GPU cannot finish are computed on the CPU instead
    /// of being an error: of a device that fails and cannot be opened anew, of types that it does
    /// not take, and of rows too long for it. [`Outcome::recovery`] counts them and says why. `auto`
    /// always does so; on `cpu` it changes nothing.
    #[must_use]
    pub fn with_cpu_fallback(mut self) -> Engine {
        self.settings.cpu_fallback = true;
        self
    }

    /// The same engine with another limit of how long a call waits for a device that makes no
    /// progress; 30 seconds unless set. A device that is later counts as hung, and is not tried
    /// again in that call. Times that a device needs to compile its kernels count too.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Engine {
        self.settings.deadline = deadline;
        self
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn on(gpu: Recovering) -> Engine {
        Engine::of(Choice::Gpu(gpu))
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn gpu_backend(&self) -> Option<&Recovering> {
        match &*self.choice {
            Choice::Gpu(gpu) => Some(gpu),
            _ => None,
        }
    }

    fn of(choice: Choice) -> Engine {
        let engine = Engine { choice: Arc::new(choice), settings: Settings::default() };
        log::debug!("new engine: {engine}");
        engine
    }

    /// One divergence per row of a batch, in nats.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first row that is no distribution, unless the batch asks for
    /// NaN there; [`Error::OutOfMemory`] if there is no room for the results, and [`Error::Thread`] if the
    /// system starts no threads for them, which a few rows do without;
    /// [`Error::Unsupported`] for f64 on an adapter without it, [`Error::TooLong`] for rows that
    /// it cannot address, and [`Error::Device`] if it fails and cannot be opened anew, unless the
    /// engine [falls back to the CPU](Self::with_cpu_fallback).
    pub async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        divergence.check(batch.mass())?;
        let outcome = self.computed(divergence.at_its_limit(), batch).await?;
        admit(divergence, batch, outcome)
    }

    /// Several divergences per row of a batch: an outcome for each, in their order, from one pass over
    /// memory.
    ///
    /// A value may differ from that of [`rows`](Self::rows) in its last places.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
    ) -> Result<Vec<Outcome<T::Value>>, Error> {
        divergences.iter().try_for_each(|divergence| divergence.check(batch.mass()))?;
        if divergences.is_empty() {
            return Ok(Vec::new());
        }
        ready_for(batch)?;
        let outcomes = match batch.bin_weights() {
            Some(_) => Cpu.several(divergences, batch, self.settings).await?,
            None => self.choice.several(divergences, batch, self.settings).await?,
        };
        let admitted = divergences.iter().zip(outcomes);
        admitted.map(|(&divergence, outcome)| admit(divergence, batch, outcome)).collect()
    }

    /// One divergence per row of a batch, and its gradient in the numbers of P, of Q or of both; with a
    /// weight per row, that of the weighted sum of the values.
    ///
    /// [`kullback::Engine::gradient`](crate::Engine::gradient) says what that is.
    ///
    /// # Errors
    /// As there.
    pub async fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        wanted: Wanted,
        weights: Option<ArrayView1<'_, T::Value>>,
    ) -> Result<Gradient<T::Value>, Error> {
        divergence.check(batch.mass())?;
        let [mut p, mut q] = Gradient::zeros(batch, wanted)?;
        let [p_place, q_place] =
            [&mut p, &mut q].map(|side| side.as_mut().map(|side| side.view_mut()));
        let outcome = self.gradient_into(divergence, batch, weights, p_place, q_place).await?;
        Ok(Gradient { outcome, p, q })
    }

    /// The same, written into arrays of the caller's.
    ///
    /// [`kullback::Engine::gradient_into`](crate::Engine::gradient_into) says more.
    ///
    /// # Errors
    /// As there.
    pub async fn gradient_into<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        p: Option<ArrayViewMut2<'_, T::Value>>,
        q: Option<ArrayViewMut2<'_, T::Value>>,
    ) -> Result<Outcome<T::Value>, Error> {
        divergence.check(batch.mass())?;
        let places = Places([p, q]);
        gradient::check(batch, weights, &places)?;
        ready_for(batch)?;
        let outcome = match batch.bin_weights() {
            Some(_) => Cpu.gradient(divergence, batch, weights, places, self.settings).await?,
            None => self.choice.gradient(divergence, batch, weights, places, self.settings).await?,
        };
        admit(divergence, batch, outcome)
    }

    /// All rows of P against all rows of Q, in nats. Of a symmetric divergence of rows from
    /// themselves, the same array on both sides, each pair is computed once.
    ///
    /// A GPU sums pairs in f32, whatever their kind. What has no form in f32 is left to the CPU, and
    /// [`Matrix::recovery`] says so: f64, masses that rows are not divided by, and divergences other than
    /// `kl`, `reverse-kl`, `jeffreys`, `js` of weight ½ and its root, `hellinger`, `bhattacharyya`, `tv`,
    /// `chi2`, `cross-entropy` and those of order ½. `auto` takes the CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first row that is no distribution, P before Q, unless the pairs ask
    /// for NaN there; [`Error::OutOfMemory`] if there is no room for the matrix, which
    /// [`matrix_into`](Self::matrix_into) does without; [`Error::Thread`] if the system starts no threads;
    /// [`Error::Device`] if a device fails and cannot be
    /// opened anew, and [`Error::Unsupported`] if it sums known pairs wrong, unless the engine
    /// [falls back to the CPU](Self::with_cpu_fallback).
    pub async fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
    ) -> Result<Matrix<T::Value>, Error> {
        divergence.check(pairs.mass())?;
        threads::ready()?;
        let divergence = divergence.at_its_limit();
        let matrix = self.choice.matrix(divergence, pairs, self.settings).await?;
        match matrix.offender.filter(|_| pairs.on_invalid() == OnInvalid::Error) {
            Some(offender) => Err(Error::Invalid(offender)),
            None => Ok(matrix),
        }
    }

    /// The same in bands of rows, as many at a time as the [memory](Pairs::with_memory) takes that is
    /// set for them: each is handed out with the rows of P that are its own, and there is no matrix
    /// besides. A row of P that is no distribution is an error when its band comes, one of Q at once.
    ///
    /// Of a symmetric divergence of rows from themselves, each pair is computed once if a single band
    /// holds them all.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix), and whatever `take` returns.
    pub async fn matrix_into<T: Element, E: From<Error>>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        mut take: impl FnMut(Range<usize>, Matrix<T::Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (m, n) = pairs.shape();
        for first in (0..m).step_by(pairs.band_rows()) {
            let rows = first..(first + pairs.band_rows()).min(m);
            let band = self.matrix(divergence, &pairs.part(rows.clone(), 0..n)).await;
            take(rows, band.map_err(|error| in_whole(error, [first, 0]))?)?;
        }
        Ok(())
    }

    /// The `k` rows of Q that are nearest to each row of P, or all if there are fewer: those with the
    /// least divergences of P from them. No more of the matrix is made than two
    /// [bands](Pairs::with_memory) hold.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub async fn nearest<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        k: usize,
    ) -> Result<Nearest<T::Value>, Error> {
        let mut nearest = Nearest::of(pairs, self.backend(), k)?;
        for (p_rows, q_rows) in pairs.parts() {
            let part = pairs.part(p_rows.clone(), q_rows.clone());
            let matrix = self.matrix(divergence, &part).await;
            let matrix = matrix.map_err(|error| in_whole(error, [p_rows.start, q_rows.start]))?;
            nearest.take([p_rows.start, q_rows.start], matrix);
        }
        Ok(nearest)
    }

    /// The outcome of a measure that is none of another's limits.
    async fn computed<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        ready_for(batch)?;
        if batch.bin_weights().is_some() {
            return Ok(Cpu.several(&[divergence], batch, self.settings).await?.remove(0));
        }
        if divergence != Divergence::ReverseKl {
            return self.choice.rows(divergence, batch, self.settings).await;
        }
        let outcome = self.choice.rows(Divergence::Kl, &batch.swapped(), self.settings).await?;
        Ok(outcome.swapped())
    }

    /// `D(p‖q)` of each row in nats, the first argument first: what PyTorch computes as
    /// `F.kl_div(q.log(), p, reduction="none").sum(-1)`.
    ///
    /// `p` and `q` are rows × bins, or one of them is 1 × bins. Each row must sum to 1 within
    /// 1e-3; [`rows`](Self::rows) with a [`Batch`] has the other policies.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), and [`Error::Shape`] if the shapes do not match.
    pub async fn kl<'a, T: Element>(
        &self,
        p: impl Into<ArrayView2<'a, T>>,
        q: impl Into<ArrayView2<'a, T>>,
    ) -> Result<Array1<T::Value>, Error> {
        let batch = Batch::probs(p, q)?;
        Ok(self.rows(Divergence::Kl, &batch).await?.values)
    }

    /// Recomputes `rows` rows of an outcome, spread evenly over the batch, by the plain f64
    /// [`reference`](crate::reference).
    ///
    /// # Errors
    /// [`Error::Disagreement`] naming the worst row and both values, if a value is further from
    /// the reference than 16 units in the last place (f64: 64) and the reference's own rounding, or
    /// if only one of the two calls the row invalid; [`Error::Mismatch`] if the outcome has not as
    /// many rows as the batch.
    pub async fn cross_check<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        outcome: &Outcome<T::Value>,
        rows: usize,
    ) -> Result<CrossCheck, Error> {
        cross_check(divergence, batch, outcome, rows)
    }

    /// Computes known rows of many lengths, with zeros, an infinite row and an identical pair among
    /// them, and holds the results against the reference.
    ///
    /// # Errors
    /// [`Error::Disagreement`] if the backend gives a wrong value; the backend's own errors.
    pub async fn self_test(&self) -> Result<(), Error> {
        threads::ready()?;
        self_test::run(&*self.choice, self.settings).await
    }

    /// Measures what calls cost, in some 25 ms on data of its own.
    ///
    /// # Errors
    /// The backend's own.
    pub async fn costs(&self) -> Result<Costs, Error> {
        threads::ready()?;
        cost::measure(&*self.choice).await
    }

    /// The backend: `cpu`, `gpu`, or `auto` where each batch decides.
    pub fn backend(&self) -> &'static str {
        match &*self.choice {
            Choice::Cpu(_) | Choice::Instead(..) => "cpu",
            #[cfg(feature = "gpu")]
            Choice::Gpu(_) => "gpu",
            Choice::Auto(_) => "auto",
        }
    }

    /// The adapter that this engine computes on; none for `cpu` and `auto`.
    #[cfg(feature = "gpu")]
    pub fn adapter(&self) -> Option<&Adapter> {
        self.gpu_backend().map(Recovering::adapter)
    }
}

impl Backend for Choice {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        match self {
            Choice::Cpu(cpu) => cpu.rows(divergence, batch, settings).await,
            #[cfg(feature = "gpu")]
            Choice::Gpu(gpu) => gpu.rows(divergence, batch, settings).await,
            Choice::Auto(auto) => auto.rows(divergence, batch, settings).await,
            Choice::Instead(cpu, error) => {
                let outcome = cpu.rows(divergence, batch, settings).await;
                outcome.map(|outcome| outcome.instead_of_gpu(error))
            }
        }
    }

    async fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> Result<Vec<Outcome<T::Value>>, Error> {
        match self {
            Choice::Cpu(cpu) => cpu.several(divergences, batch, settings).await,
            #[cfg(feature = "gpu")]
            Choice::Gpu(gpu) => gpu.several(divergences, batch, settings).await,
            Choice::Auto(auto) => auto.several(divergences, batch, settings).await,
            Choice::Instead(cpu, error) => {
                let outcomes = cpu.several(divergences, batch, settings).await?;
                let instead = |outcome: Outcome<_>| outcome.instead_of_gpu(error);
                Ok(outcomes.into_iter().map(instead).collect())
            }
        }
    }

    async fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        places: Places<'_, T::Value>,
        settings: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        match self {
            Choice::Cpu(cpu) => cpu.gradient(divergence, batch, weights, places, settings).await,
            #[cfg(feature = "gpu")]
            Choice::Gpu(gpu) => gpu.gradient(divergence, batch, weights, places, settings).await,
            Choice::Auto(auto) => auto.gradient(divergence, batch, weights, places, settings).await,
            Choice::Instead(cpu, error) => {
                let outcome = cpu.gradient(divergence, batch, weights, places, settings).await?;
                Ok(outcome.instead_of_gpu(error))
            }
        }
    }

    async fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        settings: Settings,
    ) -> Result<Matrix<T::Value>, Error> {
        match self {
            Choice::Cpu(cpu) => cpu.matrix(divergence, pairs, settings).await,
            #[cfg(feature = "gpu")]
            Choice::Gpu(gpu) => gpu.matrix(divergence, pairs, settings).await,
            Choice::Auto(auto) => auto.matrix(divergence, pairs, settings).await,
            Choice::Instead(cpu, error) => {
                let matrix = cpu.matrix(divergence, pairs, settings).await;
                matrix.map(|matrix| matrix.instead_of_gpu(error))
            }
        }
    }
}

impl fmt::Display for Engine {
    /// The backend and, for `gpu`, the adapter's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "gpu")]
        if let Some(adapter) = self.adapter() {
            return write!(f, "gpu ({})", adapter.name());
        }
        f.write_str(self.backend())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({self})")
    }
}

/// Makes sure of the threads that a batch takes. Those of a GPU are there since it was opened.
fn ready_for<T: Element>(batch: &Batch<'_, T>) -> Result<(), Error> {
    threads::ready_for(batch.rows().saturating_mul(batch.bins()))
}

/// The outcome, unless the batch wants invalid rows to be an error and there is one.
fn admit<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    outcome: Outcome<T::Value>,
) -> Result<Outcome<T::Value>, Error> {
    if batch.on_invalid() == OnInvalid::Nan {
        return Ok(outcome);
    }
    let first = outcome.first_invalid();
    match first.and_then(|row| explain(divergence, batch, row)) {
        Some(offender) => Err(Error::Invalid(offender)),
        None => Ok(outcome),
    }
}

/// Turns the row of an error in a part, whose first rows these are, into the row of the whole.
fn in_whole(error: Error, first: [usize; 2]) -> Error {
    match error {
        Error::Invalid(at) => {
            Error::Invalid(InvalidRow { row: at.row + first[at.side as usize], ..at })
        }
        other => other,
    }
}

/// What is wrong with a row that a backend called invalid, and where.
fn explain<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    row: usize,
) -> Option<InvalidRow> {
    let as_a_whole = || match divergence.at_its_limit() {
        divergence if batch.bin_weights().is_some() => closer_look(divergence, batch, row),
        Divergence::Kl if batch.is_probs() => sums::closer_look(batch, row),
        Divergence::Kl => chain::judge(batch, &chain::node(batch, row)),
        divergence => closer_look(divergence, batch, row),
    };
    batch.offender(row).or_else(|| as_a_whole().offender(batch, row))
}
