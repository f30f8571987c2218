//! Leases. A lease that can be read stays the same when it is written and read again. A pattern matches what an
//! exhaustive search says. A lease within another one allows nothing that the other does not allow.

use arcp_proto::json::Json;
use arcp_proto::lease::{Amount, Budget, Constraints, Excess, Lease, Namespace, Pattern, Target};
use arcp_proto::time::UtcMs;
use serde_json::json;

use super::bytes::Bytes;
use crate::globs::means;

const NOW: UtcMs = UtcMs(1_767_225_600_000);
/// Longer texts would only be slower to try.
const LONGEST: usize = 200;

/// A line is a lease, the next line its constraints.
pub(super) fn leases(data: &[u8]) {
    let mut data = Bytes(data);
    if let Some(lease) = json_line(&mut data).and_then(|json| Lease::parse(&json).ok()) {
        let written = lease.to_json();
        let again = Lease::parse(&written).unwrap_or_else(|why| panic!("we refuse our own {written:?}: {why:?}"));
        assert_eq!((&again, again.to_json()), (&lease, written));
        assert_eq!(lease.covers(&lease), Ok(()), "{lease:?} is not within itself");
    }
    if let Some(bounds) = json_line(&mut data).and_then(|json| Constraints::parse(&json, NOW).ok()) {
        assert!(!bounds.is_over(NOW), "{bounds:?} is granted and over");
        let written = bounds.to_json();
        assert_eq!(Constraints::parse(&written, NOW), Ok(bounds), "{written:?}");
        assert_eq!(Constraints::read_granted(&written), bounds, "{written:?}");
    }
}

fn json_line(data: &mut Bytes<'_>) -> Option<Json> {
    std::str::from_utf8(data.line()).ok().and_then(|text| Json::parse(text).ok())
}

/// The first byte is the namespace, a line the pattern, each further line a target.
pub(super) fn matches(data: &[u8]) {
    let mut data = Bytes(data);
    let namespace = Namespace::NAMED[data.below(Namespace::NAMED.len())].clone();
    let Some(text) = text_line(&mut data) else { return };
    let Ok(pattern) = Pattern::new(&namespace, text) else { return };
    assert_eq!(pattern.as_str(), text);
    while !data.is_empty() {
        let Some(target) = text_line(&mut data) else { return };
        let Ok(read) = Target::new(&namespace, target) else { continue };
        let may = pattern.matches(&read);
        if namespace == Namespace::NetFetch {
            // The target's text form means the same target, unless something in it was encoded.
            let again = Target::new(&namespace, &read.to_string());
            assert!(target.contains('%') || again.as_ref() == Ok(&read), "{target}: {again:?}");
        } else {
            assert_eq!(read.to_string(), target);
            assert_eq!(may, means(text, target), "{text} {target}");
        }
    }
}

/// The first byte is the namespace. A line is the child's pattern, and up to four lines the parent's. Each further
/// line is a target, or the choices by which a target is made of the child's pattern.
pub(super) fn containment(data: &[u8]) {
    let mut data = Bytes(data);
    let namespace = Namespace::NAMED[data.below(Namespace::NAMED.len())].clone();
    let parents = 1 + data.below(4);
    let Some(child) = text_line(&mut data) else { return };
    let above: Option<Vec<&str>> = (0..parents).map(|_| text_line(&mut data)).collect();
    let Some(above) = above else { return };
    let read = |patterns: &[&str]| {
        let lease = json!({ namespace.as_str(): patterns });
        Lease::parse(&Json::parse(&lease.to_string()).expect("JSON")).ok()
    };
    let (Some(inner), Some(outer)) = (read(&[child]), read(&above)) else { return };
    let escapes =
        |target: &Target| inner.permits(&namespace, target).is_some() && outer.permits(&namespace, target).is_none();
    match outer.covers(&inner) {
        Err(Excess::Wider { target, .. }) => {
            let text = target.to_string();
            assert!(escapes(&target), "{child} {above:?}: {text}");
            if namespace != Namespace::NetFetch {
                assert_eq!(Target::new(&namespace, &text), Ok(target), "{child} {above:?}");
            }
        }
        Err(Excess::TooComplex { .. }) => {}
        Err(Excess::Budget(_)) => panic!("nobody has a budget"),
        Ok(()) => {
            while !data.is_empty() {
                let mut line = Bytes(data.line());
                let made = std::str::from_utf8(line.0).map_or_else(|_| word(child, &mut line), String::from);
                for text in [made, word(child, &mut line)] {
                    let Ok(target) = Target::new(&namespace, &text) else { continue };
                    assert!(!escapes(&target), "{child} is within {above:?}, but for {target}");
                    if namespace != Namespace::NetFetch {
                        let escapes = means(child, &text) && !above.iter().any(|pattern| means(pattern, &text));
                        assert!(!escapes, "{child} is within {above:?}, but for {text}");
                    }
                }
            }
        }
    }
}

/// A text that the pattern may match.
fn word(pattern: &str, choices: &mut Bytes<'_>) -> String {
    const RUNS: [&str; 5] = ["", "a", "b", "ab", "aab"];
    const DEEP: [&str; 3] = ["a", "a/b", "b/a/a"];
    let segments = pattern.split('/').filter_map(|segment| {
        if segment == "**" {
            let choice = choices.below(DEEP.len() + 1);
            return DEEP.get(choice).map(ToString::to_string);
        }
        let made = segment.chars().map(|c| match c {
            '*' => RUNS[choices.below(RUNS.len())].to_string(),
            '?' => ["a", "b"][choices.below(2)].to_string(),
            c => c.to_string(),
        });
        Some(made.collect())
    });
    segments.collect::<Vec<String>>().join("/")
}

/// Each line is an amount such as `USD:1.50`, or a cost as an agent reports it.
pub(super) fn budgets(data: &[u8]) {
    let mut data = Bytes(data);
    let (mut amounts, mut costs) = (Vec::new(), Vec::new());
    while !data.is_empty() && amounts.len() + costs.len() < 32 {
        let Some(line) = text_line(&mut data) else { continue };
        if let Ok(amount) = line.parse::<Amount>() {
            assert_eq!(amount.to_string().parse(), Ok(amount), "{line}");
            assert_eq!(Amount::reported(line), Some(amount).filter(|_| line.len() <= 64), "{line}");
        }
        costs.extend(Amount::reported(line));
        amounts.push(line);
    }
    let Ok(budget) = Budget::parse(amounts.iter().copied().filter(|text| text.contains(':'))) else { return };
    assert_eq!(Budget::read_shown(&budget.to_json()), budget);
    let stored = serde_json::to_string(&budget).expect("it can be written");
    assert_eq!(serde_json::from_str::<Budget>(&stored).expect("it can be read"), budget);
    spends(&budget, &costs);
}

/// Costs add up to the same in any order, and a budget that a child takes and gives back is unchanged.
fn spends(budget: &Budget, costs: &[Amount]) {
    let Some((currency, granted)) = budget.iter().next() else { return };
    let (mut forth, mut back) = (budget.clone(), budget.clone());
    for (first, last) in costs.iter().zip(costs.iter().rev()) {
        forth.spend(currency.as_str(), *first);
        back.spend(currency.as_str(), *last);
    }
    assert_eq!(forth, back, "{costs:?}");
    let spent: Amount = costs.iter().copied().sum();
    assert_eq!(forth.left(currency.as_str()), Some(granted - spent), "{costs:?}");
    let before = forth.clone();
    match forth.reserve(budget) {
        Ok(()) => forth.give_back(budget),
        Err(short) => assert!(before.left(short.as_str()) < budget.left(short.as_str())),
    }
    assert_eq!(forth, before, "all of it or nothing");
}

fn text_line<'a>(data: &mut Bytes<'a>) -> Option<&'a str> {
    std::str::from_utf8(data.line()).ok().filter(|text| text.len() <= LONGEST)
}
