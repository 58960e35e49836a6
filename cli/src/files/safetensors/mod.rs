//! The .safetensors files of models: a header in JSON that names tensors, and then their values.
//!
//! All of a header is checked, by the rules of the reference implementation, and only the tensor
//! that is asked for is read. Two tensors of one name are refused too, of which that takes the last.

use std::io::Read;
use std::path::Path;

use super::matrix::{Layout, Matrix};
use super::{Error, Fault, excerpt, regular};
use header::{Info, PREFIX, Tensor};

mod header;

/// The longest header that is read, as by the reference implementation.
const HEADER_LIMIT: u64 = 100_000_000;

/// How many tensors an error lists.
const LISTED: usize = 5;

/// Opens a file, checks its header, and finds a tensor: without a name, the only one that there is.
pub fn open(path: &Path, name: Option<&str>) -> Result<Matrix, Error> {
    let (file, len) = regular::open(path)?;
    let layout = layout(path, &file, len, name)?;
    Ok(Matrix::new(path, file, len, layout))
}

/// Reads and checks the header of a file of this length, and tells where a tensor is.
pub fn layout(path: &Path, file: impl Read, len: u64, name: Option<&str>) -> Result<Layout, Error> {
    let text = header_text(path, file, len)?;
    let mut tensors = header::parse(&text).map_err(|fault| fault.of(path))?;
    let start = (PREFIX + text.len()) as u64;
    check(path, &mut tensors, start, len)?;
    let tensor = choose(path, &tensors, name)?;
    matrix(&tensor.info, start).map_err(|problem| refused(path, tensor, problem))
}

/// Reads the header, once its length has been held against a limit and the length of the file.
fn header_text(path: &Path, mut file: impl Read, len: u64) -> Result<Vec<u8>, Error> {
    let too_short = |end: u64| {
        let problem = format!("expected a header up to byte {end}, found the end of the file");
        Fault { offset: len as usize, problem }.of(path)
    };
    let after = len.checked_sub(PREFIX as u64).ok_or_else(|| too_short(PREFIX as u64))?;
    let mut size = [0; PREFIX];
    file.read_exact(&mut size).map_err(Error::io(path, "read"))?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_LIMIT {
        let problem = format!("expected a header of at most {HEADER_LIMIT} bytes, found {size}");
        return Err(Fault { offset: 0, problem }.of(path));
    }
    if size > after {
        return Err(too_short(PREFIX as u64 + size));
    }
    let (mut text, bytes) = (Vec::new(), size as usize);
    text.try_reserve_exact(bytes).map_err(|_| Error::Memory { path: path.into(), bytes })?;
    text.resize(bytes, 0);
    file.read_exact(&mut text).map_err(Error::io(path, "read"))?;
    Ok(text)
}

/// Holds the tensors against each other, and against the length of the file: the values of one
/// follow those of another, without holes, from the end of the header to the end of the file.
fn check(path: &Path, tensors: &mut [Tensor<'_>], start: u64, len: u64) -> Result<(), Error> {
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(twice) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(refused(path, &twice[0], "its name is there twice".into()));
    }
    tensors.sort_unstable_by(|a, b| {
        a.info.data_offsets.cmp(&b.info.data_offsets).then_with(|| a.name.cmp(&b.name))
    });
    let mut end = 0;
    for tensor in tensors {
        let (from, to) = tensor.info.data_offsets;
        let bytes = tensor.info.bytes();
        if from != end {
            let problem = format!("its data begin at {from}, where those before it end at {end}");
            return Err(refused(path, tensor, problem));
        }
        if bytes.is_none() || to.checked_sub(from) != bytes {
            let bytes = bytes.map_or("no possible number of".into(), |bytes| bytes.to_string());
            let problem =
                format!("its shape calls for {bytes} bytes, its data_offsets are [{from}, {to}]");
            return Err(refused(path, tensor, problem));
        }
        end = to;
    }
    match start.saturating_add(end) {
        expected if expected == len => Ok(()),
        expected => Err(Error::Length { path: path.into(), expected, found: len }),
    }
}

/// The tensor of a name, or the only one.
fn choose<'a, 'b>(
    path: &Path,
    tensors: &'a [Tensor<'b>],
    name: Option<&str>,
) -> Result<&'a Tensor<'b>, Error> {
    let problem = match (name, tensors) {
        (None, [only]) => return Ok(only),
        (None, _) => "name one of its tensors, as in FILE.safetensors:TENSOR".into(),
        (Some(name), _) => match tensors.iter().find(|tensor| tensor.name == name) {
            Some(tensor) => return Ok(tensor),
            None => format!("has no tensor {}", quote(name)),
        },
    };
    let names: Vec<_> = tensors.iter().take(LISTED).map(|tensor| quote(&tensor.name)).collect();
    let names = match tensors.len() {
        0 => "none".into(),
        all if all > LISTED => format!("{} and {} more", names.join(", "), all - LISTED),
        _ => names.join(", "),
    };
    Err(Error::Choice { path: path.into(), problem: format!("{problem}; it has {names}") })
}

/// Where the values of a tensor are, if it is a matrix of a type that is supported.
fn matrix(info: &Info, start: u64) -> Result<Layout, String> {
    let dtype = info.dtype.supported().ok_or_else(|| {
        let found = info.dtype.name;
        format!("dtype {found} is not supported: save as F16, BF16, F32 or F64")
    })?;
    let (rows, bins) = match (info.shape.dims, info.shape.first) {
        (1, [bins, _]) => (1, bins),
        (2, [rows, bins]) => (rows, bins),
        (dims, _) => {
            return Err(format!(
                "expected a shape [bins] or [rows, bins], found {dims} dimensions"
            ));
        }
    };
    // No length of the file would bound the number of such rows.
    if rows > 0 && bins == 0 {
        return Err("expected at least one bin in a row".into());
    }
    let shape = usize::try_from(rows).ok().zip(usize::try_from(bins).ok());
    let shape = shape.filter(|&(rows, bins)| Layout::fits(rows, bins, dtype));
    let (rows, bins) =
        shape.ok_or_else(|| format!("memory could not hold its shape [{rows}, {bins}]"))?;
    let start = start + info.data_offsets.0;
    Ok(Layout { dtype, big_endian: false, fortran: false, rows, bins, start })
}

fn refused(path: &Path, tensor: &Tensor<'_>, problem: String) -> Error {
    Error::Tensor { path: path.into(), tensor: quote(&tensor.name), problem }
}

fn quote(name: &str) -> String {
    match name {
        "" => "''".into(),
        _ => format!("'{}'", excerpt(name.as_bytes())),
    }
}

#[cfg(test)]
mod tests;
