//! Payloads and their codecs. Input: a byte for the encoding, two for the length that is declared, then the payload.

use natsfer_common::Encoding;

use crate::samples;

/// The encoding that a byte stands for.
pub(crate) fn encoding(byte: u8) -> Encoding {
    [Encoding::Identity, Encoding::Gzip, Encoding::Zstd][usize::from(byte % 3)]
}

/// A payload is decoded to what it declares or not at all: there is one length that it can declare.
pub fn check(data: &[u8]) -> bool {
    let Some(([code, low, high], payload)) = data.split_first_chunk() else { return false };
    let (encoding, length) = (encoding(*code), usize::from(u16::from_le_bytes([*low, *high])));
    assert_eq!(encoding.as_str().parse(), Ok(encoding));
    let payload = bytes::Bytes::copy_from_slice(payload);
    let Ok(raw) = encoding.decode(payload.clone(), length) else { return false };
    assert_eq!(raw.len(), length);
    for other in [length.wrapping_sub(1), length + 1, 0, 2 * length] {
        assert!(other == length || other == usize::MAX || encoding.decode(payload.clone(), other).is_err());
    }
    assert_eq!(encoding.decode(payload, length).unwrap(), raw);
    let mut again = vec![b'x'];
    encoding.encode(&raw, &mut again).unwrap();
    assert_eq!(encoding.decode(again.into(), length).unwrap(), raw);
    true
}

/// Payloads of each encoding, what expands to more than is declared, and what two frames or members hold.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for code in 0..3 {
        let encoded = |raw: &[u8]| {
            let mut payload = Vec::new();
            encoding(code).encode(raw, &mut payload).unwrap();
            payload
        };
        let seed = |length: u16, payload: &[u8]| [&[code], &length.to_le_bytes()[..], payload].concat();
        let file = encoded(samples::FILE);
        seeds.extend([
            seed(26, &file),
            seed(26, &[&file[..], b"behind"].concat()),
            seed(52, &[&file[..], &file].concat()),
            seed(26, &file[..file.len() - 1]),
            seed(0, &encoded(b"")),
            seed(0, b""),
            seed(u16::MAX, &encoded(&[0; u16::MAX as usize])),
            seed(100, &encoded(&[0; 1 << 20])),
        ]);
    }
    // A skippable frame, a frame that wants a window of 128 MiB, one that wants more than any (RFC 8878).
    seeds.push(b"\x02\0\0\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec());
    seeds.push(b"\x02\x01\0\x28\xb5\x2f\xfd\0\x88\x0b\0\0x\0\0".to_vec());
    seeds.push(b"\x02\x01\0\x28\xb5\x2f\xfd\0\xff\x0b\0\0x\0\0".to_vec());
    seeds
}
