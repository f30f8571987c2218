//! The times of a schedule: recurrence rules of RFC 5545, and time zones.
//!
//! A rule is evaluated in local time, as if there were no daylight saving; each result is then
//! converted by the time zone. A local time that does not exist becomes the moment at which the gap
//! ends. A local time that exists twice becomes the first of the two. So each time comes once, and
//! in order.
//!
//! Any client may submit a rule. So the contents of a rule are bounded before it is evaluated, and
//! so is the number of steps. However old a rule is, its evaluation begins shortly before the
//! wanted times. A rule with a count ends at its last time, which is determined once.

mod often;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use arcp_proto::id::OpId;
use arcp_proto::model::schedule::{Plan, PlanFault, Rule};
use arcp_proto::runtime::Input;
use arcp_proto::time::UtcMs;
use chrono::{
    DateTime, Datelike as _, Days, LocalResult, Month, Months, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _,
    Utc,
};
use chrono_tz::Tz;
use rrule::{Frequency, RRule, RRuleSet, Unvalidated};

use self::often::Often;
use crate::agent::Inbox;

/// The most steps that are taken to find the wanted times, coming or missed.
const STEPS: usize = 100_000;
/// How many times of a day a rule may name; the second number is for monthly and yearly rules.
const TIMES_OF_DAY: (usize, usize) = (1440, 24);
/// How many times of an hour a rule may name that recurs hourly or more often: each step of a rule
/// without results makes all of them.
const TIMES_OF_HOUR: usize = 60;
/// How far back missed times are searched. The next longer way is tried if there are fewer than
/// wanted.
const WAYS_BACK: [TimeDelta; 3] = [TimeDelta::hours(2), TimeDelta::days(2), TimeDelta::days(60)];
/// The longest time for which local times come a second time.
const LONGEST_TWICE: TimeDelta = TimeDelta::hours(3);
/// The allowed frequencies.
const FREQUENCIES: &str = "YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY|MINUTELY|SECONDLY";
/// The format of a time.
const FORMAT: &str = "%Y%m%dT%H%M%S";

/// A request for the times of a rule.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The rule.
    pub rule: Rule,
    /// Only times after this one are wanted.
    pub after: UtcMs,
    /// The present time: a rule without `DTSTART` begins then.
    pub now: UtcMs,
    /// How many past times are wanted: the latest ones.
    pub missed: usize,
    /// How many coming times are wanted.
    pub coming: usize,
    /// The last time of a rule with a count, as an earlier plan returned it.
    pub ends: Option<UtcMs>,
}

/// Finds the times of a rule.
///
/// ```
/// use arcp_host::recurrence::{Wanted, plan};
/// let now = "2026-03-28T12:00:00Z".parse()?;
/// let rule = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY".parse()?;
/// let plan = plan(&Wanted { rule, after: now, now, missed: 0, coming: 2, ends: None }).expect("a rule");
/// let coming: Vec<String> = plan.coming.iter().map(ToString::to_string).collect();
/// // On the 29th there is no half past two: the clock goes from two to three.
/// assert_eq!(coming, ["2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"]);
/// # Ok::<(), arcp_proto::error::ParseError>(())
/// ```
///
/// # Errors
///
/// What is wrong with the rule.
pub fn plan(wanted: &Wanted) -> Result<Plan, PlanFault> {
    let no = |reason: String| PlanFault { reason, again: false };
    let (now, after) = (instant(wanted.now).map_err(no)?, instant(wanted.after).map_err(no)?);
    let read = Reading::new(wanted.rule.as_str(), now).map_err(no)?;
    let rule = read.text().parse().map_err(|why| no(format!("{why}")))?;
    let ends = match (wanted.ends, read.count) {
        (Some(ends), _) => Some(ends),
        (None, Some(count)) => read.last_of(count).map_err(no)?,
        (None, None) => None,
    };
    let missed = read.missed(after, now, wanted.missed, ends).map_err(no)?;
    let (coming, is_all) = read.coming(now.max(after), wanted.coming, ends).map_err(no)?;
    Ok(Plan { rule, missed, coming, is_all, ends })
}

/// Finds the times of a rule on a thread of its own, and puts the answer into an inbox in every
/// case.
pub(crate) fn begin(op: OpId, wanted: Wanted, inbox: Arc<dyn Inbox>) {
    let fault = PlanFault { reason: "its times could not be found now".to_string(), again: true };
    let answer = Answer { op, inbox, plan: Some(Err(fault)) };
    let find = move || {
        let mut answer = answer;
        answer.plan = Some(plan(&wanted));
    };
    // Without a thread, the closure is dropped, and dropping the answer posts it.
    let _ = std::thread::Builder::new().name("schedule".to_string()).spawn(find);
}

struct Answer {
    op: OpId,
    inbox: Arc<dyn Inbox>,
    plan: Option<Result<Plan, PlanFault>>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.inbox.put(Input::SchedulePlanned { op: self.op, plan });
        }
    }
}

/// A parsed rule.
struct Reading {
    /// The time zone of its local times.
    zone: Tz,
    begins: NaiveDateTime,
    /// The text of the rule, without `DTSTART`.
    says: String,
    /// The local time of `UNTIL`.
    until: Option<NaiveDateTime>,
    /// The value of `COUNT`.
    count: Option<u32>,
    /// The rule without `UNTIL` and `COUNT`, and with the days that it takes from `DTSTART`.
    rule: RRule<Unvalidated>,
    /// The same rule, if it recurs hourly or more often.
    often: Option<Often>,
}

/// Steps of a search for times, in local time; a step may find none.
type Steps = Box<dyn Iterator<Item = Option<NaiveDateTime>>>;

impl Reading {
    fn new(text: &str, now: DateTime<Utc>) -> Result<Reading, String> {
        let (mut begins, mut says) = (None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("DTSTART").filter(|_| begins.is_none()) {
                begins = Some(read_begin(rest)?);
            } else if let Some(rest) = rule_of(line).filter(|_| says.is_none()) {
                says = Some(rest.to_string());
            } else if text.contains("FREQ=") || begins.is_some() {
                return Err(format!("`{}`: a rule has one line `DTSTART` and one line `RRULE`", shown(line)));
            } else {
                return Err(no_rule(&text.split_whitespace().collect::<Vec<&str>>().join(" ")));
            }
        }
        let says = says.ok_or("there is no line `RRULE:FREQ=...`")?;
        let (begins, zone) = begins.unwrap_or_else(|| ((now + TimeDelta::seconds(1)).naive_utc(), Tz::UTC));
        let begins = begins.with_nanosecond(0).unwrap_or(begins);
        if !(1970..=9000).contains(&begins.year()) {
            return Err("`DTSTART` is of the years 1970 to 9000".to_string());
        }
        let parts: Vec<(&str, &str)> = says.split(';').filter_map(|part| part.trim().split_once('=')).collect();
        let named = |name: &str| parts.iter().find(|part| part.0.eq_ignore_ascii_case(name)).map(|part| part.1);
        let until = named("UNTIL").map(|until| read_until(until, zone)).transpose()?;
        let not_counted = |_| "`COUNT` is a number from 1 to 4294967295".to_string();
        let count = named("COUNT").map(|count| count.parse::<NonZeroU32>().map_err(not_counted)).transpose()?;
        if !named("FREQ").is_some_and(|given| FREQUENCIES.split('|').any(|known| known.eq_ignore_ascii_case(given))) {
            return Err(no_rule(&says));
        }
        let is_end = |name: &str| ["UNTIL", "COUNT"].into_iter().any(|end| name.eq_ignore_ascii_case(end));
        let rest = says.split(';').filter(|part| !part.split_once('=').is_some_and(|(name, _)| is_end(name.trim())));
        let rest = rest.collect::<Vec<&str>>().join(";");
        let rule: RRule<Unvalidated> = format!("RRULE:{rest}").parse().map_err(|why| format!("{why}"))?;
        rule.clone().validate(on_wall(begins)).map_err(|why| format!("{why}"))?;
        let rule = with_days(rule, begins);
        let often = Often::of(&rule, begins);
        let read = Reading { zone, begins, says, until, count: count.map(NonZeroU32::get), rule, often };
        read.check()?;
        Ok(read)
    }

    /// The text of the rule, as it is stored.
    fn text(&self) -> String {
        let begins = self.begins.format(FORMAT);
        let (zone, says) = (self.zone, &self.says);
        if zone == Tz::UTC {
            return format!("DTSTART:{begins}Z\nRRULE:{says}");
        }
        format!("DTSTART;TZID={}:{begins}\nRRULE:{says}", zone.name())
    }

    /// Bounds the results of one step.
    fn check(&self) -> Result<(), String> {
        let rule = &self.rule;
        let of_hour = rule.get_by_minute().len().max(1) * rule.get_by_second().len().max(1);
        let of_day = rule.get_by_hour().len().max(1) * of_hour;
        let (named, span, most) = match rule.get_freq() {
            Frequency::Yearly | Frequency::Monthly => (of_day, "a day", TIMES_OF_DAY.1),
            Frequency::Weekly | Frequency::Daily => (of_day, "a day", TIMES_OF_DAY.0),
            Frequency::Hourly | Frequency::Minutely => (of_hour, "an hour", TIMES_OF_HOUR),
            // Each step is one time.
            Frequency::Secondly => return Ok(()),
        };
        if named > most {
            return Err(format!("`RRULE` names {named} times of {span}: with this `FREQ` it may name {most}"));
        }
        Ok(())
    }

    /// The last of `count` times; `None` if the rule has none, or if its last is beyond the range
    /// of the clock.
    fn last_of(&self, count: u32) -> Result<Option<UtcMs>, String> {
        let mut last = None;
        if let Some(period) = self.plain_period() {
            let span = period.checked_mul(i64::from(count) - 1).and_then(TimeDelta::try_seconds);
            last = span.and_then(|span| self.begins.checked_add_signed(span));
        } else {
            let mut found = 0;
            for (step, time) in self.steps_after(self.begins - TimeDelta::seconds(1))?.enumerate() {
                if step == STEPS && last.is_some() {
                    let why = "takes too much to find: say `UNTIL` instead";
                    return Err(format!("`COUNT` is {count}, and the last of so many times {why}"));
                }
                if step == STEPS || time.is_some_and(|time| self.is_over(time)) {
                    break;
                }
                (last, found) = (time.or(last), found + u32::from(time.is_some()));
                if found == count {
                    break;
                }
            }
        }
        Ok(last.and_then(|last| moment(in_zone(self.zone, last))))
    }

    /// The distance between the times in seconds of local time, for a rule with nothing but a
    /// frequency and an interval.
    fn plain_period(&self) -> Option<i64> {
        let rule = &self.rule;
        let of_time = [rule.get_by_hour(), rule.get_by_minute(), rule.get_by_second(), rule.get_by_month()];
        let is_plain =
            of_time.iter().all(|named| named.is_empty()) && !names_days(rule) && rule.get_by_set_pos().is_empty();
        let unit = match rule.get_freq() {
            Frequency::Yearly | Frequency::Monthly => return None,
            Frequency::Weekly => 7 * 24 * 3600,
            Frequency::Daily => 24 * 3600,
            Frequency::Hourly => 3600,
            Frequency::Minutely => 60,
            Frequency::Secondly => 1,
        };
        is_plain.then(|| unit * i64::from(rule.get_interval()))
    }

    fn is_over(&self, time: NaiveDateTime) -> bool {
        self.until.is_some_and(|until| time > until)
    }

    /// The local time at a moment.
    fn on_its_wall(&self, at: DateTime<Utc>) -> NaiveDateTime {
        let shown = at.with_timezone(&self.zone).naive_local();
        shown.with_nanosecond(0).unwrap_or(shown)
    }

    /// A begin shortly before a local time, with which the rule has the same later times: a whole
    /// number of periods after the real one. For rules that recur daily or less often.
    fn begins_before(&self, wall: NaiveDateTime) -> NaiveDateTime {
        let interval = u32::from(self.rule.get_interval().max(1));
        let by_days = |days: u32| {
            let between = u64::try_from((wall - self.begins).num_days()).unwrap_or(0);
            self.begins + Days::new(between / u64::from(days) * u64::from(days))
        };
        // The rule names its days, so the first day of the month or year can be the begin.
        let by_months = |months: u32, first: Option<NaiveDateTime>| {
            let first = first.unwrap_or(self.begins);
            let number = |time: NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
            let between = u32::try_from(number(wall) - number(first)).unwrap_or(0) / months * months;
            let later = |between: u32| first.checked_add_months(Months::new(between)).filter(|later| *later <= wall);
            let before = |between: u32| between.checked_sub(months).filter(|between| *between > 0);
            let found = Some(between).filter(|between| *between > 0).and_then(later);
            found.or_else(|| later(before(between)?)).unwrap_or(self.begins)
        };
        let first = self.begins.with_day(1);
        match self.rule.get_freq() {
            Frequency::Yearly => by_months(12 * interval, first.and_then(|first| first.with_month(1))),
            Frequency::Monthly => by_months(interval, first),
            Frequency::Weekly => by_days(7 * interval),
            Frequency::Daily => by_days(interval),
            Frequency::Hourly | Frequency::Minutely | Frequency::Secondly => self.begins,
        }
    }

    /// The times after a local time, in order, and perhaps some before it.
    fn steps_after(&self, wall: NaiveDateTime) -> Result<Steps, String> {
        if let Some(often) = self.often.clone() {
            return Ok(Box::new(often.after(wall)));
        }
        let begins = on_wall(self.begins_before(wall));
        let rule = self.rule.clone().validate(begins).map_err(|why| format!("{why}"))?;
        let steps = RRuleSet::new(begins).rrule(rule).limit().into_iter();
        Ok(Box::new(steps.map(|time| Some(time.naive_utc()))))
    }

    /// The next times after a moment, and whether there are no more.
    fn coming(&self, after: DateTime<Utc>, most: usize, ends: Option<UtcMs>) -> Result<(Vec<UtcMs>, bool), String> {
        let (mut found, mut last) = (Vec::new(), after);
        for time in self.steps_after(self.on_its_wall(after))?.take(STEPS) {
            let Some(time) = time else { continue };
            let at = in_zone(self.zone, time);
            if at <= last {
                continue;
            }
            let ms = moment(at).filter(|ms| !self.is_over(time) && ends.is_none_or(|ends| *ms <= ends));
            let Some(ms) = ms else { return Ok((found, true)) };
            if found.len() == most {
                return Ok((found, false));
            }
            last = at;
            found.push(ms);
        }
        // Times after the last one found are searched later, from that one on.
        let is_all = found.is_empty();
        Ok((found, is_all))
    }

    /// The latest times after one moment, up to another.
    fn missed(
        &self,
        after: DateTime<Utc>,
        now: DateTime<Utc>,
        most: usize,
        ends: Option<UtcMs>,
    ) -> Result<Vec<UtcMs>, String> {
        let now = ends.and_then(|ends| instant(ends).ok()).map_or(now, |ends| ends.min(now));
        if most == 0 || after >= now {
            return Ok(Vec::new());
        }
        if let Some(often) = self.often.clone() {
            return Ok(self.missed_often(often, (after, now), most));
        }
        let ways = WAYS_BACK.into_iter().map(|back| now - back).filter(|from| *from > after);
        let mut found = VecDeque::new();
        for from in ways.chain([after]) {
            let Some(longer) = self.missed_since(from, now, most)? else { break };
            found = longer;
            if found.len() >= most {
                break;
            }
        }
        Ok(found.into())
    }

    /// As [`missed`](Self::missed), for a rule that can be evaluated backwards.
    fn missed_often(&self, often: Often, (after, now): (DateTime<Utc>, DateTime<Utc>), most: usize) -> Vec<UtcMs> {
        let mut wall = self.on_its_wall(now);
        if now - in_zone(self.zone, wall) >= TimeDelta::seconds(1) {
            // The local time is there for the second time, so later local times have already passed
            // once.
            wall += LONGEST_TWICE;
        }
        let wall = self.until.map_or(wall, |until| until.min(wall));
        let mut found = VecDeque::new();
        for time in often.up_to(wall).take(STEPS) {
            let Some(at) = time.map(|time| in_zone(self.zone, time)).filter(|at| *at <= now) else { continue };
            if at <= after || found.len() == most {
                break;
            }
            if let Some(ms) = moment(at).filter(|ms| found.front() != Some(ms)) {
                found.push_front(ms);
            }
        }
        found.into()
    }

    /// The latest times after a moment, found among all since then; `None` if there are too many.
    fn missed_since(
        &self,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Option<VecDeque<UtcMs>>, String> {
        let (mut found, mut last) = (VecDeque::new(), from);
        for (step, time) in self.steps_after(self.on_its_wall(from))?.flatten().enumerate() {
            let at = in_zone(self.zone, time);
            if at > now || self.is_over(time) {
                break;
            }
            if step == STEPS {
                return Ok(None);
            }
            if at > last {
                last = at;
                found.extend(moment(at));
                if found.len() > most {
                    found.pop_front();
                }
            }
        }
        Ok(Some(found))
    }
}

fn names_days(rule: &RRule<Unvalidated>) -> bool {
    !rule.get_by_week_no().is_empty()
        || !rule.get_by_year_day().is_empty()
        || !rule.get_by_month_day().is_empty()
        || !rule.get_by_weekday().is_empty()
}

/// A rule with the day of the month, and the month of the year, that it takes from its begin.
fn with_days(rule: RRule<Unvalidated>, begins: NaiveDateTime) -> RRule<Unvalidated> {
    let day = i8::try_from(begins.day()).unwrap_or(1);
    let month = u8::try_from(begins.month()).ok().and_then(|month| Month::try_from(month).ok());
    match rule.get_freq() {
        Frequency::Yearly | Frequency::Monthly if names_days(&rule) => rule,
        Frequency::Yearly if rule.get_by_month().is_empty() => rule.by_month(month.as_slice()).by_month_day(vec![day]),
        Frequency::Yearly | Frequency::Monthly => rule.by_month_day(vec![day]),
        Frequency::Weekly | Frequency::Daily | Frequency::Hourly | Frequency::Minutely | Frequency::Secondly => rule,
    }
}

/// A local time as a time in UTC, for the crate that evaluates rules.
fn on_wall(time: NaiveDateTime) -> DateTime<rrule::Tz> {
    rrule::Tz::UTC.from_utc_datetime(&time)
}

/// The first moment of a local time in a zone; if the local time does not exist, the end of its
/// gap.
fn in_zone(zone: Tz, time: NaiveDateTime) -> DateTime<Utc> {
    let mut shown = time;
    // No gap is longer than a day.
    for _ in 0..=24 * 60 {
        match zone.from_local_datetime(&shown) {
            LocalResult::Single(there) | LocalResult::Ambiguous(there, _) => return there.with_timezone(&Utc),
            LocalResult::None => {
                let minute = shown.with_second(0).unwrap_or(shown);
                shown = minute + TimeDelta::minutes(1);
            }
        }
    }
    Utc.from_utc_datetime(&time)
}

/// `None` if the time is beyond the year 9999 or before 1970.
fn moment(at: DateTime<Utc>) -> Option<UtcMs> {
    u64::try_from(at.timestamp_millis()).ok().filter(|_| at.year() <= 9999).map(UtcMs)
}

fn instant(at: UtcMs) -> Result<DateTime<Utc>, String> {
    let ms = i64::try_from(at.0).ok().and_then(DateTime::from_timestamp_millis);
    ms.filter(|at| at.year() <= 9999).ok_or_else(|| "the clock of this runtime is far off".to_string())
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The error for a text that is not a rule. Many users try cron syntax.
fn no_rule(given: &str) -> String {
    let given = shown(given);
    format!("`{given}`: expected FREQ={FREQUENCIES}, such as FREQ=DAILY;BYHOUR=9 (cron is not read)")
}

fn rule_of(line: &str) -> Option<&str> {
    line.strip_prefix("RRULE:").or_else(|| Some(line).filter(|line| line.starts_with("FREQ=")))
}

/// Parses `;TZID=Europe/Berlin:20260101T083000`, or `:20260101T083000Z`.
fn read_begin(rest: &str) -> Result<(NaiveDateTime, Tz), String> {
    let wrong =
        || "`DTSTART` is `DTSTART:20260101T083000Z` or `DTSTART;TZID=Europe/Berlin:20260101T083000`".to_string();
    let (names, time) = rest.split_once(':').ok_or_else(wrong)?;
    let mut zone = None;
    for name in names.split(';').filter(|name| !name.is_empty()) {
        match name.split_once('=') {
            Some(("TZID", named)) => {
                let unknown =
                    |_| format!("`TZID`: there is no time zone `{}`", named.chars().take(40).collect::<String>());
                zone = Some(named.parse::<Tz>().map_err(unknown)?);
            }
            Some(("VALUE", "DATE-TIME")) => {}
            Some(_) | None => return Err(wrong()),
        }
    }
    let (time, is_utc) = time.strip_suffix('Z').map_or((time, false), |time| (time, true));
    if is_utc && zone.is_some_and(|zone| zone != Tz::UTC) {
        return Err("`DTSTART` has a `TZID`: its time has no `Z`".to_string());
    }
    let time = NaiveDateTime::parse_from_str(time, FORMAT).map_err(|_| wrong())?;
    Ok((time, zone.unwrap_or(Tz::UTC)))
}

/// The local time of `UNTIL`, which is in UTC, in local time, or a day.
fn read_until(text: &str, zone: Tz) -> Result<NaiveDateTime, String> {
    let wrong = |_| "`UNTIL` is a time such as 20261231T235959Z".to_string();
    if let Some(utc) = text.strip_suffix('Z') {
        let utc = NaiveDateTime::parse_from_str(utc, FORMAT).map_err(wrong)?;
        return Ok(zone.from_utc_datetime(&utc).naive_local());
    }
    let whole = if text.contains('T') { text.to_string() } else { format!("{text}T235959") };
    NaiveDateTime::parse_from_str(&whole, FORMAT).map_err(wrong)
}

#[cfg(test)]
mod tests;
