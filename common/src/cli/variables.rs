//! Environment variables for the options of commands, `NATSFER_SEND_CHANNEL` for `send --channel`; and where help tells of them.

use clap::{Arg, Command};

/// Gives each option of each command its variable.
pub(super) fn assign(mut command: Command) -> Command {
    // Those of the server are read by themselves: they come between the flags and the configuration file.
    for global in ["log_format", "config"] {
        command = command.mut_arg(global, |arg| with_variable(arg, &["NATSFER", global]));
    }
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        let subcommand = with_rule(subcommand, &name);
        subcommand.mut_args(|arg| {
            let option = arg.get_long().map_or_else(|| arg.get_id().as_str().to_owned(), str::to_owned);
            with_variable(arg, &["NATSFER", &name, &option])
        })
    })
}

/// What a command's help says last, if it has options.
fn with_rule(subcommand: Command, name: &str) -> Command {
    let Some(option) = subcommand.get_arguments().find_map(|arg| arg.get_long().map(str::to_owned)) else {
        return subcommand;
    };
    let variable = format!("natsfer_{name}_{option}").replace('-', "_").to_ascii_uppercase();
    let rule = format!(
        "Each option has a variable ({variable} for --{option}), and a place in the configuration file, in [{name}]. \
         What is given counts more than variables, and those more than the file."
    );
    let examples = subcommand.get_after_long_help().or(subcommand.get_after_help()).map(ToString::to_string);
    subcommand.after_long_help(examples.map_or_else(|| rule.clone(), |examples| format!("{examples}\n\n{rule}")))
}

/// Not shown with each option: the command's help says the rule.
fn with_variable(arg: Arg, words: &[&str]) -> Arg {
    if arg.get_env().is_some() || ["help", "version"].contains(&arg.get_id().as_str()) {
        return arg;
    }
    arg.env(words.join("_").replace('-', "_").to_ascii_uppercase()).hide_env(true)
}
