//! Where files stand below the target directory, by a template.

mod template;

use std::{fmt, str::FromStr};

use jiff::{Timestamp, tz::Offset};
use natsfer_common::{FileName, Manifest, ReceiverName};

use self::template::{Field, Part};
use crate::ReceiveError;

/// Where a file stands: `{channel}/{date}/{name}`. `{name}` by default.
///
/// What comes of it is checked like a name from the network: nothing that a sender says leads out of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    template: String,
    parts: Vec<Part>,
}

/// What a layout is filled in with.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// What the file is.
    pub manifest: &'a Manifest,
    /// When its manifest was stored.
    pub published_at: Timestamp,
    /// Who receives it; nobody in a replay.
    pub receiver: Option<&'a ReceiverName>,
}

impl Placed<'_> {
    /// What the layout makes of it.
    pub(crate) fn name(self, layout: &Layout) -> Result<FileName, ReceiveError> {
        let Manifest { transfer, name, .. } = self.manifest;
        let no_place = |source| ReceiveError::NoPlace { transfer: *transfer, name: name.to_string(), source };
        layout.place(self).map_err(no_place)
    }
}

/// Why a text is no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a layout: {reason}", template.escape_debug())]
pub struct LayoutError {
    template: String,
    reason: String,
}

/// Why a file has no place by a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A placeholder that must not be empty is.
    #[error("its {{{field}}} is missing or empty, and the layout has no default for it ({{{field}:-other}})")]
    Empty {
        /// The placeholder.
        field: String,
    },
    /// A value of the metadata has a slash: it is one component of a name at most.
    #[error("its {{{field}}} has a '/'")]
    Slash {
        /// The placeholder.
        field: String,
    },
    /// What comes of it is not a name to land under.
    #[error("by the layout it would stand at '{}': {reason}", name.escape_debug())]
    NotAName {
        /// What comes of it, or its beginning.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Default for Layout {
    /// As it was sent.
    fn default() -> Self {
        Self { template: "{name}".into(), parts: vec![Part::Field { field: Field::Name, default: None }] }
    }
}

impl Layout {
    /// Whether it names the receiver, whom a replay does not have.
    pub fn names_receiver(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field { field: Field::Receiver, .. }))
    }

    /// Where the file stands. A directory that comes out empty, as `{dir}` of a file that has none, is left out.
    ///
    /// # Errors
    /// When what its sender says makes no name of it.
    pub fn place(&self, of: Placed<'_>) -> Result<FileName, PlaceError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text += literal,
                Part::Field { field, default } => text += &value(field, default.as_deref(), of)?,
            }
        }
        let (directories, file) = text.rsplit_once('/').unwrap_or(("", &text));
        let directories = directories.split('/').filter(|directory| !directory.is_empty());
        let name = directories.chain([file]).collect::<Vec<_>>().join("/");
        name.parse::<FileName>().map_err(|error| {
            let reason = error.reason();
            PlaceError::NotAName { name: name.chars().take(300).collect(), reason }
        })
    }
}

/// What a placeholder stands for.
fn value(field: &Field, default: Option<&str>, of: Placed<'_>) -> Result<String, PlaceError> {
    let Placed { manifest, published_at, receiver } = of;
    let name = &manifest.name;
    let (stem, extension) = name.stem_and_extension();
    let published = Offset::UTC.to_datetime(published_at);
    let value = match field {
        Field::Name => name.to_string(),
        Field::Dir => name.split().0.unwrap_or_default().to_owned(),
        Field::File => name.split().1.to_owned(),
        Field::Stem => stem.to_owned(),
        Field::Ext => extension.strip_prefix('.').unwrap_or_default().to_owned(),
        Field::DotExt => extension.to_owned(),
        Field::Channel => manifest.channel.to_string(),
        Field::ChannelDirectories => manifest.channel.as_str().replace('.', "/"),
        Field::Date => published.date().to_string(),
        Field::Year => format!("{:04}", published.year()),
        Field::Month => format!("{:02}", published.month()),
        Field::Day => format!("{:02}", published.day()),
        Field::Hour => format!("{:02}", published.hour()),
        Field::Transfer => manifest.transfer.to_string(),
        Field::Receiver => receiver.map(ToString::to_string).unwrap_or_default(),
        Field::Metadata(key) => manifest.metadata.get(key).cloned().unwrap_or_default(),
    };
    match (value, default) {
        (value, Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (value, None) if value.is_empty() && !field.may_be_empty() => {
            Err(PlaceError::Empty { field: field.to_string() })
        }
        (value, _) if field.is_one_component() && value.contains('/') => {
            Err(PlaceError::Slash { field: field.to_string() })
        }
        (value, _) => Ok(value),
    }
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let parts = template::parse(text)
            .map_err(|reason| LayoutError { template: text.chars().take(300).collect(), reason })?;
        Ok(Self { template: text.into(), parts })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.template)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use natsfer_common::ChunkSize;
    use proptest::prelude::*;

    use super::*;

    fn manifest(name: &str, metadata: &[(&str, &str)]) -> Manifest {
        let (id, chunk_size) = ("0123456789abcdef0123456789abcdef".parse().unwrap(), ChunkSize::new(4096).unwrap());
        let mut manifest = Manifest::new(id, "invoices.eu".parse().unwrap(), name.parse().unwrap(), chunk_size);
        manifest.metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        manifest
    }

    fn place(template: &str, manifest: &Manifest) -> Result<String, PlaceError> {
        let receiver = "billing".parse().unwrap();
        let published_at = "2026-01-02T23:30:00-05:00".parse().unwrap();
        let layout: Layout = template.parse().unwrap();
        layout.place(Placed { manifest, published_at, receiver: Some(&receiver) }).map(String::from)
    }

    #[test]
    fn every_placeholder_stands_for_what_it_says() {
        let manifest = manifest("in/2026/a.tar.gz", &[("project", "apollo"), ("empty", "")]);
        for (template, expected) in [
            ("{name}", "in/2026/a.tar.gz"),
            ("{dir}|{file}", "in/2026|a.tar.gz"),
            ("{stem}-{transfer}{.ext}", "a-0123456789abcdef0123456789abcdef.tar.gz"),
            ("{ext}/{stem}", "tar.gz/a"),
            ("{channel}/{name}", "invoices.eu/in/2026/a.tar.gz"),
            ("{channel/}/{file}", "invoices/eu/a.tar.gz"),
            ("{date}/{year}/{month}/{day}/{hour}/x", "2026-01-03/2026/01/03/04/x"),
            ("{receiver}/{meta.project}/{file}", "billing/apollo/a.tar.gz"),
            ("{meta.other:-none}/{meta.empty:-void}/x", "none/void/x"),
            ("{{{file}}}", "{a.tar.gz}"),
        ] {
            assert_eq!(place(template, &manifest).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn a_directory_that_is_empty_is_left_out() {
        let bare = manifest("README", &[]);
        assert_eq!(place("{channel}/{dir}/{file}", &bare).unwrap(), "invoices.eu/README");
        assert_eq!(place("{dir}/{file}", &bare).unwrap(), "README");
        assert_eq!(place("{ext}/{file}", &bare).unwrap(), "README");
        assert_eq!(place("{ext:-other}/{file}{.ext}", &bare).unwrap(), "other/README");
        assert!(place("{channel}/{ext}", &bare).is_err(), "that is no directory");
    }

    #[test]
    fn what_a_sender_says_leads_nowhere_else() {
        for value in [
            "..",
            "../x",
            "/etc",
            "a/b",
            "/",
            "",
            ".",
            "\0",
            "a\nb",
            ".natsfer",
            ".NATSFER",
            "\u{202e}",
            &"x".repeat(256),
        ] {
            let placed = place("{meta.to}/{file}", &manifest("a", &[("to", value)]));
            assert!(placed.is_err(), "{value:?} was placed at {placed:?}");
        }
        assert_eq!(place("{meta.to}/{file}", &manifest("a", &[("to", "...")])).unwrap(), ".../a");
    }

    #[test]
    fn what_is_no_layout_is_said_with_what_is_meant() {
        let error = |template: &str| template.parse::<Layout>().unwrap_err().to_string();
        assert!(error("{nam}/x").contains("{name}") && error("{nam}/x").contains("{meta.KEY}"));
        for wrong in [
            "",
            "{",
            "}",
            "{name",
            "name}",
            "{}",
            "/{name}",
            "../{name}",
            "{channel}/..",
            "{channel}/",
            "a//{name}",
            ".natsfer/{name}",
            "{meta.}/x",
            "a\nb",
            "{date:-../x}/{name}",
            "{meta.a:-b/c}/x",
            "{name}{",
        ] {
            assert!(wrong.parse::<Layout>().is_err(), "{wrong:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_of_it_is_a_name(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{name}", "{dir}", "{file}", "{stem}", "{ext}", "{.ext}", "{channel/}", "{meta.k}", "{meta.k:-d}", "/", ".", "x",
            ]), 1..6),
            value in any::<String>(),
            name in "[a.]{1,3}(/[a.]{1,3}){0,2}",
        ) {
            prop_assume!(name.parse::<FileName>().is_ok());
            let Ok(layout) = parts.concat().parse::<Layout>() else { return Ok(()) };
            let mut manifest = manifest(&name, &[]);
            manifest.metadata = BTreeMap::from([("k".to_owned(), value)]);
            if let Ok(placed) = layout.place(Placed { manifest: &manifest, published_at: Timestamp::UNIX_EPOCH, receiver: None }) {
                prop_assert_eq!(placed.as_str().parse::<FileName>(), Ok(placed.clone()));
                prop_assert!(!placed.as_str().split('/').any(|component| component == ".."));
            }
        }
    }
}
