#!/usr/bin/env bash
# Counts up, and keeps how far it is when somebody asks: arcp serve --agent saves=./saves.sh --checkpoints saves
# A job that begins at such a checkpoint counts on from there.
read -r input
read -r state
count=0
if [ "$state" != null ]; then count=$state; fi
# shellcheck disable=SC2001
to=$(sed 's/[^0-9]//g' <<< "$input")
while [ "$count" -lt "${to:-100}" ]; do
    # Each time it waits a moment for somebody to ask.
    if read -r -t 0.1 asked; then
        case $asked in
            *checkpoint*) echo "{\"kind\":\"checkpoint\",\"body\":{\"state\":$count}}" ;;
        esac
    else
        count=$((count + 1))
        echo "{\"kind\":\"progress\",\"body\":{\"current\":$count}}"
    fi
done
echo "{\"result\":{\"count\":$count}}"
