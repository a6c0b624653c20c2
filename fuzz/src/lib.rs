//! What must hold of natsfer's parsers and of its receiver's state machines, whatever they are fed with.
//!
//! Each target is a module with a `check`, which panics where something does not hold and says whether the input was
//! taken, and `seeds`, inputs to begin with. `cargo test` feeds each with some thousands of them, mutated the same
//! way every time; `cargo fuzz run` goes on for as long as it is let, guided by coverage. See README.md.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

pub mod arguments;
pub mod assembler;
#[cfg(test)]
mod bounded;
pub mod channel;
pub mod channel_filter;
pub mod chunk_header;
pub mod chunk_set;
pub mod closing;
pub mod compression;
pub mod file_name;
pub mod identifiers;
pub mod journal;
pub mod layout;
pub mod ledger;
pub mod manifest;
mod memory;
#[cfg(test)]
mod mutation;
pub mod part;
pub mod payload;
pub mod program;
pub mod receipt;
mod record;
pub mod recovery;
pub mod repair;
mod samples;
pub mod selection;
pub mod stored_message;
pub mod subject;

use arbitrary::{Arbitrary, Unstructured};

/// The greatest size of a file, and the greatest end of a chunk.
const GREATEST: u64 = i64::MAX as u64;

/// An input's first lines, and what follows them: all of it may be missing.
fn lines<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut lines = data.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| lines.next().unwrap_or_default())
}

/// The same as text, if it is text.
fn text_lines<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let text = str::from_utf8(data).ok()?;
    let mut lines = text.splitn(N, '\n');
    Some(std::array::from_fn(|_| lines.next().unwrap_or_default()))
}

/// What is left of an input, as operations. (`Vec` would end them at every second byte or so.)
fn operations<'a, T: Arbitrary<'a>>(input: &mut Unstructured<'a>) -> Vec<T> {
    std::iter::from_fn(|| if input.is_empty() { None } else { input.arbitrary().ok() }).collect()
}

/// Seeds that say nothing, of several lengths (xorshift64).
fn noise() -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..16).map(|at| (0..25 * at).map(|_| byte()).collect()).collect()
}

/// Seeds that are text.
fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
