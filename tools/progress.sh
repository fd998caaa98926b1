# progress LABEL LOG: a filter for the long steps of setup, engine, demo and check (sourced by them).
#
# Copies standard input to LOG and shows how far it is behind LABEL: on a terminal as one live line, otherwise as a line
# every 20 seconds. Understands ninja's "[12/78] ..." and apt's "pmstatus:package:43.2:..." lines.
progress() {
    local label=$1 log=$2 line at='' begin=$SECONDS last=$SECONDS
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        if [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]]; then
            at="${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} steps"
        elif [[ $line =~ ^(dl|pm)status:[^:]*:([0-9]+) ]]; then
            at="${BASH_REMATCH[2]} %"
            [ "${BASH_REMATCH[1]}" = dl ] && at+=" downloaded"
        else
            continue
        fi
        if [ -t 2 ]; then
            printf '\r\033[K%s %s (%d s)' "$label" "$at" $((SECONDS - begin)) >&2
        elif ((SECONDS - last >= 20)); then
            printf '%s %s (%d s)\n' "$label" "$at" $((SECONDS - begin)) >&2
            last=$SECONDS
        fi
    done
    if [ -t 2 ]; then
        printf '\r\033[K' >&2
    fi
}
