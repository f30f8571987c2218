//! Questions of jobs: a followed inbox, a terminal that asks at once, programs that are notified, and a runtime that
//! is killed meanwhile.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use arcp_tests::home::{Home, Terminal, code, stderr, stdout};
use arcp_tests::server::PATIENCE;
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A script that asks these questions, one after the other, and ends with what it
/// read.
fn asker(questions: &[(&str, &str)]) -> String {
    let mut script = "#!/bin/sh\nread -r input\n\
        ask() { echo \"{\\\"id\\\":1,\\\"kind\\\":\\\"$1\\\",\\\"body\\\":{$2}}\"; read -r line; all=\"$all,$line\"; }\n"
        .to_string();
    for (kind, body) in questions {
        script += &format!("ask {kind} '{body}'\n");
    }
    script + "printf '{\"result\":[%s]}\\n' \"${all#,}\"\n"
}

/// The same, of an agent that is started again: it reads its last checkpoint.
fn restartable(questions: &[(&str, &str)]) -> String {
    asker(questions).replacen("read -r input\n", "read -r input\nread -r state\n", 1)
}

/// A home with these agents, which are answered and as this says besides, and the
/// options to serve them with.
fn home(agents: &[(&str, &str, &str)]) -> (Home, Vec<String>) {
    let mut home = Home::new(ARCP);
    home.variables = vec![("ARCP_TOKEN", "t")];
    let folder = home.dir.join("agents");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, script, more) in agents {
        let file = folder.join(name);
        fs::write(&file, script).expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("set");
        fs::write(folder.join(format!("{name}.toml")), format!("answered = true\n{more}")).expect("written");
    }
    let text = |path: PathBuf| path.display().to_string();
    let (agents, store) = (text(folder), text(home.dir.join("jobs.db")));
    let options = ["--agents", &agents, "--store", &store, "--token", "t=alice", "--token", "u=bob"];
    (home, options.map(str::to_string).to_vec())
}

fn texts(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn free_address() -> String {
    arcp_tests::ports::free().to_string()
}

fn submit(home: &Home, agent: &str) -> String {
    stdout(&home.run(&["submit", agent, "--input", "7", "--detach"])).trim().to_string()
}

/// The id of the question with this text, once it is open.
fn open(home: &Home, asks: &str) -> String {
    until(asks, || {
        let listed: Value = serde_json::from_str(&stdout(&home.run(&["inbox", "-o", "json"]))).ok()?;
        let asked = |question: &&Value| question["prompt"] == asks || question["resource"] == asks;
        listed.as_array()?.iter().find(asked)?["prompt_id"].as_str().map(str::to_string)
    })
}

fn answer(home: &Home, args: &[&str]) {
    let output = home.run(args);
    assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
}

/// The lines that a command prints.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (tell, told) = channel();
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    told
}

fn signal(child: &Child, name: &str) {
    Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().expect("kill");
}

#[test]
fn an_inbox_that_is_followed_shows_each_question_once_and_its_end_over_a_restart() {
    let asks = asker(&[
        ("ask", r#""prompt":"One?""#),
        ("ask", r#""prompt":"Two?","default":7,"timeout_s":1"#),
        ("ask", r#""prompt":"Three?","timeout_s":1"#),
    ]);
    let steady = restartable(&[("ask", r#""prompt":"Four?""#), ("ask", r#""prompt":"Five?""#)]);
    let (mut home, options) = home(&[("asks", &asks, ""), ("steady", &steady, "restartable = true\n")]);
    let (address, options) = (free_address(), texts(&options));
    for (family, format) in [("hello", "jsonl"), ("open", "json")] {
        home.variables.push(("ARCP_FAMILY", family));
        home.serve_at(&address, &options);
        let mut follow = home.arcp(&["inbox", "--follow", "-o", format]);
        let mut follow = follow.stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = lines_of(&mut follow);
        let next = |kind: &str| -> Value {
            let line = lines.recv_timeout(PATIENCE).expect("a line");
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["type"], kind, "{family}: {line}");
            line
        };
        let id = |line: &Value| line["prompt_id"].as_str().expect("an id").to_string();

        let job = submit(&home, "asks");
        let asked = next("asked");
        assert_eq!(
            (&asked["prompt"], &asked["job_id"], &asked["kind"]),
            (&"One?".into(), &job.as_str().into(), &"input".into())
        );
        answer(&home, &["answer", &id(&asked), "1"]);
        let closed = next("closed");
        assert_eq!(
            (id(&closed), &closed["reason"], &closed["responded_by"]),
            (id(&asked), &"answered".into(), &"alice".into())
        );
        assert_eq!(next("asked")["prompt"], "Two?");
        assert_eq!(next("closed")["responded_by"], "default");
        assert_eq!(next("asked")["prompt"], "Three?");
        assert_eq!(next("closed")["reason"], "expired");

        let job = submit(&home, "steady");
        let four = next("asked");
        assert_eq!(four["prompt"], "Four?");
        assert!(!home.signal("KILL").success());
        home.serve_at(&address, &options);
        // Nothing is shown again: next comes its end.
        answer(&home, &["answer", &id(&four), "4"]);
        assert_eq!(id(&next("closed")), id(&four));
        let five = next("asked");
        assert_eq!(five["prompt"], "Five?");
        assert_eq!(code(&home.run(&["cancel", &job])), 0);
        let closed = next("closed");
        assert_eq!((id(&closed), &closed["reason"]), (id(&five), &"withdrawn".into()));
        signal(&follow, "INT");
        assert_eq!(follow.wait().expect("it ends").code(), Some(130));
        assert!(home.signal("TERM").success());
    }
}

#[test]
fn a_question_that_is_open_when_the_runtime_is_killed_is_answered_after_its_restart() {
    let asks = restartable(&[("ask", r#""prompt":"Before?""#), ("ask", r#""prompt":"After?","default":5"#)]);
    let once = asker(&[("ask", r#""prompt":"Once?""#)]);
    let (mut home, options) = home(&[("asks", &asks, "restartable = true\n"), ("once", &once, "")]);
    let options = texts(&options);
    home.serve(&options);
    let (job, lost) = (submit(&home, "asks"), submit(&home, "once"));
    answer(&home, &["answer", &open(&home, "Before?"), "1"]);
    let (after, once) = (open(&home, "After?"), open(&home, "Once?"));
    assert!(!home.signal("KILL").success());
    home.serve(&options);
    // A program that is started again asks both again: it is given the first
    // answer, and the second question is the one that is open.
    assert_eq!(open(&home, "After?"), after);
    answer(&home, &["answer", &after, "--default"]);
    let late = home.run(&["answer", &after, "--default"]);
    assert!(code(&late) == 1 && stderr(&late).contains("already, by alice at"), "{}", stderr(&late));
    let result = stdout(&home.run(&["watch", &job]));
    let answers: Value = serde_json::from_str(&result).unwrap_or_else(|error| panic!("{error}: {result}"));
    assert_eq!((&answers[0]["value"], &answers[1]["value"]), (&1.into(), &5.into()), "{answers}");
    // One that is not ends with its runtime, and nobody waits for its answer.
    assert_eq!(code(&home.run(&["watch", &lost])), 1);
    let late = home.run(&["answer", &once, "1"]);
    assert!(code(&late) == 1 && stderr(&late).contains("is over"), "{}", stderr(&late));
}

/// Waits until a terminal has shown a text so often.
fn shows(terminal: &Terminal, text: &str, times: usize) -> String {
    let shown = || String::from_utf8_lossy(&terminal.shown()).replace("\r\n", "\n");
    until(text, || Some(shown()).filter(|shown| shown.matches(text).count() >= times))
}

/// What an agent was answered, as a terminal shows its result.
fn answers_on(shown: &str) -> Value {
    let result = shown.lines().find(|line| line.starts_with("[{")).unwrap_or_else(|| panic!("no result: {shown}"));
    serde_json::from_str(result).expect("JSON")
}

#[test]
fn a_person_on_a_terminal_is_asked_in_place() {
    let asks = asker(&[
        ("ask", r#""prompt":"How many?","response_schema":{"type":"integer"},"default":3"#),
        ("ask", r#""prompt":"Who?","response_schema":{"type":"string"}"#),
        ("choose", r#""prompt":"Which?","options":["red",{"id":"b","label":"blue"}]"#),
        ("ask", r#""prompt":"How far?","default":7"#),
        ("ask_permission", r#""operation":"fs.write","resource":"/w/*.md","reason":"to mend it","lease_seconds":60"#),
        ("ask_permission", r#""operation":"fs.write","resource":"/etc/*""#),
    ]);
    let (mut home, options) = home(&[("asks", &asks, "")]);
    home.serve(&texts(&options));
    for family in ["hello", "open"] {
        home.variables.push(("ARCP_FAMILY", family));
        let mut terminal = home.on_terminal(&["submit", "asks", "--input", "7"]);
        shows(&terminal, "How many? [3]: ", 1);
        terminal.type_keys("five\n");
        let shown = shows(&terminal, "How many? [3]: ", 2);
        assert!(shown.contains(r#"an answer fits {"type":"integer"}"#) && shown.contains("is not of type"), "{shown}");
        terminal.type_keys("5\n");
        shows(&terminal, "Who?: ", 1);
        terminal.type_keys("\n");
        shows(&terminal, "Who?: ", 2);
        terminal.type_keys("you\n");
        assert!(shows(&terminal, "Which? (a number): ", 1).contains("  1 red\n  2 b (blue)\n"));
        terminal.type_keys("3\n");
        shows(&terminal, "Which? (a number): ", 2);
        terminal.type_keys("2\n");
        shows(&terminal, "How far? [7]: ", 1);
        terminal.type_keys("\n");
        let grants = "grant fs.write on /w/*.md for 60 s? [y/N] ";
        assert!(shows(&terminal, grants, 1).contains("reason: to mend it\n"));
        terminal.type_keys("perhaps\n");
        shows(&terminal, grants, 2);
        terminal.type_keys("y\n");
        shows(&terminal, "grant fs.write on /etc/* until the job ends? [y/N] ", 1);
        terminal.type_keys("\n");
        let status = terminal.wait();
        let shown = String::from_utf8_lossy(&terminal.shown()).replace("\r\n", "\n");
        assert_eq!(status.code(), Some(0), "{shown}");
        let answers = answers_on(&shown);
        let values: Vec<&Value> = (0..4).map(|at| &answers[at]["value"]).collect();
        assert_eq!(values, [&Value::from(5), &"you".into(), &"b".into(), &7.into()], "{family}: {answers}");
        assert_eq!(
            (&answers[4]["ok"], &answers[5]["error"]["code"]),
            (&true.into(), &"PERMISSION_DENIED".into()),
            "{answers}"
        );
    }
}

#[test]
fn what_was_typed_for_a_question_that_is_closed_meanwhile_answers_no_other_one() {
    let asks = asker(&[
        ("ask", r#""prompt":"Theirs?""#),
        // Time enough to type before it is over.
        ("ask", r#""prompt":"Soon?","timeout_s":15"#),
        ("ask_permission", r#""operation":"fs.write","resource":"/etc/*""#),
    ]);
    let (mut home, options) = home(&[("asks", &asks, "")]);
    home.serve(&texts(&options));
    let mut terminal = home.on_terminal(&["submit", "asks", "--input", "7"]);
    shows(&terminal, "Theirs?: ", 1);
    terminal.type_keys("1");
    answer(&home, &["answer", &open(&home, "Theirs?"), "2"]);
    shows(&terminal, "it was answered by alice", 1);
    shows(&terminal, "Soon?: ", 1);
    terminal.type_keys("y");
    shows(&terminal, "nobody has answered in time", 1);
    shows(&terminal, "/etc/* until the job ends? [y/N] ", 1);
    terminal.type_keys("\n");
    terminal.wait();
    let shown = String::from_utf8_lossy(&terminal.shown()).replace("\r\n", "\n");
    let answers = answers_on(&shown);
    assert_eq!((&answers[0]["value"], &answers[1]["error"]["code"]), (&2.into(), &"TIMEOUT".into()), "{answers}");
    assert_eq!(answers[2]["error"]["code"], "PERMISSION_DENIED", "the y was no answer to this: {answers}");
}

#[test]
fn nobody_is_asked_who_cannot_type_or_does_not_want_to_and_who_leaves_leaves_the_question_open() {
    let asks = asker(&[("ask", r#""prompt":"Which?""#)]);
    let (mut home, options) = home(&[("asks", &asks, "")]);
    home.serve(&texts(&options));
    // Ctrl-C leaves, and Ctrl-D leaves one question.
    let mut terminal = home.on_terminal(&["submit", "asks", "--input", "7"]);
    shows(&terminal, "Which?: ", 1);
    terminal.signal("INT");
    assert_eq!(terminal.wait().code(), Some(130));
    let job = stdout(&home.run(&["ls", "-o", "id"])).trim().to_string();
    let mut terminal = home.on_terminal(&["watch", &job]);
    shows(&terminal, "Which?: ", 1);
    terminal.type_keys("\u{4}");
    shows(&terminal, "stays open: `arcp inbox` shows it", 1);
    answer(&home, &["answer", &open(&home, "Which?"), "1"]);
    assert_eq!(terminal.wait().code(), Some(0));

    let mut terminal = home.on_terminal(&["submit", "asks", "--input", "7", "--no-ask"]);
    let piped = |args: &[&str]| home.arcp(args).stderr(Stdio::piped()).stdin(Stdio::piped()).spawn().expect("it runs");
    let job = until("it is there", || {
        let blocked = stdout(&home.run(&["ls", "--status", "blocked", "-o", "id"]));
        Some(blocked.trim().to_string()).filter(|job| !job.is_empty())
    });
    let watch = piped(&["watch", &job]);
    answer(&home, &["answer", &open(&home, "Which?"), "1"]);
    assert_eq!(terminal.wait().code(), Some(0));
    let shown = String::from_utf8_lossy(&terminal.shown()).into_owned();
    let said = stderr(&watch.wait_with_output().expect("it ends"));
    for shown in [shown, said] {
        assert!(shown.contains("asks \"Which?\"") && !shown.contains("Which?: "), "{shown}");
    }
}

#[test]
fn a_program_is_run_for_each_question_over_restarts_and_for_none_that_is_closed() {
    let asks = asker(&[
        ("ask", r#""prompt":"One?","default":1"#),
        ("choose", r#""prompt":"Two?","options":["red","blue"]"#),
        ("ask_permission", r#""operation":"fs.write","resource":"/etc/*""#),
    ]);
    let later = restartable(&[("ask", r#""prompt":"Closed?""#), ("ask", r#""prompt":"Later?""#)]);
    let (mut home, mut options) = home(&[("asks", &asks, ""), ("later", &later, "restartable = true\n")]);
    let file = home.dir.join("told").display().to_string();
    let told = |expected: usize| {
        let text = || fs::read_to_string(&file).unwrap_or_default();
        until("it is told", || Some(text()).filter(|text| text.lines().count() >= expected))
    };
    let said = "$ARCP_PROMPT_KIND $ARCP_PROMPT_ID $ARCP_AGENT $ARCP_JOB_ID ${ARCP_WEBHOOK_SECRET-and no secret}";
    let command = format!("cat > {file}.json; echo {said} >> {file}");
    home.variables.push(("ARCP_WEBHOOK_SECRET", "a secret that nobody guesses"));
    home.serve(&texts(&options));
    // Whoever is named later is told of what is asked later.
    submit(&home, "asks");
    open(&home, "One?");
    assert!(!home.signal("KILL").success());
    options.extend(["--on-prompt".to_string(), command]);
    home.serve(&texts(&options));
    let job = submit(&home, "asks");
    let one = open(&home, "One?");
    assert_eq!(told(1), format!("input {one} asks {job} and no secret\n"));
    let json: Value = serde_json::from_str(&fs::read_to_string(format!("{file}.json")).expect("read")).expect("JSON");
    assert_eq!(
        (&json["type"], &json["prompt"], &json["principal"]),
        (&"job.asked".into(), &"One?".into(), &"alice".into())
    );
    assert_eq!((&json["prompt_id"], &json["default"]), (&one.as_str().into(), &1.into()));
    answer(&home, &["answer", &one, "--default"]);
    let two = open(&home, "Two?");
    told(2);
    answer(&home, &["answer", &two, "--choice", "red"]);
    let three = open(&home, "/etc/*");
    let lines = told(3);
    let ids: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(ids, [&one, &two, &three]);
    assert_eq!(code(&home.run(&["cancel", &job])), 0);

    // What was asked while nobody was told is told later, if it is open still.
    assert!(!home.signal("KILL").success());
    home.serve(&texts(&options[..options.len() - 2]));
    let job = submit(&home, "later");
    answer(&home, &["answer", &open(&home, "Closed?"), "1"]);
    let later = open(&home, "Later?");
    assert!(!home.signal("KILL").success());
    home.serve(&texts(&options));
    let lines = told(4);
    assert!(lines.contains(&format!("{later} later {job}")), "{lines}");
    answer(&home, &["answer", &later, "1"]);
    submit(&home, "asks");
    let lines = told(5);
    assert!(lines.lines().count() == 5 && lines.contains(&open(&home, "One?")), "nothing twice: {lines}");
}

#[test]
fn a_program_is_interrupted_from_the_command_line_and_goes_on() {
    let listener = "#!/bin/sh\nread -r input\nread -r interrupt\n\
        echo '{\"kind\":\"go_on\"}'\nprintf '{\"result\":%s}\\n' \"$interrupt\"\n";
    let asks = asker(&[("ask", r#""prompt":"n?""#)]);
    let (mut home, options) = home(&[("listener", listener, "interrupts = true"), ("asks", &asks, "")]);
    home.serve(&texts(&options));
    for family in ["hello", "open"] {
        home.variables.push(("ARCP_FAMILY", family));
        let job = submit(&home, "listener");
        // It runs soon, if not yet.
        until("it can be interrupted", || {
            let output = home.run(&["interrupt", &job, "stop that"]);
            (code(&output) == 0).then_some(())
        });
        home.run(&["wait", &job]);
        let output = home.run(&["result", &job]);
        let result: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!((&result["prompt"], &result["by"]), (&"stop that".into(), &"alice".into()), "{result}");
    }
    let job = submit(&home, "asks");
    open(&home, "n?");
    let output = home.run(&["interrupt", &job, "stop that"]);
    assert_ne!(code(&output), 0);
    assert!(stderr(&output).contains("`asks` observes no interrupts"), "{}", stderr(&output));
}

#[test]
fn more_to_spend_is_asked_for_and_added_in_part_and_shown_so_over_a_kill() {
    let script = r#"#!/bin/sh
read -r input
ask() { echo "$1"; read -r line; all="$all,$line"; }
ask '{"id":1,"kind":"authorize","body":{"operation":"tool.call","target":"t","price":"USD:2"}}'
ask '{"id":2,"kind":"ask_permission","body":{"operation":"cost.budget","resource":"USD:5","reason":"40 pages are left"}}'
ask '{"id":3,"kind":"authorize","body":{"operation":"tool.call","target":"t","price":"USD:2"}}'
ask '{"id":4,"kind":"ask_permission","body":{"operation":"tool.call","resource":"x"}}'
printf '{"result":[%s]}\n' "${all#,}"
"#;
    let steady = script.replacen("read -r input\n", "read -r input\nread -r state\n", 1);
    let (mut home, options) = home(&[("spends", &steady, "restartable = true\n")]);
    let options = texts(&options);
    for family in ["hello", "open"] {
        home.variables.push(("ARCP_FAMILY", family));
        home.serve(&options);
        let submitted = ["submit", "spends", "--lease", "tool.call=t", "--budget", "USD:1", "--input", "7", "--detach"];
        let job = stdout(&home.run(&submitted)).trim().to_string();
        let question = open(&home, "USD:5");
        let inbox = stdout(&home.run(&["inbox"]));
        assert!(inbox.contains("USD:5 more to spend: 40 pages are left"), "{inbox}");
        let approved = home.run(&["approve", &question, "--scope", "USD:3"]);
        assert!(stdout(&approved).contains(r#""resource":"USD:3""#), "{}{}", stdout(&approved), stderr(&approved));
        open(&home, "x");
        assert!(!home.signal("KILL").success());
        home.serve(&options);
        let last = open(&home, "x");
        let shown = stdout(&home.run(&["show", &job]));
        assert!(shown.contains("1 USD and 3 that people added"), "{shown}");
        answer(&home, &["deny", &last]);
        home.run(&["wait", &job]);
        let result: Value = serde_json::from_str(&stdout(&home.run(&["result", &job]))).expect("JSON");
        assert_eq!(result[1]["value"]["resource"], "USD:3", "{result}");
        // Of 4 the first run reserved 2 and never settled them, and so did this one.
        assert_eq!(
            (&result[0]["ok"], &result[2]["error"]["code"]),
            (&true.into(), &"BUDGET_EXHAUSTED".into()),
            "{result}"
        );
        let trail = stdout(&home.run(&["audit", "-o", "jsonl"]));
        let added = trail.lines().find(|line| line.contains("approve") && line.contains(&job));
        assert!(added.is_some_and(|line| line.contains("USD:3") && line.contains("alice")), "{trail}");
        assert!(home.signal("TERM").success());
    }
}
