//! What is written on a command line, read.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::domain::Timestamp;

/// `90` and `90s`, `500ms`, `15m`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("", 1.0)];
    let wrong = || "write 90s, 500ms, 15m, 2h or 1d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// The same where the service counts in whole seconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    match duration(text)? {
        duration if duration.subsec_nanos() == 0 => Ok(duration.as_secs()),
        _ => Err("must be whole seconds".to_owned()),
    }
}

/// When: an instant, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This very instant.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl When {
    /// The instant that is meant at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.minus(ago),
        }
    }
}

/// `2026-11-20T12:00:00Z`, or `2h` for two hours ago.
pub fn when(text: &str) -> Result<When, String> {
    let at = text.parse().map(When::At).ok();
    let ago = || duration(text).map(When::Ago).ok();
    at.or_else(ago).ok_or_else(|| "write 2026-11-20T12:00:00Z, or 2h for two hours ago".to_owned())
}

/// Where a service is unless somebody says otherwise.
pub const HERE: &str = "http://127.0.0.1:3002";

/// Where a service is; `http://` goes without saying, and an empty variable is an unset one.
pub fn base(text: &str) -> Result<Url, String> {
    let text = if text.is_empty() { HERE } else { text };
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have no ? and no #".to_owned());
    }
    Ok(url)
}

/// A header for every request; none where the line is empty, as in a variable that is set to nothing.
#[derive(Debug, Clone)]
pub struct Header(pub Option<(HeaderName, HeaderValue)>);

/// `Name: value`.
pub fn header(text: &str) -> Result<Header, String> {
    if text.trim().is_empty() {
        return Ok(Header(None));
    }
    // It may be a password: what is wrong is said without it.
    let wrong = || "write 'Name: value'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(Header(Some((name, value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_seconds() {
        let read = |text| duration(text).map(|duration| duration.as_millis());
        for (text, ms) in
            [("90", 90_000), ("1.5s", 1500), ("250ms", 250), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(read(text), Ok(ms), "{text}");
        }
        for wrong in ["", "s", "-1", "1w", "1 h", "1e400d", ".", "99999999999999999999d", "1h30m"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("2m"), Ok(120));
        assert!(seconds("1500ms").is_err());
    }

    #[test]
    fn when_is_an_instant_or_how_long_ago() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let then: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!(when("2h").unwrap().at(now), then);
        assert_eq!(when("2026-11-20T11:00:00+01:00").unwrap().at(now), then);
        assert!(when("yesterday").is_err());
    }

    #[test]
    fn a_service_is_a_url_with_or_without_its_scheme() {
        assert_eq!(base("localhost:3002").unwrap().as_str(), "http://localhost:3002/");
        assert_eq!(base("").unwrap(), base(HERE).unwrap());
        assert_eq!(
            base("https://example.org/tracker").unwrap().as_str(),
            "https://example.org/tracker"
        );
        for wrong in ["ftp://a", "http://a?b", "http://a#b", "http://"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_that_is_wrong_is_not_repeated() {
        let Header(read) = header("Authorization:  Bearer secret").unwrap();
        let (name, value) = read.unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer secret"));
        assert!(header(" ").unwrap().0.is_none());
        for wrong in ["secret", ": secret", "a b: secret", "a: sec\nret"] {
            assert!(!header(wrong).unwrap_err().contains("secret"), "{wrong}");
        }
    }
}
