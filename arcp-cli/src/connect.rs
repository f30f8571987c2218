//! Chooses the runtime that a command is for, and opens a session with it.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use arcp_blocking::{Client, ClientError, Identity, Security, Target, Trust};
use arcp_host::tls::KnownRuntimes;
use arcp_host::unix;
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::model::feature::{Feature, Features};
use arcp_proto::model::request::{Credential, ResumeClaim};
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;

use crate::args::Where;
use crate::bridge;
use crate::exit::{Exit, Failure};
use crate::login;
use crate::runtimes::Runtime;
use crate::state::{KNOWN_RUNTIMES, State, Submission};

/// How our client begins the message for a session that the runtime refuses only for the moment.
const REFUSED_FOR_NOW: &str = "the session was refused for now: ";
/// How long to wait for a runtime that may be starting.
const STARTING: Duration = Duration::from_secs(2);
/// How long to try to connect, to see whether somebody listens.
const LOOKING: Duration = Duration::from_secs(5);
/// The time between two looks for a runtime.
const LOOK: Duration = Duration::from_millis(20);

/// A runtime, and how to connect to it.
#[derive(Debug)]
pub struct Chosen {
    /// Where the runtime is.
    pub target: Target,
    token: Option<String>,
    /// Whether the token is that of a login.
    logged_in: bool,
    security: Security,
    family: Family,
    give_up_after: Duration,
}

impl Chosen {
    /// The named runtime, or else the one that was started last on this machine.
    pub fn of(place: &Where) -> Result<Chosen, Failure> {
        Chosen::among(place, newest)
    }

    /// As [`Chosen::of`], but waits for a runtime that is starting.
    pub fn of_starting(place: &Where) -> Result<Chosen, Failure> {
        Chosen::among(place, || {
            let asked = Instant::now();
            loop {
                match newest() {
                    None if asked.elapsed() < STARTING => std::thread::sleep(LOOK),
                    found => return found,
                }
            }
        })
    }

    fn among(place: &Where, newest: impl Fn() -> Option<Runtime>) -> Result<Chosen, Failure> {
        let (target, known) = match &place.url {
            Some(target) => (target.clone(), State::of_user().and_then(|state| Runtime::at(&state, target))),
            None => found(newest()).map(|(target, found)| (target, Some(found)))?,
        };
        let own = place.ca.is_none().then(|| known.as_ref().map(trust_of)).flatten();
        let trust = own.or_else(|| place.ca.clone().map(Trust::Authorities)).unwrap_or_default();
        let identity = place.cert.clone().zip(place.cert_key.clone());
        let identity = identity.map(|(certificates, key)| Identity { certificates, key });
        // A client certificate identifies the client: the token of a known runtime is not used then.
        let known = known.filter(|_| identity.is_none());
        let unnamed = place.token.is_none() && identity.is_none();
        let login = unnamed.then(State::of_user).flatten().map(|state| login::access_token(&state, &target));
        let login = login.transpose()?.flatten().map(|token| token.expose().to_string());
        let logged_in = login.is_some();
        let token = place.token.clone().or(login).or_else(|| known.and_then(|runtime| runtime.token));
        let known_runtimes = State::of_user().map(|state| state.known_runtimes());
        let security = Security { trust, insecure: place.insecure, identity, known_runtimes };
        Ok(Chosen { target, token, logged_in, security, family: place.family, give_up_after: place.give_up_after })
    }

    /// The given runtime, if its token is known.
    pub fn of_runtime(runtime: &Runtime) -> Option<Chosen> {
        let target = target_of(runtime)?;
        // Over a Unix socket, the runtime recognises its own user without a token.
        let token = runtime.token.clone().map(Some).or_else(|| matches!(target, Target::Unix(_)).then_some(None))?;
        let security = Security { trust: trust_of(runtime), insecure: true, ..Security::default() };
        Some(Chosen { target, token, logged_in: false, security, family: Family::default(), give_up_after: STARTING })
    }

    /// Checks that a later command can reach a job that is submitted there.
    pub fn can_be_left(&self) -> Result<(), &'static str> {
        match self.target {
            Target::Program(_) => Err("the runtime of an exec: URL ends with this command, and the job with it: stay"),
            Target::WebSocket { .. } | Target::Http2 { .. } | Target::Quic { .. } if self.token.is_none() => {
                Err("nobody could ever watch a job that was submitted without a token: give --token, or set ARCP_TOKEN")
            }
            // Here the same user is the same principal in a later command.
            Target::WebSocket { .. } | Target::Http2 { .. } | Target::Quic { .. } | Target::Unix(_) => Ok(()),
        }
    }

    /// The counts of the runtime as JSON, if the principal of the token may read them.
    pub fn stats(&self, patience: Duration) -> Option<String> {
        let token = Secret::new(self.token.clone()?);
        arcp_blocking::client::stats(&self.counts_at()?, &self.security, token, patience).ok()?
    }

    /// Where the runtime serves its counts: this target if it serves HTTP, otherwise another target of the same
    /// runtime that does.
    fn counts_at(&self) -> Option<Target> {
        let has_pages = |target: &Target| matches!(target, Target::WebSocket { .. });
        if has_pages(&self.target) {
            return Some(self.target.clone());
        }
        let own = State::of_user().and_then(|state| Runtime::at(&state, &self.target))?;
        own.places().into_iter().filter_map(|url| url.parse().ok()).find(has_pages)
    }

    /// The URL of the runtime.
    pub fn url(&self) -> String {
        self.target.to_string()
    }

    /// Opens a session.
    pub fn connect(&self) -> Result<Client, Failure> {
        self.open(None, self.patience())
    }

    /// Opens a session that is told the details of agents and the inputs that they take.
    pub fn connect_for_agents(&self) -> Result<Client, Failure> {
        self.open_with(None, self.patience(), |features| features.with(Feature::AgentDetails))
    }

    /// Opens a session that can hand jobs over, or take them.
    pub fn connect_for_handoff(&self) -> Result<Client, Failure> {
        let client = self.open_with(None, self.patience(), |features| features.with(Feature::AgentHandoff))?;
        if client.welcome().features.has(Feature::AgentHandoff) {
            return Ok(client);
        }
        Err(Failure::new(Exit::Failed, format!("{} hands no jobs over: it has no word for it", self.url())))
    }

    /// Opens a session that is sent the credentials of the jobs that it submits.
    pub fn connect_for_credentials(&self) -> Result<Client, Failure> {
        self.open_with(None, self.patience(), |features| features.with(Feature::ProvisionedCredentials))
    }

    /// Opens a session; gives up after this time.
    pub fn connect_within(&self, patience: Duration) -> Result<Client, Failure> {
        self.open(None, patience)
    }

    /// Resumes the session of a submission if it was left open in this family, otherwise opens a new one.
    pub fn connect_as(&self, submission: &Submission) -> Result<Client, Failure> {
        let left = submission.session.as_ref().filter(|left| left.family == self.family);
        self.open(left.map(|left| left.claim()), self.patience())
    }

    fn open(&self, resume: Option<ResumeClaim>, patience: Duration) -> Result<Client, Failure> {
        self.open_with(resume, patience, |features| features)
    }

    fn open_with(
        &self,
        resume: Option<ResumeClaim>,
        patience: Duration,
        features: impl Fn(Features) -> Features,
    ) -> Result<Client, Failure> {
        let bearer = |token: &String| Credential::Bearer(Secret::new(token.clone()));
        let certified = || Credential::Other { scheme: "mtls".to_string(), token: Secret::new(String::new()) };
        let other = if self.security.identity.is_some() { certified() } else { Credential::Anonymous };
        let credential = self.token.as_ref().map_or(other, bearer);
        let mut config = ClientConfig::new("arcp", env!("CARGO_PKG_VERSION"), credential);
        config.family = self.family;
        config.resume = resume;
        config.features = features(config.features);
        config.give_up_after = Some(patience);
        let client = bridge::connect(&self.target, &self.security, config);
        let client = client.map_err(|error| self.failure(error))?;
        self.check_fingerprint(client.welcome().fingerprint.as_deref())?;
        if let Some((state, token)) = State::of_user().zip(self.token.clone().filter(|_| self.logged_in)) {
            login::keep_renewed(state, self.target.clone(), Secret::new(token), client.renewer());
        }
        Ok(client)
    }

    /// Checks the certificate against the fingerprint in the welcome: they differ if somebody in between terminates
    /// TLS.
    fn check_fingerprint(&self, said: Option<&str>) -> Result<(), Failure> {
        let name = KnownRuntimes::name_of(&self.target);
        let known = self.security.known_runtimes.as_deref().map(KnownRuntimes::at).zip(name);
        let shown = known.and_then(|(known, name)| known.fingerprint(&name).ok().flatten());
        match (said, shown) {
            (Some(said), Some(shown)) if said != shown => {
                let plain: String = said.chars().filter(|c| !c.is_control()).take(80).collect();
                let url = self.url();
                let message = format!(
                    "{url} says that its fingerprint is {plain}, and the key that was shown has {shown}: something in \
                     between has a certificate of its own"
                );
                Err(Failure::new(Exit::Lost, message))
            }
            _ => Ok(()),
        }
    }

    /// How long to try. A runtime that was never there is not waited for as long as one that was lost.
    fn patience(&self) -> Duration {
        if is_there(&self.target) { self.give_up_after } else { STARTING }
    }

    fn failure(&self, error: ClientError) -> Failure {
        if let ClientError::Ended(SessionEnd::Lost(why)) = &error {
            let url = self.url();
            let why = why.strip_prefix(&format!("{url}: ")).unwrap_or(why);
            // The runtime answers, but a bound is reached there: naming another runtime would not help.
            let message = match why.strip_prefix(REFUSED_FOR_NOW) {
                Some(why) => format!("{url} takes no session from you now: {why}"),
                None => {
                    format!("no runtime answers at {url}: {why}; start one with `arcp serve`, or give another --url")
                }
            };
            return Failure::new(Exit::Lost, message);
        }
        let mend = match &error {
            ClientError::Cleartext(_) => "; --insecure sends it all the same",
            // Another authority would not help: the key of a known runtime has changed.
            ClientError::Untrusted(why) if why.contains(KNOWN_RUNTIMES) => "",
            ClientError::Untrusted(_) => "; --ca FILE trusts the authority, or the certificate, in that file",
            ClientError::NotServed(_) => "; `arcp runtimes` lists those of this machine, and --url names one",
            ClientError::Config(_)
            | ClientError::Io(_)
            | ClientError::Refused(_)
            | ClientError::Ended(_)
            | ClientError::NotTaken(_)
            | ClientError::Misuse(_) => "",
        };
        let was_shown = matches!(error, ClientError::NotTaken(_));
        let mut failure = Failure::from(error);
        failure.message.push_str(mend);
        if failure.exit == Exit::Unauthenticated && !was_shown {
            failure.message.push_str(match self.token {
                None => ": give --token, set ARCP_TOKEN, or `arcp login`",
                Some(_) if self.logged_in => ": `arcp login` once more",
                Some(_) => ": give one of that runtime's tokens as --token or ARCP_TOKEN",
            });
        }
        failure
    }
}

/// The named runtime, or else the one that was started last on this machine.
pub fn target(named: Option<&Target>) -> Result<Target, Failure> {
    named.map_or_else(|| found(newest()).map(|(target, _)| target), |named| Ok(named.clone()))
}

/// The target of the runtime that was found.
fn found(newest: Option<Runtime>) -> Result<(Target, Runtime), Failure> {
    let unknown = "no runtime is known: start one with `arcp serve --samples`, or give --url";
    let found = newest.and_then(|found| Some((target_of(&found)?, found)));
    found.ok_or_else(|| Failure::new(Exit::Lost, unknown))
}

fn newest() -> Option<Runtime> {
    Runtime::all(&State::of_user()?).into_iter().next()
}

/// The target of a runtime. One that listens on all addresses is reached on this machine's own.
fn target_of(runtime: &Runtime) -> Option<Target> {
    let target: Target = runtime.url.parse().ok()?;
    Some(match target.address() {
        Some(("0.0.0.0", _)) => target.with_host("127.0.0.1"),
        Some(("::", _)) => target.with_host("::1"),
        Some(_) | None => target,
    })
}

/// A runtime of this user is verified by the file of its certificate.
fn trust_of(runtime: &Runtime) -> Trust {
    runtime.certificate.clone().map_or(Trust::System, Trust::Certificate)
}

fn is_there(target: &Target) -> bool {
    match target {
        Target::WebSocket { host, port, .. } | Target::Http2 { host, port, .. } => {
            let addresses = (host.as_str(), *port).to_socket_addrs();
            addresses.is_ok_and(|mut all| all.any(|a| TcpStream::connect_timeout(&a, LOOKING).is_ok()))
        }
        Target::Unix(path) => unix::connect(path, LOOKING).is_ok(),
        // These can be probed only by a handshake or a start.
        Target::Quic { .. } | Target::Program(_) => true,
    }
}
