//! What is written down is what is read back, and what is damaged is not believed.

use natsfer_producer::Sent;
use proptest::prelude::*;

use super::*;
use crate::cli::watch::{
    handover::{Fate, Handover, Held},
    version::Modified,
};

/// A transfer's id depends on the file and its version, as it does.
pub(in crate::cli::watch) fn sent(name: u8, version: u8) -> Box<Sent> {
    let id = format!("{:032x}", 256 * u32::from(name) + u32::from(version));
    let text = format!(
        r#"{{"transfer":"{id}","channel":"default","name":"{name}","size":9,"chunks":0,"stored_bytes":9,"published_chunks":0,
        "published_bytes":9,"resumed_from":0,"digest":"blake3:{}","status":"sent"}}"#,
        "0".repeat(64)
    );
    serde_json::from_str(&text).unwrap()
}

pub(in crate::cli::watch) fn record() -> impl Strategy<Value = Record> {
    let receiver = prop_oneof![Just("a"), Just("b")].prop_map(|name| name.parse().unwrap());
    let word = prop_oneof![Just(Word::Landed), Just(Word::NotLanded)];
    let completion = prop_oneof![Just(Completion::Settled), Just(Completion::Told)];
    let receivers = prop::sample::subsequence(vec!["a", "b"], 0..=2)
        .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
    let changed = prop_oneof![Just(None), (0i64..3).prop_map(|seconds| Some(Modified(seconds, 0)))];
    (0u8..4, 0u8..3, 0u8..8, receiver, word, completion, receivers, changed).prop_map(
        |(name, version, kind, receiver, word, completion, receivers, changed)| {
            let sent = sent(name, version);
            let transfer = sent.transfer;
            let version = Version { size: 9, modified: Modified(version.into(), 5), inode: 7, changed };
            match kind {
                0 => Record::Sent { name: sent.name.clone(), version, transfer, digest: Some(sent.digest) },
                1 | 2 => Record::Open { version, completion, receivers, sent },
                3 => Record::Heard { transfer, receiver, word },
                4 => Record::Done { transfer },
                5 | 6 => Record::Same { name: sent.name.clone(), version },
                _ => Record::Gone { name: sent.name.clone() },
            }
        },
    )
}

proptest! {
    #[test]
    fn the_fewest_records_say_the_same(records in proptest::collection::vec(record(), 0..40)) {
        let (mut state, mut again) = (State::default(), State::default());
        records.into_iter().for_each(|record| state.take(record));
        state.records().for_each(|record| again.take(record));
        prop_assert_eq!(&again, &state);
    }

    /// Whoever is named by the run that goes on.
    #[test]
    fn a_source_goes_no_sooner_than_those_it_was_sent_for_have_it(
        records in proptest::collection::vec(record(), 0..40),
        named in prop::sample::subsequence(vec!["a", "b"], 0..=2),
    ) {
        let named: Vec<ReceiverName> = named.iter().map(|name| name.parse().unwrap()).collect();
        let mut state = State::default();
        records.iter().cloned().for_each(|record| state.take(record));
        for (transfer, open) in state.open {
            let of_it = |record: &&Record| matches!(record, Record::Open { sent, .. } if sent.transfer == transfer);
            let sent_at = records.iter().rposition(|record| of_it(&record)).unwrap();
            let Record::Open { receivers, .. } = &records[sent_at] else { unreachable!() };
            let landed = |receiver: &ReceiverName| {
                let landed = Record::Heard { transfer, receiver: receiver.clone(), word: Word::Landed };
                records[sent_at..].contains(&landed)
            };
            if Handover::default().hold(transfer, Held::again(&open, &named)) == Fate::Goes {
                prop_assert!(receivers.iter().chain(&named).all(landed));
            }
        }
    }

    #[test]
    fn a_line_that_is_torn_or_altered_is_none(record in record(), at in any::<prop::sample::Index>(), change in 1u8..) {
        let line = record.to_line().unwrap();
        let line = line.trim_end().as_bytes();
        prop_assert_eq!(Record::from_line(line), Some(record));
        let at = at.index(line.len());
        prop_assert_eq!(Record::from_line(&line[..at]), None);
        let mut altered = line.to_vec();
        altered[at] ^= change;
        prop_assert_eq!(Record::from_line(&altered), None);
    }
}

/// Earlier versions did not write down whom a file was sent for.
#[test]
fn a_line_without_receivers_is_read() {
    let sent = sent(1, 2);
    let transfer = sent.transfer;
    let version = Version { size: 9, modified: Modified(1, 5), inode: 7, changed: None };
    let (completion, receivers) = (Completion::Told, BTreeSet::new());
    let line = Record::Open { version, completion, receivers, sent }.to_line().unwrap();
    let text =
        line.split_once(MIDDLE).unwrap().1.trim_end().strip_suffix('}').unwrap().replace(r#""receivers":[],"#, "");
    let line = format!("{BEGIN}{:08x}{MIDDLE}{text}}}", crc32fast::hash(text.as_bytes()));
    let mut state = State::default();
    state.take(Record::from_line(line.as_bytes()).unwrap());
    let named = ["billing".parse().unwrap()];
    assert_eq!(state.open[&transfer].awaited(&named), named.into());
}
