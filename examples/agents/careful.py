#!/usr/bin/env python3
"""Claude Code as an agent that asks people before it uses a tool that the lease of its job does not grant.

This file is the agent, and with `--hook` what Claude Code runs before each of its tools (its hook `PreToolUse`).
"""

import itertools
import json
import os
import queue
import shlex
import socket
import subprocess
import sys
import tempfile
import threading

TO_ASK = ["PERMISSION_DENIED", "LEASE_EXPIRED", "LEASE_REVOKED"]
TO_FILES = {"Read": "fs.read", "Write": "fs.write", "Edit": "fs.write", "MultiEdit": "fs.write"}


def wanted(hook):
    """What the tool would do, in the words of a lease; and why, for people."""
    tool, given = hook["tool_name"], hook.get("tool_input") or {}
    if tool in TO_FILES and given.get("file_path"):
        return TO_FILES[tool], os.path.normpath(os.path.join(hook["cwd"], given["file_path"])), tool
    if tool == "WebFetch" and given.get("url"):
        return "net.fetch", given["url"], tool
    return "x-vendor.coder.tool", tool, str(given.get("command") or json.dumps(given))[:500]


class Runtime:
    """Lines to the runtime, and its answers."""

    def __init__(self):
        self.lock, self.waiting, self.numbers = threading.Lock(), {}, itertools.count(1)

    def say(self, line):
        with self.lock:
            print(line, flush=True)

    def ask(self, kind, **body):
        number, answer = next(self.numbers), queue.SimpleQueue()
        self.waiting[number] = answer
        self.say(json.dumps({"id": number, "kind": kind, "body": body}))
        return answer.get()

    def read(self):
        for line in sys.stdin:
            answer = json.loads(line)
            self.waiting.pop(answer["id"]).put(answer)


def decide(runtime, hook):
    """Allows what the lease grants, or people do; gives why not otherwise."""
    operation, target, why = wanted(hook)
    allowed = runtime.ask("authorize", operation=operation, target=target)
    if not allowed["ok"] and allowed["error"]["code"] in TO_ASK:
        asked = runtime.ask("ask_permission", operation=operation, resource=target, reason=why)
        if not asked["ok"]:
            return asked["error"]["message"]
        allowed = runtime.ask("authorize", operation=operation, target=target)
    return None if allowed["ok"] else allowed["error"]["message"]


def answer(runtime, connection):
    with connection, connection.makefile("rw") as stream:
        refused = decide(runtime, json.loads(stream.readline()))
        said = {"hookEventName": "PreToolUse", "permissionDecision": "deny" if refused else "allow"}
        said["permissionDecisionReason"] = refused or "granted by the runtime"
        stream.write(json.dumps({"hookSpecificOutput": said}) + "\n")


def listen(runtime, server):
    while True:
        threading.Thread(target=answer, args=(runtime, server.accept()[0]), daemon=True).start()


def hook(path):
    """Has the agent decide. Whatever goes wrong, the tool is not used: code 2 says so."""
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(path)
            agent.sendall(json.dumps(json.load(sys.stdin)).encode() + b"\n")
            said = agent.makefile().readline()
            json.loads(said)
            print(said)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def main():
    task, runtime = json.loads(sys.stdin.readline()), Runtime()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = os.path.join(folder, "hook")
        server.bind(path)
        server.listen(16)
        for work in [(runtime.read, ()), (listen, (runtime, server))]:
            threading.Thread(target=work[0], args=work[1], daemon=True).start()
        command = shlex.join([sys.executable, os.path.abspath(__file__), "--hook", path])
        before = [{"matcher": "*", "hooks": [{"type": "command", "command": command, "timeout": 3600}]}]
        settings = json.dumps({"hooks": {"PreToolUse": before}})
        coder = ["claude", "-p", task, "--output-format", "stream-json", "--verbose", "--settings", settings]
        with subprocess.Popen(coder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as running:
            for line in running.stdout:
                runtime.say(line.rstrip("\n"))
        # Threads that read do not keep it.
        return running.returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hook"]:
        hook(sys.argv[2])
    else:
        code = main()
        sys.stdout.flush()
        os._exit(code if code >= 0 else 1)
