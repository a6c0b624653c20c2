//! Numbers that only look random.

/// SplitMix64's step and its output function: word `i` depends on `i` alone,
/// so the processor can work on several at once, and any part of a file can
/// be made again without the parts before it.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A fast generator that is the same for the same seed, everywhere. Not for
/// secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator; seeds next to each other give unrelated numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed.wrapping_add(GAMMA)) }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// A number below `bound`, which is at least one. Large bounds are not
    /// met quite evenly, which no test minds.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// One of several.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).unwrap_or(0)]
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let (words, rest) = buffer.as_chunks_mut::<8>();
        let start = self.state;
        let mut count = 0_u64;
        for word in words {
            count += 1;
            let state = start.wrapping_add(GAMMA.wrapping_mul(count));
            *word = mix(state).to_le_bytes();
        }
        self.state = start.wrapping_add(GAMMA.wrapping_mul(count));
        if !rest.is_empty() {
            let last = self.number().to_le_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}
