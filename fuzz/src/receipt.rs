//! The receipt.

use natsfer_common::{Receipt, header};

use crate::{record, samples};

/// What is read is written and read again, and is of its own file alone.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let transfer = samples::subject().transfer;
    let read = |text: &str| Receipt::from_header(text, transfer);
    let Ok(receipt) = read(text) else { return false };
    assert_eq!(receipt.transfer, transfer);
    assert!(receipt.is_of(receipt.digest, receipt.size) && !receipt.is_of(receipt.digest, receipt.size ^ 1));
    record::is_read_again(text, &receipt, Receipt::to_header, read);
    true
}

/// The example, and lies.
pub fn seeds() -> Vec<Vec<u8>> {
    let receipt = samples::header("receipt", header::RECEIPT);
    let lies = [
        receipt.replace("billing", "a.b"),
        receipt.replace("blake3:24", "sha256:24"),
        receipt.replace("\"size\":26", "\"size\":18446744073709551616"),
        receipt.replace("letters.eu/", "../"),
        receipt.replace("\"path\":", "\"later\":"),
        receipt.replace("2026-11-23", "+009999-12-31"),
        receipt.replace("00Z", "00.000000001+23:59[Europe/Paris]"),
    ];
    let mut seeds = record::seeds(receipt);
    seeds.extend(lies.map(String::into_bytes));
    seeds
}
