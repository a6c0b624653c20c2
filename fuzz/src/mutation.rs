//! Inputs made from seeds: bits flipped, pieces cut, repeated, spliced, and put in.

use std::fmt;

use proptest::{collection::vec, prelude::*, sample::Index};

/// What parsers stumble over.
const TOKENS: &[&[u8]] = &[
    b"..",
    b"/",
    b".",
    b"*",
    b">",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"+",
    b"-",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"0",
    b"00",
    b"1e3",
    b"1.5",
    b"-1",
    b"2147483648",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"\\u0000",
    b"\\ud800",
    b"\\u202e",
    b"\x1b[2J",
    b"\x7f",
    b"\xff",
    b"\xc0\x80",
    b"\xe2\x80\xae",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b".natsfer",
    b".tar",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\x7f",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
];

/// An input, shown so that it can be a seed.
#[derive(Clone)]
pub(crate) struct Input(pub(crate) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Token(Index, &'static [u8]),
    Noise(Index, Vec<u8>),
    Cut(Index),
    Remove(Index, Index),
    Repeat(Index, u8),
    Splice(Index, Index),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    // What changes little comes further into a parser.
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (at(), prop::sample::select(TOKENS)).prop_map(|(at, token)| Mutation::Token(at, token)),
        1 => (at(), vec(any::<u8>(), 1..32)).prop_map(|(at, noise)| Mutation::Noise(at, noise)),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), at()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        2 => (at(), 1..40u8).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        1 => (at(), at()).prop_map(|(seed, at)| Mutation::Splice(seed, at)),
    ]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
        match self {
            Self::Flip(at, bit) if !input.is_empty() => *at.get_mut(input) ^= 1 << bit,
            Self::Set(at, byte) if !input.is_empty() => *at.get_mut(input) = *byte,
            Self::Flip(..) | Self::Set(..) => {}
            Self::Token(at, token) => put(input, place(at, input), token),
            Self::Noise(at, noise) => put(input, place(at, input), noise),
            Self::Cut(at) => input.truncate(place(at, input)),
            Self::Remove(from, to) => {
                let (from, to) = (place(from, input), place(to, input));
                input.drain(from.min(to)..from.max(to));
            }
            Self::Repeat(at, length) => {
                let at = place(at, input);
                let piece = input[at..].iter().take((*length).into()).copied().collect::<Vec<_>>();
                put(input, at, &piece);
            }
            Self::Splice(seed, at) => {
                let seed = seed.get(seeds);
                input.truncate(place(at, input));
                input.extend_from_slice(&seed[place(at, seed)..]);
            }
        }
    }
}

fn put(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

/// Inputs made from these seeds, and some from nothing.
pub(crate) fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    let mutations = prop_oneof![vec(mutations(), 1), vec(mutations(), 2..6)];
    let mutated = (any::<Index>(), mutations).prop_map(move |(seed, mutations)| {
        let mut input = seed.get(&seeds).clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut input, &seeds));
        Input(input)
    });
    prop_oneof![3 => mutated, 1 => vec(any::<u8>(), 0..400).prop_map(Input)]
}
