//! The credentials with which clients can open sessions at `arcp serve`.

use std::collections::{BTreeMap, BTreeSet};

use arcp_blocking::Host;
use arcp_host::auth::{
    Authenticators, BearerTokens, CredentialFileError, DelegationKey, DelegationTokens, KeyTimes, OAuth2, SignedJwt,
    TokenFile,
};
use arcp_host::server::UNIX;
use arcp_host::server_log::log;
use arcp_proto::id::{Issuer, Principal};
use arcp_proto::secret::Secret;

use crate::args::Serve;
use crate::exit::Failure;
use crate::places;
use crate::serve::LOCAL;

/// Every accepted credential.
#[derive(Debug)]
pub struct Credentials {
    /// The tokens of the command line, or the generated one.
    tokens: BearerTokens,
    file: Option<TokenFile>,
    jwt: Option<SignedJwt>,
    delegation: Option<DelegationTokens>,
    oauth2: Option<OAuth2>,
    /// The principals of the tokens.
    holders: BTreeSet<Principal>,
    /// The issuers whose JWTs and access tokens are accepted.
    issuers: BTreeSet<Issuer>,
    /// Whether client certificates are accepted.
    certified: bool,
}

impl Credentials {
    /// The credentials that the operator configured.
    pub fn of(args: &Serve) -> Result<Credentials, Failure> {
        let (tokens, mut holders) = given(args)?;
        let file = args.access.token_file.as_deref().map(TokenFile::open).transpose().map_err(|error| {
            Failure::usage(format!("--tokens: {error} (`arcp token add NAME --tokens FILE` makes such a file)"))
        })?;
        holders.extend(file.iter().flat_map(TokenFile::entries).map(|entry| entry.principal));
        // Clap requires an audience for the options that need one.
        let audience = args.access.audience.as_deref().unwrap_or_default();
        if audience.is_empty() && args.access.audience.is_some() {
            return Err(Failure::usage("--audience: it is empty: name this runtime, by its URL perhaps"));
        }
        let jwt = args.access.jwt_issuer.as_ref().and_then(|issuer| signed(args, issuer, audience));
        let jwt = jwt.transpose().map_err(|error| Failure::usage(format!("--jwt-keys: {error}")))?;
        let oauth2 = args.access.access_tokens.judge(audience)?;
        let mut issuers: BTreeSet<Issuer> =
            args.access.jwt_issuer.iter().chain(args.access.access_tokens.issuer()).cloned().collect();
        let key = args.access.delegation_key.as_deref().map(DelegationKey::read).transpose();
        let key = key.map_err(|error| Failure::usage(format!("--delegation-key: {error}")))?;
        let delegation = key.map(|key| DelegationTokens::new(key, audience));
        let certified = args.tls.tls_client_ca.is_some();
        if args.listening.stdio || args.listening.listen.iter().any(places::knows_users) {
            holders.extend(Principal::new(LOCAL));
            issuers.extend(Issuer::new(UNIX));
        }
        Ok(Credentials { tokens, file, jwt, delegation, oauth2, holders, issuers, certified })
    }

    /// Whether no credential is accepted.
    pub fn is_empty(&self) -> bool {
        let Credentials { tokens, file, jwt, delegation, oauth2, certified, .. } = self;
        let is_signed = jwt.is_some() || delegation.is_some();
        tokens.is_empty() && file.is_none() && !is_signed && oauth2.is_none() && !certified
    }

    /// Adds a token.
    pub fn add(&mut self, token: &str, principal: Principal) {
        self.tokens.add(&Secret::new(token.to_string()), principal);
    }

    /// The principals of these names; each must be one that some credential can give.
    pub fn known(&self, option: &str, names: &[String]) -> Result<BTreeSet<Principal>, Failure> {
        let named = names.iter().map(|name| {
            let can_come_in = |principal: &Principal| {
                self.certified
                    || self.holders.contains(principal)
                    || principal.issuer().is_some_and(|issuer| self.issuers.contains(issuer))
            };
            let principal = name.parse::<Principal>().ok().filter(can_come_in);
            principal.ok_or_else(|| {
                let mend = format!("give --token TOKEN={name}, or add it to --tokens FILE");
                Failure::usage(format!("{option} {name}: nobody has that name: {mend}"))
            })
        });
        named.collect()
    }

    /// A host that accepts these credentials.
    pub fn judge(self, mut host: Host) -> Host {
        let Credentials { tokens, file, jwt, delegation, oauth2, holders: _, issuers: _, certified: _ } = self;
        let mut judges = Authenticators::default().with(tokens);
        if let Some(file) = file {
            host = host.with_credentials_from(file.clone());
            judges = judges.with(file);
        }
        if let Some(jwt) = jwt {
            host = host.with_credentials_from(jwt.clone());
            judges = judges.with(jwt);
        }
        if let Some(delegation) = delegation {
            judges = judges.with(delegation);
        }
        // The provider comes last: it is not sent what is known here.
        if let Some(oauth2) = oauth2 {
            host = host.with_credentials_from(oauth2.clone());
            judges = judges.with(oauth2);
        }
        host.with_authenticator(judges)
    }
}

/// The authenticator for JWTs of an issuer, with the keys of a file or of a URL.
fn signed(args: &Serve, issuer: &Issuer, audience: &str) -> Option<Result<SignedJwt, CredentialFileError>> {
    let issuer = issuer.clone();
    match (&args.access.jwt_keys, &args.access.jwt_jwks) {
        (Some(file), _) => Some(SignedJwt::new(issuer, audience, file)),
        (None, Some(url)) => Some(Ok(SignedJwt::with_keys_at(issuer, audience, url.clone(), KeyTimes::default()))),
        (None, None) => None,
    }
}

/// Warns about insecure use of the options.
pub fn warn(args: &Serve) {
    let on_command_line = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy().into_owned();
        ["--token", "--bearer"].iter().any(|option| arg.split('=').next() == Some(option))
    };
    // Tokens in a configuration file are as secret as the file.
    let given = !args.access.tokens.is_empty() || args.access.bearer.is_some();
    if given && std::env::args_os().any(on_command_line) {
        log(format_args!(
            "arcp: everybody on this machine can read the tokens of a command line: keep them in a file \
             (`arcp token add`, then --tokens FILE)"
        ));
    }
}

/// The tokens of the command line, and their principals.
fn given(args: &Serve) -> Result<(BearerTokens, BTreeSet<Principal>), Failure> {
    let mut tokens = BearerTokens::default();
    let given = args.access.tokens.iter().map(|pair| {
        // The token itself is not repeated on the terminal.
        pair.rsplit_once('=').ok_or_else(|| Failure::usage("--token: expected TOKEN=NAME, such as abc123=me"))
    });
    let single = args.access.bearer.as_deref().zip(args.access.principal.as_deref()).map(Ok);
    let (mut owners, mut holders) = (BTreeMap::new(), BTreeSet::new());
    for pair in given.chain(single) {
        let (token, name) = pair?;
        if token.is_empty() {
            return Err(Failure::usage(format!("--token: the token of `{name}` is empty: give TOKEN={name}")));
        }
        let unusable = "expected TOKEN=NAME, and the name has 1 to 256 bytes";
        let principal: Principal = name.parse().map_err(|_| Failure::usage(format!("--token: {unusable}")))?;
        if let Some(other) = owners.insert(token, name) {
            let message =
                format!("--token: the same token is given for `{other}` and `{name}`: each needs one of its own");
            return Err(Failure::usage(message));
        }
        tokens.add(&Secret::new(token.to_string()), principal.clone());
        holders.insert(principal);
    }
    Ok((tokens, holders))
}
