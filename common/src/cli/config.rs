//! The configuration file: the same options as on the command line, by the same names, in TOML.
//!
//! Options that every command has stand at the top, a command's own ones in a table with its name. What is given there takes the
//! place of the built-in defaults, so that flags and variables count more.

use std::{io, path::PathBuf};

use clap::{Arg, ArgAction, Args as _, Command, FromArgMatches as _};
use toml::{Table, Value};

use super::{ServerArguments, option_name::option_name};

/// Every command of both programs: one file serves both.
pub(super) const COMMANDS: [&str; 20] = [
    "cancel",
    "cat",
    "doctor",
    "forget",
    "history",
    "hooks",
    "init",
    "list",
    "prune",
    "receive",
    "receivers",
    "rejected",
    "replay",
    "retry",
    "send",
    "show",
    "status",
    "verify",
    "watch",
    "health",
];

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It says what cannot be said.
    #[error("configuration file {}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

/// A configuration file, brought to a program's command line.
#[derive(Debug)]
pub(super) struct Config {
    /// The program's command line, with what the file says as defaults.
    pub(super) command: Command,
    /// Where to connect.
    pub(super) server: ServerArguments,
}

impl Config {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// In words: what is not known, and what would be.
    pub(super) fn read(text: &str, mut command: Command) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| in_line(text, &error))?;
        let server = ServerArguments::augment_args(Command::new("server").no_binary_name(true));
        let mut server_line = Vec::new();
        for (key, value) in &table {
            match value {
                Value::Table(options) => command = with_defaults(command, key, options)?,
                _ => {
                    if let Some(known) = server.get_arguments().find(|known| known.get_long() == Some(key)) {
                        server_line.extend(as_flags(key, value, known)?);
                        continue;
                    }
                    let globals = command.get_arguments().filter(|known| known.is_global_set()).cloned().collect();
                    let known = find(key, globals, "option that every command has", "")?;
                    command = command.mut_arg(known.get_id().as_str(), with_default(key, value, &known)?);
                }
            }
        }
        let server = server.try_get_matches_from(server_line).and_then(|it| ServerArguments::from_arg_matches(&it));
        Ok(Self { command, server: server.map_err(|error| first_line(&error))? })
    }
}

/// An error of TOML's on one line.
fn in_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

/// An error of clap's without its advice, which is about command lines.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn with_defaults(mut command: Command, name: &str, options: &Table) -> Result<Command, String> {
    let Some(subcommand) = command.find_subcommand(name) else {
        // The other program's.
        return if COMMANDS.contains(&name) { Ok(command) } else { Err(format!("[{name}] is no command's name")) };
    };
    let mut subcommand = subcommand.clone();
    for (key, value) in options {
        let own = subcommand.get_arguments().filter(|known| !known.is_global_set()).cloned().collect();
        let known = find(key, own, "option of", name)?;
        subcommand = subcommand.mut_arg(known.get_id().as_str(), with_default(key, value, &known)?);
    }
    command = command.mut_subcommand(name, |_| subcommand);
    Ok(command)
}

/// The argument of this name.
fn find(key: &str, among: Vec<Arg>, what: &str, of: &str) -> Result<Arg, String> {
    let among = among.into_iter().map(|arg| (option_name(&arg), arg));
    let among: Vec<_> = among.filter(|(name, _)| !["help", "version", "config"].contains(&name.as_str())).collect();
    let mut names: Vec<_> = among.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    let found = among.into_iter().find_map(|(name, arg)| (name == key).then_some(arg));
    found.ok_or_else(|| {
        let known = names.join(", ");
        format!("'{key}' is no {what}{}{of}; there are: {known}", if of.is_empty() { "" } else { " " })
    })
}

/// Gives an argument another default.
fn with_default(key: &str, value: &Value, known: &Arg) -> Result<impl FnOnce(Arg) -> Arg + use<>, String> {
    let texts = texts(key, value, known)?;
    Ok(|arg: Arg| arg.required(false).default_values(texts))
}

fn as_flags(key: &str, value: &Value, known: &Arg) -> Result<Vec<String>, String> {
    Ok(match value {
        Value::Boolean(true) => vec![format!("--{key}")],
        Value::Boolean(false) => Vec::new(),
        _ => texts(key, value, known)?.into_iter().map(|text| format!("--{key}={text}")).collect(),
    })
}

fn texts(key: &str, value: &Value, known: &Arg) -> Result<Vec<String>, String> {
    match value {
        Value::Array(_) if !matches!(known.get_action(), ArgAction::Append) => {
            let several = if key == "server" { ": several URLs stand in one, 'a,b'" } else { "" };
            Err(format!("'{key}' takes one value, not a list{several}"))
        }
        Value::Array(values) => {
            let texts: Result<Vec<_>, _> = values.iter().map(|value| text(key, value)).collect();
            texts.and_then(|texts| if texts.is_empty() { Err(format!("'{key}' has no value")) } else { Ok(texts) })
        }
        _ => Ok(vec![text(key, value)?]),
    }
}

fn text(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(yes) => Ok(yes.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(format!("'{key}' must be a text, a number, true or false, or a list of them"))
        }
    }
}
