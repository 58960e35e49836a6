//! What every backend answers: one method per operation.

use crate::batch::Batch;
use crate::element::Element;
use crate::{Divergence, Error, Outcome};

/// A backend computes planned batches. A new operation does not compile until each has an answer.
pub(crate) trait Backend {
    /// One value per row. Invalid rows become NaN and a status, whatever the batch asks for.
    fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> impl Future<Output = Result<Outcome<T::Value>, Error>> + Send;
}
