//! What a session may be used for: what the credential allowed with which it was opened, cut down to what the
//! latest credential of its client allows. Resuming gains nothing.

use alloc::boxed::Box;

use crate::id::Principal;
use crate::lease::Ceiling;
use crate::model::feature::Features;
use crate::policy::{Policy, Roles};
use crate::runtime::io::Verdict;
use crate::scope::Scopes;

/// The scopes of a session, and the ceilings on the leases of its jobs and on the permissions that it grants.
#[derive(Clone, Debug, Default)]
pub(in crate::runtime) struct Allowance {
    granted: Scopes,
    opened_under: Option<Box<Ceiling>>,
    /// The granted scopes that the latest credential has.
    scopes: Scopes,
    roles: HeldRoles,
    proved_under: Option<Box<Ceiling>>,
    /// The most features that the latest credential allows.
    features: Option<Features>,
}

/// The roles that the credentials of a session name, and those of them that count.
#[derive(Clone, Debug, Default)]
struct HeldRoles {
    opened_with: Roles,
    /// Those of `opened_with` that the latest credential names.
    named: Roles,
    counting: Roles,
}

impl Allowance {
    /// The allowance of a session that is opened or restored.
    pub(super) fn new(granted: Scopes, opened_with: Roles, ceiling: Option<Box<Ceiling>>) -> Allowance {
        let roles = HeldRoles { named: opened_with.clone(), opened_with, counting: Roles::default() };
        Allowance { granted, opened_under: ceiling, roles, ..Allowance::default() }
    }

    /// The client has proved its identity, possibly with another credential.
    pub(super) fn prove(&mut self, verdict: Option<&Verdict>) {
        self.scopes = verdict.map(|verdict| verdict.scopes.within(&self.granted)).unwrap_or_default();
        self.roles.named = verdict.map(|verdict| verdict.roles.within(&self.roles.opened_with)).unwrap_or_default();
        self.features = verdict.and_then(|verdict| verdict.features);
        let ceiling = verdict.and_then(|verdict| verdict.ceiling.as_ref());
        // Most clients use the same credential again.
        self.proved_under = ceiling.filter(|ceiling| self.opened_under.as_ref() != Some(*ceiling)).cloned();
    }

    /// Finds out which of the named roles count under the policy.
    pub(super) fn count_roles(&mut self, policy: Option<&Policy>, principal: &Principal) {
        let counting = policy.map(|policy| policy.counting(principal, &self.roles.named));
        self.roles.counting = counting.unwrap_or_default();
    }

    /// The roles that the credential named with which the session was opened.
    pub(in crate::runtime) fn roles_opened_with(&self) -> &Roles {
        &self.roles.opened_with
    }

    /// The roles that count.
    pub(in crate::runtime) fn roles(&self) -> &Roles {
        &self.roles.counting
    }

    /// The roles that the latest credential names, among those of the first.
    pub(super) fn named_roles(&self) -> &Roles {
        &self.roles.named
    }

    /// What the session was opened with, which it never exceeds.
    pub(in crate::runtime) fn opened_with(&self) -> (&Scopes, Option<&Ceiling>) {
        (&self.granted, self.opened_under.as_deref())
    }

    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The ceiling of the latest credential.
    pub(super) fn ceiling(&self) -> Option<&Ceiling> {
        self.proved_under.as_deref().or(self.opened_under.as_deref())
    }

    /// The most features that the latest credential allows.
    pub(super) fn features(&self) -> Option<Features> {
        self.features
    }

    /// The ceilings on every lease that is asked for in the session, and on every permission that it grants.
    pub(in crate::runtime) fn ceilings(&self) -> [Option<&Ceiling>; 2] {
        [self.opened_under.as_deref(), self.proved_under.as_deref()]
    }
}
