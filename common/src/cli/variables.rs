//! Environment variables for the options of commands, `NATSFER_SEND_CHANNEL` for `send --channel`; and where help tells of them.

use clap::{Arg, Command};

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
            let option = arg.get_long().map_or_else(|| arg.get_id().as_str().to_owned(), str::to_owned);
            with_variable(arg, &["NATSFER", &name, &option])
        })
    })
}

/// What a command's help says last: its examples, in which `{program}` is the program's name, and how else its options are set.
fn with_last_words(subcommand: Command, program: &str, name: &str) -> Command {
    let examples = subcommand.get_after_long_help().map(|examples| examples.to_string().replace("{program}", program));
    let option = subcommand.get_arguments().find_map(|arg| arg.get_long().map(str::to_owned));
    let rule = option.map(|option| {
        let variable = format!("natsfer_{name}_{option}").replace('-', "_").to_ascii_uppercase();
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
    let variable = words.join("_").replace('-', "_").to_ascii_uppercase();
    // One that is empty counts as not set, as those of the connection do.
    match std::env::var_os(&variable) {
        Some(value) if value.is_empty() => arg,
        _ => arg.env(variable).hide_env(true),
    }
}
