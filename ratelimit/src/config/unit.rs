//! Units of time that a limit counts in.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// What a window is measured in. Numbers are those of Envoy's `RateLimitUnit` and of the response's `Unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Unit {
    /// One second.
    Second = 1,
    /// 60 seconds.
    Minute = 2,
    /// 3600 seconds.
    Hour = 3,
    /// 24 hours.
    Day = 4,
    /// 30 days, not a calendar month.
    Month = 5,
    /// 365 days, not a calendar year.
    Year = 6,
    /// 7 days; windows begin on Thursdays, as the Unix epoch did.
    Week = 7,
}

impl Unit {
    const ALL: [Self; 7] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The unit with Envoy's enum number; `None` for `UNKNOWN` and numbers not in the enum.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.number() == number)
    }

    /// Envoy's enum number.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Length in seconds.
    pub fn seconds(self) -> u32 {
        const DAY: u32 = 24 * 60 * 60;
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Second => "SECOND",
            Self::Minute => "MINUTE",
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::ALL.into_iter().find(|unit| unit.name().eq_ignore_ascii_case(&text)).ok_or_else(|| {
            de::Error::custom(format!(
                "invalid rate limit unit '{text}', expected second, minute, hour, day, week, month or year"
            ))
        })
    }
}
