//! What a command is told.

use std::{collections::BTreeMap, path::Path};

use natsfer_common::RecordError;

use super::Run;

/// What the variables with metadata begin with.
const METADATA: &str = "NATSFER_META_";

/// The variables of a run. What strangers say is only ever in a value, with what no value can hold (NUL) replaced. Of two keys that
/// come to one variable, the first in the order of bytes counts; the manifest has both.
///
/// # Errors
/// When the manifest is too long to be written, which cannot be where it was read.
pub(super) fn environment(run: &Run, target: &Path) -> Result<BTreeMap<String, String>, RecordError> {
    let Run { receiver, path, size, digest, published_at, manifest, failures, .. } = run;
    let mut variables = BTreeMap::new();
    for (key, value) in &manifest.metadata {
        variables.entry(format!("{METADATA}{}", variable(key))).or_insert_with(|| value.clone());
    }
    let fixed = [
        ("NATSFER_PATH", target.join(path).to_string_lossy().into_owned()),
        ("NATSFER_NAME", manifest.name.to_string()),
        ("NATSFER_CHANNEL", manifest.channel.to_string()),
        ("NATSFER_TRANSFER", manifest.transfer.to_string()),
        ("NATSFER_SIZE", size.to_string()),
        ("NATSFER_DIGEST", digest.to_string()),
        ("NATSFER_RECEIVER", receiver.to_string()),
        ("NATSFER_PUBLISHED_AT", published_at.to_string()),
        ("NATSFER_TRY", failures.saturating_add(1).to_string()),
        ("NATSFER_MANIFEST", manifest.to_header()?),
    ];
    let media_type = manifest.media_type.clone().map(|media_type| ("NATSFER_MEDIA_TYPE", media_type));
    variables.extend(fixed.into_iter().chain(media_type).map(|(name, value)| (name.to_owned(), value)));
    variables.values_mut().for_each(|value| *value = value.replace('\0', "\u{fffd}"));
    Ok(variables)
}

/// Whether a variable of our own is kept from commands: how we log in is nobody's business, and what we are told is not what
/// they are told.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("NATS_") || name.starts_with("NATSFER_")
}

fn variable(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use natsfer_common::{ChunkSize, DigestAlgorithm, Manifest, cli::TOLD_TO_COMMANDS};
    use proptest::prelude::*;

    use super::*;

    fn run(metadata: BTreeMap<String, String>) -> Run {
        let (id, chunk_size) = ("0".repeat(32).parse().unwrap(), ChunkSize::new(4096).unwrap());
        let mut manifest = Manifest::new(id, "a".parse().unwrap(), "$(rm x)".parse().unwrap(), chunk_size);
        manifest.metadata = metadata;
        let text = serde_json::json!({
            "version": 1, "receiver": "r", "path": "d/$(rm x)", "size": 3, "digest": DigestAlgorithm::Blake3.digest(b"abc"),
            "published_at": Timestamp::UNIX_EPOCH, "noted_at": Timestamp::UNIX_EPOCH, "manifest": manifest, "failures": 2,
        });
        Run::from_bytes(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_command_is_told_what_the_file_is() {
        let metadata = [("Project-x", "a b"), ("project_x", "second"), ("", "nothing"), ("ä", "\0")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let told = environment(&run(metadata), Path::new("/in")).unwrap();
        assert_eq!(told["NATSFER_PATH"], "/in/d/$(rm x)");
        assert_eq!(told["NATSFER_TRY"], "3");
        assert_eq!(told["NATSFER_META_PROJECT_X"], "a b");
        assert_eq!((&*told["NATSFER_META_"], &*told["NATSFER_META__"]), ("nothing", "\u{fffd}"));
        assert!(!told.contains_key("NATSFER_MEDIA_TYPE"));
    }

    #[test]
    fn nobody_is_warned_of_what_commands_are_told() {
        let mut run = run(BTreeMap::new());
        run.manifest.media_type = Some("text/plain".to_owned());
        let told = environment(&run, Path::new("/in")).unwrap();
        assert!(told.keys().eq(TOLD_TO_COMMANDS.iter()), "{told:?}");
    }

    proptest! {
        #[test]
        fn whatever_a_sender_says_fits_in_an_environment(metadata in prop::collection::btree_map(any::<String>(), any::<String>(), 0..8)) {
            for (name, value) in environment(&run(metadata.clone()), Path::new("/in")).unwrap() {
                prop_assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{}", name);
                prop_assert!(!value.contains('\0'));
            }
        }
    }
}
