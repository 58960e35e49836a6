//! Files of matrices: what their formats have in common.
//!
//! Nothing that a header declares is believed before it is held against the length of the file, and
//! no memory is asked for before that: a hostile file costs an error, never an abort.

use std::io;
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use half::{bf16, f16};

#[cfg(test)]
mod bad_files;
pub mod matrix;
pub mod npy;
pub mod regular;
pub mod rows;
pub mod safetensors;
pub mod source;
#[cfg(test)]
mod testing;
pub mod whole;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {error}")]
    Io { path: PathBuf, action: &'static str, error: io::Error },
    /// The path leads to what has no length of its own, or cannot be replaced.
    #[error("{path}: is {found}, where a regular file is needed")]
    NotRegular { path: PathBuf, found: &'static str },
    /// The header breaks a rule of the format, or asks for what is not supported.
    #[error("{path}: byte {offset}: {problem}")]
    Header { path: PathBuf, offset: usize, problem: String },
    /// A tensor breaks a rule of the format, or is not supported.
    #[error("{path}: tensor {tensor}: {problem}")]
    Tensor { path: PathBuf, tensor: String, problem: String },
    /// The file has no such tensor, or several of which none was named.
    #[error("{path}: {problem}")]
    Choice { path: PathBuf, problem: String },
    /// The file ends before its data do, or goes on after them.
    #[error("{path}: has {found} bytes, where its header calls for {expected}")]
    Length { path: PathBuf, expected: u64, found: u64 },
    /// The data do not fit in memory.
    #[error("{path}: no memory for its {bytes} bytes of data")]
    Memory { path: PathBuf, bytes: usize },
    /// The file was read as the type that it does not hold.
    #[error("{path}: holds {found:?}, where {expected:?} is read")]
    Item { path: PathBuf, expected: Dtype, found: Dtype },
}

impl Error {
    fn io(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Error {
        move |error| Error::Io { path: path.into(), action, error }
    }
}

/// What is wrong with a header, and where in the file.
struct Fault {
    offset: usize,
    problem: String,
}

impl Fault {
    fn of(self, path: &Path) -> Error {
        Error::Header { path: path.into(), offset: self.offset, problem: self.problem }
    }
}

/// The type of a file's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754's half precision: NumPy's float16.
    F16,
    /// The upper half of an F32: NumPy has no such type.
    BF16,
    /// Single precision: NumPy's float32.
    F32,
    /// Double precision: NumPy's float64.
    F64,
}

impl Dtype {
    fn size(self) -> usize {
        match self {
            Dtype::F16 => size_of::<f16>(),
            Dtype::BF16 => size_of::<bf16>(),
            Dtype::F32 => size_of::<f32>(),
            Dtype::F64 => size_of::<f64>(),
        }
    }
}

/// A value that a file can hold.
pub trait Item: Pod + Send {
    /// Its type in the file.
    const DTYPE: Dtype;
}

impl Item for f16 {
    const DTYPE: Dtype = Dtype::F16;
}

impl Item for bf16 {
    const DTYPE: Dtype = Dtype::BF16;
}

impl Item for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Item for f64 {
    const DTYPE: Dtype = Dtype::F64;
}

/// Shows what a file holds, in short and safely on a terminal.
fn excerpt(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.get(..60).unwrap_or(text).utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                // Quotes need no escape outside a literal.
                '\'' | '"' => shown.push(char),
                _ if char.escape_debug().len() == 1 => shown.push(char),
                _ => shown += &escape(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        shown += &escape(chunk.invalid());
    }
    match text.len() {
        0 => "nothing".into(),
        1..=60 => shown,
        _ => shown + "...",
    }
}

/// A text, safe on a terminal: the name of a file, too, can hold what would steer it.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    shown
}

fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
