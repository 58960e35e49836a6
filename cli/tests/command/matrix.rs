//! `kullback matrix`.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    BACKENDS, bytes, f32_npy, f64_npy, folder, message, names, read_f32, safetensors, stdout,
};

fn matrix(folder: &TempDir, p: &str, q: &str, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kullback"));
    command.current_dir(folder).args(["matrix", p, q]).args(options);
    command.output().expect("the command starts")
}

/// Two rows against three.
fn small() -> TempDir {
    let p = f32_npy(2, 2, &[0.5, 0.5, 0.9, 0.1]);
    let q = f32_npy(3, 2, &[0.25, 0.75, 0.9, 0.1, 1.0, 0.0]);
    folder(&p, &q)
}

/// D(p‖q) of two bins each.
fn kl(p: f64, q: f64) -> f64 {
    let rest = if p < 1.0 { (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln() } else { 0.0 };
    p * (p / q).ln() + rest
}

fn assert_near(got: f64, want: f64) {
    assert!(got == want || (got - want).abs() <= 1e-6 * want.abs(), "{got:e}, not {want:e}");
}

#[test]
fn values_go_to_a_file_of_rows_and_columns() {
    let folder = small();
    let output = matrix(&folder, "p.npy", "q.npy", &["-o", "out.npy", "--json"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&summary["rows"], &summary["columns"], &summary["bins"]),
        (&2.into(), &3.into(), &2.into())
    );
    assert_eq!(summary["infinite_pairs"], 2);
    assert_eq!(summary["nearest_pair"], serde_json::json!([1, 1]));
    assert_eq!(summary["min"], 0.0);
    let file = fs::read(folder.path().join("out.npy")).unwrap();
    assert!(
        file[10..128].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }")
    );
    let values = read_f32(&folder.path().join("out.npy"));
    let wanted = [kl(0.5, 0.25), kl(0.5, 0.9), f64::INFINITY, kl(0.9, 0.25), 0.0, f64::INFINITY];
    for (got, want) in values.iter().zip(wanted) {
        assert_near((*got).into(), want);
    }
    assert_eq!(names(&folder), ["out.npy", "p.npy", "q.npy"]);
}

#[test]
fn a_summary_for_people() {
    let folder = small();
    let text =
        stdout(&matrix(&folder, "p.npy", "q.npy", &["--divergence", "tv", "--backend", "cpu"]));
    for line in [
        "matrix      2 × 3 of 2 bins, f32",
        "divergence  tv, mass policy check",
        "backend     cpu",
        "min         0.000000",
        "max         0.650000",
        "nearest     P row 1, Q row 1: 0.000000",
        "infinite    0 pairs",
        "invalid     0 rows of P, 0 of Q",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    assert_eq!(stdout(&matrix(&folder, "p.npy", "q.npy", &["--quiet"])), "");
}

#[test]
fn a_row_is_not_its_own_neighbour_in_one_file() {
    let folder = small();
    let output = matrix(&folder, "q.npy", "q.npy", &["--divergence", "tv", "--json"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(summary["nearest_pair"], serde_json::json!([1, 2]));
    assert_near(summary["nearest"].as_f64().unwrap(), 0.1);
    assert_eq!(summary["min"], 0.0);
}

#[test]
fn one_file_is_one_by_whatever_names() {
    let folder = small();
    let path = |name: &str| folder.path().join(name);
    fs::hard_link(path("q.npy"), path("hard.npy")).unwrap();
    let tensors = |names: [&str; 2]| {
        let values = || bytes(&[0.5, 0.5, 0.25, 0.75, 0.9, 0.1], false);
        safetensors(&names.map(|name| (name, "F32", [3, 2], values())))
    };
    fs::write(path("m.safetensors"), tensors(["a", "b"])).unwrap();
    for (p, q, is_one) in [
        ("q.npy", "./q.npy", true),
        ("q.npy", "hard.npy", true),
        ("m.safetensors:a", "./m.safetensors:a", true),
        ("m.safetensors:a", "./m.safetensors:b", false),
        ("p.npy", "q.npy", false),
    ] {
        let output = matrix(&folder, p, q, &["--divergence", "tv", "--json"]);
        let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(summary["nearest"] != 0.0, is_one, "{p} {q}: {summary}");
    }
    // Numbers of two kinds are not the same ones.
    let options = ["--divergence", "tv", "--q-input", "logits", "--json"];
    assert!(stdout(&matrix(&folder, "q.npy", "./q.npy", &options)).contains("nearest"));
}

#[test]
fn the_unit_is_that_of_the_base() {
    let folder = small();
    let options = ["--base", "2", "-o", "out.npy", "--memory-limit", "80"];
    assert!(matrix(&folder, "p.npy", "q.npy", &options).status.success());
    let values = read_f32(&folder.path().join("out.npy"));
    assert_near(values[0].into(), kl(0.5, 0.25) / std::f64::consts::LN_2);
    let wrong = matrix(&folder, "p.npy", "q.npy", &["--base", "2", "--divergence", "tv"]);
    assert!(message(&wrong, 2).contains("no logarithm"));
}

#[test]
fn the_nearest_rows_are_printed_or_written() {
    let folder = small();
    let text = stdout(&matrix(&folder, "p.npy", "q.npy", &["--top-k", "2"]));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        ["0           0 (0.143841), 1 (0.510826)", "1           1 (0.000000), 0 (0.951350)"]
    );
    let output = matrix(&folder, "p.npy", "q.npy", &["--top-k", "9", "--json"]);
    let table: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(table["indices"], serde_json::json!([[0, 1, 2], [1, 0, 2]]));
    assert_eq!(table["values"][0][2], Value::Null);

    assert_eq!((&table["rows"], &table["nearest_of_each"]), (&2.into(), &3.into()));

    let text = stdout(&matrix(&folder, "p.npy", "q.npy", &["--top-k", "1", "-o", "out.npy"]));
    assert!(text.contains("1 for each of 2 rows") && text.contains("cpu"), "{text}");
    let file = fs::read(folder.path().join("out.npy")).unwrap();
    let header = b"{'descr': [('index', '<i8'), ('value', '<f4')], 'fortran_order': False, 'shape': (2, 1), }";
    assert!(file[10..].starts_with(header));
    assert_eq!(file.len(), 128 + 24);
    let data = &file[file.len() - 24..];
    assert_eq!(data[..8], 0_i64.to_le_bytes());
    assert_near(f32::from_le_bytes(data[8..12].try_into().unwrap()).into(), kl(0.5, 0.25));
    assert_eq!(data[12..20], 1_i64.to_le_bytes());
    assert_eq!(data[20..], 0_f32.to_le_bytes());
}

#[test]
fn what_is_found_counts_as_memory_too() {
    let folder = small();
    let limited =
        |limit: &str| matrix(&folder, "p.npy", "q.npy", &["--top-k", "3", "--memory-limit", limit]);
    let refused = message(&limited("100"), 2);
    // 16 and 24 bytes of rows, 6 times 12 of what is found, and a row of 3 values.
    assert!(refused.contains("--top-k what it finds; --memory-limit 124 "), "{refused}");
    assert!(limited("124").status.success());
}

#[test]
fn an_invalid_row_is_named_with_its_file_or_makes_nan() {
    let folder = folder(&f64_npy(1, 2, &[0.5, 0.5]), &f64_npy(2, 2, &[0.5, 0.5, 1.5, -0.5]));
    let output = matrix(&folder, "p.npy", "q.npy", &["-o", "out.npy"]);
    let message = message(&output, 2);
    assert!(message.contains("q.npy: row 1, bin 1: the value is -0.5"), "{message}");
    assert_eq!(names(&folder), ["p.npy", "q.npy"]);
    let output = matrix(&folder, "p.npy", "q.npy", &["--invalid", "nan", "--json"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&summary["invalid_p_rows"], &summary["invalid_q_rows"]), (&0.into(), &1.into()));
}

#[test]
fn pairs_beyond_the_result_type_are_counted() {
    let folder =
        folder(&f32_npy(2, 2, &[1.0, 0.0, 0.5, -0.5]), &f32_npy(2, 2, &[1e-39, 1.0, 0.5, 0.5]));
    let options = ["--divergence", "chi2", "--backend", "cpu", "--invalid", "nan"];
    let with =
        |more: &[&str]| stdout(&matrix(&folder, "p.npy", "q.npy", &[&options[..], more].concat()));
    for more in [&[][..], &["--top-k", "2"]] {
        let json: Value = serde_json::from_str(&with(&[more, &["--json"]].concat())).unwrap();
        let counts = (&json["overflowing_pairs"], &json["invalid_p_rows"]);
        assert_eq!(counts, (&1.into(), &1.into()), "{json}");
        let text = with(more);
        assert!(text.contains("\noverflow    1 pairs, beyond the result type\n"), "{text}");
    }
    let nearest: Value = serde_json::from_str(&with(&["--top-k", "1", "--json"])).unwrap();
    assert_eq!(nearest["overflowing_pairs"], 0);
}

#[test]
fn a_mean_is_in_the_range_of_its_values() {
    let folder = folder(&f64_npy(1, 2, &[1e305, 0.0]), &f64_npy(3, 2, &[1.0; 6]));
    let output = matrix(&folder, "p.npy", "q.npy", &["--mass", "as-given", "--json"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let want = 1e305 * 1e305_f64.ln();
    assert!((summary["mean"].as_f64().unwrap() / want - 1.0).abs() < 1e-14, "{summary}");
}

#[test]
fn what_cannot_be_is_refused_with_one_message() {
    let folder = small();
    fs::write(folder.path().join("wide.npy"), f32_npy(1, 3, &[0.5, 0.25, 0.25])).unwrap();
    let refused = |q: &str, options: &[&str]| message(&matrix(&folder, "p.npy", q, options), 2);
    assert!(refused("wide.npy", &[]).contains("both need the same bins"));
    assert!(refused("q.npy", &["-o", "q.npy"]).contains("would replace an input"));
    assert!(refused("q.npy", &["--memory-limit", "51"]).contains("--memory-limit 52 (52 B)"));
    assert!(
        refused("q.npy", &["--divergence", "renyi:2", "--mass", "as-given"]).contains("'check'")
    );
    assert!(refused("none.npy", &[]).contains("none.npy"));
}

#[test]
fn a_gpu_makes_the_same_matrix_and_says_what_it_left_to_the_cpu() {
    if !BACKENDS.contains(&"gpu") {
        return;
    }
    let folder = small();
    let json = |options: &[&str]| -> Value {
        let options = [&["--backend", "gpu", "--json"], options].concat();
        serde_json::from_str(&stdout(&matrix(&folder, "p.npy", "q.npy", &options))).unwrap()
    };
    let summary = json(&["-o", "out.npy"]);
    assert_eq!((&summary["backend"], &summary["fallback_reason"]), (&"gpu".into(), &Value::Null));
    let values = read_f32(&folder.path().join("out.npy"));
    let wanted = [kl(0.5, 0.25), kl(0.5, 0.9), f64::INFINITY, kl(0.9, 0.25), 0.0, f64::INFINITY];
    for (got, want) in values.iter().zip(wanted) {
        assert_near((*got).into(), want);
    }
    let table = json(&["--top-k", "1"]);
    assert_eq!(table["indices"], serde_json::json!([[0], [1]]));
    assert_eq!(table["backend"], "gpu");
    let left = json(&["--divergence", "renyi:2"]);
    assert_eq!(left["backend"], "cpu");
    assert!(left["fallback_reason"].as_str().unwrap().contains("renyi:2"), "{left}");
}
