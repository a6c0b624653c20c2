//! The closing record.

use natsfer_common::{ChunkSize, Closing, ClosingRecord, header};

use crate::{GREATEST, record, samples};

/// What is read is written and read again, and totals that fit are those of a file that can be.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let transfer = samples::subject().transfer;
    let read = |text: &str| ClosingRecord::from_header(text, transfer);
    let Ok(record) = read(text) else { return false };
    assert_eq!(record.transfer, transfer);
    record::is_read_again(text, &record, ClosingRecord::to_header, read);
    if let Closing::Complete(totals) = record.closing {
        assert!(totals.same_file(&totals));
        for chunk_size in [1, 16, 65_536, 64 << 20].map(|bytes| ChunkSize::new(bytes).unwrap()) {
            let bytes = u128::from(chunk_size.bytes());
            let (size, chunks) = (u128::from(totals.size), u128::from(totals.chunks));
            let tiles = chunks * bytes >= size && chunks * bytes < size + bytes;
            assert_eq!(totals.fit(chunk_size), tiles && totals.size <= GREATEST, "{totals:?} in {chunk_size:?}");
        }
    }
    true
}

/// Both ends, and lies about them.
pub fn seeds() -> Vec<Vec<u8>> {
    let complete = samples::header("closing-complete", header::CLOSING);
    let cancelled = samples::header("closing-cancelled", header::CLOSING);
    let lies = [
        complete.replace("\"size\":26", "\"size\":18446744073709551615"),
        complete.replace("\"chunks\":2", "\"chunks\":-1"),
        complete.replace("complete", "cancelled"),
        complete.replace("blake3", "md5"),
        cancelled.replace("cancelled", "complete"),
        cancelled.replace("the source", "\\u001b[2J\\r\\nNatsfer-Closing: "),
    ];
    let seeds = [record::seeds(complete), record::seeds(cancelled), lies.map(String::into_bytes).into()];
    seeds.concat()
}
