//! Values as Go programs take them from the environment: what `envoyproxy/ratelimit` reads, this reads alike.
//!
//! Errors say what to write instead.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

/// The units of a duration and their nanoseconds; `µ` is written in either of its two characters.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// What a duration looks like.
const DURATION: &str = "say a duration such as 100ms, 1.5s or 1h30m";

/// A list with commas between its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

/// Pairs `KEY:VALUE` with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map(pub BTreeMap<String, String>);

/// `strconv.ParseBool`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("say true or false".into()),
    }
}

/// `time.ParseDuration`, without negative durations, which mean nothing in any setting.
pub fn duration(text: &str) -> Result<Duration, String> {
    let rest = text.strip_prefix('+').unwrap_or(text);
    let (negative, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let nanos = if rest == "0" { Some(0) } else { nanos(rest) };
    match nanos {
        Some(1..) if negative => Err("a duration cannot be negative here".into()),
        Some(nanos) => u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "this is too long".into()),
        None => Err(DURATION.into()),
    }
}

/// The sum of terms such as `1h`, `30m` or `1.5s`; at least one.
fn nanos(mut text: &str) -> Option<u128> {
    let mut sum = 0_u128;
    loop {
        let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, rest) = rest.split_at(rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len()));
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // Nothing is as short as the eighteenth digit of an hour.
        let fraction = &fraction[..fraction.len().min(18)];
        let digits = |text: &str| if text.is_empty() { Some(0_u128) } else { text.parse().ok() };
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let term = digits(whole)?.checked_mul(*unit)?.checked_add(digits(fraction)?.checked_mul(*unit)? / scale)?;
        sum = sum.checked_add(term)?;
        if rest.is_empty() {
            return Some(sum);
        }
        text = rest;
    }
}

/// `strconv.ParseInt` with base 0: also `0x1f`, `0b1`, `0o17`, `017` and `1_000`.
fn integer<T: TryFrom<u64>>(text: &str, what: &str) -> Result<T, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    let odd = digits.starts_with('+') || digits.ends_with('_') || digits.contains("__");
    let number = (!odd).then(|| u64::from_str_radix(&digits.replace('_', ""), radix).ok()).flatten();
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("say a whole number {what}"))
}

/// A TCP port.
pub fn port(text: &str) -> Result<u16, String> {
    integer(text, "from 0 to 65535")
}

/// How many of something.
pub fn count(text: &str) -> Result<usize, String> {
    integer(text, "that is not negative")
}

/// A share of something, from 0 to 1.
pub fn share<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let share = text.parse().ok().filter(|share| (T::from(0)..=T::from(1)).contains(share));
    share.ok_or_else(|| "say a number from 0 to 1".to_owned())
}

/// An address to listen on: of this machine, by a name of it, or all when empty. As in Go, `0.0.0.0` is all too, also of IPv6.
pub fn host(text: &str) -> Result<IpAddr, String> {
    if text.is_empty() || text == "0.0.0.0" {
        return Ok(Ipv6Addr::UNSPECIFIED.into());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let resolved = bare.parse().ok().or_else(|| Some((text, 0).to_socket_addrs().ok()?.next()?.ip()));
    resolved.ok_or_else(|| "say an IP address, or a name that resolves to one".into())
}

/// An address and port to listen on; the address may be left out.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let say = || "say ADDRESS:PORT or :PORT".to_owned();
    let (name, number) = text.rsplit_once(':').ok_or_else(say)?;
    Ok((host(name).map_err(|_| say())?, port(number).map_err(|_| say())?).into())
}

/// Items as they stand between commas; blank text is no item.
pub fn list(text: &str) -> Result<List, String> {
    let items = (!text.trim().is_empty()).then(|| text.split(',').map(str::to_owned).collect());
    Ok(List(items.unwrap_or_default()))
}

/// Pairs with a colon, and commas between them.
pub fn map(text: &str) -> Result<Map, String> {
    let pairs = pairs(text, ':')?.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    Ok(Map(pairs.collect()))
}

/// Pairs with commas between them; blanks around a key or value do not count.
pub fn pairs(text: &str, separator: char) -> Result<Vec<(&str, &str)>, String> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
        let (key, value) = pair.split_once(separator)?;
        Some((key.trim(), value.trim()))
    });
    pairs.collect::<Option<_>>().ok_or_else(|| format!("say KEY{separator}VALUE,KEY{separator}VALUE"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn booleans() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert!(boolean(text).unwrap(), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert!(!boolean(text).unwrap(), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", " true", "2"] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+0s", 0),
            ("1ns", 1),
            ("150us", 150_000),
            ("150µs", 150_000),
            ("150\u{3bc}s", 150_000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1h0m0.000000001s", 3_600_000_000_001),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("24h", 86_400_000_000_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_nanos(nanos), "{text}");
        }
        for text in
            ["", "10", "ms", ".s", "1h30", "1d", "1 s", "s1", "1..5s", "1S", "-1s", "-", "9999999999999h", "1e3s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_in_every_base_and_within_their_range() {
        for (text, number) in [
            ("0", 0),
            ("8080", 8080),
            ("+80", 80),
            ("0x1F", 31),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("1_000", 1000),
        ] {
            assert_eq!(port(text).unwrap(), number, "{text}");
        }
        for text in ["", "-1", "65536", "08", "0x", "1__0", "1_", "++1", "0x+1", "80 ", "1e3"] {
            assert!(port(text).is_err(), "{text}");
        }
        assert_eq!(port("65536").unwrap_err(), "say a whole number from 0 to 65535");
        assert_eq!(count("18446744073709551615").unwrap(), usize::MAX);
        assert!(share::<f64>("0.5").is_ok() && share::<f32>("1.1").is_err() && share::<f64>("NaN").is_err());
    }

    #[test]
    fn addresses() {
        for (text, whole) in [
            (":19001", "[::]:19001"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:9090", "[::]:9090"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), whole);
        }
        assert!(address("localhost:80").unwrap().ip().is_loopback());
        for text in ["", "80", "127.0.0.1", ":http", "[::1]"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert_eq!(host("").unwrap().to_string(), "::");
    }

    #[test]
    fn lists_and_maps() {
        assert_eq!(list("a,b").unwrap().0, ["a", "b"]);
        assert_eq!(list(" ").unwrap(), List::default());
        let pairs = |text| map(text).unwrap().0.into_iter().collect::<Vec<_>>();
        assert_eq!(pairs("k:v,l:w:x"), [("k".into(), "v".into()), ("l".into(), "w:x".into())]);
        assert_eq!(map("").unwrap(), Map::default());
        assert_eq!(map("k=v").unwrap_err(), "say KEY:VALUE,KEY:VALUE");
    }
}
