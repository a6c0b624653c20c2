//! The JSON records that travel in headers: how they are written, bounded and versioned.

use std::io;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::ser::{Formatter, Serializer};

/// The version this code writes and reads. A change that an older reader would misunderstand raises it.
pub(crate) const VERSION: u32 = 1;
/// Longest record, in bytes.
const MAX_LENGTH: usize = 32 * 1024;

/// Why a record could not be read, or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Over 32 KiB, more than any honest record needs.
    #[error("the record is {0} bytes long; at most 32768 are allowed")]
    TooLong(usize),
    /// Not JSON, or without a field that is required, or with one that is malformed.
    #[error("the record is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The name in it is none to land a file under.
    #[error("its name is refused: {0}")]
    Name(#[from] crate::FileNameError),
    /// Written by a newer natsfer that knows this reader would misunderstand it.
    #[error("the record has version {0}; this natsfer reads version 1: install a newer one")]
    Version(u32),
    /// It needs a feature that this reader does not have.
    #[error("the record requires '{}', which this natsfer does not have: install a newer one", .0.escape_debug())]
    Requires(String),
    /// Its parts contradict each other, or the message that carries it.
    #[error("the record contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// What every record begins with, and all that is read before the version is known to fit.
#[derive(Deserialize)]
struct Preamble {
    version: u32,
    #[serde(default)]
    requires: Vec<String>,
}

/// Reads a record, refusing what is too long, too new, or malformed. Unknown fields are ignored.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, RecordError> {
    if text.len() > MAX_LENGTH {
        return Err(RecordError::TooLong(text.len()));
    }
    let preamble: Preamble = serde_json::from_str(text)?;
    if preamble.version != VERSION {
        return Err(RecordError::Version(preamble.version));
    }
    // No feature is defined yet: whatever is required is unknown.
    if let Some(feature) = preamble.requires.into_iter().next() {
        return Err(RecordError::Requires(feature.chars().take(64).collect()));
    }
    Ok(serde_json::from_str(text)?)
}

/// Reads an optional field: one that cannot be read counts as absent.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: DeserializeOwned>(field: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(field)?;
    Ok(serde_json::from_value(value).ok())
}

/// Writes a record as one line of ASCII: some NATS clients read headers as Latin-1, and a header cannot hold a line break.
pub(crate) fn write<T: Serialize>(record: &T) -> Result<String, RecordError> {
    let mut bytes = Vec::with_capacity(512);
    record.serialize(&mut Serializer::with_formatter(&mut bytes, AsciiFormatter))?;
    if bytes.len() > MAX_LENGTH {
        return Err(RecordError::TooLong(bytes.len()));
    }
    String::from_utf8(bytes).map_err(|_| RecordError::Contradiction("its JSON is not text"))
}

/// Compact JSON with every character beyond ASCII escaped (RFC 8259, section 7).
struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            // DEL is ASCII, yet a control character that JSON would leave as it is.
            if c.is_ascii() && !c.is_ascii_control() {
                writer.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives_as_ascii(text in any::<String>()) {
            let written = write(&text).unwrap();
            prop_assert!(written.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }

    #[test]
    fn the_version_and_what_is_required_come_first() {
        #[derive(Debug, Deserialize)]
        struct Record {
            x: u8,
        }
        assert_eq!(read::<Record>(r#"{"version":1,"x":7,"later":{}}"#).unwrap().x, 7);
        assert!(matches!(read::<Record>(r#"{"version":2}"#), Err(RecordError::Version(2))));
        assert!(matches!(read::<Record>(r#"{"version":1,"requires":["e2e"],"x":7}"#), Err(RecordError::Requires(_))));
        assert!(matches!(read::<Record>(r#"{"version":1}"#), Err(RecordError::Malformed(_))));
        assert!(matches!(read::<Record>(&" ".repeat(MAX_LENGTH + 1)), Err(RecordError::TooLong(_))));
        assert!(matches!(read::<Record>(&"[".repeat(10_000)), Err(RecordError::Malformed(_))));
    }
}
