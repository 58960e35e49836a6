//! Files that nobody should write, each with what is said about it.
//!
//! Every one costs an error that names the file and what is wrong with it, and next to no memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::source::Source;

mod npy;
mod safetensors;

/// Memory that opening any of them may take.
const EXTRA: u64 = 1 << 20;
/// Catches what hangs, and nothing that is slow because the machine is.
const SOON: Duration = Duration::from_secs(1);

/// A file, and a part of the message that it is refused with.
struct Bad {
    bytes: Vec<u8>,
    says: String,
}

fn bad(bytes: impl Into<Vec<u8>>, says: impl Into<String>) -> Bad {
    Bad { bytes: bytes.into(), says: says.into() }
}

/// Opens a file, which must be refused, and returns what for. Holds the memory and the time that it
/// takes against the limits.
fn refusal(path: &Path, extra: u64) -> String {
    let (mut opened, start) = (None, Instant::now());
    let taken = allocation_counter::measure(|| opened = Some(Source::open(path)));
    let time = start.elapsed();
    let message = opened.unwrap().unwrap_err().to_string();
    assert!(taken.bytes_max <= extra, "{message}: took {} bytes", taken.bytes_max);
    assert!(time < SOON, "{message}: took {time:?}");
    let rest = message.strip_prefix(path.to_str().unwrap()).expect(&message);
    assert!(message.len() < path.as_os_str().len() + 300, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
    rest.strip_prefix(": ").expect(&message).to_owned()
}

#[test]
fn every_bad_file_is_told_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (extension, files) in [("npy", npy::files()), ("safetensors", safetensors::files())] {
        let path = folder.path().join("bad").with_extension(extension);
        for Bad { bytes, says } in files {
            fs::write(&path, &bytes).unwrap();
            let message = refusal(&path, EXTRA);
            if !message.contains(&says) {
                wrong.push(format!("{message}\nwants {says}"));
            }
            let shown = bytes.get(..200).unwrap_or(&bytes).escape_ascii().to_string();
            assert!(seen.insert((extension, bytes)), "twice: {shown}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen.len() >= 300, "{} files", seen.len());
}

#[test]
fn every_fixture_cut_at_any_byte_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut cuts = 0;
    for extension in ["npy", "safetensors"] {
        let path = folder.path().join("cut").with_extension(extension);
        for fixture in super::testing::fixtures(extension) {
            fs::copy(&fixture, &path).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            let whole = file.metadata().unwrap().len();
            // Whole, some are refused for what they hold, and some for holding several tensors.
            let otherwise = Source::open(&path).map_err(|error| error.to_string());
            let otherwise = otherwise.err().filter(|_| extension == "npy");
            for len in (0..whole).rev() {
                file.set_len(len).unwrap();
                let message = refusal(&path, EXTRA);
                let is_told = message
                    == format!("has {len} bytes, where its header calls for {whole}")
                    || message.ends_with("found the end of the file")
                    || len < 6 && message.starts_with("byte 0: expected the magic string ")
                    || otherwise.as_ref().is_some_and(|whole| whole.ends_with(&message));
                assert!(is_told, "{fixture:?} cut at {len}: {message}");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 9_000, "{cuts}");
}

/// Headers of models can be long, and those that are as long as their file take more than it has:
/// for a list of the tensors, or for a text that is to be told what was wrong with it.
#[test]
fn a_long_header_takes_a_few_times_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.safetensors");
    let len = 2_000_000;
    let text = "F".repeat(len);
    let tensor = r#"":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    let tensors: Vec<_> = (0..len / 60).map(|name| format!("\"{name}{tensor}")).collect();
    for header in [
        format!("{{{}}}", tensors.join(",")),
        "[".repeat(len),
        format!(r#"{{"{text}":1"#),
        format!(r#"{{"\n{text}":1"#),
        format!(r#"{{"p":"{text}""#),
        format!(r#"{{"p":{{"dtype":"{text}""#),
        format!(r#"{{"p":{{"dtype":"\n{text}""#),
        format!(r#"{{"p":{{"\n{text}":1"#),
        format!(r#"{{"p":{{"shape":[{}"#, "1,".repeat(len / 2)),
        format!(r#"{{"p":{{"shape":[{}"#, "9".repeat(len)),
        format!(r#"{{"p":{{"x":{}"#, "[1],".repeat(len / 4)),
        format!(r#"{{"__metadata__":{{"{text}":1"#),
        format!(r#"{{"__metadata__":{{"\n{text}":1"#),
        format!(r#"{{"__metadata__":{{{}}}"#, r#""a":"b","#.repeat(len / 8)),
    ] {
        fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat())
            .unwrap();
        refusal(&path, 4 * header.len() as u64 + EXTRA);
    }
}
