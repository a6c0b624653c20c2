//! What an option is called, wherever it stands: in the configuration file, and, in capitals, among the variables.

use clap::Arg;

/// An option's long name. An argument that has only a place is called what help shows for it, in small letters: nobody knows of
/// another name.
pub(super) fn option_name(arg: &Arg) -> String {
    let shown = || arg.get_value_names().and_then(|names| names.first()).map(|name| name.to_lowercase());
    let id = || arg.get_id().as_str().replace('_', "-");
    arg.get_long().map(str::to_owned).or_else(shown).unwrap_or_else(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_without_a_name_is_called_what_help_shows() {
        assert_eq!(option_name(&Arg::new("matching").long("match").value_name("GLOB")), "match");
        let place = Arg::new("directory").value_name("DIR");
        assert!(place.to_string().contains("DIR"), "{place}");
        assert_eq!(option_name(&place), "dir");
    }
}
