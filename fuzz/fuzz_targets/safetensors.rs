//! Any bytes as a .safetensors file: accepted and refused as by the reference implementation, and
//! every matrix has the bytes that it finds.
//!
//! Three differences are meant:
//! - Two tensors of one name are refused, of which the reference takes the last.
//! - An end of the data that overflows is refused; the reference adds without a check, and may find
//!   that the wrapped sum fits.
//! - The reference has the whole file in memory; here a header is at most as long as the file all the
//!   same, but is refused before it is read where it is longer than 100 MB. No input is.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use kullback_fuzz::files::safetensors::open;
use kullback_fuzz::files::{Dtype, Error};
use kullback_fuzz::{EXTRA, Scratch, peak, values};
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// The name of no tensor: a header that is found good is then refused for the lack of it alone.
const NONE: &str = "no tensor has this name";

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);

fuzz_target!(|file: &[u8]| {
    let path = SCRATCH.of(file);
    let (opened, taken) = peak(|| open(path, Some(NONE)));
    // Few bytes of a header make a tensor.
    assert!(taken <= 2 * file.len() + EXTRA, "{taken} bytes for a file of {}", file.len());
    let error = opened.expect_err("no tensor has this name");
    let message = error.to_string();
    assert!(message.starts_with(&*path.to_string_lossy()), "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
    match (&error, SafeTensors::read_metadata(file)) {
        (Error::Choice { .. }, Ok(_)) => {}
        (Error::Choice { .. }, Err(theirs)) => panic!("the reference refuses: {theirs}"),
        (_, Err(_)) => return,
        (Error::Tensor { problem, .. }, Ok(_)) if problem == "its name is there twice" => return,
        (Error::Length { .. }, Ok((header, theirs))) => {
            let ends = theirs.tensors().into_values().map(|tensor| tensor.data_offsets.1);
            let end = ends.max().and_then(|end| end.checked_add(8 + header));
            assert_eq!(end, None, "{message}");
            return;
        }
        (_, Ok(_)) => panic!("the reference accepts: {message}"),
    }
    let theirs = SafeTensors::deserialize(file).expect("the same header");
    let tensors = theirs.tensors();
    match &tensors[..] {
        [] => assert!(matches!(open(path, None), Err(Error::Choice { .. }))),
        // Without a name, the only one that there is.
        [(_, tensor)] => check(path, None, tensor),
        // Another one for another length, and never all: to open files is what takes the time.
        several => {
            let (name, tensor) = &several[file.len() % several.len()];
            check(path, Some(name), tensor);
        }
    }
});

/// Holds a tensor against the reference's.
fn check(path: &Path, name: Option<&str>, theirs: &TensorView<'_>) {
    let matrix = match open(path, name) {
        Ok(matrix) => matrix,
        Err(Error::Tensor { problem, .. }) => {
            assert!(!is_matrix(theirs), "{problem}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert!(is_matrix(theirs));
    let layout = *matrix.layout();
    let ours = match layout.dtype {
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::BF16 => safetensors::Dtype::BF16,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F64 => safetensors::Dtype::F64,
    };
    assert_eq!(ours, theirs.dtype());
    let shape = [layout.rows, layout.bins];
    assert!(shape == theirs.shape() || theirs.shape() == [layout.bins] && layout.rows == 1);
    if cfg!(target_endian = "little") {
        assert_eq!(values(matrix).expect("it was opened"), theirs.data());
    }
}

/// Whether a tensor is a matrix of a type that is read, and no larger than memory could be.
fn is_matrix(tensor: &TensorView<'_>) -> bool {
    use safetensors::Dtype;

    let size: usize = match tensor.dtype() {
        Dtype::F16 | Dtype::BF16 => 2,
        Dtype::F32 => 4,
        Dtype::F64 => 8,
        _ => return false,
    };
    match *tensor.shape() {
        [0, bins] => bins.checked_mul(size).is_some_and(|bytes| bytes <= isize::MAX as usize),
        [bins] => bins > 0,
        [_, bins] => bins > 0,
        _ => false,
    }
}
