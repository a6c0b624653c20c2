//! Subjects, which anybody who may publish chooses.

use natsfer_common::Kind;

use crate::samples;

/// What is read of a kind of ours is the one subject of its channel and id.
pub fn check(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let subjects = samples::subjects();
    let kind = subjects.kind(text);
    let Ok(subject) = subjects.parse(text) else { return false };
    assert!(text.ends_with(&format!(".{}.{}", subject.channel, subject.transfer)));
    let Some(kind) = kind else { return false };
    assert_eq!(subjects.of(kind, &subject.channel, subject.transfer), text);
    true
}

/// Subjects of every kind, and what the server would store as well.
pub fn seeds() -> Vec<Vec<u8>> {
    let (subjects, subject) = (samples::subjects(), samples::subject());
    let of = |kind| subjects.of(kind, &subject.channel, subject.transfer);
    let open = of(Kind::Open);
    let (head, id) = open.rsplit_once('.').unwrap();
    let mut seeds: Vec<_> = Kind::CONTROL.map(of).into();
    seeds.extend([
        of(Kind::Data),
        open.to_uppercase(),
        open.replace("open", "other"),
        open.replace("open", ""),
        format!("natsfer.open.{id}"),
        format!("natsfer.open..{id}"),
        format!("natsfer.open.*.{id}"),
        format!("natsfer.open.a.>.{id}"),
        format!("natsfer.open.a\0b.{id}"),
        format!("natsferx.open.a.{id}"),
        format!("{head}.{}", &id[1..]),
        format!("{open}."),
        format!("{open}\r\n"),
    ]);
    seeds.into_iter().map(String::into_bytes).collect()
}
