//! Completions and the manual.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use arcp_tests::home::{Home, code, stderr, stdout};

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// The commands that `arcp --help` lists.
fn commands(home: &Home) -> BTreeSet<String> {
    let help = stdout(&home.run(&["--help"]));
    let listed = help.split("Commands:\n").nth(1).expect("a list").split("\n\n").next().expect("a list");
    let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_string).filter(|name| name != "help").collect()
}

#[test]
fn a_shell_completes_every_command() {
    let home = Home::new(ARCP);
    let all = commands(&home);
    assert!(all.len() > 15 && all.contains("ls") && all.contains("doctor"), "{all:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&home.run(&["completions", shell]));
        for command in &all {
            assert!(script.contains(command.as_str()), "{shell} does not know {command}");
        }
    }
    // As bash itself does it.
    let script = stdout(&home.run(&["completions", "bash"]));
    let ask =
        "COMP_WORDS=(arcp doc); COMP_CWORD=1; COMP_LINE='arcp doc'; _arcp arcp doc arcp; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash");
    bash.stdin.take().expect("a pipe").write_all(format!("{script}\n{ask}\n").as_bytes()).expect("written");
    assert_eq!(stdout(&bash.wait_with_output().expect("it ends")).trim(), "doctor");
    let unknown = home.run(&["completions", "tcsh"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("bash"), "{}", stderr(&unknown));
}

#[test]
fn every_command_has_a_page() {
    let home = Home::new(ARCP);
    let program = stdout(&home.run(&["man"]));
    assert!(program.contains(".TH ARCP 1") && program.contains("Exit codes"), "{program}");
    let page = stdout(&home.run(&["man", "ls"]));
    assert!(page.contains(".TH ARCP-LS 1") && page.contains("filter"), "{page}");
    let folder = home.dir.join("man");
    assert_eq!(code(&home.run(&["man", "--to", folder.to_str().expect("text")])), 0);
    for command in commands(&home) {
        let page = fs::read_to_string(folder.join(format!("arcp-{command}.1"))).expect("a page");
        assert!(page.contains("Exit codes"), "{command}: {page}");
    }
    let unknown = home.run(&["man", "lss"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("`lss`"), "{}", stderr(&unknown));
}

/// Options of the other programs that the pages show.
const OF_OTHERS: [&str; 12] = [
    "--bench",
    "--example",
    "--hook",
    "--json",
    "--max-turns",
    "--output-format",
    "--release",
    "--reuse-key",
    "--settings",
    "--verbose",
    "--workspace",
    "--write",
];

fn options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '-');
    words.filter(|word| word.strip_prefix("--").is_some_and(|name| name.starts_with(|c| c != '-'))).collect()
}

#[test]
fn the_pages_name_no_option_that_the_program_does_not_have() {
    let home = Home::new(ARCP);
    let nested = [
        ["artifact", "get"],
        ["artifact", "put"],
        ["artifact", "rm"],
        ["checkpoint", "create"],
        ["checkpoint", "list"],
        ["checkpoint", "restore"],
        ["schedule", "add"],
        ["schedule", "list"],
        ["schedule", "next"],
        ["schedule", "pause"],
        ["schedule", "remove"],
        ["schedule", "resume"],
        ["workflow", "check"],
        ["workflow", "run"],
        ["policy", "check"],
        ["policy", "explain"],
        ["lease", "check"],
        ["lease", "subset"],
        ["sessions", "evict"],
        ["sessions", "list"],
        ["store", "check"],
        ["store", "repair"],
        ["store", "backup"],
        ["tls", "self-signed"],
        ["token", "add"],
        ["token", "inspect"],
        ["token", "key"],
        ["token", "list"],
        ["token", "mint"],
        ["token", "revoke"],
    ];
    let mut helps: String =
        nested.iter().map(|command| stdout(&home.run(&[&command[..], &["--help"]].concat()))).collect();
    commands(&home).iter().for_each(|command| helps.push_str(&stdout(&home.run(&[command, "--help"]))));
    let mut known = options(&helps);
    assert!(known.len() > 40 && known.contains("--store-max"), "{known:?}");
    known.extend(OF_OTHERS);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let docs = fs::read_dir(root.join("docs")).expect("a folder").map(|page| page.expect("a page").path());
    for page in docs.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("text");
        let unknown: Vec<&str> = options(&text).difference(&known).copied().collect();
        assert!(unknown.is_empty(), "{} names {unknown:?}", page.display());
    }
}
