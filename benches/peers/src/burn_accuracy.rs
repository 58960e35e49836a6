//! The rows that the example `accuracy` drew, by burn: D(P‖Q) of each row in the row's own type, as
//! burn's `KLDivLoss` has it. Writes `burn.json` into the folder that it is given.

use std::error::Error;
use std::fs;
use std::path::Path;

use burn::nn::loss::KLDivLoss;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use half::{bf16, f16};
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("the folder of the rows is missing")?;
    let folder = Path::new(&folder);
    let manifest: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)?;
    let mut values = Map::new();
    for cell in &manifest {
        values.insert(text(cell, "id")?.to_owned(), divergences(folder, cell)?.into());
    }
    let about = format!("burn {}, Flex backend, on the CPU", contest::version("burn"));
    let answers = json!({ "about": about, "values": values });
    Ok(fs::write(folder.join("burn.json"), answers.to_string())?)
}

/// One divergence per row of a cell.
fn divergences(folder: &Path, cell: &Value) -> Result<Vec<f64>, Box<dyn Error>> {
    let (p, q) = (rows(folder, cell, "p")?, rows(folder, cell, "q")?);
    let (p_kind, q_kind) = (text(cell, "p_kind")?, text(cell, "q_kind")?);
    let loss = KLDivLoss { log_target: p_kind != "probs" };
    let target = if p_kind == "probs" { probs(p) } else { log_softmax(p, 1) };
    let prediction = if q_kind == "probs" { probs(q).log() } else { log_softmax(q, 1) };
    let terms = loss.forward_no_reduction(prediction, target);
    Ok(terms.sum_dim(1).into_data().iter::<f64>().collect())
}

/// The rows divided by their sums.
fn probs(rows: Tensor<2>) -> Tensor<2> {
    rows.clone() / rows.sum_dim(1)
}

fn rows(folder: &Path, cell: &Value, side: &str) -> Result<Tensor<2>, Box<dyn Error>> {
    let bytes = fs::read(folder.join(text(cell, side)?))?;
    let shape = ["rows", "bins"].map(|name| cell[name].as_u64().unwrap_or_default() as usize);
    Ok(match text(cell, "type")? {
        "f16" => tensor::<f16>(&bytes, shape),
        "bf16" => tensor::<bf16>(&bytes, shape),
        "f32" => tensor::<f32>(&bytes, shape),
        _ => tensor::<f64>(&bytes, shape),
    })
}

fn tensor<T: Element + bytemuck::Pod>(bytes: &[u8], shape: [usize; 2]) -> Tensor<2> {
    let data = TensorData::new(bytemuck::pod_collect_to_vec::<u8, T>(bytes), shape);
    let dtype: DType = T::dtype();
    Tensor::from_data(data, (&Device::flex(), dtype))
}

fn text<'a>(cell: &'a Value, name: &str) -> Result<&'a str, String> {
    cell[name].as_str().ok_or(format!("the manifest lacks {name}"))
}
