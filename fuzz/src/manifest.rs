//! The manifest, and the file inside its message. Input: the record, the checksum's header, the payload, a line each.

use natsfer_common::{DigestAlgorithm, Encoding, Inline, Journal, JournalHeader, Manifest, header};

use crate::{GREATEST, file_name, lines, record, samples};

/// What is read keeps within the limits, is written and read again, can be journaled, and its file is the one that
/// was digested.
pub fn check(data: &[u8]) -> bool {
    let [text, crc32, payload] = lines(data);
    let (Ok(text), crc32) = (str::from_utf8(text), str::from_utf8(crc32).ok()) else { return false };
    let subject = samples::subject();
    let read = |text: &str| Manifest::from_header(text, &subject);
    let Ok(manifest) = read(text) else { return false };
    assert_eq!((&manifest.channel, manifest.transfer), (&subject.channel, subject.transfer));
    assert!(manifest.size.is_none_or(|size| size <= GREATEST));
    assert!(manifest.mode.is_none_or(|mode| mode <= 0o777));
    assert!((1..=64 << 20).contains(&manifest.chunk_size.bytes()));
    file_name::lies_beneath(&manifest.name);
    record::is_read_again(text, &manifest, Manifest::to_header, read);

    let journal = JournalHeader::new(manifest.clone()).to_bytes().unwrap();
    assert_eq!(Journal::from_bytes(&journal).unwrap().header.manifest, manifest);

    if let Some(inline) = manifest.inline {
        check_inside(&manifest, inline, payload, crc32);
    }
    true
}

fn check_inside(manifest: &Manifest, inline: Inline, payload: &[u8], crc32: Option<&str>) {
    let size = manifest.size.unwrap();
    assert!(size <= u64::from(manifest.chunk_size.bytes()));
    assert_eq!(inline.digest.algorithm(), manifest.digest_algorithm);
    if let Ok(raw) = inline.decode(manifest, payload.to_vec().into(), crc32) {
        assert_eq!(raw.len() as u64, size);
        assert_eq!(manifest.digest_algorithm.digest(&raw), inline.digest);
        assert_eq!(crc32, Some(format!("{:08x}", crc32fast::hash(&raw)).as_str()));
    }
}

/// Manifests with and without the file inside, and what must be refused.
pub fn seeds() -> Vec<Vec<u8>> {
    let chunked = samples::header("open-chunked", header::MANIFEST);
    let lies = [
        chunked.replace("2026/", "../"),
        chunked.replace("2026/", ".NATSFER/"),
        chunked.replace("2026/", "\\ud800/"),
        chunked.replace("\"size\":26", "\"size\":9223372036854775808"),
        chunked.replace("\"mode\":416", "\"mode\":2541"),
        chunked.replace("2026-11-23T11:53:13", "-009999-12-31T23:59:60"),
        chunked.replace("\"chunk_size\":16", "\"chunk_size\":0"),
        samples::header("open-inline", header::MANIFEST).replace("\"size\":26", "\"size\":67108865"),
    ];
    let mut seeds = record::seeds(chunked);
    seeds.extend(lies.map(String::into_bytes));
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        for algorithm in [DigestAlgorithm::Blake3, DigestAlgorithm::Sha256] {
            let record = samples::inline(encoding, algorithm).to_header().unwrap();
            let mut payload = Vec::new();
            encoding.encode(samples::FILE, &mut payload).unwrap();
            let crc32 = format!("{:08x}", crc32fast::hash(samples::FILE));
            seeds.push([record.as_bytes(), b"\n", crc32.as_bytes(), b"\n", &payload].concat());
        }
    }
    seeds
}
