//! What is generated from a program's command line: shell completions and man pages.

use std::{fs::File, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
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
    /// Directory to write them to, as ~/.local/share/man/man1; it must exist
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
        std::io::stdout().write_all(&script).context("cannot print the completion script")?;
        Ok(Outcome::Done)
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
        let commands = command.get_subcommands().cloned();
        for page in std::iter::once(command.clone()).chain(commands) {
            let name = page.get_display_name().unwrap_or_else(|| page.get_name()).to_owned();
            let path = self.directory.join(format!("{name}.1"));
            let write = || clap_mangen::Man::new(page).render(&mut File::create(&path)?);
            write().with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Outcome::Done)
    }
}
