//! Which files a receiver takes, by what their senders say of them.

use std::str::FromStr;

use globset::{Glob, GlobMatcher};
use natsfer_common::{
    Manifest,
    cli::{ByteCount, parse_glob},
};

/// Which files are taken: those that meet every condition. Without any, all are.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    names: Vec<NamePattern>,
    excluded: Vec<NamePattern>,
    sizes: Option<SizeRange>,
    metadata: Vec<MetadataPattern>,
}

/// What a selection says to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is taken.
    Taken,
    /// It is passed over, for this.
    PassedOver(Unmet),
    /// It depends on its size, which only its end tells.
    OnSize,
}

/// Which condition a file does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmet {
    /// No pattern matches its name.
    Name,
    /// Its name is excluded.
    Excluded,
    /// Its size.
    Size,
    /// Something that its sender says, or does not say, in its metadata.
    Metadata,
}

impl Unmet {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "no pattern matches its name",
            Self::Excluded => "its name is excluded",
            Self::Size => "its size",
            Self::Metadata => "its metadata",
        }
    }
}

/// A pattern for names: `*.csv`, `reports/**`. `*` and `?` stay within a directory, `**` does not. `reports` stands for everything below that
/// directory, too.
#[derive(Debug, Clone)]
pub struct NamePattern(GlobMatcher);

/// A range of sizes, both ends included: `1MiB..10MiB`, `1KiB..`, `..10GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    least: u64,
    most: Option<u64>,
}

/// A pattern for one value of the metadata: `project=a*`. A file without that key does not match.
#[derive(Debug, Clone)]
pub struct MetadataPattern {
    key: String,
    value: GlobMatcher,
}

impl Selection {
    /// With one more pattern for names: one of them must match.
    #[must_use]
    pub fn with_name(mut self, pattern: NamePattern) -> Self {
        self.names.push(pattern);
        self
    }

    /// Without the names that this pattern matches, whatever else does.
    #[must_use]
    pub fn without_name(mut self, pattern: NamePattern) -> Self {
        self.excluded.push(pattern);
        self
    }

    /// With sizes within this range.
    #[must_use]
    pub fn with_sizes(mut self, sizes: SizeRange) -> Self {
        self.sizes = Some(sizes);
        self
    }

    /// With one more pattern for metadata: all of them must match.
    #[must_use]
    pub fn with_metadata(mut self, pattern: MetadataPattern) -> Self {
        self.metadata.push(pattern);
        self
    }

    /// Whether every file is taken.
    pub fn is_everything(&self) -> bool {
        let Self { names, excluded, sizes, metadata } = self;
        names.is_empty() && excluded.is_empty() && sizes.is_none() && metadata.is_empty()
    }

    /// What is said to the file of this manifest. `size` is what its end says, where the manifest does not and the end is
    /// known.
    pub fn choose(&self, manifest: &Manifest, size: Option<u64>) -> Choice {
        let name = manifest.name.as_str();
        let any = |patterns: &[NamePattern]| patterns.iter().any(|NamePattern(pattern)| pattern.is_match(name));
        if !self.names.is_empty() && !any(&self.names) {
            return Choice::PassedOver(Unmet::Name);
        }
        if any(&self.excluded) {
            return Choice::PassedOver(Unmet::Excluded);
        }
        let is_met = |pattern: &MetadataPattern| {
            manifest.metadata.get(&pattern.key).is_some_and(|value| pattern.value.is_match(value))
        };
        if !self.metadata.iter().all(is_met) {
            return Choice::PassedOver(Unmet::Metadata);
        }
        match (self.sizes, manifest.size.or(size)) {
            (None, _) => Choice::Taken,
            (Some(_), None) => Choice::OnSize,
            (Some(sizes), Some(size)) if sizes.has(size) => Choice::Taken,
            (Some(_), Some(_)) => Choice::PassedOver(Unmet::Size),
        }
    }
}

impl SizeRange {
    /// Whether a size lies within.
    pub fn has(self, size: u64) -> bool {
        size >= self.least && self.most.is_none_or(|most| size <= most)
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_glob(text).map(Self)
    }
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = text.split_once("..").filter(|(least, most)| !(least.is_empty() && most.is_empty()));
        let (least, most) =
            range.ok_or_else(|| format!("'{text}' is not a range of sizes such as 1MiB..10MiB or ..1GiB"))?;
        let end = |text: &str| text.parse().map(|ByteCount(bytes)| bytes);
        let least = if least.is_empty() { 0 } else { end(least)? };
        let most = if most.is_empty() { None } else { Some(end(most)?) };
        if most.is_some_and(|most| most < least) {
            return Err(format!("the range '{text}' ends before it begins"));
        }
        Ok(Self { least, most })
    }
}

impl FromStr for MetadataPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| format!("'{text}' is not a key and a pattern such as project=a*"))?;
        // A value has no directories.
        let value = Glob::new(value).map_err(|error| error.to_string())?;
        Ok(Self { key: key.into(), value: value.compile_matcher() })
    }
}

#[cfg(test)]
mod tests {
    use natsfer_common::ChunkSize;
    use proptest::prelude::*;

    use super::*;

    fn manifest(name: &str, size: Option<u64>, metadata: &[(&str, &str)]) -> Manifest {
        let id = "0".repeat(32).parse().unwrap();
        let chunk_size = ChunkSize::new(4096).unwrap();
        let mut manifest = Manifest::new(id, "a".parse().unwrap(), name.parse().unwrap(), chunk_size);
        manifest.size = size;
        manifest.metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        manifest
    }

    fn names(patterns: &[&str], excluded: &[&str]) -> Selection {
        let selection = patterns.iter().fold(Selection::default(), |all, text| all.with_name(text.parse().unwrap()));
        excluded.iter().fold(selection, |all, text| all.without_name(text.parse().unwrap()))
    }

    #[test]
    fn one_pattern_must_match_and_none_exclude() {
        let choose = |patterns: &[&str], excluded: &[&str], name: &str| {
            names(patterns, excluded).choose(&manifest(name, None, &[]), None)
        };
        for (patterns, excluded, name, expected) in [
            (&[][..], &[][..], "a/b.csv", Choice::Taken),
            (&["*.csv"], &[], "b.csv", Choice::Taken),
            (&["*.csv"], &[], "a/b.csv", Choice::PassedOver(Unmet::Name)),
            (&["**/*.csv"], &[], "a/b.csv", Choice::Taken),
            (&["*.txt", "a/*"], &[], "a/b.csv", Choice::Taken),
            (&["a/**"], &["**/b.*"], "a/b.csv", Choice::PassedOver(Unmet::Excluded)),
            (&[], &["*.tmp"], "b.csv", Choice::Taken),
            (&["{a,b}.csv"], &[], "b.csv", Choice::Taken),
        ] {
            assert_eq!(choose(patterns, excluded, name), expected, "{patterns:?} {excluded:?} {name}");
        }
    }

    #[test]
    fn every_condition_on_metadata_must_be_met() {
        let selection = |texts: &[&str]| {
            texts.iter().fold(Selection::default(), |all, text| all.with_metadata(text.parse().unwrap()))
        };
        let choose = |texts: &[&str], metadata: &[(&str, &str)]| {
            selection(texts).choose(&manifest("a", None, metadata), None) == Choice::Taken
        };
        let said = [("project", "apollo/11"), ("note", "two\nlines"), ("=", "x")];
        assert!(choose(&["project=a*", "note=*lines"], &said));
        assert!(!choose(&["project=a*", "note=one*"], &said));
        assert!(!choose(&["other=*"], &said), "a key that is not there");
        assert!(choose(&["project=apollo/11"], &said) && !choose(&["project=apollo"], &said));
        for wrong in ["", "project", "=x", "a=["] {
            assert!(wrong.parse::<MetadataPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_that_is_not_known_is_waited_for_unless_something_else_decides() {
        let selection = names(&["*.csv"], &[]).with_sizes("1KiB..2KiB".parse().unwrap());
        let choose = |name: &str, said, end| selection.choose(&manifest(name, said, &[]), end);
        assert_eq!(choose("a.csv", None, None), Choice::OnSize);
        assert_eq!(choose("a.txt", None, None), Choice::PassedOver(Unmet::Name));
        assert_eq!(choose("a.csv", None, Some(1024)), Choice::Taken);
        assert_eq!(choose("a.csv", None, Some(1023)), Choice::PassedOver(Unmet::Size));
        assert_eq!(choose("a.csv", Some(2048), None), Choice::Taken);
        assert_eq!(choose("a.csv", Some(2049), Some(2048)), Choice::PassedOver(Unmet::Size));
    }

    #[test]
    fn ranges_of_sizes_are_read_as_they_are_meant() {
        for (text, within, beyond) in [("1..2", vec![1, 2], vec![0, 3]), ("2K..", vec![2048, u64::MAX], vec![2047])] {
            let range: SizeRange = text.parse().unwrap();
            assert!(
                within.iter().all(|size| range.has(*size)) && !beyond.iter().any(|size| range.has(*size)),
                "{text}"
            );
        }
        for wrong in ["", "..", "1", "2..1", "a..", "..b", "1...2", "-1..2"] {
            assert!(wrong.parse::<SizeRange>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn conditions_only_narrow(name in "[a-c]{1,3}(/[a-c]{1,3})?", size in 0_u64..10, least in 0_u64..10, pattern in "[a-c*?]{1,3}(/[a-c*?]{1,2})?") {
            let manifest = manifest(&name, Some(size), &[]);
            let pattern: NamePattern = pattern.parse().unwrap();
            let takes = |selection: &Selection| selection.choose(&manifest, None) == Choice::Taken;
            let all = Selection::default();
            let named = all.clone().with_name(pattern.clone());
            let excluded = all.clone().without_name(pattern);
            prop_assert!(takes(&all));
            // What one pattern takes, it excludes, and nothing else.
            prop_assert_ne!(takes(&named), takes(&excluded));
            let sized = named.clone().with_sizes(SizeRange { least, most: None });
            prop_assert_eq!(takes(&sized), takes(&named) && size >= least);
        }
    }
}
