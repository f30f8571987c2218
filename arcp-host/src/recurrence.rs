//! The times of a schedule: recurrence rules of RFC 5545 and time zones.
//!
//! A rule is followed on the clock of its zone's walls, as if there were no daylight
//! saving, and each time is looked up in the zone then. A local time that does not exist
//! is the moment at which the gap ends, and one that exists twice is the first: so each
//! comes once, and in order.
//!
//! A rule is what anybody may write. What it may hold is bounded before it is followed,
//! and how far it is followed besides.

use std::collections::VecDeque;
use std::sync::Arc;

use arcp_proto::id::OpId;
use arcp_proto::model::schedule::{Plan, PlanFault, Rule};
use arcp_proto::runtime::Input;
use arcp_proto::time::UtcMs;
use chrono::{DateTime, Datelike as _, Days, LocalResult, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use rrule::{Frequency, RRule, RRuleSet, Unvalidated};

use crate::agent::Inbox;

/// Times that are followed at most to find those that are asked for.
const STEPS: usize = 500_000;
/// Times of a day that a rule may name, and of one that is followed by the month or year.
const TIMES_OF_DAY: (usize, usize) = (1440, 24);
/// Times of an hour that a rule may name that is followed by the hour or more often: of
/// one that never comes each step makes them all.
const TIMES_OF_HOUR: usize = 60;
/// How far back times that were missed are looked for, a longer way if there are fewer
/// than are wanted.
const WAYS_BACK: [TimeDelta; 3] = [TimeDelta::hours(2), TimeDelta::days(2), TimeDelta::days(60)];
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
}

/// Finds the times of a rule.
///
/// ```
/// use arcp_host::recurrence::{Wanted, plan};
/// let now = "2026-03-28T12:00:00Z".parse()?;
/// let rule = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY".parse()?;
/// let plan = plan(&Wanted { rule, after: now, now, missed: 0, coming: 2 }).expect("a rule");
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
    let ways = WAYS_BACK.into_iter().map(|back| now - back).filter(|from| *from > after);
    let ways: Vec<DateTime<Utc>> =
        if wanted.missed == 0 { vec![now.max(after)] } else { ways.chain([after]).collect() };
    let mut found = Found::default();
    for from in ways {
        found = read.follow(from, now, (wanted.missed, wanted.coming)).map_err(no)?;
        if found.missed.len() >= wanted.missed {
            break;
        }
    }
    let Found { missed, coming, is_all } = found;
    Ok(Plan { rule, missed: missed.into_iter().collect(), coming, is_all })
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

/// What was found.
#[derive(Debug, Default)]
struct Found {
    missed: VecDeque<UtcMs>,
    coming: Vec<UtcMs>,
    is_all: bool,
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
    /// As it was given, without until when.
    rule: RRule<Unvalidated>,
}

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
        let is_until = |part: &&str| part.trim_start().starts_with("UNTIL=");
        let parts: Vec<&str> = says.split(';').collect();
        let until = parts.iter().copied().find(is_until);
        let until = until.map(|part| read_until(part.trim().trim_start_matches("UNTIL="), zone)).transpose()?;
        let rest: Vec<&str> = parts.iter().copied().filter(|part| !is_until(part)).collect();
        let frequency = parts.iter().find_map(|part| part.trim().strip_prefix("FREQ="));
        if !frequency.is_some_and(|given| FREQUENCIES.split('|').any(|known| known.eq_ignore_ascii_case(given))) {
            return Err(no_rule(&says));
        }
        let rule: RRule<Unvalidated> = format!("RRULE:{}", rest.join(";")).parse().map_err(|why| format!("{why}"))?;
        let read = Reading { zone, begins, says, until, rule };
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

    /// Where it may be followed from, so that nothing after a moment is left out: a rule
    /// that does not count is the same some whole days later.
    fn begins_before(&self, from: DateTime<Utc>) -> NaiveDateTime {
        let interval = u64::from(self.rule.get_interval().max(1));
        let days = match self.rule.get_freq() {
            Frequency::Weekly => 7 * interval,
            Frequency::Daily => interval,
            Frequency::Hourly => whole_days(interval, 24),
            Frequency::Minutely => whole_days(interval, 24 * 60),
            Frequency::Secondly => whole_days(interval, 24 * 3600),
            Frequency::Yearly | Frequency::Monthly => return self.begins,
        };
        let near = from.with_timezone(&self.zone).naive_local() - TimeDelta::days(2);
        let between = u64::try_from((near - self.begins).num_days()).unwrap_or(0);
        match self.rule.get_count() {
            Some(_) => self.begins,
            None => self.begins + Days::new(between / days * days),
        }
    }

    fn follow(&self, after: DateTime<Utc>, now: DateTime<Utc>, most: (usize, usize)) -> Result<Found, String> {
        let begins = on_wall(self.begins_before(after));
        let rule = self.until.map_or_else(|| self.rule.clone(), |until| self.rule.clone().until(on_wall(until)));
        let mut found = Found { is_all: true, ..Found::default() };
        if self.until.is_some_and(|until| on_wall(until) < begins) {
            return Ok(found);
        }
        let rule = rule.validate(begins).map_err(|why| format!("{why}"))?;
        let (mut steps, mut last) = (0, after);
        for time in &RRuleSet::new(begins).rrule(rule).limit() {
            steps += 1;
            if steps > STEPS {
                return Err("`RRULE` takes too much to follow: let it begin later, or come less often".to_string());
            }
            let time = in_zone(self.zone, time.naive_utc());
            if time <= last {
                continue;
            }
            last = time;
            let Ok(ms) = u64::try_from(time.timestamp_millis()) else { continue };
            if time > now {
                if found.coming.len() >= most.1 {
                    found.is_all = false;
                    break;
                }
                found.coming.push(UtcMs(ms));
            } else {
                found.missed.push_back(UtcMs(ms));
                if found.missed.len() > most.0 {
                    found.missed.pop_front();
                }
            }
        }
        Ok(found)
    }
}

fn whole_days(interval: u64, of_day: u64) -> u64 {
    let (mut a, mut b) = (interval, of_day);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    interval / a
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
        Wanted { rule: rule.parse().expect("short"), after: utc(after), now: utc(now), missed, coming }
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
            ("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;COUNT=4000000000".into(), "too much"),
            ("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=0".into(), ""),
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
            // Followed from its beginning on.
            let read = Reading::new(rule, instant(utc(from)).expect("a time")).expect(rule);
            let (begins, after) = (on_wall(read.begins), on_wall(instant(utc(from)).expect("a time").naive_utc()));
            let whole = RRuleSet::new(begins).rrule(read.rule.validate(begins).expect("a rule"));
            let slow = whole.into_iter().filter(|time| *time > after).take(5);
            let slow: Vec<UtcMs> = slow.map(|time| UtcMs(time.timestamp_millis().unsigned_abs())).collect();
            assert_eq!(found.coming, slow, "{rule}");
        }
        let secondly = "DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY";
        assert_eq!(coming(secondly, from, 1), ["2026-01-01T00:00"], "half a century costs no more than two days");
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
