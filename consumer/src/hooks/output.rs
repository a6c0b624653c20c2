//! What a command writes: in lines, and its end.

use std::collections::VecDeque;

/// Longest line, in bytes: what is longer comes in pieces.
const LONGEST_LINE: usize = 1_000;
/// How many bytes of its end are kept.
const TAIL: usize = 2_000;

/// The end of what was written, whoever wrote it.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.0.drain(..self.0.len().saturating_sub(TAIL));
    }

    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// Bytes that become lines.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that these bytes end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.0.push(*byte);
            }
            if *byte == b'\n' || self.0.len() >= LONGEST_LINE {
                lines.extend(self.end());
            }
        }
        lines
    }

    /// What is left when there is no more.
    pub(super) fn end(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.0);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        (!line.is_empty()).then(|| line.to_owned())
    }
}

/// A text's lines, each without what a terminal would obey.
pub fn harmless_lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(|line| natsfer_common::cli::harmless(line).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_bounded_and_nothing_is_lost(pieces in prop::collection::vec("[a-c\n]{0,700}", 0..8)) {
            let (mut lines, mut tail, mut came) = (Lines::default(), Tail::default(), Vec::new());
            for piece in &pieces {
                came.extend(lines.push(piece.as_bytes()));
                tail.push(piece.as_bytes());
            }
            came.extend(lines.end());
            prop_assert!(came.iter().all(|line| !line.is_empty() && line.len() <= LONGEST_LINE));
            let whole = pieces.concat();
            prop_assert_eq!(came.concat(), whole.replace('\n', ""));
            prop_assert!(whole.trim_end().ends_with(&tail.text()) && tail.text().len() <= TAIL);
        }
    }
}
