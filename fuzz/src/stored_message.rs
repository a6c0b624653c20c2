//! A message as a stream's leader gives it by itself: JSON with headers and payload in base64.

use natsfer_common::{Subject, broker::StoredMessage, header};

use crate::samples;

/// What is read has the headers that stand in it, each on its line, and says no more about the transfer's end than
/// they do.
pub fn check(data: &[u8]) -> bool {
    let Some(message) = StoredMessage::from_answer(data) else { return false };
    let Subject { transfer, .. } = samples::subject();
    let closing = message.header(header::CLOSING);
    assert!(closing.is_none_or(|text| !text.contains(['\r', '\n'])));
    let record = message.closing_record(transfer);
    assert!(record.is_none_or(|record| closing.is_some() && record.transfer == transfer));
    assert!(message.payload.len() <= data.len());
    true
}

/// Answers about the examples, in base64 (RFC 4648), and answers that are none.
pub fn seeds() -> Vec<Vec<u8>> {
    let answer = |headers: &str, data: &str| {
        let (subject, time) = ("natsfer.data.letters.eu.x", "2026-11-23T12:00:00Z");
        let message = serde_json::json!({
            "subject": subject, "seq": 17, "time": time, "hdrs": base64(headers.as_bytes()), "data": data,
        });
        serde_json::json!({ "type": "io.nats.jetstream.api.v1.stream_msg_get_response", "message": message })
            .to_string()
    };
    let block = |name| samples::message(name).split_once('\n').unwrap().1.replace('\n', "\r\n") + "\r\n\r\n";
    let chunk = answer(&block("chunk"), "cXJzdHV2d3h5eg==");
    let seeds = [
        chunk.replace("\"seq\":17", "\"seq\":-1"),
        chunk.replace("2026", "2026000"),
        chunk.replace("==", "="),
        chunk,
        answer(&block("closing-complete"), ""),
        answer(&block("closing-cancelled"), ""),
        answer("NATS/1.0\r\n: a\r\nb c: d\r\nNatsfer-Closing\r\nNatsfer-Closing:\r\n\u{fffd}: \0\r\n\r\n", ""),
        answer("", ""),
        r#"{"message":{"subject":"a","seq":1,"time":"2026-11-23T12:00:00Z"}}"#.into(),
        r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#.into(),
    ];
    seeds.map(String::into_bytes).into()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| DIGITS[bits >> (18 - 6 * at) & 63] as char;
        (0..4).map(move |at| if at <= group.len() { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
