//! An open device: its kernels, its buffers, and the two jobs it can do. It lives on the thread of
//! its [`Worker`](super::worker::Worker), which catches what wgpu throws.

use std::collections::HashMap;
use std::iter;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::kernel::{AT_NUMBERS, Kernel, KernelKey, Spec};
use super::ln_table::{self, ln_table};
use super::record::Records;
use super::slot::{BindGroups, Buffer, Mapping, Part, Running, Slot};
use super::variant::{Output, Variant};
use super::{clock, family, gradient, matrix, merge, rows};
use crate::cpu::tile::Sum;
use crate::error::Cause;
use crate::plan::{Dispatch, Limits, Merge};

/// Slots that are kept for the next call: as many as one call has in flight.
const MOST_IDLE_SLOTS: usize = 2;

/// Any submission has so much time, be it asked for at the end of that of its call.
const LEAST_TIME: Duration = Duration::from_millis(200);

/// What a device says of its faults: wgpu reports them to a callback, not to the call at fault.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    first: Option<Fault>,
    loss: Option<Fault>,
}

impl Faults {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, fault: Fault) {
        self.noted().first.get_or_insert(fault);
    }

    fn note_loss(&self, fault: Fault) {
        self.noted().loss.get_or_insert(fault);
    }

    /// An error if anything was noted so far.
    fn check(&self) -> Result<(), Fault> {
        let noted = self.noted();
        match noted.loss.as_ref().or(noted.first.as_ref()) {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }
}

/// How to sum a chunk whose bins are in a slot, each row padded to whole vector loads.
pub(crate) struct RowsJob {
    pub variant: Variant,
    /// Bytes of P and Q.
    pub bytes: [usize; 2],
    pub params: rows::Params,
    pub dispatch: Dispatch,
    /// How to merge the units' records; empty to leave them as they are.
    pub merges: Vec<Merge>,
    /// The passes that are made over the same bins with what was merged.
    pub passes: Vec<family::Params>,
    /// Whether the bins are to stay where they are, for a job on gradients.
    pub keeps_bins: bool,
}

/// How to write the gradients of a chunk whose bins a job left in a slot.
pub(crate) struct GradientJob {
    pub rows: RowsJob,
    /// All but the last only sum.
    pub passes: Vec<gradient::Params>,
    /// Bytes of those in P and in Q; 0 if they are not wanted.
    pub bytes: [usize; 2],
    pub lines: Vec<gradient::Line>,
}

/// How to sum pairs of rows, of which what is kept is in a slot.
pub(crate) struct PairsJob {
    /// What is summed, each in a dispatch of its own.
    pub sums: Vec<Sum>,
    /// Bytes of P and Q.
    pub bytes: [usize; 2],
    pub params: matrix::Params,
    pub dispatch: Dispatch,
}

impl RowsJob {
    /// Records that each row is left with.
    fn rows(&self) -> usize {
        self.merges.last().map_or(&self.dispatch, |merge| &merge.dispatch).units as usize
    }

    /// Bytes of a record of a later pass.
    fn terms_bytes(&self) -> usize {
        self.variant.terms().layout().record_bytes
    }

    /// Bytes of the records of a pass, and of those that are read back.
    fn record_bytes(&self) -> [usize; 2] {
        let units = self.dispatch.units as usize;
        let (first, later) = (self.variant.layout().record_bytes, self.terms_bytes());
        match self.passes.iter().filter(|pass| !pass.is_balance()).count() {
            0 => [units * first, self.rows() * first],
            read => [units * first.max(later), self.rows() * (first + read * later)],
        }
    }

    /// That of the later passes.
    fn later_dispatch(&self) -> Dispatch {
        self.dispatch.unspecialised()
    }
}

/// Work on its way to be submitted.
struct Work {
    encoder: wgpu::CommandEncoder,
    bind_groups: BindGroups,
    /// What will be read back.
    parts: Vec<Part>,
}

impl Work {
    /// Records that a part is to be read back, behind those before it.
    fn read_back(&mut self, from: &Buffer, to: &Buffer, part: Part) -> Result<(), Fault> {
        let before = self.parts.iter().map(|part| part.bytes).sum::<usize>() as u64;
        let bytes = Some(part.bytes as u64);
        if part.bytes > 0 {
            self.encoder.copy_buffer_to_buffer(from.get()?, 0, to.get()?, before, bytes);
        }
        self.parts.push(part);
        Ok(())
    }
}

/// A submission that may not be done, for all that is known.
struct InFlight {
    done: Arc<AtomicBool>,
    bind_groups: BindGroups,
}

/// Records, in one of a slot's two buffers for them.
#[derive(Clone, Copy)]
struct Made {
    at: usize,
    bytes: usize,
}

/// An open device.
pub(crate) struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Faults,
    workgroup_size: u32,
    /// Whether kernels read the memory that the host writes.
    unified: bool,
    /// Compiled when the first job wants them.
    kernels: HashMap<KernelKey, Kernel>,
    ln_table: Buffer,
    /// Those that nobody has.
    slots: Vec<Slot>,
    /// What was submitted, in that order: of calls that ended before they collected it too.
    in_flight: Vec<InFlight>,
    ticket: u32,
}

impl Device {
    /// Opens an adapter with its features, under limits that wgpu then enforces. With `unified` its
    /// kernels read the memory that the host writes, if the adapter can do that at all.
    pub(crate) async fn open(
        adapter: &wgpu::Adapter,
        features: wgpu::Features,
        required_limits: wgpu::Limits,
        limits: Limits,
        unified: bool,
    ) -> Result<Device, Fault> {
        let mappable = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        let features = if unified { features } else { features.difference(mappable) };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("kullback"),
                required_features: features,
                required_limits,
                experimental_features: wgpu::ExperimentalFeatures::disabled(),
                // What a device reserves ahead is lost with it; slots are kept as they are.
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                trace: wgpu::Trace::Off,
            })
            .await
            .map_err(|error| error.to_string())?;
        let faults = Faults::default();
        let (errors, losses) = (faults.clone(), faults.clone());
        device.on_uncaptured_error(Arc::new(move |error| errors.note(error.into())));
        device.set_device_lost_callback(move |reason, message| {
            let message = format!("the driver lost it ({reason:?}) {message}");
            losses.note_loss(Fault::new(Cause::Lost, message.trim_end()));
        });
        let copied = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let opened = Device {
            workgroup_size: limits.workgroup_size,
            unified: features.contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
            kernels: HashMap::new(),
            ln_table: Buffer::new("table of logarithms", wgpu::BufferUsages::STORAGE | copied),
            slots: Vec::new(),
            in_flight: Vec::new(),
            device,
            queue,
            faults,
            ticket: 0,
        };
        opened.faults.check().map(|()| opened)
    }

    /// A slot whose memory is ready for a job's bins.
    pub(crate) fn slot(&mut self, bytes: [usize; 2]) -> Result<Slot, Fault> {
        self.faults.check()?;
        // Of submissions that nobody collects, this is where it shows that they are done.
        self.device.poll(wgpu::PollType::Poll).map_err(|error| error.to_string())?;
        self.release_done()?;
        let mut slot = self.slots.pop().unwrap_or_else(|| Slot::new(self.unified));
        for (input, bytes) in slot.inputs.iter_mut().zip(bytes) {
            input.reserve(&self.device, bytes);
        }
        self.faults.check().map(|()| slot)
    }

    /// Releases what no submission needs any more, which may be as much as a chunk takes.
    fn release_done(&mut self) -> Result<(), Fault> {
        let is_done = |one: &InFlight| one.done.load(Ordering::Acquire);
        let done = self.in_flight.iter().take_while(|one| is_done(one)).count();
        self.in_flight.drain(..done).try_for_each(|one| one.bind_groups.release())
    }

    /// Takes a slot back. One that was submitted and never collected is let go.
    pub(crate) fn take_back(&mut self, slot: Slot) {
        if slot.running.is_none() && self.slots.len() < MOST_IDLE_SLOTS && !slot.keeps_bins {
            self.slots.push(slot);
        }
    }

    /// Starts to make records of the units of a chunk, and to merge them if the job says how; then what
    /// other passes it says are to be made.
    pub(crate) fn sum_rows(
        &mut self,
        mut slot: Slot,
        job: &RowsJob,
        until: Instant,
    ) -> Result<Slot, Fault> {
        self.prepare(job.variant, Some(job), &job.merges, until)?;
        let ticket = self.next_ticket();
        let [bytes, read] = job.record_bytes();
        slot.reserve_records(&self.device, bytes, read);
        let mut work = self.work();
        for (input, bytes) in slot.inputs.iter().zip(job.bytes) {
            input.hand_over(&mut work.encoder, bytes)?;
        }
        let params = job.params.with_ticket(ticket);
        let key = ("rows", job.variant, job.dispatch.form, AT_NUMBERS);
        let params = bytemuck::bytes_of(&params);
        let sums = self.summed(&mut work, &slot, job, job.dispatch, key, params)?;
        self.read_back(&mut work, &slot, sums, job.variant)?;
        if !job.passes.is_empty() {
            slot.heads.reserve(&self.device, sums.bytes);
            slot.balances.reserve(&self.device, job.rows() * job.terms_bytes());
            keep(&mut work, &slot, sums, &slot.heads)?;
        }
        for pass in &job.passes {
            let params = pass.with_ticket(ticket);
            let (params, dispatch) = (bytemuck::bytes_of(&params), job.later_dispatch());
            let key = ("family", job.variant, dispatch.form, pass.look());
            let terms = self.summed(&mut work, &slot, job, dispatch, key, params)?;
            match pass.is_balance() {
                true => keep(&mut work, &slot, terms, &slot.balances)?,
                false => self.read_back(&mut work, &slot, terms, job.variant.terms())?,
            }
        }
        self.submit(work, &mut slot)?;
        slot.keeps_bins = job.keeps_bins;
        if !job.keeps_bins {
            give_bins_back(&mut slot)?;
        }
        Ok(slot)
    }

    /// Starts to make records of pairs of rows.
    pub(crate) fn sum_pairs(&mut self, mut slot: Slot, job: &PairsJob) -> Result<Slot, Fault> {
        let ticket = self.next_ticket();
        let PairsJob { dispatch, .. } = *job;
        let records = dispatch.units as usize;
        let bytes = records * Variant::for_sum(job.sums[0]).layout().record_bytes;
        slot.reserve_records(&self.device, bytes, job.sums.len() * bytes);
        let mut work = self.work();
        for (input, bytes) in slot.inputs.iter().zip(job.bytes) {
            input.hand_over(&mut work.encoder, bytes)?;
        }
        let params = job.params.with_ticket(ticket);
        for &sum in &job.sums {
            let key = ("matrix", Variant::for_sum(sum), dispatch.form, AT_NUMBERS);
            let (device, size) = (&self.device, self.workgroup_size);
            let kernel = self.kernels.entry(key);
            kernel.or_insert_with(|| Kernel::new(device, matrix::spec(sum), size, dispatch.form));
            work.encoder.clear_buffer(slot.records[0].get()?, 0, Some(bytes as u64));
            let buffers = |name: &str| match name {
                "p" => slot.inputs[0].bound(job.bytes[0]),
                "q" => slot.inputs[1].bound(job.bytes[1]),
                _ => slot.records[0].bound(bytes),
            };
            self.record(&mut work, key, bytemuck::bytes_of(&params), buffers, dispatch)?;
            self.read_back(&mut work, &slot, Made { at: 0, bytes }, Variant::for_sum(sum))?;
        }
        self.submit(work, &mut slot)?;
        give_bins_back(&mut slot)?;
        Ok(slot)
    }

    /// Starts to write the gradients of a chunk whose bins are still with the device.
    pub(crate) fn write_gradients(
        &mut self,
        mut slot: Slot,
        mut job: GradientJob,
        until: Instant,
    ) -> Result<Slot, Fault> {
        self.prepare_gradients(&job, until)?;
        let ticket = self.next_ticket();
        let rows = &job.rows;
        let (units, records) = (rows.dispatch.units as usize, rows.rows() * rows.terms_bytes());
        let read = records + job.bytes.iter().sum::<usize>();
        slot.reserve_records(&self.device, units * rows.terms_bytes(), read);
        slot.balances.reserve(&self.device, records);
        for (gradient, bytes) in slot.gradients.iter_mut().zip(job.bytes) {
            gradient.reserve(&self.device, bytes);
        }
        job.lines.iter_mut().for_each(|line| line.ticket = ticket);
        let lines = bytemuck::cast_slice(&job.lines);
        slot.heads.reserve(&self.device, lines.len());
        self.queue.write_buffer(slot.heads.get()?, 0, lines);
        let mut work = self.work();
        for pass in &job.passes {
            let params = pass.with_ticket(ticket);
            let (params, dispatch) = (bytemuck::bytes_of(&params), rows.later_dispatch());
            let key = ("gradient", rows.variant, dispatch.form, pass.look());
            let made = self.summed(&mut work, &slot, rows, dispatch, key, params)?;
            match pass.only_sums() {
                true => keep(&mut work, &slot, made, &slot.balances)?,
                false => self.read_back(&mut work, &slot, made, rows.variant.terms())?,
            }
        }
        for (gradient, bytes) in slot.gradients.iter().zip(job.bytes) {
            work.read_back(gradient, &slot.readback, Part { record_bytes: 4, bytes })?;
        }
        self.submit(work, &mut slot)?;
        slot.keeps_bins = false;
        give_bins_back(&mut slot)?;
        Ok(slot)
    }

    /// Compiles the kernels that gradients take, unless that is done.
    fn prepare_gradients(&mut self, job: &GradientJob, until: Instant) -> Result<(), Fault> {
        let (rows, size) = (&job.rows, self.workgroup_size);
        let form = rows.later_dispatch().form;
        for look in job.passes.iter().map(gradient::Params::look) {
            let kernel = self.kernels.entry(("gradient", rows.variant, form, look));
            let spec = || gradient::spec(rows.variant, look);
            kernel.or_insert_with(|| Kernel::new(&self.device, spec(), size, form));
        }
        self.prepare(rows.variant.terms(), None, &rows.merges, until)?;
        match self.ln_table.get() {
            Ok(_) => Ok(()),
            Err(_) => self.upload_ln_table(until),
        }
    }

    /// Records a pass over the bins of a job, and the merges of what it makes.
    fn summed(
        &self,
        work: &mut Work,
        slot: &Slot,
        job: &RowsJob,
        dispatch: Dispatch,
        key: KernelKey,
        params: &[u8],
    ) -> Result<Made, Fault> {
        let variant = if key.0 == "rows" { job.variant } else { job.variant.terms() };
        let made = dispatch.units as usize * variant.layout().record_bytes;
        work.encoder.clear_buffer(slot.records[0].get()?, 0, Some(made as u64));
        let buffers = |name: &str| match name {
            "p" | "p_words" => slot.inputs[0].bound(job.bytes[0]),
            "q" | "q_words" => slot.inputs[1].bound(job.bytes[1]),
            "made" => slot.records[0].bound(made),
            "heads" => slot.heads.bound(job.rows() * job.variant.layout().record_bytes),
            "lines" => slot.heads.bound(job.rows() * size_of::<gradient::Line>()),
            "balances" | "means" => slot.balances.bound(job.rows() * job.terms_bytes()),
            "p_gradient" => slot.gradients[0].whole(),
            "q_gradient" => slot.gradients[1].whole(),
            _ => self.ln_table.bound(ln_table::BYTES),
        };
        self.record(work, key, params, buffers, dispatch)?;
        self.merged(work, slot, variant, dispatch.units, &job.merges)
    }

    /// Records one dispatch.
    fn record<'a>(
        &self,
        work: &mut Work,
        key: KernelKey,
        params: &[u8],
        buffers: impl Fn(&str) -> Result<wgpu::BufferBinding<'a>, String>,
        dispatch: Dispatch,
    ) -> Result<(), String> {
        let kernel = self.kernels.get(&key);
        let kernel = kernel.ok_or_else(|| format!("no kernel was made for {key:?}"))?;
        let params = self.uniform(params);
        let bound = kernel.record(&self.device, &mut work.encoder, &params, buffers, dispatch)?;
        work.bind_groups.keep(bound);
        Ok(())
    }

    /// Merges the records of a row that was summed in several chunks.
    pub(crate) fn merge_records(
        &mut self,
        variant: Variant,
        mut parts: Records,
        merges: &[Merge],
        until: Instant,
    ) -> Result<Records, Fault> {
        parts.stamp(self.next_ticket());
        self.merge_stamped(variant, &parts, merges, until)
    }

    fn merge_stamped(
        &mut self,
        variant: Variant,
        parts: &Records,
        merges: &[Merge],
        until: Instant,
    ) -> Result<Records, Fault> {
        self.prepare(variant, None, merges, until)?;
        let units = parts.each().count() as u32;
        let mut slot = self.slot([0, 0])?;
        let words = bytemuck::cast_slice(&parts.words);
        slot.reserve_records(&self.device, words.len(), words.len());
        self.queue.write_buffer(slot.records[0].get()?, 0, words);
        let mut work = self.work();
        let merged = self.merged(&mut work, &slot, variant, units, merges)?;
        self.read_back(&mut work, &slot, merged, variant)?;
        self.submit(work, &mut slot)?;
        let records = self.collect(&mut slot, until)?;
        self.take_back(slot);
        records.into_iter().next().ok_or_else(|| "nothing was read back".into())
    }

    /// Records the merges of `units` records in the slot's first buffer, after the work before it.
    fn merged(
        &self,
        work: &mut Work,
        slot: &Slot,
        variant: Variant,
        units: u32,
        merges: &[Merge],
    ) -> Result<Made, Fault> {
        let bytes = |units: u32| units as usize * variant.layout().record_bytes;
        let mut made = Made { at: 0, bytes: bytes(units) };
        for merge in merges {
            let next = Made { at: 1 - made.at, bytes: bytes(merge.dispatch.units) };
            let (from, to) = (&slot.records[made.at], &slot.records[next.at]);
            work.encoder.clear_buffer(to.get()?, 0, Some(next.bytes as u64));
            let params = merge::Params::new(merge, self.ticket);
            let buffers = |name: &str| match name {
                "parts" => from.bound(made.bytes),
                "made" => to.bound(next.bytes),
                _ => self.ln_table.bound(ln_table::BYTES),
            };
            let key = ("merge", variant, merge.dispatch.form, AT_NUMBERS);
            self.record(work, key, bytemuck::bytes_of(&params), buffers, merge.dispatch)?;
            made = next;
        }
        Ok(made)
    }

    /// Records that some records are to be read back, behind those before them.
    fn read_back(
        &self,
        work: &mut Work,
        slot: &Slot,
        made: Made,
        variant: Variant,
    ) -> Result<(), Fault> {
        let part = Part { record_bytes: variant.layout().record_bytes, bytes: made.bytes };
        work.read_back(&slot.records[made.at], &slot.readback, part)
    }

    fn submit(&mut self, work: Work, slot: &mut Slot) -> Result<(), Fault> {
        let Work { encoder, bind_groups, parts } = work;
        let done = Arc::new(AtomicBool::new(false));
        self.in_flight.push(InFlight { done: done.clone(), bind_groups });
        let submission = self.queue.submit([encoder.finish()]);
        self.queue.on_submitted_work_done(move || done.store(true, Ordering::Release));
        let mut mapping = Mapping::default();
        let bytes = parts.iter().map(|part| part.bytes).sum::<usize>();
        mapping.ask(slot.readback.get()?, wgpu::MapMode::Read, bytes as u64);
        let ticket = self.ticket;
        slot.running = Some(Running { submission, ticket, parts, mapping });
        self.faults.check()
    }

    /// Waits until then for what was submitted, and copies out the records that each pass left.
    pub(crate) fn collect(
        &mut self,
        slot: &mut Slot,
        until: Instant,
    ) -> Result<Vec<Records>, Fault> {
        let running = slot.running.take().ok_or("nothing was submitted")?;
        self.wait(&running.submission, &running.mapping, until)?;
        let Running { parts, ticket, .. } = running;
        let bytes = parts.iter().map(|part| part.bytes).sum::<usize>();
        let words = read(slot.readback.get()?, bytes as u64)?;
        let mut rest = &words[..];
        let records = parts.into_iter().map(|Part { record_bytes, bytes }| {
            let words;
            (words, rest) = rest.split_at(bytes / 4);
            Records { words: words.to_vec(), record_bytes, ticket }
        });
        let records = records.collect();
        self.release_done()?;
        self.faults.check().map(|()| records)
    }

    /// Waits until then for a submission, and for the buffers that were to be mapped.
    fn wait(
        &self,
        submission: &wgpu::SubmissionIndex,
        mapping: &Mapping,
        until: Instant,
    ) -> Result<(), Fault> {
        let asked = Instant::now();
        // A caller that is late itself asks when the device had no time at all.
        let time = until.saturating_duration_since(asked).max(LEAST_TIME);
        if self.is_done_by(asked + time, submission, mapping)? {
            return Ok(());
        }
        let missed = clock::is_missed(asked + time);
        match missed && self.is_done_by(Instant::now() + time, submission, mapping)? {
            true => Ok(()),
            false => Err(Fault::late()),
        }
    }

    /// Whether a submission is done before then. What takes until the end is late even if it is done
    /// then: a driver that never says so would take that long each time.
    fn is_done_by(
        &self,
        until: Instant,
        submission: &wgpu::SubmissionIndex,
        mapping: &Mapping,
    ) -> Result<bool, Fault> {
        // With an error noted the wait could only fail, and with it, perhaps, the process.
        self.faults.check()?;
        while !mapping.is_done()? {
            let waited = self.device.poll(wgpu::PollType::Wait {
                submission_index: Some(submission.clone()),
                timeout: Some(until.saturating_duration_since(Instant::now())),
            });
            self.faults.check()?;
            match waited {
                Err(wgpu::PollError::Timeout) => return Ok(false),
                waited => waited.map_err(|error| error.to_string())?,
            };
            if Instant::now() > until {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compiles the kernels of some dispatches, and writes what they read, unless that is done.
    fn prepare(
        &mut self,
        variant: Variant,
        job: Option<&RowsJob>,
        merges: &[Merge],
        until: Instant,
    ) -> Result<(), Fault> {
        let later = job.filter(|job| !job.passes.is_empty());
        let (device, size) = (&self.device, self.workgroup_size);
        let mut compile = |key: KernelKey, spec: &dyn Fn(Variant) -> Spec| {
            let (_, variant, form, _) = key;
            let kernel = self.kernels.entry(key);
            kernel.or_insert_with(|| Kernel::new(device, spec(variant), size, form));
        };
        if let Some(job) = job {
            let key = ("rows", variant, job.dispatch.form, AT_NUMBERS);
            compile(key, &|variant| rows::spec(variant, Output::Record));
        }
        if let Some(job) = later {
            let form = job.later_dispatch().form;
            for look in job.passes.iter().map(family::Params::look) {
                let key = ("family", variant, form, look);
                compile(key, &|heads| family::spec(heads, look));
            }
        }
        for merge in merges {
            for variant in iter::once(variant).chain(later.map(|_| variant.terms())) {
                let key = ("merge", variant, merge.dispatch.form, AT_NUMBERS);
                compile(key, &|variant| merge::spec(variant, Output::Record));
            }
        }
        let logs =
            if later.is_some() { variant.logs_buffers() } else { variant.arithmetic_buffers() };
        if !logs.is_empty() && self.ln_table.get().is_err() {
            self.upload_ln_table(until)?;
        }
        Ok(())
    }

    /// Writes the table of logarithms, and reads it back: from no record would it show that it did not
    /// arrive.
    fn upload_ln_table(&mut self, until: Instant) -> Result<(), Fault> {
        let mut readback = Buffer::readback("readback of the table");
        for buffer in [&mut self.ln_table, &mut readback] {
            buffer.reserve(&self.device, ln_table::BYTES);
        }
        let (table, readback) = (self.ln_table.get()?, readback.get()?);
        let want = ln_table();
        let bytes = ln_table::BYTES as u64;
        self.queue.write_buffer(table, 0, bytemuck::cast_slice(&want));
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(table, 0, readback, 0, Some(bytes));
        let submission = self.queue.submit([encoder.finish()]);
        let mut mapping = Mapping::default();
        mapping.ask(readback, wgpu::MapMode::Read, bytes);
        self.wait(&submission, &mapping, until)?;
        match read(readback, bytes)? == bytemuck::cast_slice::<_, u32>(&want) {
            true => self.faults.check(),
            false => Err(Fault::wrong("the table of logarithms did not arrive".into())),
        }
    }

    fn work(&self) -> Work {
        Work { encoder: self.encoder(), bind_groups: BindGroups::default(), parts: Vec::new() }
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

    /// Ends a device of which nobody waits for anything.
    pub(crate) fn close(mut self) -> Result<(), Fault> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| error.to_string())?;
        let in_flight = std::mem::take(&mut self.in_flight);
        in_flight.into_iter().try_for_each(|one| one.bind_groups.release())
    }

    /// Ends a device after a fault. Its buffers and kernels go, which may hold all the memory there is;
    /// the device itself is leaked: wgpu may wait for it, or end the process over what it does not
    /// take back. One that hangs may still be at work on all of it.
    pub(crate) fn leak(self, cause: Cause) -> Result<(), Fault> {
        let mut leaked = ManuallyDrop::new(self);
        if cause == Cause::TimedOut {
            return Ok(());
        }
        leaked.slots.clear();
        leaked.kernels.clear();
        leaked.ln_table.give_up();
        Ok(())
    }

    /// What the driver says of its loss, if it is lost.
    pub(crate) fn loss(&self) -> Option<Fault> {
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.faults.noted().loss.clone()
    }

    /// How many submissions have bind groups that are not released.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Has the driver lose it.
    pub(crate) fn destroy(&self) {
        self.device.destroy();
    }

    /// A mark for the next submission; 0 is what cleared memory shows.
    fn next_ticket(&mut self) -> u32 {
        self.ticket = self.ticket.checked_add(1).unwrap_or(1);
        self.ticket
    }
}

/// Asks for the bins' memory, for the host to write to once it is done.
fn give_bins_back(slot: &mut Slot) -> Result<(), Fault> {
    if let Some(running) = &mut slot.running {
        for input in &slot.inputs {
            let host = input.host.get()?;
            running.mapping.ask(host, wgpu::MapMode::Write, host.size());
        }
    }
    Ok(())
}

/// Records that the records of a pass are to be kept for later ones.
fn keep(work: &mut Work, slot: &Slot, made: Made, kept: &Buffer) -> Result<(), Fault> {
    let from = slot.records[made.at].get()?;
    work.encoder.copy_buffer_to_buffer(from, 0, kept.get()?, 0, Some(made.bytes as u64));
    Ok(())
}

/// Copies out what a mapped buffer holds, and unmaps it.
fn read(buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u32>, Fault> {
    let view = buffer.get_mapped_range(..bytes).map_err(|error| error.to_string())?;
    let words = bytemuck::pod_collect_to_vec(&view);
    drop(view);
    buffer.unmap();
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gpu::adapter::adapters;
    use crate::plan::{Plan, Shape};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn device() -> (Device, Limits) {
        let adapter = adapters().into_iter().next().expect("the tests need an adapter");
        let limits = adapter.limits(None);
        let required = adapter.required_limits(&limits);
        let (handle, features) = (adapter.handle(), adapter.features());
        let device = Device::open(handle, features, required, limits, true);
        (pollster::block_on(device).unwrap(), limits)
    }

    #[test]
    fn a_record_of_another_submission_spoils_its_row() {
        let (mut device, limits) = device();
        let bins = 2_000_000;
        for variant in Variant::merged() {
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
            let merged = device.merge_records(variant, parts.clone(), &merges, soon()).unwrap();
            assert_eq!(merged.each().count(), 1);
            assert_eq!(merged.words[first], bits(plan.segments as f64));
            assert!(merged.verify(|_| 3 * plan.segments).is_ok());
            for stale in [0, plan.segments / 2, plan.segments - 1] {
                let ticket = device.next_ticket();
                parts.stamp(ticket);
                parts.words[(stale + 1) * part.len() - 1] = ticket - 1;
                let merged = device.merge_stamped(variant, &parts, &merges, soon()).unwrap();
                assert!(merged.verify(|_| 3 * plan.segments).is_err(), "part {stale}");
            }
        }
    }

    /// A call may be late before its device is asked at all, as in a process that was stopped.
    #[test]
    fn what_is_asked_for_late_has_some_time() {
        let (mut device, limits) = device();
        let variant = Variant::all().next().unwrap();
        let layout = variant.layout();
        let plan = Plan::new(Shape { rows: 1, bins: 5_000_000, layout }, limits).unwrap();
        let words = vec![0; layout.record_bytes / 4 * plan.segments];
        let parts = Records { words, record_bytes: layout.record_bytes, ticket: 0 };
        let merges = plan.merges(1);
        device.merge_records(variant, parts.clone(), &merges, soon()).unwrap();
        let past = Instant::now();
        let merged = device.merge_records(variant, parts, &merges, past);
        assert_eq!(merged.map(|merged| merged.each().count()), Ok(1));
    }

    #[test]
    fn an_error_that_wgpu_reports_elsewhere_fails_the_job() {
        let (mut device, _) = device();
        device.faults.note("validation failed".into());
        let variant = Variant::all().next().unwrap();
        let record_bytes = variant.layout().record_bytes;
        let parts = Records { words: vec![0; record_bytes / 4], record_bytes, ticket: 0 };
        let merged = device.merge_records(variant, parts, &[], soon());
        assert_eq!(merged.err(), Some("validation failed".into()));
    }
}
