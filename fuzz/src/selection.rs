//! Which files a receiver takes. Input: a pattern for names, a range of sizes, a condition on metadata, a name, and a value, a
//! line each.

use natsfer_consumer::{Choice, MetadataPattern, NamePattern, Selection, SizeRange, Unmet};

use crate::{samples, text_lines, texts};

/// Conditions are read or refused, and decide alike whenever the size becomes known; what a pattern takes, it excludes.
pub fn check(data: &[u8]) -> bool {
    let Some([pattern, sizes, metadata, name, value]) = text_lines(data) else { return false };
    let mut manifest = samples::bare(4096);
    if let Ok(name) = name.parse() {
        manifest.name = name;
    }
    manifest.metadata.insert("k".into(), value.into());
    let all = Selection::default();
    assert!(all.is_everything() && all.choose(&manifest, None) == Choice::Taken);
    let (pattern, sizes) = (pattern.parse::<NamePattern>(), sizes.parse::<SizeRange>());
    let metadata = metadata.parse::<MetadataPattern>();
    let mut selection = all.clone();
    if let Ok(pattern) = pattern.clone() {
        let (with, without) = (all.clone().with_name(pattern.clone()), all.without_name(pattern.clone()));
        let taken =
            [with.choose(&manifest, None), without.choose(&manifest, None)].map(|choice| choice == Choice::Taken);
        assert_ne!(taken[0], taken[1]);
        selection = selection.with_name(pattern);
    }
    if let Ok(metadata) = metadata.clone() {
        selection = selection.with_metadata(metadata);
    }
    if let Ok(sizes) = sizes {
        selection = selection.with_sizes(sizes);
    }
    for size in [0, 1, 1023, 1024, u64::MAX] {
        let late = selection.choose(&manifest, Some(size));
        let early = selection.choose(&manifest, None);
        match early {
            Choice::OnSize => {
                let within = sizes.as_ref().is_ok_and(|sizes| sizes.has(size));
                assert_eq!(late, if within { Choice::Taken } else { Choice::PassedOver(Unmet::Size) });
            }
            early => assert_eq!(late, early),
        }
        let mut known = manifest.clone();
        known.size = Some(size);
        assert_eq!(selection.choose(&known, None), late);
    }
    pattern.is_ok() && sizes.is_ok() && metadata.is_ok()
}

/// Conditions, and files that meet them or do not.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "*.csv\n1K..2K\nk=v*\na.csv\nvalue",
        "**/*.csv\n..1GiB\nk=*\na/b/c.csv\n",
        "{a,b}/**\n0..\nk=[!x]\nb/c\ny",
        "?\n1..1\nk=\\*\na\n*",
        "[\n..\n=x\na\nb",
        "{\n2..1\nk\na\nb",
        "**\n..18446744073709551615\nk=**/x\na\ny/x",
        "a**b\n1...2\nk==\na\n=",
        "\n\n\n\n",
    ])
}
