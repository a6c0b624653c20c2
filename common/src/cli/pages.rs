//! What is generated from a program's command line: shell completions and man pages.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Command, ValueHint};
use clap_complete::Shell;

use super::{Outcome, Program, program};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  {program} completions bash > ~/.local/share/bash-completion/completions/{program}
  {program} completions zsh > ~/.zfunc/_{program}     # with ~/.zfunc in fpath
  {program} completions fish > ~/.config/fish/completions/{program}.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Write man pages, one for each command
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  {program} man ~/.local/share/man/man1")]
pub struct Man {
    /// Directory to write them to, as ~/.local/share/man/man1; created if missing
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
}

impl Completions {
    /// Prints it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run<P: Program>(&self) -> anyhow::Result<Outcome> {
        let mut command = program::command::<P>();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        match std::io::stdout().write_all(&script) {
            // Its reader has gone, as `head` does.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
            written => written.map(|()| Outcome::Done).context("cannot print the completion script"),
        }
    }
}

impl Man {
    /// Writes `natsfer-….1`, and `natsfer-…-send.1` for each command.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn run<P: Program>(&self) -> anyhow::Result<Outcome> {
        let mut command = program::command::<P>().disable_help_subcommand(true);
        command.build();
        let made = std::fs::create_dir_all(&self.directory);
        made.with_context(|| format!("cannot create directory {}", self.directory.display()))?;
        let commands = command.get_subcommands().cloned();
        for page in std::iter::once(command.clone()).chain(commands) {
            let name = page.get_display_name().unwrap_or_else(|| page.get_name()).to_owned();
            let path = self.directory.join(format!("{name}.1"));
            let written = man_page(page).and_then(|page| std::fs::write(&path, page));
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Outcome::Done)
    }
}

/// A command's man page, with the synopsis that its help begins with: the generated one has all options, without their values.
fn man_page(command: Command) -> std::io::Result<Vec<u8>> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.override_usage(usage)).render(&mut page)?;
    Ok(page)
}
