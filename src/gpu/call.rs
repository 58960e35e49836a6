//! A call under way, which may outlive the device that it began on.

use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::element::{Element, Value};
use crate::outcome::Recovery;
use crate::{Divergence, Error, Outcome};

/// What is done of a call, and how long it may wait for more.
pub(crate) struct Call<V> {
    /// One for each divergence that was asked for.
    pub outcomes: Vec<Outcome<V>>,
    /// So many rows are written, the first ones, each from records that were verified.
    pub done: usize,
    /// What was survived on the way.
    pub recovery: Recovery,
    deadline: Duration,
    /// When the waiting ends, unless there is progress before.
    pub until: Instant,
}

impl<V: Value> Call<V> {
    pub(crate) fn new<T: Element<Value = V>>(
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        deadline: Duration,
    ) -> Result<Call<V>, Error> {
        let outcomes = divergences.iter().map(|_| Outcome::of(batch, "gpu"));
        Ok(Call { outcomes: outcomes.collect::<Result<_, _>>()?, ..Call::bare(deadline) })
    }

    /// One whose results are kept elsewhere.
    pub(crate) fn bare(deadline: Duration) -> Call<V> {
        Call {
            outcomes: Vec::new(),
            done: 0,
            recovery: Recovery::default(),
            deadline,
            until: from_now(deadline),
        }
    }

    /// What became of it.
    pub(crate) fn outcomes(self) -> Vec<Outcome<V>> {
        let Call { outcomes, recovery, .. } = self;
        let told = |outcome| Outcome { recovery: recovery.clone(), ..outcome };
        outcomes.into_iter().map(told).collect()
    }

    /// There was progress: what comes next has the whole time.
    pub(crate) fn progressed(&mut self) {
        self.until = from_now(self.deadline);
    }
}

/// The outcome of a call for one divergence.
pub(crate) fn one<V>(outcomes: Vec<Outcome<V>>) -> Result<Outcome<V>, Error> {
    let none = Error::Mismatch { batch: 1, outcome: 0 };
    outcomes.into_iter().next().ok_or(none)
}

/// The end of a time that begins now.
pub(crate) fn from_now(time: Duration) -> Instant {
    /// More than anybody waits, and less than an `Instant` can hold.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}
