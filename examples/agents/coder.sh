#!/bin/sh
# Claude Code as an agent: the input is the task, and what it streams becomes events.
read -r task
exec claude -p "$task" --output-format stream-json --verbose --max-turns 30
