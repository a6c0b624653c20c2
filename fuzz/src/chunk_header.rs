//! A chunk's headers. Input: the transfer's chunk size, then the headers as they stand in a message, a line each.

use natsfer_common::{ChunkHeader, ChunkSize, Encoding, header};

use crate::{GREATEST, samples, text_lines};

/// What is read has its place in a file that can be, and is written and read again.
pub fn check(data: &[u8]) -> bool {
    let Some([chunk_size, headers]) = text_lines(data) else { return false };
    let Some(chunk_size) = chunk_size.parse().ok().and_then(|bytes| ChunkSize::new(bytes).ok()) else { return false };
    let pairs = || headers.lines().filter_map(|line| line.split_once(": "));
    let get = |name| pairs().find(|(found, _)| *found == name).map(|(_, value)| value);
    let Ok(chunk) = ChunkHeader::from_headers(get, chunk_size) else { return false };
    assert!((1..=chunk_size.bytes()).contains(&chunk.length));
    assert_eq!(u128::from(chunk.index) * u128::from(chunk_size.bytes()), u128::from(chunk.offset));
    assert!(chunk.offset.checked_add(u64::from(chunk.length)).unwrap() <= GREATEST);
    assert_eq!(chunk_size.index_of(chunk.offset), chunk.index);

    let written = chunk.to_headers();
    let again = |name| written.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str());
    assert_eq!(ChunkHeader::from_headers(again, chunk_size), Ok(chunk));
    true
}

/// Chunks, the last there can be among them, and lies.
pub fn seeds() -> Vec<Vec<u8>> {
    let example = samples::message("chunk").replace("\r\n", "\n");
    let (_, headers) = example.split_once('\n').unwrap();
    let seed = |chunk_size: u32, headers: &str| format!("{chunk_size}\n{headers}").into_bytes();
    let of = |chunk_size: u32, index: u64, length: u32| {
        let offset = index.wrapping_mul(u64::from(chunk_size));
        let chunk = ChunkHeader { index, offset, length, crc32: 0, encoding: Encoding::Zstd };
        let lines: Vec<_> = chunk.to_headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        seed(chunk_size, &lines.join("\n"))
    };
    let with = |name: &str, value: &str| {
        let found = samples::header("chunk", name);
        seed(16, &headers.replace(&format!("{name}: {found}"), &format!("{name}: {value}")))
    };
    vec![
        seed(16, headers),
        of(16, (GREATEST + 1) / 16 - 1, 15),
        of(16, (GREATEST + 1) / 16 - 1, 16),
        of(1, GREATEST - 1, 1),
        of(1, GREATEST, 1),
        of(64 << 20, 1 << 38, 1),
        with(header::CHUNK, "+1"),
        with(header::CHUNK, "0001"),
        with(header::OFFSET, "17"),
        with(header::LENGTH, "0"),
        with(header::LENGTH, "4294967306"),
        with(header::CRC32, "D1F67D85"),
        with(header::CRC32, "é1f67d85"),
        with(header::ENCODING, "Identity"),
    ]
}
