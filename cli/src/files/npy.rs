//! NumPy's .npy files: matrices of float16, float32 or float64 in, one row of results out.

use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use super::matrix::{BIG_ENDIAN, Layout, Matrix};
use super::whole::{Unfinished, WholeFile};
use super::{Dtype, Error, Fault, Item, excerpt, regular};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read. Float matrices need some 60 bytes, and NumPy pads them to 118.
const HEADER_LIMIT: usize = 64 * 1024;

/// Opens a file, and reads and checks its header only.
pub fn open(path: &Path) -> Result<Matrix, Error> {
    let (file, len) = regular::open(path)?;
    let layout = layout(path, &file, len)?;
    Ok(Matrix::new(path, file, len, layout))
}

/// Reads the header of a file, and holds it against the file's length.
pub fn layout(path: &Path, file: impl Read, len: u64) -> Result<Layout, Error> {
    let mut head = Vec::new();
    let mut first = file.take(12 + HEADER_LIMIT as u64);
    first.read_to_end(&mut head).map_err(Error::io(path, "read"))?;
    match parse(&head) {
        Ok(layout) if layout.end() == len => Ok(layout),
        Ok(layout) => Err(Error::Length { path: path.into(), expected: layout.end(), found: len }),
        Err(fault) => Err(fault.of(path)),
    }
}

/// Reads the header from the first bytes of a file.
fn parse(head: &[u8]) -> Result<Layout, Fault> {
    let Some(rest) = head.strip_prefix(MAGIC) else {
        let text = head.get(..MAGIC.len()).unwrap_or(head);
        return Err(Piece { text, offset: 0 }.unexpected(r"the magic string \x93NUMPY"));
    };
    let (start, len) = match *rest {
        [1, 0, a, b, ..] => (10, u16::from_le_bytes([a, b]).into()),
        [2 | 3, 0, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d])),
        [] | [_] | [1..=3, 0, ..] => return Err(truncated(head, 12)),
        [major, minor, ..] => {
            let problem = format!("expected version 1.0, 2.0 or 3.0, found {major}.{minor}");
            return Err(Fault { offset: 6, problem });
        }
    };
    let Some(len) = usize::try_from(len).ok().filter(|&len| len <= HEADER_LIMIT) else {
        let problem = format!("expected a header of at most {HEADER_LIMIT} bytes, found {len}");
        return Err(Fault { offset: 8, problem });
    };
    let end = start + len;
    let rest = head.get(start..end).ok_or_else(|| truncated(head, end))?;
    Dict { rest, end }.layout()
}

fn truncated(head: &[u8], end: usize) -> Fault {
    Fault {
        offset: head.len(),
        problem: format!("expected a header up to byte {end}, found the end of the file"),
    }
}

/// The Python dict of a header, on its way to a layout.
///
/// Values are taken as the text up to the next comma outside brackets and then compared with the
/// few forms that are accepted, so that what is refused can be shown as the file has it.
struct Dict<'a> {
    /// What is still to be parsed.
    rest: &'a [u8],
    /// Where in the file it ends.
    end: usize,
}

/// A piece of text and its place in the file.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a [u8],
    offset: usize,
}

impl Piece<'_> {
    fn unexpected(self, expected: &str) -> Fault {
        Fault {
            offset: self.offset,
            problem: format!("expected {expected}, found {}", excerpt(self.text)),
        }
    }
}

impl<'a> Dict<'a> {
    fn layout(mut self) -> Result<Layout, Fault> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b"{", "'{' at the start of the header")?;
        while !self.blank().starts_with(b"}") {
            let key = self.until(b":");
            let place = match unquote(key.text) {
                Some(b"descr") => &mut descr,
                Some(b"fortran_order") => &mut fortran,
                Some(b"shape") => &mut shape,
                _ => return Err(key.unexpected("'descr', 'fortran_order' or 'shape'")),
            };
            self.expect(b":", "':' after a key")?;
            if place.replace(self.until(b",}")).is_some() {
                return Err(key.unexpected("every key once"));
            }
            if !self.blank().starts_with(b"}") {
                self.expect(b",", "',' or '}' after a value")?;
            }
        }
        self.expect(b"}", "'}' at the end of the header")?;
        let after = self.until(b"");
        if !after.text.is_empty() {
            return Err(after.unexpected("only blanks after the '}' of the header"));
        }

        let (dtype, big_endian) = parse_dtype(descr.ok_or(after.unexpected("the key 'descr'"))?)?;
        let order = fortran.ok_or(after.unexpected("the key 'fortran_order'"))?;
        let fortran = match order.text {
            b"True" => true,
            b"False" => false,
            _ => return Err(order.unexpected("True or False")),
        };
        let (rows, bins) = parse_shape(shape.ok_or(after.unexpected("the key 'shape'"))?, dtype)?;
        Ok(Layout { dtype, big_endian, fortran, rows, bins, start: self.end as u64 })
    }

    /// Skips blanks and shows what follows.
    fn blank(&mut self) -> &'a [u8] {
        self.rest = self.rest.trim_ascii_start();
        self.rest
    }

    /// Skips blanks and `token`.
    fn expect(&mut self, token: &[u8], expected: &str) -> Result<(), Fault> {
        let text = self.blank();
        let offset = self.end - text.len();
        let rest = text.strip_prefix(token);
        self.rest = rest.ok_or_else(|| Piece { text, offset }.unexpected(expected))?;
        Ok(())
    }

    /// Takes the text before the first of `stops` outside brackets, less the blanks around it.
    fn until(&mut self, stops: &[u8]) -> Piece<'a> {
        let text = self.blank();
        let offset = self.end - text.len();
        let mut depth = 0_usize;
        let len = text.iter().position(|byte| {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && stops.contains(byte)
        });
        let (text, rest) = text.split_at(len.unwrap_or(text.len()));
        self.rest = rest;
        let text = text.trim_ascii_end();
        Piece { text, offset }
    }
}

/// The type of the values and whether they are big endian.
fn parse_dtype(descr: Piece<'_>) -> Result<(Dtype, bool), Fault> {
    let (order, kind) = unquote(descr.text).and_then(<[u8]>::split_first).unwrap_or((&0, b""));
    let big_endian = match order {
        b'<' => Some(false),
        b'>' => Some(true),
        b'=' => Some(BIG_ENDIAN),
        _ => None,
    };
    let dtype = match kind {
        b"f2" => Some(Dtype::F16),
        b"f4" => Some(Dtype::F32),
        b"f8" => Some(Dtype::F64),
        _ => None,
    };
    dtype.zip(big_endian).ok_or_else(|| {
        // What NumPy writes for a type that it got from elsewhere: the size, and not the meaning.
        let advice = match kind {
            b"V2" => "if it is bfloat16, save as float32, or as BF16 in a .safetensors file",
            _ => "save as float32 or float64",
        };
        let problem = format!("dtype {} is not supported: {advice}", excerpt(descr.text));
        Fault { offset: descr.offset, problem }
    })
}

/// The inside of a string in single or double quotes. No accepted string has an escape.
fn unquote(text: &[u8]) -> Option<&[u8]> {
    let inside = |quote: &[u8]| text.strip_prefix(quote)?.strip_suffix(quote);
    inside(b"'").or_else(|| inside(b"\""))
}

/// Rows and bins, with a product in bytes that does not overflow.
fn parse_shape(shape: Piece<'_>, dtype: Dtype) -> Result<(usize, usize), Fault> {
    match dims(shape.text).filter(|&(rows, bins)| Layout::fits(rows, bins, dtype)) {
        // No length of the file would bound the number of such rows.
        Some((1.., 0)) => Err(shape.unexpected("at least one bin in a row")),
        Some(dims) => Ok(dims),
        None => Err(shape.unexpected("a shape (bins,) or (rows, bins) that memory could hold")),
    }
}

/// The numbers in a tuple of one or two.
fn dims(tuple: &[u8]) -> Option<(usize, usize)> {
    let inside = tuple.strip_prefix(b"(")?.strip_suffix(b")")?;
    let parts = inside.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    match *parts.collect::<Vec<_>>() {
        [bins, b""] => Some((1, count(bins)?)),
        [rows, bins] | [rows, bins, b""] => Some((count(rows)?, count(bins)?)),
        _ => None,
    }
}

/// A decimal number as Python writes it: without a sign and without leading zeros.
fn count(digits: &[u8]) -> Option<usize> {
    match digits {
        [b'+', ..] | [b'0', _, ..] => None,
        _ => str::from_utf8(digits).ok()?.parse().ok(),
    }
}

/// A value that is written: what is computed comes as float32 or float64.
pub trait Written: Item {
    /// Its type, as NumPy spells it after the order of the bytes.
    const DESCR: &'static str;
}

impl Written for f32 {
    const DESCR: &'static str = "f4";
}

impl Written for f64 {
    const DESCR: &'static str = "f8";
}

/// Writes an array in version 1.0, to the byte as NumPy would, as its values come.
pub struct Writer<T> {
    file: WholeFile,
    /// How many bytes of values are to come.
    missing: usize,
    values: PhantomData<T>,
}

impl<T: Written> Writer<T> {
    /// Begins a file of values of this shape.
    pub fn create(
        path: &Path,
        shape: &[usize],
        unfinished: &Unfinished,
    ) -> Result<Writer<T>, Error> {
        let descr = format!("'{}{}'", order(), T::DESCR);
        Writer::begin(path, &descr, shape, size_of::<T>(), unfinished)
    }

    /// Begins a file of records, each of a number of a row, `index`, and a `value`.
    pub fn create_records(
        path: &Path,
        shape: &[usize],
        unfinished: &Unfinished,
    ) -> Result<Writer<T>, Error> {
        let (order, value) = (order(), T::DESCR);
        let descr = format!("[('index', '{order}i8'), ('value', '{order}{value}')]");
        Writer::begin(path, &descr, shape, size_of::<i64>() + size_of::<T>(), unfinished)
    }

    fn begin(
        path: &Path,
        descr: &str,
        shape: &[usize],
        size: usize,
        unfinished: &Unfinished,
    ) -> Result<Writer<T>, Error> {
        let mut file = WholeFile::create(path, unfinished)?;
        let missing = shape.iter().try_fold(size, |bytes, &len| bytes.checked_mul(len));
        let missing = missing.ok_or_else(|| file.wrong_length("more values than there can be"))?;
        file.write(&header(descr, shape))?;
        Ok(Writer { file, missing, values: PhantomData })
    }

    /// Writes the next values.
    pub fn write(&mut self, values: &[T]) -> Result<(), Error> {
        self.write_bytes(bytemuck::cast_slice(values))
    }

    /// Writes the next records.
    pub fn write_records(&mut self, indices: &[usize], values: &[T]) -> Result<(), Error> {
        /// Records that are put together at a time.
        const TOGETHER: usize = 1 << 12;
        let mut bytes = Vec::new();
        for (indices, values) in indices.chunks(TOGETHER).zip(values.chunks(TOGETHER)) {
            bytes.clear();
            for (&index, value) in indices.iter().zip(values) {
                bytes.extend((index as i64).to_ne_bytes());
                bytes.extend(bytemuck::bytes_of(value));
            }
            self.write_bytes(&bytes)?;
        }
        Ok(())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let missing = self.missing.checked_sub(bytes.len());
        let too_many = || self.file.wrong_length("more values than its header says");
        self.missing = missing.ok_or_else(too_many)?;
        self.file.write(bytes)
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<(), Error> {
        match self.missing {
            0 => self.file.finish(),
            _ => Err(self.file.wrong_length("fewer values than its header says")),
        }
    }
}

fn order() -> char {
    if BIG_ENDIAN { '>' } else { '<' }
}

fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let shape = match shape {
        [len] => format!("{len},"),
        lens => lens.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut dict = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': ({shape}), }}");
    // NumPy leaves room for the first length to grow to 21 digits, and pads to a multiple of 64
    // bytes. For numbers in one dimension or two that comes to 128.
    let first = shape.split(',').next().unwrap_or_default().len();
    let len = (10 + dict.len() + 21_usize.saturating_sub(first) + 1).next_multiple_of(64) - 10;
    dict += &" ".repeat(len - 1 - dict.len());
    dict.push('\n');
    [MAGIC, &[1, 0], &(len as u16).to_le_bytes(), dict.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::path::PathBuf;

    use half::f16;
    use ndarray::{Array1, Array2, array};

    use super::super::matrix::CHUNK;
    #[cfg(unix)]
    use super::super::testing::fifo;
    use super::super::testing::{self, read, temporary};
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        testing::fixture(&format!("{name}.npy"))
    }

    fn fixtures() -> Vec<PathBuf> {
        let fixtures = testing::fixtures("npy");
        assert_eq!(fixtures.len(), 55);
        fixtures
    }

    fn is_refused(fixture: &Path) -> bool {
        let name = fixture.file_name().unwrap().to_str().unwrap();
        name.starts_with("refused") || name.ends_with("-none.npy")
    }

    fn version_1(dict: &str, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(dict.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &len, dict.as_bytes(), data].concat()
    }

    /// Opens and reads a file of any type.
    fn contents(path: &Path) -> Result<Array2<f64>, Error> {
        testing::contents(open(path)?)
    }

    fn contents_of(file: &[u8]) -> Result<Array2<f64>, Error> {
        let (_folder, path) = temporary(file);
        contents(&path)
    }

    fn write<T: Written>(path: &Path, values: &[T]) -> Result<(), Error> {
        let mut writer = Writer::create(path, &[values.len()], &Unfinished::default())?;
        // In two parts, as it may come.
        let (first, second) = values.split_at(values.len() / 3);
        writer.write(first)?;
        writer.write(second)?;
        writer.finish()
    }

    /// What a file is refused for, less the path that it must begin with.
    fn refusal(file: &[u8]) -> String {
        let (_folder, path) = temporary(file);
        let message = contents(&path).unwrap_err().to_string();
        let rest = message.strip_prefix(path.to_str().unwrap()).unwrap();
        rest.strip_prefix(": ").unwrap().into()
    }

    #[test]
    fn reads_what_numpy_wrote() {
        let matrix = array![[0.5, -1.25, 3e-5], [0.0, 7.0, 1e30]];
        let mut seen = BTreeSet::new();
        for (dtype, expected) in [
            // Of the six, one is subnormal as a float16, and one infinite.
            ("f2", matrix.mapv(|value| f64::from(f16::from_f64(value)))),
            ("f4", matrix.mapv(|value| f64::from(value as f32))),
            ("f8", matrix),
        ] {
            for order in ["C", "F"] {
                for endian in ["little", "big"] {
                    for version in [1, 2, 3] {
                        let path = fixture(&format!("{dtype}-{order}-{endian}-v{version}"));
                        assert_eq!(contents(&path).unwrap(), expected, "{path:?}");
                        seen.insert(fs::read(path).unwrap());
                    }
                }
            }
        }
        assert_eq!(seen.len(), 36);
    }

    #[test]
    fn one_dimension_is_one_row() {
        let expected = array![[0.25, 0.5, 0.125]];
        for name in ["f2-row", "f4-row", "f8-row"] {
            assert_eq!(contents(&fixture(name)).unwrap(), expected);
        }
    }

    #[test]
    fn no_rows_are_an_empty_matrix() {
        for name in ["f2-no-rows", "f4-no-rows", "f8-no-rows"] {
            assert_eq!(contents(&fixture(name)).unwrap().dim(), (0, 3));
        }
    }

    #[test]
    fn reads_more_than_a_chunk() {
        let values = Array1::from_iter((0..CHUNK / 8 * 2 + 5).map(|value| value as f64));
        let big: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        let little: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for (descr, data) in [(">f8", big), ("<f8", little)] {
            let len = values.len();
            let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({len},)}}");
            let read = contents_of(&version_1(&dict, &data)).unwrap();
            assert_eq!(read.row(0), values);
        }
    }

    #[test]
    fn keeps_the_payload_of_a_nan() {
        let signalling = 0x7fa0_1234_u32;
        let dict = "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}";
        let (_folder, path) = temporary(&version_1(dict, &signalling.to_be_bytes()));
        let values = read::<f32>(open(&path).unwrap()).unwrap();
        assert_eq!(values.map(|value| value.to_bits()), array![[signalling]]);
    }

    #[test]
    fn accepts_every_way_to_write_a_header() {
        let values = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        for dict in [
            "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
            "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}\n",
            "  { \"fortran_order\" :False\t, 'shape' : ( 2 ,3 , ) ,\n 'descr': \"<f4\" , }  \n\n",
        ] {
            let read = contents_of(&version_1(dict, bytemuck::cast_slice(&values))).unwrap();
            assert_eq!(read, array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "{dict}");
        }
    }

    #[test]
    fn refuses_other_dtypes_and_shapes_that_numpy_wrote() {
        for (name, dtype) in [
            ("i8", "'<i8'"),
            ("c8", "'<c8'"),
            ("u1", "'|u1'"),
            ("b1", "'|b1'"),
            ("U3", "'<U3'"),
            ("object", "'|O'"),
            ("structured", "[('p', '<f4'), ('q', '<f4')]"),
        ] {
            let file = fs::read(fixture(&format!("refused-{name}"))).unwrap();
            let expected =
                format!("byte 20: dtype {dtype} is not supported: save as float32 or float64");
            assert_eq!(refusal(&file), expected);
        }
        for name in ["scalar", "cube"] {
            let message = refusal(&fs::read(fixture(&format!("refused-{name}"))).unwrap());
            assert!(message.contains("expected a shape (bins,) or (rows, bins)"), "{message}");
        }
    }

    #[test]
    fn refuses_bfloat16_with_a_way_out() {
        let message = refusal(&fs::read(fixture("refused-bf16")).unwrap());
        assert_eq!(
            message,
            "byte 20: dtype '<V2' is not supported: if it is bfloat16, save as float32, or as BF16 \
             in a .safetensors file"
        );
    }

    #[test]
    fn an_equals_sign_is_the_order_of_this_machine() {
        let rest = "'fortran_order': False, 'shape': (1,)}";
        let read = |descr, data: &[u8]| {
            contents_of(&version_1(&format!("{{'descr': '{descr}', {rest}"), data)).unwrap()
        };
        assert_eq!(read("=f2", &f16::from_f64(0.1).to_ne_bytes()), array![[0.0999755859375]]);
        assert_eq!(read("=f4", &0.1_f32.to_ne_bytes()), array![[f64::from(0.1_f32)]]);
        assert_eq!(read("=f8", &0.1_f64.to_ne_bytes()), array![[0.1]]);
    }

    #[test]
    fn reads_the_longest_header() {
        let dict = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}";
        for (len, is_read) in [(HEADER_LIMIT, true), (HEADER_LIMIT + 1, false)] {
            let mut file = [MAGIC, &[2, 0]].concat();
            file.extend(u32::try_from(len).unwrap().to_le_bytes());
            file.extend(dict.as_bytes());
            file.resize(12 + len, b' ');
            file.extend(1.5_f64.to_le_bytes());
            assert_eq!(contents_of(&file).is_ok(), is_read);
        }
    }

    #[test]
    fn reads_no_more_than_the_longest_header() {
        let len = 1 << 20;
        let mut file = std::io::repeat(b' ').take(len);
        layout(Path::new(""), &mut file, len).unwrap_err();
        assert_eq!(len - file.limit(), 12 + HEADER_LIMIT as u64);
    }

    #[test]
    fn refuses_trailing_bytes() {
        for path in fixtures() {
            let mut file = fs::read(&path).unwrap();
            for _ in 0..9 {
                file.push(b' ');
                let message = refusal(&file);
                assert!(is_refused(&path) || message.contains("where its header calls for"));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_an_error_or_leaves_the_size() {
        for name in ["f4-C-little-v1", "f8-F-big-v3", "f2-F-big-v1", "f4-row", "f8-no-rows"] {
            let mut file = fs::read(fixture(name)).unwrap();
            let (_folder, path) = temporary(&file);
            let len = file.len() as u64;
            for at in 0..128 {
                let original = file[at];
                for changed in 0..=u8::MAX {
                    file[at] = changed;
                    if let Ok(layout) = parse(&file)
                        && layout.end() == len
                    {
                        fs::write(&path, &file).unwrap();
                        let size = layout.dtype.size() as u64;
                        let items = contents(&path).unwrap().len() as u64;
                        assert_eq!(items * size, len - layout.start);
                    }
                }
                file[at] = original;
            }
        }
    }

    #[test]
    fn refuses_to_read_as_the_other_type() {
        let error = read::<f64>(open(&fixture("f4-row")).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Item { expected: Dtype::F64, found: Dtype::F32, .. }));
        assert!(matches!(read::<f32>(open(&fixture("f8-row")).unwrap()), Err(Error::Item { .. })));
    }

    #[test]
    fn notices_a_file_that_shrinks() {
        let (_folder, path) = temporary(&fs::read(fixture("f4-row")).unwrap());
        let matrix = open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(135).unwrap();
        let error = read::<f32>(matrix).unwrap_err();
        assert!(matches!(error, Error::Length { expected: 140, found: 135, .. }), "{error}");
    }

    #[test]
    fn refuses_a_missing_file_and_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let missing = open(&folder.path().join("missing.npy")).unwrap_err();
        assert!(matches!(missing, Error::Io { action: "open", .. }));
        let message = open(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with("is a directory, where a regular file is needed"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn refuses_a_fifo_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let message = open(&fifo(&folder)).unwrap_err().to_string();
        let expected = "is a FIFO, a socket or a device, where a regular file is needed";
        assert!(message.ends_with(expected), "{message}");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn writes_the_bytes_that_numpy_would() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.npy");
        let written = || fs::read(&path).unwrap();
        let bytes = |name| fs::read(fixture(name)).unwrap();

        write(&path, &[0.25_f32, 0.5, 0.125]).unwrap();
        assert_eq!(written(), bytes("f4-row"));
        write(&path, &[0.25_f64, 0.5, 0.125]).unwrap();
        assert_eq!(written(), bytes("f8-row"));
        write::<f32>(&path, &[]).unwrap();
        assert_eq!(written(), bytes("f4-none"));
        write::<f64>(&path, &[]).unwrap();
        assert_eq!(written(), bytes("f8-none"));
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.npy");
        let values: Vec<_> = (0..100_003).map(|value| value as f32 / 7.0).collect();
        write(&path, &values).unwrap();
        let row = read::<f32>(open(&path).unwrap()).unwrap();
        assert_eq!(row.as_slice(), Some(&values[..]));
    }

    #[test]
    fn other_than_the_announced_number_of_values_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.npy");
        let values = [1.0, 2.0];
        for (first, second, problem) in
            [(&values[..1], &[][..], "fewer"), (&values, &values[..1], "more")]
        {
            let mut writer = Writer::create(&path, &[2], &Unfinished::default()).unwrap();
            writer.write(first).unwrap();
            let error = writer.write(second).and_then(|()| writer.finish()).unwrap_err();
            let message = format!("cannot write: {problem} values than its header says");
            assert!(error.to_string().ends_with(&message), "{error}");
            assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
        }
    }
}
