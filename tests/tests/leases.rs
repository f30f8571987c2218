//! Leases are exact: what a pattern matches, and whether a lease is within another one.

use arcp_proto::json::Json;
use arcp_proto::lease::{Amount, Budget, Excess, Lease, Namespace, Pattern, Port, Refused, Target};
use arcp_proto::wire::{Compat, Profile};
use arcp_tests::globs::means;
use arcp_tests::raw::{Raw, code};
use arcp_tests::world::World;
use globset::GlobBuilder;
use serde_json::json;

fn lease(json: &str) -> Lease {
    Lease::parse(&Json::parse(json).expect("JSON")).expect("a lease")
}

fn namespace(name: &str) -> Namespace {
    name.parse().expect("a namespace")
}

fn permits(name: &str, pattern: &str, target: &str) -> bool {
    let namespace = namespace(name);
    let pattern = Pattern::new(&namespace, pattern).expect("a pattern");
    Target::new(&namespace, target).is_ok_and(|target| pattern.matches(&target))
}

/// Namespace, pattern, what is asked for, and whether it may be had. The first
/// lines of each are holes that published libraries and SDKs have.
const ASKED: &[(&str, &str, &str, bool)] = &[
    ("fs.read", "/workspace/**", "/workspace/../etc/passwd", false),
    ("fs.read", "/workspace/**", "/workspace/./a", false),
    ("fs.read", "/workspace/**", "/workspace//a", false),
    ("fs.read", "/workspace/**", "/workspace/a/", false),
    ("fs.read", "/workspace/**", "/workspace/%2e%2e/etc", false),
    ("fs.read", "/workspace/**", "/workspace/%2E%2e/etc", false),
    ("fs.read", "/workspace/**", "/workspace/a%2fb", false),
    ("fs.read", "/workspace/**", "/workspace/..\\etc", false),
    ("fs.read", "/workspace/**", "/workspace/a\0b", false),
    ("fs.read", "/workspace/**", "/workspace/a\nb", false),
    ("fs.read", "/workspace/**", "workspace/a", false),
    ("fs.read", "/workspace/**", "", false),
    ("fs.read", "/workspace/*", "/workspace/a/b", false),
    ("fs.read", "/workspace/**", "/workspace-evil/a", false),
    ("fs.read", "/workspace/**", "/workspace", false),
    ("fs.read", "/workspace/**", "/workspace/a", true),
    ("fs.read", "/workspace/**", "/workspace/a/b/c", true),
    ("fs.read", "/workspace/*", "/workspace/a", true),
    ("fs.read", "/workspace/*.rs", "/workspace/.rs", true),
    ("fs.read", "/workspace/?", "/workspace/ä", true),
    ("fs.read", "/workspace/?", "/workspace/ab", false),
    ("fs.read", "/a/**/b", "/a/b", true),
    ("fs.read", "/a/**/b", "/a/x/y/b", true),
    ("fs.read", "/a/**/b", "/a/xb", false),
    ("fs.read", "/a/**/b/**/c", "/a/b/b/c/c", true),
    ("fs.read", "/**/b", "/b", true),
    ("fs.read", "/**/**/b", "/b", true),
    ("fs.read", "/**/**/b", "/x/y/b", true),
    ("fs.read", "/**/**/b", "/xb", false),
    ("fs.read", "/a/**/**", "/a/b", true),
    ("fs.read", "/a/**/**", "/a", false),
    ("fs.read", "/**", "/", true),
    ("fs.read", "/**", "/etc/passwd", true),
    ("fs.read", "/", "/", true),
    ("fs.read", "/", "/a", false),
    ("fs.read", "/Data/**", "/data/a", false),
    ("net.fetch", "https://*.example.com/**", "https://evil.test/.example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "https://example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.b.example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com.evil.test/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com@evil.test/x", false),
    ("net.fetch", "https://*.example.com/**", "https://evil.test#.example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "https://evil.test?.example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "https://evil.test\\.example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "http://a.example.com/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com:8443/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com:0443/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com:/x", false),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com./x", false),
    ("net.fetch", "https://*.example.com/**", "https://A.Example.COM:443/x", true),
    ("net.fetch", "https://*.example.com/**", "HTTPS://a.example.com", true),
    ("net.fetch", "https://*.example.com/**", "https://a.example.com/x?to=https://evil.test", true),
    ("net.fetch", "https://**.example.com/**", "https://example.com/x", true),
    ("net.fetch", "https://**.example.com/**", "https://a.b.example.com/x", true),
    ("net.fetch", "https://**.example.com/**", "https://badexample.com/x", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/../admin", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/%2e%2e/admin", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/.%2e/admin", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/%252e%252e/admin", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/%zz", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/%ff", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/%0d%0aHost:x", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1//x", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/a b", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/", true),
    ("net.fetch", "https://h/v1/**", "https://h/v1", false),
    ("net.fetch", "https://h/v1/**", "https://h/v1/a%20b", true),
    ("net.fetch", "https://h/a%20b", "https://h/a%20b", true),
    ("net.fetch", "https://h/%61", "https://h/a", true),
    ("net.fetch", "https://h/%2A", "https://h/x", false),
    ("net.fetch", "https://h/%2A", "https://h/*", true),
    ("net.fetch", "https://h/**", "https://h", true),
    ("net.fetch", "https://h/v1/", "https://h/v1/", true),
    ("net.fetch", "https://h/v1/", "https://h/v1", false),
    ("net.fetch", "https://h", "https://h/", true),
    ("net.fetch", "https://h", "https://h/x", false),
    ("net.fetch", "https://h/x/", "https://h/x/", true),
    ("net.fetch", "https://h/x/", "https://h/x", false),
    ("net.fetch", "https://h/*.*", "https://h/a.b", true),
    ("net.fetch", "https://h/*.*", "https://h/ab", false),
    ("net.fetch", "https://h/?./x", "https://h/a./x", true),
    ("net.fetch", "https://h/*..", "https://h/..", false),
    ("net.fetch", "https://h:*/**", "https://h:8443/x", true),
    ("net.fetch", "https://h:8443/**", "https://h/x", false),
    ("net.fetch", "http://127.0.0.1/**", "http://127.1/x", false),
    ("net.fetch", "http://127.0.0.1/**", "http://2130706433/x", false),
    ("net.fetch", "http://127.0.0.1/**", "http://0x7f.0.0.1/x", false),
    ("net.fetch", "http://127.0.0.1/**", "http://127.0.0.1/x", true),
    ("net.fetch", "http://10.0.*.*/**", "http://10.0.3.4/x", true),
    ("net.fetch", "http://*/**", "http://0x7f000001/x", false),
    ("net.fetch", "http://[::1]/**", "http://[0:0:0:0:0:0:0:1]/x", true),
    ("net.fetch", "s3://bucket/**", "s3://bucket/key", true),
    ("net.fetch", "https://bücher.example/**", "https://bücher.example/x", false),
    ("tool.call", "search.*", "search.web", true),
    ("tool.call", "search.*", "search.web.deep", true),
    ("tool.call", "search.*", "search", false),
    ("tool.call", "search.*", "search./x", false),
    ("tool.call", "*", "a/b", false),
    ("tool.call", "**", "a/b", true),
    ("tool.call", "a*b", "ab-b", true),
    ("tool.call", "a*b*c", "a-b-c-b-c", true),
    ("model.use", "claude-3-haiku-*", "claude-3-haiku-20240307", true),
    ("model.use", "vendor/*-mini-*", "vendor/gpt-mini-1", true),
    ("model.use", "vendor/*-mini-*", "vendor/x/y-mini-1", false),
    ("model.use", "gpt-*-mini", "gpt-4-mini-mini", true),
    ("model.use", "gpt-*-mini", "gpt-4-mini-mini-", false),
    ("tool.call", "[*]*", "a", false),
    ("tool.call", "[*]*", "[a]b", true),
    ("x-vendor.acme.door", "front", "front", true),
    ("x-vendor.acme.door", "front", "back", false),
];

#[test]
fn a_pattern_means_what_it_says_by_every_spelling() {
    for (name, pattern, target, may) in ASKED {
        if name == &"net.fetch" && !pattern.is_ascii() {
            assert_eq!(Pattern::new(&namespace(name), pattern), Err(Refused::BadHost), "{pattern}");
            continue;
        }
        assert_eq!(permits(name, pattern, target), *may, "{name} {pattern} {target}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_its_reason() {
    let cases = [
        ("fs.read", "", Refused::Empty),
        ("fs.read", "a/b", Refused::NotAbsolute),
        ("fs.read", "/a**", Refused::BadWildcard),
        ("fs.read", "/***", Refused::BadWildcard),
        ("fs.read", "/a//b", Refused::EmptySegment),
        ("fs.read", "/a/", Refused::EmptySegment),
        ("fs.read", "/a/../b", Refused::DotSegment),
        ("fs.read", "/a/%2e%2e/b", Refused::EncodedSeparator),
        ("fs.read", "/a\\b", Refused::Backslash),
        ("fs.read", "/a\tb", Refused::Control),
        ("tool.call", "/a", Refused::Absolute),
        ("net.fetch", "example.com/*", Refused::NoScheme),
        ("net.fetch", "*://example.com/*", Refused::NoScheme),
        ("net.fetch", "https://me@example.com/", Refused::UserInfo),
        ("net.fetch", "https:///x", Refused::BadHost),
        ("net.fetch", "https://a..b/", Refused::BadHost),
        ("net.fetch", "https://127.1/", Refused::BadHost),
        ("net.fetch", "https://h:99999/", Refused::BadPort),
        ("net.fetch", "https://h/#x", Refused::BadUrl),
        ("net.fetch", "https://h/%4", Refused::BadEncoding),
        ("net.fetch", "https://h//x", Refused::EmptySegment),
        ("net.fetch", "https://h/*//", Refused::EmptySegment),
    ];
    for (name, pattern, why) in cases {
        assert_eq!(Pattern::new(&namespace(name), pattern), Err(why), "{name} {pattern}");
    }
    let long = format!("/{}", "a".repeat(4096));
    assert_eq!(Pattern::new(&Namespace::FsRead, &long), Err(Refused::TooLong));
    assert!(Pattern::new(&Namespace::FsRead, &format!("/{}/*", "a".repeat(4000))).is_ok());
    let involved = format!("/*{}", "?".repeat(300));
    assert_eq!(Pattern::new(&Namespace::FsRead, &involved), Err(Refused::TooComplex));
}

/// Child, parents, and whether all that the child means is meant by one of the
/// parents. The first lines are escapes from a published SDK.
const WITHIN: &[(&str, &str, &[&str], bool)] = &[
    ("tool.call", "tier/*", &["tier/*/eu/*"], false),
    ("tool.call", "a*c", &["a*b*c"], false),
    ("tool.call", "*", &["[*]*"], false),
    ("tool.call", "[*]*", &["*"], true),
    ("tool.call", "vendor/*", &["vendor/*-mini-*"], false),
    ("fs.read", "/data/**", &["/data/*"], false),
    ("fs.read", "/data/*", &["/data/**"], true),
    ("fs.read", "/data/**", &["/data/**"], true),
    ("fs.read", "/data/**", &["/data/*", "/data/*/**"], true),
    ("fs.read", "/data/**", &["/data/?", "/data/*/**"], false),
    ("fs.read", "/data/**/x", &["/data/**"], true),
    ("fs.read", "/data", &["/data/**"], false),
    ("fs.read", "/**", &["/**/*"], true),
    ("fs.read", "/*/**", &["/**/*"], true),
    ("fs.read", "/a/*", &["/a/?", "/a/??*"], true),
    ("fs.read", "/a/?*", &["/a/*"], true),
    ("fs.read", "/a/*", &["/a/?*"], true),
    ("fs.read", "/a/ab*", &["/a/a*", "/b"], true),
    ("fs.read", "/a/*b", &["/a/*a", "/a/*c"], false),
    ("fs.read", "/anything", &[], false),
    ("net.fetch", "https://a.example.com/**", &["https://*.example.com/**"], true),
    ("net.fetch", "https://*.example.com/**", &["https://a.example.com/**"], false),
    ("net.fetch", "https://**.example.com/**", &["https://*.example.com/**"], false),
    ("net.fetch", "https://**.example.com/**", &["https://example.com/**", "https://**.*.example.com/**"], true),
    ("net.fetch", "https://h:443/x", &["https://h/*"], true),
    ("net.fetch", "http://[::1]/**", &[], false),
    ("net.fetch", "http://[::ffff:127.0.0.1]/**", &[], false),
    ("net.fetch", "http://[::ffff:127.0.0.1]/**", &["http://*.test/**"], false),
    ("net.fetch", "http://[::ffff:127.0.0.1]/**", &["http://*/**"], true),
    ("net.fetch", "http://*/**", &["http://**/**"], true),
    ("net.fetch", "https://h:*/x", &["https://h/*"], false),
    ("net.fetch", "http://h/x", &["https://h/x"], false),
    ("net.fetch", "https://h/a/**", &["https://h/a/*", "https://h/a/*/**"], true),
    ("model.use", "claude-*-haiku", &["claude-*"], true),
    ("model.use", "claude-*", &["claude-*-haiku"], false),
];

#[test]
fn a_lease_is_within_another_only_if_all_it_means_is() {
    for (name, child, parents, within) in WITHIN {
        let one = lease(&format!("{{\"{name}\":[\"{child}\"]}}"));
        let list = parents.iter().map(|parent| format!("\"{parent}\"")).collect::<Vec<_>>().join(",");
        let other = if parents.is_empty() { Lease::default() } else { lease(&format!("{{\"{name}\":[{list}]}}")) };
        match other.covers(&one) {
            Ok(()) => assert!(within, "{child} is not within {parents:?}"),
            Err(ref error @ Excess::Wider { ref target, .. }) => {
                assert!(!within, "{child} is within {parents:?}, but for {target}");
                assert!(error.to_string().contains(&target.to_string()), "{error}");
                assert!(permits(name, child, &target.to_string()), "{child} does not mean {target}");
                assert!(!parents.iter().any(|parent| permits(name, parent, &target.to_string())), "{target}");
            }
            Err(other) => panic!("{child} {parents:?}: {other}"),
        }
    }
}

#[test]
fn a_host_of_any_name_is_also_any_address_in_brackets() {
    let child = lease(r#"{"net.fetch":["http://*/**"]}"#);
    let first = ('a'..='z').chain('0'..='9').chain(['-', '_']);
    let every_name: Vec<String> = first.map(|c| format!("\"http://{c}*/**\"")).collect();
    let parent = lease(&format!("{{\"net.fetch\":[{}]}}", every_name.join(",")));
    assert!(permits("net.fetch", "http://*/**", "http://[::]/"), "an address in brackets is one label");
    match parent.covers(&child) {
        Err(Excess::Wider { target, .. }) => assert_eq!(target.to_string(), "http://[::]/"),
        other => panic!("{other:?}"),
    }
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pattern(&mut self) -> String {
        const PIECES: [&str; 6] = ["a", "b", "*", "?", "*", "."];
        let segments = (0..1 + self.below(4)).map(|_| {
            if self.below(4) == 0 {
                return "**".to_string();
            }
            let text: String = (0..1 + self.below(3)).map(|_| PIECES[self.below(6)]).collect();
            text.replace("**", "*a")
        });
        segments.collect::<Vec<_>>().join("/")
    }
}

/// All names of up to four characters of `a`, `b`, `c`, `.` and `/`.
fn all_names() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = 0;
    for _ in 0..4 {
        let longer: Vec<String> =
            all[last..].iter().flat_map(|text| ["a", "b", "c", ".", "/"].map(|c| format!("{text}{c}"))).collect();
        last = all.len();
        all.extend(longer);
    }
    all.retain(|name| Target::new(&Namespace::ToolCall, name).is_ok());
    all
}

#[test]
fn random_patterns_mean_what_trying_everything_says_and_globset_too() {
    let (mut dice, names) = (Dice(1), all_names());
    let mut compared = 0;
    while compared < 400 {
        let text = dice.pattern();
        let Ok(pattern) = Pattern::new(&Namespace::ToolCall, &text) else { continue };
        compared += 1;
        let glob = GlobBuilder::new(&text).literal_separator(true).build().expect("a glob").compile_matcher();
        for name in &names {
            let own = pattern.matches(&Target::new(&Namespace::ToolCall, name).expect("a name"));
            assert_eq!(own, means(&text, name), "{text} {name}");
            // There `**` at the end means what is above it as well.
            if !text.ends_with("**") {
                assert_eq!(own, glob.is_match(name), "globset: {text} {name}");
            }
        }
    }
}

#[test]
fn containment_of_random_patterns_is_what_trying_every_name_says() {
    let (mut dice, names) = (Dice(2), all_names());
    let (mut within, mut wider) = (0, 0);
    while within < 100 || wider < 100 {
        let texts: Vec<String> = (0..2 + dice.below(3)).map(|_| dice.pattern()).collect();
        let read: Result<Vec<Pattern>, Refused> =
            texts.iter().map(|text| Pattern::new(&Namespace::ToolCall, text)).collect();
        let Ok(patterns) = read else { continue };
        let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
        let child = lease(&format!("{{\"tool.call\":[{}]}}", quoted[0]));
        let parent = lease(&format!("{{\"tool.call\":[{}]}}", quoted[1..].join(",")));
        let escapes = |target: &Target| {
            patterns[0].matches(target) && !patterns[1..].iter().any(|pattern| pattern.matches(target))
        };
        match parent.covers(&child) {
            Ok(()) => {
                let escape =
                    names.iter().find(|name| escapes(&Target::new(&Namespace::ToolCall, name).expect("a name")));
                assert_eq!(escape, None, "{texts:?}");
                within += 1;
            }
            Err(Excess::Wider { target, .. }) => {
                assert!(
                    escapes(&Target::new(&Namespace::ToolCall, &target.to_string()).expect("a name")),
                    "{texts:?}: {target}"
                );
                wider += 1;
            }
            Err(other) => panic!("{texts:?}: {other}"),
        }
    }
}

/// Targets and random patterns of one namespace.
struct Field {
    namespace: Namespace,
    targets: Vec<Target>,
    pattern: fn(&mut Dice) -> String,
}

impl Field {
    /// All of these texts that are targets.
    fn new(namespace: Namespace, texts: impl Iterator<Item = String>, pattern: fn(&mut Dice) -> String) -> Field {
        let targets = texts.filter_map(|text| Target::new(&namespace, &text).ok()).collect();
        Field { namespace, targets, pattern }
    }
}

/// All texts of up to so many of these pieces.
fn all_of(pieces: &[&str], most: usize) -> Vec<String> {
    let (mut all, mut last) = (vec![String::new()], 0);
    for _ in 0..most {
        let longer: Vec<String> =
            all[last..].iter().flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}"))).collect();
        last = all.len();
        all.extend(longer);
    }
    all
}

fn paths() -> Field {
    let texts = all_of(&["a", "b", "c", ".", "/"], 5).into_iter().map(|text| format!("/{text}"));
    Field::new(Namespace::FsRead, texts, |dice| format!("/{}", dice.pattern()))
}

fn urls() -> Field {
    let hosts =
        || all_of(&["a", "b", "c", "."], 3).into_iter().chain(["[::]", "[::1]", "[::ffff:0.0.0.1]"].map(String::from));
    let paths = all_of(&["a", "c", ".", "/"], 3);
    let with = move |host: String| {
        let paths = paths.clone();
        ["", ":8"].into_iter().flat_map(move |port| {
            let host = host.clone();
            paths.clone().into_iter().map(move |path| format!("http://{host}{port}/{path}"))
        })
    };
    Field::new(Namespace::NetFetch, hosts().flat_map(with), |dice| {
        let port = ["", "", ":8", ":*"][dice.below(4)];
        let host = match dice.below(8) {
            0 => ["[::]", "[::1]", "[::ffff:0.0.0.1]"][dice.below(3)].to_string(),
            _ => dice.pattern().replace('.', "a").replace('/', "."),
        };
        let mut path = dice.pattern();
        path.truncate(path.rfind('/').filter(|_| dice.below(3) == 0).map_or(path.len(), |at| at + 1));
        format!("http://{host}{port}/{path}")
    })
}

#[test]
fn containment_of_random_paths_and_urls_is_what_trying_every_one_says() {
    for Field { namespace, targets, pattern } in [paths(), urls()] {
        let mut dice = Dice(3);
        let (mut within, mut wider) = (0, 0);
        while within < 60 || wider < 60 {
            let texts: Vec<String> = (0..2 + dice.below(3)).map(|_| pattern(&mut dice)).collect();
            let read: Result<Vec<Pattern>, Refused> = texts.iter().map(|text| Pattern::new(&namespace, text)).collect();
            let Ok(patterns) = read else { continue };
            let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
            let child = lease(&format!("{{\"{namespace}\":[{}]}}", quoted[0]));
            let parent = lease(&format!("{{\"{namespace}\":[{}]}}", quoted[1..].join(",")));
            let escapes = |target: &Target| {
                patterns[0].matches(target) && !patterns[1..].iter().any(|pattern| pattern.matches(target))
            };
            match parent.covers(&child) {
                Ok(()) => {
                    let escape = targets.iter().find(|target| escapes(target));
                    assert_eq!(escape.map(ToString::to_string), None, "{texts:?}");
                    within += 1;
                }
                Err(Excess::Wider { target, .. }) => {
                    let again = Target::new(&namespace, &target.to_string());
                    assert!(again.is_ok_and(|again| escapes(&again)), "{texts:?}: {target}");
                    wider += 1;
                }
                Err(other) => panic!("{texts:?}: {other}"),
            }
        }
    }
}

#[test]
fn hostile_patterns_cost_no_more_than_their_bound() {
    // The reader that tries everything would need longer than the universe.
    let stars = format!("/{}b", "*a".repeat(60));
    let target = format!("/{}", "a".repeat(4000));
    assert!(!permits("fs.read", &stars, &target));
    let deep = format!("/{}b", "**/a/".repeat(40));
    assert!(!permits("fs.read", &deep, &format!("/{}", vec!["a"; 2000].join("/"))));
    // Whose states, taken together, are two to the power of a hundred.
    let child = lease("{\"tool.call\":[\"*\"]}");
    let parent = lease(&format!("{{\"tool.call\":[\"*a{0}\",\"*b{0}\"]}}", "?".repeat(100)));
    assert!(matches!(parent.covers(&child), Err(Excess::Wider { .. } | Excess::TooComplex { .. })));
    let child = lease(&format!("{{\"tool.call\":[\"*a{}\"]}}", "?".repeat(100)));
    let parent = lease(&format!("{{\"tool.call\":[\"*a{0}\",\"*b{0}\"]}}", "?".repeat(101)));
    assert!(parent.covers(&child).is_err());
}

#[test]
fn a_pattern_as_involved_as_may_be_means_what_it_says() {
    for length in [1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 254] {
        let (pattern, text) = (format!("/{}", "?".repeat(length)), format!("/{}", "x".repeat(length)));
        assert!(permits("fs.read", &pattern, &text), "{length}");
        assert!(!permits("fs.read", &pattern, &text[1..]) && !permits("fs.read", &pattern, &format!("{text}x")));
        // Every state is one that it may be in.
        let (pattern, text) = (format!("/{}b", "*a".repeat(length.div_ceil(2))), format!("/{}", "a".repeat(length)));
        assert!(permits("fs.read", &pattern, &format!("{text}b")) && !permits("fs.read", &pattern, &text), "{length}");
    }
    let deep = (0..100).map(|n| if n % 2 == 0 { "**" } else { "a" }).collect::<Vec<_>>().join("/");
    assert!(permits("fs.read", &format!("/{deep}"), &format!("/{}", vec!["a"; 50].join("/"))));
    assert!(!permits("fs.read", &format!("/{deep}"), &format!("/{}", vec!["a"; 49].join("/"))));
}

#[test]
fn what_takes_too_long_to_prove_is_refused_and_says_which_pattern_does() {
    let any = lease(r#"{"tool.call":["?*"]}"#);
    let parent =
        |wildcards: usize| lease(&format!("{{\"tool.call\":[\"*a{0}\",\"*b{0}\",\"*\"]}}", "?".repeat(wildcards)));
    assert_eq!(parent(4).covers(&any), Ok(()));
    let refused = parent(13).covers(&any).expect_err("it is not proved").to_string();
    assert!(refused.contains("`tool.call`: `?*` is too involved") && refused.contains("wildcards"), "{refused}");
    assert_eq!(parent(13).covers(&lease(r#"{"tool.call":["*"]}"#)), Ok(()), "it is a pattern of its parent's");
}

#[test]
fn many_patterns_cost_no_more_than_the_bound_of_a_lease() {
    let parent = lease(&format!("{{\"tool.call\":[\"*\",\"*a{}\"]}}", "?".repeat(7)));
    let child = |patterns: usize| lease(&format!("{{\"tool.call\":[{}]}}", vec!["\"?*\""; patterns].join(",")));
    assert_eq!(parent.covers(&child(1)), Ok(()), "one is within its own bound");
    assert!(matches!(parent.covers(&child(200)), Err(Excess::TooComplex { .. })));
}

#[test]
fn money_is_exact_and_its_grammar_strict() {
    let budget = Budget::parse(["USD:5.00", "credits:1000", "USD:0.1"]).expect("a budget");
    assert_eq!(budget.left("USD").map(|left| left.to_string()), Some("5.1".into()), "of one currency, added");
    for bad in ["USD", "USD:", ":5", "USD:-5", "USD:+5", "USD:5e3", "USD:.5", "USD:5.", "USD: 5", "US D:5", "USD:1_000"]
    {
        assert!(Budget::parse([bad]).is_err(), "{bad}");
    }
    assert!(Budget::parse(["USD:999999999999999.999999999999999999"]).is_ok());
    assert!(Budget::parse(["USD:1000000000000000"]).is_err(), "16 digits");
    assert!(Budget::parse(["USD:0.0000000000000000001"]).is_err(), "19 digits behind the point");

    let mut left = Budget::parse(["USD:1"]).expect("a budget");
    for _ in 0..10 {
        left.spend("USD", Amount::reported("0.1").expect("a cost"));
    }
    assert_eq!(left.left("USD"), Some(Amount::ZERO), "ten times a tenth is one");
    assert_eq!(left.used_up().map(ToString::to_string), Some("USD".into()));
    assert_eq!(
        left.spend("USD", "0.12".parse().expect("an amount")).map(|left| left.to_string()),
        Some("-0.12".into())
    );
    assert_eq!(left.spend("EUR", "7".parse().expect("an amount")), None, "what is not budgeted is not bounded");

    let costs = [
        ("0", "0"),
        ("1e-07", "0.0000001"),
        ("1.5E2", "150"),
        // What published agents write of a sum of doubles.
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.0000000000000000001", "0.000000000000000001"),
        ("1e-400", "0.000000000000000001"),
        ("123.4567890123456789012", "123.456789012345678902"),
        ("1e14", "100000000000000"),
        // More than can be counted uses up any budget.
        ("1e15", "999999999999999.999999999999999999"),
    ];
    for (text, amount) in costs {
        assert_eq!(Amount::reported(text).map(|amount| amount.to_string()), Some(amount.into()), "{text}");
    }
    for bad in ["-1", "-0.1", "1e999999999999", "NaN", "", "\"1\"", "1,5"] {
        assert_eq!(Amount::reported(bad), None, "{bad}");
    }
}

#[test]
fn a_child_takes_its_budget_from_its_parent_and_returns_the_rest() {
    let mut parent = Budget::parse(["USD:5", "EUR:1"]).expect("a budget");
    let mut child = Budget::parse(["USD:3"]).expect("a budget");
    assert_eq!(parent.reserve(&child), Ok(()));
    assert_eq!(parent.left("USD").map(|left| left.to_string()), Some("2".into()));
    let more = Budget::parse(["EUR:1", "USD:2.01"]).expect("a budget");
    assert_eq!(parent.reserve(&more).map_err(|currency| currency.to_string()), Err("USD".into()));
    assert_eq!(parent.left("EUR").map(|left| left.to_string()), Some("1".into()), "all or nothing");
    child.spend("USD", "1.25".parse().expect("an amount"));
    parent.give_back(&child);
    assert_eq!(parent.left("USD").map(|left| left.to_string()), Some("3.75".into()));
}

#[test]
fn a_lease_is_read_shown_and_read_again() {
    let text = r#"{"fs.read":["/a/**","/b"],"tool.call":["search.*"],"cost.budget":["USD:5.5"]}"#;
    let read = lease(text);
    assert_eq!(lease(read.to_json().as_str()), read);
    let most = lease(r#"{"cost.budget":["USD:999999999999999.999999999999999999"]}"#);
    let together = most.clone().with(lease(r#"{"cost.budget":["USD:1"]}"#));
    assert_eq!(lease(together.to_json().as_str()), most, "more than can be written is the most that can be");
    for (bad, names) in [
        (r#"{"fs.delete":["/a"]}"#, "fs.delete"),
        (r#"{"fs.read":"/a"}"#, "fs.read"),
        (r#"{"fs.read":["a"]}"#, "`a`"),
        (r#"{"cost.budget":["USD:x"]}"#, "USD:x"),
        (r#"{"cost.budget":["USD:999999999999999","USD:1"]}"#, "USD:1"),
        (r#"{"":["/a"]}"#, "namespace"),
        (r#"{"fs.read":[]}"#, "no pattern"),
        (r#"{"cost.budget":[]}"#, "no pattern"),
        (r#"[1]"#, "lease_request"),
    ] {
        let error = Lease::parse(&Json::parse(bad).expect("JSON")).expect_err(bad);
        assert!(error.to_string().contains(names), "{bad}: {error}");
    }
}

#[test]
fn a_lease_is_granted_as_asked_with_its_end_and_its_budget_and_shown_so() {
    let mut world = World::seeded(1);
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"fs.read": ["/a/**"], "cost.budget": ["USD:1.50", "USD:0.5", "credits:10"]});
    let submit = json!({
        "agent": "waiter", "lease_request": lease, "lease_constraints": {"expires_in_s": 3600}, "idempotency_key": "k",
    });
    let accepted = raw.submit(&mut world, submit.clone())["payload"].clone();
    assert_eq!(accepted["lease"], lease);
    let told: serde_json::Value = serde_json::from_str(world.started[0].lease.as_str()).expect("JSON");
    assert_eq!(told, lease, "its agent knows it too");
    let ends = accepted["lease_constraints"]["expires_at"].as_str().expect("a moment").to_string();
    assert!(ends.starts_with("2026-01-01T01:00:00."), "{ends}");
    assert_eq!(accepted["budget"], json!({"USD": 2, "credits": 10}));
    // Seconds count from the acceptance, and a lease is never renewed.
    world.run_for(std::time::Duration::from_secs(20));
    raw.take(&world);
    let again = raw.submit(&mut world, submit)["payload"].clone();
    for member in ["job_id", "lease", "lease_constraints", "budget"] {
        assert_eq!(again[member], accepted[member], "{member}");
    }
    raw.send(&mut world, "session.list_jobs", json!({}));
    let listed = raw.expect(&mut world, "session.jobs")["payload"]["jobs"][0].clone();
    let (mut other, _) = Raw::hello_with_leases(&mut world, "tok-a");
    other.send(&mut world, "job.subscribe", json!({"job_id": accepted["job_id"]}));
    let watched = other.expect(&mut world, "job.subscribed")["payload"].clone();
    for shown in [listed, watched] {
        for member in ["lease", "lease_constraints", "budget"] {
            assert_eq!(shown[member], accepted[member], "{member}");
        }
    }
    world.restores();
    let given = world.given().count();
    world.crash_with(given, true);
    let (mut back, _) = Raw::hello_with_leases(&mut world, "tok-a");
    back.send(&mut world, "session.list_jobs", json!({}));
    let listed = back.expect(&mut world, "session.jobs")["payload"]["jobs"][0].clone();
    assert_eq!(
        (&listed["lease_constraints"], &listed["budget"]),
        (&accepted["lease_constraints"], &accepted["budget"])
    );
    world.finish();
}

#[test]
fn what_makes_no_sense_of_a_lease_is_refused_by_name() {
    let mut world = World::seeded(2);
    let (mut hello, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-b");
    for (asked, names) in [
        (json!({"lease_request": {"fs.read": ["a/../b"]}}), "a/../b"),
        (json!({"lease_request": {"tool.call": ["ok", "a**"]}}), "a**"),
        (json!({"lease_request": {"cost.budget": ["USD:1e3"]}}), "USD:1e3"),
        (json!({"lease_request": {"cost.budget": ["USD:-1"]}}), "USD:-1"),
        (json!({"lease_request": {"fs.delete": ["/a"]}}), "fs.delete"),
        (json!({"lease_constraints": {"expires_at": "2026-01-01T00:00:00+00:00"}}), "expires_at"),
        (json!({"lease_constraints": {"expires_at": "2027-01-01T01:00:00+01:00"}}), "expires_at"),
        (json!({"lease_constraints": {"expires_at": "2025-12-31T23:59:59Z"}}), "has passed"),
        (json!({"lease_constraints": {"expires_at": "soon"}}), "expires_at"),
        (json!({"lease_constraints": {"expires_at": 2_000_000_000}}), "expires_at"),
        (json!({"lease_constraints": {"expires_in_s": 0}}), "expires_in_s"),
        (json!({"lease_constraints": {"expires_in_s": -5}}), "expires_in_s"),
        (json!({"lease_constraints": {"most_files": 3}}), "most_files"),
    ] {
        let mut payload = json!({"agent": "echo", "tool": "echo"});
        payload.as_object_mut().expect("an object").extend(asked.as_object().cloned().expect("an object"));
        hello.send(&mut world, "job.submit", payload.clone());
        let refused = hello.expect(&mut world, "session.error");
        assert_eq!(code(&refused), "INVALID_REQUEST", "{asked}");
        open.send(&mut world, "tool.invoke", payload);
        let nack = open.expect(&mut world, "nack");
        assert_eq!(code(&nack), "INVALID_ARGUMENT", "{asked}");
        for refused in [refused, nack] {
            assert!(
                refused["payload"]["message"].as_str().is_some_and(|why| why.contains(names)),
                "{asked}: {refused}"
            );
        }
    }
    // However far away: nothing overflows, and it can be written.
    for far in [json!({"expires_in_s": u64::MAX}), json!({"expires_at": "9999-12-31T23:59:59.999Z"})] {
        let far = hello.submit(&mut world, json!({"agent": "echo", "lease_constraints": far}));
        assert_eq!(far["payload"]["lease_constraints"], json!({"expires_at": "9999-12-31T23:59:59.999Z"}));
        assert_eq!(hello.until_end(&mut world).last().expect("an end")["type"], "job.result");
    }
    world.finish();
}

#[test]
fn a_client_that_reads_amounts_as_texts_gets_them_so() {
    let mut world = World::configured(3, |config| config.compat = Compat::Always(Profile::Python113));
    let (mut raw, _) = Raw::hello_with_leases(&mut world, "tok-a");
    let lease = json!({"cost.budget": ["USD:1.50", "EUR:2"]});
    let accepted = raw.submit(&mut world, json!({"agent": "echo", "lease_request": lease}));
    assert_eq!(accepted["payload"]["budget"], json!({"USD": "USD:1.5", "EUR": "EUR:2"}));
    world.finish();
}

#[test]
fn what_bounds_a_lease_needs_its_feature_in_hello() {
    let mut world = World::seeded(4);
    let (mut raw, _) = Raw::hello(&mut world, "tok-a");
    for (asked, feature) in [
        (json!({"lease_constraints": {"expires_in_s": 60}}), "lease_expires_at"),
        (json!({"lease_request": {"cost.budget": ["USD:1"]}}), "cost.budget"),
        (json!({"lease_request": {"model.use": ["m"]}}), "model.use"),
    ] {
        let mut payload = json!({"agent": "echo"});
        payload.as_object_mut().expect("an object").extend(asked.as_object().cloned().expect("an object"));
        raw.send(&mut world, "job.submit", payload);
        let refused = raw.expect(&mut world, "session.error")["payload"].clone();
        assert_eq!(refused["code"], "INVALID_REQUEST");
        assert!(refused["message"].as_str().is_some_and(|why| why.contains(feature)), "{refused}");
    }
    world.finish();
}

#[test]
fn a_pattern_of_urls_names_a_port() {
    let port = |name: &str, pattern| Pattern::new(&namespace(name), pattern).expect("a pattern").port();
    for (pattern, named) in [
        ("https://a.test/**", Some(Port::Is(443))),
        ("WS://*.test/?", Some(Port::Is(80))),
        ("http://a.test:8080/**", Some(Port::Is(8080))),
        ("http://[::1]:9/x", Some(Port::Is(9))),
        ("http://[::1]/x", Some(Port::Is(80))),
        ("https://a.test:*/**", Some(Port::Any)),
        ("ftp://a.test/**", None),
        ("ftp://a.test:21/**", Some(Port::Is(21))),
    ] {
        assert_eq!(port("net.fetch", pattern), named, "{pattern}");
    }
    assert_eq!((port("fs.read", "/a:1/**"), port("tool.call", "a:1")), (None, None));
}

#[test]
fn a_lease_is_read_up_to_its_bounds_and_no_further() {
    let patterns = |count: usize| format!("{{\"tool.call\":[{}]}}", vec!["\"t\""; count].join(","));
    let read = |text: &str| Lease::parse(&Json::parse(text).expect("JSON"));
    assert!(read(&patterns(1024)).is_ok() && read(&patterns(1025)).is_err());
    let two = |rest: usize| patterns(1000).replace('}', &patterns(rest).replace("{\"tool.call", ",\"model.use"));
    assert!(read(&two(24)).is_ok() && read(&two(25)).is_err(), "of all namespaces together");

    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    assert!(
        Target::new(&Namespace::FsRead, &path(4096)).is_ok() && Pattern::new(&Namespace::FsRead, &path(4096)).is_ok()
    );
    assert_eq!(Target::new(&Namespace::FsRead, &path(4097)), Err(Refused::TooLong));
    let behind = |characters: usize| Pattern::new(&Namespace::FsRead, &format!("/*{}", "?".repeat(characters - 1)));
    assert!(behind(255).is_ok());
    assert_eq!(behind(256), Err(Refused::TooComplex));
    let long = |middle: &str| format!("{}{middle}{}", "ab".repeat(40), "c".repeat(100));
    for (middle, may) in [("x", true), ("y", false), ("", false)] {
        assert_eq!(permits("fs.read", &format!("/*{}", long("x")), &format!("/{}", long(middle))), may, "{middle}");
    }

    for named in Namespace::NAMED {
        assert_eq!(named.to_string().parse(), Ok(named));
    }
    let vendor = |length: usize| format!("x-vendor.a.{}", "b".repeat(length - 11)).parse::<Namespace>();
    assert!(vendor(128).is_ok() && vendor(129).is_err());
    for bad in ["x-vendor.a", "x-vendor.a.", "x-vendor..b", "x-vendor.a.B", "x-vendor.a.b c", "vendor.a.b"] {
        assert!(bad.parse::<Namespace>().is_err(), "{bad}");
    }
}

#[test]
fn a_url_is_read_as_whoever_opens_it_reads_it() {
    let read = |text: &str| Target::new(&Namespace::NetFetch, text).map(|target| target.to_string());
    for (text, shown) in [
        ("https://a.test:443/x", "https://a.test/x"),
        ("https://a.test:80/x", "https://a.test:80/x"),
        ("a+b-c.1://h/x", "a+b-c.1://h/x"),
        ("ftp://h:21/x", "ftp://h:21/x"),
        ("http://h:65535", "http://h:65535/"),
        ("http://[::1]:9/x", "http://[::1]:9/x"),
    ] {
        assert_eq!(read(text), Ok(shown.into()), "{text}");
    }
    for (text, why) in [
        ("1http://h/", Refused::NoScheme),
        ("ht_tp://h/", Refused::NoScheme),
        ("://h/", Refused::NoScheme),
        ("http://h:65536/", Refused::BadPort),
        ("http://h:0/", Refused::BadPort),
        ("http://h:+8/", Refused::BadPort),
        ("http://h:/", Refused::BadPort),
        ("http://h_:80:80/", Refused::BadHost),
        ("http://[::1/", Refused::BadHost),
        ("http://h/a%", Refused::BadEncoding),
        ("http://h/a%+1", Refused::BadEncoding),
        ("http://h/a%\u{e4}", Refused::BadEncoding),
        ("http://h/a%5C", Refused::EncodedSeparator),
        ("http://h/a%5cb", Refused::EncodedSeparator),
        ("http://h/a%00", Refused::Control),
    ] {
        assert_eq!(read(text), Err(why), "{text}");
    }
}

#[test]
fn a_childs_budget_is_within_what_its_parent_has_and_leases_add_up() {
    let parent = lease(r#"{"tool.call":["a"],"cost.budget":["USD:1"]}"#);
    let budgets = [
        (r#","cost.budget":["USD:1"]"#, true),
        (r#","cost.budget":["usd:0.5"]"#, true),
        (r#","cost.budget":["USD:1.000000000000000001"]"#, false),
        // What is not bounded in the parent may be in the child, and not the other way round.
        (r#","cost.budget":["USD:1","EUR:9"]"#, true),
        (r#","cost.budget":["EUR:9"]"#, false),
        ("", false),
    ];
    for (budget, within) in budgets {
        let child = lease(&format!(r#"{{"tool.call":["a"]{budget}}}"#));
        match parent.covers(&child) {
            Ok(()) => assert!(within, "{budget}"),
            Err(error) if !within => assert!(error.to_string().contains("USD"), "{error}"),
            Err(other) => panic!("{other}"),
        }
    }
    let both = parent.with(lease(r#"{"tool.call":["b"],"fs.read":["/c"],"cost.budget":["USD:2","EUR:1"]}"#));
    let all = lease(r#"{"tool.call":["a","b"],"fs.read":["/c"],"cost.budget":["USD:3","EUR:1"]}"#);
    assert_eq!(both, all);
}
