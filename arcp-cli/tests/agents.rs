//! Agents from a folder, and what `arcp serve` logs about each.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::until::until;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A home with a folder for agents in it.
fn home() -> (Home, PathBuf) {
    let home = Home::new(ARCP);
    let folder = home.dir.join("agents");
    fs::create_dir_all(&folder).expect("a folder");
    (home, folder)
}

/// Puts a file there at once, as an editor does.
fn put(folder: &Path, name: &str, text: &str) {
    let hidden = folder.join(format!(".{name}"));
    fs::write(&hidden, text).expect("written");
    let mode = if name.contains('.') && !name.ends_with(".sh") { 0o644 } else { 0o755 };
    fs::set_permissions(&hidden, Permissions::from_mode(mode)).expect("set");
    fs::rename(hidden, folder.join(name)).expect("moved");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn each_executable_of_a_folder_is_an_agent_as_the_file_beside_it_says() {
    let (mut home, folder) = home();
    put(&folder, "greet.sh", "#!/bin/sh\nread name\necho \"$GREETING $name from $(basename \"$PWD\")\"; ulimit -n\n");
    put(
        &folder,
        "greet.toml",
        r#"description = "Greets people."
version = "1.2.0"
working_directory = "work"
concurrency = 2
[environment]
GREETING = "hello"
[limits]
open_files = 77
[input_schema]
type = "string"
minLength = 2
"#,
    );
    put(&folder, "bare", "#!/bin/sh\necho bare\n");
    put(&folder, "notes.txt", "no agent");
    put(&folder, "bare~", "#!/bin/sh\necho what an editor left\n");
    fs::create_dir(folder.join("work")).expect("a folder");
    home.serve(&["--agents", text(&folder)]);
    let greeted = home.run(&["submit", "greet@1.2.0", "--input", "\"you\""]);
    assert_eq!(stdout(&greeted), "hello \"you\" from work\n77\n", "{}", stderr(&greeted));
    assert_eq!(stdout(&home.run(&["submit", "bare"])), "bare\n");
    let shown = stdout(&home.run(&["agents", "greet", "-o", "json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert_eq!((&shown["description"], &shown["concurrency"]), (&"Greets people.".into(), &2.into()));
    assert_eq!(shown["input_schema"], serde_json::json!({"type": "string", "minLength": 2}));
    assert!(stdout(&home.run(&["agents", "greet", "--family", "open"])).contains("Greets people."));
    let refused = home.run(&["submit", "greet", "--input", "7"]);
    let said = stderr(&refused);
    assert!(code(&refused) != 0 && said.contains("the input does not fit the agent"), "{said}");
    assert!(said.contains("the agent: the value is not of type \"string\""), "{said}");
    let listed = stdout(&home.run(&["list", "--output", "jsonl"]));
    assert_eq!(listed.lines().count(), 2, "what was refused is no job: {listed}");
}

#[test]
fn what_changes_in_a_folder_is_taken_up_and_a_job_keeps_what_it_began_with() {
    let (mut home, folder) = home();
    put(&folder, "it.sh", "#!/bin/sh\necho read >&2; while [ ! -e \"$FLAG\" ]; do sleep 0.05; done; echo one $WHAT\n");
    let flag = home.dir.join("flag");
    let toml = |what: &str, version: &str| {
        format!("version = \"{version}\"\nenvironment = {{ FLAG = \"{}\", WHAT = \"{what}\" }}\n", flag.display())
    };
    put(&folder, "it.toml", &toml("first", "1"));
    home.serve(&["--agents", text(&folder)]);
    let job = stdout(&home.run(&["submit", "it", "--detach"]));
    until("its script is read", || stdout(&home.run(&["logs", job.trim()])).contains("stderr read").then_some(()));
    put(&folder, "it.sh", "#!/bin/sh\necho two $WHAT\n");
    put(&folder, "it.toml", &toml("second", "2"));
    put(&folder, "new", "#!/bin/sh\necho new\n");
    // Perhaps not all of it at once.
    for agent in ["new", "it@2"] {
        until("the change is taken up", || (code(&home.run(&["submit", agent])) == 0).then_some(()));
    }
    assert_eq!(stdout(&home.run(&["submit", "it"])), "two second\n");
    assert_ne!(code(&home.run(&["submit", "it@1"])), 0, "that version is hosted no more");
    // An error leaves what there was.
    put(&folder, "it.toml", "verzion = \"3\"\n");
    fs::remove_file(folder.join("new")).expect("removed");
    until("the other change is taken up", || (code(&home.run(&["submit", "new"])) != 0).then_some(()));
    assert_eq!(stdout(&home.run(&["submit", "it"])), "two second\n");
    fs::write(&flag, "").expect("written");
    assert_eq!(stdout(&home.run(&["watch", job.trim()])), "one first\n");
}

/// What a server says that does not start.
fn refused(home: &Home, args: &[&str]) -> String {
    let output = home.run(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_mistake_in_a_file_is_told_with_file_line_key_and_what_to_do() {
    let (home, folder) = home();
    put(&folder, "it", "#!/bin/sh\n");
    std::os::unix::fs::symlink("/dev/null", folder.join("null.json")).expect("a link");
    for (toml, line, said) in [
        ("\nconcurency = 2\n", 2, ["`concurency`", "expected one of"]),
        ("concurrency = 0\n", 1, ["`concurrency`", "nonzero"]),
        ("description = 7\n", 1, ["`description`", "expected a string"]),
        ("version = \"no spaces\"\n", 1, ["`version`", "such as \"1.2.0\""]),
        ("format = \"json\"\n", 1, ["`format`", "claude-json"]),
        ("\n\nworking_directory = \"nowhere\"\n", 3, ["`working_directory`", "make it"]),
        ("pass_environment = [\"NOT_SET_ANYWHERE\"]\n", 1, ["`pass_environment`", "is not set here"]),
        ("input_schema = \"no.json\"\n", 1, ["`input_schema`", "cannot be read"]),
        ("input_schema = \"null.json\"\n", 1, ["`input_schema`", "is no file"]),
        ("input_schema = \"../no.json\"\n", 1, ["`input_schema`", "move it there"]),
        ("[input_schema]\ntype = \"whole\"\n", 1, ["input_schema", "not a JSON Schema"]),
        ("[limits]\nopen_files = -1\n", 2, ["`open_files`", "u64"]),
        ("[limits]\nfiles = 1\n", 2, ["`files`", "open_files"]),
        ("version = \n", 1, ["`version`", "correct it"]),
    ] {
        put(&folder, "it.toml", toml);
        let told = refused(&home, &["--agents", text(&folder)]);
        assert!(told.contains(&format!("agents/it.toml:{line}: ")), "{toml:?}: {told}");
        assert!(said.iter().all(|part| told.contains(part)), "{toml:?}: {told}");
    }
    put(&folder, "it.toml", "");
    put(&folder, "stray.toml", "");
    put(&folder, "it.sh", "#!/bin/sh\n");
    put(&folder, "no good", "#!/bin/sh\n");
    let told = refused(&home, &["--agents", text(&folder)]);
    for part in
        ["stray.toml: no executable is called `stray`", "it.sh: another agent is called `it`", "`no good` is no name"]
    {
        assert!(told.contains(part), "every mistake is told: {told}");
    }
    let told = refused(&home, &["--agents", "/nowhere/at/all"]);
    assert!(told.contains("/nowhere/at/all: the folder cannot be read"), "{told}");
}

#[test]
fn an_answered_agent_of_a_folder_reads_what_became_of_what_it_said() {
    let (mut home, folder) = home();
    let said = r#"{"kind":"status","body":{"phase":"asking"},"id":"first"}"#;
    put(&folder, "asker", &format!("#!/bin/sh\nread -r input\necho '{said}'\nread -r answer\necho \"$answer\"\n"));
    put(&folder, "asker.toml", "answered = true\n");
    home.serve(&["--agents", text(&folder)]);
    let asked = home.run(&["submit", "asker", "--input", "7"]);
    let answer: serde_json::Value =
        serde_json::from_str(&stdout(&asked)).unwrap_or_else(|error| panic!("{error}: {asked:?}"));
    assert_eq!((&answer["id"], &answer["ok"]), (&"first".into(), &true.into()), "{answer}");
    let job = stdout(&home.run(&["ls", "-o", "id"]));
    let logs = stdout(&home.run(&["logs", job.trim(), "-o", "jsonl"]));
    let event = logs.lines().find(|line| line.contains("asking")).expect("it was said");
    assert!(event.contains(&format!("\"event_seq\":{}", answer["event"])), "{event}: {answer}");
}

/// What a program asks people, one after the other, and ends with what it read.
const ASKER: &str = r#"#!/bin/sh
read -r input
ask() { echo "{\"id\":$1,\"kind\":\"$2\",\"body\":{$3}}"; read -r line; all="$all,$line"; }
ask 1 ask '"prompt":"How many?","response_schema":{"type":"integer"}'
ask 2 choose '"prompt":"Which?","options":["red",{"id":"b","label":"blue"}]'
ask 3 ask '"prompt":"How far?","default":7'
ask 4 ask_permission '"operation":"fs.write","resource":"/w/*.md","reason":"to mend it"'
ask 5 ask_permission '"operation":"fs.write","resource":"/etc/*"'
printf '{"result":[%s]}\n' "${all#,}"
"#;

#[test]
fn what_a_program_asks_is_in_the_inbox_and_people_answer_approve_and_deny_it() {
    let (mut home, folder) = home();
    put(&folder, "asker", ASKER);
    put(&folder, "asker.toml", "answered = true\n");
    let store = folder.with_file_name("trail.db");
    let tokens = ["--token", "t=alice", "--token", "u=bob"];
    home.serve(&[&["--agents", text(&folder), "--store", text(&store)], &tokens[..]].concat());
    for family in ["hello", "open"] {
        home.variables = vec![("ARCP_FAMILY", family), ("ARCP_TOKEN", "t")];
        let job = stdout(&home.run(&["submit", "asker", "--detach"]));
        let inbox = |home: &Home| -> Vec<serde_json::Value> {
            let listed = home.run(&["inbox", "-o", "json"]);
            serde_json::from_str(&stdout(&listed)).unwrap_or_else(|error| panic!("{error}: {}", stderr(&listed)))
        };
        // What is asked with this text, and its id.
        let asked = |name: &str, asks: &str| {
            let question = until(asks, || inbox(&home).into_iter().find(|question| question[name] == asks));
            (question["prompt_id"].as_str().expect("an id").to_string(), question)
        };
        let refused = |args: &[&str], exit: i32, said: &[&str]| {
            let output = home.run(args);
            let told = stderr(&output);
            assert!(code(&output) == exit && said.iter().all(|part| told.contains(part)), "{family} {args:?}: {told}");
        };
        let done = |args: &[&str]| refused(args, 0, &[args[1]]);

        let (many, question) = asked("prompt", "How many?");
        assert_eq!((&question["kind"], &question["job_id"]), (&"input".into(), &job.trim().into()), "{question}");
        assert_eq!(question["response_schema"]["type"], "integer");
        assert!(stdout(&home.run(&["ls", "--no-header"])).contains(" blocked "), "it is seen to wait");
        refused(&["answer", &many, "\"five\""], 1, &["integer", "still open"]);
        refused(&["answer", &many, "five"], 2, &["a text is quoted"]);
        refused(&["answer", &many, "--choice", "red"], 1, &["asks for a value", "still open"]);
        refused(&["answer", &many, "--default"], 2, &["has none"]);
        refused(&["answer", &many], 2, &["<ID> <JSON|@FILE|-|--choice <OPTION>|--default>"]);
        assert_eq!(asked("prompt", "How many?").0, many, "it is open");
        done(&["answer", &many, "-5"]);
        refused(&["answer", &many, "6"], 1, &["already, by alice at"]);
        let again = stderr(&home.run(&["answer", &many, "6"]));
        assert!(!again.contains("still open"), "{family}: {again}");

        let (which, _) = asked("prompt", "Which?");
        refused(&["answer", &which, "--choice", "green"], 1, &["red, b", "still open"]);
        done(&["answer", &which, "--choice", "b"]);
        let (far, _) = asked("prompt", "How far?");
        done(&["answer", &far, "--default"]);
        refused(&["answer", &far, "--default"], 1, &["already, by alice at"]);
        let (allowed, _) = asked("resource", "/w/*.md");
        let table = stdout(&home.run(&["inbox"]));
        assert!(table.contains(&allowed) && table.contains("fs.write on /w/*.md: to mend it"), "{table}");
        refused(&["answer", &allowed, "true"], 1, &["permission.grant", "still open"]);
        let theirs = ["--token", "u"];
        assert_eq!(stdout(&home.run(&[&["inbox", "-o", "id"], &theirs[..]].concat())), "", "it is not theirs");
        refused(&[&["approve", &allowed], &theirs[..]].concat(), 1, &["arcp inbox"]);
        refused(&["approve", &allowed, "--scope", "/etc/*"], 1, &["only what is within `/w/*.md`"]);
        // It is shown as it is granted, and can be prolonged and taken back.
        let granted = stdout(&home.run(&["approve", &allowed, "--for", "1h", "--scope", "/w/a.md"]));
        let granted: serde_json::Value = serde_json::from_str(&granted).unwrap_or_else(|e| panic!("{e}: {granted}"));
        assert_eq!((&granted["resource"], &granted["operation"]), (&"/w/a.md".into(), &"fs.write".into()), "{granted}");
        let lease = granted["lease_id"].as_str().expect("a lease").to_string();
        let longer = stdout(&home.run(&["extend", &lease, "--for", "2h"]));
        assert!(longer.contains(&lease) && longer.contains("expires_at"), "{longer}");
        done(&["revoke", &lease, "--reason", "enough"]);
        refused(&["revoke", &lease], 5, &["taken back"]);
        let (denied, _) = asked("resource", "/etc/*");
        done(&["deny", &denied, "--reason", "not today"]);
        let result = stdout(&home.run(&["watch", job.trim()]));
        let answers: serde_json::Value = serde_json::from_str(&result).unwrap_or_else(|e| panic!("{e}: {result}"));
        assert_eq!((&answers[0]["value"], &answers[0]["responded_by"]), (&(-5).into(), &"alice".into()), "{answers}");
        assert_eq!((&answers[1]["value"], &answers[2]["value"]), (&"b".into(), &7.into()), "{answers}");
        assert_eq!(answers[3]["ok"], true, "{answers}");
        assert_eq!(answers[4]["error"]["code"], "PERMISSION_DENIED", "{answers}");
        assert!(answers[4]["error"]["message"].as_str().is_some_and(|why| why.contains("not today")), "{answers}");
        assert_eq!(inbox(&home), Vec::<serde_json::Value>::new());
    }
    // All of it stands in the trail, without the answers.
    let trail = stdout(&home.run(&["audit", "--store", text(&store), "--principal", "alice", "-o", "jsonl"]));
    let acts = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["act"].to_string();
    let acts: Vec<String> = trail.lines().map(acts).collect();
    // What is refused again within a minute is counted.
    let first = "answer answer answer approve extend revoke revoke deny";
    let second = "answer answer answer approve extend revoke deny";
    assert_eq!(acts.join(" ").replace('"', ""), format!("{first} {second}"), "{trail}");
    assert!(trail.contains("enough") && trail.contains("LEASE_REVOKED") && !trail.contains("-5"), "{trail}");
    let others = stdout(&home.run(&["audit", "--store", text(&store), "--principal", "bob", "--since", "1h"]));
    assert_eq!(others.lines().count(), 0, "{others}");
}

#[test]
fn an_agent_of_the_command_line_has_a_format_and_a_concurrency() {
    let (mut home, _) = home();
    let result = r#"coder=echo '{"type":"result","subtype":"success","result":"mended"}'"#;
    let args = ["--agent", result, "--format", "coder=claude-json", "--concurrency", "coder=1"];
    home.serve(&args);
    assert_eq!(stdout(&home.run(&["submit", "coder"])), "mended\n");
    for (option, value, said) in [
        ("--format", "coder=xml", "formats are text"),
        ("--format", "other=jsonl", "no --agent has that name"),
        ("--concurrency", "coder=0", "N is 1 or more"),
        ("--concurrency", "other=1", "no --agent has that name"),
        ("--agent-env", "ARCP_TOKEN=x", "given to no agent"),
    ] {
        let told = refused(&home, &["--agent", "coder=true", option, value]);
        assert!(told.contains(said), "{option} {value}: {told}");
    }
}

#[test]
fn no_agent_has_a_token_of_its_runtime_in_its_environment() {
    let (mut home, folder) = home();
    put(&folder, "env", "#!/bin/sh\ncat /proc/$$/environ | tr '\\0' '\\n'; env\n");
    put(&folder, "env.toml", "[environment]\nARCP_TOKEN = \"tok-file\"\nMINE = \"kept\"\n");
    home.variables = vec![("ARCP_TOKEN", "tok-operator"), ("SECRET_OF_THE_OPERATOR", "tok-other")];
    home.serve(&[
        "--token",
        "tok-operator=me",
        "--agents",
        text(&folder),
        "--agent",
        "shell=env",
        "--agent-env",
        "A=b",
    ]);
    for agent in ["env", "shell"] {
        let environment = stdout(&home.run(&["submit", agent]));
        assert!(environment.contains("ARCP_JOB_ID="), "{environment}");
        for secret in ["tok-", "ARCP_TOKEN", "SECRET_OF_THE_OPERATOR"] {
            assert!(!environment.contains(secret), "{agent}: {environment}");
        }
    }
    assert!(stdout(&home.run(&["submit", "env"])).contains("MINE=kept"));
    let told = refused(&home, &["--token", "tok-x=me", "--agent", "it=env", "--agent-env", "MY_TOKEN=tok-x"]);
    assert!(told.contains("--agent-env MY_TOKEN") && !told.contains("tok-x"), "{told}");
}

#[test]
fn the_log_says_what_was_taken_up_and_why_something_was_not() {
    let (home, folder) = home();
    put(&folder, "it", "#!/bin/sh\n");
    let mut command = home.arcp(&["serve", "--listen", "127.0.0.1:0", "--agents", text(&folder)]);
    let mut server = command.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(server.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("READY")));
    put(&folder, "it.toml", "version = 7\n");
    let told = lines.find(|line| line.contains("it.toml:1")).expect("it is told");
    assert!(told.contains("until then the agent stays as it was"), "{told}");
    put(&folder, "it.toml", "version = \"7\"\n");
    assert!(lines.any(|line| line.contains("agents of") && line.contains(": it")));
    Command::new("kill").arg(server.id().to_string()).status().expect("kill");
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn the_examples_run_and_the_page_shows_them_as_they_are() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder");
    let examples = repository.join("examples/agents");
    let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let page = read(repository.join("docs/agents.md"));
    for name in ["count.sh", "release.sh", "search.sh", "steps.py", "coder.sh", "careful.py"] {
        assert!(page.contains(&read(examples.join(name))), "docs/agents.md does not show {name} as it is");
    }
    let (mut home, bin) = home();
    // In the place of the real one: what it would stream, if it is called right.
    let stream = repository.join("tests/streams/claude.jsonl");
    let options = "-p \"mend it\" --output-format stream-json --verbose";
    put(
        &bin,
        "claude",
        &format!("#!/bin/sh\ncase \"-p $2 $3 $4 $5\" in '{options}') cat {};; esac\n", stream.display()),
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    home.variables.push(("PATH", path.leak()));
    home.serve(&["--agents", text(&examples)]);
    let counted = home.run(&["submit", "count", "--input", "\"the quick brown fox\""]);
    assert_eq!(stdout(&counted), "{\"words\":4}\n", "{}", stderr(&counted));
    assert_ne!(code(&home.run(&["submit", "count", "--input", "\"$(id)\""])), 0, "nothing that a shell would read");
    let stepped = home.run(&["submit", "steps", "--input", r#"{"steps":3,"seconds":0}"#]);
    assert_eq!(stdout(&stepped).replace(' ', ""), "{\"steps\":3,\"of_an_earlier_run\":0}\n", "{}", stderr(&stepped));
    let release = stdout(&home.run(&["submit", "release", "--input", "\"1.2\"", "--detach"]));
    let asked = |text: &str| {
        let listed = until(text, || Some(stdout(&home.run(&["inbox"]))).filter(|listed| listed.contains(text)));
        listed.split_whitespace().next().expect("an id").to_string()
    };
    assert_eq!(code(&home.run(&["answer", &asked("Release 1.2 to whom?"), "--choice", "everybody"])), 0);
    assert_eq!(code(&home.run(&["answer", &asked("What is new?"), r#""more, \"all\" of it""#])), 0);
    let released = home.run(&["watch", release.trim()]);
    let expected = r#"{"version":"1.2","channel":"everybody","notes":"more, \"all\" of it"}"#;
    assert_eq!(stdout(&released).trim(), expected, "{}", stderr(&released));
    let search = ["submit", "search", "--input", "\"red green blue black\""];
    let searched = home.run(&[&search[..], &["--lease", "tool.call=search.*", "--budget", "USD:1"]].concat());
    assert_eq!(stdout(&searched), "{\"searches\":3}\n", "{}", stderr(&searched));
    assert!(stderr(&searched).contains("nothing is left for black"), "{}", stderr(&searched));
    let refused = home.run(&search);
    assert!(code(&refused) != 0 && stderr(&refused).contains("PERMISSION_DENIED"), "{}", stderr(&refused));
    let unbounded = home.run(&[&search[..], &["--lease", "tool.call=search.*"]].concat());
    assert_eq!(stdout(&unbounded), "{\"searches\":4}\n", "{}", stderr(&unbounded));
    let coded = home.run(&["submit", "coder", "--input", "\"mend it\""]);
    assert_eq!(stdout(&coded), "The test passes.\n", "{}", stderr(&coded));
}

#[test]
fn a_restartable_agent_of_a_folder_goes_on_where_it_was() {
    let (mut home, folder) = home();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agents");
    for name in ["steps.py", "steps.toml", "steps.schema.json"] {
        fs::copy(examples.join(name), folder.join(name)).expect("copied");
    }
    let store = home.dir.join("store.db");
    let args = ["--agents", text(&folder), "--store", text(&store), "--token", "t=me"];
    home.variables.push(("ARCP_TOKEN", "t"));
    home.serve(&args);
    let job = stdout(&home.run(&["submit", "steps", "--input", r#"{"steps":6,"seconds":0.3}"#, "--detach"]));
    let logs = |home: &Home| stdout(&home.run(&["list", "--output", "jsonl"]));
    let events = |home: &Home| {
        let line: serde_json::Value = serde_json::from_str(logs(home).lines().next().unwrap_or("null")).expect("JSON");
        line["last_event_seq"].as_u64().unwrap_or(0)
    };
    until("it has done a step or two", || (events(&home) > 8).then_some(()));
    home.signal("KILL");
    home.serve(&args);
    let result = stdout(&home.run(&["watch", job.trim()]));
    let result: serde_json::Value = serde_json::from_str(&result).unwrap_or_else(|error| panic!("{error}: {result}"));
    assert_eq!(result["steps"], 6);
    assert!(result["of_an_earlier_run"].as_u64() > Some(0), "{result}");
}

/// In the place of Claude Code: before each tool it runs its hook, as the reference
/// of hooks says, and tells what came of it.
const CODER: &str = r#"#!/usr/bin/env python3
import json, subprocess, sys
settings = json.loads(sys.argv[sys.argv.index("--settings") + 1])
(matched,) = settings["hooks"]["PreToolUse"]
(hook,) = matched["hooks"]
said = [sys.argv[sys.argv.index("-p") + 1]]
for tool, given in [
    ("Read", {"file_path": "notes/a.txt"}),
    ("Write", {"file_path": "/w/b.txt", "content": "b"}),
    ("Bash", {"command": "rm -rf /", "description": "to clean up"}),
]:
    call = {"session_id": "s", "transcript_path": "/t.jsonl", "cwd": "/srv", "permission_mode": "default"}
    call |= {"hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": given, "tool_use_id": "toolu_1"}
    ran = subprocess.run(hook["command"], shell=True, input=json.dumps(call), capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"the hook ended with {ran.returncode}: {ran.stderr}")
    decided = json.loads(ran.stdout)["hookSpecificOutput"]
    said.append(f"{tool}: {decided['permissionDecision']}")
    reason = decided["permissionDecisionReason"]
print(json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": "; ".join(said) + ": " + reason}))
"#;

#[test]
fn a_coding_agent_asks_people_before_it_uses_what_its_lease_does_not_grant() {
    let (mut home, bin) = home();
    put(&bin, "claude", CODER);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    home.variables.push(("PATH", path.leak()));
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agents");
    home.serve(&["--agents", text(&examples)]);
    let lease = ["--lease", "fs.read=/srv/**", "--lease", "tool.call=**"];
    let submit = ["submit", "careful", "--input", "\"tidy up\"", "--detach"];
    let job = stdout(&home.run(&[&submit[..], &lease[..]].concat()));
    let asked = |text: &str| {
        let listed = until(text, || Some(stdout(&home.run(&["inbox"]))).filter(|listed| listed.contains(text)));
        assert_eq!(listed.lines().count(), 1, "it asks for one tool at a time, and not for what is granted: {listed}");
        listed.lines().last().and_then(|line| line.split_whitespace().next()).expect("an id").to_string()
    };
    assert_eq!(code(&home.run(&["approve", &asked("fs.write on /w/b.txt"), "--once"])), 0);
    assert_eq!(code(&home.run(&["deny", &asked("x-vendor.coder.tool on Bash: rm -rf /"), "--reason", "not here"])), 0);
    let ended = home.run(&["watch", job.trim()]);
    let said = stdout(&ended);
    assert!(said.starts_with("tidy up; Read: allow; Write: allow; Bash: deny: "), "{said}{}", stderr(&ended));
    assert!(said.contains("not here"), "{said}");
    // A hook that does not reach its agent lets nothing through.
    let hook = examples.join("careful.py");
    let alone = Command::new("python3").args([text(&hook), "--hook", "/nowhere"]).stdin(Stdio::null()).output();
    assert_eq!(alone.expect("it runs").status.code(), Some(2));
}
