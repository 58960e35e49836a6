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

use kullback_fuzz::files::Dtype;
use kullback_fuzz::files::matrix::Layout;
use kullback_fuzz::files::safetensors::{layout, open};
use kullback_fuzz::{Scratch, header, is_for_the_disk, values};
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// The name of no tensor: a header that is found good is then refused for the lack of it alone.
const NONE: &str = "no tensor has this name";

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);

fuzz_target!(|file: &[u8]| {
    let names = names(file);
    // Most only in memory, where the same code reads them in a third of the time.
    let memory = Path::new("memory");
    let len = file.len() as u64;
    let none = header(memory, file, || layout(memory, file, len, Some(NONE)));
    let error = none.expect_err("no tensor has this name");
    let ours = error.starts_with(": has no tensor 'no tensor has this name'; it has ");
    let twice = error.ends_with(": its name is there twice");
    assert!(ours == names.is_ok() || names.is_ok() && twice, "{error}: {names:?}");
    let (Ok(names), true) = (names, ours) else { return };
    let theirs = SafeTensors::deserialize(file).expect("the same header");
    // Without a name, the only one that there is; else another one for another length.
    let (name, tensor) = match &names[..] {
        [] => return,
        [only] => (None, only),
        several => {
            let name = &several[file.len() % several.len()];
            (Some(&name[..]), name)
        }
    };
    let tensor = theirs.tensor(tensor).expect("one of its names");
    let ours = header(memory, file, || layout(memory, file, len, name));
    check_layout(&ours, &tensor, file);
    if is_for_the_disk(file) {
        let path = SCRATCH.of(file);
        match header(path, file, || open(path, name)) {
            Ok(matrix) => {
                assert_eq!(Ok(*matrix.layout()), ours);
                assert_eq!(values(matrix).expect("it was opened"), tensor.data());
            }
            Err(error) => assert_eq!(Err(error), ours),
        }
    }
});

/// The tensors' names that the reference finds, if it accepts the file for what it is.
fn names(file: &[u8]) -> Result<Vec<String>, String> {
    let (header, theirs) = SafeTensors::read_metadata(file).map_err(|error| error.to_string())?;
    let tensors = theirs.tensors();
    let ends = tensors.values().map(|tensor| tensor.data_offsets.1);
    match ends.max().unwrap_or(0).checked_add(8 + header) {
        Some(_) => Ok(tensors.into_keys().collect()),
        None => Err("its end overflows".into()),
    }
}

/// Holds what the header says of a tensor against the reference.
fn check_layout(ours: &Result<Layout, String>, theirs: &TensorView<'_>, file: &[u8]) {
    assert_eq!(ours.is_ok(), is_matrix(theirs), "{ours:?}");
    let Ok(layout) = ours else { return };
    let dtype = match layout.dtype {
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::BF16 => safetensors::Dtype::BF16,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F64 => safetensors::Dtype::F64,
    };
    assert_eq!(dtype, theirs.dtype());
    let shape = [layout.rows, layout.bins];
    assert!(shape == theirs.shape() || theirs.shape() == [layout.bins] && layout.rows == 1);
    assert_eq!(&file[layout.start as usize..layout.end() as usize], theirs.data());
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
