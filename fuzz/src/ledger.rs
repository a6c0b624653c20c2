//! A slot of a consumer's ledger: what is read from it is published to.

use natsfer_consumer::noted;

use crate::texts;

/// What is read is one acknowledgement's subject, and stands at the beginning of the slot.
pub fn check(data: &[u8]) -> bool {
    let Some(subject) = noted(data) else { return false };
    assert!(subject.starts_with("$JS.ACK."));
    // What ends a subject in NATS's protocol, and what makes several of it.
    assert!(!subject.contains([' ', '\t', '\r', '\n', '\0', '*', '>']), "{subject:?}");
    let rest = data.strip_prefix(subject.as_bytes()).unwrap();
    assert!(rest.first().is_none_or(|byte| *byte == 0));
    assert_eq!(noted(subject.as_bytes()), Some(subject));
    true
}

/// Slots in use, free ones, and torn ones.
pub fn seeds() -> Vec<Vec<u8>> {
    let subject = "$JS.ACK.NATSFER.billing.1.17.3.1795434793123456789.0";
    let mut slot = subject.as_bytes().to_vec();
    slot.resize(1024, 0);
    let mut seeds = texts(&[
        subject,
        "$JS.ACK.>",
        "$JS.ACK.a b",
        "$JS.ACK.a\r\nPUB x 0\r\n\r\n",
        "$JS.API.STREAM.DELETE.NATSFER",
        "$JS.ACK.",
    ]);
    seeds.extend([slot, vec![0; 1024], b"$JS.ACK.\xff".to_vec()]);
    seeds
}
