//! Values as Go writes them.

use std::{net::SocketAddr, str::FromStr, time::Duration};

/// Booleans as upstream takes them.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("say true or false".into()),
    }
}

/// One number with its unit, as in `150us` or `1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("say a number with us, ms, s or m".into()),
    };
    let number = f64::from_str(number).map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// A socket address whose host may be left out.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| "say ADDRESS:PORT or :PORT".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_are_read_as_go_writes_them() {
        for (text, micros) in [("150us", 150), ("100ms", 100_000), ("1.5s", 1_500_000), ("2m", 120_000_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_micros(micros), "{text}");
        }
        for text in ["", "10", "ms", "1h30", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(address(":19001").unwrap().to_string(), "0.0.0.0:19001");
        assert!(boolean("1").unwrap());
        assert!(!boolean("False").unwrap());
    }
}
