//! Machines without an adapter, without a driver, without a loader: the CPU computes, and who
//! insists on the GPU is told why not.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use kullback_faults::child::{Program, Run, Starter};
use kullback_faults::function::Function;
use kullback_faults::report::End;
use kullback_faults::verdict::{self, Verdict};

fn run(program: Program, variables: &[(&str, &str)]) -> Run {
    let starter = Starter::new(Path::new(env!("CARGO_BIN_EXE_faults"))).unwrap();
    starter.run_with(program, &[], variables).unwrap()
}

/// On a machine that these variables make: `auto` and who can fall back compute every row, and the
/// GPU backend says that it finds no adapter.
fn the_cpu_computes(variables: &[(&str, &str)]) {
    for program in [Program::Auto, Program::Fallback] {
        let run = run(program, variables);
        assert_eq!(verdict::judge(program, &run), (Verdict::Right, String::new()));
        assert!(!run.counts.contains_key(&Function::CreateDevice));
    }
    let run = run(Program::Gpu, variables);
    let [opened] = &run.calls[..] else { panic!("{:?}", run.calls) };
    let End::Error(why) = &opened.end else { panic!("{opened:?}") };
    assert!(why.starts_with("no GPU adapter can be used: "), "{why}");
}

#[test]
fn no_driver() {
    // The newer name and the older one.
    the_cpu_computes(&[("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null")]);
}

#[test]
fn a_driver_that_is_named_and_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("icd.json");
    let text = r#"{
        "file_format_version": "1.0.0",
        "ICD": {"library_path": "/no/such/driver.so", "api_version": "1.3.0"}
    }"#;
    fs::write(&manifest, text).unwrap();
    let manifest = manifest.to_str().unwrap();
    the_cpu_computes(&[("VK_DRIVER_FILES", manifest), ("VK_ICD_FILENAMES", manifest)]);
}

#[test]
fn a_driver_that_is_no_driver() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, driver) = (folder.path().join("icd.json"), folder.path().join("driver.so"));
    fs::write(&driver, "this is no library").unwrap();
    let icd = serde_json::json!({
        "file_format_version": "1.0.0",
        "ICD": {"library_path": driver, "api_version": "1.3.0"},
    });
    fs::write(&manifest, icd.to_string()).unwrap();
    let manifest = manifest.to_str().unwrap();
    the_cpu_computes(&[("VK_DRIVER_FILES", manifest), ("VK_ICD_FILENAMES", manifest)]);
}

#[test]
fn no_loader() {
    // The system finds this one first, and cannot open it.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("libvulkan.so.1"), "").unwrap();
    the_cpu_computes(&[("LD_LIBRARY_PATH", folder.path().to_str().unwrap())]);
}
