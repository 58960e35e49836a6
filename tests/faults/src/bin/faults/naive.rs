//! The same work by wgpu as its documentation shows it: handlers write errors and the loss of the
//! device to stderr, whatever returns a `Result` is looked at, and what was mapped is read.

use std::sync::Arc;
use std::sync::mpsc::channel;

use kullback_faults::job::{self, NO_ROWS, OPENING, Work};
use kullback_faults::report::{End, Recovery};
use wgpu::util::DeviceExt;

const SHADER: &str = "
@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> kl: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) row: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let bins = arrayLength(&p) / arrayLength(&kl);
    var sum = 0.0;
    for (var bin = lane; bin < bins; bin += 64u) {
        let at = row.x * bins + bin;
        sum += p[at] * log(p[at] / q[at]);
    }
    sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var other = 1u; other < 64u; other++) {
            sum += sums[other];
        }
        kl[row.x] = sum;
    }
}
";

/// Plain f32 sums of built-in logarithms have no better.
const TOLERANCE: f64 = 1e-3;

struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
}

/// Opens a device, computes the probabilities, and lets the device go.
pub fn run() {
    let (gpu, opened) =
        job::call(OPENING, || pollster::block_on(Gpu::open()).map(|gpu| (gpu, NO_ROWS, none())));
    job::say(&opened);
    let Some(gpu) = gpu else { return };
    for work in job::all().iter().filter(|work| work.kinds == job::PROBS) {
        let (_, call) = job::call(work.name, || Ok(((), gpu.compute(work)?, none())));
        job::say(&call);
    }
    let (_, closed) = job::call("close", || {
        drop(gpu);
        Ok(((), NO_ROWS, none()))
    });
    job::say(&closed);
}

fn none() -> Recovery {
    Recovery::default()
}

impl Gpu {
    async fn open() -> Result<Gpu, String> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        // The same calls in debug builds as in release builds.
        descriptor.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(descriptor);
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await;
        let adapter = adapter.map_err(|error| error.to_string())?;
        let device = adapter.request_device(&wgpu::DeviceDescriptor::default()).await;
        let (device, queue) = device.map_err(|error| error.to_string())?;
        device.on_uncaptured_error(Arc::new(|error| eprintln!("{error}")));
        device.set_device_lost_callback(|reason, message| eprintln!("{reason:?}: {message}"));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(SHADER.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Ok(Gpu { device, queue, pipeline })
    }

    fn compute(&self, work: &Work) -> Result<End, String> {
        let bytes = (work.p.nrows() * size_of::<f32>()) as u64;
        let output = self.buffer(bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
        let readback =
            self.buffer(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        self.submit(work, &output, &readback);
        let (send, receive) = channel();
        readback.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver waits below.
            let _ = send.send(result);
        });
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map_err(|error| error.to_string())?;
        let mapped = receive.recv().map_err(|error| error.to_string())?;
        mapped.map_err(|error| error.to_string())?;
        let view = readback.get_mapped_range(..).map_err(|error| error.to_string())?;
        let words = view.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        let values: Vec<f32> = words.map(f32::from_ne_bytes).collect();
        Ok(job::judge(&values, &work.answers, TOLERANCE))
    }

    fn submit(&self, work: &Work, output: &wgpu::Buffer, readback: &wgpu::Buffer) {
        let inputs = [&work.p, &work.q].map(|side| {
            let bytes: Vec<u8> = side.iter().flat_map(|value| value.to_ne_bytes()).collect();
            self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: &bytes,
                usage: wgpu::BufferUsages::STORAGE,
            })
        });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[entry(0, &inputs[0]), entry(1, &inputs[1]), entry(2, output)],
        });
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(work.p.nrows() as u32, 1, 1);
        drop(pass);
        encoder.copy_buffer_to_buffer(output, 0, readback, 0, None);
        self.queue.submit([encoder.finish()]);
    }

    fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor =
            wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }
}

fn entry(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
}
