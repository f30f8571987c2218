"""The published server with a few agents, for our client."""

import asyncio
import sys

from arcp._runtime.server import ARCPRuntime, RuntimeInfo
from arcp._transport.stdio import StdioTransport
from arcp._transport.websocket import serve_websocket
from arcp.runtime import StaticBearerVerifier


async def echo(value, ctx):
    await ctx.log("info", "echo started")
    return value


async def ticker(value, ctx):
    for n in range(value["count"]):
        await ctx.metric({"name": "tick", "value": n, "unit": "count"})
        if n % 10 == 0:
            await asyncio.sleep(0)
    return {"emitted": value["count"]}


async def sleeper(value, ctx):
    await ctx.progress(0, total=1)
    await asyncio.sleep(value["s"])
    return {"slept": value["s"]}


async def chunker(value, ctx):
    async with ctx.stream_result() as stream:
        for n in range(value["chunks"]):
            await stream.write("abcdefghij"[n % 10] * 100)


async def failer(value, ctx):
    raise RuntimeError("boom")


def runtime():
    made = ARCPRuntime(
        runtime=RuntimeInfo(name="python-peer", version="1.1.3"),
        bearer=StaticBearerVerifier({"tok-alice": "alice"}),
    )
    for agent in (echo, ticker, sleeper, chunker, failer):
        made.register_agent(agent.__name__, agent)
    made.register_agent_version("greeter", "1.0.0", echo)
    made.register_agent_version("greeter", "2.0.0", echo)
    made.set_default_agent_version("greeter", "2.0.0")
    return made


async def main():
    if sys.argv[1] == "--stdio":
        await runtime().accept(await StdioTransport.from_std_streams())
        return
    server = await serve_websocket(runtime().accept, host="127.0.0.1", port=0)
    port = next(iter(server.sockets)).getsockname()[1]
    print(f"READY ws://127.0.0.1:{port}/arcp", flush=True)
    await server.serve_forever()


asyncio.run(main())
