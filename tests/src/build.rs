//! Where cargo put this test, and our own binaries, built once per process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use crate::files::exclusive;

/// The workspace, for cargo to run in.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const BINARIES: [&str; 2] = ["natsfer-producer", "natsfer-consumer"];

/// The path of one of our binaries, `natsfer-producer` or `natsfer-consumer`,
/// built in the profile of the running test. The first call in a process
/// blocks while cargo builds.
///
/// # Errors
/// When cargo fails, with all it said, or leaves no such binary.
pub fn our_binary(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let directory = match built {
        Ok(directory) => directory,
        Err(reason) => bail!("cannot build our binaries: {reason}"),
    };
    let binary = directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    ensure!(binary.is_file(), "cargo built no {}: does the package have that binary?", binary.display());
    Ok(binary)
}

/// The target directory this test was built into.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let target = profile.parent().context("a profile without a target")?;
    Ok(target.to_owned())
}

/// `target/debug` for `target/debug/deps/scenario-0123456789abcdef` and for `target/debug/natsfer-demo`.
fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("where is this program?")?;
    let folder = exe.parent().with_context(|| format!("odd place for a program: {}", exe.display()))?;
    // Tests and benches lie in `deps`, examples in `examples`; programs in the profile's folder itself.
    let profile = if folder.ends_with("deps") || folder.ends_with("examples") { folder.parent() } else { Some(folder) };
    profile.map(Path::to_owned).with_context(|| format!("odd place for a program: {}", exe.display()))
}

/// Whether this is `cargo test`. What is shown, or measured, is built as it is installed.
fn runs_in_a_test() -> Result<bool> {
    let exe = std::env::current_exe().context("where is this program?")?;
    let is = |end: &str, folder: Option<&Path>| folder.is_some_and(|folder| folder.ends_with(end));
    Ok(is("deps", exe.parent()) && is("debug", exe.parent().and_then(Path::parent)))
}

fn build() -> Result<PathBuf> {
    let directory = profile_dir()?;
    let target = target_dir()?;
    let _held = exclusive(&target.join("natsfer-build.lock"))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.current_dir(WORKSPACE).arg("build");
    for name in BINARIES {
        command.args(["--bin", name]);
    }
    match runs_in_a_test()? {
        // With the smallest test beside them, features are those of `cargo test --workspace`, and nothing is compiled twice.
        true => drop(command.args(["--workspace", "--test", "units"])),
        false => drop(command.args(BINARIES.map(|name| format!("-p{name}")))),
    }
    command.arg("--target-dir").arg(&target);
    // The directory's name is the profile's, but for the oldest one.
    let profile = directory.file_name().unwrap_or_default();
    if profile != "debug" {
        command.arg("--profile").arg(profile);
    }
    let output = command.output().with_context(|| format!("cannot run {}", cargo.display()))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(directory)
}
