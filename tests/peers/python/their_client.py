"""The published client against our server, over WebSocket and stdio."""

import asyncio
import contextlib

from arcp import ClientInfo, SessionResume, WebSocketTransport
from arcp import _errors as arcp_errors
from arcp._messages.session import ListJobsFilter
from arcp._transport.stdio import StdioTransport
from arcp.client import ARCPClient, AutoAckOptions

from cases import Cases

cases = Cases("their client, our server")
socket_only = Cases("their client, our server, WebSocket")


def client(token="tok-alice", **options):
    return ARCPClient(client=ClientInfo(name="interop", version="1"), token=token, **options)


class Place:
    """Where our server is: a URL, or a command that serves on its pipes."""

    def __init__(self, url=None, command=None):
        self.url, self.command = url, command

    async def transport(self):
        if self.url:
            return await WebSocketTransport.connect(self.url)
        process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        return await StdioTransport.from_process_pipes(process)

    @contextlib.asynccontextmanager
    async def session(self, token="tok-alice", **options):
        peer = client(token, **options)
        async with contextlib.aclosing(peer):
            await peer.connect(await self.transport())
            yield peer


async def events_of(handle):
    return [event async for event in handle.events()]


@cases.case("handshake: features, agents, heartbeat")
async def handshake(place):
    async with place.session() as peer:
        welcome = peer.welcome
        assert welcome.session_id.startswith("sess_")
        assert len(welcome.resume_token) > 32
        assert welcome.heartbeat_interval_sec == 30
        assert "result_chunk" in peer.negotiated_features
        assert "cost.budget" in peer.negotiated_features
        assert "provisioned_credentials" not in peer.negotiated_features
        agents = {agent.name: agent for agent in welcome.capabilities.agents}
        assert list(agents["echo"].versions) == ["1.0.0", "2.0.0"]
        assert agents["echo"].default == "2.0.0"


@cases.case("submit, first event, result byte for byte")
async def echo(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="echo", input={"a": [1, 2.5, None, "é"]})
        assert handle.agent_ref == "echo@2.0.0"
        assert handle.trace_id and len(handle.trace_id) == 32
        events = await events_of(handle)
        assert [(e["kind"], e["body"]) for e in events] == [("status", {"phase": "running"})]
        done = await handle.done
        assert done.final_status == "success"
        assert done.result == {"a": [1, 2.5, None, "é"]}


@cases.case("falsy results survive")
async def falsy(place):
    async with place.session() as peer:
        for value in (False, 0, "", []):
            done = await (await peer.submit(agent="echo", input=value)).done
            assert done.result == value and type(done.result) is type(value), done


@cases.case("agent versions: pinned, default, unknown")
async def versions(place):
    async with place.session() as peer:
        assert (await peer.submit(agent="echo@1.0.0", input=1)).agent_ref == "echo@1.0.0"
        for agent, code in (("echo@9", "AGENT_VERSION_NOT_AVAILABLE"), ("nobody", "AGENT_NOT_AVAILABLE")):
            try:
                await peer.submit(agent=agent, input=1)
                raise AssertionError(f"{agent} was accepted")
            except arcp_errors.ARCPError as error:
                assert error.code == code, error.code


@cases.case("every event kind")
async def kinds(place):
    async with place.session() as peer:
        handle = await peer.submit(
            agent="chatty", input={"kind": "all"}, lease_request={"tool.call": ["demo.*"]}
        )
        assert handle.lease == {"tool.call": ["demo.*"]}
        events = await events_of(handle)
        assert [e["kind"] for e in events] == [
            "status", "log", "thought", "status", "metric", "tool_call", "tool_result",
            "artifact_ref", "x-vendor.test.note",
        ]
        assert all(e["ts"].endswith("Z") for e in events)
        assert (await handle.done).result == {"emitted": 8}


@cases.case("many events, none missing, none twice")
async def many(place):
    async with place.session(auto_ack=AutoAckOptions(every_n=32, interval_sec=0.05)) as peer:
        handle = await peer.submit(agent="chatty", input={"count": 2000})
        values = [e["body"]["value"] for e in await events_of(handle) if e["kind"] == "metric"]
        assert values == list(range(2000))
        assert peer.latest_event_seq == 2002


@cases.case("progress")
async def progress(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="slow", input={"ms": 300, "tick_ms": 100})
        seen = [e["body"] for e in await events_of(handle) if e["kind"] == "progress"]
        assert [(p["current"], p["total"], p["units"]) for p in seen] == [(n, 3, "ticks") for n in (1, 2, 3)]


@cases.case("result in text chunks")
async def text_chunks(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="chunker", input={"chunks": 7, "bytes": 1000})
        whole = await handle.collect_chunks()
        assert whole == bytes(97 + k % 26 for k in range(7000))
        done = await handle.done
        assert done.result is None and done.result_size == 7000 and done.result_id


@cases.case("result in binary chunks")
async def binary_chunks(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="chunker", input={"chunks": 3, "bytes": 1000, "encoding": "base64"})
        assert await handle.collect_chunks() == bytes(k % 256 for k in range(3000))


@cases.case("chunks larger than its frame limit are cut")
async def large_chunks(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="chunker", input={"chunks": 2, "bytes": 1_500_000})
        assert len(await handle.collect_chunks()) == 3_000_000
        assert (await handle.done).final_status == "success"


@cases.case("failure: code, message, retryable")
async def failure(place):
    async with place.session() as peer:
        for code, retryable in (("INTERNAL_ERROR", True), ("PERMISSION_DENIED", False), ("BUDGET_EXHAUSTED", False)):
            handle = await peer.submit(agent="failer", input={"code": code, "message": "boom"})
            try:
                await handle.done
                raise AssertionError("it did not fail")
            except arcp_errors.ARCPError as error:
                assert (error.code, error.retryable) == (code, retryable)
                assert "boom" in str(error)


@cases.case("a panic shows nothing of itself")
async def panic(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="failer", input={"plain": True, "message": "secret text"})
        try:
            await handle.done
            raise AssertionError("it did not fail")
        except arcp_errors.ARCPError as error:
            assert error.code == "INTERNAL_ERROR" and "asked to panic" not in str(error)


@cases.case("cancel ends as cancelled")
async def cancel(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="slow", input={"ms": 60000})
        await peer.cancel_job(handle.job_id, reason="enough")
        assert (await handle.done).final_status == "cancelled"


@cases.case("cancel of a stubborn agent ends after the grace")
async def cancel_stubborn(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="slow", input={"ms": 8000, "ignore_cancel": True})
        await asyncio.sleep(0.2)
        await peer.cancel_job(handle.job_id)
        assert (await handle.done).final_status == "cancelled"


@cases.case("time limit ends as timed_out")
async def timeout(place):
    async with place.session() as peer:
        handle = await peer.submit(agent="slow", input={"ms": 60000}, max_runtime_sec=1)
        assert (await handle.done).final_status == "timed_out"


@cases.case("listing: filters and pages")
async def listing(place):
    async with place.session("tok-lister") as peer:
        for n in range(5):
            await (await peer.submit(agent="echo", input=n)).done
        running = await peer.submit(agent="gate", input={"key": "list"})
        first = await peer.list_jobs(limit=3)
        rest = await peer.list_jobs(limit=100, cursor=first.next_cursor)
        assert len(first.jobs) == 3 and len({j.job_id for j in (*first.jobs, *rest.jobs)}) == 6
        assert rest.next_cursor is None
        live = await peer.list_jobs(filter=ListJobsFilter(status=("running",)))
        assert [j.job_id for j in live.jobs] == [running.job_id]
        named = await peer.list_jobs(filter=ListJobsFilter(agent="echo"))
        assert len(named.jobs) == 5
        await (await peer.submit(agent="opengate", input={"key": "list"})).done
        await running.done


@cases.case("same key, same job, terminal again")
async def idempotent(place):
    async with place.session() as peer:
        one = await peer.submit(agent="counter", input={"key": "idem"}, idempotency_key="idem-1")
        first = await one.done
        two = await peer.submit(agent="counter", input={"key": "idem"}, idempotency_key="idem-1")
        second = await two.done
        assert one.job_id == two.job_id and first.result == second.result == {"runs": 1}
        try:
            await peer.submit(agent="counter", input={"key": "other"}, idempotency_key="idem-1")
            raise AssertionError("the key was taken twice")
        except arcp_errors.ARCPError as error:
            assert error.code == "DUPLICATE_KEY", error.code


@cases.case("authority that nobody knows is refused, not ignored")
async def authority(place):
    async with place.session() as peer:
        try:
            await peer.submit(agent="echo", input=1, lease_request={"fs.teleport": ["/srv/**"]})
            raise AssertionError("a grant that nobody enforces was accepted")
        except arcp_errors.ARCPError as error:
            assert error.code == "INVALID_REQUEST", error.code


@cases.case("a budget is counted, and what comes after it is refused")
async def budget(place):
    async with place.session() as peer:
        lease = {"tool.call": ["demo.*"], "cost.budget": ["USD:1"]}
        handle = await peer.submit(agent="spender", input={"amounts": [0.6, 0.6, 0.6]}, lease_request=lease)
        bodies = [event["body"] for event in await events_of(handle)]
        left = [body["value"] for body in bodies if body.get("name") == "cost.budget.remaining"]
        assert left == [0.4, -0.2], left
        assert (await handle.done).result == {"spent": 1.2, "denied": ["BUDGET_EXHAUSTED"]}


@socket_only.case("wrong token")
async def wrong_token(place):
    peer = client("nobody")
    try:
        await peer.connect(await place.transport())
        raise AssertionError("a wrong token was accepted")
    except arcp_errors.ARCPError as error:
        assert error.code == "UNAUTHENTICATED" and "nobody" not in str(error)


@socket_only.case("watch live from another session")
async def watch_live(place):
    async with place.session() as owner, place.session() as watcher:
        handle = await owner.submit(agent="gate", input={"key": "live"})
        watch = await watcher.subscribe(handle.job_id)
        await owner.submit(agent="opengate", input={"key": "live"})
        assert (await watch.handle.done).result == {"gate": "live"}


@socket_only.case("watch with history, also of an ended job")
async def watch_history(place):
    async with place.session() as owner, place.session() as watcher:
        handle = await owner.submit(agent="chatty", input={"count": 50})
        await handle.done
        watch = await watcher.subscribe(handle.job_id, history=True)
        events = await events_of(watch.handle)
        assert [e["body"]["value"] for e in events if e["kind"] == "metric"] == list(range(50))
        assert (await watch.handle.done).result == {"emitted": 50}


@socket_only.case("watch from a number of the submitter's session")
async def watch_from(place):
    async with place.session() as owner, place.session() as watcher:
        await (await owner.submit(agent="echo", input=0)).done
        before = owner.latest_event_seq
        handle = await owner.submit(agent="chatty", input={"count": 10})
        await handle.done
        watch = await watcher.subscribe(handle.job_id, history=True, from_event_seq=before + 4)
        events = await events_of(watch.handle)
        assert [e["body"]["value"] for e in events] == list(range(3, 10)), events


@socket_only.case("another principal sees nothing")
async def isolation(place):
    async with place.session() as owner, place.session("tok-bob") as other:
        handle = await owner.submit(agent="echo", input=1)
        await handle.done
        assert handle.job_id not in [j.job_id for j in (await other.list_jobs()).jobs]
        for job in (handle.job_id, "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            try:
                await other.subscribe(job)
                raise AssertionError("a foreign job was shown")
            except arcp_errors.ARCPError as error:
                assert error.code == "JOB_NOT_FOUND", error.code


@socket_only.case("a watcher cannot cancel")
async def no_cancel(place):
    async with place.session() as owner, place.session() as watcher:
        handle = await owner.submit(agent="slow", input={"ms": 500})
        watch = await watcher.subscribe(handle.job_id)
        await watcher.cancel_job(handle.job_id)
        assert (await handle.done).final_status == "success"
        assert (await watch.handle.done).final_status == "success"


@socket_only.case("resume: same session, new token, running job to its end")
async def resume(place):
    first = client()
    transport = await place.transport()
    welcome = await first.connect(transport)
    handle = await first.submit(agent="chatty", input={"count": 60, "delay_ms": 10})
    async for _ in handle.events():
        if first.latest_event_seq >= 5:
            break
    last = first.latest_event_seq
    await transport.close()
    second = client()
    claim = SessionResume(
        session_id=welcome.session_id, resume_token=welcome.resume_token, last_event_seq=last
    )
    raw = await place.transport()
    async with contextlib.aclosing(second):
        again = await second.resume(raw, resume=claim)
        assert again.session_id == welcome.session_id
        assert again.resume_token != welcome.resume_token
        # Its client keeps no handles over a resume: the numbers tell.
        while second.latest_event_seq < 62:
            await asyncio.sleep(0.02)
        jobs = (await second.list_jobs()).jobs
        assert [j.status for j in jobs if j.job_id == handle.job_id] == ["success"]
    third = client()
    try:
        await third.resume(await place.transport(), resume=claim)
        raise AssertionError("an old token was accepted")
    except arcp_errors.ARCPError as error:
        assert error.code == "UNAUTHENTICATED", error.code


@socket_only.case("a replayed event reaches its handle", differs="its client keeps no handles over a resume")
async def resume_handles(place):
    first = client()
    transport = await place.transport()
    welcome = await first.connect(transport)
    handle = await first.submit(agent="slow", input={"ms": 300})
    await transport.close()
    second = client()
    async with contextlib.aclosing(second):
        await second.resume(
            await place.transport(),
            resume=SessionResume(
                session_id=welcome.session_id, resume_token=welcome.resume_token, last_event_seq=0
            ),
        )
        await asyncio.wait_for(second._handles[handle.job_id].done, 5)


@socket_only.case("an idle session lives on by heartbeats")
async def heartbeat(place):
    async with Place(url=place.url_fast).session() as peer:
        assert peer.welcome.heartbeat_interval_sec == 1
        await asyncio.sleep(3.5)
        assert (await (await peer.submit(agent="echo", input=1)).done).result == 1
