//! CONFORMANCE.md is up to date, and every test that it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

/// Every `#[test]` function of the workspace.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[test]" {
                    let declared = lines.next().unwrap_or_default();
                    let name = declared.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                    found.extend(name.map(String::from));
                }
            }
        }
    }
}

#[test]
fn every_ledger_row_is_here_and_every_named_test_exists() {
    let mut tests = BTreeSet::new();
    for folder in ["arcp-proto", "arcp-host", "arcp-blocking", "arcp-cli", "tests"] {
        tests_in(&root().join(folder), &mut tests);
    }
    assert!(tests.len() > 100, "only {} tests were found", tests.len());
    let page = std::fs::read_to_string(root().join("CONFORMANCE.md")).expect("the page");
    let mut rows: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [row, _, status, test] = cells.as_slice() else { panic!("not four cells: {line}") };
        let (test, missing) = test.split_once(" — missing: ").unwrap_or((test, ""));
        let test = test.trim_matches('`').to_string();
        let before = rows.insert((*row).to_string(), ((*status).to_string(), test.clone()));
        assert!(before.is_none(), "{row} stands there twice");
        assert!(matches!(*status, "works" | "partly" | "not yet"), "{row}: `{status}` is no status");
        assert!(*status == "not yet" || !test.is_empty(), "{row} works without a test");
        assert_eq!(*status == "partly", !missing.is_empty(), "{row}: what is partly there says what is missing");
        for test in test.split("`, `").filter(|test| !test.is_empty()) {
            assert!(tests.contains(test), "{row}: there is no test `{test}`");
        }
    }
    for (prefix, count) in [("SW", 94), ("RT", 98), ("PY", 36), ("RR", 48), ("GL", 19), ("B", 85)] {
        for n in 1..=count {
            assert!(rows.contains_key(&format!("{prefix}{n}")), "{prefix}{n} is missing");
        }
    }
    assert_eq!(rows.len(), 94 + 98 + 36 + 48 + 19 + 85);
}

#[test]
fn the_readme_has_one_status_table() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the page");
    for status in ["| works |", "| not yet |"] {
        assert_eq!(readme.lines().filter(|line| line.starts_with(status)).count(), 1, "{status}");
    }
}

#[test]
fn every_crate_has_tests_of_its_own() {
    for folder in ["arcp-proto/src", "arcp-host/src", "arcp-blocking/src", "arcp-cli/tests", "tests/tests"] {
        let mut tests = BTreeSet::new();
        tests_in(&root().join(folder), &mut tests);
        assert!(!tests.is_empty(), "{folder} has none");
    }
}

#[test]
fn no_match_passes_over_what_it_does_not_name() {
    fn look(folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                look(&path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\n#[allow("];
            let code = &text[..tests.iter().filter_map(|begin| text.find(begin)).min().unwrap_or(text.len())];
            assert!(!code.contains("wildcard_enum_match_arm"), "{}: a match with a wildcard", path.display());
        }
    }
    look(&root().join("arcp-proto/src"));
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("\nwildcard_enum_match_arm = "), "the linter looks for them");
    let gate = std::fs::read_to_string(root().join(".ci/run")).expect("the gate");
    assert!(gate.contains("clippy --locked --workspace --all-targets -- -D warnings"), "and the gate asks it");
}

#[test]
fn each_transport_is_a_feature_and_the_gate_looks_at_every_combination() {
    let manifest = std::fs::read_to_string(root().join("arcp-blocking/Cargo.toml")).expect("the manifest");
    let (_, rest) = manifest.split_once("\n[features]\n").expect("features");
    let (features, _) = rest.split_once("\n\n").expect("more follows");
    let lines: Vec<&str> = features.lines().filter(|line| !line.starts_with('#')).collect();
    let [default, websocket, tls, stdio] = lines.as_slice() else { panic!("another feature: {lines:?}") };
    assert_eq!(*default, r#"default = ["websocket", "stdio"]"#);
    assert!(websocket.starts_with("websocket = ") && stdio.starts_with("stdio = "), "{lines:?}");
    assert!(tls.starts_with(r#"tls = ["websocket", "#), "{lines:?}");
    let gate = std::fs::read_to_string(root().join(".ci/run")).expect("the gate");
    let (_, rest) =
        gate.split_once("for features in \"\" websocket tls stdio; do\n").expect("a loop over combinations");
    let (body, _) = rest.split_once("\ndone").expect("its end");
    for command in ["cargo clippy", "cargo test"] {
        let line = body.lines().find(|line| line.trim().starts_with(command)).expect("each is linted and tested");
        assert!(line.contains(r#"-p arcp-blocking --no-default-features --features "$features""#), "{line}");
    }
}

#[test]
fn coverage_has_a_floor_a_fixed_tool_and_tests_that_are_there() {
    let script = std::fs::read_to_string(root().join(".ci/coverage")).expect("the script");
    let value = |name: &str| {
        let line = script.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim_matches(['(', ')']).to_string()
    };
    assert!(value("floor=").parse::<u32>().is_ok_and(|floor| (80..=100).contains(&floor)), "the floor is a share");
    assert!(value("version=").split('.').all(|part| part.parse::<u32>().is_ok()), "the tool is a fixed one");
    assert!(script.contains(r#"--fail-under-lines "$floor""#) && script.contains(r#"--version "$version""#));
    let (_, rest) = script.split_once("tests=(").expect("what is run");
    let tests: Vec<&str> = rest.split(')').next().expect("its end").split_whitespace().collect();
    assert!(tests.len() > 5, "{tests:?}");
    for test in tests {
        assert!(root().join(format!("tests/tests/{test}.rs")).exists(), "{test}");
    }
    let gate = std::fs::read_to_string(root().join(".ci/run")).expect("the gate");
    assert!(gate.contains("\n.ci/coverage\n"), "the gate measures it");
}

#[test]
fn both_licences_are_here() {
    for (file, words) in [("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "Apache License")] {
        let text = std::fs::read_to_string(root().join(file)).expect("a licence");
        assert!(text.contains(words), "{file}");
    }
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("license = \"MIT OR Apache-2.0\""));
}
