//! The library under the validation layer of Khronos, which holds every call against the Vulkan
//! specification and looks for accesses that nothing keeps apart.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use kullback_faults::child::{Program, Starter};
use kullback_faults::function::Function;
use kullback_faults::layer;
use kullback_faults::rule::rules;
use kullback_faults::verdict::{self, Verdict};

const LAYER: &str = "VK_LAYER_KHRONOS_validation";

/// What the validation layer has to say about a run with some faults.
fn messages(faults: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let settings = format!(
        "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG\n\
         khronos_validation.log_filename = {}\n\
         khronos_validation.report_flags = error,warn,perf\n\
         khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,\
         VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT\n",
        log.display()
    );
    fs::write(folder.path().join("vk_layer_settings.txt"), settings).unwrap();
    let starter = Starter::new(Path::new(env!("CARGO_BIN_EXE_faults"))).unwrap();
    // The first one is the first that a call comes to: the validation layer sees what is left of it.
    let layers = format!("{}:{LAYER}", layer::NAME);
    let variables = [
        ("VK_INSTANCE_LAYERS", layers.as_str()),
        ("VK_LAYER_SETTINGS_PATH", folder.path().to_str().unwrap()),
    ];
    let run = starter.run_with(Program::Gpu, &rules(faults).unwrap(), &variables).unwrap();
    let (verdict, why) = verdict::judge(Program::Gpu, &run);
    assert_eq!(verdict, Verdict::Right, "{why}");
    // Another one would begin the log anew.
    assert_eq!(run.counts[&Function::CreateInstance], 1);
    fs::read_to_string(log).expect("the layer writes a log: `cargo xtask test` installs it")
}

#[test]
fn every_call_is_valid() {
    assert_eq!(messages(""), "");
}

/// Barriers that are dropped change no value where a program acts as the adapter.
#[test]
fn what_is_wrong_is_seen() {
    assert!(messages("CmdPipelineBarrier:1:skip:sticky").contains("SYNC-HAZARD"));
}
