//! Agents from a folder: each executable in it is an agent, named like its file without the
//! extension. `NAME.toml` beside it describes the agent:
//!
//! ```toml
//! description = "Greets people."      # for people, at most 2,000 bytes
//! version = "1.2.0"
//! input_schema = "greet.schema.json"  # a file in the folder, or a table: JSON Schema 2020-12
//! format = "text"                     # or "jsonl", "claude-json", "codex-json"
//! concurrency = 2                     # jobs of it that run at once
//! restartable = true                  # goes on from its last checkpoint
//! answered = true                     # reads an answer for each line with an `id`
//! interrupts = true                   # reads what people interrupt its jobs with, too
//! input = true                        # reads what clients send its jobs, too
//! checkpoints = true                  # reads that a checkpoint is wanted, too
//! pty = true                          # prints on a pseudo-terminal, line by line
//! working_directory = "work"          # from the folder on
//! pass_environment = ["API_KEY"]      # variables of the runtime that it gets too
//!
//! [environment]
//! GREETING = "hello"
//!
//! [limits]                            # of each of its processes
//! open_files = 256
//! memory_mib = 2048
//! cpu_seconds = 600
//! ```
//!
//! Hidden files, and files that end in `~`, are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use serde::Deserialize;
use toml::Spanned;

use crate::input_schema::InputSchema;
use crate::process::{Format, ProcessAgent, ProcessLimits};
use crate::registry::{AgentSource, Registry, Terms};
use crate::server_log::log;

/// The longest description, in bytes.
const DESCRIPTION_BYTES: usize = 2000;
/// The largest file that describes an agent, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// A folder of agents, in addition to other agents.
#[derive(Debug)]
pub struct AgentDirectory {
    folder: PathBuf,
    /// The agents from elsewhere.
    base: Registry,
    /// The settings with which each program of the folder is run.
    program: ProcessAgent,
    /// The files, as they were last read.
    seen: Vec<Stamp>,
    /// The agents of the folder, as they were last read without an error.
    agents: BTreeMap<String, FolderAgent>,
}

/// Why a file of the folder is not a valid agent.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", place(.file, *.line))]
pub struct DirectoryError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, if a single line is invalid.
    pub line: Option<usize>,
    /// The invalid key, if there is one, what is wrong, and how to correct it.
    pub why: String,
}

fn place(file: &Path, line: Option<usize>) -> String {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", file.display())
}

/// The properties by which a change of a file is noticed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    inode: u64,
    bytes: u64,
    mode: u32,
    changed: (i64, i64),
}

#[derive(Clone, Debug)]
struct FolderAgent {
    version: Option<String>,
    restartable: bool,
    program: ProcessAgent,
    terms: Terms,
}

/// The contents of a description file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    description: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    input_schema: Option<Spanned<Schema>>,
    format: Option<Spanned<String>>,
    concurrency: Option<NonZeroU32>,
    #[serde(default)]
    restartable: bool,
    #[serde(default)]
    answered: bool,
    #[serde(default)]
    interrupts: bool,
    #[serde(default)]
    input: bool,
    #[serde(default)]
    checkpoints: bool,
    #[serde(default)]
    pure: bool,
    #[serde(default)]
    pty: bool,
    working_directory: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pass_environment: Vec<Spanned<String>>,
    #[serde(default)]
    environment: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Schema {
    File(String),
    Here(toml::Table),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    open_files: Option<u64>,
    memory_mib: Option<u64>,
    cpu_seconds: Option<u64>,
}

impl AgentDirectory {
    /// Reads a folder. `base` holds the other agents, and `program` the settings with which each
    /// program is run. Returns all agents.
    ///
    /// # Errors
    ///
    /// An error for each invalid file.
    pub fn open(
        folder: &Path,
        base: Registry,
        program: ProcessAgent,
    ) -> Result<(AgentDirectory, Registry), Vec<DirectoryError>> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let mut directory = AgentDirectory { folder, base, program, seen: Vec::new(), agents: BTreeMap::new() };
        directory.seen = directory.files().map_err(|error| vec![directory.unreadable(&error)])?;
        let (agents, errors) = directory.read();
        if !errors.is_empty() {
            return Err(errors);
        }
        directory.agents = agents.into_iter().filter_map(|(name, agent)| Some((name, agent?))).collect();
        let registry = directory.registry();
        Ok((directory, registry))
    }

    fn unreadable(&self, error: &io::Error) -> DirectoryError {
        let why = format!("the folder cannot be read: {error}; make it, or give another");
        DirectoryError { file: self.folder.clone(), line: None, why }
    }

    /// The relevant files, in order.
    fn files(&self) -> io::Result<Vec<Stamp>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A file that has disappeared meanwhile is ignored.
            let about = fs::metadata(&path).ok().filter(Metadata::is_file);
            if let Some(about) = about.filter(|_| !name.starts_with('.') && !name.ends_with('~')) {
                files.push(Stamp {
                    inode: about.ino(),
                    bytes: about.len(),
                    mode: about.permissions().mode(),
                    changed: (about.ctime(), about.ctime_nsec()),
                    path,
                });
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }

    /// The agents by name; `None` for an agent with an error.
    fn read(&self) -> (BTreeMap<String, Option<FolderAgent>>, Vec<DirectoryError>) {
        let (mut agents, mut errors) = (BTreeMap::new(), Vec::new());
        let is_description = |stamp: &&Stamp| stamp.path.extension().is_some_and(|extension| extension == "toml");
        let (descriptions, others): (Vec<&Stamp>, Vec<&Stamp>) = self.seen.iter().partition(is_description);
        let programs = others.into_iter().filter(|stamp| stamp.mode & 0o111 != 0);
        let mut described: BTreeSet<&Path> = BTreeSet::new();
        for program in programs {
            let name = program.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let description = self.folder.join(format!("{name}.toml"));
            let description = descriptions.iter().find(|stamp| stamp.path == description).map(|stamp| &*stamp.path);
            described.extend(description);
            let is_twice = agents.contains_key(&name);
            let agent = self.agent(&name, &program.path, description, is_twice);
            agents.insert(name, agent.map_err(|error| errors.push(error)).ok());
        }
        for stray in descriptions.into_iter().filter(|stamp| !described.contains(&*stamp.path)) {
            let name = stray.path.file_stem().unwrap_or_default().to_string_lossy();
            let why =
                format!("no executable is called `{name}` beside it: make it executable (chmod +x), or remove this");
            errors.push(DirectoryError { file: stray.path.clone(), line: None, why });
        }
        (agents, errors)
    }

    fn agent(
        &self,
        name: &str,
        program: &Path,
        description: Option<&Path>,
        is_twice: bool,
    ) -> Result<FolderAgent, DirectoryError> {
        let of_file = |why: String| Err(DirectoryError { file: program.to_path_buf(), line: None, why });
        if AgentRef::parse(name).is_err() || name.contains('@') {
            return of_file(format!(
                "`{name}` is no name of an agent: use letters, digits, `.`, `_` and `-`, or remove it"
            ));
        }
        if is_twice || self.base.has(name) {
            return of_file(format!("another agent is called `{name}`: rename the file, or remove one of them"));
        }
        match description {
            Some(file) => Described::read(file)?.agent(self, program),
            None => {
                let program = self.program.clone().with_executable(program);
                Ok(FolderAgent { version: None, restartable: false, program, terms: Terms::default() })
            }
        }
    }

    /// All agents, those of the folder and the others.
    fn registry(&self) -> Registry {
        let mut registry = self.base.clone();
        for (name, agent) in &self.agents {
            let (version, program) = (agent.version.as_deref(), agent.program.clone());
            if agent.restartable {
                registry.add_restartable(name, version, program.restartable());
            } else {
                registry.add(name, version, program);
            }
            registry.set_terms(name, agent.terms.clone());
        }
        registry
    }
}

impl AgentSource for AgentDirectory {
    /// An agent whose files have an error stays as it was; the error is logged.
    fn changed(&mut self) -> Option<Registry> {
        let files = self.files().map_err(|error| log(format_args!("arcp: {}", self.unreadable(&error)))).ok()?;
        if files == self.seen {
            return None;
        }
        self.seen = files;
        let (agents, errors) = self.read();
        for error in errors {
            log(format_args!("arcp: {error}; until then the agent stays as it was"));
        }
        let mut before = std::mem::take(&mut self.agents);
        for (name, agent) in agents {
            let kept = before.remove(&name);
            self.agents.extend(agent.or(kept).map(|agent| (name, agent)));
        }
        log(format_args!("arcp: agents of {}: {}", self.folder.display(), self.names()));
        Some(self.registry())
    }
}

impl AgentDirectory {
    fn names(&self) -> String {
        let names: Vec<&str> = self.agents.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_string() } else { names.join(", ") }
    }
}

/// The text of a file, or why it cannot be read. Only regular files are read: a pipe could wait,
/// and a device could have no end.
fn read_file(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let about = fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err("is no file: put one there, or remove it".to_string());
    }
    if about.len() > FILE_BYTES {
        return Err(format!("has more than {FILE_BYTES} bytes: make it smaller"));
    }
    fs::read_to_string(path).map_err(unreadable)
}

/// A file that describes an agent, with its contents.
struct Described<'a> {
    file: &'a Path,
    text: String,
    said: Description,
}

impl Described<'_> {
    fn read(file: &Path) -> Result<Described<'_>, DirectoryError> {
        let of_file = |why: String| DirectoryError { file: file.to_path_buf(), line: None, why };
        let text = read_file(file).map_err(of_file)?;
        match toml::from_str(&text) {
            Ok(said) => Ok(Described { file, text, said }),
            Err(error) => {
                let described = Described { file, text, said: Description::default() };
                let why = format!("{}: correct it, or remove the line", error.message().trim());
                Err(match error.span() {
                    Some(span) => described.bad(span, &why),
                    None => of_file(why),
                })
            }
        }
    }

    /// The error for the value at `span`.
    fn bad(&self, span: Range<usize>, why: &str) -> DirectoryError {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let key = line.split_once('=').map_or(line, |(key, _)| key).trim();
        DirectoryError {
            file: self.file.to_path_buf(),
            line: Some(before.matches('\n').count() + 1),
            why: format!("`{key}`: {why}"),
        }
    }

    fn agent(self, directory: &AgentDirectory, program: &Path) -> Result<FolderAgent, DirectoryError> {
        let mut program = directory.program.clone().with_executable(program);
        if let Some(format) = &self.said.format {
            let known = format.get_ref().parse::<Format>();
            program = program.printing(known.map_err(|error| self.bad(format.span(), &error.to_string()))?);
        }
        if let Some(work) = &self.said.working_directory {
            let path = directory.folder.join(work.get_ref());
            if !path.is_dir() {
                return Err(
                    self.bad(work.span(), &format!("{} is no folder: make it, or give another", path.display()))
                );
            }
            program = program.in_directory(&path);
        }
        for name in &self.said.pass_environment {
            let unset =
                || self.bad(name.span(), &format!("`{}` is not set here: set it, or remove it", name.get_ref()));
            program = program.with_variable(name.get_ref(), std::env::var_os(name.get_ref()).ok_or_else(unset)?);
        }
        for (name, value) in &self.said.environment {
            if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) || value.contains('\0') {
                return Err(self.bad(name.span(), "no variable can be called so, or have that value"));
            }
            program = program.with_variable(name.get_ref(), value);
        }
        let Limits { open_files, memory_mib, cpu_seconds } = self.said.limits;
        let memory_kib = memory_mib.map(|mib| mib.saturating_mul(1024));
        let open_files = open_files.or(program.limits().open_files);
        program = program.within(ProcessLimits { open_files, memory_kib, cpu_seconds });
        if self.said.answered || self.said.interrupts || self.said.input || self.said.checkpoints {
            program = program.answered();
        }
        if self.said.pty {
            program = program.on_terminal();
        }
        let terms = self.terms(directory)?;
        Ok(FolderAgent {
            version: self.version()?,
            restartable: self.said.restartable || self.said.checkpoints,
            program,
            terms,
        })
    }

    fn version(&self) -> Result<Option<String>, DirectoryError> {
        let Some(version) = &self.said.version else {
            return Ok(None);
        };
        if AgentRef::parse(&format!("it@{}", version.get_ref())).is_err() {
            let why = "a version has letters, digits, `.`, `_`, `-` and `+`, such as \"1.2.0\"";
            return Err(self.bad(version.span(), why));
        }
        Ok(Some(version.get_ref().clone()))
    }

    fn terms(&self, directory: &AgentDirectory) -> Result<Terms, DirectoryError> {
        if let Some(long) = self.said.description.as_ref().filter(|text| text.get_ref().len() > DESCRIPTION_BYTES) {
            return Err(self.bad(long.span(), &format!("at most {DESCRIPTION_BYTES} bytes: make it shorter")));
        }
        Ok(Terms {
            concurrency: self.said.concurrency,
            description: self.said.description.as_ref().map(|text| text.get_ref().clone()),
            schema: self.schema(directory)?,
            observes_interrupts: self.said.interrupts,
            takes_input: self.said.input,
            pure: self.said.pure,
            gives_checkpoints: self.said.checkpoints,
        })
    }

    fn schema(&self, directory: &AgentDirectory) -> Result<Option<Arc<InputSchema>>, DirectoryError> {
        let Some(schema) = &self.said.input_schema else {
            return Ok(None);
        };
        let bad = |why: String| self.bad(schema.span(), &why);
        let text = match schema.get_ref() {
            Schema::File(name) if name.contains('/') => {
                return Err(bad(format!("`{name}` must be a file in the folder of the agent: move it there")));
            }
            Schema::File(name) => {
                let text = read_file(&directory.folder.join(name));
                text.map_err(|why| bad(format!("`{name}` {why}")))?
            }
            Schema::Here(table) => serde_json::to_string(table).map_err(|error| bad(error.to_string()))?,
        };
        let json = Json::parse(&text).map_err(|error| bad(format!("the schema is {error}")))?;
        let schema = InputSchema::new(&json).map_err(|error| bad(format!("{error}: correct it")))?;
        Ok(Some(Arc::new(schema)))
    }
}
