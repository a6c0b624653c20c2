//! Values of options, read so that an error says what is wanted, with an example.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use super::ByteCount;
use crate::Rate;

/// Reads a whole number within a range.
pub fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.ok_or_else(|| match (range.start(), range.end()) {
            (0, _) => format!("'{text}' is not a whole number such as 5"),
            (least, &u64::MAX) => format!("'{text}' is not a whole number, {least} or more"),
            (least, most) => format!("'{text}' is not a whole number from {least} to {most}"),
        })?;
        T::try_from(number).map_err(|_| format!("{number} is too large a number"))
    }
}

/// Reads a time: `90s`, `5m`, `1h 30m`.
///
/// # Errors
/// In words, when it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("'{text}' is not a time such as 90s, 5m, 12h or 30d"))
}

/// Reads an address to listen on, or to ask.
///
/// # Errors
/// In words, when it is none.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.trim_start_matches(':').parse().unwrap_or(8223_u16);
        format!(
            "'{text}' is not an IP address and a port such as 127.0.0.1:{port}, or 0.0.0.0:{port} for all addresses"
        )
    })
}

/// A number of bytes per second: `500KiB`, `20MiB/s`. A bare number is more often meant in MiB than in bytes, and so is none.
///
/// # Errors
/// In words, when it is none, or 0.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    if text.parse::<u64>().is_ok_and(|number| number > 0) {
        return Err(format!("'{text}' has no unit: say {text}MiB, {text}KiB or {text}B"));
    }
    let bytes: Result<ByteCount, _> = text.strip_suffix("/s").unwrap_or(text).parse();
    let rate = bytes.ok().and_then(|ByteCount(bytes)| Rate::new(bytes));
    rate.ok_or_else(|| format!("'{text}' is not a number of bytes per second such as 500KiB or 20MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_is_wanted() {
        assert_eq!(number::<u16>(1..=256)("256"), Ok(256));
        assert_eq!(number::<u16>(1..=256)("257"), Err("'257' is not a whole number from 1 to 256".into()));
        assert_eq!(number::<u32>(1..=u64::MAX)("5000000000"), Err("5000000000 is too large a number".into()));
        assert_eq!(number::<u64>(1..=u64::MAX)("abc"), Err("'abc' is not a whole number, 1 or more".into()));
        assert_eq!(number::<u64>(0..=u64::MAX)("-1"), Err("'-1' is not a whole number such as 5".into()));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert!(parse_duration("abc").unwrap_err().contains("such as 90s"));
        assert_eq!(parse_address("[::1]:80").map(|address| address.port()), Ok(80));
        assert!(parse_address("80").unwrap_err().contains("such as 127.0.0.1:80,"));
        assert!(parse_address("localhost:80").unwrap_err().contains("such as 127.0.0.1:8223,"));
    }

    #[test]
    fn rates_are_bytes_per_second() {
        assert_eq!(parse_rate("20MiB/s").map(Rate::bytes_per_second), Ok(20 << 20));
        assert!(["0", "fast", "1/m", "/s"].iter().all(|text| parse_rate(text).is_err()));
    }
}
