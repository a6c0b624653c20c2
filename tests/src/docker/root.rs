//! Root file systems of this machine's programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::process::find_on_path;

/// What the C library before 2.34 loads to look up names, which no program's list of libraries has.
const NAME_SERVICES: [&str; 3] = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];

/// A directory that becomes an image's root.
#[derive(Debug)]
pub(super) struct Root {
    context: TempDir,
}

impl Root {
    /// An empty one, with a `/tmp`.
    pub(super) fn new() -> Result<Self> {
        let root = Self { context: tempfile::tempdir()? };
        let temporary = root.inside("/tmp");
        fs::create_dir_all(&temporary)?;
        fs::set_permissions(temporary, fs::Permissions::from_mode(0o1777))?;
        Ok(root)
    }

    /// Programs of this machine's `PATH`, with the libraries they need, in `/bin`.
    pub(super) fn with_programs(self, names: &[&str]) -> Result<Self> {
        for name in names {
            let program = find_on_path(name).with_context(|| format!("a stand-in image needs {name}: install it"))?;
            self.copy(&program, &format!("/bin/{name}"))?;
            self.copy_libraries(&program)?;
        }
        Ok(self)
    }

    /// A program from elsewhere, with the libraries it needs.
    pub(super) fn with_binary(self, binary: &Path, at: &str) -> Result<Self> {
        self.copy(binary, at)?;
        self.copy_libraries(binary)?;
        Ok(self)
    }

    /// A program that something else is to run, as small as a release's: without symbols and libraries.
    pub(super) fn with_stripped(self, binary: &Path, at: &str) -> Result<Self> {
        let to = self.inside(at);
        fs::create_dir_all(to.parent().context("a program without a directory")?)?;
        let mut strip = Command::new("strip");
        let output = strip.arg("-o").args([to.as_path(), binary]).output().context("a stand-in image needs strip")?;
        ensure!(output.status.success(), "{strip:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(self)
    }

    /// The libraries that a program needs which comes later.
    pub(super) fn with_libraries_of(self, binary: &Path) -> Result<Self> {
        self.copy_libraries(binary)?;
        Ok(self)
    }

    /// An executable script.
    pub(super) fn with_script(self, at: &str, text: &str) -> Result<Self> {
        let root = self.with_file(at, text)?;
        fs::set_permissions(root.inside(at), fs::Permissions::from_mode(0o755))?;
        Ok(root)
    }

    /// A file that all may read.
    pub(super) fn with_file(self, at: &str, text: &str) -> Result<Self> {
        let path = self.inside(at);
        fs::create_dir_all(path.parent().context("a file without a directory")?)?;
        fs::write(path, text)?;
        Ok(self)
    }

    /// The directory to build in, with a Dockerfile: the root, and `instructions`.
    pub(super) fn into_context(self, instructions: &str) -> Result<TempDir> {
        fs::write(self.context.path().join("Dockerfile"), format!("FROM scratch\nCOPY root/ /\n{instructions}\n"))?;
        Ok(self.context)
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.context.path().join("root").join(path.trim_start_matches('/'))
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.inside(to);
        fs::create_dir_all(to.parent().context("a file without a directory")?)?;
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    fn copy_libraries(&self, program: &Path) -> Result<()> {
        for library in libraries(program)? {
            let at = library.to_str().context("an odd name of a library")?;
            self.copy(&library, at)?;
            if library.file_name().is_some_and(|name| name == "libc.so.6") {
                for name in NAME_SERVICES.map(|name| library.with_file_name(name)).iter().filter(|name| name.exists()) {
                    self.copy(name, &name.to_string_lossy())?;
                }
            }
        }
        Ok(())
    }
}

/// The loader and the libraries of a program; none, if it is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("cannot run ldd")?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if [&text, &errors].iter().any(|said| said.contains("not a dynamic") || said.contains("statically linked")) {
        return Ok(Vec::new());
    }
    ensure!(output.status.success(), "ldd {} failed: {errors}", program.display());
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} lacks a library: {}", program.display(), missing.trim());
    }
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
