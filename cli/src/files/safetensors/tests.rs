use std::fs::{self, File};
use std::io;

use ::safetensors::SafeTensors;
use half::{bf16, f16};
use ndarray::{Array2, array};

use super::super::matrix::CHUNK;
use super::super::testing::{self, fixture, fixtures, temporary};
use super::super::{Dtype, Item};
use super::*;

/// One tensor of two float32 in 8 bytes, as most tests change it.
const PLAIN: &str = r#"{"p":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;

fn file(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A tensor as it stands in a header.
fn tensor(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

fn contents(path: &Path, name: Option<&str>) -> Result<Array2<f64>, Error> {
    testing::contents(open(path, name)?)
}

fn contents_of(file: &[u8], name: Option<&str>) -> Result<Array2<f64>, Error> {
    let (_folder, path) = temporary(file);
    contents(&path, name)
}

/// What a file is refused for, less the path that it must begin with.
fn refusal(file: &[u8], name: Option<&str>) -> String {
    let (_folder, path) = temporary(file);
    let message = contents(&path, name).unwrap_err().to_string();
    let rest = message.strip_prefix(path.to_str().unwrap()).unwrap();
    rest.strip_prefix(": ").unwrap().into()
}

fn refusal_of_header(header: &str) -> String {
    refusal(&file(header, &[0; 8]), None)
}

/// Whether the header of a file in memory is accepted, whatever its tensors are.
fn accepts(file: &[u8]) -> Result<(), Error> {
    let (path, len) = (Path::new(""), file.len() as u64);
    let text = header_text(path, file, len)?;
    let mut tensors = header::parse(&text).map_err(|fault| fault.of(path))?;
    check(path, &mut tensors, (PREFIX + text.len()) as u64, len)
}

/// Holds what we make of a file against what the reference implementation does.
fn agrees_with_the_reference(file: &[u8]) -> bool {
    let theirs = SafeTensors::read_metadata(file);
    match (accepts(file), theirs) {
        (Ok(()), Ok(_)) => true,
        (Err(_), Err(_)) => false,
        (Err(Error::Tensor { problem, .. }), Ok(_)) if problem == "its name is there twice" => {
            false
        }
        (ours, theirs) => panic!("{ours:?}, {theirs:?}: {}", file.escape_ascii()),
    }
}

#[test]
fn reads_what_the_reference_wrote() {
    let path = fixture("many.safetensors");
    let matrix = array![[0.5, -1.25, 3e-5], [0.0, 7.0, 1e30]];
    let single = matrix.mapv(|value| value as f32);
    for (name, expected) in [
        ("f16", matrix.mapv(|value| f64::from(f16::from_f64(value)))),
        ("bf16", single.mapv(|value| f64::from(bf16::from_f32(value)))),
        ("f32", single.mapv(f64::from)),
        ("f64", matrix),
        ("row", array![[0.25, 0.5, 0.125]]),
        ("no-rows", array![[], [], []].reversed_axes()),
    ] {
        assert_eq!(contents(&path, Some(name)).unwrap(), expected, "{name}");
    }
    let one = fixture("one.safetensors");
    assert_eq!(contents(&one, None).unwrap(), single.mapv(f64::from));
    assert_eq!(contents(&one, Some("p")).unwrap(), single.mapv(f64::from));
}

#[test]
fn a_matrix_of_nothing_is_read() {
    let header = format!("{{{}}}", tensor("p", "F32", "[0,0]", 0, 0));
    assert_eq!(contents_of(&file(header, b""), None).unwrap().dim(), (0, 0));
}

#[test]
fn every_type_is_known() {
    let message = serde_json::from_str::<::safetensors::Dtype>("\"\"").unwrap_err().to_string();
    let (_, expected) = message.split_once("expected one of ").unwrap();
    let (expected, _) = expected.split_once(" at line ").unwrap();
    let theirs: Vec<_> = expected.split(", ").map(|name| name.trim_matches('`')).collect();
    assert_eq!(theirs.len(), 22);
    for name in theirs {
        let dtype: ::safetensors::Dtype = serde_json::from_str(&format!("\"{name}\"")).unwrap();
        let bytes = dtype.bitsize();
        let header = format!("{{{}}}", tensor("p", name, "[8]", 0, bytes as u64));
        let file = file(header, &vec![0; bytes]);
        assert!(agrees_with_the_reference(&file), "{name}");
        if ["F16", "BF16", "F32", "F64"].contains(&name) {
            assert_eq!(contents_of(&file, None).unwrap(), Array2::<f64>::zeros((1, 8)));
        } else {
            assert_eq!(
                refusal(&file, None),
                format!("tensor 'p': dtype {name} is not supported: save as F16, BF16, F32 or F64")
            );
        }
    }
}

#[test]
fn reads_more_than_a_chunk_and_from_anywhere() {
    let values: Vec<_> = (0..CHUNK + 5).map(|value| bf16::from_f64(value as f64)).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (len, end) = (values.len(), bytes.len() as u64);
    let header = [
        tensor("last", "U8", "[3]", 1 + end, 4 + end),
        tensor("p", "BF16", &format!("[1, {len}]"), 1, 1 + end),
        tensor("first", "I8", "[1]", 0, 1),
    ];
    let file = file(format!("{{{}}}", header.join(",")), &[b"x", &bytes[..], b"yyy"].concat());
    let (_folder, path) = temporary(&file);
    let matrix = || open(&path, Some("p")).unwrap();
    assert_eq!((matrix().shape(), matrix().layout().dtype), ((1, len), Dtype::BF16));
    assert_eq!(testing::read::<bf16>(matrix()).unwrap().as_slice().unwrap(), values);
    let error = testing::read::<f16>(matrix()).unwrap_err();
    assert!(matches!(error, Error::Item { expected: f16::DTYPE, found: bf16::DTYPE, .. }));
}

#[test]
fn accepts_every_way_to_write_a_header() {
    let spaced = format!(" {}\n\t  ", PLAIN.replace(':', " :\n ").replace(',', "\t, "));
    let escaped = PLAIN.replace("\"p\"", "\"\\u0070\"").replace("F32", "F\\u00332");
    for header in [
        PLAIN,
        &spaced,
        &escaped,
        r#"{"p":{"data_offsets":[0,8],"shape":[1,2],"dtype":"F32"},"__metadata__":{}}"#,
        r#"{"__metadata__":null,"p":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#,
        r#"{"p":{"dtype":"F32","shape":[1,2],"new":[{}],"data_offsets":[0,8]}}"#,
    ] {
        let data = [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat();
        let file = file(header, &data);
        assert!(agrees_with_the_reference(&file), "{header}");
        assert_eq!(contents_of(&file, Some("p")).unwrap(), array![[1.0, 2.0]], "{header}");
    }
}

#[test]
fn names_are_any_text() {
    for (escaped, name) in [("", ""), ("größe:1", "größe:1"), ("a\\\"b\\n", "a\"b\n"), (".", ".")]
    {
        let header = format!("{{{}}}", tensor(escaped, "F32", "[1,2]", 0, 8));
        assert!(contents_of(&file(header, &[0; 8]), Some(name)).is_ok(), "{name}");
    }
}

#[test]
fn an_unknown_tensor_is_told_what_there_is() {
    let many = fs::read(fixture("many.safetensors")).unwrap();
    let listed = "it has 'i64', 'f64', 'scalar', 'cube', 'f32' and 6 more";
    assert_eq!(refusal(&many, Some("f23")), format!("has no tensor 'f23'; {listed}"));
    assert_eq!(refusal(&many, Some("__metadata__")).split(';').nth(1).unwrap().trim(), listed);
    assert_eq!(
        refusal(&many, None),
        format!("name one of its tensors, as in FILE.safetensors:TENSOR; {listed}")
    );
    assert_eq!(refusal(&file(PLAIN, &[0; 8]), Some("")), "has no tensor ''; it has 'p'");
    assert_eq!(refusal(&file("{}", b""), Some("p")), "has no tensor 'p'; it has none");
    let five = ["a", "b", "c", "d", "e"].map(|name| tensor(name, "F32", "[0]", 0, 0)).join(",");
    let message = refusal(&file(format!("{{{five}}}"), b""), Some("f"));
    assert_eq!(message, "has no tensor 'f'; it has 'a', 'b', 'c', 'd', 'e'");
    let hostile = format!("{{{}}}", tensor(&r"\u001b[2J".repeat(99), "F32", "[1,2]", 0, 8));
    let message = refusal(&file(hostile, &[0; 8]), Some("\x1b[2J"));
    assert!(message.starts_with(r"has no tensor '\x1b[2J'; it has '\x1b[2J\x1b[2J"), "{message}");
    assert!(message.ends_with("...'") && message.len() < 200, "{message}");
}

#[test]
fn refuses_a_key_twice() {
    let twice = |a, b| refusal_of_header(&format!("{{{a},{b}}}"));
    let (whole, empty) = (tensor("p", "F32", "[2]", 0, 8), tensor("p", "F32", "[0]", 0, 0));
    let escaped = whole.replace("\"p\"", "\"\\u0070\"");
    for (a, b) in [(&whole, &whole), (&empty, &whole), (&whole, &empty), (&escaped, &whole)] {
        assert_eq!(twice(a, b), "tensor 'p': its name is there twice");
    }
    let metadata = r#""__metadata__":{}"#.to_string();
    let message = twice(&metadata, &metadata);
    assert_eq!(message, "byte 40: in the header: duplicate field `__metadata__`");
    for field in [r#""dtype":"F32""#, r#""shape":[1,2]"#, r#""data_offsets":[0,8]"#] {
        let message = refusal_of_header(&PLAIN.replace(field, &format!("{field},{field}")));
        assert!(message.contains("in the header: duplicate field `"), "{message}");
    }
}

#[test]
fn deep_and_wide_headers_are_read_in_one_pass() {
    for text in ["[", "{\"\":", "{", "\"", "1,", "[[],"] {
        refusal_of_header(&text.repeat(1_000_000));
        refusal_of_header(&PLAIN.replace("[1,2]", &text.repeat(1_000_000)));
        refusal_of_header(
            &PLAIN.replace("\"dtype\"", &format!("\"x\":{}", text.repeat(1_000_000))),
        );
    }
    let ones = format!("[{}1]", "1,".repeat(1_000_000));
    let header = [tensor("a", "U8", &ones, 0, 1), tensor("p", "F32", "[1]", 1, 5)].join(",");
    let file = file(format!("{{{header}}}"), &[0; 5]);
    assert_eq!(contents_of(&file, Some("p")).unwrap(), array![[0.0]]);
    assert!(refusal(&file, Some("a")).contains("dtype U8 is not supported"));
}

#[test]
fn refuses_a_header_bomb() {
    for (len, found) in [([255; 8], u64::MAX), ((HEADER_LIMIT + 1).to_le_bytes(), HEADER_LIMIT + 1)]
    {
        let expected =
            format!("byte 0: expected a header of at most 100000000 bytes, found {found}");
        assert_eq!(refusal(&[&len[..], b"{}"].concat(), None), expected);
    }
    let message = refusal(&[&HEADER_LIMIT.to_le_bytes()[..], b"{}"].concat(), None);
    let expected = "byte 10: expected a header up to byte 100000008, found the end of the file";
    assert_eq!(message, expected);
    // The longest that is read, from a file that has it.
    let prefix = HEADER_LIMIT.to_le_bytes();
    let file = prefix.chain(io::repeat(b' '));
    let text = header_text(Path::new(""), file, PREFIX as u64 + HEADER_LIMIT).unwrap();
    assert_eq!(text.len() as u64, HEADER_LIMIT);
}

#[test]
fn refuses_trailing_bytes() {
    for path in fixtures("safetensors") {
        let mut file = fs::read(&path).unwrap();
        for _ in 0..9 {
            file.push(b' ');
            let message = refusal(&file, None);
            assert!(message.contains("where its header calls for"), "{message}");
        }
    }
}

#[test]
fn notices_a_file_that_shrinks() {
    let (_folder, path) = temporary(&fs::read(fixture("many.safetensors")).unwrap());
    let matrix = open(&path, Some("f64")).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(800).unwrap();
    let error = testing::read::<f64>(matrix).unwrap_err();
    assert!(matches!(error, Error::Length { expected: 914, found: 800, .. }), "{error}");
}

#[test]
fn refuses_a_missing_file_and_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let missing = open(&folder.path().join("missing"), None).unwrap_err();
    assert!(matches!(missing, Error::Io { action: "open", .. }));
    assert!(matches!(open(folder.path(), None), Err(Error::NotRegular { .. })));
}

#[test]
fn a_changed_byte_is_an_error_or_leaves_the_size() {
    let mut file = fs::read(fixture("one.safetensors")).unwrap();
    let (path, len) = (Path::new(""), file.len() as u64);
    let mut accepted = 0;
    for at in 0..file.len() - 24 {
        let original = file[at];
        for changed in 0..=u8::MAX {
            file[at] = changed;
            if agrees_with_the_reference(&file)
                && let Ok(layout) = layout(path, &file[..], len, None)
            {
                assert_eq!(layout.end(), len);
                accepted += 1;
            }
        }
        file[at] = original;
    }
    assert!(accepted > 72, "{accepted}");
}

/// Pieces of a header, to put where they do not belong.
const PIECES: [&str; 22] = [
    "",
    " ",
    "\n",
    ",",
    ":",
    "0",
    "1",
    "8",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0070",
    "null",
    "18446744073709551615",
    "[0,8]",
    "[2,1]",
    "\"F64\"",
    "\"dtype\"",
    "\"__metadata__\":{\"p\":\"q\"},",
    "\"p\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},",
];

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Three tensors with pieces cut, moved and put in, under the right length.
#[test]
fn agrees_with_the_reference_on_broken_headers() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let plain = [
        tensor("p", "F32", "[2]", 0, 8),
        tensor("q", "BF16", "[2,1]", 8, 12),
        tensor("r", "F4", "[2,0]", 12, 12),
    ];
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut header = format!("{{{}}}", plain.join(",")).into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(header.len());
            let end = (at + random.one_of(&[0, 0, 0, 1, 2, 5])).min(header.len());
            let piece = match random.below(4) {
                0 => header[end..(end + random.below(60)).min(header.len())].to_vec(),
                1 => vec![random.below(256) as u8],
                _ => random.one_of(&PIECES).into(),
            };
            header.splice(at..end, piece);
        }
        accepted += usize::from(agrees_with_the_reference(&file(header, &[0; 12])));
    }
    assert!((200..19_000).contains(&accepted), "{accepted}");
}

/// Sound JSON, of tensors that may overlap, leave holes, share a name or be of another size.
#[test]
fn agrees_with_the_reference_on_misplaced_tensors() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let (mut end, mut tensors) = (0, Vec::new());
        for _ in 0..random.below(5) {
            let (dtype, bits) =
                random.one_of(&[("F4", 4), ("F6_E2M3", 6), ("F16", 16), ("F64", 64)]);
            let dims: Vec<_> = (0..random.below(4)).map(|_| random.one_of(&[0, 1, 2, 4])).collect();
            let wrong = |random: &mut Random| random.one_of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            let from = end + wrong(&mut random);
            end += dims.iter().product::<u64>() * bits / 8;
            let to = end + wrong(&mut random);
            let name = random.one_of(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
            let at = random.below(tensors.len() + 1);
            tensors.insert(at, tensor(name, dtype, &format!("{dims:?}"), from, to));
        }
        let data = vec![0; end as usize + random.one_of(&[0, 0, 0, 0, 0, 1])];
        let header = format!("{{{}}}", tensors.join(","));
        accepted += usize::from(agrees_with_the_reference(&file(header, &data)));
    }
    assert!((5_000..15_000).contains(&accepted), "{accepted}");
}
