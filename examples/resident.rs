//! Divergences of rows that never leave the device. A compute pass of this program makes Q out of P,
//! by a softmax at another temperature, and the passes of kullback follow it in the same encoder.
//! Only the results are read back, and held against the CPU.
//!
//! `cargo run --release --example resident`

use kullback::resident::{Format, Rows, Settings, Task, wgpu};
use kullback::{Engine, adapters};
use ndarray::{Array2, Axis};
use wgpu::BufferUsages as Usages;

const ROWS: usize = 4_096;
const BINS: usize = 256;
const INVERSE_TEMPERATURE: f32 = 0.5;

/// What the application does: q ∝ p^0.5, an invocation a row.
const SOFTENED: &str = "
@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read_write> q: array<f32>;
override BINS: u32;
override INVERSE_TEMPERATURE: f32;

@compute @workgroup_size(64)
fn softened(@builtin(global_invocation_id) id: vec3<u32>) {
    let first = id.x * BINS;
    var mass = 0.0;
    for (var bin = 0u; bin < BINS; bin += 1u) {
        mass += pow(p[first + bin], INVERSE_TEMPERATURE);
    }
    for (var bin = 0u; bin < BINS; bin += 1u) {
        q[first + bin] = pow(p[first + bin], INVERSE_TEMPERATURE) / mass;
    }
}
";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if adapters().is_empty() {
        println!("no adapter: there is nothing to show on this machine");
        return Ok(());
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default()))?;

    let mut p =
        Array2::from_shape_fn((ROWS, BINS), |(row, bin)| ((row * 31 + bin * 17) % 97 + 1) as f32);
    for mut row in p.axis_iter_mut(Axis(0)) {
        let mass = row.sum();
        row.mapv_inplace(|weight| weight / mass);
    }
    let bytes: &[u8] = bytemuck::cast_slice(p.as_slice().ok_or("P is contiguous")?);
    let buffer = |size: usize, usage| {
        let usage = usage | Usages::STORAGE | Usages::COPY_SRC;
        let size = size as u64;
        let mapped_at_creation = false;
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation,
        })
    };
    let p_buffer = buffer(bytes.len(), Usages::COPY_DST);
    let q_buffer = buffer(bytes.len(), Usages::COPY_SRC);
    let values = buffer(4 * ROWS, Usages::COPY_SRC);
    queue.write_buffer(&p_buffer, 0, bytes);

    // Made once, for as many encoders as there will be.
    let mut divergences = Rows::new(&device, Settings::probs(Format::F32))?;

    let mut encoder = device.create_command_encoder(&Default::default());
    soften(&device, &mut encoder, &p_buffer, &q_buffer);
    let task = Task {
        p: p_buffer.slice(..),
        q: q_buffer.slice(..),
        bins: BINS,
        values: values.slice(..),
        statuses: None,
    };
    divergences.encode(&mut encoder, &task)?;
    queue.submit([encoder.finish()]);

    // The application would go on with them on the device. Here they are compared.
    let q = Array2::from_shape_vec((ROWS, BINS), read(&device, &queue, &q_buffer)?)?;
    let want = Engine::cpu().kl(&p, &q)?;
    let mut worst = 0.0_f32;
    for (got, want) in read(&device, &queue, &values)?.into_iter().zip(&want) {
        worst = worst.max((got / want - 1.0).abs());
    }
    println!("{ROWS} rows of {BINS} bins on {}", adapter.get_info().name);
    println!("largest relative difference from the CPU backend: {worst:.1e}");
    if worst < 1e-6 { Ok(()) } else { Err("the device and the CPU disagree".into()) }
}

/// Records the pass of this program.
fn soften(
    device: &wgpu::Device,
    encoder: &mut wgpu::CommandEncoder,
    p: &wgpu::Buffer,
    q: &wgpu::Buffer,
) {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("softened"),
        source: wgpu::ShaderSource::Wgsl(SOFTENED.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("softened"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[
                ("BINS", BINS as f64),
                ("INVERSE_TEMPERATURE", INVERSE_TEMPERATURE.into()),
            ],
            ..Default::default()
        },
        cache: None,
    });
    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: p.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: q.as_entire_binding() },
        ],
    });
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &bind_group, &[]);
    pass.dispatch_workgroups((ROWS / 64) as u32, 1, 1);
}

/// What a buffer holds.
fn read(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    from: &wgpu::Buffer,
) -> Result<Vec<f32>, Failure> {
    let copy = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: from.size(),
        usage: Usages::COPY_DST | Usages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(from, 0, &copy, 0, None);
    let (mapped, done) = std::sync::mpsc::channel();
    encoder.map_buffer_on_submit(&copy, wgpu::MapMode::Read, .., move |result| {
        let _ = mapped.send(result);
    });
    queue.submit([encoder.finish()]);
    device.poll(wgpu::PollType::wait_indefinitely())?;
    done.recv()??;
    Ok(bytemuck::pod_collect_to_vec(&copy.get_mapped_range(..)?))
}
