//! Which files are taken: the options of every command that takes several.

use natsfer_consumer::{MetadataPattern, NamePattern, Selection, SizeRange};

/// What the options that choose stand under.
const SELECTION: &str = "Selection";

/// Which files to take: those that meet every condition.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "selection", multiple = true)]
pub(crate) struct SelectionArguments {
    /// Only files whose name matches, or one of several such patterns: '*.csv', 'reports/**'
    #[arg(long = "match", value_name = "GLOB", help_heading = SELECTION)]
    names: Vec<NamePattern>,
    /// Not those whose name matches
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    exclude: Vec<NamePattern>,
    /// Only files of these sizes, both ends included: 1MiB..10MiB, 1KiB.., ..1GiB
    #[arg(long, value_name = "MIN..MAX", help_heading = SELECTION)]
    match_size: Option<SizeRange>,
    /// Only files whose sender gave this key (send --meta) a value that matches, and that of every other such option
    #[arg(long, value_name = "KEY=GLOB", help_heading = SELECTION)]
    match_meta: Vec<MetadataPattern>,
}

impl SelectionArguments {
    pub(crate) fn selection(&self) -> Selection {
        let Self { names, exclude, match_size, match_meta } = self.clone();
        let all = names.into_iter().fold(Selection::default(), Selection::with_name);
        let all = exclude.into_iter().fold(all, Selection::without_name);
        let all = match_meta.into_iter().fold(all, Selection::with_metadata);
        match_size.into_iter().fold(all, Selection::with_sizes)
    }
}
