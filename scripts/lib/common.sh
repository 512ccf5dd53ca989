# What every script here shares: where the project is, how to say things, how to pick a port.
# Sourced, never run.
# shellcheck shell=bash disable=SC2034

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT" || exit 1
TARGET=$(realpath -m "${CARGO_TARGET_DIR:-target}")

step() { printf '==> %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The comment at the head of a script is its manual.
usage() { sed -n '2,/^[^#]\|^$/{ s/^# \{0,1\}//p }' "$0"; }

# A port nobody listens on now, below 32768 so that no outgoing connection is given it. Another
# program may still be faster: whoever starts a server on it tries again with a new one.
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# Calls a command about every 0.1 s until it succeeds; gives up after so many seconds, or at once
# when the process is gone.   until_ready PID SECONDS COMMAND…
until_ready() {
    local pid=$1 end=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null && ((SECONDS < end)) || return 1
        sleep 0.1
    done
    # An answer from someone else on that port does not count: ours is then about to exit.
    sleep 0.2 && kill -0 "$pid" 2>/dev/null
}

# Whether a GET of this path answers 200. Bash alone: a small machine has no curl.
http_ok() ( # PORT PATH
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
    read -r -t 5 _ status _ <&3 && [[ $status == 200 ]]
)

# Ends children of this script and waits for each, so that no signal can reach a reused pid.
stop() { # SIGNAL PID…
    local signal=$1 pid
    shift
    for pid; do kill -s "$signal" "$pid" 2>/dev/null; done
    for pid; do wait "$pid" 2>/dev/null; done
    return 0
}

# Starts the debug build on a free port and waits until it is ready → TRACKER_URL, TRACKER_PID.
tracker_up() { # LOG NAME=VALUE…
    local log=$1 port
    shift
    for _ in {1..5}; do
        port=$(free_port)
        env -u DATABASE_URL -u REDIS_URL "$@" TASK_TRACKER_HOST=127.0.0.1 TASK_TRACKER_PORT="$port" \
            setsid setpriv --pdeathsig TERM "$TARGET/debug/task-tracker" serve >>"$log" 2>&1 &
        TRACKER_PID=$!
        if until_ready $TRACKER_PID 60 http_ok "$port" /readyz; then
            TRACKER_URL=http://127.0.0.1:$port
            return
        fi
        stop TERM "$TRACKER_PID"
    done
    tail -n 20 "$log" >&2
    die 'the server does not start'
}
