//! Bad .npy files.

use super::{Bad, bad};

const MAGIC: &[u8] = b"\x93NUMPY";
const UNSUPPORTED: &str = "is not supported: save as float32 or float64";
const SHAPE: &str = "expected a shape (bins,) or (rows, bins) that memory could hold, found ";

/// A file of a version, with a header and data.
fn file(version: [u8; 2], len: &[u8], header: &[u8], data: &[u8]) -> Vec<u8> {
    [MAGIC, &version, len, header, data].concat()
}

fn version_1(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    file([1, 0], &(header.len() as u16).to_le_bytes(), header, data)
}

/// A header of six float32, but for what is given.
fn header(descr: &str, order: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}")
}

pub fn files() -> Vec<Bad> {
    let kinds = [other_formats(), lengths(), dtypes(), orders(), shapes(), dicts(), data()];
    kinds.into_iter().flatten().collect()
}

fn other_formats() -> Vec<Bad> {
    let starts: [&[u8]; 17] = [
        b"",
        b"\x93",
        b"\x93NUMP",
        b"\x93NUMPZ\x01\x00",
        b"\x94NUMPY\x01\x00",
        b"NUMPY\x01\x00",
        b"\xc2\x93NUMPY\x01\x00",
        b"\xef\xbb\xbf\x93NUMPY",
        b"0.5, 0.5\n",
        b"PK\x03\x04\x14\x00",
        b"\x80\x04\x95\x10\x00\x00\x00",
        b"\x89HDF\r\n\x1a\n",
        b"\x1f\x8b\x08\x00",
        b"PAR1\x15\x04",
        b"\x89PNG\r\n\x1a\n",
        b"\x28\xb5\x2f\xfd",
        b"\x00\x00\x00\x00\x00\x00\x00\x00{}",
    ];
    let mut files: Vec<_> = starts
        .into_iter()
        .map(|start| bad(start, r"byte 0: expected the magic string \x93NUMPY, found "))
        .collect();
    let dict = header("'<f4'", "False", "(6,)");
    for [major, minor] in
        [[0, 0], [0, 1], [1, 1], [1, 255], [2, 1], [3, 1], [4, 0], [5, 0], [255, 0], [255, 255]]
    {
        let says = format!("byte 6: expected version 1.0, 2.0 or 3.0, found {major}.{minor}");
        files.push(bad(file([major, minor], &[118, 0, 0, 0], dict.as_bytes(), &[0; 24]), says));
    }
    files
}

/// Lengths of headers that are not there, or that nobody needs.
fn lengths() -> Vec<Bad> {
    let dict = header("'<f4'", "False", "(6,)");
    let mut files = Vec::new();
    for claim in [65_537, 1 << 17, 100_000_000, 1 << 30, 1 << 31, u32::MAX - 1, u32::MAX] {
        for version in [2, 3] {
            let says = format!("byte 8: expected a header of at most 65536 bytes, found {claim}");
            files.push(bad(file([version, 0], &u32::to_le_bytes(claim), b"{", b""), says));
        }
    }
    for (version, len) in
        [(1, &b"\xff\xff"[..]), (1, b"\x77\x00"), (2, b"\x00\x00\x01\x00"), (3, b"\x77\0\0\0")]
    {
        let says = "found the end of the file";
        files.push(bad(file([version, 0], len, dict.as_bytes(), &[]), says));
    }
    for (version, len) in [(1, &b"\x00\x00"[..]), (2, b"\0\0\0\0"), (3, b"\0\0\0\0")] {
        let says = "expected '{' at the start of the header, found nothing";
        files.push(bad(file([version, 0], len, b"", dict.as_bytes()), says));
    }
    // One byte short of the dict, of the brace, and one byte into the data.
    for (len, says) in [
        (dict.len() - 1, "expected ',' or '}' after a value, found nothing"),
        (1, "expected 'descr', 'fortran_order' or 'shape', found nothing"),
        (dict.len() + 1, r"expected only blanks after the '}' of the header, found \x00"),
    ] {
        files.push(bad(file([1, 0], &[len as u8, 0], dict.as_bytes(), &[0; 24]), says));
    }
    files
}

fn dtypes() -> Vec<Bad> {
    let descrs = [
        // What NumPy has besides floats: objects to be unpickled, text, raw bytes, dates, …
        "'|O'",
        "'|O8'",
        "'O'",
        "'<U3'",
        "'>U1'",
        "'|S8'",
        "'|S0'",
        "'|V1'",
        "'|V16'",
        "'<M8[ns]'",
        "'<m8[D]'",
        "'|b1'",
        "'|i1'",
        "'<i2'",
        "'>i4'",
        "'<i8'",
        "'|u1'",
        "'<u2'",
        "'>u4'",
        "'<u8'",
        "'<c8'",
        "'>c16'",
        "'<c32'",
        "'<f16'",
        "'>f12'",
        // Floats that nobody has, and orders.
        "'<f0'",
        "'<f1'",
        "'<f3'",
        "'<f6'",
        "'<f32'",
        "'<f64'",
        "'<f4294967300'",
        "'<f-4'",
        "'<f04'",
        "'<f4.0'",
        "'<F4'",
        "'<f'",
        "'<4'",
        "'<'",
        "''",
        "'f4'",
        "'|f4'",
        "'!f4'",
        "'<<f4'",
        "'<>f4'",
        "'<e'",
        "'<d'",
        "'float32'",
        "'single'",
        // Text that is nearly right.
        "' <f4'",
        "'<f4 '",
        "'<f4\\x00'",
        "'<f4\0'",
        "'\u{ff1c}f4'",
        "'<f\u{664}'",
        "'\\x3cf4'",
        "u'<f4'",
        "b'<f4'",
        "r'<f4'",
        "'''<f4'''",
        "'<f4\"",
        "\"<f4'",
        "'<f4",
        "<f4'",
        "'",
        "\"",
        "<f4",
        "('<f4')",
        "'<f4' '<f4'",
        "None",
        "False",
        "4",
        "numpy.float32",
        "__import__('os').system('true')",
        // Fields and subarrays.
        "[]",
        "[('p', '<f4')]",
        "[('p', '<f4'), ('q', '<f4')]",
        "[('p', '<f4', (2,))]",
        "[('p', [('q', [('r', '<f4')])])]",
        "[('', '|O')]",
        "('<f4', (2,))",
        "('<f4', 2)",
        "{'names': ['p'], 'formats': ['<f4']}",
    ];
    let with = |descr: &str| version_1(header(descr, "False", "(6,)"), &[0; 24]);
    let mut files: Vec<_> = descrs.iter().map(|descr| bad(with(descr), UNSUPPORTED)).collect();
    // A brace ends it where no bracket is open.
    files.pop();
    files.push(bad(with("{'names': ['p'], 'formats': ['<f4']}"), "found 'formats'"));
    let bfloat16 = "if it is bfloat16, save as float32, or as BF16 in a .safetensors file";
    files.extend(["'<V2'", "'|V2'", "'>V2'"].map(|descr| bad(with(descr), bfloat16)));
    files.push(bad(with(&format!("'{}'", "\u{1b}[2J]".repeat(99))), r"dtype '\x1b[2J]\x1b[2J]"));
    files
}

fn orders() -> Vec<Bad> {
    let orders = [
        "",
        "0",
        "1",
        "true",
        "false",
        "TRUE",
        "None",
        "'True'",
        "\"False\"",
        "not True",
        "True or 1",
        "(True)",
        "[True]",
        "True False",
        "'C'",
        "Tru",
        "Truee",
        "True\0",
    ];
    let with = |order: &str| version_1(header("'<f4'", order, "(2, 3)"), &[0; 24]);
    orders.iter().map(|order| bad(with(order), "expected True or False, found ")).collect()
}

fn shapes() -> Vec<Bad> {
    let with = |shape: &str| version_1(header("'<f4'", "False", shape), &[0; 24]);
    let mut files: Vec<_> = [
        // Other ranks than 1 and 2.
        "()",
        "( )",
        "(1, 2, 3)",
        "(2, 3, 1)",
        "(1, 1, 1, 6)",
        // No tuples of numbers.
        "",
        "6",
        "(6)",
        "(,)",
        "(,6)",
        "(2,, 3)",
        "(2, 3,,)",
        "(2 3,)",
        "(2; 3)",
        "[2, 3]",
        "[6]",
        "((2, 3))",
        "((2, 3), 1)",
        "(2, (3,))",
        "(2, [3])",
        "(2, 3]",
        "'(2, 3)'",
        "None",
        "(None,)",
        "(2, None)",
        "('2', 3)",
        "(True, 6)",
        "(*, 6)",
        // Numbers that Python has besides decimal ones, or has not.
        "(-6,)",
        "(-2, -3)",
        "(-1, 6)",
        "(+2, 3)",
        "(--2, 3)",
        "(2.0, 3)",
        "(2, 3e0)",
        "(6., )",
        "(02, 3)",
        "(00, 3)",
        "(0x2, 3)",
        "(0b10, 3)",
        "(0o2, 3)",
        "(2L, 3L)",
        "(1_0, 3)",
        "(2j, 3)",
        "(nan, 3)",
        "(inf, 3)",
        "(2*3,)",
        "(2**40,)",
        "(\u{662}, \u{663})",
        "(2\0, 3)",
        "(2\u{a0}, 3)",
        // Products and numbers that overflow.
        "(4294967296, 4294967296)",
        "(4294967296, 1073741824)",
        "(2147483648, 2147483648)",
        "(3037000500, 3037000500)",
        "(9223372036854775808,)",
        "(9223372036854775807,)",
        "(4611686018427387904,)",
        "(2305843009213693952,)",
        "(2305843009213693952, 1)",
        "(18446744073709551615,)",
        "(18446744073709551616,)",
        "(18446744073709551615, 18446744073709551615)",
        "(18446744073709551622,)",
        "(340282366920938463463374607431768211462,)",
        "(0, 9223372036854775808)",
        "(9223372036854775808, 0)",
        "(18446744073709551616, 0)",
    ]
    .iter()
    .map(|shape| bad(with(shape), SHAPE))
    .collect();
    // Unclosed, it swallows the end; unopened, it ends too soon.
    files.push(bad(with("(2, 3"), "expected ',' or '}' after a value, found nothing"));
    files.push(bad(with("2, 3)"), "expected 'descr', 'fortran_order' or 'shape', found 3)"));
    files.push(bad(with(&format!("({}1)", "1, ".repeat(10_000))), SHAPE));
    files.push(bad(with(&format!("({},)", "9".repeat(60_000))), SHAPE));
    files.push(bad(with(&"(".repeat(60_000)), "after a value, found nothing"));
    files.push(bad(with(&"[".repeat(60_000)), "after a value, found nothing"));
    for shape in ["(0,)", "(1, 0)", "(6, 0)", "(1000000000000000000, 0)"] {
        let says = format!("expected at least one bin in a row, found {shape}");
        files.push(bad(with(shape), says));
    }
    files
}

fn dicts() -> Vec<Bad> {
    let rest = "'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)";
    let key = "expected 'descr', 'fortran_order' or 'shape', found ";
    let cases: &[(&str, &str)] = &[
        ("[1]", "byte 10: expected '{' at the start of the header, found [1]"),
        (
            "('<f4', False, (2, 3))",
            "byte 10: expected '{' at the start of the header, found ('<f4'",
        ),
        (rest, "byte 10: expected '{' at the start of the header, found 'descr'"),
        (&format!("dict({rest})"), "byte 10: expected '{' at the start of the header, found dict("),
        (&format!("\0{{{rest}}}"), r"byte 10: expected '{' at the start of the header, found \x00"),
        ("\u{feff}{}", r"byte 10: expected '{' at the start of the header, found \xef\xbb\xbf{}"),
        ("{}", "byte 12: expected the key 'descr', found nothing"),
        ("{", &format!("byte 11: {key}nothing")),
        ("{{", &format!("byte 11: {key}{{")),
        ("{,}", &format!("byte 11: {key},}}")),
        ("{:}", &format!("byte 11: {key}nothing")),
        ("{'descr'}", &format!("byte 11: {key}'descr'}}")),
        ("{'descr' '<f4'}", &format!("byte 11: {key}'descr' '<f4'}}")),
        ("{'descr': '<f4', 'shape': (2, 3)}", "byte 43: expected the key 'fortran_order', found"),
        ("{'descr': '<f4', 'fortran_order': True}", "byte 49: expected the key 'shape', found"),
        ("{'fortran_order': True, 'shape': (2, 3)}", "byte 50: expected the key 'descr', found"),
        (&format!("{{{rest}, 'more': 1}}"), &format!("byte 68: {key}'more'")),
        (&format!("{{'more': {{}}, {rest}}}"), &format!("byte 11: {key}'more'")),
        (&format!("{{{rest}, 'shape': (6,)}}"), "byte 68: expected every key once, found 'shape'"),
        (&format!("{{{rest}, {rest}}}"), "byte 68: expected every key once, found 'descr'"),
        (
            &format!("{{{rest}, \"descr\": '<f8'}}"),
            "byte 68: expected every key once, found \"descr",
        ),
        (&format!("{{{rest},,}}"), &format!("byte 67: {key},}}")),
        (&format!("{{,{rest}}}"), &format!("byte 11: {key},'descr'")),
        (&format!("{{{rest}"), "byte 66: expected ',' or '}' after a value, found nothing"),
        (&format!("{{{rest}]"), "byte 67: expected ',' or '}' after a value, found nothing"),
        (&format!("{{{rest}}}\0"), r"byte 67: expected only blanks after the '}' of the header"),
        (
            &format!("{{{rest}}}}}"),
            "byte 67: expected only blanks after the '}' of the header, found }",
        ),
        (&format!("{{{rest}}} # C"), "expected only blanks after the '}' of the header, found # C"),
        (&format!("{{{rest}}}{{{rest}}}"), "byte 67: expected only blanks after the '}'"),
        (&rest_with(rest, "'descr'", "descr"), &format!("byte 11: {key}descr")),
        (&rest_with(rest, "'descr'", "'DESCR'"), &format!("byte 11: {key}'DESCR'")),
        (&rest_with(rest, "'descr'", "'descr '"), &format!("byte 11: {key}'descr '")),
        (&rest_with(rest, "'descr'", "'descr\""), &format!("byte 11: {key}'descr\"")),
        (&rest_with(rest, "'descr'", "u'descr'"), &format!("byte 11: {key}u'descr'")),
        (&rest_with(rest, "'descr'", "b'descr'"), &format!("byte 11: {key}b'descr'")),
        (&rest_with(rest, "'descr'", r"'\x64escr'"), &format!(r"byte 11: {key}'\\x64escr'")),
        (&rest_with(rest, "'descr'", "''"), &format!("byte 11: {key}''")),
        (&rest_with(rest, "'descr'", "1"), &format!("byte 11: {key}1")),
        (&rest_with(rest, "'descr'", "'größe'"), &format!("byte 11: {key}'größe'")),
        (&rest_with(rest, "'descr':", "'descr' ="), &format!("byte 11: {key}'descr' = '<f4'")),
        (
            &rest_with(rest, ", 'fortran_order'", "; 'fortran_order'"),
            "dtype '<f4'; 'fortran_order'",
        ),
        (&rest_with(rest, ", 'fortran_order'", " 'fortran_order'"), "dtype '<f4' 'fortran_order'"),
        (&rest_with(rest, ": (2, 3)", ":: (2, 3)"), "a shape (bins,) or (rows, bins) that memory"),
    ];
    let mut files: Vec<_> =
        cases.iter().map(|(dict, says)| bad(version_1(dict, &[0; 24]), *says)).collect();
    for text in ["'", ":", ",", "}", "{{", "\n", "\\"] {
        let dict = format!("{{{}", text.repeat(60_000 / text.len()));
        files.push(bad(version_1(dict, &[0; 24]), "byte "));
    }
    // Bytes that are no text.
    for bytes in [&b"{'\xff\xfe': 1}"[..], b"{\xf0\x9f'descr'", b"\x80{", b"{'\x00descr': 1"] {
        files.push(bad(version_1(bytes, &[0; 24]), r"found "));
    }
    files
}

fn rest_with(rest: &str, old: &str, new: &str) -> String {
    assert!(rest.contains(old), "{old}");
    format!("{{{}}}", rest.replace(old, new))
}

/// Data of other lengths than the shape calls for.
fn data() -> Vec<Bad> {
    let mut files = Vec::new();
    for (descr, shape, right) in [
        ("<f4", "(2, 3)", 24),
        (">f4", "(6,)", 24),
        ("<f8", "(2, 3)", 48),
        ("<f2", "(3, 2)", 12),
        ("<f4", "(0, 3)", 0),
    ] {
        for order in ["False", "True"] {
            for len in [0, 1, right - 1, right + 1, right + 8, 2 * right, 100_000] {
                if len >= 0 && len != right && !(len == 1 && right == 0) {
                    let header = header(&format!("'{descr}'"), order, shape);
                    let file = version_1(&header, &vec![0; len as usize]);
                    let [found, called] = [len, right].map(|data| 10 + header.len() as i32 + data);
                    let says = format!("has {found} bytes, where its header calls for {called}");
                    if !files.iter().any(|bad: &Bad| bad.bytes == file) {
                        files.push(bad(file, says));
                    }
                }
            }
        }
    }
    // More than the file has, by far, and less than an address can reach.
    for shape in ["(1000000, 1000000)", "(2305843009213693951,)", "(1, 2305843009213693951)"] {
        let file = version_1(header("'<f4'", "False", shape), &[0; 24]);
        files.push(bad(file, "where its header calls for "));
    }
    files
}
