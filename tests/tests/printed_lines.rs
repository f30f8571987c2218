//! How each line that a program prints is read, and with what its job ends.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use arcp_host::process::{ProcessAgent, ProcessLimits};
use arcp_host::{orphans, registry::Registry};
use arcp_proto::error::ErrorCode;
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobError};
use arcp_proto::model::prompt::{Choice, PermissionRequest, Question};
use arcp_proto::runtime::{AgentCall, AgentExit, AgentSpec, ChunkData};
use arcp_tests::kept::Folder;
use arcp_tests::lone::{Lone, spec};

fn of(program: ProcessAgent) -> Lone {
    Lone::new(|registry: &mut Registry| registry.add("it", None, program))
}

/// What it says that is run by the shell, and how it ends.
fn shell(command: &str) -> (Vec<AgentCall>, AgentExit) {
    of(ProcessAgent::shell(command)).run(spec("it", "{}"))
}

/// A program that prints just this.
fn prints(lines: &str) -> (Vec<AgentCall>, AgentExit) {
    assert!(!lines.contains('\''));
    shell(&format!("printf '%s\\n' '{}'", lines.replace('\n', "' '")))
}

fn json(text: &str) -> Json {
    Json::parse(text).expect("JSON")
}

fn emit(kind: &str, body: &str) -> AgentCall {
    AgentCall::Emit { kind: EventKind::from(kind), body: json(body) }
}

fn log(stream: &str, message: &str) -> AgentCall {
    let message = Json::string(message);
    emit("log", &format!(r#"{{"level":"info","message":{message},"attributes":{{"stream":"{stream}"}}}}"#))
}

fn success(result: &str) -> AgentExit {
    AgentExit::Success { result: Some(json(result)), summary: None }
}

fn streamed() -> AgentExit {
    AgentExit::Success { result: None, summary: None }
}

fn failure(exit: AgentExit) -> JobError {
    match exit {
        AgentExit::Failure(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_that_are_no_events_are_text_and_the_last_one_may_be_the_result() {
    for (lines, said, result) in [
        ("a\nb", vec!["a", "b"], r#""a\nb""#),
        ("a", vec!["a"], r#""a""#),
        (r#"{"result":[1]}"#, vec![], "[1]"),
        (r#"{"result":null}"#, vec![], "null"),
        ("a\n{\"result\":1}", vec!["a"], "1"),
        ("{\"result\":1}\na", vec![r#"{"result":1}"#, "a"], r#""{\"result\":1}\na""#),
        ("{\"result\":1}\n{\"result\":2}", vec![r#"{"result":1}"#], "2"),
        (r#"{"result":1,"more":2}"#, vec![r#"{"result":1,"more":2}"#], r#""{\"result\":1,\"more\":2}""#),
        (r#"{"other":1}"#, vec![r#"{"other":1}"#], r#""{\"other\":1}""#),
        (r#"["kind"]"#, vec![r#"["kind"]"#], r#""[\"kind\"]""#),
        ("{\"kind\":5}", vec![r#"{"kind":5}"#], r#""{\"kind\":5}""#),
        ("{\"kind\":\"metric\"}", vec![r#"{"kind":"metric"}"#], r#""{\"kind\":\"metric\"}""#),
    ] {
        let expected: Vec<AgentCall> = said.iter().map(|line| log("stdout", line)).collect();
        assert_eq!(prints(lines), (expected, success(result)), "{lines}");
    }
    assert_eq!(shell(":"), (Vec::new(), success(r#""""#)));
    assert_eq!(shell("printf a"), (vec![log("stdout", "a")], success(r#""a""#)));
    assert_eq!(shell("echo a >&2"), (vec![log("stderr", "a")], success(r#""""#)));
}

#[test]
fn an_artifact_is_the_result_that_names_it() {
    let artifact = WireId::new("art_1").expect("an id");
    let stored = AgentExit::Stored { artifact, summary: None };
    assert_eq!(prints(r#"{"result_ref":"art_1"}"#), (Vec::new(), stored));
    let wrong = failure(prints(r#"{"result_ref":7}"#).1);
    assert!(wrong.message.contains("`result_ref`"), "{}", wrong.message);
}

#[test]
fn events_are_said_as_they_were_printed() {
    let said = [
        (r#"{"kind":"metric","body":{"name":"a","value":1.50}}"#, emit("metric", r#"{"name":"a","value":1.50}"#)),
        (r#"{"kind":"x-vendor.a.b","body":{}}"#, emit("x-vendor.a.b", "{}")),
        (r#"{"kind":"heartbeat"}"#, AgentCall::Heartbeat),
        (r#"{"kind":"go_on"}"#, AgentCall::GoOn { interrupt: None }),
        (r#"{"kind":"go_on","body":{"interrupt":3}}"#, AgentCall::GoOn { interrupt: Some(3) }),
        (
            r#"{"kind":"checkpoint","body":{"state":{"at":1},"label":"one"}}"#,
            AgentCall::Checkpoint { state: br#"{"at":1}"#.to_vec(), label: Some("one".into()) },
        ),
    ];
    for (line, call) in said {
        assert_eq!(prints(line), (vec![call], success(r#""""#)), "{line}");
    }
    let (calls, _) = prints(r#"{"kind":"checkpoint","body":{"label":"one"}}"#);
    let dropped = r#"{"level":"warn","message":"a checkpoint without a `state` was dropped"}"#;
    assert_eq!(calls, [emit("log", dropped)]);
    // Of what nobody waits for the answer it is an event of a kind of its own.
    let (calls, _) = prints(r#"{"kind":"remaining","body":{}}"#);
    assert_eq!(calls, [emit("remaining", "{}")]);
    let (calls, _) = prints(r#"{"kind":"ask","body":{"prompt":"?"}}"#);
    let dropped = r#"{"level":"warn","message":"a question to people was dropped: nobody waits for the answer"}"#;
    assert_eq!(calls, [emit("log", dropped)]);
}

#[test]
fn questions_are_asked_as_they_were_printed() {
    let asked = |kind: &str, body: &str| {
        let line = format!(r#"{{"kind":"{kind}","id":1,"body":{body}}}"#);
        // It waits for an answer that nobody gives: whoever has gone asks nobody.
        let mut lone = of(ProcessAgent::shell(&format!("read input; echo '{line}'; read answer")).answered());
        lone.start(spec("it", "{}"));
        lone.hear()
    };
    let input = |schema: &str, default: Option<&str>| Question::Input {
        prompt: "p".into(),
        schema: json(schema),
        default: default.map(json),
    };
    let choice = |default: Option<&str>| {
        let options = [("a", "a"), ("b", "b"), ("c", "C")];
        let options = options.map(|(id, label)| Choice { id: id.into(), label: label.into() }).to_vec();
        Question::Choice { prompt: "p".into(), options, default: default.map(Into::into) }
    };
    let permission = |permission: &str, reason: Option<&str>, lease_seconds| {
        Question::Permission(PermissionRequest {
            permission: permission.into(),
            resource: "r".into(),
            operation: "o.p".into(),
            reason: reason.map(Into::into),
            lease_seconds,
        })
    };
    for (kind, body, question, timeout_ms) in [
        ("ask", r#"{"prompt":"p"}"#, input("{}", None), None),
        ("ask", r#"{"prompt":"p","timeout_s":null}"#, input("{}", None), None),
        ("ask", r#"{"prompt":"p","default":3,"timeout_s":1.5}"#, input("{}", Some("3")), Some(1500)),
        (
            "ask",
            r#"{"prompt":"p","response_schema":{"type":"null"},"timeout_s":0}"#,
            input(r#"{"type":"null"}"#, None),
            Some(0),
        ),
        ("choose", r#"{"prompt":"p","options":["a",{"id":"b"},{"id":"c","label":"C"}]}"#, choice(None), None),
        (
            "choose",
            r#"{"prompt":"p","options":["a","b",{"id":"c","label":"C"}],"default":"b"}"#,
            choice(Some("b")),
            None,
        ),
        ("ask_permission", r#"{"operation":"o.p","resource":"r"}"#, permission("o.p", None, None), None),
        (
            "ask_permission",
            r#"{"operation":"o.p","resource":"r","permission":"q","reason":"w","lease_seconds":5}"#,
            permission("q", Some("w"), Some(5)),
            None,
        ),
    ] {
        assert_eq!(asked(kind, body), Ok(AgentCall::Ask { question: Box::new(question), timeout_ms }), "{body}");
    }
}

#[test]
fn a_line_with_an_id_that_cannot_be_read_is_told_why() {
    for (line, why) in [
        (r#"{"kind":"ask","id":1,"body":{}}"#, "`prompt` must be a text"),
        (r#"{"kind":"ask","id":1}"#, "`prompt` must be a text"),
        (r#"{"kind":"ask","id":1,"body":{"prompt":"p","timeout_s":-1}}"#, "`timeout_s` must be a number of seconds"),
        (r#"{"kind":"ask","id":1,"body":{"prompt":"p","timeout_s":"1"}}"#, "`timeout_s` must be a number of seconds"),
        (r#"{"kind":"choose","id":1,"body":{"prompt":"p","options":[7]}}"#, "`options` must be a list of texts"),
        (r#"{"kind":"choose","id":1,"body":{"options":["a"]}}"#, "`prompt` must be a text"),
        (r#"{"kind":"ask_permission","id":1,"body":{"resource":"r"}}"#, "`operation` must be a text"),
        (r#"{"kind":"ask_permission","id":1,"body":{"operation":"o.p"}}"#, "`resource` must be a text"),
        (r#"{"kind":"checkpoint","id":1,"body":{}}"#, "a checkpoint needs a `state`"),
        (r#"{"kind":"await","id":1,"body":{"job_id":"x"}}"#, "`job_id` must be the id of a child"),
        (r#"{"kind":"renew_credential","id":1,"body":{}}"#, "`id` must be the id of a credential"),
        (r#"{"kind":"renew_credential","id":1,"body":{"id":"a","value":7}}"#, "`id` must be the id of a credential"),
        (r#"{"kind":7,"id":1,"body":{}}"#, "`kind` must be a text"),
        (r#"{"kind":"metric","id":1}"#, "`kind` must be a text, and `body` be there"),
    ] {
        let command =
            format!("read input; printf '%s\\n' '{line}'; read -r answer; printf '{{\"result\":%s}}\\n' \"$answer\"");
        let (_, exit) = of(ProcessAgent::shell(&command).answered()).run(spec("it", "{}"));
        let AgentExit::Success { result: Some(answer), .. } = exit else { panic!("{line}: {exit:?}") };
        let text = answer.as_str();
        assert!(
            text.starts_with(r#"{"id":1,"ok":false,"error":{"code":"INVALID_REQUEST""#) && text.contains(why),
            "{line}: {text}"
        );
    }
}

#[test]
fn pieces_are_the_result_and_the_last_one_says_so() {
    let text = |text: &str, more| AgentCall::Chunk { data: ChunkData::Text(text.into()), more };
    let (calls, exit) = prints(
        "{\"kind\":\"result_chunk\",\"body\":{\"data\":\"ab\"}}\n\
         {\"kind\":\"result_chunk\",\"body\":{\"data\":\"AAEC\",\"encoding\":\"base64\",\"more\":true}}\n\
         {\"kind\":\"result_chunk\",\"body\":{\"data\":\"c\",\"encoding\":\"utf8\",\"more\":false}}",
    );
    let bytes = AgentCall::Chunk { data: ChunkData::Binary(vec![0, 1, 2]), more: true };
    assert_eq!((calls, exit), (vec![text("ab", true), bytes, text("c", false)], streamed()));
    for (body, why) in [
        (r#","body":{}"#, "`data` must be a text"),
        (r#","body":{"data":"?","encoding":"base64"}"#, "`data` is not valid base64"),
        (r#","body":{"data":"a","encoding":"rot13"}"#, "`encoding` must be `utf8` or `base64`"),
        ("", "`body` is missing"),
    ] {
        let line = format!(r#"{{"kind":"result_chunk"{body}}}"#);
        let error = failure(prints(&line).1);
        assert_eq!(error.code, ErrorCode::Internal, "{line}");
        assert!(error.message.ends_with(why), "{line}: {}", error.message);
    }
}

#[test]
fn how_a_program_ends_is_why_its_job_fails_whatever_it_has_printed() {
    let ended = |command: &str| {
        let error = failure(shell(command).1);
        (error.message, error.details.map(|details| details.as_str().to_string()).unwrap_or_default())
    };
    let code = |code: u32| (format!("the program exited with code {code}"), format!(r#"{{"exit_code":{code}}}"#));
    assert_eq!((ended("exit 1"), ended("echo '{\"result\":1}'; exit 255")), (code(1), code(255)));
    let killed = ("the program was ended by signal 9".to_string(), r#"{"signal":9}"#.to_string());
    assert_eq!(ended("kill -KILL $$"), killed);
    let upstream = r#"echo '{"kind":"upstream_error","body":{"status":429}}'; exit 3"#;
    assert_eq!(failure(shell(upstream).1).code, ErrorCode::ResourceExhausted, "it says itself why");
    let mended = "{\"kind\":\"upstream_error\",\"body\":{\"status\":429}}\n{\"result\":1}";
    assert_eq!(prints(mended).1, success("1"), "it went on all the same");
    let (calls, exit) = prints(r#"{"kind":"upstream_error","body":{"status":402,"call_id":"c1"}}"#);
    assert_eq!(exit, success(r#""""#));
    let [AgentCall::Emit { kind: EventKind::ToolResult, body }] = calls.as_slice() else { panic!("{calls:?}") };
    assert!(body.as_str().starts_with(r#"{"call_id":"c1","error":{"code":"BUDGET_EXHAUSTED""#), "{body}");
}

#[test]
fn a_program_may_use_what_it_is_given_and_runs_where_it_is_put() {
    let folder = Folder::new("it's here");
    let path = folder.0.canonicalize().expect("a folder");
    let text = |agent: ProcessAgent| match of(agent).run(spec("it", "{}")).1 {
        AgentExit::Success { result: Some(result), .. } => result.decode::<String>().expect("a text"),
        other => panic!("{other:?}"),
    };
    let limits = ProcessLimits { open_files: Some(64), memory_kib: Some(4_000_000), cpu_seconds: Some(50) };
    let asked = ProcessAgent::shell("ulimit -S -n; ulimit -S -v; ulimit -S -t");
    assert_eq!(text(asked.clone().within(limits)), "64\n4000000\n50");
    assert_eq!(asked.clone().within(limits).limits(), limits);
    assert_eq!(asked.clone().with_descriptors(32).limits().open_files, Some(32));
    assert!(text(asked.with_descriptors(32)).starts_with("32\n"));
    assert_eq!(text(ProcessAgent::shell("pwd -P").in_directory(&path)), path.display().to_string());
    let program = path.join("it's");
    std::os::unix::fs::symlink("/usr/bin/env", &program).expect("linked");
    let run = ProcessAgent::shell("false").with_executable(&program).with_variable("A", "so");
    assert!(text(run.clone()).lines().any(|line| line == "A=so"), "it prints its variables");
    assert_eq!(text(run.with_command("echo $A again")), "so again");
    let secret = ProcessAgent::shell("echo \"-$ARCP_TOKEN-\"").with_variable("ARCP_TOKEN", "t");
    assert_eq!(text(secret), "--", "no program has it");
    assert_eq!(text(ProcessAgent::shell("echo $ARCP_JOB_ID")), "job_00000000000000000000000001");
}

#[test]
fn a_program_that_can_be_run_again_reads_where_it_was_behind_its_input() {
    let mut lone = Lone::new(|registry| {
        registry.add_restartable("it", None, ProcessAgent::shell("cat").restartable());
    });
    let (_, first) = lone.run(spec("it", "[1]"));
    assert_eq!(first, success(r#""[1]\nnull""#));
    let again = AgentSpec { checkpoint: Some(br#"{"at":2}"#.to_vec()), restarts: 1, ..spec("it", "[1]") };
    assert_eq!(lone.run(again).1, success(r#""[1]\n{\"at\":2}""#));
}

#[test]
fn a_program_that_has_closed_what_it_prints_on_ends_by_itself() {
    let (said, exit) = shell("echo a; exec >&- 2>&-; sleep 0.1; exit 3");
    assert_eq!(said, [log("stdout", "a")]);
    assert_eq!(failure(exit).message, "the program exited with code 3");
}

#[test]
fn programs_with_a_mark_are_ended_by_it_and_others_go_on() {
    let folder = Folder::new("marks");
    let mark = |name: &str| folder.0.join(name).display().to_string();
    // It waits for an answer that nobody gives.
    let waiting = |name: &str| {
        let program = ProcessAgent::shell("read input; echo ready; read answer").answered().marked(&mark(name));
        let mut lone = of(program);
        lone.start(spec("it", "{}"));
        assert_eq!(lone.hear(), Ok(log("stdout", "ready")));
        lone
    };
    let (mut one, mut two, mut other) = (waiting("a"), waiting("a"), waiting("b"));
    assert_eq!(orphans::end(&mark("c")).expect("looked for"), 0);
    assert_eq!(orphans::end(&mark("a")).expect("looked for"), 2);
    for lone in [&mut one, &mut two] {
        let exit = lone.hear().expect_err("it is ended");
        assert_eq!(failure(*exit).message, "the program was ended by signal 9");
    }
    assert_eq!(orphans::end(&mark("b")).expect("looked for"), 1, "it has gone on");
    assert!(other.hear().is_err());
}
