//! Exact amounts of money (1.1 §9.6).

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ParseError, Violation};
use crate::json::{Json, Object};

/// Digits after the point.
const SCALE: u32 = 18;
const ONE: i128 = 10_i128.pow(SCALE);
/// The most digits of a stored amount, and the largest one: what is restored is what was shown.
const SHOWN: u32 = i128::MAX.ilog10();
const MOST: i128 = 10_i128.pow(SHOWN) - 1;
/// Digits before the point.
const WHOLE: usize = 15;

/// A currency: `USD`, `EUR`, `credits`, or a word of the runtime: 1 to 16 letters, digits, `-` and
/// `_`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Currency(String);

impl TryFrom<String> for Currency {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Currency, ParseError> {
        text.parse()
    }
}

impl Currency {
    /// The currency as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Currency {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Currency, ParseError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let good = (1..=16).contains(&text.len()) && text.as_bytes()[0].is_ascii_alphabetic() && text.bytes().all(fits);
        good.then(|| Currency(text.into())).ok_or(ParseError::new("a currency of 1 to 16 letters, digits, `-` and `_`"))
    }
}

/// An amount of one currency, with 18 digits after the point. A negative amount was spent beyond a
/// budget.
///
/// ```
/// use arcp_proto::lease::Amount;
/// let spent: Amount = ["0.1", "0.2"].into_iter().map(|text| text.parse::<Amount>().unwrap()).sum();
/// assert_eq!(spent.to_string(), "0.3");
/// assert!("1e3".parse::<Amount>().is_err() && "-1".parse::<Amount>().is_err() && ".5".parse::<Amount>().is_err());
/// assert_eq!(Amount::reported("1e-7").map(|amount| amount.to_string()), Some("0.0000001".into()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i128);

impl Amount {
    /// Zero.
    pub const ZERO: Amount = Amount(0);
    /// The largest amount that can be written.
    const MOST: Amount = Amount(10_i128.pow(WHOLE as u32 + SCALE) - 1);

    /// A cost as an agent reports it: any JSON number from zero on, of at most 64 characters.
    /// Published clients write `1e-07`. Digits beyond our precision are rounded up, against the
    /// spender; amounts beyond our range become the largest one.
    pub fn reported(number: &str) -> Option<Amount> {
        Amount::read(number, WHOLE + SCALE as usize)
    }

    /// Reads an amount. One with more digits than `most` becomes the largest with that many.
    fn read(number: &str, most: usize) -> Option<Amount> {
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (number, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || number.len() > 64 {
            return None;
        }
        let digits = alloc::format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Amount::ZERO);
        }
        // The value is `digits` times ten to this power, in units of our last digit.
        let shift = i64::from(exponent) + i64::from(SCALE) - fraction.len() as i64;
        let length = digits.len() as i64 + shift;
        if length > most as i64 {
            return Some(Amount(10_i128.pow(most as u32) - 1));
        }
        if length <= 0 {
            return Some(Amount(1));
        }
        let kept = digits.len().min(length as usize);
        let units: i128 = digits[..kept].parse().ok()?;
        let rounded = i128::from(digits[kept..].bytes().any(|c| c != b'0'));
        let zeros = u32::try_from(length as usize - kept).ok()?;
        Some(Amount(units * 10_i128.pow(zeros) + rounded))
    }

    /// Reads an amount as it is shown. It may be negative, and by more than any single cost.
    fn read_shown(text: &str) -> Option<Amount> {
        match text.strip_prefix('-') {
            Some(below) => Amount::read(below, SHOWN as usize).map(|amount| Amount::ZERO - amount),
            None => Amount::read(text, SHOWN as usize),
        }
    }

    /// Whether nothing is left.
    pub fn is_used_up(self) -> bool {
        self.0 <= 0
    }
}

impl core::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, |sum, amount| sum + amount)
    }
}

impl core::ops::Add for Amount {
    type Output = Amount;

    fn add(self, other: Amount) -> Amount {
        Amount(self.0.saturating_add(other.0).clamp(-MOST, MOST))
    }
}

impl core::ops::Sub for Amount {
    type Output = Amount;

    fn sub(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0).clamp(-MOST, MOST))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, sign) = (self.0.unsigned_abs(), if self.0 < 0 { "-" } else { "" });
        let (whole, fraction) = (units / ONE.unsigned_abs(), units % ONE.unsigned_abs());
        write!(f, "{sign}{whole}")?;
        if fraction == 0 {
            return Ok(());
        }
        let digits = alloc::format!("{fraction:0width$}", width = SCALE as usize);
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Amount {
    type Err = ParseError;

    /// Reads digits, or digits on both sides of a point.
    fn from_str(text: &str) -> Result<Amount, ParseError> {
        const EXPECTED: ParseError =
            ParseError::new("digits, at most 15, and perhaps a point and at most 18 more; no sign and no exponent");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        if !digits(whole, WHOLE) || !digits(fraction, SCALE as usize) {
            return Err(EXPECTED);
        }
        let units = alloc::format!("{whole}{fraction:0<width$}", width = SCALE as usize);
        units.parse().map(Amount).map_err(|_| EXPECTED)
    }
}

/// Stored as the text that is shown.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        let text = String::deserialize(deserializer)?;
        Amount::read_shown(&text).ok_or_else(|| serde::de::Error::custom("not an amount"))
    }
}

/// What a job may still spend, by currency. A currency that it does not name is not bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget(BTreeMap<Currency, Amount>);

impl Budget {
    /// Reads amounts such as `USD:5.00`. Those of one currency are added.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` that names the amount.
    pub fn parse<'a>(amounts: impl IntoIterator<Item = &'a str>) -> Result<Budget, Violation> {
        let mut budget = Budget::default();
        for text in amounts {
            let bad = |error: ParseError| {
                let shown: String = text.chars().take(64).collect();
                Violation::invalid(alloc::format!("`cost.budget`: `{shown}`: expected {}", error.expected))
            };
            let (currency, amount) =
                text.split_once(':').ok_or_else(|| bad(ParseError::new("CURRENCY:AMOUNT, such as USD:5.00")))?;
            let (currency, amount) = (currency.parse::<Currency>().map_err(bad)?, amount.parse().map_err(bad)?);
            let sum = budget.0.entry(currency).or_default();
            *sum = *sum + amount;
            if *sum > Amount::MOST {
                return Err(bad(ParseError::new("at most 15 digits before the point, in all amounts of a currency")));
            }
        }
        Ok(budget)
    }

    /// Reads the amounts that a runtime reports as granted or left: numbers, or texts such as
    /// `5.00` and `USD:5.00`. Unreadable members are skipped.
    pub fn read_shown(json: &Json) -> Budget {
        let members = json.members().unwrap_or_default();
        let entries = members.0.iter().filter_map(|(name, value)| {
            let text = serde_json::from_str::<String>(value).unwrap_or_else(|_| (*value).into());
            let amount = text.rsplit_once(':').map_or(text.as_str(), |(_, amount)| amount);
            Some((name.parse().ok()?, Amount::read_shown(amount)?))
        });
        Budget(entries.collect())
    }

    /// The object of numbers of 1.1 §7.1.
    pub fn to_json(&self) -> Json {
        let mut out = Object::new();
        for (currency, amount) in self.iter() {
            out.member(currency.as_str(), &alloc::format!("{amount}"));
        }
        out.json()
    }

    /// The sum of both budgets, up to the largest amount that can be written.
    pub(crate) fn with(mut self, other: &Budget) -> Budget {
        for (currency, amount) in other.iter() {
            let sum = self.0.entry(currency.clone()).or_default();
            *sum = (*sum + amount).min(Amount::MOST);
        }
        self
    }

    /// The bounded currency against which an amount in this unit counts; `None` if there is none.
    /// If no name is equal, one that differs only in case counts: published agents write `usd`.
    pub fn currency(&self, unit: &str) -> Option<&Currency> {
        let named = || self.0.keys();
        let exact = named().find(|own| own.as_str() == unit);
        exact.or_else(|| named().find(|own| own.as_str().eq_ignore_ascii_case(unit)))
    }

    /// Those of these amounts whose currency is bounded here.
    #[must_use]
    pub fn bounding(&self, amounts: &Budget) -> Budget {
        let mut bounded = Budget::default();
        for (currency, amount) in amounts.iter() {
            if let Some(own) = self.currency(currency.as_str()) {
                let sum = bounded.0.entry(own.clone()).or_default();
                *sum = *sum + amount;
            }
        }
        bounded
    }

    /// This budget as a child's: currencies get the parent's spelling, and a currency that only the
    /// parent has bounded gets amount 0.
    pub(super) fn below(&self, parent: &Budget) -> Budget {
        let mut below = Budget::default();
        for (currency, amount) in self.iter() {
            let sum = below.0.entry(parent.currency(currency.as_str()).unwrap_or(currency).clone()).or_default();
            *sum = *sum + amount;
        }
        for (currency, _) in parent.iter() {
            below.0.entry(currency.clone()).or_default();
        }
        below
    }

    /// The lesser of this budget and a ceiling: the ceiling also bounds currencies that are not
    /// bounded here. Currencies get its spelling.
    pub(super) fn at_most(&self, ceiling: &Budget) -> Budget {
        let mut least = Budget::default();
        for (currency, amount) in self.iter() {
            let sum = least.0.entry(ceiling.currency(currency.as_str()).unwrap_or(currency).clone()).or_default();
            *sum = *sum + amount;
        }
        for (currency, most) in ceiling.iter() {
            let least = least.0.entry(currency.clone()).or_insert(most);
            *least = most.min(*least);
        }
        least
    }

    /// The sum of both budgets, in the currencies of this one; `None` if an amount is larger than
    /// can be written.
    pub(crate) fn and(mut self, other: &Budget) -> Option<Budget> {
        for (currency, amount) in &mut self.0 {
            *amount = *amount + other.left(currency.as_str()).unwrap_or_default();
            if *amount > Amount::MOST {
                return None;
            }
        }
        Some(self)
    }

    /// The rest of a currency; `None` if it is not bounded.
    pub fn left(&self, unit: &str) -> Option<Amount> {
        self.0.get(self.currency(unit)?).copied()
    }

    /// Every bounded currency with its rest.
    pub fn iter(&self) -> impl Iterator<Item = (&Currency, Amount)> {
        self.0.iter().map(|(currency, amount)| (currency, *amount))
    }

    /// Whether no currency is bounded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Subtracts a cost; the rest may become negative. Returns the rest, if the currency is
    /// bounded.
    pub fn spend(&mut self, unit: &str, cost: Amount) -> Option<Amount> {
        let currency = self.currency(unit)?.clone();
        let left = self.0.get_mut(&currency)?;
        *left = *left - cost;
        Some(*left)
    }

    /// The first exhausted currency: it stops every operation.
    pub fn used_up(&self) -> Option<&Currency> {
        self.iter().find(|(_, left)| left.is_used_up()).map(|(currency, _)| currency)
    }

    /// The first currency in which this is less than `asked`. Currencies that are not bounded
    /// suffice.
    pub fn lacks(&self, asked: &Budget) -> Option<&Currency> {
        let asked = self.bounding(asked);
        self.0.iter().find(|(currency, left)| asked.0.get(*currency).is_some_and(|asked| asked > *left)).map(|(c, _)| c)
    }

    /// The first currency that is bounded here, and of which `child` may spend more or any amount.
    pub(super) fn first_beyond(&self, child: &Budget) -> Option<&Currency> {
        let bounded = self.bounding(child);
        self.0
            .iter()
            .find(|(currency, most)| bounded.0.get(*currency).is_none_or(|asked| asked > *most))
            .map(|(c, _)| c)
    }

    /// Subtracts a child's budget; all of it or nothing.
    ///
    /// # Errors
    ///
    /// The first currency of which too little is left.
    pub fn reserve(&mut self, child: &Budget) -> Result<(), Currency> {
        if let Some(short) = self.lacks(child) {
            return Err(short.clone());
        }
        for (currency, amount) in child.iter() {
            self.spend(currency.as_str(), amount);
        }
        Ok(())
    }

    /// Adds back the rest of a child's budget.
    pub fn give_back(&mut self, child: &Budget) {
        for (currency, left) in child.iter() {
            self.spend(currency.as_str(), Amount::ZERO - left);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_largest_amounts_are_restored_as_they_were() {
        let most = Amount(MOST);
        for amount in [most, most + most, Amount::ZERO - most - most] {
            assert_eq!(Amount::read_shown(&amount.to_string()), Some(amount));
        }
    }

    #[test]
    fn currencies_and_amounts_are_read_up_to_their_bounds() {
        for good in ["a:1", "a-b_9:1", "sixteen_letters_:1"] {
            assert!(Budget::parse([good]).is_ok(), "{good}");
        }
        for bad in ["9a:1", "-a:1", "seventeen_letters:1", "a.b:1"] {
            assert!(Budget::parse([bad]).is_err(), "{bad}");
        }
        let of_length = |length: usize| Amount::reported(&alloc::format!("{}1", "0".repeat(length - 1)));
        assert_eq!((of_length(64), of_length(65)), ("1".parse().ok(), None));
        assert_eq!(
            Amount::reported("0.10000000000000000000"),
            "0.1".parse().ok(),
            "nothing is lost, nothing is rounded"
        );
        assert_eq!(Amount::reported("1e-18"), Amount::reported("0.0000000000000000010"));
        let sum: Amount = ["0.1", "0.2"].iter().filter_map(|text| Amount::reported(text)).sum();
        assert_eq!(sum.to_string(), "0.3");
    }

    #[test]
    fn a_budget_below_zero_is_stored_and_shown_and_read_again() {
        let mut budget = Budget::parse(["USD:1", "EUR:2.5"]).expect("a budget");
        budget.spend("USD", "1.25".parse().expect("an amount"));
        let stored = serde_json::to_string(&budget).expect("it can be written");
        assert_eq!(stored, r#"{"EUR":"2.5","USD":"-0.25"}"#);
        assert_eq!(serde_json::from_str::<Budget>(&stored).expect("it can be read"), budget);
        assert!(serde_json::from_str::<Budget>(r#"{"USD":"--1"}"#).is_err());
        assert_eq!(Budget::read_shown(&budget.to_json()), budget);
        let shown = Json::parse(r#"{"USD":"USD:-0.25","EUR":"2.50","GBP":null,"":1}"#).expect("JSON");
        assert_eq!(Budget::read_shown(&shown), budget, "what cannot be read is left out");
    }

    const UNITS: [&str; 4] = ["USD", "usd", "EUR", "GBP"];

    /// Every budget with 0 to 2, or no bound, of each of these currencies.
    fn budgets(units: &[&str]) -> Vec<Budget> {
        let mut budgets = alloc::vec![Budget::default()];
        for unit in units {
            let more: Vec<Budget> = budgets
                .iter()
                .flat_map(|budget| {
                    (0..3).map(move |amount| {
                        let mut budget = budget.clone();
                        budget.0.insert(unit.parse().expect("a currency"), Amount(amount));
                        budget
                    })
                })
                .collect();
            budgets.extend(more);
        }
        budgets
    }

    /// The rest of a currency, whatever its case; `None` if it is not bounded.
    fn of(budget: &Budget, unit: &str) -> Option<i128> {
        let same = budget.iter().filter(|(own, _)| own.as_str().eq_ignore_ascii_case(unit));
        same.map(|(_, amount)| amount.0).reduce(|sum, amount| sum + amount)
    }

    #[test]
    fn budgets_are_compared_and_added_currency_by_currency_whatever_their_case() {
        let parents = budgets(&["USD", "EUR"]);
        for child in budgets(&UNITS) {
            for parent in &parents {
                let shown = alloc::format!("{child:?} below {parent:?}");
                let (bounding, below) = (parent.bounding(&child), child.below(parent));
                let (at_most, with) = (child.at_most(parent), parent.clone().with(&child));
                for unit in ["USD", "EUR", "GBP"] {
                    let (own, most) = (of(&child, unit), of(parent, unit));
                    assert_eq!(of(&bounding, unit), own.and_then(|own| most.map(|_| own)), "{unit} {shown}");
                    assert_eq!(of(&below, unit), own.or(most.map(|_| 0)), "{unit} {shown}");
                    let least = own.map_or(most, |own| Some(most.map_or(own, |most| own.min(most))));
                    assert_eq!(of(&at_most, unit), least, "{unit} {shown}");
                    let sum = own.map_or(most, |own| Some(own + most.unwrap_or(0)));
                    assert_eq!(of(&with, unit), sum, "{unit} {shown}");
                    assert_eq!(parent.left(unit).map(|left| left.0), most, "{unit} {shown}");
                }
                // In alphabetic order.
                let first = |is_beyond: fn(Option<i128>, i128) -> bool| {
                    let bounded = ["EUR", "USD"].into_iter().filter_map(|unit| Some((unit, of(parent, unit)?)));
                    bounded.filter(|(unit, most)| is_beyond(of(&child, unit), *most)).map(|(unit, _)| unit).next()
                };
                let lacks = first(|own, most| own.is_some_and(|own| own > most));
                let beyond = first(|own, most| own.is_none_or(|own| own > most));
                assert_eq!(parent.lacks(&child).map(Currency::as_str), lacks, "{shown}");
                assert_eq!(parent.first_beyond(&child).map(Currency::as_str), beyond, "{shown}");
                assert_eq!(parent.used_up().map(Currency::as_str), first(|_, most| most <= 0), "{shown}");
                let mut left = parent.clone();
                let reserved = left.reserve(&child).map_err(|short| short.to_string());
                assert_eq!(reserved, lacks.map_or(Ok(()), |short| Err(short.to_string())), "{shown}");
                for unit in ["USD", "EUR", "GBP"] {
                    let spent = if lacks.is_some() { None } else { of(&child, unit) };
                    assert_eq!(
                        of(&left, unit),
                        of(parent, unit).map(|most| most - spent.unwrap_or(0)),
                        "{unit} {shown}"
                    );
                }
                if lacks.is_none() {
                    left.give_back(&child);
                    assert_eq!(left, *parent, "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_sum_of_budgets_is_at_most_what_can_be_written() {
        let budget = |amount: Amount| Budget(BTreeMap::from([(Currency("USD".into()), amount)]));
        let (one, most) = (Amount(1), Amount::MOST);
        assert_eq!(budget(most - one).and(&budget(one)), Some(budget(most)));
        assert_eq!(budget(most).and(&budget(one)), None);
        assert_eq!(budget(most).and(&Budget::default()), Some(budget(most)), "nothing is added");
        assert_eq!(budget(most).with(&budget(one)), budget(most));
        assert_eq!(Budget::default().with(&budget(one)), budget(one));
        let parsed = |texts: [String; 2]| Budget::parse(texts.iter().map(String::as_str)).ok();
        let text = |amount: Amount| alloc::format!("USD:{amount}");
        assert_eq!(parsed([text(most - one), text(one)]), Some(budget(most)));
        assert_eq!(parsed([text(most), text(one)]), None);
        let mut spent = budget(one);
        assert_eq!((spent.spend("usd", one), spent.spend("EUR", one)), (Some(Amount::ZERO), None));
        assert_eq!((spent.spend("USD", one), spent.used_up().is_some()), (Some(Amount(-1)), true));
    }

    #[test]
    fn a_number_is_read_as_the_digits_that_it_stands_for() {
        // Units of our last digit, rounded up.
        let units = |number: &str| Amount::reported(number).map(|amount| amount.0);
        for exponent in -22_i32..=20 {
            for (digits, fraction) in [(7_i128, 0), (70, 0), (123, 1), (1001, 3), (10, 1)] {
                let text = alloc::format!("{digits}");
                let (whole, behind) = text.split_at(text.len() - fraction);
                let number = alloc::format!("{}.{behind}e{exponent}", if whole.is_empty() { "0" } else { whole });
                let shift = 18 + exponent - i32::try_from(fraction).expect("a few digits");
                let exact = if shift >= 0 {
                    digits.checked_mul(10_i128.pow(shift.unsigned_abs())).unwrap_or(i128::MAX)
                } else {
                    let part = 10_i128.pow(shift.unsigned_abs());
                    (digits + part - 1) / part
                };
                assert_eq!(units(&number), Some(exact.min(Amount::MOST.0)), "{number}");
            }
        }
        for bad in ["", ".5", "1e", "e1", "-1", "+1", "1.2.3", "1 ", "0x1", "1e1.0"] {
            assert_eq!(units(bad), None, "{bad}");
        }
        assert_eq!((units("0"), units("0.000e5"), units("5.")), (Some(0), Some(0), Some(5 * ONE)));
    }
}
