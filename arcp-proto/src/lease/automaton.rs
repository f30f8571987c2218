//! Patterns as automata: whether one means a text, and whether some together
//! mean everything that another means.
//!
//! Both are exact. A text is read once, whatever the pattern, and all states that a
//! pattern may be in move together. Containment walks
//! the states that the pattern and the set of patterns around it can be in after the
//! same text: a walk that finds a text of the one and of none of the others has a
//! witness, one that finds none is the proof. Its cost has a bound, beyond which the answer is
//! that it could not be proved.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::namespace::Shape;
use super::pattern::Step;
use super::target::{PART, Refused, is_host_byte};

/// A pattern, ready to read texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// What every text begins with: most texts end here.
    prefix: String,
    /// What follows.
    rules: Vec<Rule>,
}

/// What a state does with the next character. Rules move to the next state,
/// if they do not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Char(char),
    One,
    /// Stays, or is passed.
    Run,
    /// Is passed, or goes on to `Inside`.
    Enter,
    /// Stays, and is left by `/`.
    Inside,
    /// Stays, or is passed.
    Rest,
}

impl Rule {
    /// Whether it takes the character, and then whether it may stay or move on.
    fn takes(self, c: char) -> (bool, bool) {
        match self {
            Rule::Char(own) => (false, own == c),
            Rule::One => (false, c != '/' && c != PART),
            Rule::Run => (c != '/' && c != PART, false),
            Rule::Enter => (false, false),
            Rule::Inside => (c != PART, c == '/'),
            Rule::Rest => (c != PART, false),
        }
    }

    /// How far it may be passed without a character.
    fn passes(self) -> &'static [usize] {
        match self {
            Rule::Char(_) | Rule::One | Rule::Inside => &[],
            Rule::Run | Rule::Rest => &[1],
            Rule::Enter => &[1, 2],
        }
    }
}

/// States of one program: a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct States([u64; 4]);

impl States {
    const MOST: usize = 256;

    fn add(&mut self, state: usize) {
        self.0[state / 64] |= 1 << (state % 64);
    }

    fn has(self, state: usize) -> bool {
        self.0[state / 64] & 1 << (state % 64) != 0
    }

    fn and(self, other: States) -> States {
        States(core::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    fn or(self, other: States) -> States {
        States(core::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Each of them, so many states further.
    fn further(self, by: usize) -> States {
        let carried = |word: usize| if word == 0 { 0 } else { self.0[word - 1] >> (64 - by) };
        States(core::array::from_fn(|word| self.0[word] << by | carried(word)))
    }
}

impl Program {
    pub(super) fn new(mut steps: Vec<Step>) -> Result<Program, Refused> {
        // Any segments before any segments are any segments.
        let deep = |step: &Step| matches!(step, Step::Deep);
        steps.dedup_by(|next, step| {
            deep(step) && (deep(next) || *next == Step::Rest) && {
                *step = *next;
                true
            }
        });
        let literal = |step: &Step| if let Step::Char(c) = step { Some(*c) } else { None };
        let prefix: String = steps.iter().map_while(literal).collect();
        let rest = steps.iter().skip_while(|step| literal(step).is_some());
        let rules: Vec<Rule> = rest
            .flat_map(|step| match step {
                Step::Char(c) => [Some(Rule::Char(*c)), None],
                Step::One => [Some(Rule::One), None],
                Step::Run => [Some(Rule::Run), None],
                Step::Deep => [Some(Rule::Enter), Some(Rule::Inside)],
                Step::Rest => [Some(Rule::Rest), None],
            })
            .flatten()
            .collect();
        if rules.len() >= States::MOST { Err(Refused::TooComplex) } else { Ok(Program { prefix, rules }) }
    }

    /// Whether the whole text is one of its texts.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(self.prefix.as_str()) else { return false };
        let mut moves = Moves::of(&self.rules);
        let mut states = States::default();
        states.add(0);
        states = moves.passed(states);
        for c in rest.chars() {
            let taken = moves.taken(states, c);
            states = moves.passed(taken);
            if states == States::default() {
                return false;
            }
        }
        states.has(self.rules.len())
    }

    fn whole(&self) -> Vec<Rule> {
        self.prefix.chars().map(Rule::Char).chain(self.rules.iter().copied()).collect()
    }
}

/// How all states of a program move at once.
struct Moves<'a> {
    rules: &'a [Rule],
    /// Those that are passed without a character, by one and by two.
    passed: [States; 2],
    /// The characters that its rules tell from others, in order.
    named: Vec<char>,
    /// Who stays and who moves on at each of these, and at the end at any other:
    /// found when it comes.
    taken: Vec<Option<[States; 2]>>,
}

impl Moves<'_> {
    fn of(rules: &[Rule]) -> Moves<'_> {
        let mut passed = [States::default(); 2];
        for (state, rule) in rules.iter().enumerate() {
            rule.passes().iter().for_each(|by| passed[by - 1].add(state));
        }
        let own = rules.iter().filter_map(|rule| if let Rule::Char(c) = rule { Some(*c) } else { None });
        let mut named: Vec<char> = own.chain(['/', PART]).collect();
        named.sort_unstable();
        named.dedup();
        let taken = alloc::vec![None; named.len() + 1];
        Moves { rules, passed, named, taken }
    }

    /// Where they are after this character.
    fn taken(&mut self, states: States, c: char) -> States {
        let at = self.named.binary_search(&c).unwrap_or(self.named.len());
        let rules = self.rules;
        let [stay, move_on] = *self.taken[at].get_or_insert_with(|| {
            let mut taken = [States::default(); 2];
            for (state, rule) in rules.iter().enumerate() {
                let (stays, moves) = rule.takes(c);
                [stays, moves].into_iter().zip(&mut taken).filter(|(so, _)| *so).for_each(|(_, of)| of.add(state));
            }
            taken
        });
        states.and(stay).or(states.and(move_on).further(1))
    }

    /// With what is reached without a character. Few rules that are passed
    /// stand side by side.
    fn passed(&self, mut states: States) -> States {
        let [by_one, by_two] = self.passed;
        loop {
            let more = states.or(states.and(by_one).further(1)).or(states.and(by_two).further(2));
            if more == states {
                return states;
            }
            states = more;
        }
    }
}

/// What a walk over all texts of a pattern found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Containment {
    /// All of them are texts of the others.
    Contained,
    /// This one is not.
    Witness(String),
    /// The walk would take too long.
    TooComplex,
}

/// How many rules a walk may look at: tenths of a second.
const FUEL: usize = 1 << 20;

/// How many rules may be looked at for a question that takes several walks.
pub(super) struct Fuel(usize);

impl Fuel {
    /// That of one question.
    pub(super) fn full() -> Fuel {
        Fuel(2 * FUEL)
    }
}

/// Whether every text of `inner` that a target can have is one of `outer` taken together.
pub(super) fn contained(shape: Shape, inner: &Program, outer: &[&Program], fuel: &mut Fuel) -> Containment {
    let mut walk = Walk::new(shape, inner, outer, fuel.0.min(FUEL));
    let before = walk.fuel;
    let found = walk.run();
    fuel.0 -= before - walk.fuel;
    found
}

/// Where the patterns around may be: pattern and state, in order.
type Around = Rc<[(u16, u16)]>;

/// Where a walk is: the state of the pattern, of the text's form, and of all
/// that should contain it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    state: usize,
    form: Form,
    around: Around,
}

struct Walk {
    inner: Vec<Rule>,
    outer: Vec<Vec<Rule>>,
    shape: Shape,
    /// Characters that some pattern names, and one that none does.
    alphabet: Vec<char>,
    fuel: usize,
    /// How each place was reached.
    came: BTreeMap<Place, Option<(Place, char)>>,
    next: VecDeque<Place>,
}

impl Walk {
    fn new(shape: Shape, inner: &Program, outer: &[&Program], fuel: usize) -> Walk {
        let (inner, outer) = (inner.whole(), outer.iter().map(|program| program.whole()).collect::<Vec<_>>());
        let named = |rule: &Rule| if let Rule::Char(c) = rule { Some(*c) } else { None };
        let mut alphabet: BTreeSet<char> = outer.iter().chain([&inner]).flatten().filter_map(named).collect();
        alphabet.remove(&PART);
        alphabet.remove(&'/');
        let other = ('a'..=char::MAX).find(|c| !alphabet.contains(c));
        let alphabet = other.into_iter().chain(alphabet.iter().copied()).collect();
        Walk { inner, outer, shape, alphabet, fuel, came: BTreeMap::new(), next: VecDeque::new() }
    }

    fn run(&mut self) -> Containment {
        let around = self.passed((0..self.outer.len() as u16).map(|pattern| (pattern, 0)).collect());
        self.reach(0, Form::begin(self.shape), &around, None);
        while let Some(place) = self.next.pop_front() {
            if place.state == self.inner.len() && place.form.may_end(self.shape) && !self.accepts(&place.around) {
                return Containment::Witness(self.text(place));
            }
            let Some(rule) = self.inner.get(place.state).copied() else { continue };
            for c in self.characters(rule, place.form) {
                let Some(form) = place.form.then(c, self.shape) else { continue };
                let cost = 1 + place.around.len();
                let Some(fuel) = self.fuel.checked_sub(cost) else { return Containment::TooComplex };
                self.fuel = fuel;
                let (stays, moves) = rule.takes(c);
                let around = self.stepped(&place.around, c);
                for by in [stays.then_some(0), moves.then_some(1)].into_iter().flatten() {
                    self.reach(place.state + by, form, &around, Some((place.clone(), c)));
                }
            }
        }
        Containment::Contained
    }

    /// Notes a place, and those that follow from it without a character.
    fn reach(&mut self, state: usize, form: Form, around: &Around, from: Option<(Place, char)>) {
        let place = Place { state, form, around: Rc::clone(around) };
        if self.came.contains_key(&place) {
            return;
        }
        self.came.insert(place.clone(), from.clone());
        self.next.push_back(place);
        let passes = self.inner.get(state).map_or(&[][..], |rule| rule.passes());
        for by in passes {
            self.reach(state + by, form, around, from.clone());
        }
    }

    /// What the rule may be given here.
    fn characters(&self, rule: Rule, form: Form) -> Vec<char> {
        let any = || match form.part {
            UrlPart::Port => ('0'..='9').collect(),
            UrlPart::Host => ('a'..='z').chain('0'..='9').chain(['-', '_', '[']).collect(),
            UrlPart::Address { .. } => ('a'..='f').chain('0'..='9').chain([':', '.', ']']).collect(),
            UrlPart::Scheme | UrlPart::Path => self.alphabet.clone(),
        };
        match rule {
            Rule::Char(c) => alloc::vec![c],
            Rule::One | Rule::Run => any(),
            Rule::Inside | Rule::Rest => any().into_iter().chain(['/']).collect(),
            Rule::Enter => Vec::new(),
        }
    }

    fn accepts(&self, around: &Around) -> bool {
        around.iter().any(|(pattern, state)| self.outer[usize::from(*pattern)].len() == usize::from(*state))
    }

    fn stepped(&self, around: &Around, c: char) -> Around {
        let mut out = Vec::with_capacity(around.len() + 4);
        for (pattern, state) in around.iter() {
            let Some(rule) = self.outer[usize::from(*pattern)].get(usize::from(*state)) else { continue };
            let (stays, moves) = rule.takes(c);
            out.extend(stays.then_some((*pattern, *state)));
            out.extend(moves.then_some((*pattern, state + 1)));
        }
        self.passed(out)
    }

    /// With what is reached without a character.
    fn passed(&self, mut states: Vec<(u16, u16)>) -> Around {
        let mut at = 0;
        while let Some((pattern, state)) = states.get(at).copied() {
            let passes = self.outer[usize::from(pattern)].get(usize::from(state)).map_or(&[][..], |rule| rule.passes());
            states.extend(passes.iter().map(|by| (pattern, state + *by as u16)));
            at += 1;
        }
        states.sort_unstable();
        states.dedup();
        states.into()
    }

    /// The text that leads to a place.
    fn text(&self, place: Place) -> String {
        let mut characters = Vec::new();
        let mut at = &place;
        while let Some(Some((before, c))) = self.came.get(at) {
            characters.push(*c);
            at = before;
        }
        characters.into_iter().rev().collect()
    }
}

/// How far a text is one that a target can have: no segment is empty, `.` or
/// `..`, but for the last of a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    part: UrlPart,
    segment: Segment,
    length: Length,
}

/// Paths and names are as the path of a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum UrlPart {
    Scheme,
    Port,
    Host,
    /// An IPv6 address in brackets, which is one label, and how many of the two
    /// colons came that every one of them has.
    Address {
        colons: u8,
    },
    Path,
}

/// How much of a text came, or of the host of a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Length {
    Nothing,
    /// The `/` that a path begins with.
    Root,
    More,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    Proper,
}

impl Form {
    fn begin(shape: Shape) -> Form {
        let part = if shape == Shape::Url { UrlPart::Scheme } else { UrlPart::Path };
        Form { part, segment: Segment::Empty, length: Length::Nothing }
    }

    fn then(self, c: char, shape: Shape) -> Option<Form> {
        if c == PART {
            let (part, length) = match self.part {
                UrlPart::Scheme => (UrlPart::Port, Length::More),
                UrlPart::Port => (UrlPart::Host, Length::Nothing),
                UrlPart::Host | UrlPart::Address { .. } if self.segment == Segment::Proper => {
                    (UrlPart::Path, Length::More)
                }
                UrlPart::Host | UrlPart::Address { .. } | UrlPart::Path => return None,
            };
            return Some(Form { part, segment: Segment::Empty, length });
        }
        if shape == Shape::Path && self.length == Length::Nothing {
            return (c == '/').then_some(Form { length: Length::Root, ..self });
        }
        match self.part {
            UrlPart::Host if c == '[' && self.length == Length::Nothing => {
                return Some(Form { part: UrlPart::Address { colons: 0 }, ..self });
            }
            UrlPart::Address { colons } => return self.in_address(c, colons),
            UrlPart::Host if c != '/' && !u8::try_from(c).is_ok_and(is_host_byte) => return None,
            // A port does not begin with a zero.
            UrlPart::Port if c == '0' && self.segment == Segment::Empty => return None,
            UrlPart::Scheme | UrlPart::Port | UrlPart::Host | UrlPart::Path => {}
        }
        let segment = match (c, self.segment) {
            ('/', Segment::Proper) => Segment::Empty,
            ('/', Segment::Empty | Segment::Dot | Segment::DotDot) => return None,
            ('.', Segment::Empty) => Segment::Dot,
            ('.', Segment::Dot) => Segment::DotDot,
            (_, _) => Segment::Proper,
        };
        Some(Form { segment, length: Length::More, ..self })
    }

    /// Within the brackets of an address; its segment is whole behind them.
    fn in_address(self, c: char, colons: u8) -> Option<Form> {
        match c {
            _ if self.segment == Segment::Proper => None,
            ']' => (colons == 2).then_some(Form { segment: Segment::Proper, ..self }),
            ':' => Some(Form { part: UrlPart::Address { colons: colons.saturating_add(1).min(2) }, ..self }),
            c => (c == '.' || c.is_ascii_hexdigit()).then_some(self),
        }
    }

    fn may_end(self, shape: Shape) -> bool {
        match (self.segment, shape) {
            (Segment::Proper, _) => self.part == UrlPart::Path,
            (Segment::Empty, Shape::Url) => self.part == UrlPart::Path,
            (Segment::Empty, Shape::Path) => self.length == Length::Root,
            (Segment::Empty, Shape::Name) | (Segment::Dot | Segment::DotDot, _) => false,
        }
    }
}
