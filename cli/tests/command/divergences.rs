//! `--divergence` and its units.

use serde_json::Value;

use crate::{BACKENDS, f32_npy, folder, message, read_f32, rows, stdout};

/// (½, ½) and (1, 0) against (0.3, 0.7) and (0, 1).
fn two_rows() -> tempfile::TempDir {
    folder(&f32_npy(2, 2, &[0.5, 0.5, 1.0, 0.0]), &f32_npy(2, 2, &[0.3, 0.7, 0.0, 1.0]))
}

fn values(options: &[&str]) -> Vec<f32> {
    let folder = two_rows();
    let out = folder.path().join("out.npy");
    let output = rows(&folder, &[options, &["-q", "-o", out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{output:?}");
    read_f32(&out)
}

#[test]
fn each_divergence_has_its_values() {
    let ln_2 = std::f32::consts::LN_2;
    for backend in BACKENDS {
        for (name, want) in [
            ("js", [0.021_005_926, ln_2]),
            ("js-distance", [0.144_934_2, ln_2.sqrt()]),
            ("tv", [0.2, 1.0]),
            ("hellinger", [0.145_236_66, 1.0]),
            ("reverse-kl", [0.082_282_88, f32::INFINITY]),
            ("renyi:inf", [0.510_825_6, f32::INFINITY]),
            ("tsallis:0.5", [0.042_187_374, 2.0]),
            ("entropy", [ln_2, 0.0]),
        ] {
            let got = values(&["--divergence", name, "--backend", backend]);
            for (got, want) in got.into_iter().zip(want) {
                let near = got == want || (got - want).abs() <= 1e-6 * want;
                assert!(near, "{backend}, {name}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn bits_are_nats_but_for_a_factor() {
    let bits = values(&["--divergence", "js", "--base", "2"]);
    assert!((bits[1] - 1.0).abs() < 1e-6, "{bits:?}");
    // As scipy.spatial.distance.jensenshannon has it: the root of bits.
    let root = values(&["--divergence", "js-distance", "--base", "2"]);
    assert!((root[0] - bits[0].sqrt()).abs() < 1e-6, "{root:?}");
}

#[test]
fn measures_without_a_logarithm_have_no_unit() {
    let output = rows(&two_rows(), &["--divergence", "tv"]);
    let table = stdout(&output);
    assert!(table.contains("divergence  tv, mass policy check"), "{table}");
    let output = rows(&two_rows(), &["--divergence", "renyi:2", "--invalid", "nan", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["divergence"], &json["unit"]), (&"renyi:2".into(), &"nats".into()));
    let refused = message(&rows(&two_rows(), &["--divergence", "tv", "--base", "2"]), 2);
    assert!(refused.contains("tv has no logarithm that could be in bits (--base)"), "{refused}");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let policy = rows(&two_rows(), &["--divergence", "renyi:2", "--mass", "as-given"]);
    let policy = message(&policy, 2);
    assert!(policy.contains("'renyi'") && policy.contains("'normalize'"), "{policy}");
    for (name, part) in [
        ("wasserstein", "expected one of kl, reverse-kl"),
        ("renyi", "renyi:A"),
        ("js:2", "above 0 and below 1"),
    ] {
        let output = rows(&two_rows(), &["--divergence", name]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_cross_check_knows_every_divergence() {
    for name in ["jeffreys", "alpha:-1", "chi2", "bhattacharyya", "cross-entropy"] {
        let output = rows(&two_rows(), &["--divergence", name, "--cross-check", "2", "--json"]);
        let json: Value = serde_json::from_slice(&output.stdout).expect("a summary");
        assert_eq!(json["cross_checked_rows"], 2, "{name}");
    }
}
