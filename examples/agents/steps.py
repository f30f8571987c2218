#!/usr/bin/env python3
"""Does some steps, and goes on after the last one it did when the runtime was ended in between."""

import json
import signal
import sys
import time


def say(kind, **body):
    print(json.dumps({"kind": kind, "body": body}))


def main():
    job = json.loads(sys.stdin.readline())
    done = json.loads(sys.stdin.readline()) or 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for step in range(done + 1, job["steps"] + 1):
        say("status", phase="working", message=f"step {step}")
        time.sleep(job.get("seconds", 0.1))
        say("metric", name="steps", value=1, unit="count")
        say("progress", current=step, total=job["steps"])
        say("checkpoint", state=step)
    print(json.dumps({"result": {"steps": job["steps"], "of_an_earlier_run": done}}))


main()
