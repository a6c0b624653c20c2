//! What holds of every record.

use std::fmt::Debug;

use natsfer_common::RecordError;

const LONGEST: usize = 32 * 1024;

/// What was read from this text is written as one line of printable ASCII and read as the same again; unless escaping
/// what was not ASCII makes it too long.
pub(crate) fn is_read_again<T: PartialEq + Debug>(
    text: &str, record: &T, write: impl Fn(&T) -> Result<String, RecordError>,
    read: impl Fn(&str) -> Result<T, RecordError>,
) {
    assert!(text.len() <= LONGEST, "a record of {} bytes was read", text.len());
    match write(record) {
        Ok(written) => {
            assert!(written.len() <= LONGEST);
            assert!(written.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{written:?}");
            assert_eq!(&read(&written).unwrap(), record, "written as {written}");
        }
        Err(error) => assert!(matches!(error, RecordError::TooLong(_)), "{error}"),
    }
}

/// A record's seeds: it, and lies of the kinds that every record must see through.
pub(crate) fn seeds(record: &str) -> Vec<Vec<u8>> {
    let with = |field: &str| record.replacen('{', &format!("{{{field},"), 1);
    let texts = [
        record.to_owned(),
        with(r#""later":{"x":[1,-2.5e300,null]}"#),
        with(r#""requires":[]"#),
        with(r#""requires":["\u001b[2J"]"#),
        with(r#""version":1"#),
        record.replace("\"version\":1", "\"version\":2"),
        record.replace("\"version\":1", "\"version\":1.0"),
        with(&format!(r#""later":{}1{}"#, "[".repeat(200), "]".repeat(200))),
        format!("{record}{}", " ".repeat(LONGEST - record.len())),
        format!("{record}{}", " ".repeat(LONGEST + 1 - record.len())),
        record[..record.len() / 2].to_owned(),
    ];
    texts.map(String::into_bytes).into()
}
