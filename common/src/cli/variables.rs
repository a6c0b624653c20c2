//! Environment variables for the options of commands, `NATSFER_SEND_CHANNEL` for `send --channel`; and where help tells of them.

use std::ffi::OsString;

use clap::{
    Arg, ArgMatches, Command,
    error::{ContextKind, ContextValue},
};

use super::{config::COMMANDS, option_name::option_name};

/// Those that belong to no command.
const GLOBAL: [&str; 6] = [
    "NATSFER_CONFIG",
    "NATSFER_INBOX_PREFIX",
    "NATSFER_JS_API_PREFIX",
    "NATSFER_JS_DOMAIN",
    "NATSFER_LOG_FORMAT",
    "NATSFER_STREAM",
];

/// Those that docker-compose.yml reads.
const OF_COMPOSE: [&str; 3] = ["NATSFER_IMAGE", "NATSFER_INBOX", "NATSFER_OUTBOX"];

/// Those that the command of `receive --exec` is told, besides its file's metadata; sorted. A program that it starts finds them, too.
pub const TOLD_TO_COMMANDS: [&str; 11] = [
    "NATSFER_CHANNEL",
    "NATSFER_DIGEST",
    "NATSFER_MANIFEST",
    "NATSFER_MEDIA_TYPE",
    "NATSFER_NAME",
    "NATSFER_PATH",
    "NATSFER_PUBLISHED_AT",
    "NATSFER_RECEIVER",
    "NATSFER_SIZE",
    "NATSFER_TRANSFER",
    "NATSFER_TRY",
];

/// Gives each option of each command its variable.
pub(super) fn assign(mut command: Command) -> Command {
    let program = command.get_name().to_owned();
    // Those of the server are read by themselves: they come between the flags and the configuration file.
    for global in ["log_format", "config"] {
        command = command.mut_arg(global, |arg| with_variable(arg, &["NATSFER", global]));
    }
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        let subcommand = with_last_words(subcommand, &program, &name);
        subcommand.mut_args(|arg| {
            let option = option_name(&arg);
            with_variable(arg, &["NATSFER", &name, &option])
        })
    })
}

fn variable(words: &[&str]) -> String {
    words.join("_").replace('-', "_").to_ascii_uppercase()
}

/// Names the variable in an error about its value: nobody would look for it on the command line. `bare` is the command line
/// without variables.
pub(super) fn named_in(mut error: clap::Error, command: &Command, bare: Command, line: &[OsString]) -> clap::Error {
    let about = |error: &clap::Error| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => Some(option.clone()),
        _ => None,
    };
    let Some(wrong) = about(&error) else { return error };
    // What is wrong without variables, too, was given.
    if bare.clone().try_get_matches_from(line).is_err_and(|given| about(&given).as_ref() == Some(&wrong)) {
        return error;
    }
    let mut command = command.clone();
    command.build();
    // The first word that is a command's name may be an option's value.
    let matches = bare.ignore_errors(true).try_get_matches_from(line).ok();
    let subcommand = matches.as_ref().and_then(ArgMatches::subcommand_name);
    let subcommand = subcommand.and_then(|name| command.find_subcommand(name));
    let arguments = subcommand.unwrap_or(&command).get_arguments();
    let variable = arguments.filter(|arg| arg.to_string() == wrong).find_map(Arg::get_env);
    if let Some(variable) = variable {
        let variable = variable.to_string_lossy();
        error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{variable} ({wrong})")));
    }
    error
}

/// A variable that says nothing to anybody, and the one that may have been meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("variable {name} says nothing to this program: is {meant} meant?")]
pub(super) struct Unknown {
    pub(super) name: String,
    pub(super) meant: String,
}

/// Which of these variables look like natsfer's, and are not.
pub(super) fn unknown(names: impl IntoIterator<Item = String>, command: &Command) -> Vec<Unknown> {
    let mut known: Vec<_> = GLOBAL.map(str::to_owned).into();
    for subcommand in command.get_subcommands() {
        let own =
            subcommand.get_arguments().map(|arg| variable(&["NATSFER", subcommand.get_name(), &option_name(arg)]));
        known.extend(own);
    }
    // The other program knows its own.
    let elsewhere = COMMANDS.iter().filter(|name| command.find_subcommand(name).is_none());
    let elsewhere: Vec<_> = elsewhere.map(|name| variable(&["NATSFER", name, ""])).collect();
    let is_unknown = |name: &String| {
        name.starts_with("NATSFER_")
            && !name.starts_with("NATSFER_META_")
            && !OF_COMPOSE.contains(&name.as_str())
            && !TOLD_TO_COMMANDS.contains(&name.as_str())
            && !known.contains(name)
            && !elsewhere.iter().any(|begin| name.starts_with(begin))
    };
    let unknown = names.into_iter().filter(is_unknown);
    let closest = |name: &str| {
        let distance = |known: &&String| strsim::damerau_levenshtein(name, known);
        known.iter().min_by_key(distance).cloned().unwrap_or_default()
    };
    unknown.map(|name| Unknown { meant: closest(&name), name }).collect()
}

/// What a command's help says last: its examples, in which `{program}` is the program's name, and how else its options are set.
fn with_last_words(subcommand: Command, program: &str, name: &str) -> Command {
    let examples = subcommand.get_after_long_help().map(|examples| examples.to_string().replace("{program}", program));
    let option = subcommand.get_arguments().find_map(|arg| arg.get_long().map(str::to_owned));
    let rule = option.map(|option| {
        let variable = variable(&["NATSFER", name, &option]);
        format!(
            "Each option has a variable ({variable} for --{option}), and a place in the configuration file, in [{name}]. \
             What is given counts more than variables, and those more than the file."
        )
    });
    let words: Vec<_> = examples.into_iter().chain(rule).collect();
    if words.is_empty() { subcommand } else { subcommand.after_long_help(words.join("\n\n")) }
}

/// Not shown with each option: the command's help says the rule.
fn with_variable(arg: Arg, words: &[&str]) -> Arg {
    if arg.get_env().is_some() || ["help", "version"].contains(&arg.get_id().as_str()) {
        return arg;
    }
    let variable = variable(words);
    // One that is empty counts as not set, as those of the connection do.
    match std::env::var_os(&variable) {
        Some(value) if value.is_empty() => arg,
        _ => arg.env(variable).hide_env(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_a_wrong_value_is_named_whatever_stands_before_the_command() {
        let command = |count: Arg| {
            let count = count.long("count").value_parser(clap::value_parser!(u16));
            let config = Arg::new("config").long("config").global(true);
            let [list, receive] = ["list", "receive"].map(Command::new);
            Command::new("natsfer-test").arg(config).subcommand(list).subcommand(receive.arg(count))
        };
        // Any that is set, and no number.
        let (bare, command) = (command(Arg::new("count")), command(Arg::new("count").env("CARGO_PKG_NAME")));
        let line = ["natsfer-test", "--config", "list", "receive"].map(OsString::from);
        let error = command.clone().try_get_matches_from(&line).unwrap_err();
        let said = named_in(error, &command, bare, &line).to_string();
        assert!(said.contains("CARGO_PKG_NAME (--count"), "{said}");
    }

    #[test]
    fn a_variable_that_nobody_reads_is_told_with_the_closest() {
        let send =
            Command::new("send").arg(Arg::new("channel").long("channel")).arg(Arg::new("paths").value_name("PATH"));
        let command = Command::new("natsfer-test").subcommand(send);
        let unknown = |name: &str| unknown([name.to_owned()], &command).pop().map(|unknown| unknown.meant);
        for known in [
            "NATSFER_SEND_CHANNEL",
            "NATSFER_SEND_PATH",
            "NATSFER_STREAM",
            "NATSFER_RECEIVE_NAME",
            "NATSFER_META_X",
            "NATSFER_PATH",
            "NATS_URL",
        ] {
            assert_eq!(unknown(known), None, "{known}");
        }
        for (name, meant) in [
            ("NATSFER_SEND_CHANEL", "NATSFER_SEND_CHANNEL"),
            ("NATSFER_STREAMS", "NATSFER_STREAM"),
            ("NATSFER_LOGFORMAT", "NATSFER_LOG_FORMAT"),
        ] {
            assert_eq!(unknown(name).as_deref(), Some(meant), "{name}");
        }
    }
}
