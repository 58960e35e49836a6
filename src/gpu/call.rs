//! A call under way, which may outlive the device that it began on.

use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::element::{Element, Value};
use crate::{Error, Outcome};

/// What is done of a call, and how long it may wait for more.
pub(crate) struct Call<V> {
    pub outcome: Outcome<V>,
    /// So many rows are written, the first ones, each from records that were verified.
    pub done: usize,
    deadline: Duration,
    /// When the waiting ends, unless there is progress before.
    pub until: Instant,
}

impl<V: Value> Call<V> {
    pub(crate) fn new<T: Element<Value = V>>(
        batch: &Batch<'_, T>,
        deadline: Duration,
    ) -> Result<Call<V>, Error> {
        let outcome = Outcome::of(batch, "gpu")?;
        Ok(Call { outcome, done: 0, deadline, until: from_now(deadline) })
    }

    /// There was progress: what comes next has the whole time.
    pub(crate) fn progressed(&mut self) {
        self.until = from_now(self.deadline);
    }
}

/// The end of a time that begins now.
pub(crate) fn from_now(time: Duration) -> Instant {
    /// More than anybody waits, and less than an `Instant` can hold.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}
