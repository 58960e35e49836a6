//! What one submission needs of a device's memory. A slot is used again from chunk to chunk: the
//! host writes the bins of one while the device works on another.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

use super::fault::Fault;
use super::worker::catch;

/// The buffers of a submission.
pub(crate) struct Slot {
    /// The bins of P and Q.
    pub inputs: [Input; 2],
    /// Merging goes to and fro between these two.
    pub records: [Buffer; 2],
    /// What later passes read of earlier ones, or of what the host made of those: of each row.
    pub heads: Buffer,
    pub balances: Buffer,
    /// The derivatives in P and in Q.
    pub gradients: [Buffer; 2],
    pub readback: Buffer,
    /// Whether the bins are with the device between two submissions.
    pub keeps_bins: bool,
    /// What was submitted and not yet collected.
    pub running: Option<Running>,
}

impl Slot {
    /// A slot without memory. With `unified` the kernels read what the host writes, else a copy.
    pub(crate) fn new(unified: bool) -> Slot {
        use wgpu::BufferUsages as Usages;
        let read = Usages::STORAGE | Usages::COPY_DST;
        let records = || Buffer::new("records", read | Usages::COPY_SRC);
        let gradient = || Buffer::new("gradient", Usages::STORAGE | Usages::COPY_SRC);
        let input = |label| match unified {
            true => Input {
                host: Buffer::new(label, Usages::MAP_WRITE | Usages::STORAGE),
                device: None,
            },
            false => Input {
                host: Buffer::new(label, Usages::MAP_WRITE | Usages::COPY_SRC),
                device: Some(Buffer::new(label, read)),
            },
        };
        Slot {
            inputs: [input("P"), input("Q")],
            records: [records(), records()],
            heads: Buffer::new("heads", read),
            balances: Buffer::new("balances", read),
            gradients: [gradient(), gradient()],
            readback: Buffer::readback("readback"),
            keeps_bins: false,
            running: None,
        }
    }

    /// Makes room for so many bytes of records, and for reading so many of them back.
    pub(crate) fn reserve_records(&mut self, device: &wgpu::Device, bytes: usize, read: usize) {
        self.records.iter_mut().for_each(|records| records.reserve(device, bytes));
        self.readback.reserve(device, read);
    }
}

/// A submission on its way.
pub(crate) struct Running {
    pub submission: wgpu::SubmissionIndex,
    pub ticket: u32,
    /// What is read back, one after the other.
    pub parts: Vec<Part>,
    pub mapping: Mapping,
}

/// Records that are read back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub record_bytes: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// The bind groups of a submission, held until it is done and then let go one by one: wgpu panics
/// over a driver that does not take one back, and over two at a time the process ends. Those that are
/// not released are leaked.
#[derive(Default)]
pub(crate) struct BindGroups(Vec<ManuallyDrop<wgpu::BindGroup>>);

impl BindGroups {
    pub(crate) fn keep(&mut self, bind_group: wgpu::BindGroup) {
        self.0.push(ManuallyDrop::new(bind_group));
    }

    pub(crate) fn release(self) -> Result<(), Fault> {
        let mut bind_groups = self.0.into_iter().map(ManuallyDrop::into_inner);
        let released = bind_groups.try_for_each(|bind_group| {
            catch(|| {
                drop(bind_group);
                Ok(())
            })
        });
        std::mem::forget(bind_groups);
        released
    }
}

/// Buffers that are to be mapped when a submission is done with them. What fails is told to whoever
/// waits for them: of a slot that was let go, nobody does, and its buffers are never mapped.
#[derive(Default)]
pub(crate) struct Mapping {
    asked: u32,
    answers: Arc<Mutex<Answers>>,
}

#[derive(Default)]
struct Answers {
    mapped: u32,
    failed: Option<String>,
}

impl Mapping {
    /// Asks for one more.
    pub(crate) fn ask(&mut self, buffer: &wgpu::Buffer, mode: wgpu::MapMode, bytes: u64) {
        let answers = self.answers.clone();
        self.asked += 1;
        buffer.map_async(mode, ..bytes, move |result| {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => answers.mapped += 1,
                Err(error) => answers.failed = Some(error.to_string()),
            }
        });
    }

    /// Whether all of them are mapped; an error if one cannot be.
    pub(crate) fn is_done(&self) -> Result<bool, String> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match &answers.failed {
            Some(error) => Err(format!("a buffer could not be mapped: {error}")),
            None => Ok(answers.mapped == self.asked),
        }
    }
}

/// The bins of one side.
pub(crate) struct Input {
    /// What the host writes: mapped unless a submission has it.
    pub host: Buffer,
    /// What the kernel reads, if not the same.
    device: Option<Buffer>,
}

impl Input {
    pub(crate) fn reserve(&mut self, device: &wgpu::Device, bytes: usize) {
        self.host.reserve(device, bytes);
        if let Some(copy) = &mut self.device {
            copy.reserve(device, bytes);
        }
    }

    /// The memory for so many bytes, to be written.
    pub(crate) fn view(&self, bytes: usize) -> Result<wgpu::BufferViewMut, String> {
        let view = self.host.get()?.get_mapped_range_mut(..bytes as u64);
        view.map_err(|error| error.to_string())
    }

    /// Takes the memory from the host, and records the copy for the kernel if it needs one.
    pub(crate) fn hand_over(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        bytes: usize,
    ) -> Result<(), String> {
        let host = self.host.get()?;
        host.unmap();
        if let Some(copy) = &self.device {
            encoder.copy_buffer_to_buffer(host, 0, copy.get()?, 0, Some(bytes as u64));
        }
        Ok(())
    }

    /// Its first bytes, to be bound.
    pub(crate) fn bound(&self, bytes: usize) -> Result<wgpu::BufferBinding<'_>, String> {
        self.device.as_ref().unwrap_or(&self.host).bound(bytes)
    }
}

/// Bytes of the smallest buffer.
const LEAST: usize = 16;

/// A buffer that is kept from job to job and grows when one needs more.
pub(crate) struct Buffer {
    label: &'static str,
    usage: wgpu::BufferUsages,
    buffer: Option<wgpu::Buffer>,
}

impl Buffer {
    pub(crate) fn new(label: &'static str, usage: wgpu::BufferUsages) -> Buffer {
        Buffer { label, usage, buffer: None }
    }

    /// Gives its memory back.
    pub(crate) fn give_up(&mut self) {
        self.buffer = None;
    }

    /// One that the host reads.
    pub(crate) fn readback(label: &'static str) -> Buffer {
        Buffer::new(label, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    /// Makes it hold so many bytes. What it held is lost if it has to grow. One that the host writes
    /// is mapped from the start.
    pub(crate) fn reserve(&mut self, device: &wgpu::Device, bytes: usize) {
        // None is empty: wgpu has no use for such a buffer.
        let bytes = bytes.max(LEAST) as u64;
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
            mapped_at_creation: self.usage.contains(wgpu::BufferUsages::MAP_WRITE),
        }));
    }

    pub(crate) fn get(&self) -> Result<&wgpu::Buffer, String> {
        self.buffer.as_ref().ok_or_else(|| format!("no memory was reserved for {}", self.label))
    }

    /// All of it, to be bound.
    pub(crate) fn whole(&self) -> Result<wgpu::BufferBinding<'_>, String> {
        self.get().map(|buffer| wgpu::BufferBinding { buffer, offset: 0, size: None })
    }

    /// Its first bytes, to be bound.
    pub(crate) fn bound(&self, bytes: usize) -> Result<wgpu::BufferBinding<'_>, String> {
        let size = wgpu::BufferSize::new(bytes as u64);
        self.get().map(|buffer| wgpu::BufferBinding { buffer, offset: 0, size })
    }
}
