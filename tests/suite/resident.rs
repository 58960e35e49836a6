//! Results that stay on a device of the application's own, read back here by the tests alone.

use kullback::internal::resident_under;
use kullback::plan::Limits;
use kullback::resident::{Format, Rows, Settings, Status, Task, wgpu};
use kullback::{Batch, Divergence, Element, Engine, Error, Kind, Mass, OnInvalid};
use ndarray::Array2;
use std::sync::OnceLock;
use wgpu::BufferUsages as Usages;

use crate::compare::{F32, LOGS, close};
use crate::data::{distributions, nearby};
use crate::golden;

/// What hardware is planned for, and what splits rows of a few hundred bins.
const HARDWARE: Limits = Limits {
    binding_bytes: 128 << 20,
    grid: 65_535,
    workgroup_size: 256,
    lanes: 256,
    chunk_bytes: 0,
};
const TINY: Limits =
    Limits { binding_bytes: 1 << 20, grid: 30, workgroup_size: 2, lanes: 2, chunk_bytes: 0 };

/// The application: a device, and buffers on it.
struct App {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

fn app() -> &'static App {
    static APP: OnceLock<App> = OnceLock::new();
    APP.get_or_init(|| {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        let instance = wgpu::Instance::new(descriptor);
        let adapter = pollster::block_on(instance.request_adapter(&Default::default()));
        let adapter = adapter.expect("the tests need an adapter: see the README");
        let opened = pollster::block_on(adapter.request_device(&Default::default()));
        let (device, queue) = opened.expect("the adapter opens");
        App { device, queue }
    })
}

impl App {
    fn buffer(&self, bytes: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage: Usages::STORAGE | Usages::COPY_DST | Usages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    fn filled<T: Element>(&self, side: &Array2<T>) -> wgpu::Buffer {
        let bytes = bytemuck::cast_slice(side.as_slice().unwrap());
        let buffer = self.buffer(bytes.len());
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<u32> {
        let copy = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: buffer.size(),
            usage: Usages::COPY_DST | Usages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, None);
        encoder.map_buffer_on_submit(&copy, wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
        self.queue.submit([encoder.finish()]);
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        bytemuck::pod_collect_to_vec(&copy.get_mapped_range(..).unwrap())
    }

    /// Values and statuses of some rows.
    fn run<T: Element>(&self, rows: &mut Rows, p: &Array2<T>, q: &Array2<T>) -> Vec<(f32, Status)> {
        let count = p.nrows().max(q.nrows());
        let (p_buffer, q_buffer) = (self.filled(p), self.filled(q));
        let (values, statuses) = (self.buffer(4 * count), self.buffer(4 * count));
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let task = Task {
            p: p_buffer.slice(..),
            q: q_buffer.slice(..),
            bins: p.ncols(),
            values: values.slice(..),
            statuses: Some(statuses.slice(..)),
        };
        rows.encode(&mut encoder, &task).unwrap();
        self.queue.submit([encoder.finish()]);
        let values = self.read(&values).into_iter().map(f32::from_bits);
        let statuses =
            self.read(&statuses).into_iter().map(|word| Status::from_word(word).unwrap());
        values.zip(statuses).collect()
    }

    /// The kernels for this device as it is, as hardware is planned for, and with splits.
    fn variants(&self, settings: Settings) -> [Rows; 3] {
        [
            Rows::new(&self.device, settings).unwrap(),
            resident_under(&self.device, settings, HARDWARE).unwrap(),
            resident_under(&self.device, settings, TINY).unwrap(),
        ]
    }
}

#[test]
fn golden_rows() {
    let app = app();
    let (mut right, mut lacking) = (0, 0);
    for &mass in Mass::ALL {
        for rows in &mut app.variants(Settings::probs(Format::F32).with_mass(mass)) {
            for row in golden::rows("f32") {
                let bits = |bits| f32::from_bits(bits as u32);
                let side = |hex: &str| {
                    let side = golden::values(hex, 8, bits);
                    Array2::from_shape_vec((1, side.len()), side).unwrap()
                };
                let want = golden::number(match mass {
                    Mass::Check | Mass::Normalize => &row.check,
                    Mass::AsGiven => &row.as_given,
                    Mass::Generalized => &row.generalized,
                });
                if mass == Mass::Check && row.policy != "check" {
                    continue;
                }
                let (value, status) = app.run(rows, &side(&row.p), &side(&row.q))[0];
                let what = format!("{mass}, {}: {value:e} and {status:?}, not {want:e}", row.name);
                match status {
                    Status::Ok => assert!(close(value.into(), want, F32), "{what}"),
                    Status::Infinite => {
                        assert!(want.is_infinite() && value == f32::INFINITY, "{what}")
                    }
                    Status::LacksDigits => lacking += 1,
                    _ => panic!("{what}"),
                }
                right += usize::from(status != Status::LacksDigits);
            }
        }
    }
    assert!(right > 3 * lacking, "{right} rows are right, and {lacking} lack digits");
}

/// Lengths with and without a rest beyond vector loads, of one segment and of several.
const LENGTHS: [usize; 12] = [1, 2, 3, 4, 7, 8, 61, 257, 1_000, 1_025, 5_000, 70_001];

fn held_against_the_cpu<T: Element<Value = f32>>(
    settings: Settings,
    batch: &Batch<'_, T>,
    sides: [&Array2<T>; 2],
    tolerance: f64,
) {
    let batch = batch.with_on_invalid(OnInvalid::Nan);
    let want = Engine::cpu().rows(Divergence::Kl, &batch).unwrap();
    let [p, q] = sides;
    for rows in &mut app().variants(settings) {
        let got = app().run(rows, p, q);
        assert_eq!(got.len(), want.values.len());
        for ((got, status), &want) in got.into_iter().zip(&want.values) {
            let what = format!("{settings:?}, {} bins: {got:e}, not {want:e}", p.ncols());
            assert_eq!(status, Status::Ok, "{what}");
            assert!(close(got.into(), want.into(), tolerance), "{what}");
        }
    }
}

#[test]
fn rows_of_any_length() {
    for bins in LENGTHS {
        let rows = (20_000 / bins).clamp(2, 70);
        let p = distributions::<f32>(rows, bins, 1);
        // A single bin has nothing to differ in.
        let q = if bins == 1 { p.clone() } else { nearby(&p, 0.1, 2) };
        let batch = Batch::probs(&p, &q).unwrap();
        held_against_the_cpu(Settings::probs(Format::F32), &batch, [&p, &q], F32);
    }
}

#[test]
fn one_row_against_many_on_either_side() {
    for bins in [5, 64, 1_500] {
        let (one, many) = (distributions::<f32>(1, bins, 1), distributions::<f32>(9, bins, 2));
        let settings = Settings::probs(Format::F32);
        held_against_the_cpu(settings, &Batch::probs(&one, &many).unwrap(), [&one, &many], F32);
        held_against_the_cpu(settings, &Batch::probs(&many, &one).unwrap(), [&many, &one], F32);
    }
}

#[test]
fn numbers_of_16_bits() {
    for bins in [4, 64, 1_500] {
        let p = distributions::<half::f16>(9, bins, 1);
        let q = distributions::<half::f16>(9, bins, 2);
        let settings = Settings::probs(Format::F16).with_mass(Mass::Normalize);
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        held_against_the_cpu(settings, &batch, [&p, &q], F32);
        let side = |seed| {
            distributions::<half::bf16>(9, bins, seed)
                .mapv(|p| half::bf16::from_f32(p.to_f32().ln()))
        };
        let (p, q) = (side(1), side(2));
        let settings = Settings::of(Format::Bf16, Kind::Logits, Kind::Logits);
        held_against_the_cpu(settings, &Batch::logits(&p, &q).unwrap(), [&p, &q], LOGS);
    }
}

#[test]
fn every_pair_of_kinds() {
    for bins in [3, 64, 1_501] {
        let (p, q) = (distributions::<f32>(9, bins, 1), distributions::<f32>(9, bins, 2));
        let side = |kind, side: &Array2<f32>| match kind {
            Kind::Probs => side.clone(),
            Kind::LogProbs => side.mapv(f32::ln),
            Kind::Logits => side.mapv(|x| 1.3 * x.ln() + 100.0),
        };
        for &p_kind in Kind::ALL {
            for &q_kind in Kind::ALL {
                let (p, q) = (side(p_kind, &p), side(q_kind, &q));
                let mut settings = Settings::of(Format::F32, p_kind, q_kind);
                let mut batch = Batch::of(p_kind, &p, q_kind, &q).unwrap();
                if [p_kind, q_kind].contains(&Kind::Logits) {
                    settings = settings.with_temperature(1.3).unwrap();
                    batch = batch.with_temperature(1.3).unwrap();
                }
                held_against_the_cpu(settings, &batch, [&p, &q], LOGS);
            }
        }
    }
}

/// P, Q, and what becomes of them.
type Case = ([f32; 3], [f32; 3], Status);

#[test]
fn statuses_say_what_is_wrong() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let probs = [
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], Status::Ok),
        ([0.5, 0.5, 0.0], [0.5, 0.0, 0.5], Status::Infinite),
        ([0.5, nan, 0.0], [0.5, 0.0, 0.5], Status::InvalidBin),
        ([0.5, 0.5, 0.0], [1.5, -0.5, 0.0], Status::InvalidBin),
        ([0.5, 0.5, inf], [0.5, 0.0, 0.5], Status::InvalidBin),
        ([0.5, 0.6, 0.0], [0.5, 0.0, 0.5], Status::WrongMass),
        ([0.5, 0.5, 0.0], [0.0, 0.0, 0.0], Status::WrongMass),
        ([0.5, 0.501, 0.0], [0.5, 0.5, 0.0], Status::LacksDigits),
        // Here the masses alone do: nothing of the value cancels.
        ([0.5, 0.501, 0.0], [0.25, 0.75, 0.0], Status::LacksDigits),
    ];
    let logits = [
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], Status::Ok),
        ([0.5, 0.5, -inf], [0.5, -inf, 7.0], Status::Infinite),
        ([0.5, nan, -inf], [0.5, 0.0, 7.0], Status::InvalidBin),
        ([0.5, 0.0, -inf], [0.5, 0.0, inf], Status::InvalidBin),
        ([-1e5, -1e5, -1e5], [0.5, 0.0, 0.5], Status::LacksDigits),
        ([f32::MIN, f32::MIN, f32::MIN], [0.5, 0.0, 0.5], Status::LacksDigits),
        ([0.5, 0.0, 0.5], [-1e9, -1e9, 0.5], Status::LacksDigits),
        ([0.5, 0.0, 1e5], [0.5, 0.0, 0.5], Status::LacksDigits),
        ([-inf, -inf, -inf], [0.5, 0.5, 0.0], Status::NoMass),
        ([0.5, 0.5, 0.0], [-inf, -inf, -inf], Status::NoMass),
        ([1e6, 0.5, 0.0], [0.5, 0.0, 7.0], Status::LacksDigits),
        // A divergence of 1e-15, of which rounding has a part.
        ([0.0, 0.0, 0.0], [1e-7, 0.0, 0.0], Status::LacksDigits),
    ];
    // Out of the range in which f32 keeps what is small, or holds what is large.
    let generalized = [
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], Status::Ok),
        ([1e-20, 1e-20, 0.0], [0.5, 0.5, 0.0], Status::LacksDigits),
        ([0.5, 0.5, 0.0], [1e-20, 1e-20, 0.0], Status::LacksDigits),
        ([1e20, 0.0, 0.0], [1e20, 0.0, 0.0], Status::LacksDigits),
        // A divergence of some 1e-19 beside masses of 1/2.
        ([1e-5, 0.5, 0.0], [1.0000001e-5, 0.5, 0.0], Status::LacksDigits),
    ];
    let both_logits = Settings::of(Format::F32, Kind::Logits, Kind::Logits);
    for (settings, cases) in [
        (Settings::probs(Format::F32), &probs[..]),
        (both_logits, &logits[..]),
        // By the kernel that takes sides of any kinds.
        (both_logits.with_temperature(2.0).unwrap(), &logits[..]),
        (Settings::probs(Format::F32).with_mass(Mass::Generalized), &generalized[..]),
    ] {
        let side = |of: fn(&Case) -> [f32; 3]| {
            let bins = cases.iter().flat_map(of).collect();
            Array2::from_shape_vec((cases.len(), 3), bins).unwrap()
        };
        let (p, q) = (side(|case| case.0), side(|case| case.1));
        for rows in &mut app().variants(settings) {
            let got = app().run(rows, &p, &q);
            for ((value, status), (p, q, want)) in got.into_iter().zip(cases) {
                assert_eq!(status, *want, "{p:?} {q:?}");
                match status {
                    Status::Ok => assert_eq!(value, 0.0),
                    Status::Infinite => assert_eq!(value, inf),
                    Status::LacksDigits => {}
                    _ => assert!(value.is_nan(), "{p:?} {q:?}: {value}"),
                }
            }
        }
    }
}

/// Masses that differ, and what f32 can say of them.
#[test]
fn masses_of_any_ratio() {
    let p = distributions::<f32>(1, 1_000, 1);
    for ratio in [0.01, 0.5, 0.9, 1.1, 2.0, 100.0] {
        let q = distributions::<f32>(1, 1_000, 2).mapv(|q| ratio * q);
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        let want = Engine::cpu().rows(Divergence::Kl, &batch).unwrap().values[0];
        let settings = Settings::probs(Format::F32).with_mass(Mass::Normalize);
        let (value, status) =
            app().run(&mut Rows::new(&app().device, settings).unwrap(), &p, &q)[0];
        // Of much larger sums than the value itself digits are lost, and it says so.
        let tolerance = if status == Status::Ok { F32 } else { 1e-4 };
        assert!(
            close(value.into(), want.into(), tolerance),
            "{ratio}: {value} for {want}, {status:?}"
        );
        assert_eq!(status == Status::Ok, (0.9..=1.1).contains(&ratio), "{ratio}: {status:?}");
    }
}

/// Two tasks in one encoder share the memory in between, and a part of a buffer is as good as all.
#[test]
fn tasks_one_after_the_other() {
    let app = app();
    let (p, q) = (distributions::<f32>(192, 8, 1), distributions::<f32>(192, 8, 2));
    let want = Engine::cpu().kl(&p, &q).unwrap();
    let (p, q, values) = (app.filled(&p), app.filled(&q), app.buffer(4 * 192));
    let mut rows = Rows::new(&app.device, Settings::probs(Format::F32)).unwrap();
    let mut encoder = app.device.create_command_encoder(&Default::default());
    for part in 0..3_u64 {
        let bins = part * 64 * 8 * 4..(part + 1) * 64 * 8 * 4;
        let task = Task {
            p: p.slice(bins.clone()),
            q: q.slice(bins),
            bins: 8,
            values: values.slice(part * 256..(part + 1) * 256),
            statuses: None,
        };
        rows.encode(&mut encoder, &task).unwrap();
    }
    app.queue.submit([encoder.finish()]);
    for (got, want) in app.read(&values).into_iter().zip(want) {
        assert!(close(f32::from_bits(got).into(), want.into(), F32), "{got} for {want}");
    }
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let app = app();
    let (buffer, results) = (app.buffer(1 << 10), app.buffer(1 << 10));
    let other = app.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 1 << 10,
        usage: Usages::COPY_DST,
        mapped_at_creation: false,
    });
    let task = Task {
        p: buffer.slice(..96),
        q: buffer.slice(..96),
        bins: 8,
        values: results.slice(512..524),
        statuses: None,
    };
    let error = |format, task: Task<'_>| {
        let mut rows = Rows::new(&app.device, Settings::probs(format)).unwrap();
        let mut encoder = app.device.create_command_encoder(&Default::default());
        rows.encode(&mut encoder, &task).unwrap_err().to_string()
    };
    for (format, task, message) in [
        (Format::F32, Task { bins: 0, ..task }, "the rows have 0 bins"),
        (Format::F32, Task { bins: 7, ..task }, "P is 3 × 7 and Q is 3 × 7"),
        (Format::F32, Task { q: buffer.slice(..64), ..task }, "P is 3 × 8 and Q is 2 × 8"),
        (Format::F16, Task { bins: 6, ..task }, "16-bit rows of 6 bins"),
        (Format::F32, Task { values: results.slice(512..520), ..task }, "values of 3 rows"),
        (Format::F32, Task { values: buffer.slice(512..524), ..task }, "in the buffer of P or Q"),
        (Format::F32, Task { bins: 1 << 62, ..task }, "rows of 4611686018427387904 bins"),
        (Format::F32, Task { p: buffer.slice(4..100), ..task }, "P in 96 bytes from 4 on"),
        (Format::F32, Task { p: other.slice(..96), ..task }, "without the usage STORAGE"),
    ] {
        let got = error(format, task);
        assert!(got.contains(message), "{got}");
    }
    let settings = Settings::of(Format::F32, Kind::LogProbs, Kind::Probs).with_mass(Mass::AsGiven);
    assert!(matches!(Rows::new(&app.device, settings), Err(Error::Unsupported { .. })));
}
