//! `arcp lease`: answers for people and for scripts.

use std::process::Command;

/// What is asked, how it ends, and what the answer says.
const ASKED: &[(&[&str], i32, &[&str])] = &[
    (&["check", "--lease", "fs.read=/srv/**", "fs.read", "/srv/a/b"], 0, &["allow", "/srv/**"]),
    (&["check", "--lease", "fs.read=/**", "fs.read", "/a\u{1b}[2J"], 5, &["deny", "`/a\\u{1b}[2J`"]),
    (&["check", "--lease", "fs.read=/srv/**", "fs.write", "/srv/a"], 5, &["deny", "fs.write"]),
    (&["check", "--lease", "fs.read=/srv/**", "fs.read", "/srv/../etc"], 5, &["deny", "`..`"]),
    (
        &["check", "--lease", "fs.read=/a/*", "--lease", r#"{"fs.read":["/b/*"]}"#, "fs.read", "/b/c"],
        0,
        &["allow", "/b/*"],
    ),
    (&["check", "--lease", "fs.read=srv", "fs.read", "/srv"], 2, &["`fs.read=srv`", "`srv`", "begins with `/`"]),
    (&["check", "--lease", "fs.delete=/a", "fs.read", "/a"], 2, &["fs.delete", "fs.read, fs.write"]),
    (&["check", "--lease", "fs.read=/a", "fs.delete", "/a"], 2, &["'fs.delete'", "expected fs.read"]),
    (&["check", "--lease", "/no/such/file", "fs.read", "/a"], 2, &["/no/such/file", "cannot be read"]),
    (&["check", "--lease", "fs.read", "fs.read", "/a"], 2, &["`fs.read`", "expected NAMESPACE=PATTERN"]),
    (&["subset", r#"{"cost.budget":["usd:5"]}"#, r#"{"cost.budget":["USD:1"]}"#], 5, &["deny", "less USD"]),
    (&["subset", "fs.read=/a/*", "fs.read=/a/**"], 0, &["allow"]),
    (&["subset", "fs.read=/a/**", "fs.read=/a/*"], 5, &["deny", "`/a/**` means `/a"]),
    (&["subset", "--help"], 0, &["'fs.read=/srv/**'", "- for stdin"]),
    (&["subset", r#"{"fs.read":["/a/*"]}"#, r#"{"fs.read":["/a/**"]}"#], 0, &["allow"]),
    (
        &["subset", r#"{"tool.call":["tier/*"]}"#, r#"{"tool.call":["tier/*/eu/*"]}"#],
        5,
        &["deny", "`tier/*` means `tier/"],
    ),
    (&["subset", r#"{"cost.budget":["USD:6"]}"#, r#"{"cost.budget":["USD:5"]}"#], 5, &["deny", "less USD"]),
];

#[test]
fn a_lease_is_asked_and_the_exit_code_says_the_answer_too() {
    for (arguments, exit, words) in ASKED {
        let asked = Command::new(env!("CARGO_BIN_EXE_arcp")).arg("lease").args(*arguments).output().expect("it runs");
        let said = format!("{}{}", String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr));
        assert_eq!(asked.status.code(), Some(*exit), "{arguments:?}: {said}");
        for word in *words {
            assert!(said.contains(word), "{arguments:?} does not say {word}: {said}");
        }
    }
}
