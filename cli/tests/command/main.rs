//! The command as its users run it: files in, files and messages out.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

#[cfg(target_os = "linux")]
mod capped;
mod divergences;
mod matrix;
mod output;
#[cfg(unix)]
mod signals;

/// The backends that this build has. With the feature `gpu` an adapter must be there.
const BACKENDS: &[&str] = if cfg!(feature = "gpu") { &["cpu", "gpu"] } else { &["cpu"] };

fn kullback<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
    command.args(arguments).output().expect("the command starts")
}

/// Runs `kullback rows` on two files in a folder.
fn rows(folder: &TempDir, options: &[&str]) -> Output {
    rows_of(folder, "p.npy", "q.npy", options)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one message of a command that ended with this status, without what a driver prints.
fn message(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<_> = stderr.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    lines[0].to_owned()
}

fn npy(descr: &str, rows: usize, bins: usize, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {bins}), }}");
    let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    file.extend(format!("{header:<117}\n").bytes());
    file.extend(data);
    file
}

fn f32_npy(rows: usize, bins: usize, values: &[f32]) -> Vec<u8> {
    assert_eq!(values.len(), rows * bins);
    npy("<f4", rows, bins, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn f64_npy(rows: usize, bins: usize, values: &[f64]) -> Vec<u8> {
    npy("<f8", rows, bins, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// A .safetensors file of matrices, each with its values' type and bytes.
fn safetensors(tensors: &[(&str, &str, [usize; 2], Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, values) in tensors {
        let offsets = [data.len(), data.len() + values.len()];
        let info = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert((*name).to_owned(), info);
        data.extend(values);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// The bytes of float32 values, or the upper halves that are bfloat16.
fn bytes(values: &[f32], upper_half: bool) -> Vec<u8> {
    let skipped = if upper_half { 2 } else { 0 };
    values.iter().flat_map(|value| value.to_le_bytes().into_iter().skip(skipped)).collect()
}

/// `small`, as tensors of one file; q is BF16, which loses nothing of it.
fn small_safetensors() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = safetensors(&[
        ("layer:p", "F32", [3, 2], bytes(&[0.5, 0.5, 0.9, 0.1, 0.5, 0.5], false)),
        ("q", "BF16", [3, 2], bytes(&[0.25, 0.75, 0.5, 0.5, 1.0, 0.0], true)),
        ("ids", "I64", [3, 2], vec![0; 48]),
        ("wide", "F64", [1, 2], [0.5_f64, 0.5].map(f64::to_le_bytes).concat()),
    ]);
    fs::write(folder.path().join("m.safetensors"), file).unwrap();
    folder
}

/// Runs `kullback rows` on two files or tensors in a folder.
fn rows_of(folder: &TempDir, p: &str, q: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
    command.current_dir(folder).args(["rows", p, q]).args(options);
    command.output().expect("the command starts")
}

fn read_f32(path: &Path) -> Vec<f32> {
    let file = fs::read(path).unwrap();
    let values = file[128..].chunks_exact(4);
    values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// A folder with `p.npy` and `q.npy`.
fn folder(p: &[u8], q: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.npy"), p).unwrap();
    fs::write(folder.path().join("q.npy"), q).unwrap();
    folder
}

fn small() -> TempDir {
    let p = f32_npy(3, 2, &[0.5, 0.5, 0.9, 0.1, 0.5, 0.5]);
    let q = f32_npy(3, 2, &[0.25, 0.75, 0.9, 0.1, 1.0, 0.0]);
    folder(&p, &q)
}

/// What is in a folder.
fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whole files through the command against 80-digit arithmetic: every golden row of every length.
#[test]
fn golden_rows_on_every_backend() {
    let golden = fs::read_to_string(project("tests/golden/rows.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let mut checked = 0;
    for bins in [2, 3, 16, 33, 65, 129, 257, 1000] {
        let of_this_length = |row: &&Value| {
            row["type"] == "f32"
                && row["policy"] == "check"
                && row["p"].as_str().unwrap().len() == 8 * bins
        };
        let rows_: Vec<_> =
            golden["rows"].as_array().unwrap().iter().filter(of_this_length).collect();
        let side = |key: &str| {
            let hex: String = rows_.iter().map(|row| row[key].as_str().unwrap()).collect();
            let word = |at| f32::from_bits(u32::from_str_radix(&hex[at..at + 8], 16).unwrap());
            f32_npy(rows_.len(), bins, &(0..hex.len()).step_by(8).map(word).collect::<Vec<_>>())
        };
        let folder = folder(&side("p"), &side("q"));
        for backend in BACKENDS {
            let options = ["--backend", backend, "-o", "out.npy", "--cross-check", "1000"];
            let output = rows(&folder, &options);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(stdout(&output).contains(&format!("\nbackend     {backend}")), "{output:?}");
            let got = read_f32(&folder.path().join("out.npy"));
            assert_eq!(got.len(), rows_.len());
            for (got, row) in got.into_iter().zip(&rows_) {
                let want: f64 = row["check"].as_str().unwrap().parse().unwrap();
                let right = f64::from(got) == want || (f64::from(got) - want).abs() <= 1e-6 * want;
                assert!(right, "{backend}: {got:e} for {want:e}: {}", row["name"]);
                checked += 1;
            }
        }
    }
    assert!(checked >= 80 * BACKENDS.len(), "{checked} rows");
}

#[test]
fn the_summary_is_for_people() {
    let text = stdout(&rows(&small(), &["--backend", "cpu"]));
    // Two finite rows, 0.143841 and 0; the values by hand: ln 2 − 0.5·ln 3.
    for line in [
        "rows        3 × 2 bins, f32",
        "divergence  kl in nats, mass policy check",
        "backend     cpu",
        "mean        0.071921 ± 7.19e-2 over the 2 finite rows",
        "min         0.000000",
        "max         0.143841",
        "infinite    1 rows",
        "invalid     0 rows",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
    }
}

#[test]
fn the_summary_is_for_programs() {
    for backend in BACKENDS {
        let output = rows(&small(), &["--json", "--base", "2", "--backend", backend]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["rows"], &json["bins"]), (&3.into(), &2.into()));
        assert_eq!((&json["dtype"], &json["divergence"]), (&"f32".into(), &"kl".into()));
        assert_eq!(json["backend"], **backend);
        assert_eq!(json["adapter"].is_string(), *backend == "gpu");
        assert_eq!((&json["infinite_rows"], &json["invalid_rows"]), (&1.into(), &0.into()));
        let max = json["max"].as_f64().unwrap();
        // Cover and Thomas, Example 2.3.1, in bits.
        assert!((max - 0.207518749639422).abs() < 1e-6, "{max}");
        for key in
            ["mean", "standard_error", "min", "median", "p90", "p99", "seconds", "bytes_per_second"]
        {
            assert!(json[key].is_number(), "{key} in {json}");
        }
    }
}

#[test]
fn quiet_prints_nothing_but_writes() {
    let folder = small();
    let output = rows(&folder, &["--quiet", "--backend", "cpu", "-o", "out.npy"]);
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    let values = read_f32(&folder.path().join("out.npy"));
    assert_eq!((values[1], values[2]), (0.0, f32::INFINITY));
}

#[test]
fn invalid_rows_are_errors_or_nan() {
    let q = f32_npy(1, 2, &[0.5, 0.5]);
    let mut values = vec![0.5_f32; 2 * 5];
    values[7] = -0.25;
    let folder = folder(&f32_npy(5, 2, &values), &q);
    for backend in BACKENDS {
        assert_eq!(
            message(&rows(&folder, &["--backend", backend, "-o", "out.npy"]), 2),
            "kullback: p.npy: row 3, bin 1: the value is -0.25; a probability is a finite number, \
             0 or more"
        );
        assert!(!folder.path().join("out.npy").exists());
        let output = rows(&folder, &["--backend", backend, "--invalid", "nan", "-o", "nan.npy"]);
        assert!(stdout(&output).contains("invalid     1 rows"), "{output:?}");
        let got = read_f32(&folder.path().join("nan.npy"));
        assert!(got[3].is_nan() && got[..3] == [0.0; 3] && got[4] == 0.0, "{got:?}");
    }
}

/// A loader of Vulkan that finds no driver stands for a machine without a GPU.
#[test]
fn without_a_gpu_the_cpu_takes_over_only_where_it_may() {
    let folder = small();
    let run = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
        command.env("VK_DRIVER_FILES", "/dev/null").env("VK_ICD_FILENAMES", "/dev/null");
        let options = [&["rows", "p.npy", "q.npy", "-o", "out.npy"], options].concat();
        command.current_dir(&folder).args(options).output().unwrap()
    };
    for backend in ["auto", "cpu"] {
        assert_eq!(summary(&run(&["--json", "--backend", backend]))["fallback_rows"], 0);
        let error = message(&run(&["--backend", backend, "--fallback", "cpu"]), 2);
        assert!(error.starts_with("kullback: --fallback needs --backend gpu: "), "{error}");
    }
    if cfg!(any(target_os = "linux", not(feature = "gpu"))) {
        fs::remove_file(folder.path().join("out.npy")).unwrap();
        let error = message(&run(&["--backend", "gpu"]), 1);
        let (_, reason) = error.split_once("kullback: ").unwrap();
        assert!(reason.starts_with("no GPU adapter can be used: "), "{error}");
        assert_eq!(names(&folder), ["p.npy", "q.npy"]);

        let json = summary(&run(&["--backend", "gpu", "--fallback", "cpu", "--json"]));
        assert_eq!((&json["fallback_rows"], &json["backend"]), (&3.into(), &"cpu".into()));
        assert_eq!(json["fallback_reason"], reason);
        assert_eq!(json["device_faults"], 0);
        let text = stdout(&run(&["--backend", "gpu", "--fallback", "cpu"]));
        let said =
            format!("\nfallback    3 rows, computed on the CPU instead\nbecause     {reason}\n");
        assert!(text.contains(&said), "{text}");
        assert_eq!(read_f32(&folder.path().join("out.npy")).len(), 3);
    }
}

#[test]
fn a_gpu_that_works_needs_no_fallback() {
    if BACKENDS.contains(&"gpu") {
        let options = ["--backend", "gpu", "--fallback", "cpu", "--json"];
        let json = summary(&rows(&small(), &options));
        assert_eq!((&json["fallback_rows"], &json["backend"]), (&0.into(), &"gpu".into()));
        assert!(json["fallback_reason"].is_null(), "{json}");
    }
}

#[test]
fn mass_policies_are_taken() {
    let folder = folder(&f32_npy(1, 2, &[3.0, 1.0]), &f32_npy(1, 2, &[0.5, 0.5]));
    let error = message(&rows(&folder, &[]), 2);
    assert!(error.starts_with("kullback: p.npy: row 0: the mass is 4; "), "{error}");
    assert!(error.contains("normalize"), "{error}");
    for (mass, want) in [
        ("normalize", 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln()),
        ("as-given", 3.0 * 6_f64.ln() + 2_f64.ln()),
        ("generalized", 3.0 * 6_f64.ln() + 2_f64.ln() - 3.0),
    ] {
        for backend in BACKENDS {
            let output = rows(&folder, &["--mass", mass, "--backend", backend, "--json"]);
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!((json["mean"].as_f64().unwrap() - want).abs() < 1e-6 * want, "{mass}: {json}");
        }
    }
    let tolerant = rows(&folder, &["--mass-tolerance", "0.5"]);
    assert!(message(&tolerant, 2).contains("the mass is 4"));
    let absurd = message(&rows(&folder, &["--mass-tolerance", "-1"]), 2);
    assert!(absurd.ends_with("mass tolerance is -1: it must be 0 or more and less than 1"));
}

#[test]
fn f64_files_are_computed_in_f64() {
    let p = [0.36, 0.48, 0.16];
    let q = [1.0 / 3.0; 3];
    let folder = folder(&f64_npy(1, 3, &p), &f64_npy(1, 3, &q));
    let json: Value = serde_json::from_slice(&rows(&folder, &["--json"]).stdout).unwrap();
    assert_eq!((&json["dtype"], &json["backend"]), (&"f64".into(), &"cpu".into()));
    // Kullback 1959, Example 2.1: Binomial(2, 0.4) against uniform, to 16 digits by mpmath.
    assert!((json["mean"].as_f64().unwrap() - 0.08529960131837057).abs() < 1e-15);
    // One f32 file beside it, and f64 still.
    fs::write(folder.path().join("q.npy"), f32_npy(1, 3, &[0.25, 0.5, 0.25])).unwrap();
    let json: Value = serde_json::from_slice(&rows(&folder, &["--json"]).stdout).unwrap();
    assert_eq!(json["dtype"], "f64");
    if cfg!(feature = "gpu") {
        // On adapters that have it; else it is refused by name.
        let devices: Value =
            serde_json::from_str(&stdout(&kullback(["devices", "--json"]))).unwrap();
        let output = rows(&folder, &["--backend", "gpu", "--json"]);
        if devices["adapters"][0]["f64"] == true {
            let on_gpu: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&on_gpu["dtype"], &on_gpu["backend"]), (&"f64".into(), &"gpu".into()));
            let [got, want] = [&on_gpu, &json].map(|json| json["mean"].as_f64().unwrap());
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        } else {
            assert!(message(&output, 2).contains("the adapter has no f64 arithmetic"));
            let output = rows(&folder, &["--backend", "gpu", "--fallback", "cpu", "--json"]);
            let fallen: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&fallen["fallback_rows"], &fallen["mean"]), (&1.into(), &json["mean"]));
        }
    }
}

#[test]
fn bad_files_are_named() {
    let good = f32_npy(1, 2, &[0.5, 0.5]);
    let cases: [(&[u8], &str); 5] = [
        (b"", "p.npy: byte 0: expected the magic string"),
        (&good[..130], "p.npy: has 130 bytes, where its header calls for 136"),
        (&[&good[..], b"x"].concat(), "p.npy: has 137 bytes, where its header calls for 136"),
        (&npy("<i8", 1, 2, &[0; 16]), "dtype '<i8' is not supported: save as float32 or float64"),
        (&f32_npy(1, 3, &[0.5, 0.5, 0.0]), "p.npy and q.npy: P is 1 × 3 and Q is 1 × 2"),
    ];
    for (bad, want) in cases {
        let error = message(&rows(&folder(bad, &good), &[]), 2);
        assert!(error.contains(want), "{error}\n{want}");
    }
    let missing = kullback(["rows", "no-such-file.npy", "q.npy"]);
    assert!(message(&missing, 2).starts_with("kullback: no-such-file.npy: cannot open: "));
    let directory = tempfile::tempdir().unwrap();
    let output = kullback([OsStr::new("rows"), directory.path().as_ref(), OsStr::new("q.npy")]);
    assert!(message(&output, 2).contains("is a directory, where a regular file is needed"));
}

#[test]
fn tensors_are_rows_too() {
    let folder = small_safetensors();
    let options = ["--backend", "cpu", "-o", "out.npy", "--json"];
    let output = rows_of(&folder, "m.safetensors:layer:p", "m.safetensors:q", &options);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["rows"], &json["dtype"]), (&3.into(), &"f32".into()));
    let values = read_f32(&folder.path().join("out.npy"));
    // ln 2 − 0.5·ln 3, and ln 2 + 0.9·ln 0.9 + 0.1·ln 0.1.
    assert!((values[0] - 0.14384104).abs() < 1e-6 && (values[1] - 0.368_064_2).abs() < 1e-6);
    assert_eq!(values[2], f32::INFINITY);

    let options = ["--backend", "cpu", "--json"];
    let output = rows_of(&folder, "m.safetensors:layer:p", "m.safetensors:wide", &options);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["rows"], &json["dtype"]), (&3.into(), &"f64".into()));

    // Beside a .npy file of one row.
    fs::write(folder.path().join("u.npy"), f32_npy(1, 2, &[0.5, 0.5])).unwrap();
    let output = rows_of(&folder, "u.npy", "m.safetensors:q", &["--backend", "cpu", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["min"], &json["infinite_rows"]), (&0.0.into(), &1.into()));
}

#[test]
fn files_of_16_bits_are_computed_in_f32() {
    let folder = small_safetensors();
    let npy = npy("<f2", 1, 2, &[0x3800_u16, 0x3800].map(u16::to_le_bytes).concat());
    fs::write(folder.path().join("half.npy"), npy).unwrap();
    for backend in BACKENDS {
        for (p, q, dtype) in
            [("m.safetensors:q", "m.safetensors:q", "bf16"), ("half.npy", "half.npy", "f16")]
        {
            let output = rows_of(&folder, p, q, &["--json", "--backend", backend, "-o", "out.npy"]);
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&json["dtype"], &json["max"]), (&dtype.into(), &0.0.into()), "{backend}");
            assert!(read_f32(&folder.path().join("out.npy")).iter().all(|&value| value == 0.0));
        }
        // float16 beside bfloat16 is computed in f32.
        let output = rows_of(&folder, "half.npy", "m.safetensors:q", &["--json"]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["dtype"], &json["infinite_rows"]), (&"f32".into(), &1.into()));
    }
}

#[test]
fn logits_and_logarithms_are_taken() {
    // Logits of which one is masked, with a constant that changes nothing; 2·ln 3 at T = 2 is ln 3.
    let ln3 = 3_f32.ln();
    let masked = f32::NEG_INFINITY;
    let folder = folder(
        &f32_npy(2, 3, &[2.0 * ln3, 0.0, masked, 0.0, 0.0, masked]),
        &f32_npy(2, 3, &[100.0, 100.0, masked, 2.0 * ln3, 0.0, masked]),
    );
    let logs =
        f32_npy(2, 3, &[0.75_f32.ln(), 0.25_f32.ln(), masked, 0.5_f32.ln(), 0.5_f32.ln(), masked]);
    fs::write(folder.path().join("logs.npy"), logs).unwrap();
    fs::write(folder.path().join("probs.npy"), f32_npy(1, 3, &[0.5, 0.5, 0.0])).unwrap();
    // (3/4, 1/4) against (1/2, 1/2) and the other way round, by hand.
    let want = [0.75 * 1.5_f32.ln() + 0.25 * 0.5_f32.ln(), 0.5 * (4.0_f32 / 3.0).ln()];
    let options = ["-o", "out.npy", "--temperature", "2"];
    for backend in BACKENDS {
        for (p, q, input) in [
            ("p.npy", "q.npy", &["--input", "logits"][..]),
            ("logs.npy", "q.npy", &["--p-input", "log-probs", "--q-input", "logits"]),
        ] {
            let options = [&options[..], input, &["--backend", backend]].concat();
            let text = stdout(&rows_of(&folder, p, q, &options));
            let values = read_f32(&folder.path().join("out.npy"));
            let near = values.iter().zip(want).all(|(value, want)| (value - want).abs() < 1e-6);
            assert!(near, "{backend}: {values:?}, not {want:?}");
            assert!(text.contains(", temperature 2\n"), "{text}");
        }
    }
    let options = ["--input", "log-probs", "--q-input", "probs", "--invalid", "nan"];
    let text = stdout(&rows_of(&folder, "logs.npy", "probs.npy", &options));
    assert!(text.contains("input       log-probs against probs\n"), "{text}");
    assert!(text.contains("max         0.130812\n"), "{text}");
    for (options, want) in [
        (&["--temperature", "2"][..], "temperature is 2: only logits have one"),
        (
            &["--input", "logits", "--temperature", "0"],
            "temperature is 0: it must be at least 1e-6",
        ),
    ] {
        let error = message(&rows_of(&folder, "probs.npy", "probs.npy", options), 2);
        assert!(error.contains(want), "{error}");
    }
    let error = message(&rows_of(&folder, "logs.npy", "probs.npy", &[]), 2);
    assert!(error.contains("logs.npy: row 0, bin 0: the value is -0.2876"), "{error}");
}

#[test]
fn bad_tensors_are_named() {
    let folder = small_safetensors();
    for (p, want) in [
        ("m.safetensors:r", "has no tensor 'r'; it has 'layer:p', 'q', 'ids', 'wide'"),
        (
            "m.safetensors",
            "name one of its tensors, as in FILE.safetensors:TENSOR; it has 'layer:p', 'q', 'ids', \
             'wide'",
        ),
        (
            "m.safetensors:ids",
            "tensor 'ids': dtype I64 is not supported: save as F16, BF16, F32 or F64",
        ),
    ] {
        let error = message(&rows_of(&folder, p, "m.safetensors:q", &[]), 2);
        assert_eq!(error, format!("kullback: m.safetensors: {want}"));
    }
    let error = message(&rows_of(&folder, "m.safetensors:q", "no.safetensors:q", &[]), 2);
    assert!(error.starts_with("kullback: no.safetensors: cannot open: "), "{error}");
}

/// A matrix in every type and order that a file can have, by the names that are to be given.
fn in_every_form(
    folder: &TempDir,
    name: &str,
    rows: usize,
    bins: usize,
    value: impl Fn(usize) -> f64,
) {
    let values: Vec<f64> = (0..rows * bins).map(value).collect();
    let columns: Vec<f64> =
        (0..rows * bins).map(|at| values[at % rows * bins + at / rows]).collect();
    let f16 = |value: f64| half::f16::from_f64(value).to_bits();
    let write = |form: &str, file| fs::write(folder.path().join(format!("{name}-{form}")), file);
    for (order, values) in [("C", &values), ("F", &columns)] {
        let bytes = |of: fn(f64) -> Vec<u8>| values.iter().flat_map(|&one| of(one)).collect();
        let forms: [(&str, Vec<u8>); 4] = [
            ("<f4", bytes(|one| (one as f32).to_le_bytes().into())),
            (">f4", bytes(|one| (one as f32).to_be_bytes().into())),
            ("<f8", bytes(|one| one.to_le_bytes().into())),
            ("<f2", values.iter().flat_map(|&one| f16(one).to_le_bytes()).collect()),
        ];
        for (descr, data) in forms {
            let mut file = npy(descr, rows, bins, &data);
            if order == "F" {
                let at = file.windows(5).position(|text| text == b"False").unwrap();
                file[at..at + 5].copy_from_slice(b"True ");
            }
            write(&format!("{}{}-{order}.npy", &descr[1..], &descr[..1]), file).unwrap();
        }
    }
    let single: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let tensors = [("m", "BF16", [rows, bins], bytes(&single, true))];
    write("bf16.safetensors", safetensors(&tensors)).unwrap();
}

/// Everything that a summary says but the time.
fn summary(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut json: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["seconds", "bytes_per_second"] {
        assert!(json.as_object_mut().unwrap().remove(key).is_some());
    }
    json
}

#[test]
fn a_limit_changes_no_result() {
    let folder = tempfile::tempdir().unwrap();
    // Powers of 2 and a few other numbers that no type rounds.
    let weight = |at: usize| f64::from(1 + (at as u32).wrapping_mul(2_654_435_761) % 97);
    in_every_form(&folder, "p", 301, 37, weight);
    in_every_form(&folder, "q", 301, 37, |at| weight(at + 12_345));
    in_every_form(&folder, "one", 1, 37, |at| weight(at + 777));
    let forms =
        ["f4<-C.npy", "f4>-C.npy", "f8<-F.npy", "f2<-C.npy", "f2<-F.npy", "bf16.safetensors"];
    let mut pairs: Vec<_> = forms.iter().map(|form| (*form, "f4<-C.npy")).collect();
    pairs.extend(forms.iter().map(|form| (*form, *form)));
    pairs.extend([("f8<-C.npy", "f2<-F.npy"), ("bf16.safetensors", "f8<-C.npy")]);
    pairs.extend([("f4<-F.npy", "f4>-F.npy"), ("f2<-C.npy", "bf16.safetensors")]);
    for (p_form, q_form) in pairs {
        for (p, q) in [("p", "q"), ("one", "q"), ("p", "one")] {
            let (p, q) = (format!("{p}-{p_form}"), format!("{q}-{q_form}"));
            let run = |more: &[&str]| {
                let options = ["--mass", "normalize", "--json", "-o", "out.npy"];
                let options =
                    [&options[..], &["--backend", "cpu", "--cross-check", "9"], more].concat();
                let json = summary(&rows_of(&folder, &p, &q, &options));
                assert_eq!(json["cross_checked_rows"], 9);
                (json, fs::read(folder.path().join("out.npy")).unwrap())
            };
            let whole = run(&[]);
            for limit in ["1500", "9kB", "64KiB", "1GiB"] {
                assert!(run(&["--memory-limit", limit]) == whole, "{p} {q} under {limit}");
            }
        }
    }
}

#[test]
fn as_many_results_as_numbers_are_summed_up_alike() {
    // Rows of one bin, whose values under this policy are all different and do not fit the limit.
    let value = |at: usize, by: f64| ((at % 10_007) as f64).mul_add(by, 0.5) as f32;
    let side = |by| f32_npy(50_000, 1, &(0..50_000).map(|at| value(at, by)).collect::<Vec<_>>());
    let folder = folder(&side(0.001), &side(0.0007));
    for base in ["e", "2"] {
        let run = |limit: &[&str]| {
            let options = ["--mass", "generalized", "--json", "--backend", "cpu", "--base", base];
            summary(&rows(&folder, &[&options[..], limit].concat()))
        };
        let whole = run(&[]);
        assert!(whole["p99"].as_f64() > whole["median"].as_f64(), "{whole}");
        for limit in ["4000", "100kB"] {
            assert_eq!(run(&["--memory-limit", limit]), whole, "under {limit}");
        }
    }
}

#[test]
fn a_failure_far_into_a_file_leaves_nothing() {
    let mut values = vec![0.5_f32; 2 * 1_000];
    values[2 * 873 + 1] = f32::NAN;
    let folder = folder(&f32_npy(1_000, 2, &[0.5; 2_000]), &f32_npy(1_000, 2, &values));
    let names = || fs::read_dir(&folder).unwrap().count();
    for existing in [false, true] {
        if existing {
            fs::write(folder.path().join("out.npy"), "kept").unwrap();
        }
        let before = names();
        let output = rows(&folder, &["--memory-limit", "2kB", "-o", "out.npy"]);
        let want = "kullback: q.npy: row 873, bin 1: the value is NaN; ";
        assert!(message(&output, 2).starts_with(want), "{output:?}");
        assert_eq!(names(), before);
    }
    assert_eq!(fs::read(folder.path().join("out.npy")).unwrap(), b"kept");
    let options = ["--memory-limit", "2kB", "-o", "out.npy", "--invalid", "nan", "--quiet"];
    assert_eq!(rows(&folder, &options).status.code(), Some(0));
    let got = read_f32(&folder.path().join("out.npy"));
    assert_eq!((got.len(), got.iter().position(|value| value.is_nan())), (1_000, Some(873)));
}

#[test]
fn a_row_beyond_the_limit_is_told_what_it_takes() {
    let side = f32_npy(3, 1_000, &[0.001; 3_000]);
    let folder = folder(&side, &side);
    let run = |limit: &str| {
        rows(&folder, &["--memory-limit", limit, "--backend", "cpu", "--mass-tolerance", "0.01"])
    };
    let error = message(&run("5KiB"), 2);
    let (start, rest) = error.split_once("--memory-limit ").unwrap();
    assert!(start.ends_with("p.npy and q.npy: their rows are so long that "), "{error}");
    let (least, rest) = rest.split_once(' ').unwrap();
    assert_eq!(rest, "(8.9 KiB) is the least that takes one");
    let less = least.parse::<usize>().unwrap() - 1;
    assert!(stdout(&run(least)).contains("rows        3 × 1,000 bins"));
    assert_eq!(run(&less.to_string()).status.code(), Some(2));
    let error = run("12 bananas");
    assert!(String::from_utf8_lossy(&error.stderr).contains("12 bananas"), "{error:?}");
    assert_eq!(error.status.code(), Some(2));
}

/// Makes files of zeros of this shape, which take no place on the disk.
fn zeros(rows: usize, bins: usize, fortran_order: &str) -> TempDir {
    let mut header = npy("<f4", rows, bins, &[]);
    let at = header.windows(5).position(|text| text == b"False").unwrap();
    header[at..at + 5].copy_from_slice(fortran_order.as_bytes());
    let folder = folder(&header, &header);
    for name in ["p.npy", "q.npy"] {
        let file = fs::File::options().write(true).open(folder.path().join(name)).unwrap();
        file.set_len((header.len() + rows * bins * 4) as u64).unwrap();
    }
    folder
}

/// Waits for a command, and tells the most memory that it had at a time, in bytes.
#[cfg(target_os = "linux")]
fn wait_with_peak(mut child: std::process::Child) -> (Output, usize) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // The system's own high-water mark. It is gone as soon as the process ends.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).map(str::parse::<usize>);
        peak = kib.map_or(peak, |kib| kib.unwrap() * 1024);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    (child.wait_with_output().unwrap(), peak)
}

/// Files many times as large: of long rows, of rows as many as numbers, and column by column.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_is_kept() {
    for (rows, bins, order) in
        [(1 << 15, 512, "False"), (1 << 22, 1, "False"), (1 << 12, 4096, "True ")]
    {
        let folder = zeros(rows, bins, order);
        let options = ["--mass", "generalized", "--memory-limit", "16MiB", "-o", "out.npy"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
        command.current_dir(&folder).args(["rows", "p.npy", "q.npy", "--backend", "cpu"]);
        let child = command.args(options).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let (output, peak) = wait_with_peak(child);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout(&output).contains("\nmax         0.000000\n"), "{output:?}");
        assert!((8 << 20..48 << 20).contains(&peak), "{rows} × {bins}: {peak} bytes");
    }
}

#[test]
fn bad_usage_ends_with_2() {
    for arguments in [
        &["rows"][..],
        &["rows", "p.npy"],
        &["rows", "p.npy", "q.npy", "--mass", "normalise"],
        &["rows", "p.npy", "q.npy", "--backend", "tpu"],
        &["rows", "p.npy", "q.npy", "--cross-check", "-1"],
        &["columns"],
        &[],
    ] {
        assert_eq!(kullback(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = kullback(["rows", "p", "q", "--mass", "normalise"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("check, normalize, as-given, generalized"), "{text}");
}

#[test]
fn help_teaches() {
    let text = stdout(&kullback(["--help"]));
    for word in ["rows", "devices", "Examples:", "Exit status"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    let text = stdout(&kullback(["rows", "--help"]));
    for word in
        ["--memory-limit", "--mass", "--base", "--cross-check", "+inf", "normalize", "generalized"]
    {
        assert!(text.contains(word), "{word} in\n{text}");
    }
}

#[test]
fn devices_are_listed_with_their_self_test() {
    let output = kullback(["devices", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let adapters = json["adapters"].as_array().unwrap();
    assert_eq!(adapters.is_empty(), !cfg!(feature = "gpu"), "{json}");
    for adapter in adapters {
        assert_eq!(adapter["self_test"], "ok", "{adapter}");
        assert!(!adapter["name"].as_str().unwrap().is_empty() && adapter["f64"].is_boolean());
    }
    assert!(json["auto"].as_str().unwrap().contains("the CPU"));
    assert!(stdout(&kullback(["devices"])).contains("auto takes the CPU"));
}

#[test]
fn the_example_data_gives_the_published_mean() {
    // From examples/data/README.md, worked out with mpmath.
    for backend in BACKENDS {
        let file = |name| project("examples/data").join(name).into_os_string();
        let output = kullback([
            "rows".into(),
            file("digits.npy"),
            file("digits_mean.npy"),
            "--json".into(),
            "--backend".into(),
            (*backend).into(),
        ]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (key, want) in
            [("mean", 0.385051128023663), ("min", 0.116070571092102), ("max", 1.02476165829846)]
        {
            assert!((json[key].as_f64().unwrap() / want - 1.0).abs() < 5e-7, "{key}: {json}");
        }
    }
}
