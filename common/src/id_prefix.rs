//! The beginnings of transfer ids, as people write them.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::TransferId;

/// Fewer digits than this stand for too many transfers to be meant.
const LEAST: usize = 4;
/// Digits of a whole id.
const WHOLE: usize = 32;
/// Digits that are shown at least, so that a shown id still names its transfer when others have come.
const SHOWN: usize = 8;

/// The first digits of a transfer's id, or all of them: 4 to 32 lower-case hexadecimal digits. Stands for the one transfer whose id
/// begins so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPrefix(String);

/// The text is not the beginning of a transfer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a transfer id, nor its beginning: 4 to 32 lower-case hexadecimal digits", .0.escape_debug())]
pub struct IdPrefixError(String);

impl IdPrefix {
    /// The whole id, if it is one.
    pub fn whole(&self) -> Option<TransferId> {
        self.0.parse().ok()
    }

    /// Whether this id begins so.
    pub fn begins(&self, id: TransferId) -> bool {
        id.to_string().starts_with(&self.0)
    }
}

impl FromStr for IdPrefix {
    type Err = IdPrefixError;

    fn from_str(text: &str) -> Result<Self, IdPrefixError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if (LEAST..=WHOLE).contains(&text.len()) && text.bytes().all(is_digit) {
            Ok(Self(text.into()))
        } else {
            Err(IdPrefixError(text.chars().take(64).collect()))
        }
    }
}

impl From<TransferId> for IdPrefix {
    fn from(id: TransferId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How ids are shown that stand together: by their first digits, as many for each as tell all of them apart, and 8 at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortIds {
    digits: usize,
}

impl ShortIds {
    /// As many digits as tell these apart; of one that is there twice nothing is told apart.
    pub fn of(ids: impl IntoIterator<Item = TransferId>) -> Self {
        let mut ids: Vec<TransferId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let common = ids.windows(2).map(|pair| match pair {
            [a, b] => a
                .to_string()
                .bytes()
                .zip(b.to_string().bytes())
                .take_while(|(a, b)| a.cmp(b) == Ordering::Equal)
                .count(),
            _ => 0,
        });
        let digits = common.max().map_or(SHOWN, |common| SHOWN.max(common + 1));
        Self { digits }
    }

    /// This id's first digits.
    pub fn show(self, id: TransferId) -> String {
        let mut text = id.to_string();
        text.truncate(self.digits);
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_beginning_has_four_digits_at_least_and_no_capitals() {
        for good in ["0123", "abcd", &"f".repeat(32)] {
            assert_eq!(good.parse::<IdPrefix>().unwrap().to_string(), good);
        }
        for bad in ["", "012", "ABCD", "01 3", "g123", "a*>.", &"f".repeat(33), "\u{1b}[2J"] {
            assert!(bad.parse::<IdPrefix>().is_err(), "{bad:?} was taken");
        }
    }

    fn id() -> impl Strategy<Value = TransferId> {
        // Few digits differ: beginnings are shared.
        "[01]{12}[0-9a-f]{20}".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_shown_names_one_of_them(ids in prop::collection::btree_set(id(), 1..40)) {
            let short = ShortIds::of(ids.iter().copied());
            for shown in &ids {
                let prefix: IdPrefix = short.show(*shown).parse().unwrap();
                prop_assert!(prefix.to_string().len() >= SHOWN);
                let named: Vec<_> = ids.iter().filter(|id| prefix.begins(**id)).collect();
                prop_assert_eq!(named, [shown]);
            }
        }

        #[test]
        fn a_whole_id_is_its_own_beginning(id in id()) {
            let prefix = IdPrefix::from(id);
            prop_assert_eq!((prefix.whole(), prefix.begins(id)), (Some(id), true));
        }
    }
}
