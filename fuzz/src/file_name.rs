//! Names of files, the one thing from the network that reaches a file system.

use std::path::{Component, Path};

use natsfer_common::{FileName, STAGING_DIRECTORY};

use crate::texts;

const LONGEST: usize = 3_900;
/// What a number adds: ` (4294967295)`.
const NUMBER: usize = 13;

/// What is taken is kept to the byte and lies beneath the directory it is resolved in; so do its numbered names.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let Ok(name) = text.parse::<FileName>() else {
        assert!(serde_json::from_value::<FileName>(text.into()).is_err());
        return false;
    };
    assert_eq!(name.as_str(), text);
    assert!(text.len() <= LONGEST);
    lies_beneath(&name);
    let numbered = [1, 2, 10, u32::MAX].map(|attempt| (attempt, name.numbered(attempt)));
    for (attempt, other) in &numbered {
        assert!(other.as_str().len() <= LONGEST + NUMBER);
        assert_eq!(other.split().0, name.split().0);
        assert!(other.split().1.contains(&format!(" ({attempt})")));
        lies_beneath(other);
    }
    // The first can be the name itself, if that is as long as can be and has a number already.
    assert!(numbered.windows(2).all(|pair| pair[0].1 != pair[1].1));
    true
}

/// As the file system sees it.
pub(crate) fn lies_beneath(name: &FileName) {
    let text = name.as_str();
    let components: Vec<_> = Path::new(text).components().collect();
    assert!(components.iter().all(|component| matches!(component, Component::Normal(_))), "{text:?}");
    // None was taken for nothing: an empty one, or a dot.
    let names: Vec<_> = components.iter().map(|component| component.as_os_str().to_str().unwrap()).collect();
    assert_eq!(names.join("/"), text);
    assert!(names.iter().all(|name| name.len() <= 255));
    assert!(!names[0].eq_ignore_ascii_case(STAGING_DIRECTORY));
    let deceives =
        |c: char| c.is_control() || "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}".contains(c);
    assert!(!text.contains(|c| deceives(c) || ('\u{2066}'..='\u{2069}').contains(&c)), "{text:?}");
    let (directories, file) = name.split();
    assert_eq!(directories.map_or(String::new(), |above| format!("{above}/")) + file, text);
}

/// Names, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "a",
        "dir/a.tar.gz",
        ".profile",
        "..tar",
        "...",
        "a/.natsfer",
        "日本語/ファイル",
        "a\\b",
        "-rf",
        "a..b/c",
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "./a",
        "a/.",
        "a//b",
        "a/",
        ".natsfer",
        ".NatsFer/x",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        "\u{85}",
        "a\u{202e}txt.exe",
        "\u{2066}",
        "\u{feff}a",
        "C:",
        "CON",
        "a.",
    ]);
    let component = "é".repeat(127);
    let longest = format!("{}{}", format!("{component}/").repeat(15), "x".repeat(75));
    assert_eq!(longest.len(), LONGEST);
    let numbered = "x".repeat(251) + " (1)";
    for text in [&numbered, &longest, &format!("{longest}x"), &component, &format!("a.{component}"), &"x".repeat(256)] {
        seeds.push(text.clone().into_bytes());
    }
    seeds
}
