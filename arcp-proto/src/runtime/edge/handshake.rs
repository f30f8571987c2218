//! The handshake of a peer, until its principal is known (1.1 §6.1, RFC §8.1): a state machine that
//! is given frames and verdicts and returns what to do.
//!
//! ```text
//! Fresh ──an opening──▶ Judging ──verdict──▶ (handed over)
//!   │ │                  ▲    │ not yet
//!   │ └──no proof──▶ Challenged ◀┘
//!   └──────── anything refused ────────▶ (closed)
//! ```

use alloc::string::{String, ToString as _};

use super::evidence::{Evidence, not_judged, wrong_proof};
use crate::error::{ErrorCode, Violation};
use crate::id::{OpId, WireId};
use crate::model::reply::{RefusedKind, Subject};
use crate::model::request::{Credential, HandshakeRequest, Open, Proof as ClientProof, Request, ResumeClaim};
use crate::runtime::config::Config;
use crate::runtime::io::Verdict;
use crate::secret::Secret;
use crate::wire::envelope::Header;
use crate::wire::{self, Compat, Family, Profile, ReceivedRequest, View};

/// The request of a peer whose principal is known.
#[derive(Debug)]
pub(in crate::runtime) struct Opening {
    /// The request to answer.
    pub(in crate::runtime) request: WireId,
    pub(in crate::runtime) wish: Wish,
    /// The verdict on the peer; `None`: it is anonymous.
    pub(in crate::runtime) verdict: Option<Verdict>,
}

#[derive(Debug)]
pub(in crate::runtime) enum Wish {
    /// To open a session.
    New(Open),
    /// To resume one.
    Earlier(ResumeClaim),
}

#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) evidence: Evidence,
    /// What an edge has found out.
    introduced: Option<Introduction>,
    phase: Phase,
    /// Whether the operator was told that early frames are ignored.
    passed_over: bool,
}

/// What an edge has found out about a peer: its verdict, and the request to answer.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) verdict: Option<Verdict>,
    pub(super) request: WireId,
}

#[derive(Debug)]
enum Phase {
    /// No frame was understood yet.
    Fresh,
    /// A proof was asked for.
    Challenged { open: Open, nonce: String },
    /// A credential, or the answer to a challenge, is being judged.
    Judging { op: OpId, request: WireId, open: Open, nonce: Option<String> },
}

/// What the handshake wants done.
#[derive(Debug)]
pub(super) enum Want {
    Nothing,
    /// To note that a frame was ignored.
    PassOver,
    /// To refuse a frame and close the connection.
    Refuse {
        request: WireId,
        violation: Violation,
    },
    /// To refuse a proof; the peer may send another one.
    RefuseProof {
        request: WireId,
        violation: Violation,
    },
    /// To ask for a proof.
    Challenge {
        request: WireId,
        open: Open,
    },
    /// To have a credential judged.
    Judge {
        request: WireId,
        open: Open,
        credential: Credential,
        nonce: Option<String>,
    },
    /// To admit the peer.
    Opening(Opening),
}

impl Opening {
    fn new(request: WireId, mut open: Open, verdict: Option<Verdict>) -> Opening {
        let wish = match open.resume.take() {
            Some(claim) => Wish::Earlier(claim),
            None => Wish::New(open),
        };
        Opening { request, wish, verdict }
    }
}

impl Handshake {
    pub(super) fn new(evidence: Evidence, introduced: Option<Introduction>) -> Handshake {
        Handshake { evidence, introduced, phase: Phase::Fresh, passed_over: false }
    }

    /// Whether no frame was understood yet.
    pub(super) fn is_fresh(&self) -> bool {
        match self.phase {
            Phase::Fresh => true,
            Phase::Challenged { .. } | Phase::Judging { .. } => false,
        }
    }

    /// Whether a credential is being judged.
    pub(super) fn is_judged(&self) -> bool {
        match self.phase {
            Phase::Judging { .. } => true,
            Phase::Fresh | Phase::Challenged { .. } => false,
        }
    }

    /// The verdict without a credential: the edge's or the transport's.
    fn vouched(&self) -> Option<Verdict> {
        let introduced = self.introduced.as_ref().and_then(|introduced| introduced.verdict.clone());
        introduced.or_else(|| self.evidence.peer().cloned())
    }

    /// Handles a frame. `all_said`: whether the peer was sent all replies so far.
    pub(super) fn hear(&mut self, view: &mut View, config: &Config, header: &Header<'_>, all_said: bool) -> Want {
        if self.is_fresh() { self.hear_first(view, config, header) } else { self.hear_early(view, header, all_said) }
    }

    /// Handles the first frame, which decides the family.
    fn hear_first(&mut self, view: &mut View, config: &Config, header: &Header<'_>) -> Want {
        let refuse = |violation| Want::Refuse { request: header.id.clone(), violation };
        let Some(family) = Family::from_first(header) else {
            view.family = Family::from_stray(header);
            let kind: String = header.kind.chars().take(64).collect();
            return refuse(Violation::invalid(alloc::format!("`{kind}` before a session: open one first")));
        };
        view.family = family;
        let ReceivedRequest { id, request: asked, profile, .. } = match wire::read_request(family, header) {
            Ok(received) => received,
            Err(violation) => return refuse(violation),
        };
        let request = self.introduced.as_ref().map_or(id, |introduced| introduced.request.clone());
        match asked {
            Request::Handshake(HandshakeRequest::Open(open)) => self.open(view, config, request, open, profile),
            Request::Handshake(HandshakeRequest::Resume(claim)) => {
                Want::Opening(Opening { request, wish: Wish::Earlier(claim), verdict: self.vouched() })
            }
            Request::Handshake(HandshakeRequest::Authenticate(_)) | Request::Session(_) | Request::Command(_) => {
                Want::Nothing
            }
        }
    }

    fn open(&mut self, view: &mut View, config: &Config, request: WireId, open: Open, sender: Profile) -> Want {
        self.evidence.scheme = match &open.credential {
            Credential::Bearer(_) | Credential::Anonymous => None,
            Credential::Other { scheme, .. } => Some(scheme.clone()),
        };
        view.profile = match config.compat {
            Compat::Auto => sender,
            Compat::Off => Profile::Plain,
            Compat::Always(profile) => profile,
        };
        if let Some(lacking) = lacking(&open, *view, config) {
            let message = alloc::format!("`{lacking}` is required and not there");
            return Want::Refuse { request, violation: Violation::new(ErrorCode::Unimplemented, message) };
        }
        if let Err(violation) = self.evidence.check_certificate(&open, view.challenges()) {
            return Want::Refuse { request, violation };
        }
        if let Some(verdict) = self.vouched() {
            return Want::Opening(Opening::new(request, open, Some(verdict)));
        }
        match &open.credential {
            Credential::Anonymous if config.anonymous => Want::Opening(Opening::new(request, open, None)),
            Credential::Anonymous => {
                let denied = "anonymous sessions are not allowed here: send a bearer token";
                Want::Refuse { request, violation: Violation::new(ErrorCode::Unauthenticated, denied) }
            }
            Credential::Bearer(token) | Credential::Other { token, .. }
                if token.expose().is_empty() && view.challenges() =>
            {
                Want::Challenge { request, open }
            }
            Credential::Bearer(_) | Credential::Other { .. } => {
                let credential = open.credential.clone();
                Want::Judge { request, open, credential, nonce: None }
            }
        }
    }

    /// Handles a frame while a credential is awaited or judged.
    fn hear_early(&mut self, view: &View, header: &Header<'_>, all_said: bool) -> Want {
        if !view.passes_early_frames() {
            let violation = Violation::invalid("wait for the session to be accepted before sending more");
            return Want::Refuse { request: header.id.clone(), violation };
        }
        // A frame from before the challenge was sent cannot answer it.
        if let Phase::Challenged { .. } = self.phase
            && all_said
        {
            match wire::read_request(view.family, header) {
                Ok(ReceivedRequest {
                    id: request,
                    request: Request::Handshake(HandshakeRequest::Authenticate(proof)),
                    ..
                }) => {
                    return self.prove(request, proof);
                }
                Err(violation) if Subject::from_header(header).kind == RefusedKind::Proof => {
                    return Want::RefuseProof { request: header.id.clone(), violation };
                }
                Ok(_) | Err(_) => {}
            }
        }
        // Such a frame is dropped, and the operator is told once.
        if core::mem::replace(&mut self.passed_over, true) { Want::Nothing } else { Want::PassOver }
    }

    /// Handles the answer to a challenge.
    fn prove(&mut self, request: WireId, proof: ClientProof) -> Want {
        match core::mem::replace(&mut self.phase, Phase::Fresh) {
            Phase::Challenged { open, nonce } if proof.nonce.as_ref().is_none_or(|named| *named == nonce) => {
                let credential = proven(&open.credential, proof.response);
                Want::Judge { request, open, credential, nonce: Some(nonce) }
            }
            Phase::Challenged { open, nonce } => {
                self.phase = Phase::Challenged { open, nonce };
                Want::RefuseProof { request, violation: wrong_proof() }
            }
            phase @ (Phase::Fresh | Phase::Judging { .. }) => {
                self.phase = phase;
                Want::Nothing
            }
        }
    }

    /// Handles the verdict on a credential.
    pub(super) fn judged(&mut self, judged: OpId, verdict: Option<Verdict>) -> Want {
        match core::mem::replace(&mut self.phase, Phase::Fresh) {
            Phase::Judging { op, request, open, nonce } if op == judged => match (verdict, nonce) {
                (Some(verdict), _) => Want::Opening(Opening::new(request, open, Some(verdict))),
                (None, Some(nonce)) => {
                    self.phase = Phase::Challenged { open, nonce };
                    Want::RefuseProof { request, violation: wrong_proof() }
                }
                (None, None) => {
                    let denied = "the credential was not accepted";
                    Want::Refuse { request, violation: Violation::new(ErrorCode::Unauthenticated, denied) }
                }
            },
            phase @ (Phase::Fresh | Phase::Challenged { .. } | Phase::Judging { .. }) => {
                self.phase = phase;
                Want::Nothing
            }
        }
    }

    /// Handles that a credential could not be judged.
    pub(super) fn not_judged(&mut self, asked: OpId) -> Want {
        match core::mem::replace(&mut self.phase, Phase::Fresh) {
            Phase::Judging { op, request, .. } if op == asked => Want::Refuse { request, violation: not_judged() },
            phase @ (Phase::Fresh | Phase::Challenged { .. } | Phase::Judging { .. }) => {
                self.phase = phase;
                Want::Nothing
            }
        }
    }

    /// Notes that a credential is being judged.
    pub(super) fn judge(&mut self, op: OpId, request: WireId, open: Open, nonce: Option<String>) {
        self.phase = Phase::Judging { op, request, open, nonce };
    }

    /// Notes that a proof was asked for with a nonce; returns the scheme.
    pub(super) fn challenge(&mut self, open: Open, nonce: String) -> String {
        let scheme = match &open.credential {
            Credential::Bearer(_) | Credential::Anonymous => "bearer".to_string(),
            Credential::Other { scheme, .. } => scheme.clone(),
        };
        self.evidence.nonce = Some(nonce.clone());
        self.phase = Phase::Challenged { open, nonce };
        scheme
    }
}

/// The first feature that a client requires and this runtime does not have.
fn lacking(open: &Open, view: View, config: &Config) -> Option<String> {
    let ours = view.negotiated(open.required, config.features()).features;
    let missing = ours.lacks(open.required).map(|feature| feature.to_string());
    missing.or_else(|| open.required_unknown.clone())
}

/// A credential of the scheme that the peer opened with, and the proof that it sent.
fn proven(opened: &Credential, response: Secret) -> Credential {
    match opened {
        Credential::Bearer(_) | Credential::Anonymous => Credential::Bearer(response),
        Credential::Other { scheme, .. } => Credential::Other { scheme: scheme.clone(), token: response },
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use super::*;
    use crate::id::Principal;

    const OPEN: &str = r#"{"id":"m1","type":"session.open","payload":{"auth":{"scheme":"bearer"},"client":{"name":"c","version":"1"}}}"#;

    fn proof(nonce: &str) -> String {
        alloc::format!(
            r#"{{"id":"m2","type":"session.authenticate","payload":{{"response":"secret","nonce":"{nonce}"}}}}"#
        )
    }

    fn hear(handshake: &mut Handshake, view: &mut View, frame: &str) -> Want {
        let header = Header::read(frame).expect("an envelope");
        handshake.hear(view, &Config::new("t", "1"), &header, true)
    }

    /// A peer that opened without a proof and was challenged.
    fn challenged() -> (Handshake, View) {
        let (mut handshake, mut view) = (Handshake::new(Evidence::default(), None), View::before_handshake(false));
        let Want::Challenge { open, .. } = hear(&mut handshake, &mut view, OPEN) else { panic!("not asked for proof") };
        assert_eq!(handshake.challenge(open, "n1".into()), "bearer");
        (handshake, view)
    }

    #[test]
    fn only_the_nonce_that_was_given_is_answered() {
        let (mut handshake, mut view) = challenged();
        let wrong = hear(&mut handshake, &mut view, &proof("n2"));
        assert!(matches!(wrong, Want::RefuseProof { .. }), "{wrong:?}");
        let right = hear(&mut handshake, &mut view, &proof("n1"));
        let Want::Judge { nonce, credential: Credential::Bearer(token), .. } = right else { panic!("{right:?}") };
        assert_eq!((nonce.as_deref(), token.expose()), (Some("n1"), "secret"));
    }

    #[test]
    fn an_empty_token_is_asked_for_once_more_where_that_can_be_asked() {
        let empty = OPEN.replace(r#""scheme":"bearer""#, r#""scheme":"bearer","token":"""#);
        for (kind, asked) in [("session.open", true), ("session.hello", false)] {
            let (mut handshake, mut view) = (Handshake::new(Evidence::default(), None), View::before_handshake(false));
            let want = hear(&mut handshake, &mut view, &empty.replace("session.open", kind));
            assert_eq!(matches!(want, Want::Challenge { .. }), asked, "{kind}: {want:?}");
        }
    }

    #[test]
    fn a_wrong_proof_is_asked_for_again_and_a_wrong_credential_is_not() {
        let verdict = || Principal::new("alice").map(Verdict::from);
        for (nonce, again) in [(Some("n1"), true), (None, false)] {
            let (mut handshake, mut view) = challenged();
            let Want::Judge { request, open, .. } = hear(&mut handshake, &mut view, &proof("n1")) else { panic!() };
            assert!(!handshake.is_judged(), "nobody was asked");
            handshake.judge(OpId(7), request, open, nonce.map(String::from));
            assert!(handshake.is_judged());
            assert!(matches!(handshake.judged(OpId(6), verdict()), Want::Nothing), "the verdict on another one");
            let denied = handshake.judged(OpId(7), None);
            assert!(!handshake.is_judged());
            assert_eq!(matches!(denied, Want::RefuseProof { .. }), again, "{denied:?}");
            assert_eq!(matches!(denied, Want::Refuse { .. }), !again, "{denied:?}");
            assert!(matches!(handshake.judged(OpId(7), verdict()), Want::Nothing), "a verdict counts once");
        }
    }

    #[test]
    fn what_comes_while_a_credential_is_judged_is_passed_over_and_noted_once() {
        let (mut handshake, mut view) = challenged();
        let early = r#"{"id":"m3","type":"ping","payload":{}}"#;
        assert!(matches!(hear(&mut handshake, &mut view, early), Want::PassOver));
        assert!(matches!(hear(&mut handshake, &mut view, early), Want::Nothing));
    }

    #[test]
    fn whom_the_transport_vouches_for_is_let_in_unasked() {
        let alice = Principal::new("alice").expect("a name");
        let evidence = Evidence { peer: Some(Box::new(alice.clone().into())), ..Evidence::default() };
        let (mut handshake, mut view) = (Handshake::new(evidence, None), View::before_handshake(false));
        let want = hear(&mut handshake, &mut view, OPEN);
        let Want::Opening(Opening { wish: Wish::New(_), verdict, .. }) = want else { panic!("{want:?}") };
        assert_eq!(verdict, Some(Verdict::from(alice)));
    }

    /// The result of opening with `auth` on a channel with a certificate.
    fn certified(peer: Option<&str>, auth: &str, fingerprint: &str) -> Want {
        let evidence = Evidence {
            peer: peer.and_then(Principal::new).map(Verdict::from).map(Box::new),
            binding: Some(alloc::format!("sha256:{}", "0a".repeat(32))),
            ..Evidence::default()
        };
        let (mut handshake, mut view) = (Handshake::new(evidence, None), View::before_handshake(false));
        let open = alloc::format!(
            r#"{{"id":"m1","type":"session.open","payload":{{"auth":{auth},"client":{{"kind":"c","version":"1"{fingerprint}}}}}}}"#
        );
        hear(&mut handshake, &mut view, &open)
    }

    #[test]
    fn a_certificate_says_who_somebody_is_unless_a_token_does() {
        for (auth, by_certificate) in [
            (r#"{"scheme":"mtls"}"#, true),
            (r#"{"scheme":"none"}"#, true),
            (r#"{"scheme":"bearer","token":"t"}"#, false),
            (r#"{"scheme":"signed_jwt","token":"t"}"#, false),
        ] {
            let want = certified(Some("alice"), auth, "");
            assert_eq!(matches!(want, Want::Opening(_)), by_certificate, "{auth}: {want:?}");
            assert_eq!(matches!(want, Want::Judge { .. }), !by_certificate, "{auth}: {want:?}");
        }
        let unknown = certified(None, r#"{"scheme":"mtls"}"#, "");
        assert!(matches!(unknown, Want::Refuse { .. }), "nobody asks for more: {unknown:?}");
    }

    #[test]
    fn who_wants_to_be_known_by_a_certificate_and_is_not_is_told_what_to_do_in_both_families() {
        let shown = || Some(alloc::format!("sha256:{}", "0a".repeat(32)));
        for (binding, said) in [
            (None, "no client certificate was shown"),
            (Some("uid:1000".to_string()), "no client certificate was shown"),
            (shown(), "names nobody who is known here: have the operator name its holder"),
        ] {
            for (kind, client) in [("session.hello", "name"), ("session.open", "kind")] {
                let evidence = Evidence { binding: binding.clone(), ..Evidence::default() };
                let (mut handshake, mut view) = (Handshake::new(evidence, None), View::before_handshake(false));
                let open = alloc::format!(
                    r#"{{"id":"m1","type":"{kind}","payload":{{"auth":{{"scheme":"mtls"}},"client":{{"{client}":"c","version":"1"}}}}}}"#
                );
                let Want::Refuse { violation, .. } = hear(&mut handshake, &mut view, &open) else {
                    panic!("{kind} {binding:?}: it is not refused");
                };
                assert_eq!(violation.code, ErrorCode::Unauthenticated);
                assert!(violation.message.contains(said), "{kind} {binding:?}: {}", violation.message);
                assert!(violation.message.contains("bring another credential"), "{}", violation.message);
            }
        }
    }

    #[test]
    fn a_fingerprint_is_that_of_the_certificate_that_was_shown() {
        let mtls = r#"{"scheme":"mtls"}"#;
        let own = "0a".repeat(32);
        let said = |text: &str| certified(Some("alice"), mtls, &alloc::format!(r#","fingerprint":"{text}""#));
        let colons = alloc::vec!["0A"; 32].join(":");
        for right in [own.clone(), alloc::format!("sha256:{own}"), alloc::format!("SHA256:{colons}"), colons.clone()] {
            assert!(matches!(said(&right), Want::Opening(_)), "{right}");
        }
        for wrong in ["", "sha256:", "0b", &own[2..]] {
            assert!(matches!(said(wrong), Want::Refuse { .. }), "{wrong}");
        }
        let token = certified(Some("alice"), r#"{"scheme":"bearer","token":"t"}"#, r#","fingerprint":"0b""#);
        assert!(matches!(token, Want::Refuse { .. }), "whoever sends a token too: {token:?}");
    }
}
