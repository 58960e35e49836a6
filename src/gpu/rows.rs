//! Row-wise divergences on the GPU. Shader: `shaders/rows.wgsl`.

use std::collections::VecDeque;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use ndarray::Axis;

use super::Gpu;
use super::device::{Records, RowsJob};
use super::kernel::Spec;
use super::record::Record;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::element::Element;
use crate::error::Side;
use crate::plan::{Chunk, Plan, QUAD, Shape, padded};
use crate::{Divergence, Error, Outcome, sums};

/// What the shader declares.
pub const SPEC: Spec = Spec {
    name: "rows",
    source: concat!(
        include_str!("../../shaders/shared/record.wgsl"),
        include_str!("../../shaders/shared/term.wgsl"),
        include_str!("../../shaders/rows.wgsl"),
    ),
    buffers: &[("p", false), ("q", false), ("sums", true)],
    params: (
        size_of::<Params>(),
        &[
            ("units", offset_of!(Params, units)),
            ("line", offset_of!(Params, line)),
            ("lanes", offset_of!(Params, lanes)),
            ("segments", offset_of!(Params, segments)),
            ("segment_quads", offset_of!(Params, segment_quads)),
            ("bins", offset_of!(Params, bins)),
            ("p_stride", offset_of!(Params, p_stride)),
            ("q_stride", offset_of!(Params, q_stride)),
            ("ticket", offset_of!(Params, ticket)),
            ("unused_0", offset_of!(Params, unused)),
            ("unused_1", offset_of!(Params, unused) + 4),
            ("unused_2", offset_of!(Params, unused) + 8),
        ],
    ),
};

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    units: u32,
    line: u32,
    lanes: u32,
    segments: u32,
    segment_quads: u32,
    bins: u32,
    p_stride: u32,
    q_stride: u32,
    ticket: u32,
    unused: [u32; 3],
}

impl Params {
    fn new<T: Element>(batch: &Batch<'_, T>, plan: &Plan, chunk: &Chunk) -> Params {
        let dispatch = plan.dispatch(chunk);
        let stride = |side| match batch.repeats(side) {
            true => 0,
            false => (padded(chunk.bins.len()) / QUAD) as u32,
        };
        Params {
            units: dispatch.units,
            line: dispatch.grid[0],
            lanes: dispatch.lanes,
            segments: chunk.segments.len() as u32,
            segment_quads: (plan.segment_bins / QUAD) as u32,
            bins: chunk.bins.len() as u32,
            p_stride: stride(Side::P),
            q_stride: stride(Side::Q),
            ticket: 0,
            unused: [0; 3],
        }
    }

    pub(crate) fn with_ticket(self, ticket: u32) -> Params {
        Params { ticket, ..self }
    }
}

/// Rows whose sums a thread turns into values at a time: cheap, but for those that need the closer
/// look.
const ROWS_PER_TASK: usize = 1 << 10;
/// Chunks handed to the device before the first is awaited: one runs while the next is packed.
const IN_FLIGHT: usize = 2;

impl Backend for Gpu {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        let Divergence::Kl = divergence;
        if T::NAME != f32::NAME || !batch.is_probs() {
            return Err(Error::Unsupported {
                backend: "gpu",
                what: format!("{} input; the cpu backend takes it", T::NAME),
            });
        }
        let shape = Shape { rows: batch.rows(), bins: batch.bins() };
        let plan = Plan::new(shape, self.limits())?;
        let mut outcome = Outcome::with_rows(batch.rows(), "gpu");
        outcome.adapter = Some(self.adapter().name().to_owned());
        let mut long_row = Vec::new();
        let mut running = VecDeque::new();
        let mut chunks = plan.chunks();
        loop {
            while running.len() < IN_FLIGHT
                && let Some(chunk) = chunks.next()
            {
                let job = pack(batch, &plan, &chunk);
                running.push_back((chunk, self.run(move |device| device.sum_rows(&job))));
            }
            let Some((chunk, records)) = running.pop_front() else { break };
            let records = records.await?;
            if chunk.whole_rows {
                self.settle(batch, &chunk.rows, records, &mut outcome)?;
                continue;
            }
            long_row.extend(self.parts(&plan, &chunk, records)?);
            if chunk.segments.end == plan.segments {
                let (parts, merges) = (std::mem::take(&mut long_row), plan.merges(1));
                let merged = self.run(move |device| device.merge_records(parts, &merges)).await?;
                self.settle(batch, &chunk.rows, merged, &mut outcome)?;
            }
        }
        Ok(outcome)
    }
}

impl Gpu {
    /// Writes the results of some whole rows.
    fn settle<T: Element>(
        &self,
        batch: &Batch<'_, T>,
        rows: &Range<usize>,
        Records { records, ticket }: Records,
        outcome: &mut Outcome<T::Value>,
    ) -> Result<(), Error> {
        let verified = records.into_iter().map(|record| record.verified(ticket, batch.bins()));
        let records: Vec<Record> = verified.collect::<Result<_, _>>().map_err(|e| self.fault(e))?;
        outcome.slots(rows.clone()).fill_in_parallel(ROWS_PER_TASK, |at| {
            sums::settle(batch, rows.start + at, &records[at].sums())
        });
        Ok(())
    }

    /// The records of some segments of a long row.
    fn parts(
        &self,
        plan: &Plan,
        chunk: &Chunk,
        Records { records, ticket }: Records,
    ) -> Result<Vec<Record>, Error> {
        let bins_of = |at: usize| {
            let first = (chunk.segments.start + at) * plan.segment_bins;
            plan.segment_bins.min(chunk.bins.end - first)
        };
        let verified = records
            .into_iter()
            .enumerate()
            .map(|(at, record)| record.verified(ticket, bins_of(at)));
        verified.collect::<Result<_, _>>().map_err(|e| self.fault(e))
    }
}

/// A chunk's bins as the shader reads them.
fn pack<T: Element>(batch: &Batch<'_, T>, plan: &Plan, chunk: &Chunk) -> RowsJob {
    let stride = padded(chunk.bins.len());
    let words_of = |side| {
        let first = chunk.rows.start;
        let rows = if batch.repeats(side) { first..first + 1 } else { chunk.rows.clone() };
        let mut words = vec![0_u32; rows.len() * stride];
        for (row, words) in rows.zip(words.chunks_exact_mut(stride)) {
            let bins = batch.row(side, row);
            let bins = bins.slice_axis(Axis(0), chunk.bins.clone().into());
            match bins.as_slice() {
                Some(bins) => words[..bins.len()].copy_from_slice(bytemuck::cast_slice(bins)),
                None => words.iter_mut().zip(bins).for_each(|(w, bin)| *w = bytemuck::cast(*bin)),
            }
        }
        words
    };
    RowsJob {
        p: words_of(Side::P),
        q: words_of(Side::Q),
        params: Params::new(batch, plan, chunk),
        dispatch: plan.dispatch(chunk),
        merges: if chunk.whole_rows { plan.merges(chunk.rows.len()) } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;

    use super::*;
    use crate::sums::tests::{assert_sums, sides};

    #[test]
    fn the_sums_themselves_are_right() {
        let gpu = pollster::block_on(Gpu::first(|_| true)).expect("the tests need an adapter");
        // To several segments, which the device merges.
        for bins in [1, 7, 16, 64, 257, 1_000, 5_000, 70_000, 140_000] {
            let sides = sides(bins);
            let [p, q] =
                [0, 1].map(|side| ArrayView2::from_shape((1, bins), &sides[side]).unwrap());
            let batch = Batch::probs(p, q).unwrap();
            let plan = Plan::new(Shape { rows: 1, bins }, gpu.limits()).unwrap();
            let chunk = plan.chunks().next().unwrap();
            assert!(chunk.whole_rows);
            let job = pack(&batch, &plan, &chunk);
            let done = pollster::block_on(gpu.run(move |device| device.sum_rows(&job))).unwrap();
            let record = done.records[0].verified(done.ticket, bins).unwrap();
            assert_sums(&record.sums(), &sides, &format!("{bins} bins"));
        }
    }
}
