//! The suite under the validation layer of Khronos, which holds every Vulkan call against the
//! specification and looks for accesses that nothing keeps apart. It may have nothing to say.

use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use crate::command::{Failure, overhear};
use crate::install;

const LAYER: &str = "VK_LAYER_KHRONOS_validation";
const MANIFEST: &str = "VkLayer_khronos_validation.json";
/// Where systems keep layers.
const FOLDERS: [&str; 3] = [
    "/usr/share/vulkan/explicit_layer.d",
    "/usr/local/share/vulkan/explicit_layer.d",
    "/etc/vulkan/explicit_layer.d",
];

/// One test at a time: the layer looks devices up in a table without a lock, and crashes where one is
/// opened or closed while another thread records commands. The whole workspace, for which it is built
/// already.
const SUITE: &str = "cargo test --quiet --locked --workspace --test suite -- --test-threads=1";
/// What each change is held to: the rest of the suite makes the same calls with other numbers.
pub(crate) const PART: &str =
    " rows:: long:: kinds:: engine:: recover:: resident:: gradient::a_gpu matrix::bands";

/// The layer's messages come on the standard error, whatever happens to the process.
const SETTINGS: &str = "\
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.log_filename = /dev/stderr
khronos_validation.report_flags = error,warn,perf
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,\
VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT
";

/// wgpu writes into shaders that they come from WGSL if it has its own debug flags set, as an
/// application's device has in debug builds and the library's own never has. The layers of Debian 12
/// are older than that number.
const KNOWN: &str = "[ UNASSIGNED-CoreValidation-Shader-InconsistentSpirv ]";
const KNOWN_TEXT: &str = "SPIR-V module not valid: Invalid source language operand: 10";

const BY_HAND: &str = "\
Install the validation layer of Khronos by hand:
  Debian, Ubuntu  apt-get install vulkan-validationlayers
  Fedora          dnf install vulkan-validation-layers
  Arch            pacman -S vulkan-validation-layers
  Alpine          apk add vulkan-validation-layers";

/// The tests need the layer where adapters are reached through Vulkan as on Linux.
pub(crate) fn find_or_install() -> Result<(), Failure> {
    if !cfg!(target_os = "linux") || is_there() {
        return Ok(());
    }
    println!("{LAYER} is not here; the tests need it");
    let by_hand = |why: &str| Failure::new(format!("{why}\n{BY_HAND}"));
    install::package(install::VALIDATION).map_err(|failure| by_hand(&failure.to_string()))?;
    is_there().then_some(()).ok_or_else(|| by_hand("it is still not here"))
}

fn is_there() -> bool {
    FOLDERS.iter().any(|folder| Path::new(folder).join(MANIFEST).exists())
}

/// Runs the whole suite under it, as it may be done by hand.
pub(crate) fn run_all() -> Result<(), Failure> {
    find_or_install()?;
    println!("nothing to say in {:.1?}", check("")?);
    Ok(())
}

/// Runs tests of the suite under it. Returns how long that took.
pub(crate) fn check(tests: &str) -> Result<Duration, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(Duration::ZERO);
    }
    let folder = env::temp_dir().join("kullback-validation");
    let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    fs::write(folder.join("vk_layer_settings.txt"), SETTINGS).map_err(failed)?;
    let folder = folder.to_string_lossy();
    let variables = [("VK_INSTANCE_LAYERS", LAYER), ("VK_LAYER_SETTINGS_PATH", &*folder)];
    let (heard, time) = overhear(&variables, &format!("{SUITE}{tests}"))?;
    match messages(&heard).count() {
        0 => Ok(time),
        count => Err(Failure::new(format!("{LAYER} has {count} messages"))),
    }
}

/// Those of its messages that complain of something.
fn messages(heard: &str) -> impl Iterator<Item = &str> {
    let kinds = ["Validation Error", "Validation Warning", "Validation Performance Warning"];
    let complains = move |line: &&str| kinds.iter().any(|kind| line.contains(kind));
    let is_known = |line: &str| line.contains(KNOWN) && line.ends_with(KNOWN_TEXT);
    heard.lines().filter(complains).filter(move |line| !is_known(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_the_rest() {
        let heard = "Compiling kullback\n\
            SYNC-HAZARD-READ-AFTER-WRITE(ERROR / SPEC): msgNum: 1 - Validation Error: [ .. ] Object 0\n\
            \x20   Objects: 1\n\
            X(WARN / SPEC): msgNum: 2 - Validation Warning: [ X ]\n\
            error: XDG_RUNTIME_DIR is invalid or not set in the environment.\n";
        assert_eq!(messages(heard).count(), 2);
        let known =
            format!("A(ERROR / SPEC): msgNum: 3 - Validation Error: {KNOWN} | {KNOWN_TEXT}");
        assert_eq!(messages(&known).count(), 0);
        let other = known.replace("operand: 10", "operand: 11");
        assert_eq!(messages(&other).count(), 1);
    }
}
