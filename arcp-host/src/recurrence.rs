//! The times of a schedule: recurrence rules of RFC 5545 and time zones.
//!
//! A rule is followed on the clock of its zone's walls, as if there were no daylight
//! saving, and each time is looked up in the zone then. A local time that does not exist
//! is the moment at which the gap ends, and one that exists twice is the first: so each
//! comes once, and in order.
//!
//! A rule is what anybody may write. What it may hold is bounded before it is followed,
//! and how far it is followed besides. However long ago it began, it is followed from
//! just before the times that are wanted: what counts its times ends at the last of them,
//! which is found once.

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

/// Steps that are taken at most to find the times that are asked for, those to come as
/// those that were missed.
const STEPS: usize = 100_000;
/// Times of a day that a rule may name, and of one that is followed by the month or year.
const TIMES_OF_DAY: (usize, usize) = (1440, 24);
/// Times of an hour that a rule may name that is followed by the hour or more often: of
/// one that never comes each step makes them all.
const TIMES_OF_HOUR: usize = 60;
/// How far back times that were missed are looked for, a longer way if there are fewer
/// than are wanted.
const WAYS_BACK: [TimeDelta; 3] = [TimeDelta::hours(2), TimeDelta::days(2), TimeDelta::days(60)];
/// How long a clock on a wall shows what it has shown before, at most.
const LONGEST_TWICE: TimeDelta = TimeDelta::hours(3);
/// How often a rule may come.
const FREQUENCIES: &str = "YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY|MINUTELY|SECONDLY";
/// The shape of a time.
const FORMAT: &str = "%Y%m%dT%H%M%S";

/// What is asked of a rule.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The rule.
    pub rule: Rule,
    /// No times up to this one.
    pub after: UtcMs,
    /// What time it is: a rule that does not say so begins then.
    pub now: UtcMs,
    /// How many of those that have been are wanted: the latest.
    pub missed: usize,
    /// How many of those to come are wanted.
    pub coming: usize,
    /// The last of all, of a rule that counts them, as it was found before.
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
/// What is wrong with it.
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

/// Finds the times of a rule on a thread of its own, and puts the answer into an inbox,
/// however that ends.
pub(crate) fn begin(op: OpId, wanted: Wanted, inbox: Arc<dyn Inbox>) {
    let fault = PlanFault { reason: "its times could not be found now".to_string(), again: true };
    let answer = Answer { op, inbox, plan: Some(Err(fault)) };
    let find = move || {
        let mut answer = answer;
        answer.plan = Some(plan(&wanted));
    };
    // Where there is no thread, the answer is dropped with the work, and so given.
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

/// A rule that was read.
struct Reading {
    /// Where its times are on the wall.
    zone: Tz,
    begins: NaiveDateTime,
    /// As it was given, without when it begins.
    says: String,
    /// Until when, on the wall.
    until: Option<NaiveDateTime>,
    /// How many times it has.
    count: Option<u32>,
    /// As it was given, without until when and how many, and with the days that it has
    /// from when it begins.
    rule: RRule<Unvalidated>,
    /// The same, if it comes by the hour or more often.
    often: Option<Often>,
}

/// The steps in which the times of a rule are found, on the wall: some find none.
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

    /// The rule as it is kept.
    fn text(&self) -> String {
        let begins = self.begins.format(FORMAT);
        let (zone, says) = (self.zone, &self.says);
        if zone == Tz::UTC {
            return format!("DTSTART:{begins}Z\nRRULE:{says}");
        }
        format!("DTSTART;TZID={}:{begins}\nRRULE:{says}", zone.name())
    }

    /// What one step would hold is bounded.
    fn check(&self) -> Result<(), String> {
        let rule = &self.rule;
        let of_hour = rule.get_by_minute().len().max(1) * rule.get_by_second().len().max(1);
        let of_day = rule.get_by_hour().len().max(1) * of_hour;
        let (named, span, most) = match rule.get_freq() {
            Frequency::Yearly | Frequency::Monthly => (of_day, "a day", TIMES_OF_DAY.1),
            Frequency::Weekly | Frequency::Daily => (of_day, "a day", TIMES_OF_DAY.0),
            Frequency::Hourly | Frequency::Minutely => (of_hour, "an hour", TIMES_OF_HOUR),
            // Each of its steps is one time.
            Frequency::Secondly => return Ok(()),
        };
        if named > most {
            return Err(format!("`RRULE` names {named} times of {span}: with this `FREQ` it may name {most}"));
        }
        Ok(())
    }

    /// The last of so many times; `None`: it has none, or its last is beyond all clocks.
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

    /// How far its times are from one another on the wall, in seconds, of a rule that names
    /// nothing but how often it comes.
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

    /// What a clock on the wall shows then.
    fn on_its_wall(&self, at: DateTime<Utc>) -> NaiveDateTime {
        let shown = at.with_timezone(&self.zone).naive_local();
        shown.with_nanosecond(0).unwrap_or(shown)
    }

    /// Where it may be followed from, so that nothing after a time is left out: some whole
    /// periods later it is the same. It is one that comes by the day or more seldom.
    fn begins_before(&self, wall: NaiveDateTime) -> NaiveDateTime {
        let interval = u32::from(self.rule.get_interval().max(1));
        let by_days = |days: u32| {
            let between = u64::try_from((wall - self.begins).num_days()).unwrap_or(0);
            self.begins + Days::new(between / u64::from(days) * u64::from(days))
        };
        // It names its days: the first of a month will do, or of a year.
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

    /// Its times after one on the wall, in order, and perhaps some before it.
    fn steps_after(&self, wall: NaiveDateTime) -> Result<Steps, String> {
        if let Some(often) = self.often.clone() {
            return Ok(Box::new(often.after(wall)));
        }
        let begins = on_wall(self.begins_before(wall));
        let rule = self.rule.clone().validate(begins).map_err(|why| format!("{why}"))?;
        let steps = RRuleSet::new(begins).rrule(rule).limit().into_iter();
        Ok(Box::new(steps.map(|time| Some(time.naive_utc()))))
    }

    /// Its next times after a moment, and whether there are no more.
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
        // Whatever is so far behind the last is looked for from there.
        let is_all = found.is_empty();
        Ok((found, is_all))
    }

    /// The latest of its times after a moment, up to another.
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

    /// The same, of a rule that is followed backwards.
    fn missed_often(&self, often: Often, (after, now): (DateTime<Utc>, DateTime<Utc>), most: usize) -> Vec<UtcMs> {
        let mut wall = self.on_its_wall(now);
        if now - in_zone(self.zone, wall) >= TimeDelta::seconds(1) {
            // It shows that for the second time: what was behind it the first time is over.
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

    /// The latest after a moment, of all since then; `None`: they are too many.
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

/// A rule with the day of a month, and the month of a year, that it has from when it
/// begins.
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

/// A moment of a wall clock, as the crate follows rules: there it is one of UTC.
fn on_wall(time: NaiveDateTime) -> DateTime<rrule::Tz> {
    rrule::Tz::UTC.from_utc_datetime(&time)
}

/// When a wall clock of a zone shows a time first; if it never does, when it has passed it.
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

/// `None`: beyond what can be told.
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

/// What was given is none; many people have rules of cron at hand.
fn no_rule(given: &str) -> String {
    let given = shown(given);
    format!("`{given}`: expected FREQ={FREQUENCIES}, such as FREQ=DAILY;BYHOUR=9 (cron is not read)")
}

fn rule_of(line: &str) -> Option<&str> {
    line.strip_prefix("RRULE:").or_else(|| Some(line).filter(|line| line.starts_with("FREQ=")))
}

/// `;TZID=Europe/Berlin:20260101T083000`, or `:20260101T083000Z`.
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

/// Until when, on the wall: that is said in UTC, on the wall, or by the day.
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
mod tests {
    use super::*;

    fn utc(text: &str) -> UtcMs {
        text.parse().expect("a time")
    }

    fn wanted(rule: &str, after: &str, now: &str, (missed, coming): (usize, usize)) -> Wanted {
        Wanted { rule: rule.parse().expect("short"), after: utc(after), now: utc(now), missed, coming, ends: None }
    }

    fn times(found: &[UtcMs]) -> Vec<String> {
        found.iter().map(|at| at.to_string().replace(":00.000Z", "")).collect()
    }

    fn coming(rule: &str, now: &str, most: usize) -> Vec<String> {
        times(&plan(&wanted(rule, now, now, (0, most))).expect(rule).coming)
    }

    #[test]
    fn a_local_time_that_does_not_exist_comes_once_when_the_gap_ends() {
        let daily = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY";
        let found = coming(daily, "2026-03-28T00:00:00Z", 3);
        assert_eq!(found, ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]);
        // All that fall into the gap are one, and three o'clock, which is there, is no second.
        let often = "DTSTART;TZID=Europe/Berlin:20260329T013000\nRRULE:FREQ=MINUTELY;INTERVAL=15";
        let found = coming(often, "2026-03-29T00:20:00Z", 5);
        let expected =
            ["2026-03-29T00:30", "2026-03-29T00:45", "2026-03-29T01:00", "2026-03-29T01:15", "2026-03-29T01:30"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_local_time_that_exists_twice_comes_once_the_first_time() {
        let daily = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY";
        let found = coming(daily, "2026-10-24T12:00:00Z", 2);
        assert_eq!(found, ["2026-10-25T00:30", "2026-10-26T01:30"], "half past two is at 00:30 and 01:30 UTC");
        // Somebody was away between both.
        assert_eq!(coming(daily, "2026-10-25T00:45:00Z", 1), ["2026-10-26T01:30"]);
    }

    #[test]
    fn rules_that_never_come_or_take_for_ever_end() {
        let never = plan(&wanted(
            "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            (0, 1),
        ));
        let never = never.expect("a rule");
        assert_eq!((never.coming.len(), never.is_all), (0, true));
        let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
        let sixty: Vec<String> = (0..60).map(|minute| minute.to_string()).collect();
        let (hours, sixty) = (hours.join(","), sixty.join(","));
        let (now, day) = ("2026-01-01T00:00:00Z", format!("BYHOUR={hours};BYMINUTE={sixty};BYSECOND={sixty}"));
        for (rule, why) in [
            (format!("FREQ=YEARLY;{day}"), "86400 times of a day"),
            (format!("FREQ=DAILY;{day}"), "86400 times of a day"),
            (format!("FREQ=HOURLY;BYMINUTE={sixty};BYSECOND={sixty};BYMONTH=2;BYMONTHDAY=30"), "3600 times of an hour"),
            ("DTSTART:20260101T000000Z\nRRULE:FREQ=SECONDLY;BYHOUR=9;COUNT=4000000000".into(), "say `UNTIL`"),
            ("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;COUNT=4000000000".into(), ""),
            ("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=0".into(), ""),
            ("FREQ=SECONDLY;INTERVAL=2;BYSECOND=1;BYSETPOS=2".into(), ""),
            ("FREQ=DAILY;COUNT=0".into(), "`COUNT` is a number"),
        ] {
            let fault = plan(&wanted(&rule, now, now, (1, 1)));
            let Err(fault) = fault else {
                assert_eq!(why, "", "{rule}");
                continue;
            };
            assert!(fault.reason.contains(why) && !fault.again, "{rule}: {fault:?}");
        }
    }

    #[test]
    fn a_rule_names_as_many_times_as_it_may_and_begins_in_a_year_that_it_may() {
        let first = |count: u32| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let at = |hours, minutes, seconds| {
            format!("BYHOUR={};BYMINUTE={};BYSECOND={}", first(hours), first(minutes), first(seconds))
        };
        let yearly = |begins: &str| format!("DTSTART:{begins}T000000Z\nRRULE:FREQ=YEARLY");
        for (rule, is_read) in [
            (format!("FREQ=YEARLY;{}", at(24, 1, 1)), true),
            (format!("FREQ=MONTHLY;{}", at(5, 5, 1)), false),
            (format!("FREQ=DAILY;{}", at(24, 60, 1)), true),
            (format!("FREQ=WEEKLY;{}", at(24, 60, 2)), false),
            (format!("FREQ=HOURLY;{}", at(1, 30, 2)), true),
            (format!("FREQ=MINUTELY;{}", at(24, 6, 10)), true),
            (format!("FREQ=HOURLY;{}", at(1, 31, 2)), false),
            (format!("FREQ=SECONDLY;{}", at(24, 60, 60)), true),
            (yearly("19700101"), true),
            (yearly("19691231"), false),
            (yearly("90000101"), true),
            (yearly("90010101"), false),
        ] {
            let now = "2026-01-01T00:00:00Z";
            assert_eq!(plan(&wanted(&rule, now, now, (0, 1))).is_ok(), is_read, "{rule}");
        }
    }

    #[test]
    fn old_rules_are_found_as_fast_as_new_ones_and_say_the_same() {
        let from = "2025-12-31T23:59:59Z";
        for rule in [
            "DTSTART:20251220T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=7",
            "DTSTART:20251101T000500Z\nRRULE:FREQ=MINUTELY;INTERVAL=90",
            "DTSTART:20250101T013000Z\nRRULE:FREQ=HOURLY;INTERVAL=5;BYDAY=MO,WE",
            "DTSTART:20200101T000000Z\nRRULE:FREQ=DAILY;INTERVAL=11;BYHOUR=3,20",
            "DTSTART:19700101T000000Z\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU",
        ] {
            let found = plan(&wanted(rule, from, from, (0, 5))).expect(rule);
            let after = utc(from);
            let slow: Vec<UtcMs> = whole(rule).filter(|time| *time > after).take(5).collect();
            assert_eq!(found.coming, slow, "{rule}");
        }
    }

    /// The times of a rule of UTC, as the crate follows it from its beginning on.
    fn whole(rule: &str) -> impl Iterator<Item = UtcMs> {
        let set: RRuleSet = rule.parse().expect(rule);
        set.limit().into_iter().map(|time| UtcMs(time.timestamp_millis().unsigned_abs()))
    }

    #[test]
    fn what_a_search_takes_does_not_grow_with_how_long_a_rule_has_been_followed() {
        for (rule, most) in [
            ("FREQ=SECONDLY", 2),
            ("FREQ=SECONDLY;BYHOUR=9;BYMONTH=2;BYMONTHDAY=29", 4000),
            ("FREQ=MINUTELY;INTERVAL=7", 2),
            ("FREQ=HOURLY;BYDAY=MO", 10),
            ("FREQ=DAILY;INTERVAL=3;BYHOUR=9,10,11", 8),
            ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=0,1,2,3", 60),
            ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=0,1,2,3", 200),
            ("FREQ=MONTHLY;BYMONTHDAY=31", 2),
            ("FREQ=MONTHLY", 2),
            ("FREQ=YEARLY;INTERVAL=4", 2),
            ("FREQ=YEARLY;BYWEEKNO=1,2;BYDAY=TU", 5),
        ] {
            for begins in ["19720229T101112", "20220131T101112", "20251031T101112"] {
                let rule = format!("DTSTART;TZID=Europe/Berlin:{begins}\nRRULE:{rule}");
                for now in ["2026-10-25T00:30:00Z", "2026-12-31T23:59:59Z", "2027-03-01T00:00:00Z"] {
                    let now = instant(utc(now)).expect("a time");
                    let read = Reading::new(&rule, now).expect(&rule);
                    let steps = read.steps_after(read.on_its_wall(now)).expect(&rule);
                    let is_after = |time: &NaiveDateTime| in_zone(read.zone, *time) > now;
                    let steps = steps.take_while(|time| !time.as_ref().is_some_and(is_after)).count();
                    assert!(steps <= most, "{rule}: {steps} at {now}");
                }
            }
        }
    }

    #[test]
    fn a_rule_that_counts_has_its_last_time_whenever_it_is_asked() {
        for rule in [
            "DTSTART:20250620T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=50000;COUNT=300",
            "DTSTART:20251220T091500Z\nRRULE:FREQ=MINUTELY;INTERVAL=15;BYHOUR=9,17;COUNT=57",
            "DTSTART:20251231T000000Z\nRRULE:FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1;COUNT=40",
            "DTSTART:20251225T000000Z\nRRULE:FREQ=DAILY;COUNT=12",
            "DTSTART:20251225T000000Z\nRRULE:FREQ=WEEKLY;BYDAY=TU,SU;COUNT=7",
            "DTSTART:20250131T100000Z\nRRULE:FREQ=MONTHLY;COUNT=9",
            "DTSTART:20240229T100000Z\nRRULE:FREQ=YEARLY;COUNT=3",
            "DTSTART:20200101T100000Z\nRRULE:FREQ=YEARLY;BYDAY=MO;BYWEEKNO=1,53;COUNT=9",
        ] {
            let expected: Vec<UtcMs> = whole(rule).collect();
            let (mut found, mut after, mut ends) = (Vec::new(), "2000-01-01T00:00:00Z".to_string(), None);
            // Three at a time, as if it were asked in the course of time.
            for _ in 0..200 {
                let wanted = Wanted { ends, ..wanted(rule, &after, &after, (0, 3)) };
                let plan = plan(&wanted).expect(rule);
                ends = plan.ends;
                assert!(ends.is_some() && plan.ends == expected.last().copied(), "{rule}: {ends:?}");
                found.extend(plan.coming);
                if plan.is_all {
                    break;
                }
                after = found.last().expect("some").to_string();
            }
            assert_eq!(found, expected, "{rule}");
            let late = "2040-01-01T00:00:00Z";
            let missed = plan(&wanted(rule, "2000-01-01T00:00:00Z", late, (2, 1))).expect(rule);
            assert_eq!((missed.missed.as_slice(), missed.is_all), (&expected[expected.len() - 2..], true), "{rule}");
        }
    }

    #[test]
    fn intervals_are_counted_from_the_beginning_also_where_hours_or_days_are_left_out() {
        let begins = "2026-01-01T08:59:30Z";
        let now = instant(utc(begins)).expect("a time");
        for (says, unit, interval) in [
            ("FREQ=SECONDLY;INTERVAL=7;BYHOUR=9,11;BYMINUTE=0,59", 1, 7),
            ("FREQ=SECONDLY;INTERVAL=3601;BYMINUTE=0,1", 1, 3601),
            ("FREQ=MINUTELY;INTERVAL=7;BYHOUR=9;BYSECOND=5,6", 60, 7),
            ("FREQ=MINUTELY;INTERVAL=13;BYDAY=SA,SU;BYMINUTE=0", 60, 13),
            ("FREQ=HOURLY;INTERVAL=5;BYHOUR=1,9;BYMINUTE=10,50", 3600, 5),
            ("FREQ=HOURLY;INTERVAL=7;BYMONTHDAY=-31,-30,3;BYYEARDAY=1,2,3", 3600, 7),
        ] {
            let rule = format!("DTSTART:20260101T085930Z\nRRULE:{says}");
            let read = Reading::new(&rule, now).expect(&rule);
            let often = read.often.clone().expect("one of these");
            // Every second of three days, as RFC 5545 says.
            let rule = read.rule.clone().validate(on_wall(read.begins)).expect("a rule");
            let is_of =
                |named: &[u8], value: u32| named.is_empty() || named.contains(&u8::try_from(value).unwrap_or(99));
            let days = |time: &NaiveDateTime| match says.split_once("BYDAY=") {
                Some(_) => time.weekday().num_days_from_monday() >= 5,
                None => !says.contains("BYMONTHDAY") || [1, 2, 3].contains(&time.day()),
            };
            let expected: Vec<NaiveDateTime> = (0..3 * 86_400)
                .map(|second| read.begins + TimeDelta::seconds(second))
                .filter(|time| {
                    let at = |time: &NaiveDateTime| time.and_utc().timestamp().div_euclid(unit);
                    (at(time) - at(&read.begins)) % interval == 0
                        && is_of(rule.get_by_hour(), time.hour())
                        && is_of(rule.get_by_minute(), time.minute())
                        && is_of(rule.get_by_second(), time.second())
                        && days(time)
                })
                .collect();
            let last = read.begins + TimeDelta::seconds(3 * 86_400 - 1);
            let before = read.begins - TimeDelta::days(3);
            let there = often.clone().after(before).flatten().take_while(|time| *time <= last);
            assert_eq!(there.collect::<Vec<_>>(), expected, "{says}");
            let mut back: Vec<NaiveDateTime> = often.clone().up_to(last).flatten().collect();
            back.reverse();
            assert_eq!(back, expected, "{says}: backwards");
            assert!(expected.len() > 1, "{says}: {}", expected.len());
            for time in expected.iter().take(5) {
                let next = often.clone().after(*time).flatten().next();
                let before = often.clone().up_to(*time - TimeDelta::seconds(1)).flatten().next();
                let place = expected.iter().position(|other| other == time).expect("it is one");
                assert_eq!(next, expected.get(place + 1).copied(), "{says}");
                assert_eq!(before, place.checked_sub(1).map(|place| expected[place]), "{says}");
            }
        }
    }

    #[test]
    fn what_was_missed_while_a_clock_showed_an_hour_twice_is_found() {
        let often = "DTSTART;TZID=Europe/Berlin:20260101T000000\nRRULE:FREQ=MINUTELY;INTERVAL=20";
        // At the second half past two: what was before three the first time has been.
        let found = plan(&wanted(often, "2026-10-25T00:10:00Z", "2026-10-25T01:30:00Z", (9, 1))).expect("a rule");
        assert_eq!(times(&found.missed), ["2026-10-25T00:20", "2026-10-25T00:40"]);
        assert_eq!(times(&found.coming), ["2026-10-25T02:00"]);
    }

    #[test]
    fn the_latest_that_were_missed_are_found_however_many_there_were() {
        let rule = "DTSTART:20200101T000000Z\nRRULE:FREQ=SECONDLY";
        let found = plan(&wanted(rule, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", (2, 1))).expect("a rule");
        assert_eq!(found.missed, [utc("2025-12-31T23:59:59Z"), utc("2026-01-01T00:00:00Z")]);
        let monthly = "DTSTART:20200115T000000Z\nRRULE:FREQ=MONTHLY";
        let found = plan(&wanted(monthly, "2025-09-01T00:00:00Z", "2026-01-01T00:00:00Z", (9, 1))).expect("a rule");
        assert_eq!(
            times(&found.missed),
            ["2025-09-15T00:00", "2025-10-15T00:00", "2025-11-15T00:00", "2025-12-15T00:00"]
        );
    }

    #[test]
    fn a_rule_is_kept_with_when_it_begins_and_until_is_read_in_every_way() {
        let now = "2026-01-01T00:00:00.500Z";
        let found = plan(&wanted("FREQ=HOURLY", now, now, (0, 1))).expect("a rule");
        assert_eq!(found.rule.as_str(), "DTSTART:20260101T000001Z\nRRULE:FREQ=HOURLY");
        let berlin = "DTSTART;TZID=Europe/Berlin:20260101T120000\nRRULE:FREQ=DAILY;UNTIL=";
        for (until, count) in
            [("20260103T110000Z", 3), ("20260103T105959Z", 2), ("20260103T120000", 3), ("20260103", 3)]
        {
            let found = plan(&wanted(&format!("{berlin}{until}"), now, now, (0, 9))).expect(until);
            assert_eq!((found.coming.len(), found.is_all), (count, true), "{until}");
        }
        let counted =
            plan(&wanted("DTSTART:20260101T000001Z\nRRULE:FREQ=DAILY;COUNT=2", now, now, (0, 9))).expect("one");
        assert_eq!((counted.coming.len(), counted.is_all), (2, true));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (rule, why) in [
            ("DTSTART:20260101T000000Z", "no line `RRULE"),
            ("FREQ=SOMETIMES", "`FREQ=SOMETIMES`: expected FREQ=YEARLY|"),
            ("SOMETIMES", "`SOMETIMES`: expected FREQ=YEARLY|"),
            ("RRULE:INTERVAL=2", "expected FREQ=YEARLY|"),
            ("0 9 * * *", "`0 9 * * *`: expected FREQ=YEARLY|"),
            ("0\n9\n*\n*\n*", "`0 9 * * *`: expected FREQ=YEARLY|"),
            ("DTSTART;TZID=Mars/Base:20260101T000000\nRRULE:FREQ=DAILY", "Mars/Base"),
            ("DTSTART;TZID=Europe/Berlin:20260101T000000Z\nRRULE:FREQ=DAILY", "no `Z`"),
            ("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY", "`DTSTART` is"),
            ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nEXDATE:20260102T000000Z", "`EXDATE"),
            ("FREQ=DAILY;UNTIL=tomorrow", "`UNTIL` is"),
            ("DTSTART:19001231T000000Z\nRRULE:FREQ=DAILY", "1970"),
        ] {
            let fault = plan(&wanted(rule, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", (0, 1))).expect_err(rule);
            assert!(fault.reason.contains(why), "{rule}: {}", fault.reason);
        }
    }
}
