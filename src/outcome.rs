//! Values and statuses, as a caller gets them.

use std::ops::Range;

use ndarray::{Array1, Axis};

use crate::batch::Batch;
use crate::element::{Element, Value};
use crate::error::{Error, Rule};

/// What a row turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// A finite value.
    #[default]
    Ok,
    /// Exactly +inf: P has mass in a bin in which Q has none. A right answer, not an error.
    Infinite,
    /// No distribution, and why. The value is NaN.
    Invalid(Rule),
}

/// The results of a batch, one entry per row each.
///
/// ```
/// use kullback::{Batch, Divergence, Engine, OnInvalid, Rule, Status};
/// use ndarray::array;
///
/// let p = array![[0.5_f32, 0.5], [0.5, 0.5], [0.5, -0.5]];
/// let q = array![[0.5_f32, 0.5], [1.0, 0.0], [0.5, 0.5]];
/// let batch = Batch::probs(&p, &q)?.with_on_invalid(OnInvalid::Nan);
/// let outcome = Engine::cpu().rows(Divergence::Kl, &batch)?;
/// assert_eq!(outcome.values[0], 0.0);
/// assert_eq!(outcome.statuses[1], Status::Infinite);
/// assert_eq!(outcome.statuses[2], Status::Invalid(Rule::Negative));
/// assert_eq!((outcome.infinite_rows(), outcome.invalid_rows()), (1, 1));
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome<T> {
    /// The divergences in nats; +inf and NaN as the statuses say.
    pub values: Array1<T>,
    /// What each row turned out to be.
    pub statuses: Array1<Status>,
    /// The masses of the rows, if the batch [asked for them](crate::Batch::with_masses).
    pub masses: Option<Masses<T>>,
    /// The backend that computed it: `cpu`, `gpu`, or `mixed` where some rows were computed by the
    /// one and some by the other.
    pub backend: &'static str,
    /// The adapter, where that was not the CPU.
    pub adapter: Option<String>,
    /// How many rows took a closer look: they were computed once more in f64, on the CPU whatever the
    /// backend, since more digits of their sums cancel than these have. Rows of counts do, and
    /// others whose masses are far apart, rows with invalid bins or numbers at the ends of the
    /// range, and masses next to the tolerance. In divergences other than Kullback-Leibler's so do on the
    /// GPU all rows that are longer than one of its submissions, which holds 32 MiB of a side or less.
    pub closer_looks: usize,
    /// Which devices failed on the way, and what was done about it.
    pub recovery: Recovery,
}

/// The faults of GPU devices that a call survived. By default there was none.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Recovery {
    /// How many faults there were.
    pub faults: usize,
    /// How often a device was opened anew.
    pub reopened: usize,
    /// How many rows the CPU computed in the place of the GPU.
    pub cpu_rows: usize,
    /// The first fault, or why the GPU was not tried.
    pub reason: Option<String>,
}

impl Recovery {
    /// Counts a fault.
    #[cfg(feature = "gpu")]
    pub(crate) fn note(&mut self, error: &Error) {
        self.faults += 1;
        self.reason.get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn add(&mut self, later: Recovery) {
        self.faults += later.faults;
        self.reopened += later.reopened;
        self.cpu_rows += later.cpu_rows;
        self.reason = self.reason.take().or(later.reason);
    }
}

/// The masses of the rows of both sides, whatever the mass policy; 1 for logits; NaN where a bin is
/// invalid.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Masses<T> {
    /// Of each row of P.
    pub p: Array1<T>,
    /// Of each row of Q.
    pub q: Array1<T>,
}

impl<T> Outcome<T> {
    /// How many rows have the value +inf.
    pub fn infinite_rows(&self) -> usize {
        self.count(|status| status == Status::Infinite)
    }

    /// How many rows are no distributions.
    pub fn invalid_rows(&self) -> usize {
        self.count(|status| matches!(status, Status::Invalid(_)))
    }

    /// The first row that is no distribution.
    pub(crate) fn first_invalid(&self) -> Option<usize> {
        /// Statuses that are looked at as a whole, which is many times faster than one by one.
        const SOME: usize = 1 << 12;
        let is_invalid = |status: &Status| matches!(status, Status::Invalid(_));
        let statuses = self.statuses.as_slice().unwrap_or_default();
        let mut some = statuses.chunks(SOME);
        let before =
            some.position(|some| some.iter().fold(false, |any, one| any | is_invalid(one)));
        let first = before? * SOME;
        statuses[first..].iter().position(is_invalid).map(|at| first + at)
    }

    fn count(&self, is: impl Fn(Status) -> bool) -> usize {
        self.statuses.iter().filter(|&&status| is(status)).count()
    }
}

/// The results of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row<T> {
    pub value: T,
    pub status: Status,
    pub masses: [T; 2],
    /// It was computed once more in f64.
    pub looked_closer: bool,
}

/// The places of some consecutive rows in an outcome.
pub struct Slots<'a, T> {
    pub values: &'a mut [T],
    pub statuses: &'a mut [Status],
    /// Of P and Q, if they are wanted.
    pub masses: Option<[&'a mut [T]; 2]>,
}

impl<T: Value> Outcome<T> {
    /// Adds the rows of a later part of the same batch. The masses are kept if both have them.
    pub fn append(&mut self, later: Outcome<T>) {
        fn join<A: Clone>(one: &mut Array1<A>, other: Array1<A>) {
            let joined = one.append(Axis(0), other.view());
            debug_assert!(joined.is_ok(), "arrays of one dimension always fit");
        }
        if self.backend != later.backend {
            self.backend = "mixed";
        }
        self.adapter = self.adapter.take().or(later.adapter);
        self.closer_looks += later.closer_looks;
        self.recovery.add(later.recovery);
        join(&mut self.values, later.values);
        join(&mut self.statuses, later.statuses);
        self.masses = self.masses.take().zip(later.masses).map(|(mut masses, later)| {
            join(&mut masses.p, later.p);
            join(&mut masses.q, later.q);
            masses
        });
    }

    /// An outcome for a batch, whose rows are still to be filled in.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]: a row that is repeated takes no memory, its results do.
    pub(crate) fn of<E: Element<Value = T>>(
        batch: &Batch<'_, E>,
        backend: &'static str,
    ) -> Result<Self, Error> {
        let rows = batch.rows();
        let masses = match batch.wants_masses() {
            true => Some(Masses { p: zeros(rows)?, q: zeros(rows)? }),
            false => None,
        };
        Ok(Outcome {
            values: zeros(rows)?,
            statuses: oks(rows)?,
            masses,
            backend,
            adapter: None,
            closer_looks: 0,
            recovery: Recovery::default(),
        })
    }

    /// The outcome of the CPU for rows that the GPU was to compute.
    pub(crate) fn instead_of_gpu(mut self, error: &Error) -> Outcome<T> {
        self.recovery.cpu_rows += self.values.len();
        self.recovery.reason.get_or_insert_with(|| error.to_string());
        self
    }

    /// The outcome with the rows from `first` on as another one has them.
    #[cfg(feature = "gpu")]
    pub(crate) fn completed(mut self, first: usize, mut rest: Outcome<T>) -> Outcome<T> {
        fn put<A: Clone>(all: &mut Array1<A>, first: usize, rest: Array1<A>) {
            all.slice_axis_mut(Axis(0), (first..).into()).assign(&rest);
        }
        self.recovery.add(std::mem::take(&mut rest.recovery));
        if first == 0 {
            return Outcome { recovery: self.recovery, ..rest };
        }
        self.backend = "mixed";
        self.closer_looks += rest.closer_looks;
        put(&mut self.values, first, rest.values);
        put(&mut self.statuses, first, rest.statuses);
        if let (Some(masses), Some(rest)) = (&mut self.masses, rest.masses) {
            put(&mut masses.p, first, rest.p);
            put(&mut masses.q, first, rest.q);
        }
        self
    }

    /// The same with the masses of P and Q in each other's place.
    pub(crate) fn swapped(mut self) -> Outcome<T> {
        if let Some(masses) = &mut self.masses {
            std::mem::swap(&mut masses.p, &mut masses.q);
        }
        self
    }

    /// The places of some of its rows.
    pub(crate) fn slots(&mut self, rows: Range<usize>) -> Slots<'_, T> {
        let masses = self.masses.as_mut();
        Slots {
            values: &mut slice(&mut self.values)[rows.clone()],
            statuses: &mut slice(&mut self.statuses)[rows.clone()],
            masses: masses
                .map(|Masses { p, q }| [&mut slice(p)[rows.clone()], &mut slice(q)[rows]]),
        }
    }

    /// Fills in some of its rows, each from its number within them, in tasks of about
    /// `rows_per_task` rows over the threads there are.
    #[cfg(feature = "gpu")]
    pub(crate) fn fill_in_parallel(
        &mut self,
        rows: Range<usize>,
        rows_per_task: usize,
        row: impl Fn(usize) -> Row<T> + Sync,
    ) {
        self.fill_in_tasks(rows, rows_per_task, |first, mut slots| {
            let rows = 0..slots.values.len();
            rows.filter(|&at| slots.put(at, row(first + at))).count()
        });
    }

    /// Fills in some of its rows by tasks of about `rows_per_task` rows over the threads there are. A
    /// task is given the number of its first row within them and their places, and returns how many
    /// of them took a closer look.
    pub(crate) fn fill_in_tasks(
        &mut self,
        rows: Range<usize>,
        rows_per_task: usize,
        task: impl Fn(usize, Slots<'_, T>) -> usize + Sync,
    ) {
        self.closer_looks += self.slots(rows).in_tasks(0, rows_per_task, &task);
    }
}

/// Fills in several outcomes of the same batch, in tasks as those of
/// [`fill_in_tasks`](Outcome::fill_in_tasks): each has its rows' places in all of them.
pub(crate) fn in_common_tasks<T: Value>(
    outcomes: &mut [Outcome<T>],
    rows_per_task: usize,
    task: impl Fn(usize, Vec<Slots<'_, T>>) + Sync,
) {
    let all = outcomes.iter_mut().map(|outcome| {
        let rows = 0..outcome.values.len();
        outcome.slots(rows)
    });
    common_tasks(0, all.collect(), rows_per_task, &task);
}

fn common_tasks<T: Value>(
    first: usize,
    all: Vec<Slots<'_, T>>,
    rows_per_task: usize,
    task: &(impl Fn(usize, Vec<Slots<'_, T>>) + Sync),
) {
    let tasks = all.first().map_or(0, |slots| slots.values.len().div_ceil(rows_per_task));
    if tasks <= 1 {
        return task(first, all);
    }
    let half = tasks / 2 * rows_per_task;
    let (one, other) = all.into_iter().map(|slots| slots.split_at(half)).unzip();
    rayon::join(
        || common_tasks(first, one, rows_per_task, task),
        || common_tasks(first + half, other, rows_per_task, task),
    );
}

/// An array to be filled in, of memory that the system has not yet had to find.
fn zeros<V: Value>(rows: usize) -> Result<Array1<V>, Error> {
    let zeros = bytemuck::allocation::try_zeroed_vec(rows);
    zeros.map(Array1::from_vec).map_err(|()| no_memory::<V>(rows))
}

fn oks(rows: usize) -> Result<Array1<Status>, Error> {
    let mut statuses = Vec::new();
    statuses.try_reserve_exact(rows).map_err(|_| no_memory::<Status>(rows))?;
    statuses.resize(rows, Status::Ok);
    Ok(Array1::from_vec(statuses))
}

fn no_memory<A>(rows: usize) -> Error {
    Error::OutOfMemory { bytes: rows.saturating_mul(size_of::<A>()) }
}

/// The elements of an array that [`Outcome::of`] made, and so made contiguous.
fn slice<A>(array: &mut Array1<A>) -> &mut [A] {
    array.as_slice_mut().unwrap_or_default()
}

impl<'a, T: Value> Slots<'a, T> {
    fn in_tasks(
        self,
        first: usize,
        rows_per_task: usize,
        task: &(impl Fn(usize, Slots<'_, T>) -> usize + Sync),
    ) -> usize {
        let tasks = self.values.len().div_ceil(rows_per_task);
        if tasks <= 1 {
            return task(first, self);
        }
        let half = tasks / 2 * rows_per_task;
        let (one, other) = self.split_at(half);
        let (one, other) = rayon::join(
            || one.in_tasks(first, rows_per_task, task),
            || other.in_tasks(first + half, rows_per_task, task),
        );
        one + other
    }

    pub(crate) fn split_at(self, row: usize) -> (Slots<'a, T>, Slots<'a, T>) {
        let (values, later_values) = self.values.split_at_mut(row);
        let (statuses, later_statuses) = self.statuses.split_at_mut(row);
        let (masses, later_masses) = match self.masses {
            Some([p, q]) => {
                let ((p, later_p), (q, later_q)) = (p.split_at_mut(row), q.split_at_mut(row));
                (Some([p, q]), Some([later_p, later_q]))
            }
            None => (None, None),
        };
        (
            Slots { values, statuses, masses },
            Slots { values: later_values, statuses: later_statuses, masses: later_masses },
        )
    }

    /// The same places, for as long as they are lent.
    pub(crate) fn lent(&mut self) -> Slots<'_, T> {
        Slots {
            values: self.values,
            statuses: self.statuses,
            masses: self.masses.as_mut().map(|masses| masses.each_mut().map(|side| &mut **side)),
        }
    }

    /// The same with the masses of P and Q in each other's place.
    pub(crate) fn swapped(self) -> Slots<'a, T> {
        Slots { masses: self.masses.map(|[p, q]| [q, p]), ..self }
    }

    /// Puts a row in its place; returns whether it took a closer look.
    pub(crate) fn put(&mut self, at: usize, row: Row<T>) -> bool {
        self.values[at] = row.value;
        self.statuses[at] = row.status;
        if let Some([p, q]) = &mut self.masses {
            [p[at], q[at]] = row.masses;
        }
        row.looked_closer
    }
}
