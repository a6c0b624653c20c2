//! What a receiver that ends has not landed, in words.

use natsfer_common::{ReceiverName, cli::count};

/// What to say of files that did not match.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PassedOver {
    /// Others landed.
    Some(String),
    /// None landed: the pattern may be mistyped.
    All(String),
}

/// Says how many files did not match, and what that means: they do not come again.
pub(super) fn passed_over(files: u64, landed: u64, receiver: &ReceiverName) -> Option<PassedOver> {
    let did_not_match = format!(
        "{} did not match and {} marked done for '{receiver}'",
        count(files, "file"),
        if files == 1 { "is" } else { "are" }
    );
    match (files, landed) {
        (0, _) => None,
        (_, 0) => Some(PassedOver::All(format!(
            "nothing matched: {did_not_match}. If that was not meant, `forget -n {receiver}` and receive again, or use another name"
        ))),
        _ => Some(PassedOver::Some(did_not_match)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_match_is_told_and_more_loudly_where_nothing_did() {
        let name = "oops".parse().unwrap();
        assert_eq!(passed_over(0, 0, &name), None);
        let some = "1 file did not match and is marked done for 'oops'".to_owned();
        assert_eq!(passed_over(1, 7, &name), Some(PassedOver::Some(some)));
        let Some(PassedOver::All(all)) = passed_over(3_001, 0, &name) else { panic!("it is not told") };
        assert!(all.starts_with("nothing matched: 3001 files did not match and are"), "{all}");
    }
}
