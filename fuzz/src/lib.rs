//! What the fuzz targets share. The readers and the arguments are those of the command itself, which
//! is no library.

#[path = "../../cli/src/args.rs"]
pub mod args;
#[path = "../../cli/src/files/mod.rs"]
pub mod files;
#[path = "../../cli/src/memory.rs"]
pub mod memory;

mod peak;
mod scratch;

pub use peak::peak;
pub use scratch::Scratch;

use std::path::Path;

use files::Error;
use files::matrix::Matrix;

/// Memory that a reader may take beside the file, or beside the values that it is asked for.
pub const EXTRA: usize = 1 << 20;

/// Whether an input goes through a file too: one in 16, the same ones each time.
pub fn is_for_the_disk(input: &[u8]) -> bool {
    input.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)).is_multiple_of(16)
}

/// Reads a header, and holds the memory that it takes against the limit; or the message that it is
/// refused with, less the path that it must begin with.
pub fn header<T>(
    path: &Path,
    file: &[u8],
    read: impl FnOnce() -> Result<T, Error>,
) -> Result<T, String> {
    let (read, taken) = peak(read);
    // Few bytes of a header make a tensor.
    assert!(taken <= 2 * file.len() + EXTRA, "{taken} bytes for a file of {}", file.len());
    read.map_err(|error| {
        let message = error.to_string();
        let rest = message.strip_prefix(&*path.to_string_lossy()).expect("the path");
        assert!(rest.starts_with(": ") && !rest.contains(char::is_control), "{message:?}");
        rest.to_owned()
    })
}

/// Reads all values, each as its bytes on this machine, and holds the memory that it takes against
/// the limit.
pub fn values(matrix: Matrix) -> Result<Vec<u8>, Error> {
    use files::Dtype;
    use half::{bf16, f16};

    fn read<T: files::Item + kullback::Element>(matrix: Matrix) -> Result<Vec<u8>, Error> {
        let (rows, bins) = matrix.shape();
        let mut values = vec![T::zeroed(); rows * bins];
        let (read, taken) = peak(|| matrix.rows::<T>().read(0..rows, &mut values));
        // The room of a transposition, and the reader itself.
        assert!(taken <= EXTRA + 4096, "{taken} bytes to read {rows} × {bins}");
        read.map(|()| bytemuck::cast_slice(&values).to_vec())
    }

    match matrix.layout().dtype {
        Dtype::F16 => read::<f16>(matrix),
        Dtype::BF16 => read::<bf16>(matrix),
        Dtype::F32 => read::<f32>(matrix),
        Dtype::F64 => read::<f64>(matrix),
    }
}
