//! Right, expired, not yet valid, for another runtime, by another key, revoked in
//! mid-session, over in mid-session, weaker than what is asked for: what each comes to
//! on the wire, and that nothing of a session is there afterwards.

use arcp_proto::id::SessionId;
use arcp_proto::wire::Family;
use serde_json::{Value, json};

use crate::desk::Given;
use crate::everywhere;
use crate::scheme::{self, Case, Revoked, Scheme};
use crate::transport::{Peer, Site};

pub const FAMILIES: [Family; 2] = [Family::Hello, Family::Open];

/// What a peer came to who wanted a session.
pub enum Came {
    /// A session: what it was told.
    In(Box<dyn Peer>, Value),
    /// It was asked for a proof.
    Asked(Box<dyn Peer>, Value),
    /// It was refused, with this code, and closed.
    Refused(String),
    /// Its connection did not come about.
    Unconnected,
}

pub fn frame(id: &str, kind: &str, payload: Value) -> String {
    json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload}).to_string()
}

/// What it sends first.
pub fn opening(family: Family, given: &Given) -> String {
    let mut client = json!({"name": "c", "kind": "c", "version": "1"});
    if let Some(fingerprint) = &given.fingerprint {
        client["fingerprint"] = json!(fingerprint);
    }
    let kind = match family {
        Family::Hello => "session.hello",
        Family::Open => "session.open",
    };
    frame("1", kind, json!({"auth": given.auth, "client": client}))
}

/// Comes to a server and says so.
pub fn come(site: &Site<'_>, family: Family, given: &Given) -> Came {
    let Ok(mut peer) = site.dial(given) else {
        return Came::Unconnected;
    };
    peer.say(&opening(family, given));
    let Some(answer) = peer.hear() else {
        return Came::Unconnected;
    };
    match answer["type"].as_str().expect("a type") {
        "session.welcome" | "session.accepted" => Came::In(peer, answer),
        "session.challenge" => Came::Asked(peer, answer),
        "session.error" | "session.rejected" => {
            assert_eq!(peer.hear(), None, "who is refused is closed");
            Came::Refused(code(&answer))
        }
        other => panic!("{other}: {answer}"),
    }
}

pub fn code(frame: &Value) -> String {
    frame["payload"]["code"].as_str().unwrap_or_else(|| panic!("a code: {frame}")).to_string()
}

/// The session that an acceptance tells of.
fn id(told: &Value) -> SessionId {
    let id = told["session_id"].as_str().or(told["payload"]["session_id"].as_str());
    id.and_then(SessionId::parse).expect("an id")
}

/// A session, which has to come about.
pub fn session(site: &Site<'_>, family: Family, given: &Given) -> (Box<dyn Peer>, Value) {
    match come(site, family, given) {
        Came::In(peer, told) => (peer, told),
        Came::Asked(_, told) => panic!("{family:?} {given:?}: {told}"),
        Came::Refused(code) => panic!("{family:?} {given:?}: {code}"),
        Came::Unconnected => panic!("{family:?} {given:?}: no connection"),
    }
}

/// A session that is asked something.
fn lives(peer: &mut dyn Peer, family: Family) {
    let (ping, pong) = match family {
        Family::Hello => ("session.ping", "session.pong"),
        Family::Open => ("ping", "pong"),
    };
    peer.say(&frame("p", ping, json!({"nonce": "n"})));
    while peer.hear().expect("an answer")["type"] != pong {}
}

/// Leaves for good.
fn leave(mut peer: Box<dyn Peer>) {
    peer.say(&frame("c", "session.close", json!({})));
    while peer.hear().is_some() {}
}

/// The code by which a session was taken; its connection is closed then.
fn taken(peer: &mut dyn Peer) -> String {
    loop {
        let told = peer.hear().expect("why it ends");
        if told["type"] == "session.error" || told["type"] == "session.evicted" {
            assert_eq!(peer.hear(), None, "closed");
            return code(&told);
        }
    }
}

/// Nobody comes in by this, and nothing comes of it.
fn refused(site: &Site<'_>, what: &str, given: &Given, no_connection: bool) {
    // In hello nobody names a fingerprint.
    let families = FAMILIES.into_iter().filter(|family| given.fingerprint.is_none() || *family == Family::Open);
    for family in families {
        let before = (site.opened(), site.sessions());
        let came = come(site, family, given);
        let what = format!("{:?} {family:?}, {what}", site.transport);
        match came {
            Came::In(..) => panic!("{what}: it is let in"),
            Came::Asked(_, told) => panic!("{what}: {told}"),
            Came::Refused(code) => assert_eq!((code.as_str(), no_connection), ("UNAUTHENTICATED", false), "{what}"),
            Came::Unconnected => assert!(no_connection, "{what}: no connection"),
        }
        assert_eq!((site.opened(), site.sessions()), before, "{what}: a session");
    }
}

/// Every case of a scheme, over every transport and adapter.
fn play(scheme: &'static Scheme) {
    everywhere(scheme, |site| {
        let desk = site.desk;
        let [alice, _] = (scheme.right)(desk);
        for family in FAMILIES {
            let (mut peer, _) = session(site, family, &alice);
            lives(&mut *peer, family);
            leave(peer);
        }
        let wrong = [
            ("expired", scheme.expired),
            ("not yet valid", scheme.early),
            ("for another runtime", scheme.other_audience),
            ("by another key", scheme.other_key),
        ];
        for (what, case) in wrong {
            if let Case::Of(given) = case {
                // A certificate that does not count is no reason to go on.
                refused(site, what, &given(desk), scheme.secured);
            }
        }
        for (what, given) in (scheme.weaker)(desk, site.transport) {
            refused(site, what, &given, false);
        }
        if let Case::Of(given) = scheme.brief {
            let given = given(desk);
            let sessions = FAMILIES.map(|family| session(site, family, &given));
            for (mut peer, told) in sessions {
                assert_eq!(taken(&mut *peer), "LEASE_EXPIRED", "{:?}", site.transport);
                site.forgets(id(&told));
            }
            refused(site, "over in mid-session", &given, scheme.secured);
        }
        evicted(site, &alice);
        revoked(scheme, site, &alice);
    });
}

/// An operator takes a session from its client, which comes in again.
fn evicted(site: &Site<'_>, alice: &Given) {
    // The runtime of a pipe has no operator but its own program.
    let Some(handle) = site.handle() else { return };
    for family in FAMILIES {
        let (mut peer, told) = session(site, family, alice);
        handle.end_session(id(&told), Some("a new laptop".to_string()));
        assert_eq!(taken(&mut *peer), "CANCELLED", "{:?} {family:?}", site.transport);
        site.forgets(id(&told));
    }
}

/// What let somebody in is taken back meanwhile.
fn revoked(scheme: &Scheme, site: &Site<'_>, alice: &Given) {
    if let Revoked::Never(_) = scheme.revoked {
        return;
    }
    let sessions = FAMILIES.map(|family| (family, session(site, family, alice)));
    match scheme.revoked {
        Revoked::Taken(take) => {
            take(site.desk, site);
            for (family, (mut peer, told)) in sessions {
                assert_eq!(taken(&mut *peer), "UNAUTHENTICATED", "{:?} {family:?}", site.transport);
                site.forgets(id(&told));
            }
        }
        Revoked::Kept(take, _) => {
            take(site.desk);
            // It is read again within a second.
            arcp_tests::until::until("it counts no more", || match come(site, Family::Hello, alice) {
                Came::In(peer, _) => {
                    leave(peer);
                    None
                }
                Came::Refused(_) => Some(()),
                Came::Asked(..) | Came::Unconnected => panic!("neither"),
            });
            for (family, (mut peer, _)) in sessions {
                lives(&mut *peer, family);
                leave(peer);
            }
        }
        Revoked::Never(_) => {}
    }
    refused(site, "revoked", alice, scheme.secured);
}

#[test]
fn a_token_of_the_command_line_is_its_principals_over_every_transport() {
    play(&scheme::TOKEN);
}

#[test]
fn a_token_of_a_file_counts_until_it_expires_or_is_taken_out() {
    play(&scheme::TOKEN_FILE);
}

#[test]
fn a_signed_jwt_counts_for_this_runtime_and_for_its_time_over_every_transport() {
    play(&scheme::SIGNED_JWT);
}

#[test]
fn a_delegation_token_counts_for_this_runtime_and_for_its_time_over_every_transport() {
    play(&scheme::DELEGATION);
}

#[test]
fn an_access_token_counts_as_long_as_its_provider_says_so_over_every_transport() {
    play(&scheme::INTROSPECTED);
}

#[test]
fn an_access_token_that_is_a_jwt_counts_by_the_keys_of_its_provider_over_every_transport() {
    play(&scheme::OAUTH2_KEYS);
}

#[test]
fn a_certificate_counts_until_it_expires_or_is_revoked_and_its_client_is_told() {
    play(&scheme::MTLS);
}

#[test]
fn without_a_credential_nobody_comes_in_but_where_that_is_said() {
    play(&scheme::NONE);
}
