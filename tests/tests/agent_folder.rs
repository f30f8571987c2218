//! Agents from a folder: what their files configure, and errors in files.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::fs::{self, Permissions};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use arcp_host::directory::AgentDirectory;
use arcp_host::process::ProcessAgent;
use arcp_host::registry::{AgentSource as _, Registry};
use arcp_proto::model::agent::AgentEntry;
use arcp_proto::runtime::AgentExit;
use arcp_tests::kept::Folder;
use arcp_tests::lone::{Lone, spec};
use arcp_tests::until::until;

/// Writes a file, of which the owner may do that.
fn put(folder: &Folder, name: &str, text: impl AsRef<[u8]>, mode: u32) {
    let path = folder.0.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
}

fn program(folder: &Folder, name: &str, text: &str) {
    put(folder, name, format!("#!/bin/sh\n{text}\n"), 0o755);
}

fn about(folder: &Folder, name: &str, text: &str) {
    put(folder, &format!("{name}.toml"), text, 0o644);
}

fn base() -> Registry {
    let mut base = Registry::default();
    base.add("own", None, ProcessAgent::shell(":"));
    base
}

fn open(folder: &Folder) -> Result<(AgentDirectory, Registry), Vec<String>> {
    let program = ProcessAgent::shell(":").with_descriptors(77);
    let errors = |all: Vec<arcp_host::directory::DirectoryError>| all.iter().map(ToString::to_string).collect();
    AgentDirectory::open(&folder.0, base(), program).map_err(errors)
}

fn names(registry: &Registry) -> Vec<String> {
    registry.entries().into_iter().map(|entry| entry.name).collect()
}

/// What is wrong, without the path of the folder.
fn errors(folder: &Folder) -> Vec<String> {
    let place = format!("{}/", folder.0.display());
    open(folder).expect_err("something is wrong").into_iter().map(|error| error.replace(&place, "")).collect()
}

fn entry(registry: &Registry, name: &str) -> AgentEntry {
    registry.entries().into_iter().find(|entry| entry.name == name).expect("it is there")
}

/// The result of an agent of this folder.
fn result(folder: &Folder, agent: &str, input: &str) -> String {
    let (_, registry) = open(folder).expect("nothing is wrong");
    match Lone::new(|all| *all = registry).run(spec(agent, input)).1 {
        AgentExit::Success { result: Some(result), .. } => result.as_str().to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_program_is_an_agent_and_nothing_else_is() {
    let folder = Folder::new("agents-each");
    program(&folder, "greet.sh", ":");
    program(&folder, "plain", ":");
    program(&folder, ".hidden", ":");
    program(&folder, "older~", ":");
    put(&folder, "notes.txt", "no program", 0o644);
    put(&folder, "for-owner", "#!/bin/sh\n", 0o700);
    fs::create_dir(folder.0.join("folder")).expect("made");
    let (_, registry) = open(&folder).expect("nothing is wrong");
    assert_eq!(names(&registry), ["for-owner", "greet", "own", "plain"]);
    let greet = entry(&registry, "greet");
    assert_eq!((greet.versions.len(), greet.description, greet.concurrency), (0, None, None));
    assert!(!greet.checks_input && !greet.observes_interrupts && !greet.takes_input && !greet.pure);
    assert!(!greet.gives_checkpoints && registry.restartable().is_empty());
}

#[test]
fn a_file_beside_it_says_what_holds_of_an_agent() {
    let folder = Folder::new("agents-said");
    for name in ["full", "restarts", "checkpoints", "plain"] {
        program(&folder, name, ":");
    }
    let most = "d".repeat(2000);
    let full = format!(
        "description = \"{most}\"\nversion = \"1.2.0\"\ninput_schema = {{ type = \"object\" }}\nconcurrency = 2\n\
         interrupts = true\ninput = true\npure = true\nanswered = true\npty = true\nformat = \"jsonl\"\n"
    );
    about(&folder, "full", &full);
    about(&folder, "restarts", "restartable = true\n");
    put(&folder, "schema.json", r#"{"type":"string"}"#, 0o644);
    about(&folder, "checkpoints", "checkpoints = true\ninput_schema = \"schema.json\"\n");
    let (_, registry) = open(&folder).expect("nothing is wrong");
    let full = entry(&registry, "full");
    assert_eq!((full.description, full.concurrency), (Some(most), NonZeroU32::new(2)));
    assert_eq!((full.versions, full.default.as_deref()), (vec!["1.2.0".to_string()], Some("1.2.0")));
    assert!(full.checks_input && full.observes_interrupts && full.takes_input && full.pure && !full.gives_checkpoints);
    let checkpoints = entry(&registry, "checkpoints");
    assert_eq!(checkpoints.input_schema.expect("one").as_str(), r#"{"type":"string"}"#);
    assert!(checkpoints.gives_checkpoints && !checkpoints.observes_interrupts);
    assert_eq!(registry.restartable().iter().collect::<Vec<_>>(), ["checkpoints", "restarts"]);
}

#[test]
fn programs_run_as_their_files_say() {
    let folder = Folder::new("agents-run");
    fs::create_dir(folder.0.join("work")).expect("made");
    program(&folder, "where", "pwd");
    about(&folder, "where", "working_directory = \"work\"\n");
    program(&folder, "variables", "echo \"$GREETING $PATH\"");
    about(&folder, "variables", "pass_environment = [\"PATH\"]\n[environment]\nGREETING = \"hello\"\n");
    program(&folder, "limits", "ulimit -S -n; ulimit -S -v; ulimit -S -t");
    about(&folder, "limits", "[limits]\nopen_files = 55\nmemory_mib = 4096\ncpu_seconds = 99\n");
    program(&folder, "files", "ulimit -S -n");
    program(&folder, "answers", "read input; echo '{\"kind\":\"heartbeat\",\"id\":1}'; read answer; echo \"$answer\"");
    about(&folder, "answers", "answered = true\n");
    program(&folder, "terminal", "test -t 1 && echo yes");
    about(&folder, "terminal", "pty = true\n");
    program(&folder, "lines", "echo '{\"type\":\"any\"}'");
    about(&folder, "lines", "format = \"text\"\n");
    assert_eq!(
        result(&folder, "where", "{}"),
        format!("\"{}\"", folder.0.canonicalize().expect("a path").join("work").display())
    );
    assert_eq!(result(&folder, "variables", "{}"), format!("\"hello {}\"", std::env::var("PATH").expect("a path")));
    assert_eq!(result(&folder, "limits", "{}"), "\"55\\n4194304\\n99\"");
    assert_eq!(result(&folder, "files", "{}"), "\"77\"", "as the others");
    assert_eq!(result(&folder, "answers", "{}"), r#""{\"id\":1,\"ok\":true}""#);
    assert_eq!(result(&folder, "terminal", "{}"), "\"yes\"");
    assert_eq!(result(&folder, "lines", "{}"), r#""{\"type\":\"any\"}""#);
    for said in ["interrupts", "input"] {
        about(&folder, "answers", &format!("{said} = true\n"));
        assert_eq!(result(&folder, "answers", "{}"), r#""{\"id\":1,\"ok\":true}""#, "{said}: who reads is answered");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_key() {
    for (text, said) in [
        ("\nversion = \"a b\"\n", "it.toml:2: `version`: a version has letters, digits"),
        ("version = 1\n", "it.toml:1: `version`: "),
        ("no_such = 1\n", "it.toml:1: `no_such`: unknown field"),
        ("a = \n", "it.toml:1: `a`: "),
        ("concurrency = 0\n", "it.toml:1: `concurrency`: "),
        ("format = \"pdf\"\n", "it.toml:1: `format`: "),
        (
            "\n\nworking_directory = \"no\"\n",
            "it.toml:3: `working_directory`: no is no folder: make it, or give another",
        ),
        (
            "pass_environment = [\"NO_SUCH_1\"]\n",
            "it.toml:1: `pass_environment`: `NO_SUCH_1` is not set here: set it, or remove it",
        ),
        ("[environment]\n\"A=B\" = \"c\"\n", "it.toml:2: `\"A`: no variable can be called so, or have that value"),
        ("[environment]\n\"\" = \"c\"\n", "it.toml:2: `\"\"`: no variable can be called so, or have that value"),
        ("[environment]\nA = \"b\\u0000\"\n", "it.toml:2: `A`: no variable can be called so, or have that value"),
        (
            "input_schema = \"a/b\"\n",
            "it.toml:1: `input_schema`: `a/b` must be a file in the folder of the agent: move it there",
        ),
        ("input_schema = \"none\"\n", "it.toml:1: `input_schema`: `none` cannot be read: "),
        ("input_schema = \"folder\"\n", "it.toml:1: `input_schema`: `folder` is no file: put one there, or remove it"),
        (
            "input_schema = \"large\"\n",
            "it.toml:1: `input_schema`: `large` has more than 1048576 bytes: make it smaller",
        ),
        ("input_schema = \"text\"\n", "it.toml:1: `input_schema`: the schema is "),
        ("input_schema = { type = \"no\" }\n", "it.toml:1: `input_schema`: "),
    ] {
        let folder = Folder::new("agents-wrong");
        program(&folder, "it", ":");
        fs::create_dir(folder.0.join("folder")).expect("made");
        put(&folder, "text", "{", 0o644);
        put(&folder, "large", vec![b' '; (1 << 20) + 1], 0o644);
        about(&folder, "it", text);
        let errors = errors(&folder);
        assert!(errors.len() == 1 && errors[0].starts_with(said), "{text}: {errors:?}");
    }
    let folder = Folder::new("agents-long");
    program(&folder, "it", ":");
    about(&folder, "it", &format!("description = \"{}\"\n", "d".repeat(2001)));
    assert_eq!(errors(&folder), ["it.toml:1: `description`: at most 2000 bytes: make it shorter"]);
    about(&folder, "it", "");
    put(&folder, "exact.json", format!("{{}}{}", " ".repeat((1 << 20) - 2)), 0o644);
    about(&folder, "it", "input_schema = \"exact.json\"\n");
    assert!(open(&folder).is_ok());
}

#[test]
fn what_can_be_no_agent_is_said_of_its_file() {
    let folder = Folder::new("agents-none");
    program(&folder, "a b", ":");
    program(&folder, "it@1", ":");
    program(&folder, "own", ":");
    program(&folder, "twice.py", ":");
    program(&folder, "twice.sh", ":");
    about(&folder, "stray", "");
    assert_eq!(
        errors(&folder),
        [
            "a b: `a b` is no name of an agent: use letters, digits, `.`, `_` and `-`, or remove it",
            "it@1: `it@1` is no name of an agent: use letters, digits, `.`, `_` and `-`, or remove it",
            "own: another agent is called `own`: rename the file, or remove one of them",
            "twice.sh: another agent is called `twice`: rename the file, or remove one of them",
            "stray.toml: no executable is called `stray` beside it: make it executable (chmod +x), or remove this",
        ]
    );
    let nowhere = AgentDirectory::open(&folder.0.join("no"), base(), ProcessAgent::shell(":")).expect_err("it is not");
    assert!(nowhere.len() == 1 && nowhere[0].to_string().contains("the folder cannot be read: "), "{nowhere:?}");
}

#[test]
fn a_change_is_seen_once_and_an_agent_with_a_fault_stays_as_it_was() {
    let folder = Folder::new("agents-change");
    program(&folder, "one", ":");
    about(&folder, "one", "version = \"1\"\n");
    program(&folder, "two", ":");
    let (mut directory, _) = open(&folder).expect("nothing is wrong");
    let version = |registry: &Registry| entry(registry, "one").default;
    assert!(directory.changed().is_none());
    about(&folder, "one", "version = \"22\"\n");
    fs::remove_file(folder.0.join("two")).expect("removed");
    program(&folder, "three", ":");
    let changed = directory.changed().expect("it has changed");
    assert_eq!(
        (names(&changed), version(&changed)),
        (vec!["one".into(), "own".into(), "three".into()], Some("22".into()))
    );
    assert!(directory.changed().is_none());
    about(&folder, "one", "version = \"a fault\"\n");
    program(&folder, "four", ":");
    let changed = directory.changed().expect("it has changed");
    assert_eq!(names(&changed), ["four", "one", "own", "three"]);
    assert_eq!(version(&changed), Some("22".into()));
    // A clock is perhaps not as fine as two changes are near.
    until("it is seen that it is no program any more", || {
        fs::set_permissions(folder.0.join("four"), Permissions::from_mode(0o644)).expect("changed");
        directory.changed().filter(|changed| !changed.has("four"))
    });
    fs::remove_file(folder.0.join("one")).expect("removed");
    let changed = directory.changed().expect("it has changed");
    assert!(!changed.has("one"), "there is no program that it describes");
}
