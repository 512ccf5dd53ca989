# A private Postgres and a private Redis for tests, benchmarks and hands-on work: own ports, own
# folder, own processes, so any number of runs stand beside each other and beside a system service.
# Sourced, never run.
# shellcheck shell=bash disable=SC2034
#
#   servers_find            finds the programs, as root installs what is missing
#   servers_up fast         starts both; "fast" gives durability away, "durable" keeps it
#                           → SERVERS_DATABASE_URL, SERVERS_REDIS_URL, SERVERS_DIR
#   servers_down            stops both and removes the folder; call it from a trap on EXIT

PG_BIN='' REDIS='' REDIS_CLI=''
SERVERS_DIR='' SERVERS_PIDS=()

# ---- finding -----------------------------------------------------------------------------------

# The newest server of version 14 or later. Debian keeps it off PATH.
find_postgres() {
    local dir version best=13
    PG_BIN=''
    for dir in $(type -ap postgres | xargs -r -n1 readlink -f | xargs -r -n1 dirname) /usr/lib/postgresql/*/bin; do
        [[ -x $dir/postgres && -x $dir/initdb && -x $dir/pg_isready ]] || continue
        version=$("$dir/postgres" --version | grep -oE '[0-9]+' | head -1)
        if ((version > best)); then best=$version PG_BIN=$dir; fi
    done
    [[ $PG_BIN ]]
}

find_redis() {
    local name
    for name in redis valkey; do
        REDIS=$(command -v $name-server) && REDIS_CLI=$(command -v $name-cli) && return
    done
    return 1
}

servers_find() {
    find_postgres || { apt_install postgresql; find_postgres; } ||
        die 'needs Postgres 14 or later (Debian: apt-get install postgresql)'
    find_redis || { apt_install redis-server; find_redis; } || { apt_install valkey-server; find_redis; } ||
        die 'needs Redis or Valkey (Debian: apt-get install redis-server)'
}

# Installs packages where that is possible at all; says so where it is not. Whether it helped is the
# caller's to look at.
apt_install() { (
    ((EUID == 0)) && command -v apt-get >/dev/null || exit 0
    # One at a time. The lock is on a folder that is always there, so no lock file is left behind.
    exec 8</var/lib/dpkg && flock 8
    step "installing $*"
    # The packages would start a system service of their own and at every boot; only the programs
    # are wanted. Debian asks this file first.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive
    if ! said=$({ apt-get update && apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; } 2>&1); then
        tail -n 10 <<<"$said" >&2
        exit 0
    fi
    if [[ -d /run/systemd/system ]]; then
        for unit; do systemctl disable --quiet "$unit" 2>/dev/null; done
    fi
); }

# ---- starting ----------------------------------------------------------------------------------

servers_up() { # fast | durable
    local mode=$1 base=/tmp
    # /tmp may be memory, where an fsync costs nothing; /var/tmp is disk. Both are short enough for a
    # socket path and open to the user Postgres runs as, which $TMPDIR need not be.
    [[ $mode == durable ]] && base=/var/tmp
    SERVERS_DIR=$(mktemp -d "$base/task-tracker.XXXXXX") || die "cannot make a folder in $base"

    # Postgres refuses to run as root.
    SERVERS_USER=()
    if ((EUID == 0)); then
        local user=nobody
        getent passwd postgres >/dev/null && user=postgres
        SERVERS_USER=(--reuid "$user" --regid "$(id -g "$user")" --clear-groups)
        chown "$user" "$SERVERS_DIR"
    fi

    start_postgres "$mode"
    start_redis
}

# Runs a program in the folder of the servers, as their user, away from the terminal's Ctrl-C (those
# who talk to it shall end first), and dead with this script even if that is killed outright.
as_server() { # SIGNAL-AT-PARENT'S-DEATH COMMAND…
    exec env -C "$SERVERS_DIR" HOME="$SERVERS_DIR" LC_ALL=C \
        setsid setpriv --pdeathsig "$1" "${SERVERS_USER[@]}" -- "${@:2}"
}

start_postgres() {
    local mode=$1 log=$SERVERS_DIR/postgres.log port pid
    local options=(-c max_connections=500 -c shared_buffers=256MB -c log_min_messages=warning)
    [[ $mode == fast ]] && options+=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)

    (as_server KILL "$PG_BIN/initdb" --pgdata=pg --username=postgres --auth=trust \
        --encoding=UTF8 --locale=C --no-sync) >"$log" 2>&1 || give_up "$log" 'initdb failed'
    for _ in {1..5}; do
        port=$(free_port)
        as_server INT "$PG_BIN/postgres" -D pg -p "$port" -c listen_addresses=127.0.0.1 \
            -c unix_socket_directories="$SERVERS_DIR" "${options[@]}" >>"$log" 2>&1 &
        pid=$!
        # Asked through the socket in our folder: a stranger on the port cannot answer there.
        if until_ready $pid 60 "$PG_BIN/pg_isready" -h "$SERVERS_DIR" -p "$port"; then
            SERVERS_PIDS+=("$pid")
            SERVERS_DATABASE_URL=postgres://postgres@127.0.0.1:$port/postgres
            return
        fi
        stop INT "$pid"
    done
    give_up "$log" 'Postgres does not start'
}

start_redis() {
    local log=$SERVERS_DIR/redis.log port pid
    for _ in {1..5}; do
        port=$(free_port)
        as_server TERM "$REDIS" --bind 127.0.0.1 --port "$port" --unixsocket redis.sock \
            --save '' --appendonly no --daemonize no >>"$log" 2>&1 &
        pid=$!
        if until_ready $pid 30 "$REDIS_CLI" -s "$SERVERS_DIR/redis.sock" ping; then
            SERVERS_PIDS+=("$pid")
            SERVERS_REDIS_URL=redis://127.0.0.1:$port
            return
        fi
        stop TERM "$pid"
    done
    give_up "$log" 'Redis does not start'
}

give_up() { # LOG REASON
    tail -n 20 "$1" >&2
    die "$2"
}

servers_down() {
    # INT asks Postgres to end now, politely, without waiting for its clients; Redis takes it alike.
    stop INT "${SERVERS_PIDS[@]}"
    SERVERS_PIDS=()
    [[ -z $SERVERS_DIR ]] || rm -rf "$SERVERS_DIR"
    SERVERS_DIR=''
}
