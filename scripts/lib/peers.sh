# The products that scripts/bench peers measures beside ours: their modules and drivers in a folder of
# the build's, at the exact versions of benches/peers/package-lock.json, and Nchan. Sourced, never run.
# shellcheck shell=bash
#
#   peers_up        installs what is missing → BENCH_PEERS_DIR, BENCH_NCHAN_MODULE (empty: none here)

peers_up() {
    local have
    have=$(node --version 2>/dev/null) || have=v0
    have=${have#v} have=${have%%.*}
    if ((have < 20)) || ! command -v npm >/dev/null; then
        die 'the peers need Node.js 20 or later and npm (nodejs.org, or Debian 13: apt-get install nodejs npm)'
    fi

    export BENCH_PEERS_DIR=$TARGET/peers
    mkdir -p "$BENCH_PEERS_DIR" && cp benches/peers/* "$BENCH_PEERS_DIR" || exit
    if ! cmp -s benches/peers/package-lock.json "$BENCH_PEERS_DIR/installed.json"; then
        step 'installing the peers (npm)'
        # Not `npm ci`: it wants the optional modules of every other platform in the lock file as well.
        (cd "$BENCH_PEERS_DIR" && rm -rf node_modules && npm install --no-save --no-audit --no-fund --loglevel=error) ||
            die 'npm could not install the peers'
        cp benches/peers/package-lock.json "$BENCH_PEERS_DIR/installed.json"
    fi

    peers_find_nchan || apt_install nginx-light libnginx-mod-nchan
    if ! peers_find_nchan; then
        step 'Nchan is left out (Debian: apt-get install nginx-light libnginx-mod-nchan)'
    fi
}

peers_find_nchan() {
    local folder
    export BENCH_NCHAN_MODULE=''
    command -v nginx >/dev/null || return
    for folder in /usr/lib/nginx/modules /usr/lib64/nginx/modules /usr/local/lib/nginx/modules; do
        if [[ -e $folder/ngx_nchan_module.so ]]; then
            BENCH_NCHAN_MODULE=$folder/ngx_nchan_module.so
            return
        fi
    done
    unset BENCH_NCHAN_MODULE
    return 1
}
