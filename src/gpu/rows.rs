//! Row-wise divergences on the GPU. Shader: `shaders/rows.wgsl`, with the parts that a variant takes.

use std::collections::VecDeque;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use ndarray::{ArrayView1, Axis};

use super::Gpu;
use super::call::{Call, one};
use super::device::{Device, RowsJob};
use super::family::Asked;
use super::fault::Fault;
use super::kernel::Spec;
use super::record::Records;
use super::settle;
use super::slot::Slot;
use super::variant::{Output, Variant};
use super::worker::catch;
use crate::backend::{Backend, Settings};
use crate::batch::Batch;
use crate::cpu::gradient::Gradients;
use crate::cpu::pairing::Of;
use crate::element::Element;
use crate::error::Side;
use crate::gradient::Places;
use crate::kind::Kind;
use crate::plan::{Chunk, Layout, Plan, QUAD, Shape, padded};
use crate::{Divergence, Error, Matrix, Outcome, Pairs};

/// What the shader declares.
pub fn spec(variant: Variant, output: Output) -> Spec {
    Spec {
        name: "rows",
        variant,
        heads: None,
        lines: None,
        source: [
            variant.record_source(),
            variant.bins_source(),
            variant.segment_source(),
            include_str!("../../shaders/shared/segments.wgsl"),
            variant.output_source(output),
            include_str!("../../shaders/rows.wgsl"),
        ]
        .concat(),
        buffers: [variant.bins_buffers(), settle::buffers(output), variant.arithmetic_buffers()]
            .concat(),
        params: (size_of::<Params>(), FIELDS),
        policy: settle::policy(output),
        own: Vec::new(),
    }
}

const FIELDS: &[(&str, usize)] = &[
    ("units", offset_of!(Params, units)),
    ("line", offset_of!(Params, line)),
    ("lanes", offset_of!(Params, lanes)),
    ("segments", offset_of!(Params, segments)),
    ("segment_quads", offset_of!(Params, segment_quads)),
    ("bins", offset_of!(Params, bins)),
    ("p_stride", offset_of!(Params, p_stride)),
    ("q_stride", offset_of!(Params, q_stride)),
    ("ticket", offset_of!(Params, ticket)),
    ("p_kind", offset_of!(Params, p_kind)),
    ("q_kind", offset_of!(Params, q_kind)),
    ("zero", offset_of!(Params, zero)),
    ("per_temperature", offset_of!(Params, per_temperature)),
    ("temperature", offset_of!(Params, temperature)),
];

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub(super) units: u32,
    pub(super) line: u32,
    pub(super) lanes: u32,
    pub(super) segments: u32,
    pub(super) segment_quads: u32,
    pub(super) bins: u32,
    pub(super) p_stride: u32,
    pub(super) q_stride: u32,
    pub(super) ticket: u32,
    pub(super) p_kind: u32,
    pub(super) q_kind: u32,
    pub(super) zero: u32,
    pub(super) per_temperature: [f32; 4],
    pub(super) temperature: [f32; 4],
}

/// How the kernel is to take the numbers of the two sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub kinds: [Kind; 2],
    pub temperature: f64,
    /// From one row to the next: in vector loads, or in bins where rows are not padded to them.
    pub strides: [u32; 2],
}

impl Reading {
    fn of<T: Element>(batch: &Batch<'_, T>, chunk: &Chunk) -> Reading {
        let stride = |side| match batch.repeats(side) {
            true => 0,
            false => (padded(chunk.bins.len()) / QUAD) as u32,
        };
        Reading {
            kinds: [Side::P, Side::Q].map(|side| batch.kind(side)),
            temperature: batch.temperature(),
            strides: [Side::P, Side::Q].map(stride),
        }
    }
}

impl Params {
    pub(crate) fn new(reading: Reading, plan: &Plan, chunk: &Chunk) -> Params {
        let dispatch = plan.dispatch(chunk);
        let [p_kind, q_kind] = reading.kinds.map(|kind| kind as u32);
        let [p_stride, q_stride] = reading.strides;
        Params {
            units: dispatch.units,
            line: dispatch.grid[0],
            lanes: dispatch.lanes,
            segments: chunk.segments.len() as u32,
            segment_quads: (plan.segment_bins / QUAD) as u32,
            bins: chunk.bins.len() as u32,
            p_stride,
            q_stride,
            ticket: 0,
            p_kind,
            q_kind,
            zero: 0,
            per_temperature: in_parts(1.0 / reading.temperature, 0xffff_f000),
            temperature: in_parts(reading.temperature, u32::MAX),
        }
    }

    pub(crate) fn with_ticket(self, ticket: u32) -> Params {
        Params { ticket, ..self }
    }
}

/// A number in three parts, the first two of as many bits as the mask leaves of an f32, so that their
/// products with halves of a number of the same type are exact; the third has what is left.
pub(super) fn in_parts(number: f64, mask: u32) -> [f32; 4] {
    let mut rest = number;
    let mut part = |mask| {
        let part = f32::from_bits((rest as f32).to_bits() & mask);
        rest -= f64::from(part);
        part
    };
    [part(mask), part(mask), part(u32::MAX), 0.0]
}

/// Rows whose sums a thread turns into values at a time: cheap, but for those that need the closer
/// look.
const ROWS_PER_TASK: usize = 1 << 10;
/// Chunks handed to the device before the first is awaited: one runs while the next is packed.
pub(super) const IN_FLIGHT: usize = 2;

impl Backend for Gpu {
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
        self.finish(divergences, batch, &mut call).await?;
        Ok(call.outcomes())
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
        let mut gradients = Gradients::new(divergence, batch, weights, places);
        self.finish_gradients(divergence, &mut gradients, &mut call).await?;
        gradients.finish();
        one(call.outcomes())
    }

    async fn matrix<T: Element>(
        &self,
        divergence: Divergence,
        pairs: &Pairs<'_, T>,
        settings: Settings,
    ) -> Result<Matrix<T::Value>, Error> {
        let mut matrix = Matrix::of(pairs, "gpu")?;
        let mut call = Call::bare(settings.deadline);
        self.finish_pairs(Of { divergence, pairs }, &mut matrix, &mut call).await?;
        Ok(matrix)
    }
}

impl Gpu {
    /// Computes the rows that a call still lacks.
    pub(crate) async fn finish<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        call: &mut Call<T::Value>,
    ) -> Result<(), Error> {
        let done_before = call.done;
        let batch = &batch.slice(done_before..batch.rows());
        let variant = self.variant_for(batch)?;
        let (plan, asked) = self.plan_for(divergences, batch, variant)?;
        for outcome in &mut call.outcomes {
            outcome.adapter = Some(self.adapter().name().to_owned());
        }
        if asked.is_for_the_host() {
            leave_to_host(&asked, batch, call);
            return Ok(());
        }
        let record_bytes = variant.layout().record_bytes;
        let none = Records { record_bytes, ..Records::default() };
        let mut long_row = none.clone();
        let (mut running, mut idle) = (VecDeque::new(), Vec::new());
        let mut chunks = plan.chunks().peekable();
        // The first chunk is the largest, and a slot is for any of them.
        let most =
            chunks.peek().map_or([0; 2], |chunk| job(batch, variant, &plan, chunk, &asked).bytes);
        loop {
            while running.len() < IN_FLIGHT
                && let Some(chunk) = chunks.peek()
            {
                let job = job(batch, variant, &plan, chunk, &asked);
                let lent = match idle.pop() {
                    Some(lent) => Some(lent),
                    // With one chunk on its way, a call does not wait for a second slot.
                    None => self.lend(call, most, !running.is_empty()).await?,
                };
                let Some(mut lent) = lent else { break };
                // Only now: a chunk that is taken is a chunk that is computed.
                let Some(chunk) = chunks.next() else { break };
                pack(batch, &chunk, job.bytes, lent.slot()?).map_err(|e| self.fault(e))?;
                let until = call.until;
                lent.run(until, move |device, slot| Ok(((), device.sum_rows(slot, &job, until)?)))
                    .await?;
                running.push_back((chunk, lent));
            }
            let Some((chunk, mut lent)) = running.pop_front() else { break };
            let until = call.until;
            let collect =
                move |device: &mut Device, mut slot| Ok((device.collect(&mut slot, until)?, slot));
            let records = lent.run(until, collect).await?;
            idle.push(lent);
            if chunk.whole_rows {
                self.settle(batch, &asked, chunk.rows, &records, call)?;
                continue;
            }
            for records in records {
                self.verify_parts(&plan, &chunk, &records)?;
                long_row.words.extend(records.words);
            }
            call.progressed();
            if chunk.segments.end == plan.segments {
                let (parts, merges) =
                    (std::mem::replace(&mut long_row, none.clone()), plan.merges(1));
                let until = call.until;
                let merge =
                    move |device: &mut Device| device.merge_records(variant, parts, &merges, until);
                let merged = self.run(until, merge).await?;
                self.settle(batch, &asked, chunk.rows, &[merged], call)?;
            }
        }
        match batch.rows() - (call.done - done_before) {
            0 => Ok(()),
            lost => Err(self.fault(Fault::wrong(format!("{lost} rows did not come")))),
        }
    }

    /// Which kernels take the batch.
    pub(crate) fn variant_for<T: Element>(&self, batch: &Batch<'_, T>) -> Result<Variant, Error> {
        let refused = |why| Error::Unsupported {
            backend: "gpu",
            what: format!("{} input{why}; the cpu backend takes it", T::NAME),
        };
        match Variant::of(batch) {
            Some(variant) if variant.is_f64() && !self.adapter().has_f64() => {
                Err(refused(", since the adapter has no f64 arithmetic"))
            }
            found => found.ok_or_else(|| refused("")),
        }
    }

    /// Whether all that is asked of a batch takes the host.
    pub(crate) fn leaves_to_host<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
    ) -> Result<bool, Error> {
        let variant = self.variant_for(batch)?;
        Ok(self.plan_for(divergences, batch, variant)?.1.is_for_the_host())
    }

    /// How to cut a batch, and what to ask of its rows.
    fn plan_for<T: Element>(
        &self,
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        variant: Variant,
    ) -> Result<(Plan, Asked), Error> {
        let plan = |layout| {
            let shape = Shape { rows: batch.rows(), bins: batch.bins(), layout };
            Plan::new(shape, self.limits())
        };
        let asked = |whole_rows| Asked::new(divergences, batch, variant, whole_rows);
        let ample = asked(true);
        let (first, later) = (variant.layout(), variant.terms().layout().record_bytes);
        if ample.passes() > 0 {
            // All records of a row come back at once.
            let record_bytes = first.record_bytes + ample.passes() * later;
            let plan = plan(Layout { record_bytes, ..first });
            if let Ok(plan) = plan
                && plan.chunks().next().is_none_or(|chunk| chunk.whole_rows)
            {
                return Ok((plan, ample));
            }
        }
        let plan = plan(first)?;
        Ok((plan, asked(false)))
    }

    /// Writes the results of the next whole rows of a call, of which the batch holds the last ones:
    /// of these rows of the batch, from the records that each pass left.
    fn settle<T: Element>(
        &self,
        batch: &Batch<'_, T>,
        asked: &Asked,
        of: Range<usize>,
        records: &[Records],
        call: &mut Call<T::Value>,
    ) -> Result<(), Error> {
        let passes = self.verified(batch, of.clone(), records)?;
        let (heads, terms) = (&passes[0], &passes[1..]);
        let rows = call.done..call.done + of.len();
        let total = call.outcomes.first().map_or(0, |outcome| outcome.values.len());
        let first = rows.start - (total - batch.rows());
        if of.start != first {
            let message = format!("rows {of:?} came where rows from {first} on were due");
            return Err(self.fault(Fault::wrong(message)));
        }
        for (place, outcome) in call.outcomes.iter_mut().enumerate() {
            outcome.fill_in_parallel(rows.clone(), ROWS_PER_TASK, |at| {
                let terms = |pass: usize| terms.get(pass).map_or(&[][..], |pass| pass[at]);
                asked.row(place, batch, first + at, heads[at], terms)
            });
        }
        call.done = rows.end;
        call.progressed();
        Ok(())
    }

    /// The records of some whole rows, pass by pass, of which there is one at least.
    pub(super) fn verified<'r, T: Element>(
        &self,
        batch: &Batch<'_, T>,
        of: Range<usize>,
        records: &'r [Records],
    ) -> Result<Vec<Vec<&'r [u32]>>, Error> {
        for records in records {
            records.verify(|_| batch.bins()).map_err(|e| self.fault(Fault::wrong(e)))?;
        }
        let passes: Vec<Vec<_>> = records.iter().map(|pass| pass.each().collect()).collect();
        if passes.is_empty() || passes.iter().any(|pass| pass.len() != of.len()) {
            return Err(self.fault(Fault::wrong(format!("records of rows {of:?} are missing"))));
        }
        Ok(passes)
    }

    /// Checks the records of some segments of a long row.
    fn verify_parts(&self, plan: &Plan, chunk: &Chunk, records: &Records) -> Result<(), Error> {
        let bins_of = |at: usize| {
            let first = (chunk.segments.start + at) * plan.segment_bins;
            plan.segment_bins.min(chunk.bins.end - first)
        };
        records.verify(bins_of).map_err(|e| self.fault(Fault::wrong(e)))
    }
}

/// Computes the rows that a call lacks without a device, which has not what they take.
fn leave_to_host<T: Element>(asked: &Asked, batch: &Batch<'_, T>, call: &mut Call<T::Value>) {
    log::info!("{} rows of {} bins take a closer look in f64", batch.rows(), batch.bins());
    let first = call.done;
    for (place, outcome) in call.outcomes.iter_mut().enumerate() {
        let rows = first..first + batch.rows();
        outcome.fill_in_parallel(rows, 1, |at| asked.closer(place, batch, at));
    }
    call.done += batch.rows();
}

/// What to do with a chunk.
pub(super) fn job<T: Element>(
    batch: &Batch<'_, T>,
    variant: Variant,
    plan: &Plan,
    chunk: &Chunk,
    asked: &Asked,
) -> RowsJob {
    let row = padded(chunk.bins.len()) * size_of::<T>();
    let params = Params::new(Reading::of(batch, chunk), plan, chunk);
    RowsJob {
        variant,
        bytes: [Side::P, Side::Q].map(|side| rows_of(batch, side, chunk).len() * row),
        params,
        passes: asked.params(params),
        dispatch: variant.dispatch(plan, chunk),
        keeps_bins: false,
        merges: if chunk.whole_rows { plan.merges(chunk.rows.len()) } else { Vec::new() },
    }
}

/// The rows of a side that a chunk reads.
fn rows_of<T: Element>(batch: &Batch<'_, T>, side: Side, chunk: &Chunk) -> Range<usize> {
    let first = chunk.rows.start;
    if batch.repeats(side) { first..first + 1 } else { chunk.rows.clone() }
}

/// Writes a chunk's bins where the shader reads them.
pub(super) fn pack<T: Element>(
    batch: &Batch<'_, T>,
    chunk: &Chunk,
    bytes: [usize; 2],
    slot: &Slot,
) -> Result<(), Fault> {
    let sides = [Side::P, Side::Q].into_iter().zip(&slot.inputs).zip(bytes);
    sides.into_iter().try_for_each(|((side, input), bytes)| {
        catch(|| {
            let mut view = input.view(bytes)?;
            pack_side(batch, side, chunk, view.slice(..));
            Ok(())
        })
    })
}

/// Row after row, each padded with zeros to whole vector loads.
fn pack_side<T: Element>(
    batch: &Batch<'_, T>,
    side: Side,
    chunk: &Chunk,
    mut memory: wgpu::WriteOnly<'_, [u8]>,
) {
    let rows = rows_of(batch, side, chunk);
    let (used, stride) = (chunk.bins.len(), padded(chunk.bins.len()));
    if let Some(bins) = batch.contiguous(side, rows.clone())
        && used == stride
        && used == batch.bins()
    {
        return memory.copy_from_slice(bytemuck::cast_slice(bins));
    }
    let mut packed = vec![T::default(); stride];
    for row in rows {
        let bins = batch.row(side, row);
        let bins = bins.slice_axis(Axis(0), chunk.bins.clone().into());
        match bins.as_slice() {
            Some(bins) => packed[..used].copy_from_slice(bins),
            None => packed.iter_mut().zip(bins).for_each(|(to, bin)| *to = *bin),
        }
        let (mut here, rest) = memory.split_at(stride * size_of::<T>());
        here.copy_from_slice(bytemuck::cast_slice(&packed));
        memory = rest;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use std::thread;
    use std::time::Duration;

    use ndarray::{Array2, ArrayView2};

    use super::*;
    use crate::chain::{self, Node};
    use crate::error::Cause;
    use crate::gpu::OPENING;
    use crate::gpu::adapter::adapters;
    use crate::gpu::call::from_now;
    use crate::gpu::clock::Clock;
    use crate::gpu::record;
    use crate::gpu::variant::{Family, Format};
    use crate::sums::tests::{assert_sums, sides};

    pub(crate) fn gpu() -> Gpu {
        with_chunks_of(u64::MAX)
    }

    fn with_chunks_of(bytes: u64) -> Gpu {
        let adapter = adapters().into_iter().next().expect("the tests need an adapter");
        let clock = Arc::new(Clock::start().unwrap());
        let opened = Gpu::open(&adapter, None, bytes, &clock, from_now(OPENING));
        pollster::block_on(opened).expect("it opens")
    }

    /// What the device makes of a row, without a closer look on the host.
    fn record<T: Element>(gpu: &Gpu, batch: &Batch<'_, T>) -> Vec<u32> {
        submit(gpu, batch, true).unwrap()
    }

    /// Submits a row, and waits for its record unless that is not to be collected.
    fn submit<T: Element>(
        gpu: &Gpu,
        batch: &Batch<'_, T>,
        collected: bool,
    ) -> Result<Vec<u32>, Error> {
        let variant = Variant::of(batch).unwrap();
        let shape = Shape { rows: 1, bins: batch.bins(), layout: variant.layout() };
        let plan = Plan::new(shape, gpu.limits()).unwrap();
        let chunk = plan.chunks().next().unwrap();
        assert!(chunk.whole_rows);
        let asked = Asked::new(&[Divergence::Kl], batch, variant, true);
        let job = job(batch, variant, &plan, &chunk, &asked);
        let done = pollster::block_on(async {
            let until = from_now(OPENING);
            let mut call = Call::new(&[Divergence::Kl], batch, OPENING)?;
            let mut lent = gpu.lend(&mut call, job.bytes, false).await?.expect("it was waited for");
            pack(batch, &chunk, job.bytes, lent.slot()?).unwrap();
            lent.run(until, move |device, slot| Ok(((), device.sum_rows(slot, &job, until)?)))
                .await?;
            if !collected {
                return Ok(Vec::new());
            }
            lent.run(until, move |device, mut slot| Ok((device.collect(&mut slot, until)?, slot)))
                .await
        });
        let done: Result<Vec<Records>, Error> = done;
        let Some(done) = done?.pop() else { return Ok(Vec::new()) };
        done.verify(|_| batch.bins()).unwrap();
        Ok(done.words)
    }

    const F32_SUMS: Variant = Variant { format: Format::F32, family: Family::Sums };

    /// To several segments, which the device merges.
    const LENGTHS: [usize; 9] = [1, 7, 16, 64, 257, 1_000, 5_000, 70_000, 140_000];

    #[test]
    fn the_sums_themselves_are_right() {
        let gpu = gpu();
        for bins in LENGTHS {
            let sides = sides(bins);
            let [p, q] =
                [0, 1].map(|side| ArrayView2::from_shape((1, bins), &sides[side]).unwrap());
            let words = record(&gpu, &Batch::probs(p, q).unwrap());
            assert_sums(&record::sums(&words, F32_SUMS), &sides, &format!("{bins} bins"));
        }
    }

    /// What a pass reads of another is of the same submission, or the row is refused.
    #[test]
    fn a_pass_that_did_not_run_spoils_those_after_it() {
        let gpu = gpu();
        let p = Array2::from_elem((1, 64), 1.0 / 64.0_f32);
        let batch = &Batch::probs(&p, &p).unwrap();
        let (plan, asked) = gpu.plan_for(&[Divergence::Jeffreys], batch, F32_SUMS).unwrap();
        let chunk = plan.chunks().next().unwrap();
        for left_out in [false, true] {
            let mut job = job(batch, F32_SUMS, &plan, &chunk, &asked);
            assert_eq!(job.passes.len(), 2);
            if left_out {
                job.passes.remove(0);
            }
            let records = pollster::block_on(async {
                let until = from_now(OPENING);
                let mut call = Call::new(&[Divergence::Jeffreys], batch, OPENING)?;
                let mut lent = gpu.lend(&mut call, job.bytes, false).await?.expect("waited for");
                pack(batch, &chunk, job.bytes, lent.slot()?).unwrap();
                lent.run(until, move |device, mut slot| {
                    slot = device.sum_rows(slot, &job, until)?;
                    Ok((device.collect(&mut slot, until)?, slot))
                })
                .await
            });
            let verified: Vec<_> =
                records.unwrap().iter().map(|records| records.verify(|_| 64).is_ok()).collect();
            assert_eq!(verified, [true, !left_out]);
        }
    }

    /// As where memory is short, or many calls are on their way.
    #[test]
    fn every_chunk_is_computed_where_slots_are_few() {
        let gpu = with_chunks_of(4096);
        let p = Array2::from_shape_fn((1_000, 64), |(row, bin)| ((row * 7 + bin) % 31 + 1) as f32);
        let q = p.slice_axis(Axis(0), (3..4).into());
        let batch = Batch::probs(&p, q).unwrap().with_mass(crate::Mass::Normalize);
        let compute = || {
            let mut call = Call::new(&[Divergence::Kl], &batch, OPENING).unwrap();
            pollster::block_on(gpu.finish(&[Divergence::Kl], &batch, &mut call)).unwrap();
            call.outcomes()[0].values.clone()
        };
        let with_many = compute();
        assert!(with_many.iter().filter(|&&value| value > 0.0).count() > 900);
        let taken = gpu.slots.try_acquire(gpu.slots.permits() - 1).unwrap();
        assert_eq!(compute(), with_many);
        drop(taken);
    }

    #[test]
    fn to_wait_for_a_slot_is_no_sign_of_a_hang() {
        const DEADLINE: Duration = Duration::from_secs(2);
        let gpu = gpu();
        let p = Array2::from_elem((3, 64), 1.0 / 64.0_f32);
        let batch = Batch::probs(&p, &p).unwrap();
        let taken = gpu.slots.try_acquire(gpu.slots.permits()).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut call = Call::new(&[Divergence::Kl], &batch, DEADLINE).unwrap();
                pollster::block_on(gpu.finish(&[Divergence::Kl], &batch, &mut call))
            });
            thread::sleep(DEADLINE + Duration::from_millis(500));
            drop(taken);
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
    }

    /// A call may be dropped while it waits for any of its jobs, of which none has bind groups for good.
    #[test]
    fn calls_that_are_dropped_leave_nothing_in_flight() {
        let gpu = gpu();
        let side = Array2::from_elem((1, 4_096), 1.0_f32 / 4_096.0);
        let batch = Batch::probs(&side, &side).unwrap();
        record(&gpu, &batch);
        let mut context = Context::from_waker(Waker::noop());
        for polls in 1..12 {
            let mut call = Call::new(&[Divergence::Kl], &batch, OPENING).unwrap();
            let mut call = pin!(gpu.finish(&[Divergence::Kl], &batch, &mut call));
            for _ in 0..polls {
                if call.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                // For the job that it waits for now.
                pollster::block_on(gpu.run(from_now(OPENING), |_| Ok(()))).unwrap();
            }
        }
        record(&gpu, &batch);
        let in_flight = gpu.run(from_now(OPENING), |device| Ok(device.in_flight()));
        assert_eq!(pollster::block_on(in_flight).unwrap(), 0);
    }

    /// Calls may all be dropped between the two.
    #[test]
    fn what_nobody_collects_goes_once_it_is_done() {
        let gpu = gpu();
        let side = Array2::from_elem((1, 4_096), 1.0_f32 / 4_096.0);
        let batch = Batch::probs(&side, &side).unwrap();
        for _ in 0..20 {
            submit(&gpu, &batch, false).unwrap();
        }
        let in_flight = || {
            let slot = gpu.run(from_now(OPENING), |device| {
                let slot = device.slot([0, 0])?;
                device.take_back(slot);
                Ok(device.in_flight())
            });
            pollster::block_on(slot).unwrap()
        };
        let until = from_now(OPENING);
        while in_flight() > 0 {
            assert!(std::time::Instant::now() < until, "{} are in flight", in_flight());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whoever holds them may be waiting for this call: on the same thread, or to be polled.
    #[test]
    fn slots_that_nobody_gives_back_are_waited_for_in_vain() {
        let gpu = gpu();
        let side = Array2::from_elem((1, 4), 0.25_f32);
        let batch = Batch::probs(&side, &side).unwrap();
        let finish = || {
            let mut call = Call::new(&[Divergence::Kl], &batch, Duration::from_millis(50)).unwrap();
            pollster::block_on(gpu.finish(&[Divergence::Kl], &batch, &mut call))
        };
        let held: Vec<_> = std::iter::from_fn(|| gpu.slots.try_acquire(1)).collect();
        let late = finish().unwrap_err();
        assert!(matches!(&late, Error::Device { cause: Cause::TimedOut, .. }), "{late:?}");
        // Which is no fault of the device.
        drop(held);
        assert!(finish().is_ok());
    }

    #[test]
    fn what_is_never_collected_does_not_disturb_what_is() {
        let gpu = gpu();
        let row = |bins| Array2::from_elem((1, bins), 1.0 / bins as f32);
        let (long, short) = (row(1 << 20), row(16));
        let (long, short) =
            (Batch::probs(&long, &long).unwrap(), Batch::probs(&short, &short).unwrap());
        let want = record(&gpu, &short);
        for _ in 0..20 {
            submit(&gpu, &long, false).unwrap();
            let got = submit(&gpu, &short, true).unwrap();
            assert_eq!(got[..got.len() - 1], want[..want.len() - 1]); // all but the ticket
        }
    }

    #[test]
    fn the_nodes_themselves_are_right() {
        let gpu = gpu();
        for bins in LENGTHS {
            let [p, q] = sides(bins).map(|side| Array2::from_shape_vec((1, bins), side).unwrap());
            for p_kind in Kind::ALL {
                for q_kind in Kind::ALL.iter().skip(usize::from(*p_kind == Kind::Probs)) {
                    // Probabilities as they are; logarithms of them, and logits that are shifted.
                    let side = |kind: &Kind, side: &Array2<f32>| match kind {
                        Kind::Probs => side.clone(),
                        Kind::LogProbs => side.mapv(f32::ln),
                        Kind::Logits => side.mapv(|x| 1.3 * x.ln() + 100.0),
                    };
                    let (p, q) = (side(p_kind, &p), side(q_kind, &q));
                    let mut batch = Batch::of(*p_kind, &p, *q_kind, &q).unwrap();
                    if [p_kind, q_kind].contains(&&Kind::Logits) {
                        batch = batch.with_temperature(1.3).unwrap();
                    }
                    let variant = Variant::of(&batch).unwrap();
                    let (got, left) = record::node(&record(&gpu, &batch), variant);
                    let want = chain::node(&batch, 0);
                    let what = format!("{p_kind}, {q_kind}, {bins} bins: {got:?}, not {want:?}");
                    assert!(!left && !got.infinite && !got.invalid, "{what}");
                    let near = |got: f64, want: f64, off: f64| (got - want).abs() <= off;
                    let off = 2e-6 * want.divergence() + 1e-13;
                    assert!(near(got.divergence(), want.divergence(), off), "{what}");
                    assert!(near(got.ln_ratio(), want.ln_ratio(), 2e-7), "{what}");
                    for side in [Side::P, Side::Q] {
                        assert!(near(got.ln_mass(side), want.ln_mass(side), 1e-6), "{what}");
                    }
                }
            }
        }
    }

    /// A row of one bin has the logarithm of p as that of its mass, and of p/q as that of the ratio.
    fn one_bin<T: Element>(gpu: &Gpu, p: f64, q: f64) -> (Node, Node) {
        let [p, q] = [p, q].map(|x| Array2::from_elem((1, 1), T::from_f64(x)));
        let batch = Batch::of(Kind::LogProbs, &p, Kind::Probs, &q).unwrap();
        let (node, left) = record::node(&record(gpu, &batch), Variant::of(&batch).unwrap());
        assert!(!left && !node.infinite && !node.invalid, "{p} {q}");
        (node, chain::node(&batch, 0))
    }

    /// The golden rows would forgive constants that are a little off.
    #[test]
    fn logarithms_and_exponentials_have_their_digits() {
        fn check<T: Element>(gpu: &Gpu, of_ln: f64, of_exp: f64) {
            for at in 0..400 {
                let spread = f64::from(at) / 400.0;
                // All octaves of f32, and mantissas next to 1 from both sides.
                let x = match at % 4 {
                    0 => (1.0 + 0.99 * spread) * 2_f64.powi(at / 2 - 100),
                    1 => 1.0 - spread / 64.0,
                    2 => 1.0 + spread / 64.0,
                    _ => 0.5 + spread,
                };
                let (got, want) = one_bin::<T>(gpu, 90.0 * (spread - 1.0), x);
                let off = (got.ln_ratio() - want.ln_ratio()).abs();
                let allowed = of_ln + 2.0 * f64::EPSILON * want.ln_ratio().abs();
                assert!(off <= allowed, "{}, ln {x:e}: off by {off:e}", T::NAME);
                let off = (got.ln_mass(Side::P) - want.ln_mass(Side::P)).abs();
                let allowed = of_exp + f64::EPSILON * want.ln_mass(Side::P).abs();
                assert!(off <= allowed, "{}, exp of bin {at}: off by {off:e}", T::NAME);
            }
        }
        let gpu = gpu();
        check::<f32>(&gpu, 3.5e-12, 1e-7);
        if gpu.adapter().has_f64() {
            check::<f64>(&gpu, 3e-16, 6e-16);
        }
    }
}
