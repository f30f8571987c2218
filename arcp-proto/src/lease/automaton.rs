//! Patterns as automata: whether a pattern matches a text, and whether several patterns together
//! match every text that another one matches.
//!
//! Both answers are exact. A text is read once, and all possible states of the pattern move
//! together. Containment walks the states that the inner pattern and the outer patterns can have
//! after the same text. If the walk finds a text of the inner pattern that no outer one matches,
//! that text is a witness. If it finds none, containment is proved. Likewise, a text of two
//! patterns shows that they overlap.
//!
//! The cost of a question is bounded ([`Fuel`]); beyond the bound the answer is that nothing could
//! be proved.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::fuel::{Fuel, Spent};
use super::namespace::Shape;
use super::pattern::Step;
use super::target::{PART, Refused, is_host_byte};

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The literal beginning of every text of the pattern; most mismatches are found here.
    prefix: String,
    /// The rest of the pattern.
    rules: Vec<Rule>,
}

/// What a state does with the next character: a rule moves to the next state unless it says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Char(char),
    One,
    /// Stays within a segment, or is skipped.
    Run,
    /// Is skipped with `Inside`, or goes on to `Inside`.
    Enter,
    /// Stays, and moves on at `/`.
    Inside,
    /// Stays, or is skipped.
    Rest,
}

impl Rule {
    /// Whether the state stays at this character, and whether it moves on.
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

    /// How many states may be skipped without a character.
    fn passes(self) -> &'static [usize] {
        match self {
            Rule::Char(_) | Rule::One | Rule::Inside => &[],
            Rule::Run | Rule::Rest => &[1],
            Rule::Enter => &[1, 2],
        }
    }
}

/// A set of states of one program, a bit each.
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

    /// The set with every state moved on by this many.
    fn further(self, by: usize) -> States {
        let carried = |word: usize| if word == 0 { 0 } else { self.0[word - 1] >> (64 - by) };
        States(core::array::from_fn(|word| self.0[word] << by | carried(word)))
    }
}

impl Program {
    pub(super) fn new(mut steps: Vec<Step>) -> Result<Program, Refused> {
        // `**/**` matches the same texts as one `**`.
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

    /// Whether the pattern matches the whole text.
    ///
    /// # Errors
    ///
    /// If the fuel does not suffice. At most the work for one pattern is done beyond it.
    pub(super) fn matches(&self, text: &str, fuel: &mut Fuel) -> Result<bool, Spent> {
        fuel.burn(1 + self.prefix.len().min(text.len()) / BYTES)?;
        let Some(rest) = text.strip_prefix(self.prefix.as_str()) else {
            return Ok(false);
        };
        match self.rules.as_slice() {
            [] => Ok(rest.is_empty()),
            [Rule::Rest] => {
                fuel.burn(rest.len() / BYTES)?;
                Ok(!rest.contains(PART))
            }
            rules => {
                let (states, read) = self.read(rest);
                fuel.burn(CHARACTER * (rules.len() + read))?;
                Ok(states.has(rules.len()))
            }
        }
    }

    /// The possible states after the prefix and this text, and how many characters were read.
    fn read(&self, text: &str) -> (States, usize) {
        if self.rules.len() < 64 && self.rules.len() * text.len() <= BY_HAND {
            return self.read_by_hand(text);
        }
        let mut moves = Moves::of(&self.rules);
        let (mut states, mut read) = (States::default(), 0);
        states.add(0);
        states = moves.passed(states);
        for c in text.chars() {
            read += 1;
            let taken = moves.taken(states, c);
            states = moves.passed(taken);
            if states == States::default() {
                break;
            }
        }
        (states, read)
    }

    /// The same as [`read`](Self::read), state by state. Most patterns and texts are too short to
    /// be worth a table.
    fn read_by_hand(&self, text: &str) -> (States, usize) {
        let (mut passed, mut passed_two) = (0_u64, 0_u64);
        for (state, rule) in self.rules.iter().enumerate() {
            passed |= u64::from(rule.passes().contains(&1)) << state;
            passed_two |= u64::from(rule.passes().contains(&2)) << state;
        }
        let with_passed = |mut states: u64| loop {
            let more = states | (states & passed) << 1 | (states & passed_two) << 2;
            if more == states {
                break states;
            }
            states = more;
        };
        let (mut states, mut read) = (with_passed(1), 0);
        for c in text.chars() {
            read += 1;
            let (mut left, mut taken) = (states, 0);
            // The last state, after all rules, takes no character.
            while let Some(rule) = self.rules.get(left.trailing_zeros() as usize) {
                let state = left & left.wrapping_neg();
                let (stays, moves) = rule.takes(c);
                taken |= if stays { state } else { 0 } | if moves { state << 1 } else { 0 };
                left ^= state;
            }
            states = with_passed(taken);
            if states == 0 {
                break;
            }
        }
        (States([states, 0, 0, 0]), read)
    }

    /// Whether another pattern is equal, or is `**` after a beginning of this one's prefix: then no
    /// walk is needed.
    fn is_plainly_within(&self, others: &[&Program], fuel: &mut Fuel) -> Result<bool, Spent> {
        for other in others {
            let alike = other.prefix.len() == self.prefix.len() && other.rules.len() == self.rules.len();
            let is_rest = other.rules == [Rule::Rest] && other.prefix.len() <= self.prefix.len();
            let rules = if alike { self.rules.len() } else { 0 };
            fuel.burn(1 + if alike || is_rest { other.prefix.len() / BYTES + rules } else { 0 })?;
            if alike && *other == self || is_rest && self.prefix.starts_with(&other.prefix) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rest of the pattern after a text, and its possible states there; `None` if no text of
    /// the pattern begins like this.
    fn behind(&self, text: &str, fuel: &mut Fuel) -> Result<Option<(Vec<Rule>, States)>, Spent> {
        let shared = self.prefix.len().min(text.len());
        fuel.burn(1 + shared / BYTES)?;
        if self.prefix.as_bytes()[..shared] != text.as_bytes()[..shared] {
            return Ok(None);
        }
        let rules = self.rules.len();
        fuel.burn(CHARACTER * (self.prefix.len() - shared + rules))?;
        if let Some(rest) = text.strip_prefix(self.prefix.as_str()) {
            // Each character of an unknown kind is compared with all rules.
            fuel.burn(CHARACTER * rest.len() + rules * rest.len().min(rules))?;
            let (states, _) = self.read(rest);
            return Ok((states != States::default()).then(|| (self.rules.clone(), states)));
        }
        let mut states = States::default();
        states.add(0);
        let left = self.prefix.strip_prefix(text).unwrap_or_default();
        Ok(Some((left.chars().map(Rule::Char).chain(self.rules.iter().copied()).collect(), states)))
    }
}

/// A table by which all states of a program move at once.
struct Moves<'a> {
    rules: &'a [Rule],
    /// The states that may be skipped without a character, by one and by two.
    passed: [States; 2],
    /// The characters that the rules distinguish, in order.
    named: Vec<char>,
    /// The states that stay and that move on, for each of these characters and, last, for all
    /// others. Computed on first use.
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

    /// The states after this character.
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

    /// The states with all that can be reached from them without a character. The loop is short:
    /// rules that can be skipped are rarely adjacent.
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

/// The result of a walk over all texts of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Containment {
    /// The other patterns match all of them.
    Contained,
    /// The other patterns do not match this one.
    Witness(String),
    /// The walk would take too much work.
    TooComplex,
}

/// The cost of one state in a product state: it is kept, and compared with earlier ones.
const STATE: usize = 64;
/// The product of rules and characters up to which no table is built.
const BY_HAND: usize = 1024;
/// The cost of a character that is read, or a rule that is copied.
const CHARACTER: usize = 8;
/// The number of bytes that are compared for one unit.
pub(super) const BYTES: usize = 128;

/// Whether the patterns in `outer` together match every text of `inner` that a target can have.
pub(super) fn contained(shape: Shape, inner: &Program, outer: &[&Program], fuel: &mut Fuel) -> Containment {
    let found = match inner.is_plainly_within(outer, fuel) {
        Ok(true) => Ok(Containment::Contained),
        Ok(false) => Walk::new(shape, inner, outer, fuel).and_then(|mut walk| walk.run(fuel)),
        Err(spent) => Err(spent),
    };
    found.unwrap_or(Containment::TooComplex)
}

/// A text that both patterns match and a target can have; `None` if there is none.
pub(super) fn shared(
    shape: Shape,
    one: &Program,
    other: &Program,
    fuel: &mut Fuel,
) -> Result<Option<String>, TooComplex> {
    let found = Walk::new(shape, one, &[other], fuel).and_then(|walk| {
        let mut walk = Walk { seeks: Seeks::Within, ..walk };
        walk.run(fuel)
    });
    match found {
        Ok(Containment::Contained) => Ok(None),
        Ok(Containment::Witness(text)) => Ok(Some(text)),
        Ok(Containment::TooComplex) | Err(Spent) => Err(TooComplex),
    }
}

/// The answer would take too much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooComplex;

/// The texts that a walk looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seeks {
    /// Texts that no outer pattern matches.
    Outside,
    /// Texts that an outer pattern matches.
    Within,
}

/// The possible states of the outer patterns: pattern and state, in order.
type Around = Rc<[(u16, u16)]>;

/// A position of a walk: the state of the inner pattern, the form of the text, and the states of
/// the outer patterns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ProductState {
    state: usize,
    form: Form,
    around: Around,
}

struct Walk<'a> {
    /// The prefix of the inner pattern; `inner` has its rules.
    prefix: &'a str,
    inner: &'a [Rule],
    /// The rules after the prefix, of the outer patterns that can match a text with it.
    outer: Vec<Vec<Rule>>,
    /// Their states after the prefix.
    begin: Vec<(u16, u16)>,
    shape: Shape,
    seeks: Seeks,
    /// Characters that some pattern names, and one that none names.
    alphabet: Vec<char>,
    /// Those of them that a port, a host and an address may contain.
    url_alphabets: [Vec<char>; 3],
    /// The position and character from which each position was reached.
    came: BTreeMap<ProductState, Option<(ProductState, char)>>,
    next: VecDeque<ProductState>,
}

impl<'a> Walk<'a> {
    fn new(shape: Shape, inner: &'a Program, around: &[&Program], fuel: &mut Fuel) -> Result<Walk<'a>, Spent> {
        let (prefix, inner) = (inner.prefix.as_str(), inner.rules.as_slice());
        let (mut outer, mut begin) = (Vec::new(), Vec::new());
        fuel.burn(CHARACTER * (prefix.len() + inner.len()))?;
        for program in around {
            if let Some((rules, states)) = program.behind(prefix, fuel)? {
                let pattern = outer.len() as u16;
                begin.extend(
                    (0..=rules.len().min(States::MOST - 1)).filter(|at| states.has(*at)).map(|at| (pattern, at as u16)),
                );
                outer.push(rules);
            }
        }
        let named = |rule: &Rule| if let Rule::Char(c) = rule { Some(*c) } else { None };
        let mut alphabet: BTreeSet<char> = outer.iter().flatten().chain(inner).filter_map(named).collect();
        alphabet.remove(&PART);
        alphabet.remove(&'/');
        let other = ('a'..=char::MAX).find(|c| !alphabet.contains(c));
        let alphabet: Vec<char> = other.into_iter().chain(alphabet.iter().copied()).collect();
        let url_alphabets = url_alphabets(&alphabet);
        let (seeks, came, next) = (Seeks::Outside, BTreeMap::new(), VecDeque::new());
        Ok(Walk { prefix, inner, outer, begin, shape, seeks, alphabet, url_alphabets, came, next })
    }

    fn run(&mut self, fuel: &mut Fuel) -> Result<Containment, Spent> {
        let begun = self.prefix.chars().try_fold(Form::begin(self.shape), |form, c| form.then(c, self.shape));
        if let Some(form) = begun {
            let begin = core::mem::take(&mut self.begin);
            let around = self.passed(begin);
            self.reach(0, form, &around, None);
        }
        while let Some(product) = self.next.pop_front() {
            let ends = product.state == self.inner.len() && product.form.may_end(self.shape);
            if ends && self.accepts(&product.around) == (self.seeks == Seeks::Within) {
                return Ok(Containment::Witness(self.text(product)));
            }
            let Some(rule) = self.inner.get(product.state).copied() else { continue };
            for c in self.characters(rule, product.form) {
                let Some(form) = product.form.then(c, self.shape) else { continue };
                fuel.burn(STATE * (1 + product.around.len()))?;
                let (stays, moves) = rule.takes(c);
                let around = self.stepped(&product.around, c);
                for by in [stays.then_some(0), moves.then_some(1)].into_iter().flatten() {
                    self.reach(product.state + by, form, &around, Some((product.clone(), c)));
                }
            }
        }
        Ok(Containment::Contained)
    }

    /// Adds a product state, and those that follow from it without a character.
    fn reach(&mut self, state: usize, form: Form, around: &Around, from: Option<(ProductState, char)>) {
        let product = ProductState { state, form, around: Rc::clone(around) };
        let leads_nowhere = self.seeks == Seeks::Within && around.is_empty();
        if leads_nowhere || self.came.contains_key(&product) {
            return;
        }
        self.came.insert(product.clone(), from.clone());
        self.next.push_back(product);
        let passes = self.inner.get(state).map_or(&[][..], |rule| rule.passes());
        for by in passes {
            self.reach(state + by, form, around, from.clone());
        }
    }

    /// The characters to try with this rule.
    fn characters(&self, rule: Rule, form: Form) -> Vec<char> {
        let [ports, hosts, addresses] = &self.url_alphabets;
        let any = || match form.part {
            UrlPart::Port => ports.clone(),
            UrlPart::Host => hosts.clone(),
            UrlPart::Address { .. } => addresses.clone(),
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

    /// The states with all that can be reached from them without a character.
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

    /// The text that leads to a product state.
    fn text(&self, product: ProductState) -> String {
        let mut characters = Vec::new();
        let mut at = &product;
        while let Some(Some((before, c))) = self.came.get(at) {
            characters.push(*c);
            at = before;
        }
        self.prefix.chars().chain(characters.into_iter().rev()).collect()
    }
}

/// For a port, a host and an address: the characters of the alphabet that they may contain, one
/// other that stands for all the rest, and those with a special meaning there.
fn url_alphabets(alphabet: &[char]) -> [Vec<char>; 3] {
    let part = |all: &mut dyn Iterator<Item = char>, unlike: &[char]| {
        let (named, others): (Vec<char>, Vec<char>) = all.partition(|c| alphabet.contains(c));
        named.into_iter().chain(others.first().copied()).chain(unlike.iter().copied()).collect()
    };
    [
        part(&mut ('1'..='9'), &['0']),
        part(&mut ('a'..='z').chain('0'..='9').chain(['-', '_']), &['[']),
        part(&mut ('a'..='f').chain('0'..='9'), &[':', '.', ']']),
    ]
}

/// Whether the beginning of a text can be that of a target: no segment may be empty, `.` or `..`,
/// except the last one of a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    part: UrlPart,
    segment: Segment,
    length: Length,
}

/// Paths and names are handled like the path of a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum UrlPart {
    Scheme,
    Port,
    Host,
    /// An IPv6 address in brackets, which is one label. `colons`: how many of the two colons that
    /// every address has were read.
    Address {
        colons: u8,
    },
    Path,
}

/// How much of a text, or of the host of a URL, was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Length {
    Nothing,
    /// The leading `/` of a path.
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

    /// A character within the brackets of an address; the closing bracket completes its segment.
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

#[cfg(test)]
mod tests {
    use super::super::namespace::Namespace;
    use super::super::pattern::Pattern;
    use super::*;

    fn patterns<'a>(namespace: &Namespace, texts: impl IntoIterator<Item = &'a str>) -> Vec<Pattern> {
        texts.into_iter().map(|text| Pattern::new(namespace, text).expect("a pattern")).collect()
    }

    #[test]
    fn a_wildcard_takes_what_is_of_one_segment_and_no_separator() {
        for (rule, ordinary, slash, part) in [
            (Rule::Char('a'), (false, true), (false, false), (false, false)),
            (Rule::One, (false, true), (false, false), (false, false)),
            (Rule::Run, (true, false), (false, false), (false, false)),
            (Rule::Enter, (false, false), (false, false), (false, false)),
            (Rule::Inside, (true, false), (true, true), (false, false)),
            (Rule::Rest, (true, false), (true, false), (false, false)),
        ] {
            assert_eq!(['a', '/', PART].map(|c| rule.takes(c)), [ordinary, slash, part], "{rule:?}");
        }
    }

    #[test]
    fn a_text_of_the_walk_is_one_that_a_target_can_have() {
        let is_target = |shape, text: &str| {
            let mut form = Form::begin(shape);
            text.replace('|', "\0").chars().all(|c| {
                form.then(c, shape).is_some_and(|next| {
                    form = next;
                    true
                })
            }) && form.may_end(shape)
        };
        for right in ["https|443|com/example|", "https|443|com/example|a/b/", "https|443|[::1]|a", "https|80|a_b/c-d|"]
        {
            assert!(is_target(Shape::Url, right), "{right}");
        }
        for wrong in [
            "https|443||a",
            "https|0443|com|a",
            "https|443|com/exa mple|a",
            "https|443|com/\u{e9}|a",
            "https|443|com//example|a",
            "https|443|[::1]a|a",
            "https|443|[::1]]|a",
            "https|443|[1]|a",
            "https|443|[::g]|a",
            "https|443|com|a//b",
            "https|443|com|a/../b",
            "https|443|com",
        ] {
            assert!(!is_target(Shape::Url, wrong), "{wrong}");
        }
        let paths =
            ["/", "/a", "/a/b", "/.a", "/a/", "a", "", "/a//b", "/a/."].map(|text| is_target(Shape::Path, text));
        assert_eq!(paths, [true, true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn a_walk_that_would_take_too_long_is_given_up_after_some_thousand_states() {
        let wildcards = "?".repeat(13);
        let (first, second) = (alloc::format!("*a{wildcards}"), alloc::format!("*b{wildcards}"));
        let around = patterns(&Namespace::ToolCall, [first.as_str(), second.as_str(), "*"]);
        let outer: Vec<&Program> = around.iter().map(Pattern::program).collect();
        let inner = patterns(&Namespace::ToolCall, ["?*"]);
        let mut fuel = Fuel::default();
        let walk = Walk::new(Shape::Name, inner[0].program(), &outer, &mut fuel);
        let mut walk = walk.unwrap_or_else(|Spent| panic!("it may begin"));
        assert!(walk.run(&mut fuel).is_err(), "there are {} states", walk.came.len());
        assert!((1_000..5_000).contains(&walk.came.len()), "{} states", walk.came.len());
    }

    #[test]
    fn patterns_with_nothing_in_common_cost_little_and_those_with_much_are_counted() {
        let name = |n: usize| alloc::format!("/srv/data/of/some/length/and/more/{n:04}");
        let names: Vec<String> = (0..500).map(name).collect();
        let wider: Vec<String> = names.iter().map(|name| alloc::format!("{name}*")).collect();
        let within = patterns(&Namespace::FsRead, names.iter().map(String::as_str));
        let around = patterns(&Namespace::FsRead, wider.iter().map(String::as_str));
        let outer: Vec<&Program> = around.iter().map(Pattern::program).collect();
        let mut fuel = Fuel::default();
        for inner in within.iter().map(Pattern::program) {
            assert_eq!(contained(Shape::Path, inner, &outer, &mut fuel), Containment::Contained);
        }
        // Before the walk, each of these reads the whole prefix.
        let (deep, long) = (alloc::format!("/{}b", "**/a/".repeat(40)), alloc::format!("/{}", "a".repeat(4000)));
        let around = patterns(&Namespace::FsRead, [deep.as_str(); 1000]);
        let outer: Vec<&Program> = around.iter().map(Pattern::program).collect();
        let inner = patterns(&Namespace::FsRead, [long.as_str()]);
        assert_eq!(contained(Shape::Path, inner[0].program(), &outer, &mut Fuel::default()), Containment::TooComplex);
    }
}
