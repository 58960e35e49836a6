//! What wgpu's adapter can do, and this library on it.
//!
//! Work that stays on the device is recorded for several calls, handed over and waited for once, so
//! that neither the way there and back counts, nor what a device does between submissions.

use std::cell::RefCell;
use std::rc::Rc;

use contest::{Case, Kind, Tool, Values, version};
use kullback::resident::{Format, Rows, Settings, Task};
use kullback::{Adapter, Batch, Divergence, Engine};
use ndarray::Array2;
use wgpu::BufferUsages;

/// The tool of a name with the case in its hands, or why it cannot take part.
pub fn open(name: &str, case: &Case, sides: [Vec<f32>; 2]) -> Result<Tool, String> {
    let engine = Engine::gpu().map_err(text)?;
    let adapter = engine.adapter().ok_or("the engine is on no adapter")?.clone();
    match name {
        "copy" => Device::open(&adapter)?.copy(sides),
        "upload" => Device::open(&adapter)?.upload(sides),
        "host" => host(engine, case, sides),
        "resident" => Device::open(&adapter)?.resident(case, sides),
        other => Err(format!("there is no tool {other}")),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn about(adapter: &Adapter) -> String {
    format!("{}; {}; {}", adapter.name(), adapter.driver(), adapter.api())
}

/// This library with P and Q in host memory: up to the device, over them, and back with the values.
fn host(engine: Engine, case: &Case, [p, q]: [Vec<f32>; 2]) -> Result<Tool, String> {
    let matrix = |side| Array2::from_shape_vec((case.rows, case.bins), side).map_err(text);
    let (p, q, kind) = (matrix(p)?, matrix(q)?, case.kind);
    let on = engine.adapter().map(about).unwrap_or_default();
    let tool = Tool::new(format!("kullback {}, {on}; from host memory", version("kullback")));
    Ok(tool.with("rows", move || {
        let batch = match kind {
            Kind::Probs => Batch::probs(&p, &q),
            Kind::Logits => Batch::logits(&p, &q),
        };
        let outcome = engine.rows(Divergence::Kl, &batch.map_err(text)?).map_err(text)?;
        Ok(Values::F32(outcome.values.into_raw_vec_and_offset().0))
    }))
}

/// Four vectors to an invocation, side by side with those of the others.
const COPY: &str = "
@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4<f32>>;
@compute @workgroup_size(256)
fn copy_all(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = group.x * 1024u + local;
    let a = source[at];
    let b = source[at + 256u];
    let c = source[at + 512u];
    let d = source[at + 768u];
    copied[at] = a;
    copied[at + 256u] = b;
    copied[at + 512u] = c;
    copied[at + 768u] = d;
}
";
const COPIED_BY_GROUP: u64 = 16 * 1024;

/// A device of its own on the adapter that the library took.
#[derive(Clone)]
struct Device {
    about: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// What is to be handed over.
    recorded: Rc<RefCell<Option<wgpu::CommandEncoder>>>,
}

impl Device {
    fn open(adapter: &Adapter) -> Result<Device, String> {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        let instance = wgpu::Instance::new(descriptor);
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let same = |other: &wgpu::Adapter| {
            let info = other.get_info();
            info.name == adapter.name() && info.backend.to_string() == adapter.api()
        };
        let handle = found.into_iter().find(same).ok_or("the library's adapter is gone")?;
        let opened = pollster::block_on(handle.request_device(&wgpu::DeviceDescriptor {
            required_limits: handle.limits(),
            ..Default::default()
        }));
        let (device, queue) = opened.map_err(text)?;
        let about = format!("wgpu {}, {}", version("wgpu"), about(adapter));
        Ok(Device { about, device, queue, recorded: Rc::default() })
    }

    fn buffer(&self, side: &[f32], usage: BufferUsages) -> wgpu::Buffer {
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size_of_val(side) as u64,
            usage: usage | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(side));
        buffer
    }

    /// Records, behind whatever is recorded already.
    fn record<R>(&self, passes: impl FnOnce(&mut wgpu::CommandEncoder) -> R) -> R {
        let begin = || self.device.create_command_encoder(&Default::default());
        passes(self.recorded.borrow_mut().get_or_insert_with(begin))
    }

    fn wait(&self) -> Result<(), String> {
        self.queue.submit(self.recorded.take().map(wgpu::CommandEncoder::finish));
        self.device.poll(wgpu::PollType::wait_indefinitely()).map(drop).map_err(text)
    }

    /// One side over the other: as many bytes move as are in both. By the command for it, which on some
    /// devices is an engine of its own and slow, and by a kernel.
    fn copy(self, [p, q]: [Vec<f32>; 2]) -> Result<Tool, String> {
        let from = self.buffer(&p, BufferUsages::COPY_SRC | BufferUsages::STORAGE);
        let to = self.buffer(&q, BufferUsages::COPY_SRC | BufferUsages::STORAGE);
        self.wait()?;
        let (pipeline, bound) = self.copy_kernel(&from, &to);
        let tool = Tool::new(format!("{}; a buffer copied to another", self.about));
        let nothing = || Ok(Values::None);
        let groups = (from.size() / COPIED_BY_GROUP).max(1) as u32;
        let (recording, waiting) = (self.clone(), self.clone());
        let copy = move || {
            recording.record(|it| it.copy_buffer_to_buffer(&from, 0, &to, 0, from.size()));
            Ok(())
        };
        let tool = tool.with_on_device("command", copy, move || waiting.wait(), nothing);
        let recording = self.clone();
        let copy = move || {
            recording.record(|encoder| {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &bound, &[]);
                pass.dispatch_workgroups(groups, 1, 1);
            });
            Ok(())
        };
        Ok(tool.with_on_device("kernel", copy, move || self.wait(), nothing))
    }

    fn copy_kernel(
        &self,
        from: &wgpu::Buffer,
        to: &wgpu::Buffer,
    ) -> (wgpu::ComputePipeline, wgpu::BindGroup) {
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(COPY.into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let bound = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: from.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: to.as_entire_binding() },
            ],
        });
        (pipeline, bound)
    }

    /// This library with P and Q on the device already; the values stay there.
    fn resident(self, case: &Case, [p, q]: [Vec<f32>; 2]) -> Result<Tool, String> {
        let kind = match case.kind {
            Kind::Probs => kullback::Kind::Probs,
            Kind::Logits => kullback::Kind::Logits,
        };
        let settings = Settings::of(Format::F32, kind, kind);
        let mut kernels = Rows::new(&self.device, settings).map_err(text)?;
        let sides = [&p, &q].map(|side| self.buffer(side, BufferUsages::STORAGE));
        let zeros = vec![0.0; case.rows];
        let values = self.buffer(&zeros, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        self.wait()?;
        let about = format!("kullback {}, {}; resident", version("kullback"), self.about);
        let (bins, results) = (case.bins, values.clone());
        let recording = self.clone();
        let call = move || {
            let [p, q] = [&sides[0], &sides[1]].map(|side| side.slice(..));
            let task = Task { p, q, bins, values: results.slice(..), statuses: None };
            recording.record(|encoder| kernels.encode(encoder, &task)).map_err(text)
        };
        let (waiting, reading) = (self.clone(), self);
        let fetch = move || reading.read(&values).map(Values::F32);
        Ok(Tool::new(about).with_on_device("resident", call, move || waiting.wait(), fetch))
    }

    /// What is in a buffer.
    fn read(&self, from: &wgpu::Buffer) -> Result<Vec<f32>, String> {
        let to = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: from.size(),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.record(|encoder| {
            encoder.copy_buffer_to_buffer(from, 0, &to, 0, from.size());
            encoder.map_buffer_on_submit(&to, wgpu::MapMode::Read, .., |_| ());
        });
        self.wait()?;
        let view = to.get_mapped_range(..).map_err(text)?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }

    /// Both sides from host memory into buffers that are there.
    fn upload(self, sides: [Vec<f32>; 2]) -> Result<Tool, String> {
        let buffers = [0, 1].map(|side| self.buffer(&sides[side], BufferUsages::STORAGE));
        self.wait()?;
        let tool = Tool::new(format!("{}; both sides written to buffers", self.about));
        Ok(tool.with("write_buffer", move || {
            for (buffer, side) in buffers.iter().zip(&sides) {
                self.queue.write_buffer(buffer, 0, bytemuck::cast_slice(side));
            }
            self.wait()?;
            Ok(Values::None)
        }))
    }
}
