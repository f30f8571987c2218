//! An authenticator of one's own (1.1 §6.1, RFC §8.2): bearer tokens `NAME.SIGNATURE`, which anybody with the key can
//! issue, so that the server keeps no list of them.
//!
//! ```text
//! cargo run -p arcp-blocking --example custom_authenticator
//! ```

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use arcp_blocking::{Client, Host, Server, ServerConfig};
use arcp_host::auth::Authenticator;
use arcp_host::registry::Registry;
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::json::decode_base64;
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{Config, Verdict};
use arcp_proto::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Knows what was signed with its key.
struct Signed(Hmac<Sha256>);

impl Signed {
    fn with_key(key: &[u8]) -> Result<Signed, Box<dyn Error>> {
        Ok(Signed(Hmac::new_from_slice(key)?))
    }

    fn token(&self, name: &str) -> Secret {
        let signature = self.0.clone().chain_update(name).finalize().into_bytes();
        Secret::new(format!("{name}.{}", STANDARD.encode(signature)))
    }
}

impl Authenticator for Signed {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let Credential::Bearer(token) = credential else {
            return None;
        };
        let (name, signature) = token.expose().rsplit_once('.')?;
        // In constant time.
        self.0.clone().chain_update(name).verify_slice(&decode_base64(signature)?).ok()?;
        Principal::new(name).map(Verdict::from)
    }

    fn is_instant(&self) -> bool {
        true
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let issuer = Signed::with_key(b"a key of 32 bytes from the vault")?;
    let forger = Signed::with_key(b"a key that somebody has made up.")?;
    let verifier = Signed::with_key(b"a key of 32 bytes from the vault")?;
    let host = Host::new(Config::new("example", "1.0.0"), Registry::default()).with_authenticator(verifier);
    let server = Server::bind(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host)?;
    let (url, stop) = (server.url(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let connect = |token| {
        Client::connect(url.parse()?, ClientConfig::new("example", "1.0.0", Credential::Bearer(token)))
            .map_err(Box::<dyn Error>::from)
    };

    let client = connect(issuer.token("alice"))?;
    println!("alice: session {}", client.welcome().session);
    let refused = connect(forger.token("alice")).err().ok_or("a forged token is refused")?;
    println!("somebody else: {refused}");

    drop(client);
    stop.shutdown();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
