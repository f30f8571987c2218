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
    // All times in the gap become one, and 03:00, which exists, is not a second one.
    let often = "DTSTART;TZID=Europe/Berlin:20260329T013000\nRRULE:FREQ=MINUTELY;INTERVAL=15";
    let found = coming(often, "2026-03-29T00:20:00Z", 5);
    let expected = ["2026-03-29T00:30", "2026-03-29T00:45", "2026-03-29T01:00", "2026-03-29T01:15", "2026-03-29T01:30"];
    assert_eq!(found, expected);
}

#[test]
fn a_local_time_that_exists_twice_comes_once_the_first_time() {
    let daily = "DTSTART;TZID=Europe/Berlin:20260101T023000\nRRULE:FREQ=DAILY";
    let found = coming(daily, "2026-10-24T12:00:00Z", 2);
    assert_eq!(found, ["2026-10-25T00:30", "2026-10-26T01:30"], "half past two is at 00:30 and 01:30 UTC");
    // The client was away between the two.
    assert_eq!(coming(daily, "2026-10-25T00:45:00Z", 1), ["2026-10-26T01:30"]);
}

#[test]
fn rules_that_never_come_or_take_for_ever_end() {
    let never =
        plan(&wanted("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", (0, 1)));
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

/// The times of a rule of UTC, as the crate evaluates it from its begin.
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
        // Three at a time, as a runtime would ask in the course of time.
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
        // Every second of three days, filtered as RFC 5545 says.
        let rule = read.rule.clone().validate(on_wall(read.begins)).expect("a rule");
        let is_of = |named: &[u8], value: u32| named.is_empty() || named.contains(&u8::try_from(value).unwrap_or(99));
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
            let next = often.clone().after(*time).flatten().next().filter(|next| *next <= last);
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
    // At the second 02:30, local times before 03:00 have already passed once.
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
    assert_eq!(times(&found.missed), ["2025-09-15T00:00", "2025-10-15T00:00", "2025-11-15T00:00", "2025-12-15T00:00"]);
}

#[test]
fn a_rule_is_kept_with_when_it_begins_and_until_is_read_in_every_way() {
    let now = "2026-01-01T00:00:00.500Z";
    let found = plan(&wanted("FREQ=HOURLY", now, now, (0, 1))).expect("a rule");
    assert_eq!(found.rule.as_str(), "DTSTART:20260101T000001Z\nRRULE:FREQ=HOURLY");
    let berlin = "DTSTART;TZID=Europe/Berlin:20260101T120000\nRRULE:FREQ=DAILY;UNTIL=";
    for (until, count) in [("20260103T110000Z", 3), ("20260103T105959Z", 2), ("20260103T120000", 3), ("20260103", 3)] {
        let found = plan(&wanted(&format!("{berlin}{until}"), now, now, (0, 9))).expect(until);
        assert_eq!((found.coming.len(), found.is_all), (count, true), "{until}");
    }
    let counted = plan(&wanted("DTSTART:20260101T000001Z\nRRULE:FREQ=DAILY;COUNT=2", now, now, (0, 9))).expect("one");
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

#[test]
fn every_so_many_days_weeks_months_or_years_are_counted_from_the_first_however_late_it_is() {
    for (rule, now, next) in [
        ("FREQ=DAILY;INTERVAL=3;BYHOUR=9", "2026-01-14T12:00:00Z", "2026-01-16T09:00"),
        ("FREQ=DAILY;INTERVAL=3;BYHOUR=9", "2026-01-19T09:00:00Z", "2026-01-22T09:00"),
        ("FREQ=DAILY;INTERVAL=3;BYHOUR=9", "2030-01-01T12:00:00Z", "2030-01-04T09:00"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TH", "2026-02-01T12:00:00Z", "2026-02-12T09:00"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TH", "2026-02-26T08:59:59Z", "2026-02-26T09:00"),
        ("FREQ=MONTHLY;INTERVAL=5;BYMONTHDAY=3", "2026-07-01T12:00:00Z", "2026-11-03T09:00"),
        ("FREQ=MONTHLY;INTERVAL=5;BYMONTHDAY=3", "2029-01-01T12:00:00Z", "2029-05-03T09:00"),
        ("FREQ=YEARLY;INTERVAL=2;BYMONTH=3;BYMONTHDAY=3", "2026-05-01T12:00:00Z", "2028-03-03T09:00"),
        ("FREQ=YEARLY;INTERVAL=2;BYMONTH=3;BYMONTHDAY=3", "2031-05-01T12:00:00Z", "2032-03-03T09:00"),
    ] {
        let rule = format!("DTSTART:20260101T090000Z\nRRULE:{rule}");
        assert_eq!(coming(&rule, now, 1), [next], "{rule} after {now}");
    }
}
