"""Runs the published Python SDK against `arcp`, and `arcp` against it.

    python run.py PATH_TO_ARCP

Needs the packages of requirements.txt. Exits with 1 when anything happens
that is neither a pass nor an expected difference.
"""

import asyncio
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import their_client  # noqa: E402
from cases import Cases  # noqa: E402
from programs import STATES, TOKENS, Ours, Programs  # noqa: E402

ours = Cases("our program, their server")
# What makes sense when each client has a server of its own.
OVER_STDIO = {"submit: events and result", "agent versions", "many events, none missing", "result in chunks, put together", "failure", "time limit", "unknown agent"}


readme = Cases("README")


@readme.case("the Python of the README")
async def readme_python(arcp):
    programs = Programs(arcp)
    try:
        url = programs.serve("--token", "secret=me")
        text = (HERE.parents[2] / "README.md").read_text()
        script = text.split("```python\n")[1].split("```")[0].replace("ws://127.0.0.1:7777/arcp", url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        lines = out.decode().splitlines()
        assert lines[0] == "status {'phase': 'running'}", lines
        assert lines[-1] == "{'done': True, 'ticks': 5}", lines
    finally:
        programs.stop()


@ours.case("submit: events and result")
async def submit(peer):
    lines = await peer.lines("submit", "echo", "--input", '{"a": 1.50}')
    assert [line["type"] for line in lines] == ["accepted", "event", "ended"]
    assert lines[1]["kind"] == "log" and lines[2]["result"] == {"a": 1.5}


@ours.case("agent versions")
async def versions(peer):
    lines = await peer.lines("submit", "greeter", "--input", "1")
    assert lines[0]["agent"] == "greeter@2.0.0"
    lines = await peer.lines("submit", "greeter@1.0.0", "--input", "1")
    assert lines[0]["agent"] == "greeter@1.0.0"
    await peer.run("submit", "greeter@9", "--input", "1", code=1)


@ours.case("many events, none missing")
async def many(peer):
    lines = await peer.lines("submit", "ticker", "--input", '{"count": 500}')
    values = [line["body"]["value"] for line in lines if line.get("kind") == "metric"]
    assert values == list(range(500))


@ours.case("result in chunks, put together")
async def chunks(peer):
    out, _ = await peer.run("submit", "chunker", "--input", '{"chunks": 5}')
    assert out == "".join("abcdefghij"[n] * 100 for n in range(5))


@ours.case("failure")
async def failure(peer):
    _, err = await peer.run("submit", "failer", "--input", "null", code=1)
    assert "boom" in err


@ours.case("time limit")
async def limit(peer):
    lines = await peer.lines("submit", "sleeper", "--input", '{"s": 60}', "--max-runtime", "1", code=4)
    assert lines[-1]["status"] == "timed_out"


@ours.case("cancel by key from another process, listed as cancelled in the end")
async def cancel(peer):
    state = tempfile.mkdtemp(dir=STATES.name)
    out, _ = await peer.run("submit", "sleeper", "--input", '{"s": 60}', "--detach", state=state)
    job = out.strip()
    await peer.run("cancel", job, state=state)
    # Cancelling returns with the acknowledgement; the end comes when it comes,
    # and this case is given up by its time limit if it never does.
    while job not in [line["job_id"] for line in await peer.lines("list", "--status", "cancelled")]:
        pass


@ours.case("listing")
async def listing(peer):
    lines = await peer.lines("list", "--agent", "echo")
    assert lines and all(line["agent"] == "echo" for line in lines)


@ours.case("watch of an ended job, with history")
async def watch(peer):
    lines = await peer.lines("submit", "ticker", "--input", '{"count": 5}')
    job = lines[0]["job_id"]
    seen = await peer.lines("watch", job)
    assert [line["body"]["value"] for line in seen if line.get("kind") == "metric"] == list(range(5))
    assert seen[-1]["status"] == "success"


@ours.case("wrong token")
async def wrong_token(peer):
    process = await asyncio.create_subprocess_exec(
        peer.arcp, "submit", "echo", "--url", peer.url, "--token", "nobody", stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 8


@ours.case("unknown agent")
async def unknown(peer):
    await peer.run("submit", "nobody", code=1)


people = Cases("their client's job, our command line")
ASKS = r"""counts=read -r input
echo '{"id":1,"kind":"ask","body":{"prompt":"How many?","response_schema":{"type":"integer"}}}'
read -r answer
printf '{"result":%s}' "$answer"
"""


@people.case("what it asks people is answered, and its client keeps its connection")
async def answered(arcp):
    programs = Programs(arcp)
    try:
        url = programs.serve("--agent", ASKS, "--answered", "counts")
        async with their_client.Place(url=url).session() as peer:
            for family in ("hello", "open"):
                person = Ours(arcp, url, family)
                handle = await peer.submit(agent="counts", input=1)
                asked = []
                while not asked:
                    asked = [line for line in await person.lines("inbox") if line["job_id"] == handle.job_id]
                await person.run("answer", asked[0]["prompt_id"], '"three"', code=1)
                await person.run("answer", asked[0]["prompt_id"], "3")
                events = await their_client.events_of(handle)
                phases = [event["body"]["phase"] for event in events if event["kind"] == "status"]
                assert phases == ["running", "blocked", "running"], events
                result = (await handle.done).result
                assert (result["value"], result["responded_by"]) == (3, "alice"), result
            assert (await (await peer.submit(agent="echo", input=1)).done).result == 1
    finally:
        programs.stop()


async def main(arcp):
    programs = Programs(arcp)
    try:
        place = their_client.Place(url=programs.serve())
        place.url_fast = programs.serve("--heartbeat", "1")
        pipes = their_client.Place(command=[arcp, "serve", "--stdio", "--samples", *TOKENS])
        results = [
            await their_client.cases.run(place),
            await their_client.socket_only.run(place),
        ]
        their_client.cases.title += ", stdio"
        results.append(await their_client.cases.run(pipes))
        results.append(await ours.run(Ours(arcp, programs.python())))
        ours.title += ", stdio"
        ours.cases = [case for case in ours.cases if case[0] in OVER_STDIO]
        results.append(await ours.run(Ours(arcp, f"exec:{sys.executable} {HERE / 'their_server.py'} --stdio")))
        results.append(await people.run(arcp))
        results.append(await readme.run(arcp))
    finally:
        programs.stop()
    passed, failed = (sum(numbers) for numbers in zip(*results))
    print(f"interop: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(asyncio.run(main(sys.argv[1])))
