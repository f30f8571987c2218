"""Runs the published crate `arcp` 2.0.0 against `arcp`, `arcp` against it, and
it and the published Python SDK over one server of ours.

    python run.py PATH_TO_ARCP PATH_TO_THEIR_RUST

Needs the packages of ../python/requirements.txt. Exits with 1 when anything
happens that is neither a pass nor an expected difference.
"""

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "python")]

import their_client  # noqa: E402
from cases import Cases  # noqa: E402
from programs import Ours, Programs  # noqa: E402

ours = Cases("our program, their Rust server")
cross = Cases("Rust and Python, our server")
THEIR_LISTS = "its listings show the jobs of the asking session only"
THEIR_KEYS = "an ended job's result comes no second time for its key"


@ours.case("submit: events and result")
async def submit(peer):
    lines = await peer.lines("submit", "echo", "--input", '{"a": 1.50}')
    assert [line["type"] for line in lines] == ["accepted", "event", "ended"], lines
    assert lines[-1]["result"] == {"a": 1.5}


@ours.case("many events, none missing")
async def many(peer):
    lines = await peer.lines("submit", "ticker", "--input", '{"count": 500}')
    values = [line["body"]["value"] for line in lines if line.get("kind") == "metric"]
    assert values == list(range(500)), values


@ours.case("result in chunks, put together")
async def chunks(peer):
    out, _ = await peer.run("submit", "chunker", "--input", '{"chunks": 5}')
    assert out == "".join("abcdefghij"[n] * 100 for n in range(5)), out


@ours.case("failure")
async def failure(peer):
    _, err = await peer.run("submit", "failer", "--input", "null", code=1)
    assert "boom" in err, err


@ours.case("unknown agent")
async def unknown(peer):
    await peer.run("submit", "nobody", code=1)


@ours.case("wrong token")
async def wrong_token(peer):
    process = await asyncio.create_subprocess_exec(
        peer.arcp, "submit", "echo", "--url", peer.url, "--family", "open", "--token", "nobody",
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 8


@ours.case("interrupted, the job is left alone")
async def interrupted(peer):
    process = await asyncio.create_subprocess_exec(
        peer.arcp, "submit", "sleeper", "--input", '{"s": 60}', "--url", peer.url, "--family", "open",
        "--token", "tok-alice", "--output", "json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )
    assert json.loads(await process.stdout.readline())["type"] == "accepted"
    process.send_signal(2)
    assert await process.wait() == 130


@ours.case("listing from another process", differs=THEIR_LISTS)
async def listing(peer):
    await peer.lines("submit", "echo", "--input", "1")
    assert await peer.lines("list", "--agent", "echo")


@ours.case("the same key, once more", differs=THEIR_KEYS)
async def key(peer):
    for _ in range(2):
        lines = asyncio.wait_for(peer.lines("submit", "echo", "--input", "1", "--key", "once"), 5)
        assert (await lines)[-1]["result"] == 1


class Both:
    """One server of ours, both published peers, and our client."""

    def __init__(self, url, their_rust, arcp):
        self.url, self.their_rust = url, their_rust
        self.ours = Ours(arcp, url)
        self.python = their_client.Place(url=url)

    async def rust(self, *args):
        process = await asyncio.create_subprocess_exec(
            self.their_rust, args[0], self.url, "tok-alice", *args[1:],
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )
        return process


async def lines_of(process):
    return [json.loads(line) async for line in process.stdout]


@cross.case("a Rust job is watched from Python, live")
async def rust_to_python(both):
    gate = {"key": "rust-to-python"}
    process = await both.rust("invoke", "gate", json.dumps(gate))
    job = json.loads(await process.stdout.readline())["job"]
    async with both.python.session() as watcher:
        watch = await watcher.subscribe(job, history=True)
        await watcher.submit(agent="opengate", input=gate)
        assert (await watch.handle.done).result == {"gate": "rust-to-python"}
    assert (await lines_of(process))[-1] == {"result": {"gate": "rust-to-python"}}


@cross.case("a Rust job is watched from Python, every event of it")
async def rust_to_python_history(both):
    process = await both.rust("invoke", "chatty", '{"count": 50}')
    job = (await lines_of(process))[0]["job"]
    async with both.python.session() as watcher:
        watch = await watcher.subscribe(job, history=True)
        events = await their_client.events_of(watch.handle)
        assert [e["body"]["value"] for e in events if e["kind"] == "metric"] == list(range(50))


@cross.case("a Python job is watched from Rust, live")
async def python_to_rust(both):
    async with both.python.session() as owner:
        gate = {"key": "python-to-rust"}
        handle = await owner.submit(agent="gate", input=gate)
        process = await both.rust("watch", handle.job_id)
        frames = [json.loads(await process.stdout.readline())]
        await owner.submit(agent="opengate", input=gate)
        frames += await lines_of(process)
        assert frames[-1]["type"] == "job.completed", frames
        assert frames[-1]["payload"]["value"] == {"gate": "python-to-rust"}


@cross.case("a Python job of every kind of event is watched from Rust")
async def python_to_rust_kinds(both):
    async with both.python.session() as owner:
        handle = await owner.submit(agent="chatty", input={"kind": "all"})
        await handle.done
        frames = await lines_of(await both.rust("watch", handle.job_id))
        kinds = [frame["type"] for frame in frames]
        assert kinds == [
            "job.subscribed", "job.started", "log", "stream.open", "stream.chunk", "event.emit", "metric",
            "event.emit", "event.emit", "event.emit", "event.emit", "stream.close", "job.completed",
        ], kinds


@cross.case("both see one listing")
async def one_listing(both):
    process = await both.rust("invoke", "echo", '"from rust"')
    job = (await lines_of(process))[0]["job"]
    async with both.python.session() as peer:
        listed = {entry.job_id: entry.status for entry in (await peer.list_jobs()).jobs}
        assert listed[job] == "success", listed


GRAPH = {"steps": [
    {"id": "first", "tool": "echo", "arguments": {"n": 1}},
    {"id": "second", "tool": "stepper", "arguments": {"steps": 2, "step_ms": 10}, "needs": ["first"]},
]}


async def interrupted_once(ours, job):
    """Interrupts a job as soon as it runs, and answers what its agent asks then."""
    for left in reversed(range(100)):
        try:
            await ours.run("interrupt", job, "why?")
            break
        except AssertionError:
            assert left, "it never ran"
    for left in reversed(range(100)):
        asked = [line["prompt_id"] for line in await ours.lines("inbox") if line["job_id"] == job]
        if asked:
            break
        assert left, "it never asked"
    await ours.run("answer", asked[0], '"because"')


@cross.case("one connection from Rust watches jobs of every sort, and runs echo in the end")
async def rust_holds(both):
    jobs = {}
    submitted = {f"streamer {kind}": ("streamer", {"kind": kind, "chunks": 3})
                 for kind in ["text", "binary", "event", "log", "metric", "thought"]}
    submitted |= {
        "artist": ("artist", {"bytes": 10}),
        "asker": ("asker", {"default": 1, "expires_ms": 300}),
        "choice": ("asker", {"choices": ["a", "b"], "default": "b", "expires_ms": 300}),
        "listener": ("listener", {"ms": 3000}),
        "stepper": ("stepper", {"steps": 3, "step_ms": 10}),
    }
    for name, (agent, input) in submitted.items():
        out, _ = await both.ours.run("submit", agent, "--input", json.dumps(input), "--detach")
        jobs[out.strip()] = name
    await interrupted_once(both.ours, next(job for job, name in jobs.items() if name == "listener"))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(GRAPH, file)
        file.flush()
        out, _ = await both.ours.run("workflow", "run", file.name, "--detach")
    jobs[out.strip()] = "workflow"
    *seen, end = await lines_of(await both.rust("holds", *jobs))
    assert end == {"result": "still here"}, end
    assert [line["job"] for line in seen] == list(jobs), seen
    for line in seen:
        name, types = jobs[line["job"]], line["types"]
        assert types[-1] == "job.completed", (name, types)
        if name.startswith("streamer"):
            assert types.count("stream.chunk") == 3 and types.count("stream.close") == 1, (name, types)
        else:
            assert len(types) > 3, (name, types)


async def main(arcp, their_rust):
    programs = Programs(arcp)
    results = []
    try:
        url = programs.serve()
        their = subprocess.run([their_rust, "cases", url], stderr=subprocess.PIPE, text=True)
        if their.returncode:
            print(their.stderr)
        results.append((0, their.returncode))
        results.append(await ours.run(Ours(arcp, programs.theirs([their_rust, "serve"]), "open")))
        results.append(await cross.run(Both(url, their_rust, arcp)))
    finally:
        programs.stop()
    passed, failed = (sum(numbers) for numbers in zip(*results))
    print(f"interop with Rust: {passed} passed besides the above, {failed} failed")
    return 1 if failed else 0


sys.exit(asyncio.run(main(*sys.argv[1:])))
