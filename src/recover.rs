//! What happens when a device fails. It is opened anew, twice at most in a call, with smaller chunks
//! where memory was the cause; then the CPU has the rows that are left, or the caller an error.
//!
//! Rows count as done when their records are verified and their results written. The input stays
//! with the caller all the while, so that nothing is lost with a device.

use std::sync::{self, Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_intrusive::sync::{Mutex, MutexGuard};
use ndarray::ArrayView1;

use crate::backend::{Backend, Settings};
use crate::batch::Batch;
use crate::cpu::Cpu;
use crate::cpu::gradient::Gradients;
use crate::cpu::pairing::{Of, mirror};
use crate::element::{Element, Value};
use crate::error::Cause;
use crate::gpu::adapter::{self, Adapter};
use crate::gpu::call::{Call, from_now, one};
use crate::gpu::clock::Clock;
use crate::gpu::fault::Fault;
use crate::gpu::matrix::no_form;
use crate::gpu::{Gpu, Injury, OPENING};
use crate::gradient::Places;
use crate::plan::Limits;
use crate::{Divergence, Error, Matrix, Outcome, Pairs, self_test};

/// How often a call opens a device anew.
const MOST_REOPENED: usize = 2;
/// How many times smaller the chunks become when memory runs short, and the least that they may be.
const SHRINK: u64 = 8;
const LEAST_CHUNK_BYTES: u64 = 64 << 10;
/// For how long calls do without a device that was given up: so long at first, then twice as long
/// each time, and at most so long.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(64);

/// A GPU backend that outlives its devices.
pub(crate) struct Recovering {
    adapter: Adapter,
    cap: Option<Limits>,
    clock: Arc<Clock>,
    /// Held while a device is opened in the place of one that failed: calls that begin then wait for it.
    opening: Mutex<()>,
    /// Never held while something is waited for.
    state: sync::Mutex<State>,
}

struct State {
    device: Opened,
    /// The most that a chunk may take, where memory was found to be short.
    chunk_bytes: u64,
    /// Until when calls do without the device, and why.
    rest: Option<(Instant, Error)>,
    /// How long the next such time is to be.
    next_rest: Duration,
}

/// A device, and how many there were before it.
#[derive(Clone)]
struct Opened {
    gpu: Arc<Gpu>,
    generation: u64,
}

impl Recovering {
    /// Opens an adapter, under its own limits or those of a cap, and has it prove itself.
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened, or computes something wrong.
    pub(crate) async fn open(adapter: &Adapter, cap: Option<Limits>) -> Result<Recovering, Error> {
        Recovering::open_until(adapter, cap, from_now(OPENING)).await
    }

    async fn open_until(
        adapter: &Adapter,
        cap: Option<Limits>,
        until: Instant,
    ) -> Result<Recovering, Error> {
        let clock = Arc::new(Clock::start().map_err(|fault| fault.on(adapter))?);
        let mut chunk_bytes = u64::MAX;
        let mut reopened = 0;
        let gpu = loop {
            let error = match opened(adapter, cap, chunk_bytes, &clock, until).await {
                Ok(gpu) => break Arc::new(gpu),
                Err(error) => error,
            };
            if reopened == MOST_REOPENED || !can_pass(&error, until) {
                return Err(error);
            }
            log::warn!("{error}; it is opened anew");
            chunk_bytes = shrunk(chunk_bytes, cap, adapter, &error);
            reopened += 1;
        };
        let state = State {
            device: Opened { gpu, generation: 0 },
            chunk_bytes,
            rest: None,
            next_rest: FIRST_REST,
        };
        Ok(Recovering {
            adapter: adapter.clone(),
            cap,
            clock,
            opening: Mutex::new((), true),
            state: sync::Mutex::new(state),
        })
    }

    /// Opens the first adapter of the machine that is eligible and can be opened.
    pub(crate) async fn first(eligible: impl Fn(&Adapter) -> bool) -> Result<Recovering, Error> {
        const NEEDED: &str = "a driver for Vulkan, Metal or DX12 is needed";
        let mut until = from_now(OPENING);
        let found = adapter::look(until).map_err(|fault| {
            let reasons = format!("{}; {NEEDED}", fault.message);
            Error::NoAdapter { reasons }
        })?;
        let mut reasons = Vec::new();
        for adapter in found.iter().filter(|adapter| eligible(adapter)) {
            match Recovering::open_until(adapter, None, until).await {
                Ok(gpu) => return Ok(gpu),
                Err(error) => reasons.push(error.to_string()),
            }
            until = from_now(OPENING);
        }
        if reasons.is_empty() {
            reasons.push(format!("none was found; {NEEDED}"));
        }
        Err(Error::NoAdapter { reasons: reasons.join("; ") })
    }

    pub(crate) fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Does a device of the day an injury, for tests.
    pub(crate) async fn injure(&self, injury: Injury) -> Result<(), Error> {
        let Opened { gpu, .. } = self.current(from_now(OPENING)).await?;
        gpu.injure(injury);
        Ok(())
    }

    /// The device that calls are to use; an error while they do without.
    async fn current(&self, until: Instant) -> Result<Opened, Error> {
        drop(self.while_none_opens(until).await?);
        let state = self.state();
        match &state.rest {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            _ => Ok(state.device.clone()),
        }
    }

    fn state(&self) -> sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for whoever opens a device, and keeps others from it.
    async fn while_none_opens(&self, until: Instant) -> Result<MutexGuard<'_, ()>, Error> {
        let guard = self.clock.within(until, self.opening.lock()).await;
        guard.ok_or_else(|| Fault::late().on(&self.adapter))
    }

    /// Lets devices finish a call, one after the other if they fail.
    async fn finish<V: Value>(
        &self,
        asked: &mut impl Asked<V>,
        call: &mut Call<V>,
    ) -> Result<(), Error> {
        let mut device = self.current(call.until).await?;
        let mut result = asked.attempt(&device.gpu, call).await;
        let mut reopened = 0;
        while let Err(error @ Error::Device { .. }) = &result {
            log::warn!("{error}");
            call.recovery.note(error);
            if reopened == MOST_REOPENED || !can_pass(error, call.until) {
                self.leave_alone(&device, error);
                return result;
            }
            reopened += 1;
            result = match self.renewed(&device, error, reopened, call).await {
                Ok(next) => {
                    device = next;
                    asked.attempt(&device.gpu, call).await
                }
                Err(error) => Err(error),
            };
        }
        if reopened > 0 && result.is_ok() {
            self.state().next_rest = FIRST_REST;
        }
        result
    }

    /// Another device in the place of one that failed: that which another call opened meanwhile, or
    /// a new one.
    async fn renewed<V>(
        &self,
        failed: &Opened,
        error: &Error,
        attempt: usize,
        call: &mut Call<V>,
    ) -> Result<Opened, Error> {
        let _alone = self.while_none_opens(call.until).await?;
        let chunk_bytes = {
            let mut state = self.state();
            if state.device.generation != failed.generation {
                return Ok(state.device.clone());
            }
            state.chunk_bytes = shrunk(state.chunk_bytes, self.cap, &self.adapter, error);
            state.chunk_bytes
        };
        // Then the driver may have to be looked for again too.
        let again = (attempt > 1).then(|| self.adapter.found_again(call.until)).flatten();
        let adapter = again.as_ref().unwrap_or(&self.adapter);
        let gpu = opened(adapter, self.cap, chunk_bytes, &self.clock, call.until).await?;
        log::info!("{} was opened anew", adapter.name());
        call.recovery.reopened += 1;
        let device = Opened { gpu: Arc::new(gpu), generation: failed.generation + 1 };
        let mut state = self.state();
        state.device = device.clone();
        state.rest = None;
        Ok(device)
    }

    /// Lets later calls do without a device that was given up.
    fn leave_alone(&self, device: &Opened, error: &Error) {
        let mut state = self.state();
        // Many calls may give it up at a time: that is one failure.
        let is_resting = state.rest.as_ref().is_some_and(|(until, _)| Instant::now() < *until);
        if state.device.generation == device.generation && !is_resting {
            let rest = state.next_rest;
            state.rest = Some((Instant::now() + rest, error.clone()));
            state.next_rest = (2 * rest).min(LONGEST_REST);
        }
    }
}

impl Backend for Recovering {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        one(self.several(&[divergence], batch, settings).await?)
    }

    async fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> Result<Vec<Outcome<T::Value>>, Error> {
        let mut call = Call::new(divergences, batch, settings.deadline)?;
        let error = match self.finish(&mut Rows { divergences, batch }, &mut call).await {
            Ok(()) => return Ok(call.outcomes()),
            Err(error) if settings.cpu_fallback => error,
            Err(error) => return Err(error),
        };
        let done = call.done;
        let left = batch.slice(done..batch.rows());
        log::warn!("{error}; the CPU computes {} of {} rows", left.rows(), batch.rows());
        let rest = on_the_cpu(divergences, &left, settings).await?;
        let both = call.outcomes().into_iter().zip(rest);
        Ok(both.map(|(begun, rest)| begun.completed(done, rest.instead_of_gpu(&error))).collect())
    }

    async fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        places: Places<'_, T::Value>,
        settings: Settings,
    ) -> Result<Outcome<T::Value>, Error> {
        let mut call = Call::new(&[divergence], batch, settings.deadline)?;
        let gradients = Gradients::new(divergence, batch, weights, places);
        let mut asked = RowsWithGradients { divergence, gradients };
        let result = self.finish(&mut asked, &mut call).await;
        let mut gradients = asked.gradients;
        let done = call.done;
        let outcome = match result {
            Ok(()) => one(call.outcomes())?,
            Err(error) if settings.cpu_fallback => {
                let left = batch.slice(done..batch.rows());
                log::warn!("{error}; the CPU computes {} of {} rows", left.rows(), batch.rows());
                let mut rest = Outcome::of(&left, "cpu")?;
                gradients.fill(rest.slots(0..left.rows()), done, &|_| None);
                one(call.outcomes())?.completed(done, rest.instead_of_gpu(&error))
            }
            Err(error) => return Err(error),
        };
        gradients.finish();
        Ok(outcome)
    }

    async fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        settings: Settings,
    ) -> Result<Matrix<T::Value>, Error> {
        let of = Of { divergence, pairs };
        if of.fast().is_none() {
            return on_the_host(of, settings).await;
        }
        let mut call = Call::bare(settings.deadline);
        let mut asked = AllPairs { of, matrix: Matrix::of(pairs, "gpu")? };
        let result = self.finish(&mut asked, &mut call).await;
        let AllPairs { mut matrix, .. } = asked;
        matrix.recovery = call.recovery;
        match result {
            Err(error) if settings.cpu_fallback => {
                let (done, [m, n]) = (call.done, <[usize; 2]>::from(pairs.shape()));
                log::warn!("{error}; the CPU computes {} of {m} rows of the matrix", m - done);
                // What is left out on the left is the mirror image of what is done.
                let first = if of.is_mirrored() { done } else { 0 };
                let left = pairs.part(done..m, first..n);
                let rest = Cpu.matrix(divergence, &left, settings).await?;
                matrix.complete([done, first], rest.instead_of_gpu(&error));
                if of.is_mirrored() {
                    mirror(&mut matrix);
                }
                Ok(matrix)
            }
            result => result.map(|()| matrix),
        }
    }
}

/// What has no form in f32 is the host's.
async fn on_the_host<T: Element>(
    of: Of<'_, '_, T>,
    settings: Settings,
) -> Result<Matrix<T::Value>, Error> {
    let error = no_form(of);
    log::info!("{error}; the CPU computes the matrix");
    let matrix = Cpu.matrix(of.divergence, of.pairs, settings).await?;
    Ok(matrix.instead_of_gpu(&error))
}

/// What the CPU makes of rows: one of the divergences has fast paths of its own.
async fn on_the_cpu<T: Element>(
    divergences: &[Divergence],
    batch: &Batch<'_, T>,
    settings: Settings,
) -> Result<Vec<Outcome<T::Value>>, Error> {
    match divergences {
        [Divergence::Kl] => Ok(vec![Cpu.rows(Divergence::Kl, batch, settings).await?]),
        several => Cpu.several(several, batch, settings).await,
    }
}

/// Opens a device, and has it prove itself if none like it has.
async fn opened(
    adapter: &Adapter,
    cap: Option<Limits>,
    chunk_bytes: u64,
    clock: &Arc<Clock>,
    until: Instant,
) -> Result<Gpu, Error> {
    let gpu = Gpu::open(adapter, cap, chunk_bytes, clock, until).await?;
    self_test::prove(&gpu, until).await?;
    Ok(gpu)
}

/// What is asked for in a call.
trait Asked<V> {
    /// Lets a device finish the call.
    fn attempt(
        &mut self,
        gpu: &Gpu,
        call: &mut Call<V>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Divergences of rows.
struct Rows<'a, 'b, T> {
    divergences: &'a [Divergence],
    batch: &'a Batch<'b, T>,
}

impl<T: Element> Asked<T::Value> for Rows<'_, '_, T> {
    async fn attempt(&mut self, gpu: &Gpu, call: &mut Call<T::Value>) -> Result<(), Error> {
        let Rows { divergences, batch } = self;
        self_test::prove_for(gpu, divergences, batch, call.until).await?;
        gpu.finish(divergences, batch, call).await
    }
}

/// One divergence of rows, and its gradients.
struct RowsWithGradients<'a, 'b, 'p, T: Element> {
    divergence: Divergence,
    gradients: Gradients<'a, 'b, 'p, T>,
}

impl<T: Element> Asked<T::Value> for RowsWithGradients<'_, '_, '_, T> {
    async fn attempt(&mut self, gpu: &Gpu, call: &mut Call<T::Value>) -> Result<(), Error> {
        let RowsWithGradients { divergence, gradients } = self;
        self_test::prove_for(gpu, &[*divergence], gradients.batch(), call.until).await?;
        let (batch, wanted) = (gradients.batch(), gradients.wanted());
        self_test::prove_gradients_for(gpu, *divergence, wanted, batch, call.until).await?;
        gpu.finish_gradients(*divergence, gradients, call).await
    }
}

/// A divergence of all rows from all rows.
struct AllPairs<'a, 'b, T: Element> {
    of: Of<'a, 'b, T>,
    matrix: Matrix<T::Value>,
}

impl<T: Element> Asked<T::Value> for AllPairs<'_, '_, T> {
    async fn attempt(&mut self, gpu: &Gpu, call: &mut Call<T::Value>) -> Result<(), Error> {
        self_test::prove_pairs_for(gpu, self.of.divergence, call.until).await?;
        gpu.finish_pairs(self.of, &mut self.matrix, call).await
    }
}

/// Whether a device that is opened anew may be without the fault, and there is time for it: one that
/// hangs takes all.
fn can_pass(error: &Error, until: Instant) -> bool {
    matches!(error, Error::Device { .. }) && Instant::now() < until
}

/// The most that a chunk may take after a fault.
fn shrunk(chunk_bytes: u64, cap: Option<Limits>, adapter: &Adapter, error: &Error) -> u64 {
    match error {
        Error::Device { cause: Cause::OutOfMemory, .. } => {
            let now = chunk_bytes.min(adapter.limits(cap).chunk_bytes);
            (now / SHRINK).max(LEAST_CHUNK_BYTES)
        }
        _ => chunk_bytes,
    }
}
