//! For applications with a wgpu device and buffers of their own: the divergences of rows that are on
//! the device already, into a buffer that stays there.
//!
//! [`Rows`] records the passes of this crate into a command encoder of the application, behind
//! whatever wrote P and Q and ahead of whatever reads the results. Nothing is submitted, nothing
//! read back, and nobody waited for. This is the only module with types of [`wgpu`] in it, which it
//! therefore passes on.
//!
//! No feature of wgpu is asked for, and its default limits do. How much work a submission holds is
//! the application's affair: where a desktop shares the device, a watchdog may end one that takes
//! longer than a second or two.
//!
//! # Accuracy
//!
//! The terms and the sums are those of [`Engine::gpu`](crate::Engine::gpu). What that does after
//! them in f64 on the host is done here in f32: a value is right to a relative error of about 5e-7
//! (2e-6 where a side is logarithms) if its status is [`Status::Ok`]. Rows that the engine would
//! look at once more on the host have the status [`Status::LacksDigits`] instead: their values have
//! fewer digits, or none. These are
//!
//! * rows whose masses lie so far apart that most of the sum cancels, such as counts against
//!   probabilities; scale them first, or let the application normalise them;
//! * under [`Mass::Check`], masses within 1e-5 of the tolerance;
//! * divergences below about 1e-18 that are not 0 (1e-11 where a side is logarithms, 1e-13 where
//!   both are), masses below 1e-18, bins above 1e19, and logarithms beyond ±65,536.
//!
//! Such a divergence may be so small that its f32 sum is exactly 0: that row counts as one of equal
//! distributions, with the value 0 and [`Status::Ok`].
//!
//! A −0 counts as an invalid bin.
//!
//! ```
//! use kullback::resident::{Format, Rows, Settings, Status, Task, wgpu};
//! # fn device() -> Option<(wgpu::Device, wgpu::Queue)> {
//! #     let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
//! #     let adapter = pollster::block_on(instance.request_adapter(&Default::default())).ok()?;
//! #     pollster::block_on(adapter.request_device(&Default::default())).ok()
//! # }
//! // Whatever device the application has; there may be none.
//! let Some((device, queue)) = device() else { return Ok(()) };
//! let buffer = |size, usage| {
//!     let usage = usage | wgpu::BufferUsages::STORAGE;
//!     device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
//! };
//! let (p, q) = (buffer(24, wgpu::BufferUsages::COPY_DST), buffer(24, wgpu::BufferUsages::COPY_DST));
//! queue.write_buffer(&p, 0, bytemuck::bytes_of(&[0.7_f32, 0.2, 0.1, 0.5, 0.5, 0.0]));
//! queue.write_buffer(&q, 0, bytemuck::bytes_of(&[0.1_f32, 0.3, 0.6, 0.5, 0.0, 0.5]));
//! let values = buffer(8, wgpu::BufferUsages::COPY_SRC);
//! let statuses = buffer(8, wgpu::BufferUsages::COPY_SRC);
//!
//! let mut rows = Rows::new(&device, Settings::probs(Format::F32))?;
//! let mut encoder = device.create_command_encoder(&Default::default());
//! let task = Task {
//!     p: p.slice(..),
//!     q: q.slice(..),
//!     bins: 3,
//!     values: values.slice(..),
//!     statuses: Some(statuses.slice(..)),
//! };
//! rows.encode(&mut encoder, &task)?;
//! queue.submit([encoder.finish()]);
//! // `values` now holds 1.101868 and +inf, `statuses` Ok and Infinite.
//! # let read = |from: &wgpu::Buffer| {
//! #     let to = device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 8,
//! #         usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ, mapped_at_creation: false });
//! #     let mut encoder = device.create_command_encoder(&Default::default());
//! #     encoder.copy_buffer_to_buffer(from, 0, &to, 0, Some(8));
//! #     encoder.map_buffer_on_submit(&to, wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
//! #     queue.submit([encoder.finish()]);
//! #     device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
//! #     let view = to.get_mapped_range(..).unwrap();
//! #     bytemuck::pod_collect_to_vec::<u8, u32>(&view)
//! # };
//! # let words = read(&values);
//! # assert!((f32::from_bits(words[0]) - 1.101868).abs() < 1e-6 && f32::from_bits(words[1]) == f32::INFINITY);
//! # assert_eq!(read(&statuses), [Status::Ok as u32, Status::Infinite as u32]);
//! # Ok::<(), kullback::Error>(())
//! ```

use std::collections::HashMap;
use std::ops::Range;

pub use wgpu;

use crate::batch::Mass;
use crate::error::Cause;
use crate::gpu::adapter::{self, AdapterKind};
use crate::gpu::kernel::{Kernel, Spec};
use crate::gpu::ln_table::ln_table;
use crate::gpu::settle::Policy;
use crate::gpu::slot::Buffer;
use crate::gpu::variant::{self, Output, Variant};
use crate::gpu::{merge, rows};
use crate::plan::{Chunk, Dispatch, Form, Limits, Merge, Plan, QUAD, Shape};
use crate::{Error, Kind};

/// How bins lie in a buffer: row after row, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32 bits, in rows of any length; those of a multiple of 4 bins are read fastest.
    F32,
    /// IEEE 754 half precision, in rows of a multiple of 4 bins.
    F16,
    /// The upper half of an f32, in rows of a multiple of 4 bins.
    Bf16,
}

/// How the numbers are to be read, and what is to be made of them.
///
/// ```
/// use kullback::resident::{Format, Settings};
/// use kullback::{Kind, Mass};
///
/// let probs = Settings::probs(Format::F32).with_mass(Mass::Normalize);
/// let distilled = Settings::of(Format::F16, Kind::Logits, Kind::Logits).with_temperature(2.0)?;
/// assert!(probs.with_temperature(2.0).is_err());
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    format: Format,
    kinds: [Kind; 2],
    temperature: f64,
    mass: Mass,
    tolerance: f64,
}

impl Settings {
    /// Probabilities on both sides.
    pub fn probs(format: Format) -> Settings {
        Settings::of(format, Kind::Probs, Kind::Probs)
    }

    /// Sides of any two kinds.
    pub fn of(format: Format, p_kind: Kind, q_kind: Kind) -> Settings {
        let tolerance = if format == Format::F32 { 1e-3 } else { 1e-2 };
        let kinds = [p_kind, q_kind];
        Settings { format, kinds, temperature: 1.0, mass: Mass::default(), tolerance }
    }

    /// Sets the temperature, as [`Batch::with_temperature`](crate::Batch::with_temperature) does.
    ///
    /// # Errors
    /// [`Error::Setting`] as there.
    pub fn with_temperature(mut self, temperature: f64) -> Result<Settings, Error> {
        crate::batch::check_temperature(self.kinds, temperature)?;
        self.temperature = temperature;
        Ok(self)
    }

    /// Sets the mass policy. Where a side is logarithms, [`Mass::Check`] and [`Mass::Normalize`]
    /// are computed here.
    #[must_use]
    pub fn with_mass(mut self, mass: Mass) -> Settings {
        self.mass = mass;
        self
    }

    /// Sets how far a mass may lie from 1 under [`Mass::Check`]; 1e-3 unless set, and 1e-2 for 16
    /// bits.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `0 ≤ tolerance < 1`.
    pub fn with_mass_tolerance(mut self, tolerance: f64) -> Result<Settings, Error> {
        crate::batch::check_tolerance(tolerance)?;
        self.tolerance = tolerance;
        Ok(self)
    }

    fn variant(&self, bins: usize) -> Variant {
        let format = match self.format {
            Format::F32 if bins.is_multiple_of(QUAD) => variant::Format::F32,
            Format::F32 => variant::Format::F32Any,
            Format::F16 => variant::Format::F16,
            Format::Bf16 => variant::Format::Bf16,
        };
        Variant::for_kinds(format, self.kinds, self.temperature)
    }
}

/// What a row turned out to be: the words of the buffer of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Status {
    /// The row was not computed: what cleared memory shows, or a dispatch that was cut short. The
    /// value is NaN, or what was there before.
    NotComputed = 0,
    /// A finite value.
    Ok = 1,
    /// Exactly +inf: P has mass in a bin in which Q has none.
    Infinite = 2,
    /// A bin holds nothing of its side's kind. The value is NaN.
    InvalidBin = 3,
    /// A mass is further from 1 than the tolerance. The value is NaN.
    WrongMass = 4,
    /// A side has no mass to divide by. The value is NaN.
    NoMass = 5,
    /// The value lacks digits, or is NaN: see the [module](self#accuracy).
    LacksDigits = 6,
}

impl Status {
    /// All of them, in the order of their words.
    pub const ALL: &'static [Status] = &[
        Status::NotComputed,
        Status::Ok,
        Status::Infinite,
        Status::InvalidBin,
        Status::WrongMass,
        Status::NoMass,
        Status::LacksDigits,
    ];

    /// The status that a word of the buffer stands for.
    ///
    /// ```
    /// use kullback::resident::Status;
    ///
    /// assert_eq!(Status::from_word(2), Some(Status::Infinite));
    /// assert_eq!(Status::from_word(7), None);
    /// ```
    pub fn from_word(word: u32) -> Option<Status> {
        Status::ALL.get(word as usize).copied()
    }
}

/// The buffers of one computation, all of them with the usage `STORAGE`. P and Q may share one; values and
/// statuses may not be in theirs.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The bins of P, row after row: as many rows as fit exactly. A single row is compared with
    /// every row of the other side.
    pub p: wgpu::BufferSlice<'a>,
    /// The bins of Q.
    pub q: wgpu::BufferSlice<'a>,
    /// Bins per row.
    pub bins: usize,
    /// Takes an f32 per row, in nats; +inf and NaN as the statuses say.
    pub values: wgpu::BufferSlice<'a>,
    /// Takes a [`Status`] per row as a u32, if wanted.
    pub statuses: Option<wgpu::BufferSlice<'a>>,
}

/// Rows of a part of a task are a multiple of this, so that parts begin where bindings may: at
/// multiples of 256 bytes, whatever the bins.
const PART: usize = 64;

impl<'a> Task<'a> {
    /// Some of the rows.
    fn part(&self, rows: Range<usize>, bin_bytes: usize) -> Task<'a> {
        let cut = |slice: wgpu::BufferSlice<'a>, bytes: usize| {
            let [start, end] = [rows.start, rows.end].map(|row| (row * bytes) as u64);
            slice.buffer().slice(slice.offset() + start..slice.offset() + end)
        };
        let row_bytes = self.bins * bin_bytes;
        let side = |slice: wgpu::BufferSlice<'a>| match slice.size() == row_bytes as u64 {
            true => slice,
            false => cut(slice, row_bytes),
        };
        Task {
            p: side(self.p),
            q: side(self.q),
            bins: self.bins,
            values: cut(self.values, 4),
            statuses: self.statuses.map(|statuses| cut(statuses, 4)),
        }
    }
}

/// The kernels for one device and one way to read rows, and the memory that they need in between.
///
/// Kernels are compiled when a length of rows first needs them, and kept.
pub struct Rows {
    device: wgpu::Device,
    settings: Settings,
    limits: Limits,
    kernels: HashMap<KernelKey, Kernel>,
    uniforms: HashMap<Vec<u8>, wgpu::Buffer>,
    /// Merging goes to and fro between these two.
    records: [Buffer; 2],
    ln_table: wgpu::Buffer,
    unwanted_statuses: Buffer,
    ticket: u32,
}

/// Which kernel: the name of its shader, the variant of its text, how that is specialised, and what is
/// left of a unit.
type KernelKey = (&'static str, Variant, Form, Output);

/// Marks of records, which come again: a device copies each new uniform, and waits for that.
const TICKETS: u32 = 64;
/// Uniforms that are kept; each is some 100 bytes.
const MOST_UNIFORMS: usize = 8 * TICKETS as usize;

/// What the pass before the merges, or one of these, leaves: results, where no other comes after it.
fn output(merges: &[Merge], pass: usize) -> Output {
    if pass == merges.len() { Output::Value } else { Output::Record }
}

impl Rows {
    /// Prepares for a device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for logarithms under [`Mass::AsGiven`] or [`Mass::Generalized`];
    /// [`Error::Device`] if the device gives no memory.
    pub fn new(device: &wgpu::Device, settings: Settings) -> Result<Rows, Error> {
        let probs = settings.kinds == [Kind::Probs; 2];
        if !probs && matches!(settings.mass, Mass::AsGiven | Mass::Generalized) {
            return Err(unsupported(format!(
                "logarithms under the mass policy {} where the results stay on the device",
                settings.mass
            )));
        }
        let kind = AdapterKind::of(device.adapter_info().device_type);
        Rows::under(device, settings, adapter::limits(kind, &device.limits(), None))
    }

    /// Prepares for a device that is planned for under these limits.
    pub(crate) fn under(
        device: &wgpu::Device,
        settings: Settings,
        limits: Limits,
    ) -> Result<Rows, Error> {
        let usage = wgpu::BufferUsages::STORAGE;
        let ln_table = filled(device, usage, bytemuck::cast_slice(&ln_table()))
            .map_err(|message| fault(device, message))?;
        Ok(Rows {
            device: device.clone(),
            settings,
            // One submission is all there is, and whose work it is.
            limits: Limits { chunk_bytes: u64::MAX, ..limits },
            kernels: HashMap::new(),
            uniforms: HashMap::new(),
            records: [Buffer::new("records", usage), Buffer::new("records", usage)],
            ln_table,
            unwanted_statuses: Buffer::new("statuses", usage),
            ticket: 0,
        })
    }

    /// Records the passes that compute a task.
    ///
    /// The buffers must be of this device, and may be of any offset that the device's
    /// `min_storage_buffer_offset_alignment` allows. What is recorded is for one submission;
    /// several tasks may go into one encoder, and are computed one after the other.
    ///
    /// # Errors
    /// Before anything is recorded: [`Error::NoBins`]; [`Error::Shape`] if neither side has as many
    /// rows as the other or a single one, or a slice holds no whole number of them;
    /// [`Error::Unsupported`] for 16-bit rows of a length that is no multiple of 4, for a buffer that
    /// lacks the usage `STORAGE`, is not aligned, or has no room for the results, and for rows of which
    /// a binding does not hold 64.
    pub fn encode(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        task: &Task<'_>,
    ) -> Result<(), Error> {
        let (plan, reading) = self.plan(task)?;
        let (rows, bins) = (plan.shape.rows, plan.shape.bins);
        let variant = self.settings.variant(bins);
        let Some(chunk) = plan.chunks().next() else { return Ok(()) };
        let part = match chunk.rows.len() {
            all if all == rows => rows,
            most => most / PART * PART,
        };
        if part == 0 || !chunk.whole_rows {
            let most = self.limits.binding_bytes;
            return Err(unsupported(format!("rows of {bins} bins in bindings of {most} bytes")));
        }
        for first in (0..rows).step_by(part) {
            let rows = first..(first + part).min(rows);
            let plan = Plan::new(Shape { rows: rows.len(), ..plan.shape }, self.limits)?;
            let Some(chunk) = plan.chunks().next() else { continue };
            self.prepare(variant, &plan, &chunk);
            let params = rows::Params::new(reading, &plan, &chunk).with_ticket(self.ticket);
            let task = task.part(rows, variant.layout().bin_bytes);
            self.record(encoder, &task, variant, &plan, &chunk, &params)
                .map_err(|e| self.fault(e))?;
        }
        Ok(())
    }

    /// Compiles what a task needs, makes room for it, and takes a mark for its records.
    fn prepare(&mut self, variant: Variant, plan: &Plan, chunk: &Chunk) {
        let (device, size) = (&self.device, self.limits.workgroup_size);
        let mut compile = |name, form, output, spec: fn(Variant, Output) -> Spec| {
            let kernel = self.kernels.entry((name, variant, form, output));
            kernel.or_insert_with(|| Kernel::new(device, spec(variant, output), size, form));
        };
        let (dispatch, merges) = (variant.dispatch(plan, chunk), plan.merges(plan.shape.rows));
        compile("rows", dispatch.form, output(&merges, 0), rows::spec);
        for (at, merge) in merges.iter().enumerate() {
            compile("merge", merge.dispatch.form, output(&merges, at + 1), merge::spec);
        }
        if !merges.is_empty() {
            for buffer in &mut self.records {
                buffer.reserve(device, dispatch.units as usize * variant.layout().record_bytes);
            }
            self.ticket = self.ticket % TICKETS + 1;
        }
        self.unwanted_statuses.reserve(device, 4);
    }

    /// Records the passes: a record of each unit, and rounds in which they become one of each row. The
    /// last pass leaves the results.
    fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        task: &Task<'_>,
        variant: Variant,
        plan: &Plan,
        chunk: &Chunk,
        params: &rows::Params,
    ) -> Result<(), String> {
        let bytes = |units: u32| units as usize * plan.shape.layout.record_bytes;
        let (dispatch, merges) = (variant.dispatch(plan, chunk), plan.merges(plan.shape.rows));
        let policy = self.uniform(bytemuck::bytes_of(&self.policy(task)))?;
        let first = self.uniform(bytemuck::bytes_of(params))?;
        let mut rounds = Vec::new();
        for merge in &merges {
            let params = merge::Params::new(merge, self.ticket);
            rounds.push(self.uniform(bytemuck::bytes_of(&params))?);
        }
        let results = |name: &str| match name {
            "policy" => Ok(policy.as_entire_buffer_binding()),
            "values" => binding(task.values),
            "statuses" => task.statuses.map_or(self.unwanted_statuses.bound(4), binding),
            _ => Ok(self.ln_table.as_entire_buffer_binding()),
        };
        let buffers = |name: &str| match name {
            "p" => binding(task.p),
            "q" => binding(task.q),
            "made" => self.records[0].bound(bytes(dispatch.units)),
            _ => results(name),
        };
        let key = ("rows", variant, dispatch.form, output(&merges, 0));
        self.pass(encoder, key, &first, buffers, dispatch)?;

        let (mut units, mut at) = (dispatch.units, 0);
        for (round, (merge, params)) in merges.iter().zip(&rounds).enumerate() {
            let buffers = |name: &str| match name {
                "parts" => self.records[at].bound(bytes(units)),
                "made" => self.records[1 - at].bound(bytes(merge.dispatch.units)),
                _ => results(name),
            };
            let key = ("merge", variant, merge.dispatch.form, output(&merges, round + 1));
            self.pass(encoder, key, params, buffers, merge.dispatch)?;
            (units, at) = (merge.dispatch.units, 1 - at);
        }
        Ok(())
    }

    /// Records one dispatch of a kernel that was compiled.
    fn pass<'a>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        key: KernelKey,
        params: &wgpu::Buffer,
        buffers: impl Fn(&str) -> Result<wgpu::BufferBinding<'a>, String>,
        dispatch: Dispatch,
    ) -> Result<(), String> {
        let kernel = self.kernels.get(&key);
        let kernel = kernel.ok_or_else(|| format!("no kernel was made for {key:?}"))?;
        kernel.record(&self.device, encoder, params, buffers, dispatch).map(|_| ())
    }

    /// A uniform of these bytes, which may be read by work before: task after task they are the same.
    fn uniform(&mut self, bytes: &[u8]) -> Result<wgpu::Buffer, String> {
        if let Some(known) = self.uniforms.get(bytes) {
            return Ok(known.clone());
        }
        if self.uniforms.len() >= MOST_UNIFORMS {
            self.uniforms.clear();
        }
        let uniform = filled(&self.device, wgpu::BufferUsages::UNIFORM, bytes)?;
        self.uniforms.insert(bytes.to_vec(), uniform.clone());
        Ok(uniform)
    }

    /// How a task is cut and read, if it can be.
    fn plan(&self, task: &Task<'_>) -> Result<(Plan, rows::Reading), Error> {
        let bins = task.bins;
        if bins == 0 {
            return Err(Error::NoBins);
        }
        let variant = self.settings.variant(bins);
        let padded = variant.format != variant::Format::F32Any;
        if padded && !bins.is_multiple_of(QUAD) {
            return Err(unsupported(format!("16-bit rows of {bins} bins, no multiple of {QUAD}")));
        }
        let row_bytes = (bins as u64).checked_mul(variant.layout().bin_bytes as u64);
        let row_bytes = row_bytes.ok_or_else(|| unsupported(format!("rows of {bins} bins")))?;
        let sides = [task.p, task.q].map(|side| side.size());
        let [p_rows, q_rows] = sides.map(|bytes| (bytes / row_bytes) as usize);
        let whole = sides.iter().all(|bytes| bytes.is_multiple_of(row_bytes));
        let rows = p_rows.max(q_rows);
        if !whole || [p_rows, q_rows].iter().any(|&side| side != rows && side != 1) {
            return Err(Error::Shape { p: (p_rows, bins), q: (q_rows, bins) });
        }
        let results = [("values", Some(task.values)), ("statuses", task.statuses)];
        for (name, slice) in results {
            if slice.is_some_and(|slice| slice.size() < 4 * rows as u64) {
                return Err(unsupported(format!("{name} of {rows} rows in a smaller buffer")));
            }
            // A dispatch may not read and write one buffer, be it in different places.
            let inputs = [task.p.buffer(), task.q.buffer()];
            if slice.is_some_and(|slice| inputs.contains(&slice.buffer())) {
                return Err(unsupported(format!("{name} in the buffer of P or Q")));
            }
        }
        let buffers = [("P", Some(task.p)), ("Q", Some(task.q))].into_iter().chain(results);
        for (name, slice) in buffers {
            if let Some(slice) = slice {
                self.check(name, slice)?;
            }
        }
        let plan = Plan::new(Shape { rows, bins, layout: variant.layout() }, self.limits)?;
        let stride = if padded { bins / QUAD } else { bins } as u32;
        let strides = [p_rows, q_rows].map(|side| if side == rows { stride } else { 0 });
        let Settings { kinds, temperature, .. } = self.settings;
        Ok((plan, rows::Reading { kinds, temperature, strides }))
    }

    /// Whether a slice can be bound.
    fn check(&self, name: &str, slice: wgpu::BufferSlice<'_>) -> Result<(), Error> {
        let alignment = u64::from(self.device.limits().min_storage_buffer_offset_alignment);
        let size = slice.size();
        let what = if !slice.buffer().usage().contains(wgpu::BufferUsages::STORAGE) {
            "a buffer without the usage STORAGE".to_owned()
        } else if !slice.offset().is_multiple_of(alignment) || !size.is_multiple_of(4) {
            let offset = slice.offset();
            format!("{size} bytes from {offset} on, where multiples of 4 and {alignment} are asked")
        } else {
            return Ok(());
        };
        Err(unsupported(format!("{name} in {what}")))
    }

    fn policy(&self, task: &Task<'_>) -> Policy {
        let Settings { kinds, mass, tolerance, .. } = self.settings;
        let given = kinds.iter().all(|&kind| kind != Kind::Probs);
        let [p_weighed, q_weighed] = kinds.map(|kind| u32::from(kind != Kind::Logits));
        Policy {
            bins: task.bins as u32,
            mass: mass as u32,
            p_weighed,
            q_weighed,
            tolerance: tolerance as f32,
            least: if given { 1e-13 } else { 1e-11 },
            with_statuses: task.statuses.is_some().into(),
        }
    }

    fn fault(&self, message: String) -> Error {
        fault(&self.device, message)
    }
}

fn fault(device: &wgpu::Device, message: String) -> Error {
    Error::Device { adapter: device.adapter_info().name, cause: Cause::Other, message }
}

fn binding(slice: wgpu::BufferSlice<'_>) -> Result<wgpu::BufferBinding<'_>, String> {
    slice.try_into().map_err(|()| "an empty slice cannot be bound".to_owned())
}

/// A buffer that holds some bytes from the start.
fn filled(
    device: &wgpu::Device,
    usage: wgpu::BufferUsages,
    bytes: &[u8],
) -> Result<wgpu::Buffer, String> {
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("kullback"),
        size: bytes.len() as u64,
        usage,
        mapped_at_creation: true,
    });
    let view = buffer.get_mapped_range_mut(..).map_err(|error| error.to_string());
    view?.copy_from_slice(bytes);
    buffer.unmap();
    Ok(buffer)
}

fn unsupported(what: String) -> Error {
    Error::Unsupported { backend: "gpu", what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (wgpu::Device, wgpu::Queue) {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        let adapter = wgpu::Instance::new(descriptor).request_adapter(&Default::default());
        let adapter = pollster::block_on(adapter).expect("the tests need an adapter");
        pollster::block_on(adapter.request_device(&Default::default())).unwrap()
    }

    fn read(device: &wgpu::Device, queue: &wgpu::Queue, from: &wgpu::Buffer) -> Vec<u32> {
        let to = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: from.size(),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from, 0, &to, 0, None);
        encoder.map_buffer_on_submit(&to, wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        bytemuck::pod_collect_to_vec(&to.get_mapped_range(..).unwrap())
    }

    /// A first pass that was lost leaves records with the mark of an earlier one to the merges; one
    /// that was cut short, records of fewer bins.
    #[test]
    fn records_of_what_did_not_run_make_no_value() {
        const ROWS: usize = 3;
        let (device, queue) = device();
        let limits = Limits {
            binding_bytes: 1 << 20,
            grid: 30,
            workgroup_size: 2,
            lanes: 2,
            chunk_bytes: 0,
        };
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = |words: &[u32]| filled(&device, usage, bytemuck::cast_slice(words)).unwrap();
        // One round of merges, and two.
        for (bins, rounds) in [(1_000, 1), (6_000, 2)] {
            let mut rows = Rows::under(&device, Settings::probs(Format::F32), limits).unwrap();
            let side = buffer(&vec![(1.0 / bins as f32).to_bits(); ROWS * bins]);
            let (values, statuses) = (buffer(&[1; ROWS]), buffer(&[1; ROWS]));
            let task = Task {
                p: side.slice(..),
                q: side.slice(..),
                bins,
                values: values.slice(..),
                statuses: Some(statuses.slice(..)),
            };
            let (plan, reading) = rows.plan(&task).unwrap();
            assert_eq!(plan.merges(ROWS).len(), rounds, "{bins} bins");
            let (chunk, variant) = (plan.chunks().next().unwrap(), rows.settings.variant(bins));
            rows.prepare(variant, &plan, &chunk);
            let of = |chunk, ticket| rows::Params::new(reading, &plan, chunk).with_ticket(ticket);
            let short = Chunk { bins: 0..bins - 4, ..chunk.clone() };
            for (params, want) in [
                (of(&chunk, rows.ticket), Status::Ok),
                (of(&chunk, rows.ticket - 1), Status::NotComputed),
                (of(&short, rows.ticket), Status::NotComputed),
            ] {
                let mut encoder = device.create_command_encoder(&Default::default());
                rows.record(&mut encoder, &task, variant, &plan, &chunk, &params).unwrap();
                queue.submit([encoder.finish()]);
                let got = read(&device, &queue, &statuses);
                assert_eq!(got, [want as u32; ROWS], "{bins} bins");
                let is_nan = |word: &u32| f32::from_bits(*word).is_nan();
                let values = read(&device, &queue, &values);
                assert_eq!(values.iter().all(is_nan), want == Status::NotComputed);
            }
        }
    }
}
