//! `arcp serve`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arcp_blocking::{Host, HostError, Server, ServerConfig, ServerHandle, stdio};
use arcp_host::auth::BearerTokens;
use arcp_host::orphans;
use arcp_host::process::ProcessAgent;
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::stderr::say;
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::id::Principal;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::runtime::{Config, Notice};
use arcp_proto::secret::Secret;
use arcp_proto::wire::{Compat, Profile};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::Serve;
use crate::exit::{Exit, Failure};
use crate::state::{Runtime, State};

/// The principal of a runtime's owner.
const LOCAL: &str = "local";

/// Hosts agents until told to stop.
pub fn run(args: Box<Serve>) -> Result<Exit, Failure> {
    let tokens = tokens(&args)?;
    let loopback = args.listen.ip().is_loopback();
    let given = !tokens.is_empty();
    if !args.stdio && !given && !loopback && !args.anonymous {
        let message = format!(
            "{} can be reached from elsewhere: give at least one --token TOKEN=PRINCIPAL, or --anonymous to let everybody in",
            args.listen
        );
        return Err(Failure::usage(message));
    }
    let anonymous = args.anonymous || loopback && !args.stdio;
    let place = Place::of(&args)?;
    let registry = registry(&args, &place)?;
    let config = config(&args, anonymous)?;
    if args.stdio {
        let host = host(config, registry, tokens, &args, &place)?;
        place.end_orphans()?;
        return serve_stdio(host, given);
    }
    serve_port(&args, &place, config, registry, tokens, given)
}

fn serve_port(
    args: &Serve,
    place: &Place,
    config: Config,
    registry: Registry,
    mut tokens: BearerTokens,
    given: bool,
) -> Result<Exit, Failure> {
    let made = if given { None } else { Some(own_token(&mut tokens, args, place)?) };
    raise_descriptor_limit();
    let server_config = ServerConfig {
        path: args.path.clone(),
        allow_hosts: args.allow_hosts.clone(),
        allow_origins: args.allow_origins.clone(),
        ..ServerConfig::new(args.listen)
    };
    let host = host(config, registry, tokens, args, place)?;
    let ended = place.end_orphans()?;
    let server = Server::bind(&server_config, host).map_err(|error| match error {
        HostError::Io(error) => Failure::new(Exit::Failed, format!("cannot listen on {}: {error}", args.listen)),
        HostError::Config(error) => Failure::usage(error.to_string()),
        HostError::Store(error) => Failure::new(Exit::Failed, error.to_string()),
    })?;
    let url = format!("ws://{}{}", server.address(), args.path);
    let state = State::of_user();
    let runtime = made.map(|token| Runtime { url: url.clone(), token });
    if let (Some(state), Some(runtime)) = (&state, &runtime)
        && let Err(error) = state.put_runtime(runtime)
    {
        say(format_args!("arcp: other commands will need --url and --token, no state can be kept: {error}"));
    }
    stop_on_signals(server.handle())?;
    say(format_args!("READY {url}"));
    place.tell();
    if ended > 0 {
        say(format_args!("arcp: {ended} programs that had outlived their runtime were ended"));
    }
    let result = server.run();
    if let (Some(state), Some(runtime)) = (&state, &runtime) {
        state.remove_runtime(runtime);
    }
    result?;
    Ok(Exit::Success)
}

fn serve_stdio(host: Host, must_prove: bool) -> Result<Exit, Failure> {
    let peer = if must_prove { None } else { Principal::new(LOCAL) };
    stdio::serve(host, peer, std::io::stdin(), std::io::stdout())
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(Exit::Success)
}

fn host(
    config: Config,
    registry: Registry,
    tokens: BearerTokens,
    args: &Serve,
    place: &Place,
) -> Result<Host, Failure> {
    let record = match &args.record {
        None => None,
        Some(path) => {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(path).map_err(|e| Failure::usage(format!("--record {}: {e}", path.display())))?;
            Some(file)
        }
    };
    let store = place.open(args.relaxed)?;
    Ok(Host {
        config,
        registry,
        authenticator: Arc::new(tokens),
        store,
        record,
        observer: Some(Box::new(observe)),
        extensions: None,
    })
}

/// Where a runtime keeps what must survive.
enum Place {
    Memory,
    File(PathBuf),
}

impl Place {
    /// What was asked for, else what suits the address: who is found at a port
    /// is found there again.
    fn of(args: &Serve) -> Result<Place, Failure> {
        match &args.store {
            Some(named) if named.as_os_str() == "memory" => Ok(Place::Memory),
            Some(file) => Ok(Place::File(file.clone())),
            None if args.stdio || args.listen.port() == 0 => Ok(Place::Memory),
            None => {
                let unusable = |why: &dyn Display| {
                    let message = format!("no place for a store: {why}; give --store FILE, or --store memory");
                    Failure::new(Exit::Failed, message)
                };
                let state = State::of_user().ok_or_else(|| unusable(&"neither HOME nor ARCP_STATE_DIR is set"))?;
                state.store(args.listen.port()).map(Place::File).map_err(|error| unusable(&error))
            }
        }
    }

    fn open(&self, relaxed: bool) -> Result<Box<dyn Store>, Failure> {
        let Place::File(path) = self else {
            return Ok(Box::<MemoryStore>::default());
        };
        let durability = if relaxed { Durability::Normal } else { Durability::Full };
        let store = SqliteStore::open(path, durability).map_err(|error| Failure::usage(format!("--store: {error}")))?;
        Ok(Box::new(store))
    }

    /// By which the programs of its agents are known again.
    fn mark(&self) -> Option<String> {
        let Place::File(path) = self else {
            return None;
        };
        std::path::absolute(path).ok().map(|path| path.display().to_string())
    }

    /// Once the store is ours, whoever still runs for it runs for nobody.
    fn end_orphans(&self) -> Result<usize, Failure> {
        Ok(self.mark().map(|mark| orphans::end(&mark)).transpose()?.unwrap_or(0))
    }

    /// Says what survives the end of the program.
    fn tell(&self) {
        match self {
            Place::Memory => {
                say(format_args!("arcp: jobs and sessions are in memory: nothing survives the end of this program"))
            }
            Place::File(path) => say(format_args!("arcp: jobs and sessions are kept in {}", path.display())),
        }
    }
}

/// Tells the operator what a log should know; no secret is in a notice.
fn observe(notice: &Notice) {
    match notice {
        Notice::StoreFailed => say(format_args!("arcp: the store fails: no new jobs, nothing numbered is sent")),
        Notice::StoreRecovered => say(format_args!("arcp: the store works again")),
        Notice::Refused { code, told: false, .. } => {
            say(format_args!("arcp: a request was refused with {code}; its client cannot be told"));
        }
        Notice::Refused { .. }
        | Notice::SessionOpened { .. }
        | Notice::SessionResumed { .. }
        | Notice::SessionDetached { .. }
        | Notice::SessionEnded { .. }
        | Notice::JobAccepted { .. }
        | Notice::JobWatched { .. }
        | Notice::JobEnded { .. } => {}
    }
}

fn config(args: &Serve, anonymous: bool) -> Result<Config, Failure> {
    let mut config = Config::new("arcp", env!("CARGO_PKG_VERSION"));
    config.anonymous = anonymous;
    config.heartbeat = (args.heartbeat > 0).then(|| Duration::from_secs(args.heartbeat));
    config.resume_window = Duration::from_secs(args.resume_window);
    config.session_lease = args.session_lease.map(Duration::from_secs);
    config.beating_agents = args.must_beat.iter().cloned().collect();
    config.auditors = auditors(args)?;
    if args.samples {
        // Small enough to be seen by hand.
        config.limits.ack_lag = 200;
    }
    let grace = args.cancel_grace.unwrap_or(if args.samples { 5 } else { 30 });
    config.cancel_grace = Duration::from_secs(grace);
    config.compat = match args.compat.as_str() {
        "auto" => Compat::Auto,
        "off" => Compat::Off,
        name => Compat::Always(Profile::named(name).ok_or_else(|| {
            let names: Vec<&str> = Profile::NAMED.iter().map(|(name, _)| *name).collect();
            Failure::usage(format!("--compat {name}: expected auto, off, {}", names.join(", ")))
        })?),
    };
    config.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(config)
}

/// Nobody can be an auditor who cannot come in by that name.
fn auditors(args: &Serve) -> Result<BTreeSet<Principal>, Failure> {
    let by_token = args.tokens.iter().filter_map(|pair| Some(pair.rsplit_once('=')?.1));
    let known: BTreeSet<&str> = by_token.chain(args.principal.as_deref()).collect();
    let named = args.auditors.iter().map(|name| {
        let principal = Principal::new(name).filter(|_| known.contains(name.as_str()));
        principal.ok_or_else(|| Failure::usage(format!("--auditor {name}: no --token is that principal's")))
    });
    named.collect()
}

fn registry(args: &Serve, place: &Place) -> Result<Registry, Failure> {
    let mut registry = Registry::default();
    if args.samples {
        samples::add_to(&mut registry);
    }
    for agent in &args.agents {
        let bad = |why: String| Failure::usage(format!("--agent {agent}: {why}"));
        let (name, command) =
            agent.split_once('=').ok_or_else(|| bad("expected NAME[@VERSION]=COMMAND".to_string()))?;
        let name = AgentRef::parse(name).map_err(|violation| bad(violation.to_string()))?;
        if command.trim().is_empty() {
            return Err(bad("the command is empty".to_string()));
        }
        let mut program = ProcessAgent::shell(command);
        if let Some(mark) = place.mark() {
            program = program.marked(&mark);
        }
        if args.restartable.iter().any(|restartable| restartable == name.name()) {
            registry.add_restartable(name.name(), name.version(), program.restartable());
        } else {
            registry.add(name.name(), name.version(), program);
        }
    }
    if let Some(unknown) = args.restartable.iter().find(|name| !registry.restartable().contains(*name)) {
        return Err(Failure::usage(format!("--restartable {unknown}: no --agent has that name")));
    }
    if registry.entries().is_empty() {
        return Err(Failure::usage("nothing to host: give --agent NAME=COMMAND, or --samples"));
    }
    Ok(registry)
}

fn tokens(args: &Serve) -> Result<BearerTokens, Failure> {
    let mut tokens = BearerTokens::default();
    let given = args.tokens.iter().map(|pair| {
        // Nobody's token is repeated on a terminal.
        pair.rsplit_once('=').ok_or_else(|| Failure::usage("--token: expected TOKEN=PRINCIPAL"))
    });
    let single = args.bearer.as_deref().zip(args.principal.as_deref()).map(Ok);
    for pair in given.chain(single) {
        let (token, name) = pair?;
        let principal = Principal::new(name).filter(|_| !token.is_empty());
        let principal = principal.ok_or_else(|| Failure::usage("a token and a principal must not be empty"))?;
        tokens.add(&Secret::new(token.to_string()), principal);
    }
    Ok(tokens)
}

/// The token of the runtime's owner: the same again where sessions survive.
fn own_token(tokens: &mut BearerTokens, args: &Serve, place: &Place) -> Result<String, Failure> {
    let fresh = arcp_host::entropy::token;
    let token = match (place, State::of_user()) {
        (Place::File(_), Some(state)) if args.listen.port() != 0 => state.token(args.listen.port(), fresh)?,
        (Place::File(_) | Place::Memory, _) => fresh()?,
    };
    if let Some(principal) = Principal::new(LOCAL) {
        tokens.add(&Secret::new(token.clone()), principal);
    }
    Ok(token)
}

/// The first signal drains, the second closes at once.
fn stop_on_signals(server: ServerHandle) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let listen = move || {
        for (count, _) in signals.forever().enumerate() {
            if count == 0 {
                say(format_args!("arcp: finishing what runs; once more to stop at once"));
                server.drain();
            } else {
                server.shutdown();
            }
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen)?;
    Ok(())
}

/// Ten thousand sessions need ten thousand descriptors.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without it there are fewer sessions, not none.
    let _ = setrlimit(Resource::Nofile, raised);
}
