//! NumPy's .npy files: matrices of float16, float32 or float64 in, one row of results out.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::matrix::{BIG_ENDIAN, Layout, Matrix};
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
pub trait Written: Item {}

impl Written for f32 {}

impl Written for f64 {}

/// Writes an array of one dimension in version 1.0, to the byte as NumPy would, as its values come.
///
/// They go to a temporary file in the same folder, which replaces `path` once it is whole and on the
/// disk; dropped before that, it is gone. A link is followed; what is not a file is refused.
pub struct Writer<T> {
    /// As it was given, for messages.
    path: PathBuf,
    /// What it leads to.
    target: PathBuf,
    temporary: NamedTempFile,
    /// How many values are to come.
    missing: usize,
    values: PhantomData<T>,
}

impl<T: Written> Writer<T> {
    /// Begins a file of `len` values.
    pub fn create(path: impl AsRef<Path>, len: usize) -> Result<Writer<T>, Error> {
        let path = path.as_ref();
        let failed = Error::io(path, "write");
        let (target, permissions) = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.into(), None),
            metadata => {
                let metadata = metadata.map_err(&failed)?;
                // A rename would replace the link, or /dev/null, where writing would go through it.
                regular::check(path, &metadata)?;
                let target = fs::canonicalize(path).map_err(&failed)?;
                (target, Some(metadata.permissions()))
            }
        };
        let temporary = temporary_beside(&target, permissions).map_err(&failed)?;
        header::<T>(temporary.as_file(), len).map_err(&failed)?;
        let path = path.into();
        Ok(Writer { path, target, temporary, missing: len, values: PhantomData })
    }

    /// Writes the next values.
    pub fn write(&mut self, values: &[T]) -> Result<(), Error> {
        let failed = Error::io(&self.path, "write");
        let too_many = || io::Error::other("more values than its header says");
        self.missing =
            self.missing.checked_sub(values.len()).ok_or_else(too_many).map_err(&failed)?;
        self.temporary.write_all(bytemuck::cast_slice(values)).map_err(failed)
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<(), Error> {
        let failed = Error::io(&self.path, "write");
        if self.missing > 0 {
            return Err(failed(io::Error::other("fewer values than its header says")));
        }
        self.temporary.as_file().sync_all().map_err(&failed)?;
        self.temporary.persist(self.target).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// A temporary file in the same folder, with the permissions of the one that it is to replace.
fn temporary_beside(path: &Path, permissions: Option<Permissions>) -> io::Result<NamedTempFile> {
    #[cfg_attr(not(unix), expect(unused_mut))]
    let mut builder = tempfile::Builder::new();
    // What File::create asks for, less the umask. A temporary file would be its owner's only.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let temporary = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    if let Some(permissions) = permissions {
        temporary.as_file().set_permissions(permissions)?;
    }
    Ok(temporary)
}

fn header<T: Written>(mut out: impl Write, len: usize) -> io::Result<()> {
    let endian = if BIG_ENDIAN { '>' } else { '<' };
    let size = size_of::<T>();
    let dict =
        format!("{{'descr': '{endian}f{size}', 'fortran_order': False, 'shape': ({len},), }}");
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0, 118, 0])?;
    // NumPy leaves room for a longer shape and pads to a multiple of 64 bytes. For one dimension
    // that comes to 128, of whatever length it is.
    writeln!(out, "{dict:<117}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use std::fs::File;

    use half::f16;
    use ndarray::{Array1, Array2, array};

    use super::super::matrix::CHUNK;
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
        let mut writer = Writer::create(path, values.len())?;
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

    fn refusal_of_dict(dict: &str) -> String {
        refusal(&version_1(dict, &[0; 24]))
    }

    fn refusal_of_shape(shape: &str) -> String {
        refusal_of_dict(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"))
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
    fn refuses_other_dtypes_by_name() {
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
        for descr in ["'|f4'", "'f4'", "'f3'", "'<f4 '", "u'<f4'", "'<f4", "'", "<f4", "None", ""] {
            let dict = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2, 3)}}");
            assert!(refusal_of_dict(&dict).contains("is not supported"), "{dict}");
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
    fn refuses_other_shapes() {
        let rule = "expected a shape (bins,) or (rows, bins) that memory could hold, found ";
        for shape in [
            "()",
            "(,)",
            "(6)",
            "(1, 2, 3)",
            "(2,, 3)",
            "(2 3,)",
            "((2, 3), 1)",
            "((2, 3))",
            "(2, (3,))",
            "[2, 3]",
            "6",
            "(-2, -3)",
            "(+2, 3)",
            "(2.0, 3)",
            "(2, 3e0)",
            "(02, 3)",
            "(0x2, 3)",
            "(2L, 3L)",
            "(1_0, 3)",
            "('2', 3)",
            "(True, 3)",
            "(2, 3",
            "2, 3)",
        ] {
            let message = refusal_of_shape(shape);
            assert!(message.starts_with("byte "), "{message}");
        }
        assert!(refusal_of_shape("(1, 2, 3)").ends_with(&format!("{rule}(1, 2, 3)")));
        for name in ["scalar", "cube"] {
            let message = refusal(&fs::read(fixture(&format!("refused-{name}"))).unwrap());
            assert!(message.contains(rule), "{message}");
        }
    }

    #[test]
    fn refuses_a_shape_bomb_before_memory() {
        for shape in [
            "(4294967296, 4294967296, 4)",
            "(4294967296, 4294967296)",
            "(9223372036854775808,)",
            "(2305843009213693952,)",
            "(18446744073709551615, 18446744073709551615)",
            "(99999999999999999999999, 1)",
            "(0, 9223372036854775808)",
            "(9223372036854775808, 0)",
        ] {
            let message = refusal_of_shape(shape);
            assert!(message.contains("that memory could hold"), "{message}");
        }
        for shape in ["(1000000000000000000, 0)", "(1, 0)", "(0,)"] {
            let message = refusal_of_shape(shape);
            assert!(message.contains("expected at least one bin in a row"), "{message}");
        }
        // Less than an address can reach, more than the file has.
        let message = refusal_of_shape("(1000000, 1000000000000)");
        assert!(message.ends_with("where its header calls for 4000000000000000085"), "{message}");
    }

    #[test]
    fn refuses_other_dicts() {
        let rest = "'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)";
        for (dict, expected) in [
            ("", "byte 10: expected '{' at the start of the header, found nothing"),
            ("[1]", "byte 10: expected '{' at the start of the header, found [1]"),
            ("{}", "byte 12: expected the key 'descr', found nothing"),
            ("{", "byte 11: expected 'descr', 'fortran_order' or 'shape', found nothing"),
            (
                "{'descr': '<f4', 'shape': (2, 3)}",
                "byte 43: expected the key 'fortran_order', found nothing",
            ),
            (
                "{'descr': '<f4', 'fortran_order': True}",
                "byte 49: expected the key 'shape', found nothing",
            ),
            (
                "{'fortran_order': 1, 'descr': '<f4', 'shape': (2, 3)}",
                "byte 28: expected True or False, found 1",
            ),
            (
                &format!("{{{rest}, 'more': 1}}"),
                "byte 68: expected 'descr', 'fortran_order' or 'shape', found 'more'",
            ),
            (
                &format!("{{{rest}, 'shape': (6,)}}"),
                "byte 68: expected every key once, found 'shape'",
            ),
            (
                &format!("{{{rest},,}}"),
                "byte 67: expected 'descr', 'fortran_order' or 'shape', found ,}",
            ),
            (&format!("{{{rest}"), "byte 66: expected ',' or '}' after a value, found nothing"),
            (
                &format!("{{{rest}}}\0"),
                r"byte 67: expected only blanks after the '}' of the header, found \x00",
            ),
        ] {
            assert_eq!(refusal_of_dict(dict), expected, "{dict}");
        }
    }

    #[test]
    fn refuses_a_header_bomb() {
        let message = refusal(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{");
        assert_eq!(message, "byte 8: expected a header of at most 65536 bytes, found 4294967295");
        let message = refusal(b"\x93NUMPY\x03\x00\x00\x00\x01\x00{");
        assert_eq!(
            message,
            "byte 13: expected a header up to byte 65548, found the end of the file"
        );
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
    fn a_hostile_header_is_shown_in_short_and_escaped() {
        let message = refusal_of_dict(&format!("{{'\x1b[2J{}': 1}}", "x".repeat(1000)));
        assert!(message.contains(r"found '\x1b[2Jxxx"), "{message}");
        assert!(message.len() < 200 && message.ends_with("..."), "{message}");
    }

    #[test]
    fn deep_and_wide_headers_are_refused_in_one_pass() {
        for text in ["(", "[", "1,", "'", "{", ":", ","] {
            refusal_of_shape(&text.repeat(60_000 / text.len()));
        }
    }

    #[test]
    fn refuses_what_is_not_npy() {
        for (file, expected) in [
            (&b""[..], r"byte 0: expected the magic string \x93NUMPY, found nothing"),
            (b"0.5, 0.5", r"byte 0: expected the magic string \x93NUMPY, found 0.5, 0"),
            (b"PK\x03\x04", r"byte 0: expected the magic string \x93NUMPY, found PK\x03\x04"),
            (b"\x93NUMPY\x01\x01v\x00", "byte 6: expected version 1.0, 2.0 or 3.0, found 1.1"),
            (b"\x93NUMPY\x04\x00v\x00", "byte 6: expected version 1.0, 2.0 or 3.0, found 4.0"),
            (
                b"\x93NUMPY\x01",
                "byte 7: expected a header up to byte 12, found the end of the file",
            ),
        ] {
            assert_eq!(refusal(file), expected);
        }
    }

    #[test]
    fn refuses_a_file_cut_at_any_byte() {
        for fixture in fixtures() {
            let (_folder, path) = temporary(&fs::read(&fixture).unwrap());
            let file = File::options().write(true).open(&path).unwrap();
            let whole = file.metadata().unwrap().len();
            for len in (0..whole).rev() {
                file.set_len(len).unwrap();
                let error = contents(&path).unwrap_err();
                if len >= 128 && !is_refused(&fixture) {
                    let Error::Length { expected, found, .. } = error else { panic!("{error}") };
                    assert_eq!((expected, found), (whole, len));
                }
            }
        }
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
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        assert!(matches!(open(&fifo), Err(Error::NotRegular { .. })));
        assert!(matches!(write(&fifo, &[1.0]), Err(Error::NotRegular { .. })));
        assert_eq!(names(folder.path()), ["fifo"]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
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
        assert_eq!(names(folder.path()), ["row.npy"]);
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.npy");
        let values: Vec<_> = (0..100_003).map(|value| value as f32 / 7.0).collect();
        write(&path, &values).unwrap();
        let row = read::<f32>(open(&path).unwrap()).unwrap();
        assert_eq!(row.as_slice(), Some(&values[..]));
        assert_eq!(names(folder.path()), ["row.npy"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.0, 2.0];
        let missing = folder.path().join("missing").join("row.npy");
        assert!(matches!(write(&missing, &values), Err(Error::Io { action: "write", .. })));
        assert!(names(folder.path()).is_empty());

        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(matches!(write(&taken, &values), Err(Error::NotRegular { .. })));
        assert_eq!(names(folder.path()), ["taken"]);
        assert!(names(&taken).is_empty());

        // What stands there stays, and nothing beside it, unless all the values have come.
        let kept = folder.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        for (first, second) in [(&values[..1], &[][..]), (&values, &values[..1])] {
            let mut writer = Writer::create(&kept, 2).unwrap();
            writer.write(first).unwrap();
            assert_eq!(names(folder.path()).len(), 3);
            let done = writer.write(second).and_then(|()| writer.finish());
            assert!(matches!(done, Err(Error::Io { action: "write", .. })));
            assert_eq!(fs::read(&kept).unwrap(), b"kept");
            assert_eq!(names(folder.path()).len(), 2);
        }
        // A folder that came meanwhile.
        let late = folder.path().join("late");
        let writer = Writer::<f32>::create(&late, 0).unwrap();
        fs::create_dir(&late).unwrap();
        assert!(writer.finish().is_err());
        assert_eq!(names(folder.path()).len(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let [ordinary, written] = ["ordinary", "written"].map(|name| folder.path().join(name));
        File::create(&ordinary).unwrap();
        write(&written, &[1.0]).unwrap();
        assert_eq!(mode(&written), mode(&ordinary));

        // Those of an earlier file are kept, as they would be by writing into it.
        fs::set_permissions(&written, Permissions::from_mode(0o622)).unwrap();
        write(&written, &[2.0]).unwrap();
        assert_eq!(mode(&written) & 0o777, 0o622);
    }

    #[cfg(unix)]
    #[test]
    fn writes_through_a_link() {
        let (folder, path) = temporary(b"old");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("matrix", &link).unwrap();
        write(&link, &[1.5]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(contents(&path).unwrap(), array![[1.5]]);
    }
}
