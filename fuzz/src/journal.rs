//! The journal. Input: a byte, then the bytes of one; or, where the first is odd, its header's JSON as a line, and
//! its entries and what follows them, to which the checksums are added: whoever alters a file can do so, too.

use natsfer_common::{Journal, JournalEntry, JournalHeader, header};

use crate::{GREATEST, lines, samples};

/// What is read is the same when it is cut where it is sound, and is what it would be written as.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, rest)) = data.split_first() else { return false };
    let bytes = if kind % 2 == 0 { rest.to_vec() } else { sealed(rest) };
    let Ok(journal) = Journal::from_bytes(&bytes) else { return false };
    let sound = usize::try_from(journal.sound_bytes).unwrap();
    assert_eq!(Journal::from_bytes(&bytes[..sound]).as_ref(), Ok(&journal));
    let mut longer = bytes[..sound].to_vec();
    longer.extend_from_slice(&[0; 24]);
    assert_eq!(Journal::from_bytes(&longer).as_ref(), Ok(&journal), "a zeroed block was taken for an entry");

    let chunk_size = journal.header.manifest.chunk_size.bytes();
    for JournalEntry { index, length, .. } in &journal.entries {
        assert!((1..=chunk_size).contains(length));
        assert!(u128::from(*index) * u128::from(chunk_size) + u128::from(*length) <= u128::from(GREATEST));
    }
    let entries: Vec<_> = journal.entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    assert_eq!(bytes[sound - entries.len()..sound], entries);
    let head = journal.header.to_bytes().unwrap();
    let again = Journal::from_bytes(&[head, entries].concat()).unwrap();
    assert_eq!((again.header, again.entries), (journal.header, journal.entries));
    true
}

fn sealed(data: &[u8]) -> Vec<u8> {
    let [json, rest] = lines(data);
    let mut bytes = b"NATSFERJ".to_vec();
    bytes.extend_from_slice(&u32::try_from(json.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(json);
    bytes.extend_from_slice(&crc32fast::hash(json).to_le_bytes());
    let (entries, tail) = rest.as_chunks::<16>();
    for entry in entries {
        bytes.extend_from_slice(entry);
        bytes.extend_from_slice(&crc32fast::hash(entry).to_le_bytes());
        bytes.extend_from_slice(b"ENT.");
    }
    bytes.extend_from_slice(tail);
    bytes
}

/// Journals of a few entries, torn and altered, and headers of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let head = JournalHeader::new(samples::manifest()).to_bytes().unwrap();
    let entry = |index, length| JournalEntry { index, length, crc32: 7 }.to_bytes();
    let whole = [&[0], &head[..], &entry(0, 16), &entry(1, 10), &entry(u64::MAX, 0)].concat();
    let mut longest = b"\0NATSFERJ".to_vec();
    longest.extend_from_slice(&u32::MAX.to_le_bytes());
    let record = samples::header("open-chunked", header::MANIFEST);
    let seal = |json: String| [b"\x01", json.as_bytes(), b"\n", &[0; 40]].concat();
    vec![
        whole[..whole.len() - 1].to_vec(),
        whole[..head.len()].to_vec(),
        whole,
        longest,
        seal(format!(r#"{{"version":1,"manifest":{record}}}"#)),
        seal(format!(r#"{{"version":2,"manifest":{record}}}"#)),
        seal(format!(r#"{{"version":1,"manifest":{}}}"#, record.replace("416", "4294967295"))),
        seal("[".repeat(10_000)),
    ]
}
