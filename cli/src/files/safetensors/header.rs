//! The JSON of a header.
//!
//! For each tensor only a few numbers are kept and the place of its name, so that no header grows
//! to many times its length in memory. Fields that the format does not have are skipped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::{Dtype, Fault, excerpt};

/// Bytes of a file before its header: the length of the header.
pub const PREFIX: usize = 8;

/// The types of the format and their bits.
const DTYPES: [(&str, u64); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// A tensor, as the header has it.
pub struct Tensor<'a> {
    /// What it is called.
    pub name: Cow<'a, str>,
    /// What it is.
    pub info: Info,
}

/// What a header says about a tensor.
#[derive(serde::Deserialize)]
#[serde(expecting = "a tensor")]
pub struct Info {
    /// The type of its values.
    pub dtype: Kind,
    /// How many of them there are.
    pub shape: Shape,
    /// Where in the data they begin and end.
    pub data_offsets: (u64, u64),
}

impl Info {
    /// The bytes that the values take: none if they overflow, or are not whole.
    pub fn bytes(&self) -> Option<u64> {
        let bits = self.shape.items?.checked_mul(self.dtype.bits)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// A type of the format.
#[derive(Clone, Copy)]
pub struct Kind {
    /// What the format calls it.
    pub name: &'static str,
    bits: u64,
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_str(KindVisitor)
    }
}

struct KindVisitor;

impl Visitor<'_> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a dtype")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Kind, E> {
        let known = DTYPES.into_iter().find(|&(name, _)| name == text);
        let (name, bits) =
            known.ok_or_else(|| E::custom(format_args!("unknown dtype {}", Start(text))))?;
        Ok(Kind { name, bits })
    }
}

/// As much of a text as a message can show.
struct Start<'a>(&'a str);

impl Display for Start<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().take(100).try_for_each(|char| f.write_char(char))
    }
}

impl Kind {
    /// The type as one that is read.
    pub fn supported(&self) -> Option<Dtype> {
        match self.name {
            "F16" => Some(Dtype::F16),
            "BF16" => Some(Dtype::BF16),
            "F32" => Some(Dtype::F32),
            "F64" => Some(Dtype::F64),
            _ => None,
        }
    }
}

/// A shape, without the dimensions that no matrix has.
pub struct Shape {
    /// How many dimensions there are.
    pub dims: usize,
    /// The first two.
    pub first: [u64; 2],
    /// The product of all, if it does not overflow.
    items: Option<u64>,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a shape")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Shape { dims: 0, first: [0; 2], items: Some(1) };
        while let Some(dim) = seq.next_element::<u64>()? {
            if let Some(first) = shape.first.get_mut(shape.dims) {
                *first = dim;
            }
            shape.dims += 1;
            shape.items = shape.items.and_then(|items| items.checked_mul(dim));
        }
        Ok(shape)
    }
}

/// A string, which stays where it is unless it has escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A key or a value of the metadata. All are equal, so that a map keeps one.
#[derive(serde::Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(from = "String")]
struct Forgotten;

impl From<String> for Forgotten {
    fn from(_: String) -> Forgotten {
        Forgotten
    }
}

/// Takes the tensors of a header with so many keys.
struct HeaderVisitor {
    keys: usize,
}

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Vec<Tensor<'de>>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut tensors, mut metadata) = (Vec::new(), None);
        // To grow would be to have them twice for a while.
        tensors.try_reserve_exact(self.keys).map_err(|_| Error::custom("no memory"))?;
        while let Some(Text(name)) = map.next_key()? {
            if name != "__metadata__" {
                let info = map.next_value()?;
                tensors.push(Tensor { name, info });
            } else if metadata.is_none() {
                metadata = Some(map.next_value::<Option<BTreeMap<Forgotten, Forgotten>>>()?);
            } else {
                return Err(Error::duplicate_field("__metadata__"));
            }
        }
        Ok(tensors)
    }
}

/// How many keys a header has, as far as it is JSON.
fn keys(text: &str) -> usize {
    struct Counter<'a>(&'a mut usize);

    impl<'de> Visitor<'de> for Counter<'_> {
        type Value = ();

        fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str("tensors by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                *self.0 += 1;
            }
            Ok(())
        }
    }

    let mut keys = 0;
    // What is wrong with it is found out again, and then told.
    let _ = serde_json::Deserializer::from_str(text).deserialize_map(Counter(&mut keys));
    keys
}

/// The tensors of a header.
pub fn parse(text: &[u8]) -> Result<Vec<Tensor<'_>>, Fault> {
    let text = str::from_utf8(text).map_err(|error| Fault {
        offset: PREFIX + error.valid_up_to(),
        problem: "in the header: expected UTF-8".into(),
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let tensors = json.deserialize_map(HeaderVisitor { keys: keys(text) });
    let tensors = tensors.and_then(|tensors| json.end().map(|()| tensors));
    tensors.map_err(|error| fault(text, &error))
}

/// Puts an error, which has a line and a column, to its byte.
fn fault(text: &str, error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    let offset = PREFIX + lines.map(str::len).sum::<usize>() + column.saturating_sub(1);
    let mut message = Shortened(String::new());
    let _ = write!(message, "{error}");
    let place = format!(" at line {line} column {column}");
    let message = message.0.strip_suffix(&place).unwrap_or(&message.0);
    let problem = excerpt(message.as_bytes());
    Fault { offset, problem: format!("in the header: {problem}") }
}

/// The beginning of what is written.
struct Shortened(String);

impl Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = 200_usize.saturating_sub(self.0.len());
        self.0.extend(text.chars().take(left));
        Ok(())
    }
}
