"""The published SDK's reader over the frames on stdin: says which it refuses."""

import json
import sys

from arcp._envelope import Envelope
from arcp._messages import parse_payload

read = refused = 0
for line in sys.stdin:
    try:
        envelope = Envelope.model_validate(json.loads(line))
        parse_payload(envelope.type, envelope.payload)
        read += 1
    except Exception as error:
        refused += 1
        print(f"its decoder refuses: {error}: {line}")
print(f"decoded {read}, refused {refused}")
sys.exit(0 if read and not refused else 1)
