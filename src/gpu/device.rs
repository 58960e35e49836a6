//! An open device: its kernels, its buffers, and the two jobs it can do. It lives on the thread of
//! its [`Worker`](super::worker::Worker), which catches what wgpu throws.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kernel::Kernel;
use super::ln_table::{self, ln_table};
use super::record::Records;
use super::variant::Variant;
use super::{merge, rows};
use crate::plan::{Dispatch, Limits, Merge};

/// How long a submission may take before the device counts as hung. Chunks take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a device says of its faults: wgpu reports them to a callback, not to the call at fault.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Vec<String>>>);

impl Faults {
    fn note(&self, fault: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// An error if anything was noted so far.
    fn check(&self) -> Result<(), String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match faults.first() {
            Some(first) => Err(first.clone()),
            None => Ok(()),
        }
    }
}

/// A chunk to sum: the bits of its bins, each row padded to whole vector loads.
pub(crate) struct RowsJob {
    pub variant: Variant,
    /// In words of 64 bits, which every type of bin is aligned in.
    pub p: Vec<u64>,
    pub q: Vec<u64>,
    pub params: rows::Params,
    pub dispatch: Dispatch,
    /// How to merge the units' records; empty to leave them as they are.
    pub merges: Vec<Merge>,
}

/// The kernels of a variant.
struct Kernels {
    rows: Kernel,
    merge: Kernel,
}

/// An open device.
pub(crate) struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Faults,
    workgroup_size: u32,
    /// Compiled when the first job wants them.
    kernels: HashMap<Variant, Kernels>,
    p: Buffer,
    q: Buffer,
    ln_table: Buffer,
    /// Merging goes to and fro between these two.
    records: [Buffer; 2],
    readback: Buffer,
    ticket: u32,
}

impl Device {
    /// Opens an adapter under limits that wgpu then enforces.
    pub(crate) async fn open(
        adapter: &wgpu::Adapter,
        required_limits: wgpu::Limits,
        limits: Limits,
    ) -> Result<Device, String> {
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("kullback"),
                required_features: adapter.features() & wgpu::Features::SHADER_F64,
                required_limits,
                experimental_features: wgpu::ExperimentalFeatures::disabled(),
                memory_hints: wgpu::MemoryHints::Performance,
                trace: wgpu::Trace::Off,
            })
            .await
            .map_err(|error| error.to_string())?;
        let faults = Faults::default();
        let (errors, losses) = (faults.clone(), faults.clone());
        device.on_uncaptured_error(Arc::new(move |error| errors.note(format!("{error}"))));
        device.set_device_lost_callback(move |reason, message| {
            losses.note(format!("device lost ({reason:?}): {message}"));
        });
        let input = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let records = || Buffer::new("records", input | wgpu::BufferUsages::COPY_SRC);
        let opened = Device {
            workgroup_size: limits.workgroup_size,
            kernels: HashMap::new(),
            p: Buffer::new("P", input),
            q: Buffer::new("Q", input),
            ln_table: Buffer::new("table of logarithms", input),
            records: [records(), records()],
            readback: Buffer::new("readback", read),
            device,
            queue,
            faults,
            ticket: 0,
        };
        opened.faults.check().map(|()| opened)
    }

    /// Makes records of the units of a chunk, and merges them if the job says how.
    pub(crate) fn sum_rows(&mut self, job: &RowsJob) -> Result<Records, String> {
        self.prepare(job.variant);
        let ticket = self.next_ticket();
        let (p, q) = (bytemuck::cast_slice(&job.p), bytemuck::cast_slice(&job.q));
        self.p.reserve(&self.device, p.len());
        self.q.reserve(&self.device, q.len());
        self.queue.write_buffer(self.p.get()?, 0, p);
        self.queue.write_buffer(self.q.get()?, 0, q);
        let sums = self.reserve_records(job.variant, job.dispatch.units);

        let mut encoder = self.encoder();
        encoder.clear_buffer(self.records[0].get()?, 0, Some(sums as u64));
        let params = self.uniform(bytemuck::bytes_of(&job.params.with_ticket(ticket)));
        let buffers = |name: &str| match name {
            "p" | "p_words" => self.p.bound(p.len()),
            "q" | "q_words" => self.q.bound(q.len()),
            "sums" => self.records[0].bound(sums),
            _ => self.ln_table.bound(ln_table::BYTES),
        };
        let kernel = &self.kernels(job.variant)?.rows;
        kernel.record(&self.device, &mut encoder, &params, buffers, job.dispatch)?;
        self.finish(encoder, job.variant, job.dispatch.units, &job.merges)
    }

    /// Merges the records of a row that was summed in several chunks.
    pub(crate) fn merge_records(
        &mut self,
        variant: Variant,
        mut parts: Records,
        merges: &[Merge],
    ) -> Result<Records, String> {
        parts.stamp(self.next_ticket());
        self.merge_stamped(variant, &parts, merges)
    }

    fn merge_stamped(
        &mut self,
        variant: Variant,
        parts: &Records,
        merges: &[Merge],
    ) -> Result<Records, String> {
        self.prepare(variant);
        let units = parts.each().count() as u32;
        self.reserve_records(variant, units);
        let words = bytemuck::cast_slice(&parts.words);
        self.queue.write_buffer(self.records[0].get()?, 0, words);
        self.finish(self.encoder(), variant, units, merges)
    }

    /// Records the merges of `units` records in the first buffer, submits, and reads back.
    fn finish(
        &mut self,
        mut encoder: wgpu::CommandEncoder,
        variant: Variant,
        units: u32,
        merges: &[Merge],
    ) -> Result<Records, String> {
        let record_bytes = variant.layout().record_bytes;
        let (mut units, mut at) = (units, 0);
        for merge in merges {
            let before = units as usize * record_bytes;
            let after = merge.dispatch.units as usize * record_bytes;
            let (from, to) = (&self.records[at], &self.records[1 - at]);
            encoder.clear_buffer(to.get()?, 0, Some(after as u64));
            let params = self.uniform(bytemuck::bytes_of(&merge::Params::new(merge, self.ticket)));
            let buffers = |name: &str| match name {
                "parts" => from.bound(before),
                "merged" => to.bound(after),
                _ => self.ln_table.bound(ln_table::BYTES),
            };
            let kernel = &self.kernels(variant)?.merge;
            kernel.record(&self.device, &mut encoder, &params, buffers, merge.dispatch)?;
            (units, at) = (merge.dispatch.units, 1 - at);
        }
        let bytes = (units as usize * record_bytes) as u64;
        let readback = self.readback.get()?;
        encoder.copy_buffer_to_buffer(self.records[at].get()?, 0, readback, 0, Some(bytes));
        let submission = self.queue.submit([encoder.finish()]);
        let words = self.read(submission, bytes)?;
        Ok(Records { words, record_bytes, ticket: self.ticket })
    }

    /// Compiles the kernels of a variant, and writes what they read, unless that is done.
    fn prepare(&mut self, variant: Variant) {
        let (device, size) = (&self.device, self.workgroup_size);
        self.kernels.entry(variant).or_insert_with(|| Kernels {
            rows: Kernel::new(device, rows::spec(variant), size),
            merge: Kernel::new(device, merge::spec(variant), size),
        });
        if !variant.arithmetic_buffers().is_empty() && self.ln_table.get().is_err() {
            self.ln_table.reserve(&self.device, ln_table::BYTES);
            if let Ok(table) = self.ln_table.get() {
                self.queue.write_buffer(table, 0, bytemuck::cast_slice(&ln_table()));
            }
        }
    }

    fn kernels(&self, variant: Variant) -> Result<&Kernels, String> {
        self.kernels.get(&variant).ok_or_else(|| format!("no kernels were made for {variant:?}"))
    }

    /// Waits for a submission and copies out what it left in the readback buffer.
    fn read(&self, submission: wgpu::SubmissionIndex, bytes: u64) -> Result<Vec<u32>, String> {
        // With an error noted the wait could only fail, and with it, perhaps, the process.
        self.faults.check()?;
        let mapped = Arc::new(AtomicBool::new(false));
        let (done, faults) = (mapped.clone(), self.faults.clone());
        let readback = self.readback.get()?;
        readback.map_async(wgpu::MapMode::Read, ..bytes, move |result| match result {
            Ok(()) => done.store(true, Ordering::Release),
            Err(error) => faults.note(format!("reading back failed: {error}")),
        });
        let started = Instant::now();
        while !mapped.load(Ordering::Acquire) {
            let waited = self.device.poll(wgpu::PollType::Wait {
                submission_index: Some(submission.clone()),
                timeout: Some(DEADLINE),
            });
            self.faults.check()?;
            waited.map_err(|error| error.to_string())?;
            if started.elapsed() > DEADLINE {
                return Err(format!("no answer within {} s", DEADLINE.as_secs()));
            }
        }
        let view = readback.get_mapped_range(..bytes).map_err(|error| error.to_string())?;
        let words = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        readback.unmap();
        self.faults.check().map(|()| words)
    }

    /// Makes room for so many records, and for reading them back; returns their bytes.
    fn reserve_records(&mut self, variant: Variant, units: u32) -> usize {
        let bytes = units as usize * variant.layout().record_bytes;
        let [one, other] = &mut self.records;
        for buffer in [one, other, &mut self.readback] {
            buffer.reserve(&self.device, bytes);
        }
        bytes
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    fn uniform(&self, params: &[u8]) -> wgpu::Buffer {
        let uniform = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: params.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&uniform, 0, params);
        uniform
    }

    /// A mark for the next submission; 0 is what cleared memory shows.
    fn next_ticket(&mut self) -> u32 {
        self.ticket = self.ticket.checked_add(1).unwrap_or(1);
        self.ticket
    }
}

/// A buffer that is kept from job to job and grows when one needs more.
struct Buffer {
    label: &'static str,
    usage: wgpu::BufferUsages,
    buffer: Option<wgpu::Buffer>,
}

impl Buffer {
    fn new(label: &'static str, usage: wgpu::BufferUsages) -> Buffer {
        Buffer { label, usage, buffer: None }
    }

    /// Makes it hold so many bytes. What it held is lost if it has to grow.
    fn reserve(&mut self, device: &wgpu::Device, bytes: usize) {
        let bytes = bytes as u64;
        if self.buffer.as_ref().is_some_and(|buffer| buffer.size() >= bytes) {
            return;
        }
        let size = bytes.next_power_of_two().min(device.limits().max_buffer_size).max(bytes);
        // The old one first: both may not fit.
        self.buffer = None;
        self.buffer = Some(device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(self.label),
            size,
            usage: self.usage,
            mapped_at_creation: false,
        }));
    }

    fn get(&self) -> Result<&wgpu::Buffer, String> {
        self.buffer.as_ref().ok_or_else(|| format!("no memory was reserved for {}", self.label))
    }

    /// Its first bytes, to be bound.
    fn bound(&self, bytes: usize) -> Result<(&wgpu::Buffer, u64), String> {
        self.get().map(|buffer| (buffer, bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::adapters;
    use crate::plan::{Plan, Shape};

    fn device() -> (Device, Limits) {
        let adapter = adapters().into_iter().next().expect("the tests need an adapter");
        let limits = adapter.limits(None);
        let required = adapter.required_limits(&limits);
        (pollster::block_on(Device::open(adapter.handle(), required, limits)).unwrap(), limits)
    }

    #[test]
    fn a_record_of_another_submission_spoils_its_row() {
        let (mut device, limits) = device();
        let bins = 2_000_000;
        for variant in Variant::all() {
            let layout = variant.layout();
            let plan = Plan::new(Shape { rows: 1, bins, layout }, limits).unwrap();
            // Of which each adds 1 to the first field, and 3 bins.
            let mut part = vec![0; layout.record_bytes / 4];
            let first = if variant.is_f64() { 1 } else { 0 };
            let bits = |x: f64| match variant.is_f64() {
                true => (x.to_bits() >> 32) as u32,
                false => (x as f32).to_bits(),
            };
            part[first] = bits(1.0);
            let consumed = part.len() - 3;
            part[consumed] = 3;
            let words = part.repeat(plan.segments);
            let mut parts = Records { words, record_bytes: layout.record_bytes, ticket: 0 };
            let merges = plan.merges(1);
            let merged = device.merge_records(variant, parts.clone(), &merges).unwrap();
            assert_eq!(merged.each().count(), 1);
            assert_eq!(merged.words[first], bits(plan.segments as f64));
            assert!(merged.verify(|_| 3 * plan.segments).is_ok());
            for stale in [0, plan.segments / 2, plan.segments - 1] {
                let ticket = device.next_ticket();
                parts.stamp(ticket);
                parts.words[(stale + 1) * part.len() - 1] = ticket - 1;
                let merged = device.merge_stamped(variant, &parts, &merges).unwrap();
                assert!(merged.verify(|_| 3 * plan.segments).is_err(), "part {stale}");
            }
        }
    }

    #[test]
    fn an_error_that_wgpu_reports_elsewhere_fails_the_job() {
        let (mut device, _) = device();
        device.faults.note("validation failed".into());
        let variant = Variant::all().next().unwrap();
        let record_bytes = variant.layout().record_bytes;
        let parts = Records { words: vec![0; record_bytes / 4], record_bytes, ticket: 0 };
        let merged = device.merge_records(variant, parts, &[]);
        assert_eq!(merged.err(), Some("validation failed".into()));
    }
}
