//! Resuming: which client may have an earlier session back (1.1 §6.3). A refused claim uses no token up; a token
//! is dead once it was used.

use alloc::string::{String, ToString as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Session, Sessions};
use crate::error::{ErrorCode, Violation};
use crate::id::{Principal, SessionId};
use crate::model::request::ResumeClaim;
use crate::principal::Network;
use crate::runtime::context::Context;
use crate::runtime::io::{Notice, Record, Verdict};
use crate::secret::{Secret, SecretDigest};
use crate::wire::Family;

/// The identity behind a connection that wants a session.
#[derive(Clone, Debug)]
pub(in crate::runtime) enum Proof {
    /// An authenticator or the transport vouches for it.
    Known(Verdict),
    /// Nobody vouches for it.
    Nobody,
}

impl From<Option<Verdict>> for Proof {
    fn from(verdict: Option<Verdict>) -> Proof {
        verdict.map_or(Proof::Nobody, Proof::Known)
    }
}

impl Proof {
    /// The verdict, if somebody vouches for the client.
    pub(in crate::runtime) fn verdict(&self) -> Option<&Verdict> {
        match self {
            Proof::Known(verdict) => Some(verdict),
            Proof::Nobody => None,
        }
    }

    /// The principal of a new session.
    pub(super) fn principal(self, session: SessionId, network: Option<Network>) -> Principal {
        match self {
            Proof::Known(verdict) => verdict.principal,
            Proof::Nobody => Principal::anonymous(session, network),
        }
    }

    /// Whether this is the principal that opened a session.
    pub(super) fn is_of(&self, principal: &Principal) -> bool {
        match self {
            Proof::Known(verdict) => verdict.principal == *principal,
            Proof::Nobody => principal.is_anonymous(),
        }
    }
}

/// Whether a credential allows the features that a session has negotiated. The session keeps all of them, since
/// its peer relies on them.
///
/// # Errors
///
/// The feature that the credential does not allow.
pub(super) fn check_features(session: &Session, verdict: Option<&Verdict>) -> Result<(), Violation> {
    let most = verdict.and_then(|verdict| verdict.features);
    match most.and_then(|most| most.lacks(session.view.features)) {
        None => Ok(()),
        Some(beyond) => {
            let why = alloc::format!("the credential does not allow `{beyond}`, which this session uses: open another");
            Err(Violation::new(ErrorCode::PermissionDenied, why))
        }
    }
}

/// A fresh resume token.
pub(super) fn fresh_token(ctx: &mut Context) -> Secret {
    let mut text = String::from("rtk_");
    URL_SAFE_NO_PAD.encode_string(ctx.entropy.secret_256(), &mut text);
    Secret::new(text)
}

impl Sessions {
    /// The session that a claim is for, which is made by this token.
    ///
    /// # Errors
    ///
    /// If the claim is not proven, or its session cannot be resumed.
    pub(in crate::runtime) fn claimed(
        &self,
        claim: &ResumeClaim,
        token: &SecretDigest,
        proof: &Proof,
        family: Family,
    ) -> Result<SessionId, Violation> {
        let unproven = || Violation::new(ErrorCode::Unauthenticated, "the resume token was not accepted");
        let expired = |why| Violation::new(ErrorCode::ResumeWindowExpired, why);
        let Some((id, session)) = self.by_token.get(token).and_then(|id| Some((*id, self.by_id.get(id)?))) else {
            return Err(match (self.ended.owners.get(token), proof) {
                (Some(owner), Proof::Known(verdict)) if *owner != verdict.principal => unproven(),
                (Some(_), Proof::Known(_) | Proof::Nobody) => {
                    expired("it was closed or taken, or its resume window is over")
                }
                (None, Proof::Known(_) | Proof::Nobody) => unproven(),
            });
        };
        let named = claim.session.as_ref().is_none_or(|named| named.as_str() == id.to_string());
        if !proof.is_of(&session.principal) || !named || family != session.view.family {
            return Err(unproven());
        }
        check_features(session, proof.verdict())?;
        if session.is_evicted() {
            return Err(expired("the session was taken from its client"));
        }
        if session.only_resumes.is_some() {
            return Err(expired("the session is there to resume another one, and has nothing itself"));
        }
        Ok(id)
    }

    /// Gives a session to a client that has just proved its identity. Returns the token that is valid from here on.
    pub(in crate::runtime) fn resume(&mut self, ctx: &mut Context, id: SessionId, proof: &Proof) -> Secret {
        let token = fresh_token(ctx);
        self.restore_token(id, token.digest());
        ctx.append(Record::TokenRotated { session: id, token: token.digest() });
        ctx.observe(Notice::SessionResumed { session: id });
        self.prove(ctx, id, proof.verdict());
        token
    }

    /// A session has another token.
    pub(in crate::runtime) fn restore_token(&mut self, id: SessionId, token: SecretDigest) {
        if let Some(session) = self.by_id.get_mut(&id) {
            self.by_token.remove(&session.token);
            session.token = token;
            session.left = false;
            self.by_token.insert(token, id);
        }
    }
}

/// A client claimed a session and its connection was lost before it was sent the new token: the token of that
/// claim becomes valid again.
pub(in crate::runtime) fn give_back(sessions: &mut Sessions, ctx: &mut Context, id: SessionId, token: SecretDigest) {
    if sessions.by_id.get(&id).is_some_and(Session::is_recorded) {
        sessions.restore_token(id, token);
        ctx.append(Record::TokenRotated { session: id, token });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Seeds;
    use crate::id::WireId;
    use crate::model::feature::Features;
    use crate::model::request::{ClientInfo, Credential, Open};
    use crate::runtime::Config;
    use crate::runtime::job::Jobs;
    use crate::runtime::session::Outcome;
    use crate::time::{Now, UtcMs};
    use crate::wire::View;

    fn known(name: &str) -> Proof {
        Proof::Known(Principal::new(name).expect("a name").into())
    }

    #[test]
    fn a_session_that_is_resumed_gains_no_scope() {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut ctx = Context::new(Config::new("t", "1"), &seeds, Now::default()).expect("it works");
        let mut sessions = Sessions::default();
        let with = |scopes: &[&str]| {
            let alice = Verdict::from(Principal::new("alice").expect("a name"));
            Proof::Known(Verdict { scopes: scopes.iter().copied().collect(), ..alice })
        };
        let client = ClientInfo { name: "c".into(), version: "1".into() };
        let open = Open::new(client, Credential::Anonymous, Features::default());
        let peer = (View::before_handshake(false), None);
        let opened = sessions.open(&mut ctx, &Jobs::default(), open, with(&["run", "stop"]), peer);
        let (id, _) = opened.expect("there is room");
        for (credential, left) in [
            (with(&["run", "stop"]), "run stop"),
            (with(&["run"]), "run"),
            (with(&["admin", "run", "stop"]), "run stop"),
            (with(&["admin"]), ""),
            (Proof::Nobody, ""),
        ] {
            sessions.resume(&mut ctx, id, &credential);
            let session = sessions.get(id).expect("it is there");
            let scopes: alloc::vec::Vec<&str> = session.who(false).scopes.iter().collect();
            assert_eq!(scopes.join(" "), left, "{credential:?}");
        }
    }

    #[test]
    fn a_refused_claim_consumes_nothing_and_a_used_token_is_dead() {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut ctx = Context::new(Config::new("t", "1"), &seeds, Now::default()).expect("it works");
        let mut sessions = Sessions::default();
        let client = ClientInfo { name: "c".into(), version: "1".into() };
        let open = Open::new(client, Credential::Anonymous, Features::default());
        let peer = (View::before_handshake(false), None);
        let opened = sessions.open(&mut ctx, &Jobs::default(), open, known("alice"), peer);
        let (id, token) = opened.expect("there is room");
        let claimed = |sessions: &Sessions, token: &Secret, proof: &Proof, family: Family| {
            let claim = ResumeClaim { session: None, token: token.clone(), last_seq: 0 };
            sessions.claimed(&claim, &token.digest(), proof, family)
        };
        let code = |claimed: Result<SessionId, Violation>| claimed.map_err(|refused| refused.code);
        for (proof, family) in
            [(known("bob"), Family::Hello), (Proof::Nobody, Family::Hello), (known("alice"), Family::Open)]
        {
            let refused = claimed(&sessions, &token, &proof, family);
            assert_eq!(code(refused), Err(ErrorCode::Unauthenticated), "{proof:?} {family:?}");
        }
        assert_eq!(code(claimed(&sessions, &token, &known("alice"), Family::Hello)), Ok(id));
        let next = sessions.resume(&mut ctx, id, &known("alice"));
        let dead = claimed(&sessions, &token, &known("alice"), Family::Hello);
        assert_eq!(code(dead), Err(ErrorCode::Unauthenticated));
        assert_eq!(code(claimed(&sessions, &next, &known("alice"), Family::Hello)), Ok(id));
        // Whose it was is told what became of it, and others not that there was one.
        sessions.end(&mut ctx, &Jobs::default(), id);
        for (proof, expected) in [
            (known("alice"), ErrorCode::ResumeWindowExpired),
            (Proof::Nobody, ErrorCode::ResumeWindowExpired),
            (known("bob"), ErrorCode::Unauthenticated),
        ] {
            assert_eq!(code(claimed(&sessions, &next, &proof, Family::Hello)), Err(expected), "{proof:?}");
        }
    }

    #[test]
    fn a_session_stands_for_its_client_as_long_as_the_credential_it_came_with() {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut ctx = Context::new(Config::new("t", "1"), &seeds, Now::default()).expect("it works");
        let mut sessions = Sessions::default();
        let client = ClientInfo { name: "c".into(), version: "1".into() };
        let open = Open::new(client, Credential::Anonymous, Features::default());
        let peer = (View::before_handshake(false), None);
        let (id, _) = sessions.open(&mut ctx, &Jobs::default(), open, known("alice"), peer).expect("there is room");
        for until in [Some(UtcMs(60_000)), None, Some(UtcMs(120_000))] {
            sessions.renew(&mut ctx, id, until);
            let session = sessions.get(id).expect("it is there");
            assert_eq!(session.proof().verdict().map(|verdict| verdict.expires_at), Some(until));
        }
    }

    #[test]
    fn what_a_principal_asked_for_is_remembered_while_it_has_a_job_or_a_session() {
        let seeds = Seeds { public: [1; 32], secret: [2; 32] };
        let mut ctx = Context::new(Config::new("t", "1"), &seeds, Now::default()).expect("it works");
        let mut sessions = Sessions::default();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Principal::new(name).expect("a name"));
        let client = ClientInfo { name: "c".into(), version: "1".into() };
        let open = Open::new(client, Credential::Anonymous, Features::default());
        let peer = (View::before_handshake(false), None);
        sessions.open(&mut ctx, &Jobs::default(), open, known("carol"), peer).expect("there is room");
        let message = WireId::new("m1").expect("an id");
        for principal in [&alice, &bob, &carol] {
            sessions.remember_of(&mut ctx, principal.clone(), message.clone(), ([0; 32], Outcome::Done));
        }
        sessions.forget_seen(|principal| *principal == bob);
        let left: alloc::vec::Vec<&Principal> = sessions.seen_of_principals().map(|(whose, ..)| whose).collect();
        assert_eq!(left, [&bob, &carol]);
    }
}
