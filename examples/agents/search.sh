#!/bin/sh
# Searches for each word of a text, as long as its lease allows that and its budget lasts.
read -r input
# A JSON string without escapes, as the schema in search.toml demands.
text=${input#\"}
text=${text%\"}
set -f
found=0
for word in $text; do
    # A search costs at most 0.40: that much is taken out of the budget, or the answer says why not.
    echo '{"id":1,"kind":"authorize","body":{"operation":"tool.call","target":"search.web","price":"USD:0.40"}}'
    read -r answer
    case $answer in
    *'"ok":true'*) ;;
    *'"BUDGET_EXHAUSTED"'*) echo "nothing is left for $word" >&2; break ;;
    *) echo "$word: $answer" >&2; exit 1 ;;
    esac
    # This one cost less, and the rest is back. Without a budget nothing is reserved.
    reservation=
    case $answer in
    *'"reservation":'*)
        number=${answer#*'"reservation":'}
        reservation=",\"reservation\":${number%%[!0-9]*}"
        ;;
    esac
    printf '{"kind":"metric","body":{"name":"cost.search","value":0.30,"unit":"USD"%s}}\n' "$reservation"
    found=$((found + 1))
done
printf '{"result":{"searches":%d}}\n' "$found"
