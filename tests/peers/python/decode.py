"""The published SDK's reader over frames on stdin, `{"was": frame, "now": frame}`
in each line: what it took it must take again.
"""

import json
import sys

from arcp._envelope import Envelope
from arcp._messages import parse_payload


def read(frame):
    try:
        envelope = Envelope.model_validate(frame)
        parse_payload(envelope.type, envelope.payload)
    except Exception as error:
        return error


again = refused = never = 0
for line in map(json.loads, sys.stdin):
    if read(line["was"]):
        never += 1
    elif error := read(line["now"]):
        refused += 1
        print(f"its decoder refuses now: {error}: {line}")
    else:
        again += 1
print(f"{again} frames decoded again, {refused} refused; {never} it never took")
sys.exit(0 if again > never and not refused else 1)
