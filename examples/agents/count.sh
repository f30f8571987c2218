#!/bin/sh
# Counts the words of a text and reports its progress.
read -r input
# A JSON string without escapes, as the schema in count.toml demands.
text=${input#\"}
text=${text%\"}
set -f
# shellcheck disable=SC2086
set -- $text
total=$#
done=0
trap 'echo "stopped after $done of $total words" >&2; exit 143' TERM
for word in "$@"; do
    done=$((done + 1))
    printf '{"kind":"progress","body":{"current":%d,"total":%d,"units":"words"}}\n' "$done" "$total"
    echo "$word"
done
printf '{"result":{"words":%d}}\n' "$total"
