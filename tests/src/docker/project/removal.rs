//! What is left of a project when its test is over: nothing.

use std::process;

use anyhow::{Context, Result, ensure};

use super::Project;

impl Project {
    /// All that the containers have said lately, for a test that fails.
    fn last_words(&self) -> Result<String> {
        let mut said = blocking(&["ps", "-a", "--filter", &self.filter()])?;
        for id in blocking(&["ps", "-aq", "--filter", &self.filter()])?.lines() {
            let logs = process::Command::new("docker").args(["logs", "--tail", "30", id]).output()?;
            said += &format!("--- {id}\n{}{}", lossy(&logs.stdout), lossy(&logs.stderr));
        }
        Ok(said)
    }

    /// Not through Compose, whose versions differ in what of other profiles they remove.
    fn remove(&self) -> Result<()> {
        let filter = self.filter();
        for (list, remove) in [
            (["ps", "-aq"].as_slice(), ["rm", "--force", "--volumes"].as_slice()),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm", "--force"]),
        ] {
            let found = blocking(&[list, &["--filter", &filter]].concat())?;
            let found: Vec<_> = found.lines().collect();
            if !found.is_empty() {
                blocking(&[remove, &found].concat())?;
            }
        }
        Ok(())
    }
}

fn blocking(args: &[&str]) -> Result<String> {
    let output = process::Command::new("docker").args(args).output().context("cannot run docker")?;
    ensure!(output.status.success(), "docker {args:?} failed: {}", lossy(&output.stderr));
    Ok(lossy(&output.stdout))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Drop for Project {
    #[expect(clippy::print_stderr, reason = "a failed test tells why, and what it has left behind")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_words().unwrap_or_else(|error| format!("{error:#}")));
        }
        if let Err(error) = self.remove() {
            eprintln!("{} is left on the Docker engine: {error:#}", self.name);
        }
    }
}
