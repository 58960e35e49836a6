//! What every backend answers: one method per operation.

use std::time::Duration;

use ndarray::ArrayView1;

use crate::batch::Batch;
use crate::element::Element;
use crate::gradient::Places;
use crate::{Divergence, Error, Matrix, Outcome, Pairs};

/// A backend computes planned batches. A new operation does not compile until each has an answer.
pub(crate) trait Backend {
    /// One value per row of a measure that is none of another's limits. Invalid rows become NaN and a status, whatever the batch asks for.
    fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> impl Future<Output = Result<Outcome<T::Value>, Error>> + Send;

    /// The same for several measures, an outcome each. There is at least one.
    fn several<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        settings: Settings,
    ) -> impl Future<Output = Result<Vec<Outcome<T::Value>>, Error>> + Send;

    /// One value per row, and the gradients that there are places for, which have the shapes of their
    /// sides, as the weights have that of the rows.
    fn gradient<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        weights: Option<ArrayView1<'_, T::Value>>,
        places: Places<'_, T::Value>,
        settings: Settings,
    ) -> impl Future<Output = Result<Outcome<T::Value>, Error>> + Send;

    /// All rows of P against all rows of Q, of a measure that is none of another's limits. Invalid rows
    /// become NaN and a status; what they are is noted too, and then nothing need be computed where the
    /// pairs ask for an error.
    fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        settings: Settings,
    ) -> impl Future<Output = Result<Matrix<T::Value>, Error>> + Send;
}

/// What a call does about a device that fails. The CPU never does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    /// How long to wait for a device that makes no progress.
    pub deadline: Duration,
    /// Whether the CPU computes the rows that a device cannot.
    pub cpu_fallback: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { deadline: Duration::from_secs(30), cpu_fallback: false }
    }
}
