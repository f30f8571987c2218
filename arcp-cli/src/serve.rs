//! `arcp serve`.

use std::fmt::Display;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arcp_blocking::{Host, HostError, Listen, ServerConfig};
use arcp_host::blobs::{Blobs, FolderBlobs, MemoryBlobs};
use arcp_host::orphans;
use arcp_host::server_log::{log, log_panics};
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::id::Principal;
use arcp_proto::runtime::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGXFSZ;

use crate::adapter;
use crate::args::Serve;
use crate::background;
use crate::courier::Receivers;
use crate::credentials::{self, Credentials};
use crate::drain;
use crate::exit::{Exit, Failure};
use crate::hosting::Agents;
use crate::lease;
use crate::places;
use crate::policy;
use crate::runtimes::{Entry, Runtime};
use crate::sandbox;
use crate::state::State;
use crate::telemetry::Exported;
use crate::telling::{self, Announcer};
use crate::tls;
use crate::{service, telemetry};

/// The principal of the user who owns the runtime.
pub const LOCAL: &str = "local";

/// Hosts agents until the runtime is told to stop.
pub fn run(args: Box<Serve>) -> Result<Exit, Failure> {
    telemetry::configure_log(&args);
    if args.check {
        return check(&args);
    }
    if args.background {
        return background::start(&args);
    }
    if args.detached {
        background::leave_terminal()?;
    }
    // Without a handler, a file that reaches its size limit would kill the program; with one, the write fails.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    log_panics();
    let places = places::of(&args)?;
    let credentials = Credentials::of(&args)?;
    let location = StoreLocation::new(&args, &places)?;
    let agents = Agents::of(&args, location.mark())?;
    let config = config(&args, &location, &credentials)?;
    let spans = Exported::start(&args)?;
    let ended = serve(&args, &places, &location, (config, agents, credentials), &spans);
    spans.finish();
    ended
}

fn serve(
    args: &Serve,
    places: &[Listen],
    location: &StoreLocation,
    (config, agents, credentials): (Config, Agents, Credentials),
    spans: &Exported,
) -> Result<Exit, Failure> {
    if places::is_stdio_alone(places) {
        let must_prove = !credentials.is_empty();
        let host = host(config, agents, credentials, args, location)?.counting_spans(spans.counts.clone());
        location.end_orphans()?;
        sandbox::tell(args);
        return serve_stdio(host, must_prove, args.listening.tokio);
    }
    serve_places(args, places, location, (config, agents, credentials), spans)
}

/// Checks the options as far as that is possible without the port and the store.
fn check(args: &Serve) -> Result<Exit, Failure> {
    let places = places::of(args)?;
    let credentials = Credentials::of(args)?;
    let location = StoreLocation::named(args, &places);
    Agents::of(args, None)?;
    config(args, &location, &credentials)?;
    server_config(args, &places)?;
    telemetry::check(args)?;
    telling::check(args, !matches!(location, StoreLocation::Memory))?;
    writeln!(io::stdout(), "arcp: this can be served")?;
    Ok(Exit::Success)
}

fn serve_places(
    args: &Serve,
    places: &[Listen],
    location: &StoreLocation,
    (mut config, agents, mut credentials): (Config, Agents, Credentials),
    spans: &Exported,
) -> Result<Exit, Failure> {
    // Bind before the store is opened: if two runtimes have the same port, the error is to name the port.
    let server_config = server_config(args, places)?;
    let bound = places::bind(places)?;
    let needs_token = credentials.is_empty() && !places.iter().all(places::knows_users);
    let made = if needs_token { OwnToken::make(args, places, &mut credentials)? } else { None };
    // A process of this user can do more than an operator already.
    let owner = Principal::new(LOCAL).filter(|_| made.is_some() || places.iter().any(places::knows_users));
    config.operators.extend(owner);
    raise_descriptor_limit();
    let host = host(config, agents, credentials, args, location)?.counting_spans(spans.counts.clone());
    let ended = location.end_orphans()?;
    let server = adapter::serve(bound, &server_config, host, args.listening.tokio || places::need_tokio(places))
        .map_err(|error| match error {
            HostError::Config(error) => Failure::usage(error.to_string()),
            HostError::Io(_)
            | HostError::Store(_)
            | HostError::Fenced(_)
            | HostError::Cleartext(_)
            | HostError::NoCertificate(_) => Failure::new(Exit::Failed, error.to_string()),
        })?;
    let urls: Vec<String> = server.places().iter().map(|listen| listen.url(&args.listening.path)).collect();
    let left = leave_word(args, places, &server, (made, location.file()))?;
    let files = drain::Files { certificates: server_config.tls.clone(), policy: policy_file(args) };
    drain::on_signals(server.handle(), args.jobs.drain, files)?;
    urls.iter().for_each(|url| log(format_args!("READY {url}")));
    service::ready(server.handle());
    location.tell();
    sandbox::tell(args);
    credentials::warn(args);
    spans.tell();
    if let Some(left) = &left {
        left.tell(args.access.anonymous);
    }
    if args.access.anonymous {
        log(format_args!(
            "arcp: whoever reaches this port may run agents without a token (--anonymous), and sees no jobs of others"
        ));
    }
    if ended > 0 {
        let programs = if ended == 1 { "program" } else { "programs" };
        log(format_args!("arcp: ended {ended} {programs} of an earlier runtime"));
    }
    let result = server.run();
    if let Some(left) = left {
        left.take_back();
    }
    let stopped = result.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(drain::ended(&stopped))
}

/// Writes the entry of the runtime for the commands of this user, if it listens where they can connect.
fn leave_word(
    args: &Serve,
    places: &[Listen],
    server: &adapter::Served,
    (made, store): (Option<OwnToken>, Option<PathBuf>),
) -> Result<Option<Left>, Failure> {
    let mut there: Vec<&Listen> = server.places().iter().filter(|listen| **listen != Listen::Stdio).collect();
    // Commands use the first place: one that needs a token if a token is kept, otherwise one that identifies users.
    there.sort_by_key(|listen| places::knows_users(listen) == made.is_some());
    let urls: Vec<String> = there.iter().map(|listen| listen.url(&args.listening.path)).collect();
    let Some((url, others)) = urls.split_first() else {
        return Ok(None);
    };
    let picked = there.iter().find_map(|listen| listen.address()).map(|address| address.port().to_string());
    let name = places::name(places).or_else(|| picked.clone()).unwrap_or_default();
    let word =
        Runtime { certificate: tls::certificate_of(args), others: others.to_vec(), ..Runtime::new(url, None, store) };
    match Left::word(made, (name, places::name(places).is_none()), word) {
        // Clients need no token at this runtime.
        Err(_) if args.access.anonymous => Ok(None),
        left => left,
    }
}

/// Where, for which user and with which certificate to listen.
fn server_config(args: &Serve, places: &[Listen]) -> Result<ServerConfig, Failure> {
    let config = ServerConfig {
        listen: places.to_vec(),
        owner: Principal::new(LOCAL),
        path: args.listening.path.clone(),
        allow_hosts: args.listening.allow_hosts.clone(),
        allow_origins: args.listening.allow_origins.clone(),
        drain_grace: args.jobs.drain.0,
        tls: tls::certificates(args)?,
        insecure: args.tls.insecure,
        metrics_token: telemetry::metrics_token(args)?,
    };
    places::check(places, &config)?;
    Ok(config)
}

fn serve_stdio(host: Host, must_prove: bool, tokio: bool) -> Result<Exit, Failure> {
    let peer = if must_prove { None } else { Principal::new(LOCAL) };
    adapter::serve_stdio(host, peer, tokio).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(Exit::Success)
}

fn host(
    config: Config,
    agents: Agents,
    credentials: Credentials,
    args: &Serve,
    location: &StoreLocation,
) -> Result<Host, Failure> {
    let record = args.observing.record.as_deref().map(recording).transpose()?;
    let store = location.open(args.keeping.relaxed)?;
    let announcer = Announcer::start(args, location.file().as_deref())?;
    let blobs = location.blobs()?;
    let host = Receivers::of(&args.handing_over)?.with(agents.host(config));
    let host = credentials.judge(host).with_store(store).with_blobs(blobs).observed_by(move |notice| {
        telemetry::observe(notice);
        announcer.hear(notice);
    });
    Ok(match record {
        Some(file) => host.recorded_to(file),
        None => host,
    })
}

/// Creates the file of a recording. It contains secrets, so that only its owner may read it, also if it existed with
/// other permissions.
fn recording(path: &Path) -> Result<File, Failure> {
    let open = || {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // The permissions of a pipe or a device are left as they are.
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    };
    open().map_err(|error: io::Error| Failure::usage(format!("--record {}: {error}", path.display())))
}

/// Where a runtime keeps its records.
enum StoreLocation {
    Memory,
    File(PathBuf),
}

impl StoreLocation {
    /// The store that the options name. Otherwise one that suits the address: clients that return to a fixed port find
    /// their jobs again.
    fn new(args: &Serve, places: &[Listen]) -> Result<StoreLocation, Failure> {
        match StoreLocation::named(args, places) {
            StoreLocation::File(file) if file.as_os_str().is_empty() => {
                let unusable = |why: &dyn Display| {
                    let message = format!("no place for a store: {why}; give --store FILE, or --store memory");
                    Failure::new(Exit::Failed, message)
                };
                let state = State::of_user().ok_or_else(|| unusable(&"neither HOME nor ARCP_STATE_DIR is set"))?;
                let name = places::name(places).unwrap_or_default();
                state.store(&name).map(StoreLocation::File).map_err(|error| unusable(&error))
            }
            named @ (StoreLocation::Memory | StoreLocation::File(_)) => Ok(named),
        }
    }

    /// The same, with an empty file name for the default file.
    fn named(args: &Serve, places: &[Listen]) -> StoreLocation {
        match &args.keeping.store {
            Some(named) if named.as_os_str() == "memory" => StoreLocation::Memory,
            Some(file) => StoreLocation::File(file.clone()),
            None if places::name(places).is_none() => StoreLocation::Memory,
            None => StoreLocation::File(PathBuf::new()),
        }
    }

    /// How long ended jobs are kept by default.
    fn keeps_jobs_for(&self) -> Duration {
        match self {
            StoreLocation::Memory => Duration::from_secs(3600),
            StoreLocation::File(_) => Duration::from_secs(30 * 24 * 3600),
        }
    }

    fn open(&self, relaxed: bool) -> Result<Box<dyn Store>, Failure> {
        let StoreLocation::File(path) = self else {
            return Ok(Box::<MemoryStore>::default());
        };
        let durability = if relaxed { Durability::Normal } else { Durability::Full };
        let store = SqliteStore::open(path, durability).map_err(|error| {
            let failure = crate::store::failure(error);
            Failure::new(failure.exit, format!("--store: {}", failure.message))
        })?;
        Ok(Box::new(store))
    }

    /// The store for the bytes of artifacts: a folder beside the file.
    fn blobs(&self) -> Result<Box<dyn Blobs>, Failure> {
        let StoreLocation::File(path) = self else {
            return Ok(Box::<MemoryBlobs>::default());
        };
        let mut folder = path.clone().into_os_string();
        folder.push(".artifacts");
        let opened = FolderBlobs::open(&folder);
        let opened = opened.map_err(|error| Failure::usage(format!("--store: {}: {error}", folder.display())))?;
        Ok(Box::new(opened))
    }

    /// The absolute path of the file.
    fn file(&self) -> Option<PathBuf> {
        match self {
            StoreLocation::Memory => None,
            StoreLocation::File(path) => std::path::absolute(path).ok(),
        }
    }

    /// The mark in the environment of agent programs, by which they are found after a restart.
    fn mark(&self) -> Option<String> {
        self.file().map(|path| path.display().to_string())
    }

    /// Ends programs of an earlier runtime of this store: since the store is open here, that runtime is gone.
    fn end_orphans(&self) -> Result<usize, Failure> {
        Ok(self.mark().map(|mark| orphans::end(&mark)).transpose()?.unwrap_or(0))
    }

    /// Logs what survives the end of the program.
    fn tell(&self) {
        match self {
            StoreLocation::Memory => {
                log(format_args!("arcp: jobs and sessions are in memory: nothing survives the end of this program"))
            }
            StoreLocation::File(path) => log(format_args!("arcp: jobs and sessions are kept in {}", path.display())),
        }
    }
}

fn config(args: &Serve, location: &StoreLocation, credentials: &Credentials) -> Result<Config, Failure> {
    let mut config = Config::new("arcp", env!("CARGO_PKG_VERSION"));
    config.anonymous = args.access.anonymous;
    config.timing.heartbeat = (!args.listening.heartbeat.is_zero()).then_some(args.listening.heartbeat);
    config.timing.resume_window = args.listening.resume_window;
    config.timing.job_retention = Some(args.keeping.keep.unwrap_or(location.keeps_jobs_for()));
    config.timing.audit_retention = Some(args.keeping.keep_audit);
    config.limits.history.kept_bytes = args.keeping.store_max;
    let longest = config.timing.longest_artifact_retention;
    if args.keeping.keep_artifacts > longest {
        let days = longest.as_secs() / (24 * 3600);
        return Err(Failure::usage(format!("--keep-artifacts: none is kept for longer than {days}d")));
    }
    config.timing.artifact_retention = (!args.keeping.keep_artifacts.is_zero()).then_some(args.keeping.keep_artifacts);
    config.limits.artifact.all_artifact_bytes = usize::try_from(args.keeping.artifacts_max).unwrap_or(usize::MAX);
    config.timing.schedules = true;
    config.authority.workflows = true;
    config.timing.session_lease = args.listening.session_lease;
    config.heartbeat_agents = args.agents.require_heartbeat.iter().cloned().collect();
    config.auditors = credentials.known("--auditor", &args.jobs.auditors)?;
    config.operators = credentials.known("--operator", &args.jobs.operators)?;
    config.limits.job.principal_share = args.jobs.principal_share;
    config.limits.session.submits_per_second = args.jobs.submit_rate;
    config.ceiling = lease::ceiling(&args.jobs.lease_ceilings, args.jobs.longest_lease)?;
    config.authority.policy = policy_file(args).map(|file| policy::read(&file)).transpose()?.map(Box::new);
    config.authority.needs_trust = lease::needs_trust(&args.jobs.needs_trust)?;
    if args.agents.samples {
        // Small enough to be seen in a manual test.
        config.limits.delivery.ack_lag = 200;
    }
    config.timing.cancel_grace =
        args.jobs.cancel_grace.unwrap_or(Duration::from_secs(if args.agents.samples { 5 } else { 30 }));
    config.compat = args.listening.compat;
    Receivers::of(&args.handing_over)?.configure(&mut config);
    config.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(config)
}

/// The absolute path of the policy.
fn policy_file(args: &Serve) -> Option<PathBuf> {
    let file = args.jobs.policy.as_ref()?;
    Some(std::path::absolute(file).unwrap_or_else(|_| file.clone()))
}

/// The generated token of the runtime's owner, if the operator gave no other.
struct OwnToken {
    state: State,
    token: String,
}

impl OwnToken {
    /// Generates a token, or takes that of an earlier runtime on this port, so that its sessions can be resumed.
    /// `None` if no token can be kept and clients need none.
    fn make(args: &Serve, places: &[Listen], credentials: &mut Credentials) -> Result<Option<OwnToken>, Failure> {
        let fresh = arcp_host::entropy::token;
        let kept = match State::of_user() {
            None => Err("neither HOME nor ARCP_STATE_DIR is set".to_string()),
            Some(state) => {
                let token = places::name(places).map_or_else(fresh, |name| state.token(&name, fresh));
                token.map(|token| OwnToken { state, token }).map_err(|error| error.to_string())
            }
        };
        match (kept, Principal::new(LOCAL)) {
            (Ok(own), Some(principal)) => {
                credentials.add(&own.token, principal);
                Ok(Some(own))
            }
            (Ok(_), None) => Ok(None),
            (Err(_), _) if args.access.anonymous => Ok(None),
            (Err(why), _) => Err(Failure::usage(format!(
                "no token was given, and one cannot be kept: {why}; give --token TOKEN=NAME, \
                 or --anonymous to let everybody in"
            ))),
        }
    }

    /// Stores the token and the entry, where the commands of this user find them.
    fn leave(self, (name, picked): (String, bool), word: Runtime) -> Result<Left, Failure> {
        let kept = self.state.put_token(&name, &self.token).and_then(|file| {
            let entry = Runtime { token: Some(self.token), ..word }.announce(&self.state)?;
            Ok((entry, file))
        });
        let (entry, file) = kept.map_err(|error| {
            let folder = self.state.folder().display();
            let why =
                format!("no token was given, and one cannot be kept in {folder}: {error}; give --token TOKEN=NAME");
            Failure::new(Exit::Failed, why)
        })?;
        Ok(Left { state: self.state, entry, name, picked, token_file: Some(file) })
    }
}

/// The files that commands find while the runtime listens.
struct Left {
    state: State,
    entry: Entry,
    /// The name of these files; it comes from a picked port if `picked`.
    name: String,
    picked: bool,
    /// The file of the generated token.
    token_file: Option<PathBuf>,
}

/// How others than the user of the runtime are let in.
const OTHERS: &str = "; to let others in, `arcp token add NAME --tokens FILE`, and serve with that --tokens FILE";

impl Left {
    /// Writes the entry of the runtime, and the token if one was generated.
    fn word(made: Option<OwnToken>, (name, picked): (String, bool), word: Runtime) -> Result<Option<Left>, Failure> {
        let Some(own) = made else {
            // Without an entry, commands need `--url`; the runtime serves all the same.
            let state = State::of_user();
            let entry = state.as_ref().and_then(|state| word.announce(state).ok());
            return Ok(state.zip(entry).map(|(state, entry)| Left { state, entry, name, picked, token_file: None }));
        };
        own.leave((name, picked), word).map(Some)
    }

    fn tell(&self, anonymous: bool) {
        if let Some(file) = &self.token_file {
            let others = if anonymous { "" } else { OTHERS };
            let file = file.display();
            log(format_args!("arcp: a token was made and is kept in {file}: your own commands find it{others}"));
        }
    }

    /// Removes the entry. The token of a picked port is removed too, because no client will come back to that port.
    fn take_back(self) {
        self.entry.take_back();
        if self.picked && self.token_file.is_some() {
            self.state.remove_token(&self.name);
        }
    }
}

/// Raises the limit of open files: each session needs one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If that fails, fewer sessions can be served.
    let _ = setrlimit(Resource::Nofile, raised);
}
