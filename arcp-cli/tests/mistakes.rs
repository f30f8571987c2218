//! Mistakes of users: each message says what happened, with which input, and what to do.

use arcp_tests::home::{Home, code, stderr, stdout};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A command line, how it ends, and what is said: the input, and what to do.
type Mistake = (&'static [&'static str], i32, &'static [&'static str]);

/// Of `serve`. `$TAKEN` is an address that is in use.
const OF_OPERATORS: &[Mistake] = &[
    (&["serve"], 2, &["nothing to host", "--agent NAME=COMMAND", "--samples"]),
    (&["serve", "--agent", "noequals"], 2, &["'noequals'", "expected NAME=COMMAND"]),
    (&["serve", "--agent", "bad name=true"], 2, &["'bad name=true'", "letters, digits"]),
    (&["serve", "--agent", "quiet="], 2, &["'quiet='", "command is empty", "quiet=tr"]),
    (
        &["serve", "--agent", "a=true", "--agent", "a=false"],
        2,
        &["--agent a=", "given twice", "another name or version"],
    ),
    (&["serve", "--agent", "a@1=true", "--agent", "a@1=true"], 2, &["`a@1`", "given twice", "another name or version"]),
    (&["serve", "--samples", "--agent", "slow=true"], 2, &["`slow` is a sample", "another name or version"]),
    (
        &["serve", "--samples", "--agent", "echo=true"],
        2,
        &["--agent echo=true", "could never be run", "give both a version"],
    ),
    (&["serve", "--agent", "e=true", "--agent", "e@2=true"], 2, &["--agent e@2=true", "could never be run"]),
    (&["serve", "--samples", "--token", "nopair"], 2, &["--token", "expected TOKEN=NAME"]),
    (&["serve", "--samples", "--token", "=me"], 2, &["--token", "`me` is empty", "give TOKEN=me"]),
    (&["serve", "--samples", "--token", "secret="], 2, &["--token", "expected TOKEN=NAME"]),
    (
        &["serve", "--samples", "--token", "secret=a", "--token", "secret=b"],
        2,
        &["same token", "`a` and `b`", "each needs one of its own"],
    ),
    (&["serve", "--samples", "--bearer", "x"], 2, &["--principal <NAME>", "required"]),
    (
        &["serve", "--samples", "--metrics-token-file", "/no/such/file"],
        2,
        &["--metrics-token-file /no/such/file", "No such file"],
    ),
    (
        &["serve", "--samples", "--metrics-token-file", "/etc/passwd"],
        2,
        &["--metrics-token-file /etc/passwd", "others may read it: chmod 600"],
    ),
    (&["serve", "--samples", "--keep-artifacts", "90d"], 2, &["--keep-artifacts", "30d"]),
    (&["serve", "--samples", "--metrics-token-file", "/dev/null"], 2, &["expected one token", "openssl rand"]),
    (&["serve", "--samples", "--handoff-to", "east=wss://x.example/arcp"], 2, &["--handoff-token <NAME=FILE>"]),
    (
        &["serve", "--samples", "--handoff-to", "east=wss://x.example/arcp", "--handoff-token", "east=/nowhere"],
        2,
        &["--handoff-token east", "/nowhere", "No such file"],
    ),
    (
        &["serve", "--samples", "--handoff-to", "east=exec:x", "--handoff-token", "east=/nowhere"],
        2,
        &["'east=exec:x'", "give where that one listens"],
    ),
    (&["serve", "--samples", "--auditor", "nobody"], 2, &["--auditor nobody", "give --token TOKEN=nobody"]),
    (&["serve", "--samples", "--operator", "nobody"], 2, &["--operator nobody", "give --token TOKEN=nobody"]),
    (
        &["serve", "--samples", "--needs-trust", "root:tool.call=deploy.*"],
        2,
        &["--needs-trust root:tool.call=deploy.*", "expected untrusted, constrained, trusted or privileged"],
    ),
    (&["serve", "--samples", "--submit-rate", "0"], 2, &["'0'", "from 1 on", "no bound"]),
    (&["serve", "--samples", "--needs-trust", "tool.call=x"], 2, &["expected LEVEL:NAMESPACE=PATTERN"]),
    (&["serve", "--samples", "--needs-trust", "trusted:cost.budget=USD:1"], 2, &["a budget needs no trust level"]),
    (&["serve", "--samples", "--path", "arcp"], 2, &["'arcp'", "begins with `/`"]),
    (&["serve", "--samples", "--path", "/a b"], 2, &["'/a b'", "without spaces"]),
    (&["serve", "--samples", "--listen", "7777x"], 2, &["'7777x'", "HOST:PORT", "localhost:7777"]),
    (&["serve", "--samples", "--listen", "127.0.0.1:77777"], 2, &["'127.0.0.1:77777'", "up to 65535"]),
    (&["serve", "--samples", "--listen", "127.0.0.1"], 2, &["'127.0.0.1'", "HOST:PORT"]),
    (&["serve", "--samples", "--listen", "http://localhost:7777"], 2, &["`http`", "HOST:PORT", "unix:///PATH"]),
    (
        &["serve", "--samples", "--listen", "ws://localhost:7777/arcp"],
        2,
        &["`/arcp` is no part", "ws://localhost:7777"],
    ),
    (
        &["serve", "--samples", "--listen", "wss://localhost:0"],
        2,
        &["wss://127.0.0.1:0", "needs a certificate", "--tls-cert"],
    ),
    (
        &["serve", "--samples", "--listen", "quic://localhost:0"],
        2,
        &["quic://127.0.0.1:0 needs a certificate: give --tls-cert FILE --tls-key FILE"],
    ),
    (&["serve", "--samples", "--listen", "ws://0.0.0.0:0"], 2, &["give wss:// with --tls-cert", "--insecure"]),
    (&["serve", "--samples", "--listen", "h2c://0.0.0.0:0"], 2, &["give h2:// with --tls-cert", "--insecure"]),
    (&["serve", "--samples", "--listen", ":7,:7"], 2, &["--listen 127.0.0.1:7", "is given twice"]),
    (&["serve", "--samples", "--listen", "ws://:7,h2c://:7"], 2, &["ws://127.0.0.1:7 has", "another port"]),
    (&["serve", "--samples", "--listen", "unix:/a,unix:/a"], 2, &["--listen unix:///a", "is given twice"]),
    (&["serve", "--samples", "--stdio", "--listen", ":0"], 2, &["'--stdio' cannot be used with", "--listen"]),
    #[cfg(feature = "otlp")]
    (
        &["serve", "--samples", "--otlp", "http://192.0.2.1:4318/x"],
        2,
        &["--otlp http://192.0.2.1:4318 is neither TLS nor this machine", "https://", "--insecure"],
    ),
    #[cfg(feature = "otlp")]
    (
        &["serve", "--check", "--samples", "--otlp", "http://localhost.example:4318"],
        2,
        &["--otlp http://localhost.example:4318"],
    ),
    (&["serve", "--samples", "--listen", "unix://run/a"], 2, &["give unix:///run/a"]),
    (&["serve", "--samples", "--listen", "unix:/tmp/a?mode=777"], 2, &["`777`", "600, 660 or 666"]),
    (&["serve", "--samples", "--listen", "unix:/no/such/folder/a"], 1, &["/no/such/folder: ", "make the folder"]),
    (&["serve", "--samples", "--listen", "stdio:", "--listen", ":0", "--background"], 2, &["stdio:", "--background"]),
    (&["submit", "echo", "--url", "unix://run/a"], 2, &["give unix:///run/a"]),
    (&["submit", "echo", "--url", "unix:/no/such/socket"], 7, &["unix:///no/such/socket", "arcp serve"]),
    (&["serve", "--samples", "--listen", "no.such.host.invalid:1"], 2, &["`no.such.host.invalid`", "no address"]),
    (
        &["serve", "--samples", "--listen", "192.0.2.1:7777", "--insecure"],
        1,
        &["192.0.2.1:7777", "give an address of this machine"],
    ),
    (&["serve", "--samples", "--listen", "$TAKEN"], 1, &["cannot listen on $TAKEN", "arcp runtimes", "--listen :PORT"]),
    (&["serve", "--samples", "--heartbeat", "soon"], 2, &["'soon'", "such as 90s, 10m or 1h30m"]),
    (&["serve", "--samples", "--heartbeat", ""], 2, &["--heartbeat", "such as 90s, 10m or 1h30m"]),
    (&["serve", "--samples", "--resume-window", "10x"], 2, &["'10x'", "such as 90s, 10m or 1h30m"]),
    (&["serve", "--samples", "--heartbeat", "0.0001s"], 2, &["'0.0001s'", "--heartbeat", "from 1s to 24h, or 0"]),
    (&["serve", "--samples", "--heartbeat", "25h"], 2, &["'25h'", "--heartbeat", "from 1s to 24h, or 0"]),
    (&["serve", "--samples", "--resume-window", "0"], 2, &["'0'", "--resume-window", "at least 1s"]),
    (&["serve", "--samples", "--resume-window", "200y"], 2, &["'200y'", "--resume-window", "at most 136 years"]),
    (&["serve", "--samples", "--session-lease", "0s"], 2, &["'0s'", "more than 0"]),
    (&["serve", "--samples", "--session-lease", "9s"], 2, &["'9s'", "--session-lease", "at least 10s"]),
    (&["serve", "--samples", "--keep-audit", "59s"], 2, &["'59s'", "--keep-audit", "at least 1m"]),
    (&["serve", "--samples", "--keep", "999ms"], 2, &["'999ms'", "--keep", "at least 1s"]),
    (&["serve", "--samples", "--keep", "30"], 2, &["'30'", "with its unit", "such as 30d"]),
    (&["serve", "--samples", "--keep", "0s"], 2, &["'0s'", "more than 0"]),
    (&["serve", "--samples", "--tell-for", "0"], 2, &["'0'", "more than 0"]),
    (&["serve", "--samples", "--store-max", "8"], 2, &["'8'", "at least 1MiB", "8GiB"]),
    (&["serve", "--samples", "--store-max", "8 Gb/s"], 2, &["'8 Gb/s'", "such as 500MiB or 8GiB"]),
    (&["serve", "--samples", "--drain", "-5"], 2, &["-5"]),
    (&["serve", "--samples", "--principal-share", "0"], 2, &["'0'", "from 1 to 100"]),
    (&["serve", "--samples", "--principal-share", "25%"], 2, &["'25%'", "from 1 to 100", "without a sign"]),
    (&["serve", "--samples", "--compat", "other"], 2, &["'other'", "possible values", "python-1.1.3"]),
    (&["serve", "--samples", "--compat", "python"], 2, &["'python'", "a similar value exists: 'python-1.1.3'"]),
    (&["serve", "--samples", "--allow-host", "https://my.host"], 2, &["'https://my.host'", "without scheme"]),
    (&["serve", "--samples", "--allow-origin", "my.page"], 2, &["'my.page'", "such as https://my.page"]),
    (&["serve", "--samples", "--restartable", "nobody"], 2, &["--restartable nobody", "give --agent nobody=COMMAND"]),
    (&["serve", "--samples", "--pure", "nobody"], 2, &["--pure nobody", "give --agent nobody=COMMAND"]),
    (
        &["serve", "--samples", "--require-heartbeat", "nobody"],
        2,
        &["--require-heartbeat nobody", "give --agent nobody=COMMAND"],
    ),
    (&["serve", "--samples", "--agent-env", "=x"], 2, &["--agent-env", "expected NAME or NAME=VALUE"]),
    (&["serve", "--agent", "a=true", "--agent-env", "NOT_SET"], 2, &["--agent-env NOT_SET", "give it as NAME=VALUE"]),
    (&["serve", "--samples", "--store", "/"], 2, &["--store", "/: "]),
    (&["serve", "--samples", "--store", "/nowhere/jobs.db"], 2, &["--store", "/nowhere/jobs.db"]),
    (&["serve", "--samples", "--record", "/nowhere/x"], 2, &["--record /nowhere/x", "No such file"]),
];

/// Of those who use a runtime, which hosts the samples. `$FOREIGN` is a file that is
/// no store.
const OF_USERS: &[Mistake] = &[
    (&["nonsense"], 2, &["'nonsense'", "--help"]),
    (&["sumbit", "echo"], 2, &["'sumbit'", "'submit'"]),
    (&["submit", "bad name"], 2, &["'bad name'", "NAME or NAME@VERSION"]),
    (&["submit", "nobody"], 1, &["`nobody`", "those there are artist, asker, chatty, chunker"]),
    (&["submit", "echo", "--input", "{not json"], 2, &["--input", "not valid JSON near byte"]),
    (&["submit", "echo", "--input", "hello world"], 2, &["--input", "a text is quoted", r#"--input '"hello world"'"#]),
    (&["submit", "echo", "--input", "@/nowhere"], 2, &["--input @/nowhere", "No such file"]),
    // At once, and not after the minute for which a lost runtime is looked for.
    (&["ls", "--url", "$ELSEWHERE"], 7, &["$ELSEWHERE: the server answered 404", "arcp runtimes"]),
    (&["submit", "echo", "--max-runtime", "0"], 2, &["'0'", "expected more than 0, such as 10m"]),
    (&["submit", "echo", "--max-runtime", "ten"], 2, &["'ten'", "such as 90s, 10m or 1h30m"]),
    (&["submit", "echo", "--max-runtime", "200y"], 2, &["'200y'", "at most 136 years"]),
    (&["submit", "echo", "--give-up-after", "1.5.5"], 2, &["'1.5.5'", "such as 90s"]),
    (&["submit", "echo", "--key", ""], 2, &["--key", "1 to 256 bytes"]),
    (&["submit", "echo", "--priority", "high"], 2, &["--priority", "--family open"]),
    (&["submit", "echo", "--priority", "urgent"], 2, &["'urgent'", "possible values", "critical"]),
    (&["submit", "echo", "--url", "http://localhost:7777/arcp"], 2, &["'http://", "give ws://localhost:7777/arcp"]),
    (&["submit", "echo", "--url", "https://x/arcp"], 2, &["'https://x/arcp'", "give wss://x/arcp"]),
    (
        &["submit", "echo", "--url", "ws://192.0.2.1:1/arcp", "--token", "t"],
        2,
        &["ws://192.0.2.1:1/arcp", "read the token", "wss://", "--insecure"],
    ),
    (&["submit", "echo", "--url", "wss://127.0.0.1:1", "--ca", "/nowhere.pem"], 1, &["/nowhere.pem", "No such file"]),
    (&["serve", "--samples", "--listen", "0.0.0.0:0"], 2, &["0.0.0.0:0", "--tls-cert", "--insecure"]),
    (&["serve", "--samples", "--tls-cert", "/nowhere.pem"], 2, &["--tls-key"]),
    (
        &["serve", "--samples", "--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"],
        2,
        &["/nowhere.pem", "No such file", "arcp tls self-signed"],
    ),
    (&["submit", "echo", "--url", "localhost"], 2, &["'localhost'", "HOST:PORT"]),
    (&["submit", "echo", "--url", "localhost:many"], 2, &["'localhost:many'", "HOST:PORT"]),
    (&["submit", "echo", "--url", "ftp://x:1"], 2, &["'ftp://x:1'", "ws://HOST:PORT/PATH"]),
    (
        &["submit", "echo", "--url", "ws://127.0.0.1:1/arcp"],
        7,
        &["no runtime answers at ws://127.0.0.1:1/arcp", "Connection refused", "arcp serve", "--url"],
    ),
    (&["submit", "echo", "--url", ":1"], 7, &["ws://127.0.0.1:1/arcp", "Connection refused", "arcp serve"]),
    (&["submit", "echo", "--token", "wrong"], 8, &["refused", "give one of that runtime's tokens"]),
    (&["submit", "echo", "--detach", "--url", "127.0.0.1:1"], 2, &["--detach", "give --token", "ARCP_TOKEN"]),
    (&["submit", "echo", "--detach", "--url", "exec:arcp serve --stdio"], 2, &["--detach", "an exec: URL", "stay"]),
    (&["watch", "job_nobody"], 1, &["`job_nobody`", "arcp ls"]),
    (&["watch", "job 1"], 2, &["'job 1'", "arcp ls"]),
    (&["watch"], 2, &["<JOB>", "required"]),
    (&["cancel", "job_nobody"], 1, &["`job_nobody`", "arcp ls"]),
    (&["cancel"], 2, &["JOB", "required"]),
    (&["cancel", "job_1", "--filter", "agent=echo"], 2, &["--filter", "cannot be used with", "JOB"]),
    (&["cancel", "--filter", "echo"], 2, &["'echo'", "agent=NAME"]),
    (&["cancel", "job_1", "--deadline", "5s"], 2, &["--deadline", "--family open"]),
    (&["cancel", "job_1", "--family", "open", "--deadline", "1h"], 2, &["'1h'", "at most 10m"]),
    (&["list", "--status", "succes"], 2, &["'succes'", "a similar value exists: 'success'"]),
    (&["list", "--agent", "nobody"], 2, &["--agent nobody", "those there are artist, asker, chatty, chunker"]),
    (&["list", "--limit", "many"], 2, &["'many'", "0 for all"]),
    (&["list", "--family", "closed"], 2, &["'closed'", "hello, open"]),
    (&["ls", "--filter", "age=2h"], 2, &["'age=2h'", "older=SPAN", "such as older=2h"]),
    (&["ls", "--filter", "older=soon"], 2, &["'older=soon'", "such as 90s"]),
    (&["ls", "--filter", "status=succes"], 2, &["'status=succes'", "timed_out"]),
    (&["ls", "--filter", "older=1h", "--filter", "older=2h"], 2, &["--filter", "given once"]),
    (&["ls", "-o", "yaml"], 2, &["'yaml'", "jsonl"]),
    (&["show", "job_nobody"], 1, &["`job_nobody`", "arcp ls"]),
    (&["show", "a thing"], 2, &["'a thing'", "arcp ls", "arcp runtimes"]),
    (&["result", "job_nobody"], 1, &["`job_nobody`", "arcp ls"]),
    (&["logs", "job_nobody"], 1, &["`job_nobody`", "arcp ls"]),
    (&["logs", "job_1", "--kind", "lug"], 2, &["'lug'", "tool_call", "x-"]),
    (&["wait"], 2, &["<JOB>", "required"]),
    (&["wait", "job_nobody"], 1, &["`job_nobody`", "arcp ls"]),
    (&["wait", "job_1", "--timeout", "0"], 2, &["'0'", "more than 0"]),
    (&["retry", "job_nobody"], 1, &["job_nobody", "not known here", "arcp submit"]),
    (&["agents", "nobody"], 1, &["`nobody`", "those there are artist, asker, chatty, chunker"]),
    (&["agents", "slow@9"], 1, &["slow", "9"]),
    (&["replay", "/nowhere"], 2, &["/nowhere", "No such file"]),
    (&["store", "check", "/nowhere.db"], 2, &["/nowhere.db", "No such file"]),
    (&["store", "check", "$FOREIGN"], 2, &["$FOREIGN is not a store of this program", "name another file"]),
    (&["store", "backup", "$FOREIGN"], 2, &["$FOREIGN is not a store of this program", "name another file"]),
    (&["store"], 2, &["check", "repair", "backup"]),
];

/// Of those who know other programs: what they say, and what that is here.
const OF_NEWCOMERS: &[(&[&str], &str)] = &[
    (&["submit", "echo", "--time-limit", "5s"], "here that is '--max-runtime <SPAN>' (Time limit)"),
    (&["submit", "echo", "--timeout=5s"], "'--max-runtime <SPAN>'"),
    (&["wait", "job_1", "--time-limit", "5s"], "'--timeout <SPAN>'"),
    (&["submit", "echo", "hello"], "'--input <JSON|@FILE|->'"),
    (&["submit", "echo", "--data", "1"], "'--input <JSON|@FILE|->'"),
    (&["submit", "--agent", "echo"], "'arcp submit <AGENT>', without an option"),
    (&["submit", "echo", "--no-wait"], "'--detach'"),
    (&["submit", "echo", "--host", "here:1"], "'--url <URL>'"),
    (&["store", "check", "--store", "x.db"], "'arcp store check <FILE>', without an option (The store)"),
    (&["watch", "--job", "job_1"], "'arcp watch <JOB>', without an option"),
    (&["ls", "--json"], "'--output <OUTPUT>'"),
    (&["ls", "-a"], "'--limit <LIMIT>' (The most jobs to list, 0 for all)"),
    (&["ls", "job_1"], "'arcp show <ID>'"),
    (&["logs", "job_1", "-n", "5"], "'--tail <N>'"),
    (&["audit", "--user", "me"], "'--principal <"),
    (&["cancel", "--all"], "'--filter <NAME=VALUE>'"),
    (&["serve", "--port", "7777"], "'--listen <PLACE>' (The address to listen on)"),
    (&["serve", "--db", "x"], "'--store <FILE|memory>'"),
    (&["serve", "./agent.py"], "'--agent <NAME[@VERSION]=COMMAND>'"),
    (&["serve", "--token-file", "x"], "'--tokens <FILE>'"),
    (&["serve", "--no-auth"], "'--anonymous'"),
    (&["stop", "--force"], "'--now'"),
    (&["policy", "validate", "x"], "'arcp policy check'"),
    (&["run", "echo"], "here that is 'arcp submit' (Submit a job and follow it)"),
    (&["start"], "'arcp serve'"),
    (&["status"], "'arcp ls'"),
    (&["tail", "job_1"], "'arcp logs'"),
    (&["kill", "job_1"], "'arcp cancel'"),
    (&["health"], "'arcp doctor'"),
    (&["artifact", "upload", "x"], "'arcp artifact put'"),
    (&["token", "create", "me"], "'arcp token add'"),
    (&["token", "delete", "me"], "'arcp token revoke'"),
    (&["sessions", "kill"], "'arcp sessions evict'"),
    (&["stop", "job_1"], "`arcp cancel` ends a job"),
];

/// What says nothing to whoever made the mistake, and what must not be repeated.
const NEVER: [&str; 5] = ["invalid digit", "non-zero type", "lost for good", "secret", "(CANCELLED)"];

fn tell(home: &Home, mistakes: &[Mistake], names: &[(&str, &str)]) {
    let filled = |text: &str| names.iter().fold(text.to_string(), |text, (name, value)| text.replace(name, value));
    for (args, exit, needles) in mistakes {
        let args: Vec<String> = args.iter().map(|arg| filled(arg)).collect();
        let output = home.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = stderr(&output);
        assert_eq!(code(&output), *exit, "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}: stdout is data");
        for needle in *needles {
            let needle = filled(needle);
            assert!(said.contains(&needle), "{args:?}: no {needle:?} in: {said}");
        }
        for never in NEVER {
            assert!(!said.contains(never), "{args:?}: {never:?} in: {said}");
        }
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn a_mistake_of_an_operator_is_told_with_its_input_and_its_mend() {
    let mut home = Home::new(ARCP);
    // Whoever has the default port here is nobody's mistake.
    home.variables.push(("ARCP_LISTEN", "127.0.0.1:0"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    tell(&home, OF_OPERATORS, &[("$TAKEN", &address)]);
}

#[cfg(feature = "otlp")]
#[test]
fn spans_go_in_cleartext_to_this_machine_alone_unless_somebody_says_so_and_by_http_alone() {
    let mut home = Home::new(ARCP);
    let check = |home: &Home, more: &[&str]| home.run(&[&["serve", "--check", "--samples", "--otlp"], more].concat());
    let sound: [&[&str]; 5] = [
        &["http://localhost:4318"],
        &["http://127.0.0.1:4318"],
        &["http://[::1]:4318"],
        &["https://192.0.2.1:4318"],
        &["http://192.0.2.1:4318", "--insecure"],
    ];
    for more in sound {
        let output = check(&home, more);
        assert_eq!(code(&output), 0, "{more:?}: {}", stderr(&output));
    }
    home.variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
    let output = check(&home, sound[0]);
    let said = stderr(&output);
    assert!(code(&output) == 2 && said.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc: spans are sent by http/"), "{said}");
}

#[test]
fn a_mistake_of_a_user_is_told_with_its_input_and_its_mend() {
    let mut home = Home::new(ARCP);
    let elsewhere = home.serve(&["--samples"]).replace("/arcp", "/wrong");
    let foreign = home.dir.join("notes.txt");
    std::fs::write(&foreign, "this is not a store\n".repeat(100)).expect("written");
    tell(&home, OF_USERS, &[("$FOREIGN", foreign.to_str().expect("text")), ("$ELSEWHERE", &elsewhere)]);
    assert!(!foreign.with_added_extension("backup").exists(), "no copy is left");
}

#[test]
fn who_says_what_other_programs_understand_is_told_what_it_is_here() {
    let home = Home::new(ARCP);
    for (args, hint) in OF_NEWCOMERS {
        let refused = home.run(args);
        let said = stderr(&refused);
        assert!(code(&refused) != 0 && said.contains(hint), "{args:?}: no {hint:?} in: {said}");
        assert!(!said.contains("similar") && !said.contains("as a value"), "{args:?}: {said}");
    }
}

#[test]
fn an_empty_variable_is_none() {
    let mut home = Home::new(ARCP);
    let of_serve = ["CONFIG", "LISTEN", "TOKENS", "POLICY", "LOG", "WEBHOOK_SECRET", "DELEGATION_KEY"];
    let of_clients = ["URL", "TOKEN", "CA", "CERT", "CERT_KEY", "FAMILY"];
    let named = |name: &&str| -> &'static str { format!("ARCP_{name}").leak() };
    home.variables.extend(of_serve.iter().chain(&of_clients).map(|name| (named(name), "")));
    home.variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", ""));
    let checked = home.run(&["serve", "--check", "--samples"]);
    assert_eq!(code(&checked), 0, "{}", stderr(&checked));
    home.serve(&["--samples"]);
    let done = home.run(&["submit", "echo", "--input", "1"]);
    assert_eq!((code(&done), stdout(&done).trim()), (0, "1"), "{}", stderr(&done));
    home.variables.push(("ARCP_PROVISIONER_KEY", ""));
    let refused = home.run(&["serve", "--check", "--samples", "--provisioner", "litellm:http://127.0.0.1:9"]);
    assert!(code(&refused) == 2 && stderr(&refused).contains("ARCP_PROVISIONER_KEY"), "{}", stderr(&refused));
}

#[test]
fn without_a_runtime_a_command_says_how_to_start_one() {
    let home = Home::new(ARCP);
    for args in [&["list"][..], &["submit", "echo"], &["watch", "job_1"], &["cancel", "job_1"]] {
        let refused = home.run(args);
        let said = stderr(&refused);
        assert_eq!(code(&refused), 7, "{args:?}: {said}");
        assert!(
            said.contains("no runtime is known") && said.contains("arcp serve") && said.contains("--url"),
            "{said}"
        );
    }
    let none = home.run(&["runtimes"]);
    assert!(code(&none) == 0 && stderr(&none).contains("start one with `arcp serve`"), "{}", stderr(&none));
}

#[test]
fn a_state_directory_that_cannot_be_written_hinders_nobody_who_needs_no_token() {
    let mut home = Home::new(ARCP);
    home.variables.push(("ARCP_STATE_DIR", "/dev/null/arcp"));
    let refused = home.run(&["serve", "--samples", "--listen", "127.0.0.1:0"]);
    let said = stderr(&refused);
    assert_eq!(code(&refused), 1, "{said}");
    assert!(said.contains("/dev/null/arcp") && said.contains("give --token TOKEN=NAME"), "{said}");
    let url = home.serve(&["--samples", "--anonymous"]);
    let done = home.run(&["submit", "echo", "--input", "1", "--url", &url]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
}
