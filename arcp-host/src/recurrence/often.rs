//! Rules that recur hourly, by the minute or by the second.
//!
//! Their periods have equal lengths in local time, so that any period is found without those before
//! it, in both directions: the cost of a search does not grow with the age of a rule. If a whole
//! day, hour or minute is excluded, it is skipped in one step.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, Timelike as _, Weekday};
use rrule::{Frequency, NWeekday, RRule, Unvalidated};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A rule of this kind, in local time.
#[derive(Clone, Debug)]
pub(super) struct Often {
    /// The earliest time, in seconds of local time.
    begins: i64,
    /// The length of the unit of its frequency in seconds: an hour, a minute or a second.
    unit: i64,
    /// The distance between the beginnings of two units in which it recurs, in seconds.
    period: i64,
    /// The times within such a unit in seconds, in order.
    moments: Vec<i64>,
    months: Vec<u8>,
    month_days: Vec<i8>,
    year_days: Vec<i16>,
    weekdays: Vec<Weekday>,
    hours: Vec<u8>,
    minutes: Vec<u8>,
    seconds: Vec<u8>,
}

impl Often {
    /// `None` if the rule recurs daily or less often.
    pub(super) fn of(rule: &RRule<Unvalidated>, begins: NaiveDateTime) -> Option<Often> {
        let unit = match rule.get_freq() {
            Frequency::Hourly => HOUR,
            Frequency::Minutely => MINUTE,
            Frequency::Secondly => 1,
            Frequency::Yearly | Frequency::Monthly | Frequency::Weekly | Frequency::Daily => return None,
        };
        let every = |day: &NWeekday| if let NWeekday::Every(day) = day { Some(*day) } else { None };
        Some(Often {
            begins: begins.and_utc().timestamp(),
            unit,
            period: unit * i64::from(rule.get_interval()),
            moments: moments(rule, unit, begins),
            months: rule.get_by_month().to_vec(),
            month_days: rule.get_by_month_day().to_vec(),
            year_days: rule.get_by_year_day().to_vec(),
            weekdays: rule.get_by_weekday().iter().filter_map(every).collect(),
            hours: rule.get_by_hour().to_vec(),
            minutes: rule.get_by_minute().to_vec(),
            seconds: rule.get_by_second().to_vec(),
        })
    }

    /// The times after `time` in order. Each step returns at most one; other steps return `None`.
    pub(super) fn after(self, time: NaiveDateTime) -> impl Iterator<Item = Option<NaiveDateTime>> {
        let after = time.and_utc().timestamp();
        let first = self.begins.div_euclid(self.unit) * self.unit;
        let passed = (after - first).max(0).checked_div(self.period).unwrap_or(0);
        let (mut at, mut next) = (first + passed * self.period, 0);
        std::iter::from_fn(move || {
            if self.is_empty() {
                return None;
            }
            if next == 0
                && let Some(span) = self.skips(on_wall(at)?)
            {
                let free = (at.div_euclid(span) + 1) * span;
                at += (free - at + self.period - 1).div_euclid(self.period) * self.period;
                return Some(None);
            }
            let found = self.moments.get(next).map(|moment| at + moment);
            next += 1;
            if next >= self.moments.len() {
                (at, next) = (at + self.period, 0);
            }
            Some(found.filter(|found| *found > after && *found >= self.begins).and_then(on_wall))
        })
    }

    /// The times up to `time`, the latest first, in steps as of [`after`](Self::after).
    pub(super) fn up_to(self, time: NaiveDateTime) -> impl Iterator<Item = Option<NaiveDateTime>> {
        let upto = time.and_utc().timestamp();
        let first = self.begins.div_euclid(self.unit) * self.unit;
        let passed = (upto - first).max(0).checked_div(self.period).unwrap_or(0);
        let (mut at, mut left) = (first + passed * self.period, self.moments.len());
        std::iter::from_fn(move || {
            if at < first || self.is_empty() {
                return None;
            }
            if left == self.moments.len()
                && let Some(span) = self.skips(on_wall(at)?)
            {
                let begins = at.div_euclid(span) * span;
                at -= ((at - begins).div_euclid(self.period) + 1) * self.period;
                return Some(None);
            }
            left = left.saturating_sub(1);
            let found = self.moments.get(left).map(|moment| at + moment);
            if left == 0 {
                (at, left) = (at - self.period, self.moments.len());
            }
            Some(found.filter(|found| *found <= upto && *found >= self.begins).and_then(on_wall))
        })
    }

    /// Whether the rule has no times.
    fn is_empty(&self) -> bool {
        self.period == 0 || self.moments.is_empty()
    }

    /// The length in seconds of the longest unit around a time that is excluded: a day, an hour, a
    /// minute or a second.
    fn skips(&self, time: NaiveDateTime) -> Option<i64> {
        let is_of = |named: &[u8], value: u32| named.is_empty() || named.iter().any(|named| u32::from(*named) == value);
        if !self.is_day(time.date()) {
            Some(DAY)
        } else if !is_of(&self.hours, time.hour()) {
            Some(HOUR)
        } else if self.unit < HOUR && !is_of(&self.minutes, time.minute()) {
            Some(MINUTE)
        } else if self.unit < MINUTE && !is_of(&self.seconds, time.second()) {
            Some(1)
        } else {
            None
        }
    }

    fn is_day(&self, date: NaiveDate) -> bool {
        // Counted from the end: -1 is the last.
        let back = |days: u32, number: u32| i64::from(number) - i64::from(days) - 1;
        let (days, ordinal) = (if date.leap_year() { 366 } else { 365 }, date.ordinal());
        let is_of = |named: i64, days: u32, number: u32| named == i64::from(number) || named == back(days, number);
        let is_month_day = |named: &i8| is_of(i64::from(*named), u32::from(date.num_days_in_month()), date.day());
        let is_year_day = |named: &i16| is_of(i64::from(*named), days, ordinal);
        (self.months.is_empty() || self.months.iter().any(|month| u32::from(*month) == date.month()))
            && (self.month_days.is_empty() || self.month_days.iter().any(is_month_day))
            && (self.year_days.is_empty() || self.year_days.iter().any(is_year_day))
            && (self.weekdays.is_empty() || self.weekdays.contains(&date.weekday()))
    }
}

/// The times of a rule within an hour, minute or second.
fn moments(rule: &RRule<Unvalidated>, unit: i64, begins: NaiveDateTime) -> Vec<i64> {
    let named = |named: &[u8], otherwise: u32| match named {
        [] => vec![i64::from(otherwise)],
        named => named.iter().map(|value| i64::from(*value)).collect(),
    };
    let minutes = if unit < HOUR { vec![0] } else { named(rule.get_by_minute(), begins.minute()) };
    let seconds = if unit < MINUTE { vec![0] } else { named(rule.get_by_second(), begins.second()) };
    let mut all: Vec<i64> =
        minutes.iter().flat_map(|minute| seconds.iter().map(move |second| minute * MINUTE + second)).collect();
    all.sort_unstable();
    all.dedup();
    let positions = rule.get_by_set_pos();
    if positions.is_empty() {
        return all;
    }
    let place = |position: &i32| {
        let from_end = usize::try_from(position.unsigned_abs()).ok().and_then(|back| all.len().checked_sub(back));
        let from_start = usize::try_from(*position).ok().and_then(|place| place.checked_sub(1));
        if *position < 0 { from_end } else { from_start }
    };
    let mut picked: Vec<i64> = positions.iter().filter_map(place).filter_map(|at| all.get(at).copied()).collect();
    picked.sort_unstable();
    picked.dedup();
    picked
}

/// A local time; `None` beyond the year 9999.
fn on_wall(at: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp(at, 0).map(|time| time.naive_utc()).filter(|time| time.year() <= 9999)
}
