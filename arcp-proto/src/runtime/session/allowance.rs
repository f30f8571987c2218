//! What a session may be used for: what the credential allowed that it was opened
//! with, and of that what the one allows by which its client proved itself last.
//! Coming back gains nothing.

use alloc::boxed::Box;

use crate::id::Principal;
use crate::lease::Ceiling;
use crate::model::feature::Features;
use crate::policy::{Policy, Roles};
use crate::runtime::io::Verdict;
use crate::scope::Scopes;

/// Scopes that a session has, and ceilings that bound the leases of its jobs and
/// the permissions that it grants.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct Allowance {
    granted: Scopes,
    opened_under: Option<Box<Ceiling>>,
    /// Of those that were granted what the latest credential has.
    scopes: Scopes,
    roles: HeldRoles,
    proved_under: Option<Box<Ceiling>>,
    /// The most that the latest credential lets a session agree to use.
    features: Option<Features>,
}

/// Roles that the credentials of a session name, and those of them that count.
#[derive(Clone, Debug, Default)]
struct HeldRoles {
    opened_with: Roles,
    /// Of these what the latest credential names.
    named: Roles,
    counting: Roles,
}

impl Allowance {
    /// Of a session that is opened, or was in an earlier run.
    pub(super) fn new(granted: Scopes, opened_with: Roles, ceiling: Option<Box<Ceiling>>) -> Allowance {
        let roles = HeldRoles { named: opened_with.clone(), opened_with, counting: Roles::default() };
        Allowance { granted, opened_under: ceiling, roles, ..Allowance::default() }
    }

    /// Its client has proved who it is, by another credential perhaps.
    pub(super) fn prove(&mut self, verdict: Option<&Verdict>) {
        self.scopes = verdict.map(|verdict| verdict.scopes.within(&self.granted)).unwrap_or_default();
        self.roles.named = verdict.map(|verdict| verdict.roles.within(&self.roles.opened_with)).unwrap_or_default();
        self.features = verdict.and_then(|verdict| verdict.features);
        let ceiling = verdict.and_then(|verdict| verdict.ceiling.as_ref());
        // Mostly it is the same one.
        self.proved_under = ceiling.filter(|ceiling| self.opened_under.as_ref() != Some(*ceiling)).cloned();
    }

    /// Finds out which roles count of those that its credentials name.
    pub(super) fn count_roles(&mut self, policy: Option<&Policy>, principal: &Principal) {
        let counting = policy.map(|policy| policy.counting(principal, &self.roles.named));
        self.roles.counting = counting.unwrap_or_default();
    }

    /// The roles that the credential named which it was opened with.
    pub(in crate::runtime) fn roles_opened_with(&self) -> &Roles {
        &self.roles.opened_with
    }

    /// The roles that count.
    pub(in crate::runtime) fn roles(&self) -> &Roles {
        &self.roles.counting
    }

    /// The roles that the credential named by which its client proved itself last.
    pub(super) fn named_roles(&self) -> &Roles {
        &self.roles.named
    }

    /// What the session was opened with: it never has more.
    pub(in crate::runtime) fn opened_with(&self) -> (&Scopes, Option<&Ceiling>) {
        (&self.granted, self.opened_under.as_deref())
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// That of the credential by which its client proved itself last.
    pub(super) fn ceiling(&self) -> Option<&Ceiling> {
        self.proved_under.as_deref().or(self.opened_under.as_deref())
    }

    /// The most that the credential by which its client proved itself last lets a session
    /// agree to use.
    pub(super) fn features(&self) -> Option<Features> {
        self.features
    }

    /// What bounds every lease that is asked for in the session, and every
    /// permission that is granted there.
    pub(in crate::runtime) fn ceilings(&self) -> [Option<&Ceiling>; 2] {
        [self.opened_under.as_deref(), self.proved_under.as_deref()]
    }
}
