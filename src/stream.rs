//! Batches larger than memory: rows come from a source and results go to a sink, part by part,
//! within a budget of bytes.
//!
//! A [`Source`] gives the rows of one side: an array view, a boxed source, or a type of one's own
//! that reads a file or a table. A [`Stream`] pairs two of them. It reads ahead on a thread of its
//! own, while the calling thread computes the part before and hands its results to the sink. The
//! buffers are allocated once and go to and fro between the two threads.
//!
//! ```
//! use kullback::stream::Stream;
//! use kullback::{Batch, Divergence, Engine, Error};
//! use ndarray::Array2;
//!
//! let p = Array2::from_elem((10_000, 4), 0.25_f32);
//! let q = Array2::from_shape_fn((1, 4), |(_, bin)| [0.5_f32, 0.25, 0.125, 0.125][bin]);
//! let mut sum = 0.0;
//! Stream::new(p.view(), q.view())?.with_memory(64 * 1024).rows(
//!     &Engine::cpu(),
//!     Divergence::Kl,
//!     |p, q| Batch::probs(p, q),
//!     |part| {
//!         sum += part.outcome.values.sum();
//!         Ok::<_, Error>(())
//!     },
//! )?;
//! assert!((sum / 10_000.0 - 0.173287).abs() < 1e-4);
//! # Ok::<(), Error>(())
//! ```
//!
//! All of this blocks. An asynchronous caller runs it on a thread for blocking work
//! (`spawn_blocking`), with a sink that sends the outcomes through a channel; a bounded one holds
//! the reading back where they are taken slowly.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis};

use crate::batch::paired;
use crate::cross_check::{Tally, spread};
use crate::plan::MOST_RECORD_BYTES;
use crate::{
    Batch, CrossCheck, Divergence, Element, Engine, Error, Gradient, InvalidRow, Outcome, Side,
    Status, Wanted, threads,
};

/// Bytes of a side for each thread in a part for the CPU: enough that what a call costs does not
/// show, and so few that they are still in the cache when they are computed. Of two threads on
/// files in memory, parts of 1 MiB took half the time in `read` that parts of 16 MiB took.
const THREAD_BYTES: usize = 512 << 10;
/// Bytes of a side in a part where a device is on the way, whose round trips cost more.
const DEVICE_PART_BYTES: usize = 32 << 20;
/// How many buffers of them a side has where there is room: the more, the less does one thread wait
/// for the other when either is held up.
const CPU_BUFFERS: usize = 4;
/// The budget without [`Stream::with_memory`].
const MEMORY: usize = 256 << 20;

/// The rows of one side, read in order, each once.
///
/// ```
/// use std::ops::Range;
///
/// use kullback::stream::Source;
///
/// /// Every row is the same, and none of them is anywhere until it is read.
/// struct Uniform {
///     rows: usize,
///     bins: usize,
/// }
///
/// impl Source for Uniform {
///     type Item = f32;
///     type Error = std::io::Error;
///
///     fn shape(&self) -> (usize, usize) {
///         (self.rows, self.bins)
///     }
///
///     fn read(&mut self, _: Range<usize>, into: &mut [f32]) -> std::io::Result<()> {
///         into.fill(1.0 / self.bins as f32);
///         Ok(())
///     }
/// }
/// ```
pub trait Source: Send {
    /// The type of the numbers.
    type Item: Element;
    /// Why rows could not be read.
    type Error: Send;

    /// Rows and bins, the same at every call.
    fn shape(&self) -> (usize, usize);

    /// Reads some rows, one after the other, into a buffer of `rows.len()` × bins numbers. What it
    /// held before is of an earlier part: all of it is to be overwritten.
    ///
    /// # Errors
    /// Whatever keeps it from that. It ends the stream.
    fn read(&mut self, rows: Range<usize>, into: &mut [Self::Item]) -> Result<(), Self::Error>;

    /// How many bytes are better read at once than in parts, as far as the budget allows it; for
    /// sources in which the numbers of a row do not lie side by side.
    fn preferred_bytes(&self) -> usize {
        0
    }
}

impl<T: Element> Source for ArrayView2<'_, T> {
    type Item = T;
    type Error = Error;

    fn shape(&self) -> (usize, usize) {
        self.dim()
    }

    fn read(&mut self, rows: Range<usize>, into: &mut [T]) -> Result<(), Error> {
        let into = into.chunks_exact_mut(self.ncols().max(1));
        for (row, into) in self.slice_axis(Axis(0), rows.into()).rows().into_iter().zip(into) {
            ArrayViewMut1::from(into).assign(&row);
        }
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    type Item = S::Item;
    type Error = S::Error;

    fn shape(&self) -> (usize, usize) {
        (**self).shape()
    }

    fn read(&mut self, rows: Range<usize>, into: &mut [S::Item]) -> Result<(), S::Error> {
        (**self).read(rows, into)
    }

    fn preferred_bytes(&self) -> usize {
        (**self).preferred_bytes()
    }
}

/// Some consecutive rows of a stream, and what became of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Part<'a, T: Element> {
    /// Which rows of the whole these are: each part begins where the one before ended.
    pub rows: Range<usize>,
    /// The rows themselves, whose numbers begin at 0 here.
    pub batch: Batch<'a, T>,
    /// Their results.
    pub outcome: Outcome<T::Value>,
    /// Their gradients in P and in Q, those that the stream was [told](Stream::with_gradient) to
    /// compute. Of a side with a single row it is the sum over the rows of this part.
    pub gradient: [Option<Array2<T::Value>>; 2],
}

/// Two sources, and how they are gone through.
///
/// A side with a single row is read once, and compared with every row of the other.
#[derive(Debug)]
pub struct Stream<P, Q> {
    p: P,
    q: Q,
    rows: usize,
    bins: usize,
    memory: usize,
    cross_check: usize,
    gradient: Option<Wanted>,
}

impl<T, P, Q> Stream<P, Q>
where
    T: Element,
    P: Source<Item = T>,
    Q: Source<Item = T>,
{
    /// Pairs the rows of two sources.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bins differ, or the rows do and neither side has exactly one;
    /// [`Error::NoBins`] if there are rows but no bins.
    pub fn new(p: P, q: Q) -> Result<Self, Error> {
        let (rows, bins) = paired(p.shape(), q.shape())?;
        Ok(Stream { p, q, rows, bins, memory: MEMORY, cross_check: 0, gradient: None })
    }

    /// Sets how many bytes its buffers, the results and the copies that a GPU backend makes may
    /// take together; 256 MiB unless set. More than some tens of megabytes make nothing faster,
    /// unless a [source](Source::preferred_bytes) says so.
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Has `rows` rows, spread evenly over the whole, recomputed by the plain f64
    /// [`reference`](crate::reference); none unless set. They are those that
    /// [`Engine::cross_check`] would take of the whole batch.
    #[must_use]
    pub fn with_cross_check(mut self, rows: usize) -> Self {
        self.cross_check = rows;
        self
    }

    /// Has the gradients computed as well, as [`Engine::gradient`] does it; none unless set.
    #[must_use]
    pub fn with_gradient(mut self, wanted: Wanted) -> Self {
        self.gradient = Some(wanted);
        self
    }

    /// How many results there will be, and of how many bins each.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.bins)
    }

    /// Computes one divergence per row, in nats. `batch` says how the rows of a part are to be
    /// read, P before Q; the sink takes the parts in their order. There is always at least one, be
    /// it of no rows. They are of nearly the same size, so that [`Engine::auto`] takes the same backend
    /// for each.
    ///
    /// The results have the same bits as from one call on the whole, on one backend and adapter.
    ///
    /// # Errors
    /// The first one of a source, of `batch`, of the engine or of the sink ends the reading and the
    /// computing. [`Error::Invalid`] counts the rows of the whole. [`Error::Memory`], before
    /// anything is read, if not even one row fits the budget; [`Error::Disagreement`], at the end,
    /// if the cross-check finds fault.
    ///
    /// # Panics
    /// Only if a source, `batch` or the sink does.
    pub fn rows<E>(
        self,
        engine: &Engine,
        divergence: Divergence,
        batch: impl for<'a> Fn(ArrayView2<'a, T>, ArrayView2<'a, T>) -> Result<Batch<'a, T>, Error>,
        mut sink: impl FnMut(Part<'_, T>) -> Result<(), E>,
    ) -> Result<CrossCheck, E>
    where
        E: From<Error> + From<P::Error> + From<Q::Error> + Send,
    {
        threads::ready()?;
        let cut = self.cut(engine)?;
        let Stream { mut p, mut q, rows, bins, cross_check, gradient: wanted, .. } = self;
        let is_auto = engine.backend() == "auto";
        let mut tally = Tally::default();
        let mut checked = spread(rows, cross_check).peekable();

        // What a side with a single row holds, and nothing for the others.
        let mut singles = buffers(cut.single.map(|single| if single { bins } else { 0 }))?;
        if cut.single[0] {
            p.read(0..1, &mut singles[0])?;
        }
        if cut.single[1] {
            q.read(0..1, &mut singles[1])?;
        }
        let (to_reader, empty) = mpsc::sync_channel(cut.depth);
        for _ in 0..cut.depth {
            let many = cut.single.map(|single| if single { 0 } else { cut.most * bins });
            // The channel has room for all of them.
            let _ = to_reader.send(buffers(many)?);
        }
        let most = AtomicUsize::new(cut.most);
        let reader = Reader { p, q, shape: (rows, bins), single: cut.single, most: &most };

        thread::scope(|scope| {
            // The ends of the channels that are held here are dropped however this is left, and
            // the reader then ends too.
            let to_reader = to_reader;
            let (to_computer, full) = mpsc::sync_channel(cut.depth);
            let reading = thread::Builder::new()
                .name("kullback-read".into())
                .spawn_scoped(scope, move || reader.run::<E>(&empty, &to_computer))
                .map_err(|error| Error::Thread { message: error.to_string() })?;
            for read in full {
                let (rows, buffers): Filled<T> = read?;
                let [p, q] = [0, 1].map(|side| match cut.single[side] {
                    true => view(&singles[side], 1, bins),
                    false => view(&buffers[side], rows.len(), bins),
                });
                let batch = batch(p?, q?)?;
                if (batch.rows(), batch.bins()) != (rows.len(), bins) {
                    let batch = (batch.rows(), batch.bins());
                    return Err(Error::Part { part: (rows.len(), bins), batch }.into());
                }
                let computed = compute(engine, divergence, &batch, wanted);
                let Gradient { outcome, p, q } =
                    computed.map_err(|error| in_whole(error, &batch, rows.start, &singles))?;
                let gradient = [p, q];
                if is_auto && outcome.backend == "cpu" {
                    most.store(cut.cpu_most, Ordering::Relaxed);
                }
                while let Some(row) = checked.next_if(|row| rows.contains(row)) {
                    tally.compare(divergence, &batch, &outcome, row - rows.start, rows.start);
                }
                sink(Part { rows, batch, outcome, gradient })?;
                // None takes it once the last part has been read.
                let _ = to_reader.send(buffers);
            }
            // A panic in a source goes on here, instead of passing for the end.
            reading.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok(tally.finish()?)
        })
    }

    /// Bytes that gradients take for each row of a part, and those of sums over rows.
    fn gradient_bytes(&self, single: [bool; 2]) -> [usize; 2] {
        /// Sums that each thread may hold at a time, with those that wait for others.
        const SUMS: usize = 4;
        let sides = [Side::P, Side::Q].into_iter().zip(single);
        let wanted = sides.filter(|(side, _)| self.gradient.is_some_and(|it| it.includes(*side)));
        let summed = wanted.clone().filter(|(_, single)| *single).count();
        let sums = SUMS * size_of::<f64>() * rayon::current_num_threads();
        let each = self.bins.saturating_mul(size_of::<T::Value>());
        [each.saturating_mul(wanted.count() - summed), self.bins.saturating_mul(summed * sums)]
    }

    /// Cuts the rows into parts that fit the budget.
    fn cut(&self, engine: &Engine) -> Result<Cut, Error> {
        let rows = self.rows;
        let single = [self.p.shape(), self.q.shape()].map(|shape| shape.0 == 1 && rows != 1);
        let row_bytes = self.bins.saturating_mul(size_of::<T>());
        let cpu_part = THREAD_BYTES * rayon::current_num_threads();
        // A device's copies lie in this memory too, packed on their way if not for good, and beside
        // them records: two to merge to and fro, two for later passes, and two each where they are read
        // back and twice on their way from there. Derivatives are where the kernel writes them, where they
        // are read back, twice on their way from there, and in the results: with room to grow, eight times.
        let (part, depth, copies, records, derivatives) = match engine.backend() {
            "cpu" => (cpu_part, CPU_BUFFERS, 1, 0, 1),
            _ => (DEVICE_PART_BYTES.max(cpu_part), 2, 2, 10 * MOST_RECORD_BYTES, 8),
        };
        let sides = |one| single.iter().filter(|&&single| single == one).count() * copies;
        let read = row_bytes.saturating_mul(sides(false));
        let once = row_bytes.saturating_mul(sides(true));
        let results = 3 * size_of::<T::Value>() + size_of::<Status>() + records;
        let [written, summed] = self.gradient_bytes(single);
        let (once, results) = (
            once.saturating_add(summed),
            results.saturating_add(written.saturating_mul(derivatives)),
        );

        let needed = |depth: usize| read.saturating_mul(depth).saturating_add(results);
        let least = once.saturating_add(needed(1));
        // What is more than that has no address.
        if least > self.memory.min(isize::MAX as usize) {
            return Err(Error::Memory { needed: least, limit: self.memory });
        }
        let preferred = self.p.preferred_bytes().max(self.q.preferred_bytes());
        let worth = |part: usize| (part.max(preferred) / row_bytes.max(1)).max(1);
        let most = |depth| ((self.memory - once) / needed(depth)).min(worth(part));
        // As many buffers as leave the parts their size, or else two; one if there is no room for
        // more, or if it takes all the rows.
        let several = (2..=depth).rev().find(|&depth| most(depth) == worth(part)).unwrap_or(2);
        let (depth, most) = match (most(1), most(several)) {
            (one, many) if one >= rows || many == 0 => (1, one.min(rows)),
            (_, many) => (several, many),
        };
        Ok(Cut { depth, most, cpu_most: most.min(worth(cpu_part)), single })
    }
}

/// The results of a part, and its gradients if they are wanted.
fn compute<T: Element>(
    engine: &Engine,
    divergence: Divergence,
    batch: &Batch<'_, T>,
    wanted: Option<Wanted>,
) -> Result<Gradient<T::Value>, Error> {
    match wanted {
        Some(wanted) => engine.gradient(divergence, batch, wanted, None),
        None => Ok(Gradient { outcome: engine.rows(divergence, batch)?, p: None, q: None }),
    }
}

/// How the rows are cut into parts.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// How many parts have buffers at a time.
    depth: usize,
    /// The most rows that a part has.
    most: usize,
    /// The same once `auto` has taken the CPU.
    cpu_most: usize,
    /// Which sides have one row for all of the other.
    single: [bool; 2],
}

/// Rows in the buffers of both sides.
type Filled<T> = (Range<usize>, [Vec<T>; 2]);

/// What the thread that reads ahead holds.
struct Reader<'a, P, Q> {
    p: P,
    q: Q,
    shape: (usize, usize),
    single: [bool; 2],
    /// The most rows that the next part is to have.
    most: &'a AtomicUsize,
}

impl<T: Element, P: Source<Item = T>, Q: Source<Item = T>> Reader<'_, P, Q> {
    /// Fills the buffers that come back, until all is read, a source fails or nobody listens.
    fn run<E: From<P::Error> + From<Q::Error>>(
        mut self,
        empty: &Receiver<[Vec<T>; 2]>,
        full: &SyncSender<Result<Filled<T>, E>>,
    ) {
        let mut rows = 0..0;
        loop {
            let Ok(mut buffers) = empty.recv() else { return };
            // What is left in parts of nearly one size, none too small to be worth a device.
            let left = self.shape.0 - rows.end;
            let parts = left.div_ceil(self.most.load(Ordering::Relaxed).max(1)).max(1);
            rows = rows.end..rows.end + left.div_ceil(parts);
            let read = self.read(rows.clone(), &mut buffers);
            let ended = read.is_err() || rows.end == self.shape.0;
            if full.send(read.map(|()| (rows.clone(), buffers))).is_err() || ended {
                return;
            }
        }
    }

    fn read<E: From<P::Error> + From<Q::Error>>(
        &mut self,
        rows: Range<usize>,
        [p, q]: &mut [Vec<T>; 2],
    ) -> Result<(), E> {
        let len = rows.len() * self.shape.1;
        if !self.single[0] {
            self.p.read(rows.clone(), &mut p[..len])?;
        }
        if !self.single[1] {
            self.q.read(rows, &mut q[..len])?;
        }
        Ok(())
    }
}

/// A buffer for each side, of so many numbers.
fn buffers<T: Element>(lens: [usize; 2]) -> Result<[Vec<T>; 2], Error> {
    let mut buffers = [Vec::new(), Vec::new()];
    for (buffer, len) in buffers.iter_mut().zip(lens) {
        let bytes = len.saturating_mul(size_of::<T>());
        // Zeros that the system has ready, and no page that is not used.
        let zeros = bytemuck::allocation::try_zeroed_vec(len);
        *buffer = zeros.map_err(|()| Error::OutOfMemory { bytes })?;
    }
    Ok(buffers)
}

/// The rows at the start of a buffer.
fn view<T>(buffer: &[T], rows: usize, bins: usize) -> Result<ArrayView2<'_, T>, Error> {
    let view = ArrayView2::from_shape((rows, bins), &buffer[..rows * bins]);
    view.map_err(|_| Error::OutOfMemory { bytes: size_of_val(buffer) })
}

/// Turns the row of an error in a part into the row of the whole.
fn in_whole<T: Element>(
    error: Error,
    batch: &Batch<'_, T>,
    first: usize,
    singles: &[Vec<T>; 2],
) -> Error {
    match error {
        Error::Invalid(at) => {
            // Told by its address, for the caller may have made P of Q.
            let start = batch.row(at.side, 0).as_ptr();
            let is_single = singles.iter().any(|single| single.as_ptr() == start);
            let first = if is_single { 0 } else { first };
            Error::Invalid(InvalidRow { row: at.row + first, ..at })
        }
        other => other,
    }
}
