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

use files::Error;
use files::matrix::Matrix;

/// Memory that a reader may take beside the file, or beside the values that it is asked for.
pub const EXTRA: usize = 1 << 20;

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
