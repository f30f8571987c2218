//! Time as the core sees it: two numbers handed in by the driver.
//!
//! The core never reads a clock. Monotonic time drives timers; UTC stamps
//! events and bounds leases. Both are clamped forward by the runtime.

use core::fmt;
use core::ops::Add;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;

/// Monotonic time in microseconds since an arbitrary start.
///
/// Addition saturates, and there is no subtraction that could panic, so a machine that was just
/// started needs no special case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, span: Duration) -> Timestamp {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }
}

/// Coordinated universal time in milliseconds since 1970-01-01.
///
/// `Display` prints RFC 3339 with milliseconds and `Z`.
///
/// ```
/// use arcp_proto::time::UtcMs;
/// assert_eq!(UtcMs(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
/// assert_eq!(UtcMs::parse("2023-11-14T22:13:20.123456Z"), Some(UtcMs(1_700_000_000_123)));
/// assert_eq!(UtcMs::parse("2023-11-14T23:13:20+01:00"), Some(UtcMs(1_700_000_000_000)));
/// assert_eq!(UtcMs::parse("2023-02-29T00:00:00Z"), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UtcMs(pub u64);

const DAY_MS: u64 = 86_400_000;
/// The last millisecond of the year 9999, the largest that RFC 3339 can print.
const MAX_UTC_MS: u64 = 253_402_300_799_999;

impl UtcMs {
    /// The latest time that can be written.
    pub const MAX: UtcMs = UtcMs(MAX_UTC_MS);

    /// Parses an RFC 3339 timestamp with an offset; `None` if it is not one
    /// or lies outside 1970..=9999.
    pub fn parse(text: &str) -> Option<UtcMs> {
        let b = text.as_bytes();
        let fixed = b.len() >= 20 && b[4] == b'-' && b[7] == b'-' && b[10] == b'T' && b[13] == b':' && b[16] == b':';
        if !fixed {
            return None;
        }
        let (year, month, day) = (digits(&b[0..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
        let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
        let valid = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !valid {
            return None;
        }
        let (millis, rest) = fraction(&b[19..])?;
        let offset_minutes = offset(rest)?;
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        let utc = i64::try_from(seconds).ok()? * 1000 + i64::from(millis) - offset_minutes * 60_000;
        u64::try_from(utc).ok().filter(|ms| *ms <= MAX_UTC_MS).map(UtcMs)
    }

    /// Its text, without an allocation: most frames have one.
    pub(crate) fn text(self) -> TimeText {
        let ms = self.0.min(MAX_UTC_MS);
        let (year, month, day) = civil_from_days(ms / DAY_MS);
        let of_day = ms % DAY_MS;
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
        TimeText([
            b'0' + (year / 1000) as u8,
            b'0' + (year / 100 % 10) as u8,
            b'0' + (year / 10 % 10) as u8,
            b'0' + (year % 10) as u8,
            b'-',
            b'0' + (month / 10) as u8,
            b'0' + (month % 10) as u8,
            b'-',
            b'0' + (day / 10) as u8,
            b'0' + (day % 10) as u8,
            b'T',
            b'0' + (hour / 10) as u8,
            b'0' + (hour % 10) as u8,
            b':',
            b'0' + (minute / 10) as u8,
            b'0' + (minute % 10) as u8,
            b':',
            b'0' + (second / 10) as u8,
            b'0' + (second % 10) as u8,
            b'.',
            b'0' + (milli / 100) as u8,
            b'0' + (milli / 10 % 10) as u8,
            b'0' + (milli % 10) as u8,
            b'Z',
        ])
    }

    /// Adds a duration, saturating.
    #[must_use]
    pub fn plus(self, span: Duration) -> UtcMs {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        UtcMs(self.0.saturating_add(millis))
    }
}

impl fmt::Display for UtcMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// The text of a time.
pub(crate) struct TimeText([u8; 24]);

impl TimeText {
    pub(crate) fn as_str(&self) -> &str {
        // ASCII digits and punctuation are valid UTF-8.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for UtcMs {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<UtcMs, ParseError> {
        UtcMs::parse(text).ok_or(ParseError::new("an RFC 3339 time with an offset, of the years 1970 to 9999"))
    }
}

/// The driver's readings of both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Monotonic time, for timers.
    pub mono: Timestamp,
    /// UTC, for event times and lease expiry.
    pub utc: UtcMs,
}

impl Now {
    /// The monotonic time of a UTC time: now if that has passed, and at most `longest` from now
    /// even if UTC went back.
    pub(crate) fn until(self, at: UtcMs, longest: Duration) -> Timestamp {
        self.mono + Duration::from_millis(at.0.saturating_sub(self.utc.0)).min(longest)
    }
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// Reads an optional fraction of a second, truncated to milliseconds.
fn fraction(b: &[u8]) -> Option<(u16, &[u8])> {
    let Some((b'.', tail)) = b.split_first() else {
        return Some((0, b));
    };
    let len = tail.iter().take_while(|c| c.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let digit = |i: usize| if i < len { u16::from(tail[i] - b'0') } else { 0 };
    Some((digit(0) * 100 + digit(1) * 10 + digit(2), &tail[len..]))
}

fn offset(b: &[u8]) -> Option<i64> {
    if b == b"Z" {
        return Some(0);
    }
    let sign = match b.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if b.len() != 6 || b[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&b[1..3])?, digits(&b[4..6])?);
    (hours < 24 && minutes < 60).then(|| sign * i64::try_from(hours * 60 + minutes).unwrap_or(0))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar
/// (years counted from March, so that the leap day comes last).
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let y = year - u64::from(month <= 2);
    let era = y / 400;
    let year_of_era = y % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// A duration in words, in the largest unit that divides it: `30 days`, `1 hour`, `90 seconds`.
pub(crate) struct InWords(pub(crate) Duration);

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let (count, unit) = units
            .into_iter()
            .find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length))
            .map_or((seconds, "second"), |(length, unit)| (seconds / length, unit));
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in 0..146_097 * 2 {
            let utc = UtcMs(day * DAY_MS + 12_345);
            assert_eq!(UtcMs::parse(&utc.to_string()), Some(utc), "day {day}");
        }
    }

    #[test]
    fn refuses_what_is_no_timestamp() {
        for bad in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T24:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01 00:00:00Z",
            "+024-01-01T00:00:00Z",
            // With their offsets these are before the first year, or after the last.
            "1970-01-01T00:59:59+01:00",
            "9999-12-31T23:30:00-01:00",
        ] {
            assert_eq!(UtcMs::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Timestamp(u64::MAX) + Duration::from_secs(1), Timestamp(u64::MAX));
        assert_eq!(Timestamp(1).since(Timestamp(2)), Duration::ZERO);
    }
}
