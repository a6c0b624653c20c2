//! From the command line to a command: flags, the environment and the configuration file, in that order of strength.

use std::{ffi::OsString, io::ErrorKind, path::PathBuf};

use clap::{Command, CommandFactory, FromArgMatches, error::ErrorKind as Usage};

use super::{
    LoggingArguments, ServerArguments,
    config::{COMMANDS, Config, ConfigError},
    option_name::option_name,
    variables::{self, Unknown},
};

/// Lines of help longer than this are hard to read, in characters.
const WIDEST: usize = 120;

/// The options that every command of both programs has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Where to connect.
    #[command(flatten)]
    pub server: ServerArguments,
    #[command(flatten)]
    logging: LoggingArguments,
    /// Configuration file [env: NATSFER_CONFIG] [default: natsfer/config.toml in XDG_CONFIG_HOME or
    /// ~/.config, if it exists]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Logs and configuration")]
    config: Option<PathBuf>,
}

/// One of the two programs, as parsed from its command line.
pub trait Program: CommandFactory + FromArgMatches {
    /// The options that every command has.
    fn globals(&mut self) -> &mut Globals;
}

/// The program's command line, with variables for its options.
pub(super) fn command<P: Program>() -> Command {
    variables::assign(P::command()).max_term_width(WIDEST)
}

/// Parses this process's command line, and begins to log. Ends the program where there is nothing to run: help, or wrong usage.
pub fn parse<P: Program>() -> P {
    let arguments = std::env::args_os().collect();
    let mut program: P = parse_from(arguments, &|name| std::env::var_os(name)).unwrap_or_else(|wrong| match wrong {
        Wrong::Usage(error) => {
            // A variable that is not read may be what is missing.
            if error.kind() == Usage::MissingRequiredArgument {
                unknown_variables::<P>().iter().for_each(|unknown| super::note(&format!("warning: {unknown}")));
            }
            super::end_by_usage(&error)
        }
        Wrong::Config(error) => {
            super::report(&anyhow::Error::new(error));
            super::end(2)
        }
    });
    program.globals().logging.start();
    unknown_variables::<P>().iter().for_each(|unknown| tracing::warn!("{unknown}"));
    program
}

fn unknown_variables<P: Program>() -> Vec<Unknown> {
    let names =
        std::env::vars_os().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.into_string().ok());
    variables::unknown(names, &P::command())
}

/// For tests: clap finds nothing wrong with the program's command line, and one configuration file serves both programs, because
/// each knows the other's commands.
///
/// # Panics
/// Where that is not so.
pub fn check<P: Program>() {
    let program = command::<P>();
    for command in program.get_subcommands() {
        let name = command.get_name();
        assert!(COMMANDS.contains(&name) || ["completions", "man"].contains(&name), "{name}");
        let mut options: Vec<_> = command.get_arguments().map(option_name).collect();
        options.sort();
        let all = options.len();
        options.dedup();
        assert_eq!(options.len(), all, "{name}: two options have one name: {options:?}");
        let is_name = |option: &String| option.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(options.iter().all(is_name), "{name}: {options:?}");
    }
    program.debug_assert();
}

/// For tests: each of the program's commands takes what the first configuration file on this page says of it, and needs no more.
///
/// # Panics
/// Where it does not, or the page has none.
pub fn check_example<P: Program>(page: &str) {
    let (_, rest) = page.split_once("```toml\n").expect("the page has a configuration file");
    let (text, _) = rest.split_once("```").expect("it ends");
    let config = Config::read(text, command::<P>()).unwrap_or_else(|problem| panic!("{problem}:\n{text}"));
    let said = text.lines().filter_map(|line| line.strip_prefix('[')?.split(']').next());
    for name in said.filter(|name| config.command.find_subcommand(name).is_some()) {
        let matches = config.command.clone().try_get_matches_from([config.command.get_name(), name]);
        let program = matches.and_then(|matches| P::from_arg_matches(&matches));
        assert!(program.is_ok(), "{name}: {:?}", program.err());
    }
}

/// Why there is nothing to run.
#[derive(Debug)]
enum Wrong {
    /// Help was asked for, or the command line is not one.
    Usage(clap::Error),
    /// The configuration file is not one.
    Config(ConfigError),
}

impl From<clap::Error> for Wrong {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

fn parse_from<P: Program>(arguments: Vec<OsString>, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<P, Wrong> {
    let command = command::<P>();
    // Errors that the file has no part in, and help.
    match command.clone().try_get_matches_from(&arguments) {
        Err(error) if error.kind() != Usage::MissingRequiredArgument => {
            return Err(variables::named_in(error, &command, P::command(), &arguments).into());
        }
        _ => {}
    }
    let given = command.clone().ignore_errors(true).try_get_matches_from(&arguments)?;
    let given = given.get_one::<PathBuf>("config").cloned();
    let Some((path, text)) = find(given, variable).map_err(Wrong::Config)? else {
        return Ok(P::from_arg_matches(&command.try_get_matches_from(&arguments)?)?);
    };
    let in_file = |problem| Wrong::Config(ConfigError::Content { path: path.clone(), problem });
    let config = Config::read(&text, command).map_err(in_file)?;
    let matches = config.command.try_get_matches_from(&arguments);
    let mut matches = matches.map_err(|error| match error.kind() {
        // The command line's values were read before without an error.
        Usage::InvalidValue | Usage::ValueValidation => in_file(super::config::first_line(&error)),
        _ => Wrong::Usage(error),
    })?;
    let mut program = P::from_arg_matches_mut(&mut matches)?;
    program.globals().server.set_file(&config.server);
    Ok(program)
}

/// The configuration file that counts, and what is in it; `None` where there is none. One that was named must be there.
fn find(
    given: Option<PathBuf>, variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = || {
        let directory = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(directory.join("natsfer").join("config.toml"))
    };
    let named = given.is_some();
    let Some(path) = given.or_else(usual) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if !named && error.kind() == ErrorKind::NotFound => Ok(None),
        // Another user's home, as it is left in the environment of who is started by another.
        Err(error) if !named && error.kind() == ErrorKind::PermissionDenied && path.symlink_metadata().is_err() => {
            Ok(None)
        }
        Err(source) => Err(ConfigError::Unreadable { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::number;

    #[derive(Debug, clap::Parser)]
    #[command(name = "natsfer-test")]
    struct Test {
        #[command(flatten)]
        globals: Globals,
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, PartialEq, clap::Subcommand)]
    enum Command {
        Receive {
            #[arg(long)]
            name: String,
            #[arg(long, default_value_t = 4, value_parser = number::<u16>(1..=u64::MAX))]
            concurrency: u16,
            #[arg(long, conflicts_with = "count")]
            drain: bool,
            #[arg(long)]
            count: Option<u64>,
            #[arg(long, value_delimiter = ',')]
            refuse: Vec<String>,
            #[arg(long)]
            json: bool,
        },
        Watch {
            dir: PathBuf,
        },
    }

    impl Program for Test {
        fn globals(&mut self) -> &mut Globals {
            &mut self.globals
        }
    }

    /// What comes of a command line beside a configuration file of this text.
    fn parsed(text: &str, line: &str) -> Result<Test, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let path = file.path().to_str().unwrap();
        let line = ["natsfer-test", "--config", path].into_iter().chain(line.split_whitespace());
        parse_from(line.map(OsString::from).collect(), &|_| None).map_err(|wrong| match wrong {
            Wrong::Usage(error) => error.to_string(),
            Wrong::Config(error) => error.to_string().replace(path, "FILE"),
        })
    }

    #[test]
    fn the_file_takes_the_place_of_the_defaults() {
        let text = "server = 'nats://file'\ntlsfirst = true\nstream = 'OTHER'\n[receive]\nname = 'billing'\nconcurrency = 9\n\
                    refuse = ['hidden', 'executable']\njson = true\n[watch]\ndir = 'outbox'\n[send]\nanything = 1";
        let test = parsed(text, "receive --concurrency 7").unwrap();
        let refuse = vec!["hidden".to_owned(), "executable".into()];
        let (name, drain, count) = ("billing".into(), false, None);
        assert_eq!(test.command, Command::Receive { name, concurrency: 7, drain, count, refuse, json: true });
        let options = test.globals.server.resolve(&|_| None).unwrap();
        assert_eq!((options.server.as_str(), options.stream.control()), ("nats://file", "OTHER"));
        let options = test.globals.server.resolve(&|name| (name == "NATS_URL").then(|| "nats://environment".into()));
        assert_eq!(options.unwrap().server, "nats://environment");
        assert_eq!(parsed(text, "watch").unwrap().command, Command::Watch { dir: "outbox".into() });
        assert_eq!(parsed(text, "watch other").unwrap().command, Command::Watch { dir: "other".into() });
    }

    #[test]
    fn what_the_file_says_stands_in_nobodys_way() {
        let text = "[receive]\nname = 'a'\ncount = 3";
        assert!(matches!(parsed(text, "receive --drain").unwrap().command, Command::Receive { drain: true, .. }));
        assert!(parsed(text, "receive --drain --count 2").is_err());
    }

    #[test]
    fn what_is_wrong_in_the_file_is_told_with_its_place() {
        for (text, expected) in [
            ("[recieve]\n", "FILE: [recieve] is no command's name"),
            ("[receive]\nnmae = 'a'", "'nmae' is no option of receive; there are: concurrency, count, drain"),
            ("sever = 'x'", "'sever' is no option that every command has; there are:"),
            ("config = 'x'", "'config' is no option"),
            ("[receive]\nname = 'a'\nconcurrency = 0", "FILE: invalid value '0' for '--concurrency"),
            ("[receive]\nname = 1979-05-27", "'name' must be a text, a number, true or false"),
            ("js-domain = 'a b'", "FILE: invalid value 'a b' for '--js-domain"),
            ("[receive]\nname = [", "FILE: line 2: "),
            ("[receive]\nname = ['a', 'b']", "FILE: 'name' takes one value, not a list"),
            ("[receive]\ncount = ['1']", "FILE: 'count' takes one value, not a list"),
            ("server = ['a', 'b']", "FILE: 'server' takes one value, not a list: several URLs stand in one, 'a,b'"),
        ] {
            let error = parsed(text, "receive --name x").unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        // Wrong usage, and help, come first.
        assert!(parsed("[receive]\n", "receive").unwrap_err().contains("--name <NAME>"));
        assert!(parsed("nonsense", "receive --help").unwrap_err().contains("Usage: natsfer-test receive"));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let line = ["natsfer-test", "--config", "/nonexistent", "watch", "x"].map(OsString::from);
        let error = parse_from::<Test>(line.into(), &|_| None);
        assert!(matches!(error, Err(Wrong::Config(ConfigError::Unreadable { .. }))), "{error:?}");
        let line = ["natsfer-test", "watch", "x"].map(OsString::from);
        assert!(parse_from::<Test>(line.into(), &|name| (name == "HOME").then(|| "/nonexistent".into())).is_ok());
    }
}
