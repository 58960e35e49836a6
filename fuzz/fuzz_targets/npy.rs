//! Any bytes as a .npy file: refused with a message, or read as a second, simpler reading of them
//! says.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use kullback_fuzz::files::Dtype;
use kullback_fuzz::files::matrix::Layout;
use kullback_fuzz::files::npy;
use kullback_fuzz::{Scratch, header, is_for_the_disk, values};
use libfuzzer_sys::fuzz_target;

static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);

fuzz_target!(|file: &[u8]| {
    // Most only in memory, where the same code reads them in a third of the time.
    let in_memory = header(Path::new("memory"), file, || {
        npy::layout(Path::new("memory"), file, file.len() as u64)
    });
    if let Ok(layout) = &in_memory {
        check_header(layout, file);
    }
    if is_for_the_disk(file) {
        let path = SCRATCH.of(file);
        let opened = header(path, file, || npy::open(path));
        let opened = opened.map(|matrix| (*matrix.layout(), values(matrix)));
        match (opened, in_memory) {
            (Ok((layout, values)), Ok(same)) => {
                assert_eq!(layout, same);
                check_values(&layout, &values.expect("a file that was opened is read"), file);
            }
            (Err(error), Err(same)) => assert_eq!(error, same),
            (disk, memory) => panic!("{disk:?}, and in memory {memory:?}"),
        }
    }
});

/// Reads the header of a file that was accepted, in which nothing can stand but what is looked for.
fn check_header(layout: &Layout, file: &[u8]) {
    assert_eq!(&file[..6], b"\x93NUMPY");
    let (start, len) = match file[6] {
        1 => (10, usize::from(file[8]) + (usize::from(file[9]) << 8)),
        _ => (12, file[8..12].iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte))),
    };
    let text = str::from_utf8(&file[start..start + len]).expect("ASCII");
    assert_eq!(layout.start, (start + len) as u64);

    let size = size(layout.dtype);
    assert_eq!(text.matches(&format!("f{size}")).count(), 1, "{text}");
    assert_eq!(
        layout.big_endian,
        text.contains('>') || cfg!(target_endian = "big") && !text.contains('<')
    );
    assert_eq!((layout.fortran, !layout.fortran), (text.contains("True"), text.contains("False")));

    let (_, shape) = text.split_once('(').expect("a tuple");
    let (shape, _) = shape.split_once(')').expect("its end");
    let dims = shape.split(',').map(str::trim_ascii).filter(|dim| !dim.is_empty());
    let dims: Vec<usize> = dims.map(|dim| dim.parse().expect("a number")).collect();
    let (rows, bins) = (layout.rows, layout.bins);
    assert!(dims == [rows, bins] || dims == [bins] && rows == 1, "{dims:?}");
    assert_eq!(file.len(), start + len + rows * bins * size);
}

/// Picks every value out of the file.
fn check_values(layout: &Layout, values: &[u8], file: &[u8]) {
    let Layout { rows, bins, big_endian, fortran, .. } = *layout;
    let (start, size) = (layout.start as usize, size(layout.dtype));
    assert_eq!(values.len(), rows * bins * size);
    for (at, value) in values.chunks_exact(size).enumerate() {
        let (row, bin) = (at / bins, at % bins);
        let place = start + size * if fortran { bin * rows + row } else { at };
        let mut bytes = file[place..place + size].to_vec();
        if big_endian != cfg!(target_endian = "big") {
            bytes.reverse();
        }
        assert_eq!(value, bytes, "row {row}, bin {bin}");
    }
}

fn size(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F16 => 2,
        Dtype::F32 => 4,
        Dtype::F64 => 8,
        Dtype::BF16 => panic!("NumPy has no such type"),
    }
}
