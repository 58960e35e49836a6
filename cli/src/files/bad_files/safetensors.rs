//! Bad .safetensors files.

use super::{Bad, bad};

/// One tensor of two float32 in 8 bytes, as most files change it.
const PLAIN: &str = r#"{"p":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;

fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes(), header, &vec![0; data]].concat()
}

/// A tensor as it stands in a header.
fn tensor(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

fn one(dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!("{{{}}}", tensor("p", dtype, shape, from, to))
}

pub fn files() -> Vec<Bad> {
    let kinds = [lengths(), texts(), fields(), places(), shapes(), dtypes(), names()];
    kinds.into_iter().flatten().collect()
}

/// Lengths of headers.
fn lengths() -> Vec<Bad> {
    let mut files: Vec<_> = (0..8)
        .map(|len| {
            let says = "expected a header up to byte 8, found the end of the file";
            bad(vec![0; len], format!("byte {len}: {says}"))
        })
        .collect();
    let after = |claim: u64| [&claim.to_le_bytes(), PLAIN.as_bytes(), &[0; 8]].concat();
    for claim in [100_000_001, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 7, u64::MAX] {
        let says = format!("byte 0: expected a header of at most 100000000 bytes, found {claim}");
        files.push(bad(after(claim), says));
    }
    for claim in [65, 1_000, 99_999_999, 100_000_000] {
        let end = 8 + claim;
        let says = format!("expected a header up to byte {end}, found the end of the file");
        files.push(bad(after(claim), says));
    }
    for (claim, says) in [
        (0, "byte 8: in the header: EOF while parsing a value"),
        (1, "in the header: EOF while parsing an object"),
        (PLAIN.len() as u64 - 1, "in the header: EOF while parsing an object"),
        (PLAIN.len() as u64 + 1, "in the header: trailing characters"),
        (PLAIN.len() as u64 + 8, "in the header: trailing characters"),
    ] {
        files.push(bad(after(claim), says));
    }
    // The file of another format, whose first bytes are a length by chance.
    files.push(bad(b"\x93NUMPY\x01\x00v\x00{'descr'", "expected a header of at most 100000000"));
    files.push(bad(b"PK\x03\x04\x00\x00\x00\x00 and more", "found the end of the file"));
    files.push(bad(b"{\"p\": {\"dtype\": \"F32\"}}", "expected a header of at most 100000000"));
    files
}

/// What is no JSON, or not of an object.
fn texts() -> Vec<Bad> {
    let mut files = Vec::new();
    for text in ["p", "'p'", "{'p':1}", "{p:1}", "\u{feff}{}", "\0{}", "//\n{}", "NaN", "(", "="] {
        files.push(bad(file(text, 8), "byte 8: in the header: ").or_later(text));
    }
    for (text, says) in [
        ("[]", "byte 8: in the header: invalid type: sequence, expected tensors by their names"),
        ("null", "in the header: invalid type: null, expected tensors by their names"),
        ("true", "in the header: invalid type: boolean `true`, expected tensors by their"),
        ("8", "in the header: invalid type: integer `8`, expected tensors by their names"),
        ("\"{}\"", "in the header: invalid type: string \"{}\", expected tensors by their names"),
        ("{}}", "byte 10: in the header: trailing characters"),
        ("{}{}", "byte 10: in the header: trailing characters"),
        ("{} \0", "byte 11: in the header: trailing characters"),
        ("{,}", "in the header: key must be a string"),
        ("{1:2}", "in the header: key must be a string"),
        ("{\"p\"}", "in the header: expected `:`"),
        ("{\"p\":}", "in the header: expected value"),
        ("{\"p\":1}", "in the header: invalid type: integer `1`, expected a tensor"),
        ("{\"p\":null}", "in the header: invalid type: null, expected a tensor"),
        ("{\"p\":\"F32\"}", "in the header: invalid type: string \"F32\", expected a tensor"),
        ("{\"p\":{}", "in the header: missing field `dtype`"),
        ("{\"a\nb\":{}}", "byte 12: in the header: control character "),
        ("{\"\\u12\":{}}", "in the header: "),
        ("{\"\\ud800\":{}}", "in the header: "),
        ("{\"\\q\":{}}", "in the header: invalid escape"),
    ] {
        files.push(bad(file(text, 8), says));
    }
    for (at, bytes) in [
        (10, &b"{\"\xff\":1}"[..]),
        (8, b"\xfe\xff\x00{"),
        (10, b"{\"\xc0\x80\":1}"),
        (10, b"{\"\xed\xa0\x80\":1}"),
    ] {
        files.push(bad(file(bytes, 8), format!("byte {at}: in the header: expected UTF-8")));
    }
    for (text, times) in
        [("[", 50_000), ("{\"a\":", 20_000), ("\"", 50_001), (" ", 50_000), ("9", 50_000)]
    {
        files.push(bad(file(text.repeat(times), 8), "in the header: "));
        let inside = format!("\"F32\",\"new\":{}x", text.repeat(times));
        files.push(bad(file(PLAIN.replace("\"F32\"", &inside), 8), "in the header: "));
    }
    files
}

impl Bad {
    /// Where the error is noticed at the second byte, as it is after a brace.
    fn or_later(mut self, text: &str) -> Bad {
        if text.starts_with('{') {
            self.says = "byte 9: in the header: ".into();
        }
        self
    }
}

/// Fields of a tensor, and of the metadata.
fn fields() -> Vec<Bad> {
    let mut files = Vec::new();
    for (field, other, says) in [
        ("\"dtype\"", "\"type\"", "missing field `dtype`"),
        ("\"shape\"", "\"size\"", "missing field `shape`"),
        ("\"data_offsets\"", "\"offsets\"", "missing field `data_offsets`"),
        ("\"dtype\":\"F32\"", "\"dtype\":32", "invalid type: integer `32`, expected a dtype"),
        ("\"dtype\":\"F32\"", "\"dtype\":null", "invalid type: null, expected a dtype"),
        ("\"dtype\":\"F32\"", "\"dtype\":[\"F32\"]", "invalid type: sequence, expected a dtype"),
        ("[1,2]", "2", "invalid type: integer `2`, expected a shape"),
        ("[1,2]", "null", "invalid type: null, expected a shape"),
        ("[1,2]", "\"12\"", "invalid type: string \"12\", expected a shape"),
        ("[1,2]", "{}", "invalid type: map, expected a shape"),
        ("[1,2]", "[-1,2]", "invalid value: integer `-1`, expected u64"),
        ("[1,2]", "[-0,2]", "expected u64"),
        ("[1,2]", "[1.0,2]", "invalid type: floating point `1.0`, expected u64"),
        ("[1,2]", "[1e0,2]", "invalid type: floating point `1.0`, expected u64"),
        ("[1,2]", "[1e999,2]", "number out of range"),
        ("[1,2]", "[01,2]", "invalid number"),
        ("[1,2]", "[0x1,2]", "expected `,` or `]`"),
        ("[1,2]", "[1,2,]", "trailing comma"),
        ("[1,2]", "[,2]", "expected value"),
        ("[1,2]", "[1 2]", "expected `,` or `]`"),
        ("[1,2]", "[\"1\",2]", "invalid type: string \"1\", expected u64"),
        ("[1,2]", "[null,2]", "invalid type: null, expected u64"),
        ("[1,2]", "[[1,2]]", "invalid type: sequence, expected u64"),
        ("[1,2]", "[18446744073709551616,2]", "invalid type: floating point"),
        ("[0,8]", "[]", "invalid length 0, expected a tuple of size 2"),
        ("[0,8]", "[0]", "invalid length 1, expected a tuple of size 2"),
        ("[0,8]", "[0,8,8]", "trailing characters"),
        ("[0,8]", "[0,null]", "invalid type: null, expected u64"),
        ("[0,8]", "[-1,7]", "invalid value: integer `-1`, expected u64"),
        ("[0,8]", "[0,8.0]", "invalid type: floating point `8.0`, expected u64"),
        ("[0,8]", "{}", "invalid type: map, expected a tuple of size 2"),
        ("[0,8]", "8", "invalid type: integer `8`, expected a tuple of size 2"),
    ] {
        assert!(PLAIN.contains(field), "{field}");
        files.push(bad(file(PLAIN.replace(field, other), 8), says));
    }
    for field in [r#""dtype":"F32""#, r#""shape":[1,2]"#, r#""data_offsets":[0,8]"#] {
        let twice = PLAIN.replace(field, &format!("{field},{field}"));
        files.push(bad(file(twice, 8), "in the header: duplicate field `"));
    }
    for (metadata, says) in [
        ("1", "invalid type: integer `1`, expected a map"),
        ("[]", "invalid type: sequence, expected a map"),
        ("\"a\"", "invalid type: string \"a\", expected a map"),
        ("{\"a\":1}", "invalid type: integer `1`, expected a string"),
        ("{\"a\":null}", "invalid type: null, expected a string"),
        ("{\"a\":{\"b\":\"c\"}}", "invalid type: map, expected a string"),
        ("{\"a\":\"b\"},\"__metadata__\":{}", "duplicate field `__metadata__`"),
    ] {
        let header = format!("{{\"__metadata__\":{metadata},{}", &PLAIN[1..]);
        files.push(bad(file(header, 8), says));
    }
    files
}

/// Data that overlap, leave holes, end too soon or go on.
fn places() -> Vec<Bad> {
    let two = |p: (u64, u64), q: (u64, u64)| {
        let size = |(from, to): (u64, u64)| format!("[{}]", to.saturating_sub(from));
        let [p, q] =
            [("p", p), ("q", q)].map(|(name, at)| tensor(name, "U8", &size(at), at.0, at.1));
        file(format!("{{{p},{q}}}"), 8)
    };
    let mut files: Vec<_> = [
        ((0, 4), (2, 8), "tensor 'q': its data begin at 2, where those before it end at 4"),
        ((0, 4), (0, 8), "tensor 'q': its data begin at 0, where those before it end at 4"),
        ((0, 8), (0, 8), "tensor 'q': its data begin at 0, where those before it end at 8"),
        ((0, 4), (5, 8), "tensor 'q': its data begin at 5, where those before it end at 4"),
        ((4, 8), (1, 4), "tensor 'q': its data begin at 1, where those before it end at 0"),
        ((1, 4), (4, 8), "tensor 'p': its data begin at 1, where those before it end at 0"),
        ((4, 0), (0, 8), "tensor 'p': its data begin at 4, where those before it end at 8"),
        ((0, 8), (8, 2), "tensor 'q': its shape calls for 0 bytes, its data_offsets are [8, 2]"),
        ((0, 4), (4, 7), "has 121 bytes, where its header calls for 120"),
        ((0, 4), (4, 9), "has 121 bytes, where its header calls for 122"),
        ((0, 8), (9, 9), "tensor 'q': its data begin at 9, where those before it end at 8"),
        ((0, u64::MAX), (u64::MAX, u64::MAX), "tensor 'p': its shape calls for no possible number"),
    ]
    .into_iter()
    .map(|(p, q, says)| bad(two(p, q), says))
    .collect();
    for (header, data, says) in [
        ("{}", 8, "has 18 bytes, where its header calls for 10"),
        ("{}", 1, "has 11 bytes, where its header calls for 10"),
        (PLAIN, 0, "has 64 bytes, where its header calls for 72"),
        (PLAIN, 7, "has 71 bytes, where its header calls for 72"),
        (PLAIN, 9, "has 73 bytes, where its header calls for 72"),
        (PLAIN, 100_000, "has 100064 bytes, where its header calls for 72"),
    ] {
        files.push(bad(file(header, data), says));
    }
    // Ends that would wrap around.
    let (most, mut end, mut tensors) = (u64::MAX >> 3, 0, Vec::new());
    for name in 0..8 {
        tensors.push(tensor(&name.to_string(), "U8", &format!("[{most}]"), end, end + most));
        end += most;
    }
    tensors.push(tensor("last", "U8", &format!("[{}]", u64::MAX - end), end, u64::MAX));
    let says = format!("where its header calls for {}", u64::MAX);
    files.push(bad(file(format!("{{{}}}", tensors.join(",")), 8), says));
    files
}

fn shapes() -> Vec<Bad> {
    let mut files = Vec::new();
    for (shape, bytes) in [
        ("[1,3]", "12"),
        ("[1]", "4"),
        ("[]", "4"),
        ("[0,3]", "0"),
        ("[1000000,1000000000]", "4000000000000000"),
        ("[4294967296,4294967296]", "no possible number of"),
        ("[4294967296,4294967296,0]", "no possible number of"),
        ("[4294967296,4294967296,4]", "no possible number of"),
        ("[576460752303423488]", "no possible number of"),
        ("[9223372036854775808]", "no possible number of"),
        ("[18446744073709551615]", "no possible number of"),
        ("[18446744073709551615,18446744073709551615]", "no possible number of"),
    ] {
        let says =
            format!("tensor 'p': its shape calls for {bytes} bytes, its data_offsets are [0, 8]");
        files.push(bad(file(one("F32", shape, 0, 8), 8), says));
    }
    // They agree with each other, and not with the file.
    let far = one("F32", "[1000000,1000000]", 0, 4_000_000_000_000);
    files.push(bad(file(far, 8), "where its header calls for 40000000000"));
    for (shape, bytes, says) in [
        ("[]", 4, "expected a shape [bins] or [rows, bins], found 0 dimensions"),
        ("[1,1,2]", 8, "expected a shape [bins] or [rows, bins], found 3 dimensions"),
        ("[1,1,1,1,1,1,1,2]", 8, "expected a shape [bins] or [rows, bins], found 8 dimensions"),
        ("[0]", 0, "expected at least one bin in a row"),
        ("[3,0]", 0, "expected at least one bin in a row"),
        ("[18446744073709551615,0]", 0, "expected at least one bin in a row"),
        (
            "[0,18446744073709551615]",
            0,
            "memory could not hold its shape [0, 18446744073709551615]",
        ),
        ("[0,2305843009213693952]", 0, "memory could not hold its shape [0, 2305843009213693952]"),
    ] {
        let file = file(one("F32", shape, 0, bytes as u64), bytes);
        files.push(bad(file, format!("tensor 'p': {says}")));
    }
    let long = format!("[{}1,2]", "1,".repeat(30_000));
    files.push(bad(file(one("F32", &long, 0, 8), 8), "found 30002 dimensions"));
    files
}

fn dtypes() -> Vec<Bad> {
    let mut files = Vec::new();
    for (name, bits) in [
        ("BOOL", 8),
        ("F4", 4),
        ("F6_E2M3", 6),
        ("F6_E3M2", 6),
        ("F8_E5M2", 8),
        ("F8_E4M3", 8),
        ("F8_E8M0", 8),
        ("F8_E4M3FNUZ", 8),
        ("F8_E5M2FNUZ", 8),
        ("U8", 8),
        ("I8", 8),
        ("U16", 16),
        ("I16", 16),
        ("U32", 32),
        ("I32", 32),
        ("U64", 64),
        ("I64", 64),
        ("C64", 64),
    ] {
        let says =
            format!("tensor 'p': dtype {name} is not supported: save as F16, BF16, F32 or F64");
        files.push(bad(file(one(name, "[8]", 0, bits), bits as usize), says));
    }
    for name in
        ["f32", "", "F128", "F8", "float32", "<f4", "F32 ", "BF-16", "\\u0000", "F\\ud83d\\ude00"]
    {
        files.push(bad(file(one(name, "[2]", 0, 8), 8), "in the header: unknown dtype "));
    }
    let half_a_byte =
        "its shape calls for no possible number of bytes, its data_offsets are [0, 1]";
    for (name, shape) in [("F4", "[1]"), ("F4", "[3]"), ("F6_E2M3", "[1]"), ("F6_E3M2", "[2]")] {
        files.push(bad(file(one(name, shape, 0, 1), 1), half_a_byte));
    }
    let steering = one(&r"\u001b[2J".repeat(99), "[2]", 0, 8);
    files.push(bad(file(steering, 8), r"unknown dtype \x1b[2J"));
    files.push(bad(file(one(&"F".repeat(100_000), "[2]", 0, 8), 8), "unknown dtype FFFF"));
    files
}

/// Two tensors of one name, several where one is to be named, and none.
fn names() -> Vec<Bad> {
    let (whole, empty) = (tensor("p", "F32", "[2]", 0, 8), tensor("p", "F32", "[0]", 0, 0));
    let escaped = whole.replace("\"p\"", "\"\\u0070\"");
    let mut files: Vec<_> =
        [(&whole, &whole), (&empty, &whole), (&whole, &empty), (&escaped, &whole)]
            .map(|(a, b)| bad(file(format!("{{{a},{b}}}"), 8), "'p': its name is there twice"))
            .into();
    files.push(bad(file("{}", 0), "name one of its tensors"));
    files.push(bad(file("{\"__metadata__\":{}}", 0), "it has none"));
    for names in [
        ["", "p"],
        [".", "/"],
        ["../../etc/passwd", "p:q"],
        ["größe", "𝛿"],
        [r"\u0000", r"\u001b[2J"],
        [r"a\nb", r"\u202e"],
        [r#"\""#, r"\\"],
        ["__metadata", "metadata__"],
    ] {
        let [a, b] =
            [(names[0], 0), (names[1], 4)].map(|(name, at)| tensor(name, "F32", "[1]", at, at + 4));
        let says = "name one of its tensors, as in FILE.safetensors:TENSOR; it has '";
        files.push(bad(file(format!("{{{a},{b}}}"), 8), says));
    }
    let long = "x".repeat(100_000);
    let [a, b] = [0, 4].map(|at| tensor(&format!("{long}{at}"), "F32", "[1]", at, at + 4));
    files.push(bad(file(format!("{{{a},{b}}}"), 8), "xxx..."));
    let many: Vec<_> =
        (0..2_000).map(|name| tensor(&name.to_string(), "F32", "[0]", 0, 0)).collect();
    files.push(bad(file(format!("{{{}}}", many.join(",")), 0), "and 1995 more"));
    files
}
