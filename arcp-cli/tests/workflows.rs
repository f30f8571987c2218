//! Workflows, as a user runs them and after a crash.

use std::path::PathBuf;
use std::process::Output;

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::kept::Folder;
use arcp_tests::pages;
use arcp_tests::until::until;
use serde_json::Value;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

fn as_alice(home: &Home, url: &str, args: &[&str]) -> Output {
    home.run(&[args, &["--url", url, "--token", "tok-a"]].concat())
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{}", stderr(output));
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A file in the folder of a home.
fn file(home: &Home, name: &str, text: &str) -> String {
    std::fs::create_dir_all(&home.dir).expect("a folder");
    let path: PathBuf = home.dir.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("text").to_string()
}

/// Waits until a job has ended; all jobs then, as they are listed.
fn ended(home: &Home, url: &str, job: &str) -> Vec<Value> {
    as_alice(home, url, &["wait", job]);
    lines(&as_alice(home, url, &["ls", "-o", "jsonl"]))
}

#[test]
fn a_workflow_killed_in_its_second_step_goes_on_there_and_runs_nothing_twice() {
    let mut home = Home::new(ARCP);
    let counted = file(&home, "counted", "");
    let store = file(&home, "jobs.db", "");
    std::fs::remove_file(&store).expect("there");
    let first = format!("first=echo 1 >> {counted}; echo '\"one\"'");
    // It goes on once a second time.
    let second = format!("second=echo 2 >> {counted}; test $(grep -c 2 {counted}) -gt 1 || sleep 600; echo '\"two\"'");
    let serve = |home: &mut Home| {
        home.serve(&["--agent", &first, "--agent", &second, "--store", &store, "--token", "tok-a=alice"])
    };
    let steps = r#"{"steps": [
        {"id": "a", "tool": "first"},
        {"id": "b", "tool": "second", "needs": ["a"], "retry": {"limit": 1}},
        {"id": "c", "tool": "first", "needs": ["b"], "arguments": {"$from": "/steps/a/result"}}
    ]}"#;
    let steps = file(&home, "steps.json", steps);
    let url = serve(&mut home);
    let left = as_alice(&home, &url, &["workflow", "run", &steps, "--detach"]);
    assert_eq!(code(&left), 0, "{}", stderr(&left));
    let job = stdout(&left).trim().to_string();
    let ran = || std::fs::read_to_string(&counted).expect("there").replace('\n', "");
    until("its second step runs", || (ran() == "12").then_some(()));
    home.signal("KILL");
    let url = serve(&mut home);
    let jobs = ended(&home, &url, &job);
    assert_eq!(ran(), "1221", "the first step is not run again, the second is tried again, and the third comes then");
    assert_eq!(jobs.len(), 5, "{jobs:?}");
    let whole = jobs.iter().find(|listed| listed["job_id"] == *job).expect("it is listed");
    assert_eq!((&whole["status"], &whole["agent"]), (&"success".into(), &"arcp.workflow".into()));
    let result = as_alice(&home, &url, &["result", &job]);
    let result: Value = serde_json::from_str(&stdout(&result)).expect("JSON");
    assert_eq!(result.as_object().expect("an object").len(), 3, "{result}");
    home.signal("KILL");
    let url = serve(&mut home);
    assert_eq!(ended(&home, &url, &job).len(), 5, "what is over stays so");
}

#[test]
fn a_workflow_is_shown_as_a_tree_with_each_step_as_it_goes_in_both_families() {
    let mut home = Home::new(ARCP);
    let steps = "[[steps]]\nid = \"first\"\ntool = \"echo\"\narguments = { \"$from\" = \"/input\" }\n\n\
                 [[steps]]\nid = \"then\"\ntool = \"echo\"\nneeds = [\"first\"]\n\n\
                 [[steps]]\nid = \"never\"\ntool = \"echo\"\nneeds = [\"first\"]\nwhen = false\n";
    let steps = file(&home, "steps.toml", steps);
    let url = home.serve(&["--samples", "--token", "tok-a=alice"]);
    let tree = "first echo\n  then echo\n  never echo\n";
    let checked = home.run(&["workflow", "check", &steps]);
    assert_eq!((code(&checked), stdout(&checked).as_str()), (0, tree), "{}", stderr(&checked));
    for family in ["hello", "open"] {
        let run = as_alice(&home, &url, &["workflow", "run", &steps, "--input", "[7]", "--family", family]);
        assert_eq!(code(&run), 0, "{}", stderr(&run));
        let result: Value = serde_json::from_str(&stdout(&run)).expect("JSON");
        assert_eq!(result, serde_json::json!({"first": [7], "then": {}}));
        let shown = stderr(&run);
        let job = shown.split(' ').next().expect("it begins with the job").to_string();
        let watched = as_alice(&home, &url, &["watch", &job, "--family", family]);
        for shown in [shown, stderr(&watched)] {
            for line in [
                "  first echo",
                "    then echo",
                "  first succeeded",
                "    never skipped",
                "workflow complete: success",
                "    then echo succeeded",
            ] {
                assert!(shown.lines().any(|shown| shown == line), "`{line}` is not in\n{shown}");
            }
            assert!(shown.contains("    then running job_"), "{shown}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_workflow_is_said_with_the_file_and_the_step() {
    let mut home = Home::new(ARCP);
    let url = home.serve(&["--samples", "--token", "tok-a=alice"]);
    let cycle = r#"[{"id":"a","tool":"echo","needs":["b"]},{"id":"b","tool":"echo","needs":["a"]}]"#;
    let cases = [
        ("cycle.json", cycle, 1, "step `a`: `needs`: it waits for itself"),
        ("typo.json", r#"[{"id":"a","tool":"echo","need":[]}]"#, 1, "step `a`: nothing is known of `need`"),
        ("broken.json", "{", 2, "broken.json: not valid JSON"),
        ("broken.toml", "steps = ", 2, "broken.toml: "),
    ];
    for (name, text, exit, said) in cases {
        let named = file(&home, name, text);
        let checked = home.run(&["workflow", "check", &named]);
        assert_eq!(code(&checked), exit, "{}", stderr(&checked));
        assert!(stderr(&checked).contains(said) && stderr(&checked).contains(name), "{name}: {}", stderr(&checked));
        let run = as_alice(&home, &url, &["workflow", "run", &named]);
        assert!(code(&run) != 0 && stderr(&run).contains(said), "{name}: {}", stderr(&run));
    }
    let nobody = file(&home, "nobody.json", r#"[{"id":"a","tool":"nobody"}]"#);
    assert_eq!(code(&home.run(&["workflow", "check", &nobody])), 0, "agents are known by runtimes");
    let run = as_alice(&home, &url, &["workflow", "run", &nobody]);
    assert!(stderr(&run).contains("step `a`: no agent is called `nobody`"), "{}", stderr(&run));
    let missing = home.run(&["workflow", "check", "missing.json"]);
    assert!(code(&missing) == 2 && stderr(&missing).contains("missing.json"), "{}", stderr(&missing));
}

#[test]
fn what_the_page_says_can_be_pasted() {
    // What a command reads stands without a prompt.
    let commands = pages::script(include_str!("../../docs/workflows.md"));
    assert!(commands.matches("arcp ").count() > 5, "{commands}");
    let all = pages::paste(ARCP, &Folder::new("workflows-page"), &commands);
    assert!(all.contains(r#"{"text":"world"}"#) && all.contains("greet succeeded"), "{all}");
}
