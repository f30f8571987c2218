"""A copy of the tree with all mutants at once, each behind a switch. `.ci/mutants` and `.ci/mutate` share this module.

`LC_ARCP_MUTANT=N,M` switches mutants N and M on. With `LC_ARCP_REACHED=FILE`, every process writes the number of each mutant that
it reaches to that file, once.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SWITCH = """
/// Which mutants are switched on, and which were come by.
#[allow(missing_docs, clippy::all)]
pub mod mutant {
    extern crate std;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
    use std::{env, fs::File, io::Write, sync::OnceLock};

    const UNREAD: u32 = u32::MAX;
    /// More than one is on, or all that are come by are noted.
    const SEVERAL: u32 = u32::MAX - 1;
    static CHOSEN: AtomicU32 = AtomicU32::new(UNREAD);

    pub fn on(id: u32) -> bool {
        let chosen = CHOSEN.load(Relaxed);
        chosen == id || (chosen >= SEVERAL && asked(id))
    }

    #[cold]
    fn asked(id: u32) -> bool {
        static REACHED: OnceLock<Option<File>> = OnceLock::new();
        static ON: [AtomicBool; 1 << 16] = [const { AtomicBool::new(false) }; 1 << 16];
        static SEEN: [AtomicBool; 1 << 16] = [const { AtomicBool::new(false) }; 1 << 16];
        let reached = REACHED.get_or_init(|| {
            let file = env::var_os("LC_ARCP_REACHED").map(|path| File::options().append(true).create(true).open(path).unwrap());
            let chosen = env::var("LC_ARCP_MUTANT").unwrap_or_else(|_| "0".into());
            chosen.split(',').for_each(|id| ON[id.parse::<usize>().unwrap()].store(true, Relaxed));
            CHOSEN.store(if file.is_some() { SEVERAL } else { chosen.parse().unwrap_or(SEVERAL) }, Relaxed);
            file
        });
        match reached {
            Some(file) if !SEEN[id as usize].swap(true, Relaxed) => (&mut &*file).write_all(&id.to_ne_bytes()).unwrap(),
            _ => {}
        }
        ON[id as usize].load(Relaxed)
    }
}
"""

MAIN = "arcp-cli/src/main.rs"


def on(path, mutant):
    """The expression that is true if this mutant is switched on, for the file at `path`."""
    return f"{'crate' if path.startswith('arcp-proto/') else 'arcp_proto'}::mutant::on({mutant})"


def sources():
    """The bytes of every file of the tree, by path."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    return {path: (ROOT / path).read_bytes() for path in listed.stdout.decode().splitlines() if (ROOT / path).is_file()}


class Copy:
    """The copy under `target/NAME`, and its builds."""

    def __init__(self, name):
        self.tree = ROOT / "target" / name / "tree"
        built = {"CARGO_TARGET_DIR": str(ROOT / "target" / name / "target"), "CARGO_PROFILE_DEV_DEBUG": "0"}
        self.environment = {**os.environ, **built}

    def write(self, tree):
        """Writes the files that changed, so that only these are built again."""
        tree = {**tree, "arcp-proto/src/lib.rs": tree["arcp-proto/src/lib.rs"] + SWITCH.encode()}
        # What restricts itself opens before that the file in which it notes what it came by.
        before, main, after = tree[MAIN].partition(b"fn main() -> ExitCode {\n")
        assert main, f"{MAIN} has another beginning"
        tree[MAIN] = before + main + b"arcp_proto::mutant::on(0);\n" + after
        for path, text in tree.items():
            there = self.tree / path
            if not there.is_file() or there.read_bytes() != text:
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(text)
                there.chmod((ROOT / path).stat().st_mode)
        for there in (path for path in self.tree.rglob("*") if path.is_file()):
            if str(there.relative_to(self.tree)) not in tree:
                there.unlink()

    def cargo(self, *command):
        """Runs cargo. Returns its messages, and whether it succeeded."""
        # Each build runs a part of the tests only a few times: a quick build matters more than fast tests.
        quickly = [f"--config=profile.dev.package.{name}.opt-level=0" for name in ("arcp-proto", "arcp-tests")]
        command = ["cargo", *command, *quickly, "--locked", "--message-format=json"]
        done = subprocess.run(command, cwd=self.tree, env=self.environment, stdout=subprocess.PIPE)
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode == 0

    def tests(self, *targets):
        """Builds all tests, or those of these targets. Returns executable, path and folder of each test by its name; nothing if
        the build fails."""
        messages, built = self.cargo("test", "--workspace", *(targets or ["--lib", "--bins", "--tests"]), "--no-run")
        for said in [] if built else messages:
            if said["reason"] == "compiler-message" and said["message"]["level"] == "error":
                print(said["message"]["rendered"])
        tests = {}
        for said in messages if built else []:
            if said.get("executable") and said["profile"]["test"]:
                listing = subprocess.run([said["executable"], "--list"], check=True, capture_output=True, cwd=self.tree)
                folder = Path(said["manifest_path"]).parent
                for path in re.findall(r"^(\S+): test$", listing.stdout.decode(), re.M):
                    tests[f"{said['target']['name']}::{path}"] = (said["executable"], path, folder)
        return tests


def run(test, patience_s, cpu_s=None, **environment):
    """Runs one test. Returns its exit code; nothing if it takes too long. The test sees no other processes, because a mutant may
    signal all that it sees. Processes that it started end with it."""
    executable, path, folder = test
    with tempfile.TemporaryDirectory(prefix="arcp-", ignore_cleanup_errors=True) as own:
        # Tests name folders by their process id, which is the same in each test that sees no other processes.
        environment = {**os.environ, "RUST_BACKTRACE": "0", "TMPDIR": own, **environment}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        mapped = [] if os.geteuid() == 0 else ["--map-current-user"]
        alone = ["unshare", *mapped, "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]
        command = [*alone, f'ulimit -S -t {cpu_s or "unlimited"}; "$@"; exit $?', "sh", executable, "--exact", path]
        running = subprocess.Popen(command, cwd=folder, env=environment, **quiet)
        try:
            return running.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            running.kill()
            running.wait()


def passes(test, patience_s, **environment):
    return run(test, patience_s, **environment) == 0
