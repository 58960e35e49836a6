//! The tools that are Rust libraries, each used as its users would.

use burn::nn::loss::KLDivLoss;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use kullback::{Batch, Divergence, Engine};
use ndarray::Array2;
use ndarray_stats::EntropyExt;
use numkong::KullbackLeibler;
use rayon::prelude::*;

use contest::{Case, Kind, Tool, Values, version};

/// The tool of a name, or why it cannot take part.
pub fn open(name: &str, case: &Case, sides: [Vec<f32>; 2]) -> Result<Tool, String> {
    match name {
        "read" => Ok(read(sides)),
        "cpu" => kullback(Engine::cpu(), case, sides),
        "gpu" => kullback(Engine::gpu().map_err(text)?, case, sides),
        "burn-flex" => burn(Device::flex(), "Flex backend", case, sides),
        "burn-ndarray" => burn(Device::ndarray(), "ndarray backend", case, sides),
        "burn-wgpu" => {
            let adapter = Engine::gpu().map_err(text)?;
            let on = format!("wgpu backend, {}", adapter_name(&adapter));
            burn(Device::wgpu(DeviceKind::DefaultDevice), &on, case, sides)
        }
        "ndarray-stats" => ndarray_stats(case, sides),
        "numkong" => numkong(case, sides),
        other => Err(format!("there is no tool {other}")),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The speed limit.
fn read([p, q]: [Vec<f32>; 2]) -> Tool {
    Tool::new("reads both sides and adds their words as integers".into()).with("sum", move || {
        std::hint::black_box(contest::read(&p, &q));
        Ok(Values::None)
    })
}

fn kullback(engine: Engine, case: &Case, sides: [Vec<f32>; 2]) -> Result<Tool, String> {
    let [p, q] = matrices(case, sides)?;
    let on = if engine.backend() == "cpu" {
        "CPU backend".into()
    } else {
        format!("GPU backend, {}; from host memory, with the upload", adapter_name(&engine))
    };
    let kind = case.kind;
    let tool = Tool::new(format!("kullback {}, {on}", version("kullback")));
    Ok(tool.with("rows", move || {
        let batch = match kind {
            Kind::Probs => Batch::probs(&p, &q),
            Kind::Logits => Batch::logits(&p, &q),
        };
        let outcome = engine.rows(Divergence::Kl, &batch.map_err(text)?).map_err(text)?;
        Ok(Values::F32(outcome.values.into_raw_vec_and_offset().0))
    }))
}

fn adapter_name(engine: &Engine) -> String {
    let name = |adapter: &kullback::Adapter| {
        format!("{}; {}; {}", adapter.name(), adapter.driver(), adapter.api())
    };
    engine.adapter().map(name).unwrap_or_default()
}

fn matrices(case: &Case, [p, q]: [Vec<f32>; 2]) -> Result<[Array2<f32>; 2], String> {
    let matrix = |side| Array2::from_shape_vec((case.rows, case.bins), side).map_err(text);
    Ok([matrix(p)?, matrix(q)?])
}

/// The tensors lie on the device before the clock starts; the divergences come back to the host.
fn burn(device: Device, on: &str, case: &Case, sides: [Vec<f32>; 2]) -> Result<Tool, String> {
    let shape = [case.rows, case.bins];
    let [p, q] = sides.map(|side| Tensor::<2>::from_data(TensorData::new(side, shape), &device));
    device.sync().map_err(|error| format!("{error:?}"))?;
    let values = |terms: Tensor<2>| {
        let sums = terms.sum_dim(1).into_data().to_vec::<f32>();
        sums.map(Values::F32).map_err(|error| format!("{error:?}"))
    };
    let kind = case.kind;
    let (p2, q2) = (p.clone(), q.clone());
    let tool = Tool::new(format!("burn {}, {on}", version("burn"))).with("KLDivLoss", move || {
        let (p, q) = (p.clone(), q.clone());
        values(match kind {
            Kind::Probs => KLDivLoss { log_target: false }.forward_no_reduction(q.log(), p),
            Kind::Logits => {
                let (p, q) = (log_softmax(p, 1), log_softmax(q, 1));
                KLDivLoss { log_target: true }.forward_no_reduction(q, p)
            }
        })
    });
    match kind {
        Kind::Logits => Ok(tool),
        Kind::Probs => Ok(tool.with("p * (p / q).log()", move || {
            let (p, q) = (p2.clone(), q2.clone());
            values(p.clone() * (p / q).log())
        })),
    }
}

/// One call per row, and the rows spread over the threads by rayon.
fn ndarray_stats(case: &Case, sides: [Vec<f32>; 2]) -> Result<Tool, String> {
    only_probs(case)?;
    let [p, q] = matrices(case, sides)?;
    let tool = Tool::new(format!("ndarray-stats {}, rows by rayon", version("ndarray-stats")));
    Ok(tool.with("kl_divergence", move || {
        let row = |row| p.row(row).kl_divergence(&q.row(row)).map_err(text);
        (0..p.nrows()).into_par_iter().map(row).collect::<Result<_, _>>().map(Values::F32)
    }))
}

/// One call per row, and the rows spread over the threads by rayon.
fn numkong(case: &Case, [p, q]: [Vec<f32>; 2]) -> Result<Tool, String> {
    only_probs(case)?;
    let bins = case.bins;
    let tool = Tool::new(format!("numkong {}, rows by rayon", version("numkong")));
    Ok(tool.with("kullbackleibler", move || {
        let row = |(p, q)| f32::kullbackleibler(p, q).ok_or("the lengths differ".to_owned());
        let rows = p.par_chunks(bins).zip(q.par_chunks(bins));
        rows.map(row).collect::<Result<_, _>>().map(Values::F64)
    }))
}

fn only_probs(case: &Case) -> Result<(), String> {
    match case.kind {
        Kind::Probs => Ok(()),
        Kind::Logits => Err("takes no logits".into()),
    }
}
