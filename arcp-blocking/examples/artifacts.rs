//! One client stores bytes with the runtime, and another client of the same principal fetches them (RFC §16).
//!
//! ```text
//! cargo run -p arcp-blocking --example artifacts
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use arcp_blocking::{Client, ClientError, Host, Server, ServerConfig, artifacts};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::error::ErrorCode;
use arcp_proto::id::Principal;
use arcp_proto::model::artifact::{BlobDigest, PutArtifact};
use arcp_proto::model::request::Credential;
use arcp_proto::model::upload::ArtifactQuery;
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new("example", "1.0.0");
    // Kept for a day where a client does not say, and in memory: `Host::with_blobs` keeps them in files.
    config.timing.artifact_retention = Some(Duration::from_secs(24 * 3600));
    let (mut tokens, token) = (BearerTokens::default(), Secret::new("a-token".into()));
    tokens.add(&token, Principal::new("alice").ok_or("a principal has a name")?);
    let host = Host::new(config, Registry::default()).with_authenticator(tokens);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let connect = || {
        let config = ClientConfig::new("example", "1.0.0", Credential::Bearer(token.clone()));
        Ok::<_, Box<dyn Error>>(Client::connect(url.parse()?, config)?)
    };

    let report = b"what was found".to_vec();
    // Who says the digest has it compared with what arrives.
    let digest = Some(BlobDigest::of(&report));
    let put = PutArtifact { digest, ..PutArtifact::new("text/plain".parse()?, report.clone()) };
    let kept = connect()?.put_artifact(put)?;
    println!("{} of {} bytes is kept until {}: {}", kept.media_type.as_str(), kept.size, kept.expires_at, kept.uri());

    let other = connect()?;
    let fetched = other.fetch_artifact(kept.id.clone())?;
    println!("fetched: {}", String::from_utf8_lossy(&fetched.data));
    assert_eq!((fetched.data, fetched.artifact.digest), (report, kept.digest));

    // What does not fit a frame goes in parts, and is fetched range by range.
    let mut large = std::io::Cursor::new(vec![b'x'; 2 << 20]);
    let terms = artifacts::terms_of("application/x-large".parse()?, &mut large)?;
    let in_parts = artifacts::upload(&other, terms, &mut large)?;
    let mut came = Vec::new();
    artifacts::stream(&other, &in_parts.id, &mut came)?;
    assert_eq!(came, large.into_inner());
    let listed = artifacts::list(&other, ArtifactQuery::default())?.artifacts;
    println!("{} artifacts are kept; the larger has {} bytes", listed.len(), in_parts.size);
    assert_eq!(listed.len(), 2);

    other.release_artifact(kept.id.clone())?;
    match other.fetch_artifact(kept.id) {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, ErrorCode::JobNotFound),
        fetched => return Err(format!("it is gone: {fetched:?}").into()),
    }

    drop(other);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
