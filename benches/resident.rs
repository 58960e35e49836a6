//! Rows on the device, beside the speed at which the same adapter can read them at all: kernels that
//! do nothing but add both sides up, in the ways that suit hardware and software adapters. The fastest
//! of these is the ceiling.
//!
//! `cargo bench --bench resident` prints a table, with the minimum and the median of runs that take
//! turns, so that whatever slows the machine down slows all of them. Every answer is checked before
//! anything is timed.

use std::error::Error;
use std::time::Instant;

use kullback::resident::{Format, Rows, Settings, Task, wgpu};
use kullback::{Batch, Divergence, Engine, Kind};
use ndarray::{Array2, Axis};
use wgpu::BufferUsages as Usages;

/// Bins of one side: 32 MiB.
const BINS: usize = 1 << 23;
const LENGTHS: [usize; 12] = [2, 4, 8, 16, 32, 64, 256, 1_000, 1_024, 1 << 14, 1 << 17, 1 << 20];
const RUNS: usize = 9;
/// Vector loads that a unit of the sum-only kernels adds up, for rows of at least as many.
const UNIT: usize = 256;

/// The sum of some vector loads of both sides, by so many invocations: side by side and a tree, or
/// each by itself.
const SUM: &str = "
override LANES: u32;
override GROUP: u32;
override QUADS: u32;
override LINE: u32;
@group(0) @binding(0) var<storage, read> p: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;
var<workgroup> parts: array<f32, GROUP>;

@compute @workgroup_size(GROUP)
fn sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let unit = (group.y * LINE + group.x) * (GROUP / LANES) + local / LANES;
    var total = vec4(0.0);
    for (var quad = lane; quad < QUADS; quad += LANES) {
        total += p[unit * QUADS + quad] + q[unit * QUADS + quad];
    }
    let one = (total.x + total.y) + (total.z + total.w);
    if (LANES == 1u) {
        sums[unit] = one;
    } else {
        parts[local] = one;
        for (var width = LANES / 2u; width > 0u; width /= 2u) {
            workgroupBarrier();
            if (lane < width) {
                parts[local] += parts[local + width];
            }
        }
        if (lane == 0u) {
            sums[unit] = parts[local];
        }
    }
}
";

struct Adapter {
    device: wgpu::Device,
    queue: wgpu::Queue,
    name: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test --benches` and `cargo bench -- --test` only want to know that it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let Ok(adapter) = pollster::block_on(instance.request_adapter(&Default::default())) else {
        println!("no adapter: nothing to measure");
        return Ok(());
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_limits: adapter.limits(),
        ..Default::default()
    }))?;
    let name = adapter.get_info().name;
    let adapter = Adapter { device, queue, name };
    println!("{}, GB/s of input, best run (median)", adapter.name);
    println!("{:>8} {:>22} {:>22} {:>22} {:>7}", "bins", "sum only", "probs", "logits", "ratio");
    for bins in LENGTHS {
        adapter.measure(bins, if measures { RUNS } else { 1 })?;
    }
    Ok(())
}

impl Adapter {
    fn measure(&self, bins: usize, runs: usize) -> Result<(), Box<dyn Error>> {
        let rows = BINS / bins;
        let sides = [1, 2].map(|seed| distributions(rows, bins, seed));
        let [p, q] = [&sides[0], &sides[1]].map(|side| self.filled(side));
        let values = self.buffer(4 * rows.max(BINS / 4));
        let mut works: Vec<(&str, Work<'_>)> = Vec::new();
        for (lanes, group) in [(1, 64), (16, 16), (64, 64), (256, 256)] {
            let works_on = (bins / 4).clamp(1, UNIT);
            if bins.is_power_of_two() && lanes <= works_on {
                works.push(("sum", self.sum(&p, &q, &values, [lanes, group, works_on], &sides)?));
            }
        }
        for kind in [Kind::Probs, Kind::Logits] {
            let settings = Settings::of(Format::F32, kind, kind);
            let mut kernels = Rows::new(&self.device, settings)?;
            let numbers = |side: &Array2<f32>| match kind {
                Kind::Probs => side.clone(),
                _ => side.mapv(|p| p * bins as f32),
            };
            let sides = [&sides[0], &sides[1]].map(numbers);
            let [p, q] = [&sides[0], &sides[1]].map(|side| self.filled(side));
            let output = values.clone();
            let mut work: Work<'_> = Box::new(move |encoder| {
                let (p, q, values) = (p.slice(..), q.slice(..), output.slice(..));
                Ok(kernels.encode(encoder, &Task { p, q, bins, values, statuses: None })?)
            });
            self.run(&mut work)?;
            let batch = Batch::of(kind, &sides[0], kind, &sides[1])?;
            let want = Engine::cpu().rows(Divergence::Kl, &batch)?.values;
            for (got, want) in self.read(&values, rows)?.into_iter().zip(want) {
                let right = (got - want).abs() <= 4e-6 * want;
                assert!(right, "{kind}, {bins} bins: {got:e}, not {want:e}");
            }
            works.push((kind.name(), work));
        }
        let mut seconds = vec![Vec::new(); works.len()];
        for _ in 0..runs {
            for ((_, work), seconds) in works.iter_mut().zip(&mut seconds) {
                seconds.push(self.run(work)?);
            }
        }
        let gigabytes = (2 * 4 * rows * bins) as f64 / 1e9;
        let mut of_kind = |name: &str| {
            let mut best = (0.0, 0.0);
            for (work, seconds) in works.iter().zip(&mut seconds) {
                seconds.sort_by(f64::total_cmp);
                let speeds = (gigabytes / seconds[0], gigabytes / seconds[seconds.len() / 2]);
                best = if work.0 == name && speeds.0 > best.0 { speeds } else { best };
            }
            best
        };
        let [sum, probs, logits] = ["sum", "probs", "logits"].map(&mut of_kind);
        let shown = |(best, median): (f64, f64)| format!("{best:.2} ({median:.2})");
        let ratio = if sum.0 > 0.0 { format!("{:.2}", probs.0 / sum.0) } else { "".into() };
        println!(
            "{bins:>8} {:>22} {:>22} {:>22} {ratio:>7}",
            shown(sum),
            shown(probs),
            shown(logits)
        );
        Ok(())
    }

    /// The sum-only kernel, checked.
    fn sum<'a>(
        &'a self,
        p: &wgpu::Buffer,
        q: &wgpu::Buffer,
        sums: &wgpu::Buffer,
        [lanes, group, quads]: [usize; 3],
        sides: &[Array2<f32>; 2],
    ) -> Result<Work<'a>, Box<dyn Error>> {
        let units = BINS / 4 / quads;
        let groups = units * lanes / group;
        let line = groups.min(1 << 15);
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("sum"),
            source: wgpu::ShaderSource::Wgsl(SUM.into()),
        });
        let constants = [("LANES", lanes), ("GROUP", group), ("QUADS", quads), ("LINE", line)];
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("sum"),
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants.map(|(name, value)| (name, value as f64)),
                ..Default::default()
            },
            cache: None,
        });
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: p.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: q.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 2, resource: sums.as_entire_binding() },
            ],
        });
        let mut work: Work<'a> = Box::new(move |encoder| {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(line as u32, (groups / line) as u32, 1);
            Ok(())
        });
        self.run(&mut work)?;
        let [p, q] = [0, 1].map(|side: usize| sides[side].as_slice().unwrap_or_default());
        let want = p
            .chunks(4 * quads)
            .zip(q.chunks(4 * quads))
            .map(|(p, q)| p.iter().chain(q).map(|&bin| f64::from(bin)).sum::<f64>());
        for (got, want) in self.read(sums, units)?.into_iter().zip(want) {
            assert!((f64::from(got) - want).abs() < 1e-4 * want, "the sum is {got}, not {want}");
        }
        Ok(work)
    }

    /// Seconds from the submission to its end.
    fn run(&self, work: &mut Work<'_>) -> Result<f64, Box<dyn Error>> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        work(&mut encoder)?;
        let commands = encoder.finish();
        let started = Instant::now();
        self.queue.submit([commands]);
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn buffer(&self, bytes: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage: Usages::STORAGE | Usages::COPY_DST | Usages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    fn filled(&self, side: &Array2<f32>) -> wgpu::Buffer {
        let bytes = bytemuck::cast_slice(side.as_slice().unwrap_or_default());
        let buffer = self.buffer(bytes.len());
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    fn read(&self, from: &wgpu::Buffer, count: usize) -> Result<Vec<f32>, Box<dyn Error>> {
        let copy = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * count as u64,
            usage: Usages::COPY_DST | Usages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(from, 0, &copy, 0, Some(4 * count as u64));
        encoder.map_buffer_on_submit(&copy, wgpu::MapMode::Read, .., |_| ());
        self.queue.submit([encoder.finish()]);
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(bytemuck::pod_collect_to_vec(&copy.get_mapped_range(..)?))
    }
}

/// Records something to be timed.
type Work<'a> = Box<dyn FnMut(&mut wgpu::CommandEncoder) -> Result<(), Box<dyn Error>> + 'a>;

fn distributions(rows: usize, bins: usize, seed: u32) -> Array2<f32> {
    let weight = |(row, bin): (usize, usize)| {
        let mixed = (row * bins + bin) as u32 ^ seed.wrapping_mul(0x85eb_ca6b);
        (mixed.wrapping_mul(0x9e37_79b9) >> 8) as f32 + 1.0
    };
    let mut rows = Array2::from_shape_fn((rows, bins), weight);
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let mass: f64 = row.iter().map(|&weight| f64::from(weight)).sum();
        row.mapv_inplace(|weight| (f64::from(weight) / mass) as f32);
    }
    rows
}
