//! Fuel: the bound on the cost of a proof.

/// The work that may be done to compare patterns with targets, and to prove containment, in units
/// of two to three nanoseconds of a core. A question takes the same number of units on every
/// machine.
///
/// ```
/// use arcp_proto::{json::Json, lease::{Excess, Fuel, Lease}};
/// let lease = |text: &str| Lease::parse(&Json::parse(text).unwrap()).unwrap();
/// let (parent, child) = (lease(r#"{"tool.call":["a*","*b"]}"#), lease(r#"{"tool.call":["a*b?"]}"#));
/// let mut fuel = Fuel::default();
/// assert_eq!(parent.covers_with(&child, &mut fuel), Ok(()));
/// assert!(0 < fuel.used() && !fuel.is_spent());
/// let too_little = parent.covers_with(&child, &mut Fuel::new(fuel.used() - 1));
/// assert!(matches!(too_little, Err(Excess::TooComplex { .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fuel {
    given: u32,
    left: u32,
    is_spent: bool,
}

/// The fuel of a question is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl Fuel {
    /// Enough for leases of usual sizes: about 2.5 ms of a core.
    pub const USUAL: u32 = 1 << 20;

    /// Fuel of this many units.
    pub fn new(units: u32) -> Fuel {
        Fuel { given: units, left: units, is_spent: false }
    }

    /// Units that were used.
    pub fn used(&self) -> u32 {
        self.given - self.left
    }

    /// Whether it did not suffice for a question.
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }

    pub(super) fn burn(&mut self, cost: usize) -> Result<(), Spent> {
        let left = u32::try_from(cost).ok().and_then(|cost| self.left.checked_sub(cost));
        self.is_spent |= left.is_none();
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Spent)
    }
}

/// [`Fuel::USUAL`].
impl Default for Fuel {
    fn default() -> Fuel {
        Fuel::new(Fuel::USUAL)
    }
}
