"""House rules that a compiler does not check.

* Imports go down: proto <- host <- blocking, tokio-adapter <- cli.
* The load generator depends on nothing of ours.
* The core depends only on listed crates, and none of them enables std.
* Every dependency has a licence with which we can ship.
* Every bound of `Limits` has a test that reaches it.
* Files have a bounded length, and no module has a name that says nothing.
* No type has more than 40 methods in all its `impl` blocks, and no struct has more than 15 fields.
* The runtime routes in two places only, and imports go down between its rooms, and between the files of each room.
* A look-up in the rooms that finds nothing says whether that can happen.
"""

import collections
import graphlib
import json
import pathlib
import re
import subprocess
import sys

CORE_MAY_USE = {"serde", "serde_json", "ulid", "base64", "thiserror", "rand_chacha", "sha2", "hmac"}
# All crates that the core may depend on, directly or not. `cpufeatures` uses `libc` on some systems to detect features of
# the processor.
CORE_TREE = CORE_MAY_USE | {
    "arcp-proto", "block-buffer", "cfg-if", "cpufeatures", "crypto-common", "digest", "hybrid-array", "itoa", "libc",
    "memchr", "ppv-lite86", "rand_core", "serde_core", "typenum", "zerocopy", "zmij", "cmov", "ctutils",
}
MAY_USE = {
    "arcp-proto": set(),
    "arcp-host": {"arcp-proto"},
    "arcp-blocking": {"arcp-proto", "arcp-host"},
    "arcp-tokio-adapter": {"arcp-proto", "arcp-host"},
    "arcp-cli": {"arcp-proto", "arcp-host", "arcp-blocking", "arcp-tokio-adapter"},
}
LICENCES = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0",
    "Unlicense", "Zlib", "BSL-1.0", "0BSD", "CC0-1.0", "MIT-0",
}
MAX_LINES = 800
DRAWERS = re.compile(r"/(utils?|helpers?|common|misc)(\.rs|/)")

MAX_METHODS, MAX_FIELDS = 40, 15
# Types that may be larger, by crate and name, each with the reason.
MAY_BE_LARGE = {
    "arcp-host Description": "one field for each key of a description",
}

problems = []


def cargo(*args):
    return subprocess.run(["cargo", *args], check=True, capture_output=True, text=True).stdout


def tree_of_core(edges):
    tree = cargo("tree", "--locked", "--target", "all", "-p", "arcp-proto", "-e", edges, "--prefix", "none", "--no-dedupe")
    if "features" in edges:
        return set(tree.splitlines())
    return {line.split()[0] for line in tree.splitlines()}


metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked"))
packages = {package["name"]: package for package in metadata["packages"]}

for crate, allowed in MAY_USE.items():
    used = {d["name"] for d in packages[crate]["dependencies"] if d["kind"] is None}
    for name in used & MAY_USE.keys():
        if name not in allowed:
            problems.append(f"{crate} must not depend on {name}")
# The load generator must share no code with the servers that it measures.
for d in packages["arcp-load"]["dependencies"]:
    if d["name"].startswith("arcp"):
        problems.append(f"arcp-load must not depend on {d['name']}")
core = {d["name"] for d in packages["arcp-proto"]["dependencies"]}
for name in core - CORE_MAY_USE:
    problems.append(f"arcp-proto must not depend on {name}")

# The dependencies of the core alone, for all targets: none may read a clock, draw entropy or call into a host, and none may
# enable std.
for name in tree_of_core("no-dev,no-build,no-proc-macro") - CORE_TREE:
    problems.append(f"arcp-proto's tree has {name}: look at what it does on every target, then list it")
for line in tree_of_core("normal,features"):
    match = re.match(r'(\S+) feature "(std|getrandom|os_rng)"', line)
    if match and match[1] not in {"thiserror-impl", "proc-macro2", "quote", "syn", "serde_derive"}:
        problems.append(f"arcp-proto's tree switches on {match[2]} of {match[1]}")


def shippable(expression):
    if not expression:
        return False
    expression = expression.replace("/", " OR ").replace("(", "").replace(")", "")
    return any(
        all(part.strip() in LICENCES for part in choice.split(" AND ")) for choice in expression.split(" OR ")
    )


for package in metadata["packages"]:
    if not shippable(package["license"]):
        problems.append(f"{package['name']} {package['version']}: licence {package['license']!r} is not on the list")

tracked = subprocess.run(["git", "ls-files", "*.rs"], check=True, capture_output=True, text=True).stdout.split()
for name in tracked:
    path = pathlib.Path(name)
    if not path.exists():
        continue
    text = path.read_text()
    if text.count("\n") > MAX_LINES:
        problems.append(f"{name} has {text.count(chr(10))} lines, at most {MAX_LINES}")
    if DRAWERS.search("/" + name):
        problems.append(f"{name}: a name that says nothing")


def untested(path):
    """The text of a file without its tests."""
    return re.split(r"#\[cfg\(test\)\]\n(?:#\[.*\n)*(?:pub\S* )?mod \w+ \{", path.read_text())[0]


def production(path):
    """The text of a file without its comments and its tests."""
    return re.sub(r"//.*", "", untested(path))


# rustfmt puts the closing brace of a block into the column in which the block begins.
VISIBLE = r"(?:pub(?:\([^)]*\))? )?"
BLOCK = r"(?:<[^;{]*>)?(?: where[^{]*)? \{\n(.*?)^\}"
IMPL = re.compile(r"^impl(?:<[^{]*?>)? (\w+)" + BLOCK, re.M | re.S)
STRUCT = re.compile(rf"^{VISIBLE}struct (\w+)" + BLOCK, re.M | re.S)
METHOD = re.compile(rf"^    {VISIBLE}(?:const )?(?:async )?fn \w", re.M)
FIELD = re.compile(rf"^    {VISIBLE}(?:r#)?\w+: ", re.M)
methods = collections.Counter()
for path in map(pathlib.Path, tracked):
    crate, *within = path.parts
    if crate not in MAY_USE or within[0] != "src" or not path.exists():
        continue
    text = production(path)
    for name, block in IMPL.findall(text):
        methods[f"{crate} {name}"] += len(METHOD.findall(block))
    for name, block in STRUCT.findall(text):
        fields, large = len(FIELD.findall(block)), f"{crate} {name}" in MAY_BE_LARGE
        if fields > MAX_FIELDS and not large:
            problems.append(f"{path}: struct {name} has {fields} fields, at most {MAX_FIELDS}")
for name, count in methods.items():
    if count > MAX_METHODS and name not in MAY_BE_LARGE:
        problems.append(f"{name} has {count} methods, at most {MAX_METHODS}")

LIMITS = pathlib.Path("arcp-proto/src/limits.rs")
limits = "".join(path.read_text() for path in [LIMITS, *sorted(LIMITS.with_suffix("").glob("*.rs"))])
groups = re.findall(r"pub struct \w+Limits \{\n(.*?)^\}", limits, re.M | re.S)
bounds = [name for group in groups for name in re.findall(r"^    pub (\w+):", group, re.M)]
tests = "".join(path.read_text() for path in pathlib.Path("tests/tests").glob("*.rs"))
for bound in bounds:
    if not re.search(rf"limits\.\w+\.{bound} = ", tests):
        problems.append(f"no test sets the bound `{bound}` of Limits")

RUNTIME = pathlib.Path("arcp-proto/src/runtime")
HANDLE, ROUTER = "mod", "dispatch"
rooms = {entry.name.removesuffix(".rs") for entry in RUNTIME.iterdir()}
imports = {room: set() for room in rooms}
for path in RUNTIME.rglob("*.rs"):
    room, *within = path.relative_to(RUNTIME).with_suffix("").parts
    text = production(path)
    if room not in (HANDLE, ROUTER) and re.search(r"^impl Runtime\b", text, re.M):
        problems.append(f"{path}: `impl Runtime` stands in mod.rs and dispatch only")
    # In a room of one file, the runtime is `super`; in a file of a room, it is `super::super`.
    depth = len(within) - (within[-1:] == ["mod"])
    above = rf"(?:crate::runtime|\b(?:super::){{{depth}}}super)::"
    named = re.findall(above + r"(\w+)", text)
    named += [name for group in re.findall(above + r"\{([^}]*)\}", text) for name in re.findall(r"\w+", group)]
    if "Runtime" in named:
        named.append(HANDLE)
    if room != HANDLE:
        imports[room].update(set(named) & rooms - {room})


def refuse_circle(graph, what):
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append(f"{what} import in a circle: {' < '.join(error.args[1])}")


refuse_circle(imports, "rooms of the runtime")

# The same check for the files within each room. Imports between a file and the `mod.rs` above it do not count: a `mod.rs`
# declares what its files share.
modules = {}
for path in RUNTIME.rglob("*.rs"):
    parts = path.relative_to(RUNTIME).with_suffix("").parts
    modules[parts[:-1] if parts[-1] == "mod" else parts] = re.sub(r"pub\([^)]*\)", "pub", production(path))


def single(use):
    """The paths of `a::{b, c::{d as e}}`, each with the name that it has in the file."""
    while group := re.search(r"([\w:]*)\{([^{}]*)\}", use):
        inner = [name.strip() for name in group[2].split(",") if name.strip()]
        use = use[: group.start()] + ", ".join(group[1] + name for name in inner) + use[group.end() :]
    for path in use.split(","):
        path, _, renamed = path.strip().partition(" as ")
        yield renamed or path.rsplit("::", 1)[-1], path.removesuffix("::self")


named = {module: dict(pair for use in re.findall(r"\buse ([^;]+);", text) for pair in single(use))
         for module, text in modules.items()}


def lead_to(module, path):
    """The file to which a path leads, through re-exports; `None` if it is no file of the runtime."""
    for _ in range(9):
        names = path.split("::")
        if names[:2] == ["crate", "runtime"]:
            at, names = (), names[2:]
        elif names[0] in ("self", "super") or module + (names[0],) in modules:
            at = module
            while names[:1] == ["super"]:
                at, names = at[:-1], names[1:]
            names = names[names[:1] == ["self"] :]
        else:
            return None
        while names and at + (names[0],) in modules:
            at, names = at + (names[0],), names[1:]
        if not names or names[0] not in named[at]:
            return at
        module, path = at, "::".join([named[at][names[0]], *names[1:]])
    return None


files = {}
for module, text in modules.items():
    paths = [*named[module].values(), *re.findall(r"\b(?:super|crate::runtime)(?:::\w+)+", text)]
    taken = {at for at in (lead_to(module, path) for path in paths) if at}
    files["/".join(module)] = {"/".join(at) for at in taken if at[: len(module)] != module and module[: len(at)] != at}
refuse_circle(files, "files of the runtime")

# `let Some(..) = .. else { return }` is allowed if the look-up cannot fail (`expected`), or if a comment after `return;`
# says how it can.
BARE = re.compile(r"^ *let \(?Some\(((?:(?!;$)[\s\S])*?)\belse \{\s*return;?\s*\}", re.M)
for path in RUNTIME.rglob("*.rs"):
    text = untested(path)
    for match in BARE.finditer(text):
        if ".expected(" not in match[1]:
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line}: nothing is found and nothing said: `expected`, or why it can be so")

for problem in problems:
    print(f"house rule broken: {problem}")
print(f"{len(metadata['packages'])} packages, {len(tracked)} files looked at")
sys.exit(1 if problems else 0)
