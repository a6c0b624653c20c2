//! Choosing and applying an encoding. Input: a byte for what is asked for, one for how often the rest is repeated,
//! the rest.

use natsfer_common::{Compression, Compressor, LinkEstimate};

use crate::samples;

/// What is compressed is smaller, and decoded to the same bytes, however often one compressor is used.
pub fn check(data: &[u8]) -> bool {
    let Some(([asked, times], piece)) = data.split_first_chunk() else { return false };
    let all = [Compression::Auto, Compression::None, Compression::Gzip, Compression::Zstd];
    let compression = all[usize::from(asked % 4)];
    let mut compressor = match asked & 4 {
        0 => Compressor::unhurried(compression),
        _ => Compressor::new(compression, LinkEstimate::default()),
    };
    let raw = piece.repeat(usize::from(*times));
    let mut shrank = false;
    for raw in [&raw[..], piece, &raw[raw.len() / 2..], &raw] {
        if let Some((encoding, payload)) = compressor.compress(raw) {
            assert_ne!(compression, Compression::None);
            assert!(payload.len() < raw.len());
            assert_eq!(encoding.decode(payload.into(), raw.len()).unwrap(), raw);
            shrank = true;
        }
    }
    shrank
}

/// What shrinks and what does not, for each that can be asked for.
pub fn seeds() -> Vec<Vec<u8>> {
    let pieces: [&[u8]; 4] = [samples::FILE, b"", b"\x1f\x8b is not worth trying", &[0; 600]];
    let seed = |asked, piece: &[u8]| [&[asked, 255], piece].concat();
    (0..8).flat_map(|asked| pieces.map(|piece| seed(asked, piece))).collect()
}
