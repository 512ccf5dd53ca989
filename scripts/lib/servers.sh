# A private Postgres and a private Redis for tests, benchmarks and hands-on work: own ports, own
# folder, own processes, so any number of runs stand beside each other and beside a system service.
# Sourced, never run.
# shellcheck shell=bash disable=SC2034
#
#   servers_find            finds the programs, as root installs what is missing. TASK_TRACKER_TEST_REDIS=valkey
#                           (or redis, or the path of a server) says which of several is meant
#   servers_up fast         starts both; "fast" gives durability away, "durable" keeps it
#                           → SERVERS_DATABASE_URL, SERVERS_REDIS_URL, SERVERS_DIR
#   servers_more            starts what only tests need: a cluster of three masters, and both with TLS
#                           → SERVERS_CLUSTER_URL, SERVERS_TLS_DATABASE_URL, SERVERS_TLS_REDIS_URL
#   servers_down            stops all and removes the folder; call it from a trap on EXIT

PG_BIN='' REDIS='' REDIS_CLI=''
# Read now: the scripts are about to forget every variable that begins like ours.
REDIS_WANTED=${TASK_TRACKER_TEST_REDIS-}
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
    if [[ $REDIS_WANTED == */* ]]; then
        REDIS=$(command -v "$REDIS_WANTED") && REDIS_CLI=$(command -v "${REDIS_WANTED%-server}-cli")
        return
    fi
    for name in ${REDIS_WANTED:-redis valkey}; do
        REDIS=$(command -v "$name-server") && REDIS_CLI=$(command -v "$name-cli") && return
    done
    return 1
}

servers_find() {
    find_postgres || { apt_install postgresql; find_postgres; } ||
        die 'needs Postgres 14 or later (Debian: apt-get install postgresql)'
    local names=${REDIS_WANTED:-redis valkey} name
    [[ $REDIS_WANTED != */* ]] || names=''
    find_redis || for name in $names; do
        apt_install "$name-server"
        find_redis && break
    done
    [[ $REDIS && $REDIS_CLI ]] || die "needs ${REDIS_WANTED:-Redis or Valkey}${names:+ (Debian: apt-get install ${names%% *}-server)}"
    # The tests that start a server of their own start the same.
    export TEST_REDIS_SERVER=$REDIS
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

# ---- what only tests need ------------------------------------------------------------------------

servers_more() {
    command -v openssl >/dev/null || apt_install openssl
    command -v openssl >/dev/null || die 'needs openssl (Debian: apt-get install openssl)'
    make_certificates
    start_cluster
    start_redis_tls
    # A cluster lets seconds go by before it serves.
    start_postgres_tls
    local node
    for node in cluster-{1,2,3} redis-tls; do
        until_ready "${SERVERS_PIDS[-1]}" 30 cluster_is_whole "$node" ||
            give_up "$SERVERS_DIR/cluster.log" 'the cluster does not come together'
    done
}

# A cluster of three masters. `redis-cli --cluster create` would do it in about six seconds; said by hand it
# is two.
start_cluster() {
    local log=$SERVERS_DIR/cluster.log node other start=0 ports=() buses=()
    for node in 1 2 3; do
        start_redis_node "$log" "cluster-$node"
        ports+=("$NODE_PORT") buses+=("$NODE_BUS")
    done
    for node in 0 1 2; do
        local end=$((node == 2 ? 16383 : start + 5460))
        node_cli "cluster-$((node + 1))" CLUSTER ADDSLOTSRANGE $start $end
        node_cli "cluster-$((node + 1))" CLUSTER SET-CONFIG-EPOCH $((node + 1))
        start=$((end + 1))
        for ((other = 0; other < node; other++)); do
            node_cli "cluster-$((node + 1))" CLUSTER MEET 127.0.0.1 "${ports[other]}" "${buses[other]}"
        done
    done >>"$log" 2>&1
    SERVERS_CLUSTER_URL=redis-cluster://127.0.0.1:${ports[0]},127.0.0.1:${ports[1]},127.0.0.1:${ports[2]}
}

cluster_is_whole() { # NAME
    local said
    said=$(node_cli "$1" CLUSTER INFO) && [[ $said == *cluster_state:ok* && $said == *cluster_slots_assigned:16384* ]]
}

# One server with TLS, and a cluster of one at once: either way of asking for it finds what it expects.
start_redis_tls() {
    local log=$SERVERS_DIR/redis-tls.log tls=$SERVERS_DIR/tls
    start_redis_node "$log" redis-tls --tls-cluster yes --tls-auth-clients optional --tls-ca-cert-file "$tls/ca.pem" \
        --tls-cert-file "$tls/server.pem" --tls-key-file "$tls/server.key"
    node_cli redis-tls CLUSTER ADDSLOTSRANGE 0 16383 >>"$log" 2>&1
    SERVERS_TLS_REDIS_URL=rediss://localhost:$NODE_PORT
}

node_cli() { "$REDIS_CLI" -s "$SERVERS_DIR/$1.sock" "${@:2}"; }

# One server of a cluster → NODE_PORT, NODE_BUS.
start_redis_node() { # LOG NAME OPTION…
    local log=$1 name=$2 pid port
    shift 2
    for _ in {1..5}; do
        NODE_PORT=$(free_port) NODE_BUS=$(free_port)
        [[ $NODE_PORT == "$NODE_BUS" ]] && continue
        port=(--port "$NODE_PORT")
        [[ " $* " == *' --tls-cluster '* ]] && port=(--port 0 --tls-port "$NODE_PORT")
        # A loaded machine must not look like a dead server: nobody fails over here.
        as_server TERM "$REDIS" --bind 127.0.0.1 "${port[@]}" --unixsocket "$name.sock" --save '' --appendonly no \
            --daemonize no --cluster-enabled yes --cluster-port "$NODE_BUS" --cluster-config-file "$name.conf" \
            --cluster-node-timeout 30000 --cluster-require-full-coverage no "$@" >>"$log" 2>&1 &
        pid=$!
        if until_ready $pid 30 node_cli "$name" ping; then
            SERVERS_PIDS+=("$pid")
            return
        fi
        stop TERM "$pid"
    done
    give_up "$log" 'a server of the cluster does not start (it must be Redis 7 or later, or Valkey)'
}

start_postgres_tls() {
    local log=$SERVERS_DIR/postgres-tls.log tls=$SERVERS_DIR/tls port pid
    (as_server KILL "$PG_BIN/initdb" --pgdata=pg-tls --username=postgres --auth=trust --encoding=UTF8 --locale=C \
        --no-sync) >"$log" 2>&1 || give_up "$log" 'initdb failed'
    # Nobody comes in without TLS.
    printf 'local all all trust\nhostssl all all 127.0.0.1/32 trust\n' >"$SERVERS_DIR/pg-tls/pg_hba.conf"
    for _ in {1..5}; do
        port=$(free_port)
        as_server INT "$PG_BIN/postgres" -D pg-tls -p "$port" -c listen_addresses=127.0.0.1 -c fsync=off \
            -c unix_socket_directories="$SERVERS_DIR" -c shared_buffers=16MB -c log_min_messages=warning \
            -c ssl=on -c ssl_cert_file="$tls/server.pem" -c ssl_key_file="$tls/server.key" >>"$log" 2>&1 &
        pid=$!
        if until_ready $pid 60 "$PG_BIN/pg_isready" -h "$SERVERS_DIR" -p "$port"; then
            SERVERS_PIDS+=("$pid")
            SERVERS_TLS_DATABASE_URL="postgres://postgres@localhost:$port/postgres?sslmode=verify-full&sslrootcert=$tls/ca.pem"
            return
        fi
        stop INT "$pid"
    done
    give_up "$log" 'Postgres with TLS does not start'
}

# In the folder tls: an authority (ca), what it says of the servers (server), of a server with another name
# (elsewhere) and of us (client), and another authority that nobody should believe (other).
make_certificates() (
    mkdir "$SERVERS_DIR/tls" && cd "$SERVERS_DIR/tls" || exit
    cat >openssl.conf <<'END'
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth, clientAuth
[elsewhere]
subjectAltName = DNS:elsewhere.example
extendedKeyUsage = serverAuth
[client]
extendedKeyUsage = clientAuth
END
    {
        local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.conf) name
        for name in ca other; do
            openssl req -x509 "${key[@]}" -keyout $name.key -out $name.pem -days 3 -subj "/CN=$name" -extensions authority
        done
        for name in server elsewhere client; do
            openssl req "${key[@]}" -keyout $name.key -out $name.csr -subj "/CN=$name"
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3 -out $name.pem \
                -extfile openssl.conf -extensions $name
        done
    } >openssl.log 2>&1
    # Postgres reads no key that others might.
    chmod 600 ./*.key
    ((EUID != 0)) || chown -R --reference=.. .
    [[ -s client.pem ]] || give_up openssl.log 'no certificates'
)

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
