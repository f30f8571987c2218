//! Keys of a LiteLLM proxy: a stub on this machine that answers as the proxy documents, and one that misbehaves. All
//! keys that it issues are deleted in the end.

use std::sync::Arc;

use arcp_host::client::Trust;
use arcp_host::provisioner::Provisioner as _;
use arcp_host::provisioner::litellm::{LiteLlm, read_master_key};
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_proto::id::{JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::credential::{CredentialOrder, Renewal, Revocation};
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use arcp_tests::kept::Folder;
use arcp_tests::model_proxy::{Fault, MASTER, Proxy};
use arcp_tests::raw::credentials_payload;
use arcp_tests::server::{self, Running};
use serde_json::json;

fn provisioner(proxy: &Proxy) -> LiteLlm {
    LiteLlm::new(&proxy.url, Secret::new(MASTER.into()), &Trust::System).expect("an address of this machine")
}

fn order(lease: &str) -> CredentialOrder {
    CredentialOrder {
        job: JobId::from_ulid(ulid::Ulid::from_parts(1, 1)),
        principal: Principal::new("alice").expect("a name"),
        agent: AgentRef::parse("coder").expect("a name"),
        lease: Json::parse(lease).expect("JSON"),
        expires_at: None,
        renews: None,
    }
}

const LEASE: &str = r#"{"model.use": ["gpt-*"], "cost.budget": ["USD:2.5"]}"#;

#[test]
fn a_key_is_for_the_models_the_budget_and_the_time_of_its_lease() {
    let proxy = Proxy::start();
    let provisioner = provisioner(&proxy);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let end = UtcMs(u64::try_from(now.as_millis()).expect("it fits") + 600_500);
    let order = CredentialOrder { expires_at: Some(end), ..order(LEASE) };
    let issued = provisioner.issue(&order).expect("a key");
    let job = order.job;
    let (path, asked) = proxy.state().asked.last().cloned().expect("it was asked");
    assert_eq!(path, "/key/generate");
    assert_eq!(asked["models"], json!(["gpt-4", "gpt-3"]), "neither patterns nor names for all, which mean more there");
    assert_eq!(asked["max_budget"], json!(2.5));
    assert_eq!(asked["key_alias"], format!("arcp-{job}-a"));
    assert_eq!(asked["metadata"]["arcp_job"], job.to_string());
    let seconds: u64 =
        asked["duration"].as_str().and_then(|text| text.strip_suffix('s')).expect("seconds").parse().expect("a number");
    assert!((590..=600).contains(&seconds), "{seconds}");
    assert_eq!((issued[0].value.expose(), issued[0].scheme.as_str()), ("sk-litellm-1", "bearer"));
    assert_eq!(issued[0].endpoint, format!("{}/v1", proxy.url));
    provisioner.revoke(job, &Revocation::All).expect("revoked");
    provisioner.revoke(job, &Revocation::All).expect("what is not there is revoked");
    assert!(proxy.state().keys.is_empty());
}

#[test]
fn what_a_proxy_cannot_bound_it_does_not_issue() {
    let proxy = Proxy::start();
    let provisioner = provisioner(&proxy);
    for (lease, why) in [
        (r#"{"model.use": ["mistral-*"]}"#, "no model that the lease grants"),
        (r#"{"model.use": ["all-proxy-models"]}"#, "no model that the lease grants"),
        (r#"{"model.use": ["*"], "cost.budget": ["EUR:5"]}"#, "USD only"),
        (r#"{"model.use": ["*"], "cost.budget": ["USD:0"]}"#, "nothing is left"),
    ] {
        let error = provisioner.issue(&order(lease)).expect_err(lease).to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(proxy.state().issued, 0);
}

#[test]
fn whatever_a_proxy_does_after_it_issued_a_key_that_is_found_and_deleted() {
    use Fault::{Cut, Garbage, Huge, Redirect, Status500, TooLong, TooShort};
    for fault in [Status500, Cut, Garbage, TooShort, TooLong, Redirect, Huge] {
        let proxy = Proxy::start();
        proxy.state().fault = Some(fault);
        let order = order(LEASE);
        let error = provisioner(&proxy).issue(&order).expect_err("nothing usable came").to_string();
        assert!(!error.contains("sk-"), "{fault:?}: {error}");
        assert_eq!(proxy.state().keys.len(), 1, "{fault:?}: it has issued all the same");
        assert!(proxy.state().asked.iter().all(|(path, _)| path != "/elsewhere"), "nobody is sent elsewhere");
        // Another run knows the job alone.
        provisioner(&proxy).revoke(order.job, &Revocation::All).expect("revoked");
        assert!(proxy.state().keys.is_empty(), "{fault:?}");
    }
}

#[test]
fn a_proxy_that_has_nothing_left_to_spend_says_so_by_one_word_and_quotes_nothing() {
    let proxy = Proxy::start();
    proxy.state().fault = Some(Fault::OverBudget);
    let order = order(LEASE);
    let error = provisioner(&proxy).issue(&order).expect_err("nothing is left");
    assert!(error.is_exhausted() && !error.to_string().contains("sk-"), "{error}");
    provisioner(&proxy).revoke(order.job, &Revocation::All).expect("revoked");
    proxy.state().fault = Some(Fault::Status500);
    assert!(!provisioner(&proxy).issue(&order).expect_err("it fails").is_exhausted());
}

#[test]
fn a_proxy_that_only_says_that_it_deletes_is_not_believed() {
    let proxy = Proxy::start();
    let (provisioner, order) = (provisioner(&proxy), order(LEASE));
    provisioner.issue(&order).expect("a key");
    proxy.state().keeps = true;
    let error = provisioner.revoke(order.job, &Revocation::All).expect_err("it is still there").to_string();
    assert!(error.contains("has the key still"), "{error}");
    proxy.state().keeps = false;
    provisioner.revoke(order.job, &Revocation::All).expect("revoked");
    // One of its values is gone only where nobody finds it.
    let value = provisioner.issue(&order).expect("a key").remove(0).value;
    let what = Revocation::Value { id: format!("litellm-{}", order.job), value };
    proxy.state().cannot_delete = true;
    provisioner.revoke(order.job, &what).expect_err("it counts on");
    proxy.state().cannot_delete = false;
    provisioner.revoke(order.job, &what).expect("revoked");
    assert!(proxy.state().keys.is_empty());
    // Where nobody answers, nothing is revoked.
    let gone = LiteLlm::new("http://127.0.0.1:1", Secret::new(MASTER.into()), &Trust::System).expect("an address");
    assert!(gone.revoke(order.job, &Revocation::All).is_err());
}

#[test]
fn a_renewed_key_may_spend_what_the_proxy_has_left_of_the_earlier_one() {
    let proxy = Proxy::start();
    let (provisioner, mut order) = (provisioner(&proxy), order(LEASE));
    let mut current = provisioner.issue(&order).expect("a key").remove(0).value;
    for (n, left) in [(2, 1.5), (3, 0.5)] {
        proxy.state().keys.get_mut(current.expose()).expect("it counts")["spend"] = json!(1.0);
        let renewal = Renewal { id: format!("litellm-{}", order.job), current: current.clone(), value: None };
        order.renews = Some(Box::new(renewal.clone()));
        let renewed = provisioner.renew(&order, &renewal).expect("another value");
        assert_eq!(proxy.state().keys.len(), 2, "the earlier one counts until it is revoked");
        assert_eq!(proxy.state().keys[renewed.value.expose()]["max_budget"], json!(left));
        let what = Revocation::Value { id: renewal.id.clone(), value: current };
        provisioner.revoke(order.job, &what).expect("revoked");
        provisioner.revoke(order.job, &what).expect("it is gone");
        assert_eq!(proxy.state().keys.keys().collect::<Vec<_>>(), [&format!("sk-litellm-{n}")]);
        current = renewed.value;
    }
    // An answer that was lost leaves a key under the other name: it goes before the next.
    let renewal = Renewal { id: format!("litellm-{}", order.job), current, value: None };
    proxy.state().fault = Some(Fault::Cut);
    provisioner.renew(&order, &renewal).expect_err("nothing came");
    assert_eq!(proxy.state().keys.len(), 2);
    proxy.state().fault = None;
    let renewed = provisioner.renew(&order, &renewal).expect("another value");
    assert_eq!(proxy.state().keys.len(), 2);
    assert!(proxy.state().keys.contains_key(renewed.value.expose()));
    provisioner.revoke(order.job, &Revocation::All).expect("revoked");
    assert!(proxy.state().keys.is_empty());
}

#[test]
fn the_master_key_goes_nowhere_without_tls_and_is_shown_nowhere() {
    let key = || Secret::new(MASTER.into());
    for url in ["http://models.example", "ftp://127.0.0.1", "models", "https://", "http://me:secret@127.0.0.1"] {
        let error = LiteLlm::new(url, key(), &Trust::System).expect_err(url).to_string();
        assert!(error.contains("no address of a LiteLLM proxy") && !error.contains("secret"), "{error}");
        let shown = url.rsplit('@').next().expect("it has an end");
        assert!(error.contains(shown), "{error}");
    }
    let proxy = Proxy::start();
    let shown = format!("{:?}", provisioner(&proxy));
    assert!(shown.contains("127.0.0.1") && !shown.contains(MASTER), "{shown}");
    assert!(LiteLlm::new(&proxy.url, Secret::new("two\nlines".into()), &Trust::System).is_err());
    let folder = Folder::new("master-key");
    let file = folder.0.join("key");
    std::fs::write(&file, format!("{MASTER}\n")).expect("written");
    let chmod = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode).expect("its mode");
    };
    chmod(0o644);
    assert!(read_master_key(&file).expect_err("others may read it").to_string().contains("chmod 600"));
    chmod(0o600);
    assert_eq!(read_master_key(&file).expect("a key").expose(), MASTER);
}

#[test]
fn a_job_has_a_key_of_the_proxy_from_its_acceptance_to_its_end() {
    let proxy = Proxy::start();
    let folder = Folder::new("litellm");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let host = Running::host(Box::new(store), &[], |_| {});
    let server = Running::serve(host.with_provisioner(Arc::new(provisioner(&proxy))));
    let mut socket = server.websocket();
    server::send(&mut socket, "h", "session.hello", credentials_payload("tok-b"));
    server::expect(&mut socket, "session.welcome");
    server::send(&mut socket, "s", "job.submit", json!({"agent": "creds", "lease_request": {"model.use": ["gpt-*"]}}));
    let accepted = server::expect(&mut socket, "job.accepted");
    assert_eq!(accepted["payload"]["credentials"][0]["value"], "sk-litellm-1");
    server::expect(&mut socket, "job.result");
    assert!(proxy.state().keys.is_empty(), "it ended before it was revoked");
}
