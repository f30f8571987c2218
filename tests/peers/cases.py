"""A list of named cases, each with what is expected of it.

A case either passes or is an expected difference: the peer's own defect makes
it impossible, and the reason is written down. Anything else fails the run.
"""

import asyncio
import traceback

TIMEOUT = 30.0


class Cases:
    def __init__(self, title):
        self.title = title
        self.cases = []

    def case(self, name, differs=None):
        def add(function):
            self.cases.append((name, differs, function))
            return function

        return add

    async def run(self, *args):
        unexpected = 0
        for name, differs, function in self.cases:
            try:
                await asyncio.wait_for(function(*args), TIMEOUT)
                outcome, why = "pass", ""
            except Exception as error:
                outcome, why = "fail", f"{type(error).__name__}: {error}"
                trace = traceback.format_exc()
            if outcome == "pass" and differs is None:
                print(f"ok       {self.title}: {name}")
            elif outcome == "fail" and differs is not None:
                print(f"differs  {self.title}: {name} (as expected: {differs})")
            elif outcome == "pass":
                unexpected += 1
                print(f"FAILED   {self.title}: {name}: passes now, although: {differs}")
            else:
                unexpected += 1
                print(f"FAILED   {self.title}: {name}: {why}\n{trace}")
        return len(self.cases) - unexpected, unexpected
