//! Layouts of the target directory. Input: a template, the name and the metadata that a sender gives, a line each.

use natsfer_common::ReceiverName;
use natsfer_consumer::{Layout, PlaceError, Placed};

use crate::{file_name::lies_beneath, samples, text_lines, texts};

/// What is taken is kept, and whatever a sender says, the place lies beneath the directory.
pub fn check(data: &[u8]) -> bool {
    let Some([template, name, value]) = text_lines(data) else { return false };
    let Ok(layout) = template.parse::<Layout>() else { return false };
    assert_eq!(layout.to_string(), template);
    let mut manifest = samples::bare(4096);
    if let Ok(name) = name.parse() {
        manifest.name = name;
    }
    manifest.metadata.insert("k".into(), value.into());
    let receiver: ReceiverName = "billing".parse().unwrap();
    let place = |receiver| {
        layout.place(Placed { manifest: &manifest, published_at: "2026-11-23T12:00:00Z".parse().unwrap(), receiver })
    };
    let placed = place(Some(&receiver));
    if !layout.names_receiver() {
        assert_eq!(placed, place(None));
    }
    match placed {
        Ok(placed) => {
            lies_beneath(&placed);
            assert_eq!(placed.as_str().parse(), Ok(placed.clone()));
            true
        }
        Err(error) => {
            // Without a sender's metadata there is nothing to refuse but length, and what comes out empty at the end.
            assert!(template.contains("meta.") || matches!(error, PlaceError::NotAName { .. }), "{error}");
            false
        }
    }
}

/// Templates, names and values.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "{name}\na/b.txt\n",
        "{channel}/{date}/{name}\nb\n",
        "{channel/}/{year}/{month}/{day}/{hour}/{stem}-{transfer}{.ext}\nx.tar.gz\n",
        "{meta.k}/{file}\na\n..",
        "{meta.k}/{file}\na\n../../etc",
        "{meta.k}/{file}\na\n/",
        "{meta.k:-none}/{dir}/{file}\na\n",
        "{meta.k}\na\n.natsfer",
        "{meta.k}{meta.k}/x\na\n.",
        "{dir}/{meta.k}/{file}\na\n.natsfer",
        "{receiver}/{ext}\na\nb",
        "{{{name}}}\na\nb",
        "{x}\na\nb",
        "{name\na\nb",
        "/{name}\na\nb",
        "../{name}\na\nb",
        "{dir:-../..}/{file}\na\nb",
        "{date}/\na\nb",
    ])
}
