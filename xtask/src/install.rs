//! What the tests need of the system: a Vulkan driver for machines without a GPU (lavapipe, out of
//! Mesa), and the validation layer of Khronos.

use std::fs;

use crate::command::{Failure, capture, run};

/// Debian's package with the driver, and that with the layer.
pub(crate) const DRIVER: &str = "mesa-vulkan-drivers";
pub(crate) const VALIDATION: &str = "vulkan-validationlayers";

/// What to do about a driver where nothing can be installed from here.
pub(crate) const BY_HAND: &str = "\
Install a Vulkan driver by hand; lavapipe, from Mesa, needs no GPU:
  Debian, Ubuntu  apt-get install mesa-vulkan-drivers
  Fedora          dnf install mesa-vulkan-drivers
  Arch            pacman -S vulkan-swrast
  Alpine          apk add mesa-vulkan-swrast
macOS and Windows come with Metal and DX12; there, update the system's graphics driver.";

/// As whom packages can be installed.
#[derive(Clone, Copy)]
enum Rights {
    Root,
    Sudo,
    Neither,
}

/// Installs a package.
pub(crate) fn package(name: &str) -> Result<(), Failure> {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    for command in plan(&os_release, rights(), name).map_err(Failure::new)? {
        run(&command)?;
    }
    Ok(())
}

fn rights() -> Rights {
    if capture("id -u").is_ok_and(|uid| uid.trim() == "0") {
        Rights::Root
    } else if capture("sudo --version").is_ok() {
        Rights::Sudo
    } else {
        Rights::Neither
    }
}

/// The commands that install a package, or why there are none.
fn plan(os_release: &str, rights: Rights, name: &str) -> Result<Vec<String>, &'static str> {
    if !is_debian(os_release) {
        return Err("packages are installed on Debian and Ubuntu only");
    }
    let prefix = match rights {
        Rights::Root => "",
        Rights::Sudo => "sudo --non-interactive ",
        Rights::Neither => return Err("installing a package takes root or sudo"),
    };
    // The loader that wgpu opens, libvulkan1, is a dependency of both.
    let install = format!("install --yes --no-install-recommends {name}");
    // sudo drops variables that are set before it.
    let apt = "env DEBIAN_FRONTEND=noninteractive apt-get";
    Ok(["update", &install].map(|step| format!("{prefix}{apt} {step}")).into())
}

/// Whether an os-release file is that of Debian, Ubuntu or a system made from them.
fn is_debian(os_release: &str) -> bool {
    ["ID", "ID_LIKE"]
        .iter()
        .filter_map(|key| value(os_release, key))
        .flat_map(str::split_whitespace)
        .any(|id| ["debian", "ubuntu"].contains(&id))
}

fn value<'a>(os_release: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = os_release.lines().filter_map(|line| line.trim().split_once('='));
    let (_, value) = pairs.find(|&(found, _)| found == key)?;
    Some(value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str =
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";

    #[test]
    fn values_are_read_with_and_without_quotes() {
        let text =
            "# ID=no\nVERSION_ID=\"12\"\nID='arch'\n\nID_LIKE=\"a b\"\nHOME=https://x/?y=z\n";
        assert_eq!(value(text, "ID"), Some("arch"));
        assert_eq!(value(text, "ID_LIKE"), Some("a b"));
        assert_eq!(value(text, "VERSION_ID"), Some("12"));
        assert_eq!(value(text, "HOME"), Some("https://x/?y=z"));
        assert_eq!(value(text, "VERSION"), None);
    }

    #[test]
    fn debian_and_what_is_made_from_it_are_told_from_others() {
        assert!(is_debian(DEBIAN));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(is_debian("ID='pop'\nID_LIKE='ubuntu'\n"));
        assert!(!is_debian("ID=fedora\n"));
        assert!(!is_debian("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"));
        assert!(!is_debian("ID=debianish\nNAME=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn root_installs_directly() {
        let expected = [
            "env DEBIAN_FRONTEND=noninteractive apt-get update",
            "env DEBIAN_FRONTEND=noninteractive apt-get \
             install --yes --no-install-recommends mesa-vulkan-drivers",
        ];
        assert_eq!(plan(DEBIAN, Rights::Root, DRIVER).unwrap(), expected);
    }

    #[test]
    fn others_install_through_sudo() {
        let root = plan(DEBIAN, Rights::Root, DRIVER).unwrap();
        let expected: Vec<_> =
            root.iter().map(|line| format!("sudo --non-interactive {line}")).collect();
        assert_eq!(plan(DEBIAN, Rights::Sudo, DRIVER).unwrap(), expected);
    }

    #[test]
    fn nothing_is_installed_without_rights_or_on_other_systems() {
        assert!(plan(DEBIAN, Rights::Neither, DRIVER).unwrap_err().contains("sudo"));
        for rights in [Rights::Root, Rights::Sudo, Rights::Neither] {
            assert!(plan("ID=arch\n", rights, DRIVER).unwrap_err().contains("Debian"));
        }
    }
}
