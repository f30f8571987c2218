"""The programs that the checks run, and `arcp` as a client."""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# Whatever our programs keep goes with the run.
STATES = tempfile.TemporaryDirectory(prefix="arcp-peers-")
PEERS = pathlib.Path(__file__).resolve().parent
TOKENS = ["--token", "tok-alice=alice", "--token", "tok-bob=bob", "--token", "tok-lister=lister", "--token", "tok-carol=carol"]


def ready(process, stream):
    for line in stream:
        if line.startswith("READY "):
            return line.split()[1]
    raise RuntimeError(f"it never was ready: {process.args}")


class Programs:
    """What is started, and ended with the run."""

    def __init__(self, arcp):
        self.arcp, self.running = arcp, []

    def serve(self, *more):
        command = [self.arcp, "serve", "--listen", "127.0.0.1:0", "--samples", *TOKENS, *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.running.append(process)
        return ready(process, process.stderr)

    def python(self):
        return self.theirs([sys.executable, str(PEERS / "python" / "their_server.py"), "--port"])

    def theirs(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.running.append(process)
        return ready(process, process.stdout)

    def stop(self):
        for process in self.running:
            process.terminate()
            process.wait(10)


class Ours:
    """`arcp` as a client."""

    def __init__(self, arcp, url, family="hello"):
        self.arcp, self.url, self.family = arcp, url, family

    async def run(self, *args, code=0, state=None):
        process = await asyncio.create_subprocess_exec(
            self.arcp, *args, "--url", self.url, "--token", "tok-alice", "--family", self.family,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "ARCP_STATE_DIR": state or tempfile.mkdtemp(dir=STATES.name)},
        )
        out, err = await process.communicate()
        assert process.returncode == code, f"exit {process.returncode}, expected {code}: {err.decode()}"
        return out.decode(), err.decode()

    async def lines(self, *args, code=0):
        out, _ = await self.run(*args, "--output", "jsonl", code=code)
        return [json.loads(line) for line in out.splitlines()]
