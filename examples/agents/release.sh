#!/bin/sh
# Asks people before it releases something: a line out, and `read` waits for the answer.
read -r version
version=${version#\"}
version=${version%\"}
ask() {
    printf '{"id":1,"kind":"%s","body":{%s}}\n' "$1" "$2"
    read -r answer
    case $answer in
    *'"ok":true'*) ;;
    *) echo "$version is not released: $answer" >&2; exit 1 ;;
    esac
    # The answer is JSON, and what follows it is who gave it.
    value=${answer#*'"value":'}
    value=${value%',"responded_by"'*}
}
ask choose "\"prompt\":\"Release $version to whom?\",\"options\":[\"testers\",\"everybody\"],\"default\":\"testers\",\"timeout_s\":3600"
channel=$value
ask ask '"prompt":"What is new?","response_schema":{"type":"string","minLength":1}'
printf '{"result":{"version":"%s","channel":%s,"notes":%s}}\n' "$version" "$channel" "$value"
