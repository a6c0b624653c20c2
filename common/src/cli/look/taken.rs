//! Bytes that are stored, as they are shown: of some it is only known how many they can be.

use serde_json::{Value, json};

use crate::{
    broker::{CatalogEntry, Occupancy, Taken},
    cli::human_bytes,
};

/// What several transfers take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Of all of which that is known, at most.
    bytes: u64,
    /// Transfers that may take less than was added for them.
    at_most: u64,
    /// Transfers for which nothing was added.
    unknown: u64,
}

impl Sum {
    pub(super) fn of<'a>(occupancy: &Occupancy, entries: impl IntoIterator<Item = &'a CatalogEntry>) -> Self {
        let mut sum = Self::default();
        entries.into_iter().for_each(|entry| sum.add(occupancy.of(entry)));
        sum
    }

    pub(super) fn add(&mut self, taken: Taken) {
        match taken {
            Taken::Exactly(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            Taken::AtMost(bytes) => {
                self.bytes = self.bytes.saturating_add(bytes);
                self.at_most += 1;
            }
            Taken::Unknown => self.unknown += 1,
        }
    }

    /// For people: `4.1 MiB`, `up to 4.1 MiB`, `at least 4.1 MiB`.
    pub(super) fn to_text(self) -> String {
        let bytes = human_bytes(self.bytes);
        match (self.at_most, self.unknown) {
            (0, 0) => bytes,
            (_, 0) => format!("up to {bytes}"),
            (0, _) => format!("at least {bytes}"),
            _ => format!("about {bytes}"),
        }
    }

    /// For programs: `stored_bytes` is null where it is not known, and `stored_at_most` says what is known instead.
    pub(super) fn note(self, line: &mut Value) {
        let Self { bytes, at_most, unknown } = self;
        line["stored_bytes"] = json!((at_most == 0 && unknown == 0).then_some(bytes));
        if at_most > 0 && unknown == 0 {
            line["stored_at_most"] = json!(bytes);
        }
    }
}

impl From<Taken> for Sum {
    fn from(taken: Taken) -> Self {
        let mut sum = Self::default();
        sum.add(taken);
        sum
    }
}

/// One transfer's, in a table.
pub(super) fn cell(taken: Taken) -> String {
    match taken {
        Taken::Unknown => "-".into(),
        taken => Sum::from(taken).to_text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_says_how_well_it_is_known() {
        let sum = |all: &[Taken]| {
            let mut sum = Sum::default();
            all.iter().for_each(|taken| sum.add(*taken));
            sum
        };
        let (known, most) = (Taken::Exactly(1 << 20), Taken::AtMost(1 << 20));
        assert_eq!(sum(&[]).to_text(), "0 B");
        assert_eq!(sum(&[known, known]).to_text(), "2.0 MiB");
        assert_eq!(sum(&[known, most]).to_text(), "up to 2.0 MiB");
        assert_eq!(sum(&[known, Taken::Unknown]).to_text(), "at least 1.0 MiB");
        let mut line = json!({});
        sum(&[most]).note(&mut line);
        assert_eq!(line, json!({"stored_bytes": null, "stored_at_most": 1 << 20}));
    }
}
