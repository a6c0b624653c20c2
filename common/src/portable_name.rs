//! Which names mean the same everywhere.

use unicode_normalization::UnicodeNormalization as _;

use crate::FileName;

/// Names of Windows' devices, whatever extension follows
/// (<https://learn.microsoft.com/windows/win32/fileio/naming-a-file>).
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
/// Devices whose names a digit follows, which may be a superscript.
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

impl FileName {
    /// Whether a component begins with a dot.
    pub fn is_hidden(&self) -> bool {
        self.as_str().split('/').any(|component| component.starts_with('.'))
    }

    /// Why the name cannot be used on Windows, or means something else there; `None` if it is portable.
    pub fn unportable(&self) -> Option<&'static str> {
        self.as_str().split('/').find_map(|component| {
            if component.contains(['<', '>', ':', '"', '|', '?', '*', '\\']) {
                Some("its name has a character that Windows does not allow")
            } else if component.ends_with(['.', ' ']) {
                Some("a component of its name ends with a dot or a space, which Windows drops")
            } else if is_device(component) {
                Some("a component of its name is that of a device on Windows")
            } else {
                None
            }
        })
    }
}

fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let is_numbered = |device: &&str| {
        let number =
            stem.strip_prefix(*device).and_then(|rest| rest.chars().next().filter(|c| rest.len() == c.len_utf8()));
        number.is_some_and(|c| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³'))
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.iter().any(is_numbered)
}

/// What two names have in common that a file system may not tell apart, because it does not distinguish case, or how Unicode
/// composes a character. Equates rather more than any one of them does.
pub fn folded(component: &str) -> String {
    component.nfd().collect::<String>().to_uppercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_would_make_of_it_is_known() {
        let unportable = |name: &str| name.parse::<FileName>().unwrap().unportable().is_some();
        for name in [
            "CON",
            "con.txt",
            "a/Nul",
            "aux .x",
            "com1",
            "LPT9.tar.gz",
            "COM¹",
            "lpt³.txt",
            "conin$",
            "a:b",
            "a\\b",
            "what?",
            "ends.",
            "ends ",
            "dir./a",
            "a|b",
            "<a>",
        ] {
            assert!(unportable(name), "{name}");
        }
        for name in ["CONSOLE", "com", "com10", "comx", "a.con", ".hidden", "größe/日本語", "a b", "COM¹²"] {
            assert!(!unportable(name), "{name}");
        }
    }

    #[test]
    fn names_that_some_file_systems_confuse_fold_to_one() {
        for (one, other) in [("README", "readme"), ("caf\u{e9}", "CAFE\u{301}"), ("Straße", "STRASSE"), ("ΑΣ", "ας")]
        {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded("a"), folded("b"));
        assert_ne!(folded("e"), folded("\u{e9}"));
    }
}
