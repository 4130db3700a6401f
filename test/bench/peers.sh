# shellcheck shell=bash
#
# The same no-op task in other queues, each between two runs of gtf.  They are
# installed now: by npm and dpkg into the work folder, by apt on the machine.
# What cannot be installed or fails is left out, and the output says why.

PEERS=$BENCH/peers
REDIS=$WORK/redis

GRAPHILE=0.18.0
PGBOSS=12.35.0      # of 12.38.0, the next, npm did not find a dependency
NODE=22             # what both need; Debian and its derivatives may have less

# One line below the table.
note() { printf '* %s\n' "$*" >>"$NOTES"; }

left_out() { # PEER WHY
    say "left out: $1: $2"
    note "left out: $1: $2"
}

why() { { grep -m 1 'rror' "$1" || tail -n 1 "$1"; } | cut -c 1-200; }

# ---------------------------------------------------------------- installing

# npm asks the registry that the machine is set up for, and runs no script of
# any package.  node's own list of certificates need not have the machine's.
install_node() {
    local arch v settings=() log=$WORK/tmp/npm.log certificates=/etc/ssl/certs/ca-certificates.crt

    case $(uname -m) in
        x86_64) arch=x64 ;;
        aarch64) arch=arm64 ;;
        *) echo "no node $NODE for $(uname -m)" >"$log" && return 1 ;;
    esac
    as_account sh -c 'command -v npm' >/dev/null || (need_packages npm) || {
        echo "there is no npm" >"$log"
        return 1
    }
    [[ ! -e $certificates ]] || settings=("NODE_EXTRA_CA_CERTS=$certificates")
    for v in NODE_EXTRA_CA_CERTS {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY "${!npm_config_@}"; do
        [[ -z ${!v:-} ]] || settings+=("$v=${!v}")
    done
    as_account env "${settings[@]}" timeout 120 npm install --prefix "$WORK" --ignore-scripts \
        --no-audit --no-fund --loglevel=error --fetch-retries=1 --fetch-retry-mintimeout=1000 \
        "node-linux-$arch@$NODE" "graphile-worker@$GRAPHILE" "pg-boss@$PGBOSS" pg >"$log" 2>&1 || return
    NODE=$WORK/node_modules/node-linux-$arch/bin/node
    as_account "$NODE" --version >/dev/null 2>>"$log"
}

install_pgq() {
    local package=postgresql-$VERSION-pgq3

    if ! unpack_package "$package" "$WORK/pgq"; then
        as_root apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null 2>&1 || return
        unpack_package "$package" "$WORK/pgq" || return
    fi
    PGQ=$(dpkg-deb -f "$WORK/pgq/$package"_*.deb Version | sed 's/-.*//')
    as_account cp -r "$WORK/pgq/usr/lib" "$WORK/pgq/usr/share" "$WORK/pg$VERSION/usr/"
}

# redis-tools has the program of the server, which Debian's redis-server only
# gives its name, and starts.
install_celery() {
    (need_packages python3 python3-celery python3-redis redis-tools) || return
    as_account mkdir -p "$REDIS" || return
    as_account ln -sf /usr/bin/redis-check-rdb "$REDIS/redis-server" || return
    CELERY=$(as_account python3 -c 'import celery; print(celery.__version__)') || return
    REDIS_VERSION=$(as_account "$REDIS/redis-server" --version | sed 's/.* v=\([0-9.]*\).*/\1/')
}

set_up() { # PEER COMMAND...
    local err=$WORK/tmp/$1.err

    if [[ -n ${NAMES[$1]:-} ]] && ! "${@:2}" >"$err" 2>&1; then
        left_out "${NAMES[$1]}" "$(why "$err")"
        unset "NAMES[$1]"
    fi
}

# ---------------------------------------------------------------- their parts

node() { # SCRIPT ARG...
    PGUSER=bench as_account timeout 120 "$NODE" "$PEERS/$1.mjs" "${@:2}"
}

python() { # ARG...
    as_account env BENCH_SOCKET="$REDIS/s" PYTHONPATH="$PEERS" PYTHONDONTWRITEBYTECODE=1 \
        timeout 120 python3 "$PEERS/celery_bench.py" "$@"
}

redis() { as_account redis-cli -s "$REDIS/s" "$@"; }

# Its title would be written over the environment, by which it is found if the
# script is interrupted.
start_redis() { # OPTION...
    local i

    as_account rm -rf "$REDIS/data"
    as_account mkdir "$REDIS/data"
    as_account "$REDIS/redis-server" --port 0 --unixsocket "$REDIS/s" --dir "$REDIS/data" \
        --set-proc-title no "$@" >"$WORK/tmp/redis.log" 2>&1 &
    REDIS_JOB=$!
    for i in {1..100}; do
        [[ $(redis ping 2>/dev/null) != PONG ]] || return 0
        sleep 0.1
    done
    return 1
}

with_redis() { # OPTIONS COMMAND...
    local options

    [[ -n ${NAMES[celery]:-} ]] || return 0
    read -ra options <<<"$1"
    start_redis "${options[@]}" || left_out "${NAMES[celery]}" "$(why "$WORK/tmp/redis.log")"
    "${@:2}"
    redis shutdown nosave >/dev/null 2>&1 || true
    wait "$REDIS_JOB" || true
}

graphile_drain() { # PROCESSES CONCURRENCY LOCAL_QUEUE N
    PGUSER=bench sql 'TRUNCATE graphile_worker._private_jobs' \
        "SELECT count(*) FROM graphile_worker.add_jobs(array_fill(
            ROW('noop', '{\"a\":1}', NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec, ARRAY[$4]))" \
        'VACUUM ANALYZE graphile_worker._private_jobs' >/dev/null || return
    sql CHECKPOINT || return
    node graphile drain "$@"
}

pgboss_drain() { # PROCESSES LOOPS BATCH N
    PGUSER=bench sql 'TRUNCATE pgboss.job' || return
    node pgboss load "$4" || return
    PGUSER=bench sql 'VACUUM ANALYZE pgboss.job' || return
    sql CHECKPOINT || return
    node pgboss drain "$@"
}

# Events in batches of 20,000, for what it reads is between two ticks.
pgq_drain() { # N
    local i tps steps=("SELECT pgq.drop_queue('bench', true)")

    steps+=("SELECT pgq.create_queue('bench')" "SELECT pgq.register_consumer('bench', 'bench')"
        "SELECT pgq.set_queue_config('bench', 'ticker_max_count', '10000')")
    for ((i = 0; i < $1; i += 20000)); do
        steps+=("SELECT count(pgq.insert_event('bench', 'noop', '{\"a\":1}')) FROM generate_series(1, 20000)"
            "SELECT pgq.ticker()")
    done
    sql "${steps[@]}" CHECKPOINT >/dev/null || return
    tps=$(pgbench_tps "$PEERS/pgq_batch.pgbench" 1 -t $((($1 + 19999) / 20000))) || return
    calc "20000 * $tps"
}

per_call() { # SIZE COUNT SCRIPT: rows per second of one client
    local tps

    tps=$(pgbench_tps "$3" 1 -t "$2" -D size="$1") || return
    calc "$1 * $tps"
}

by_8_clients() { # SCRIPT: transactions per second
    local tps

    tps=$(pgbench_tps "$1" 8 -T "$seconds") || return
    echo "$tps"
}

# ---------------------------------------------------------------- beside gtf

# Measurements of gtf: each sets GTF.  What is submitted last stays in the queue.
# shellcheck disable=SC2153 # RATE is bench.sh's
gtf_best() { drain noop "$n" && GTF=$RATE; }
gtf_single() { drain noop "$n_sync" && GTF=$RATE; }
gtf_submit() {
    sql CHECKPOINT
    GTF=$(by_8_clients "$BENCH/submit.pgbench")
    settle
}

gtf_bulk() {
    sql CHECKPOINT
    GTF=$(per_call 1000 "$batches" "$PEERS/gtf_bulk.pgbench")
    settle
}

declare -A RATES=() GTFS=() RATIOS=() SETTINGS=() BEST=() WORDS=()

# A peer between two runs of gtf; if it is measured more than once for a
# purpose, the best settings are taken, and all runs of these.
beside_gtf() { # PURPOSE PEER SETTINGS COMMAND...
    local key=$1,$2 rate before=$GTF err=$WORK/tmp/$2.err

    [[ -n ${NAMES[$2]:-} ]] || return 0
    # not in $( ), where bash would not act on Ctrl-C
    if ! "${@:4}" >"$WORK/tmp/rate" 2>"$err" || ! rate=$(grep -x '[0-9.e+]*' "$WORK/tmp/rate"); then
        left_out "${NAMES[$2]}, $1" "$(why "$err")"
        return 0
    fi
    "gtf_$1"
    say "$1: ${NAMES[$2]}, $3: $(whole "$rate")/s, gtf $(whole "$GTF")/s"
    if [[ $(calc "$rate > ${BEST[$key]:-0}") == 1 ]]; then
        BEST[$key]=$rate
        [[ ${SETTINGS[$key]:-} == "$3" ]] || RATES[$key]='' GTFS[$key]='' RATIOS[$key]=''
        SETTINGS[$key]=$3
    fi
    [[ ${SETTINGS[$key]} == "$3" ]] || return 0
    RATES[$key]+=" $rate"
    GTFS[$key]+=" $(calc "($before + $GTF) / 2")"
    RATIOS[$key]+=" $(calc "($before + $GTF) / 2 / $rate")"
}

# The rows of a purpose, and the figures for a plot.
peer_rows() { # PURPOSE WHAT PLOT X
    local peer key rates gtfs ratios

    for peer in "${ORDER[@]}"; do
        for gtfs in ${GTFS[$1,$peer]:-}; do
            figure "$3" gtf "$4" "$gtfs" tasks/s
        done
    done
    for peer in "${ORDER[@]}"; do
        key=$1,$peer
        [[ -n ${RATES[$key]:-} ]] || continue
        read -ra rates <<<"${RATES[$key]}"
        read -ra gtfs <<<"${GTFS[$key]}"
        read -ra ratios <<<"${RATIOS[$key]}"
        row "$2: ${NAMES[$peer]}" "$(whole "$(median "${gtfs[@]}")")/s" \
            "$(whole "$(median "${rates[@]}")")/s = $(printf '%.3g' "$(calc "$(median "${rates[@]}") / $REF_MEDIAN")")x REF" \
            "$(ratios "${ratios[@]}")"
        WORDS[$peer]+="; $2: ${SETTINGS[$key]}"
        figure "$3" "${NAMES[$peer]}" "$4" "$(median "${rates[@]}")" tasks/s
    done
}

# ---------------------------------------------------------------- latency

# From files with "ID SENT DONE" and "ID START" in ms, sets from_done and from_sent
# to p50 and p99.
latencies() { # PEER
    local sends=$WORK/tmp/$1.sends starts=$WORK/tmp/$1.starts

    percentiles() { # COLUMN
        awk -v column="$1" 'NR == FNR { at[$1] = $column; next } $1 in at { printf "%.6f\n", $2 - at[$1] }' \
            "$sends" "$starts" | sort -g |
            awk -v n="$n_latency" '{ v[NR] = $1 } END { if (NR != n) exit 1; printf "%.3f %.3f\n", v[int(NR * 0.5 + 0.5)], v[int(NR * 0.99 + 0.5)] }'
    }
    read -ra from_done < <(percentiles 3) && read -ra from_sent < <(percentiles 2)
}

gtf_latency() {
    setting gtf.enabled on
    sql CHECKPOINT
    PGUSER=bench sql "CALL bench.commit_now_and_then($n_latency, true)"
    wait_until 20 "SELECT count(*) = $n_latency FROM bench.commits JOIN gtf.outcomes ON task_id = id"
    setting gtf.enabled off
    sql 'SELECT id, 1000 * extract(epoch FROM sent), 1000 * extract(epoch FROM done) FROM bench.commits' >"$WORK/tmp/gtf.sends"
    sql 'SELECT task_id, 1000 * extract(epoch FROM started_at) FROM gtf.outcomes
        JOIN bench.commits ON task_id = id' >"$WORK/tmp/gtf.starts"
    latencies gtf
    figure latency gtf p50 "${from_done[0]}" ms
    figure latency gtf p99 "${from_done[1]}" ms
}

# A worker in the background, then what submits.
with_worker() { # WORKER-COMMAND... -- COMMAND...
    local worker=() i pid ready=$WORK/tmp/ready

    while [[ $1 != -- ]]; do
        worker+=("$1")
        shift
    done
    "${worker[@]}" >"$ready" &
    pid=$!
    for ((i = 0; i < 200; i++)); do
        ! grep -q ready "$ready" || break
        sleep 0.1
    done
    sleep 0.5 # it listens
    "${@:2}" && wait "$pid"
}

graphile_latency() {
    local file=$WORK/tmp/graphile

    sql 'TRUNCATE graphile_worker._private_jobs' CHECKPOINT || return
    with_worker node graphile latency "$n_latency" "$file.starts" -- \
        as_account env PGUSER=bench "$PGBIN/psql" -qAtXc "CALL bench.add_job_now_and_then($n_latency)" || return
    sql 'SELECT a, 1000 * extract(epoch FROM sent), 1000 * extract(epoch FROM done) FROM bench.sends' >"$file.sends"
}

pgboss_latency() {
    sql CHECKPOINT || return
    with_worker node pgboss worker "$n_latency" "$WORK/tmp/pgboss.starts" -- \
        node pgboss latency "$n_latency" "$WORK/tmp/pgboss.sends"
}

redis_latency() { python latency "$n_latency" "$WORK/tmp/$1.sends" "$WORK/tmp/$1.starts"; }

declare -A P50=()

latency_rows() { # PEER SETTINGS COMMAND...
    local gtf_done=("${from_done[@]}") gtf_sent=("${from_sent[@]}") peer_done peer_sent i p err=$WORK/tmp/$1.err

    [[ -n ${NAMES[$1]:-} ]] || return 0
    if ! "${@:3}" 2>"$err" >&2 || ! latencies "$1"; then
        left_out "${NAMES[$1]}, latency" "$(why "$err")"
        from_done=("${gtf_done[@]}") from_sent=("${gtf_sent[@]}")
        return 0
    fi
    peer_done=("${from_done[@]}") peer_sent=("${from_sent[@]}")
    gtf_latency
    WORDS[$1]+="; start: $2"
    for i in 0 1; do
        p=p$((i ? 99 : 50))
        gtf_done[i]=$(calc "(${gtf_done[i]} + ${from_done[i]}) / 2")
        gtf_sent[i]=$(calc "(${gtf_sent[i]} + ${from_sent[i]}) / 2")
        row "submitted to start, $p: ${NAMES[$1]}" "$(printf '%.3f ms' "${gtf_done[i]}")" "${peer_done[i]} ms" \
            "$(ratios "$(calc "${gtf_done[i]} / ${peer_done[i]}")"), with the submit $(printf '%.3f' "${gtf_sent[i]}") and ${peer_sent[i]} ms"
        figure latency "${NAMES[$1]}" $p "${peer_done[i]}" ms
    done
    P50[$1]="${gtf_done[0]} ${peer_done[0]}"
}

# ---------------------------------------------------------------- run

n=$(size 200000)            # tasks of gtf's drains
n_sync=$(size 60000)        # of those with a commit of each task
n_latency=$(size 500)
batches=$(size 200)
seconds=$(calc "${BENCH_QUICK:-0} == 1 ? 1 : 2")
declare -A NAMES=()         # the peers that could be installed
ORDER=(graphile pgboss celery celery_aof pgq)

say "installing what is measured"
if install_node; then
    NAMES[graphile]="graphile-worker $GRAPHILE"
    NAMES[pgboss]="pg-boss $PGBOSS"
else
    left_out "graphile-worker, pg-boss" "npm: $(why "$WORK/tmp/npm.log")"
fi
if install_celery; then
    NAMES[celery]="Celery $CELERY, Redis $REDIS_VERSION"
    NAMES[celery_aof]="Celery $CELERY, Redis appendfsync always"
else
    left_out "Celery with Redis" "its packages could not be installed"
fi
if install_pgq; then
    NAMES[pgq]="(log) PgQ $PGQ"
else
    left_out PgQ "its package could not be fetched"
fi
left_out pgmq "it is in neither Debian nor npm"

sql "ALTER SYSTEM SET max_connections = 200"
restart_server
sql 'GRANT CREATE ON DATABASE bench TO bench'
sql_file peers/setup.sql >/dev/null
set_up graphile node graphile setup
set_up pgboss node pgboss setup
set_up pgq sql 'CREATE EXTENSION pgq' 'GRANT pgq_admin TO bench' "SELECT pgq.create_queue('bench')"

solo="$CORES nodes of the solo pool, prefetch 128, no results, no gossip, mingle, heartbeat"
aof="--appendonly yes --appendfsync always"

# The best settings, several tasks in a commit.
ref
executors 8 noop
gtf_best
for _ in 1 2; do
    beside_gtf best graphile "4 processes, concurrency 24, local queue 500, batch delay 0" graphile_drain 4 24 500 $((n / 2))
    beside_gtf best graphile "2 processes, concurrency 24, local queue 500, batch delay 0" graphile_drain 2 24 500 $((n / 2))
    beside_gtf best pgboss "1 process, 4 loops of fetch and complete of 1,000" pgboss_drain 1 4 1000 $((n / 2))
    beside_gtf best pgboss "2 processes, 2 loops each of fetch and complete of 1,000" pgboss_drain 2 2 1000 $((n / 2))
done
beside_gtf best pgq "batches of 20,000, one client" pgq_drain $((2 * n))
with_redis "" beside_gtf best celery "$solo" python drain "$CORES" "$(size 5000)"

# A commit of each.
ref
executors 16 noop
setting gtf.synchronous_commit on
gtf_single
beside_gtf single graphile "2 processes, concurrency 24, no batches" graphile_drain 2 24 0 "$(size 8000)"
beside_gtf single pgboss "2 processes, 8 loops each of fetch and complete of 1" pgboss_drain 2 8 1 "$(size 5000)"
with_redis "$aof" beside_gtf single celery_aof "$solo" python drain "$CORES" "$(size 3000)"
setting gtf.synchronous_commit off
ref
REF_MEDIAN=$(median "${REFS[@]}")
peer_rows best "drain, best settings" drain "best settings"
peer_rows single "drain, a commit of each" drain "a commit of each"
figure drain "REF, in SQL" "a commit of each" "$REF_MEDIAN" tasks/s

# One at a time, nothing else to do.
executors 8 noop
gtf_latency
latency_rows graphile "as shipped, woken by NOTIFY" graphile_latency
latency_rows pgboss "woken by NOTIFY" pgboss_latency
with_redis "" latency_rows celery "1 node of the solo pool" redis_latency celery
with_redis "$aof" latency_rows celery_aof "1 node of the solo pool" redis_latency celery_aof

# Nothing runs.
gtf_submit
beside_gtf submit graphile "SQL, add_job" by_8_clients "$PEERS/graphile_submit.pgbench"
beside_gtf submit pgboss "send, 2 processes, 4 at a time each" node pgboss send 2 4 "$seconds"
beside_gtf submit pgq "SQL, insert_event" by_8_clients "$PEERS/pgq_submit.pgbench"
with_redis "" beside_gtf submit celery "apply_async, 8 processes" python submit 8 "$seconds"
with_redis "$aof" beside_gtf submit celery_aof "apply_async, 8 processes" python submit 8 "$seconds"
peer_rows submit "submit, 8 clients" submit "8 clients"

gtf_bulk
beside_gtf bulk graphile "SQL, add_jobs of 1,000" per_call 1000 "$batches" "$PEERS/graphile_bulk.pgbench"
beside_gtf bulk graphile "SQL, add_jobs of $(whole "$n")" per_call "$n" 1 "$PEERS/graphile_bulk.pgbench"
beside_gtf bulk pgboss "insert of 1,000, 2 at a time" node pgboss insert 1 2 1000 "$seconds"
beside_gtf bulk pgq "SQL, 1,000 times insert_event in a transaction" per_call 1000 "$batches" "$PEERS/pgq_bulk.pgbench"
peer_rows bulk "submit, in bulk" submit "in bulk"

# ---------------------------------------------------------------- the fastest

# Sets FASTEST to the one with the highest or lowest value, logs left aside.
fastest() { # highest|lowest PEER=VALUE...
    FASTEST=$(printf '%s\n' "${@:2}" | sort -t = -k 2g | if [[ $1 == lowest ]]; then head -n 1; else tail -n 1; fi)
    FASTEST=${FASTEST%%=*}
}

start_row() { # WHAT PEER=P50...
    local gtf_ms peer_ms ratio

    (($# > 1)) || return 0
    fastest lowest "${@:2}"
    read -r gtf_ms peer_ms <<<"${P50[$FASTEST]}"
    ratio=$(calc "$gtf_ms / $peer_ms")
    row "$1: ${NAMES[$FASTEST]}" "$(printf '%.3f ms' "$gtf_ms")" "$peer_ms ms" "$(ratios "$ratio")" \
        "${all_measured:+$ratio}" '<=' 0.1 x
}

# to be faster than those that are left out is no target
all_measured=1
for peer in graphile pgboss celery; do
    [[ -n ${BEST[best,$peer]:-} && -n ${P50[$peer]:-} ]] || all_measured=
done

queues=() p50s=() p50s_durable=()
for peer in "${ORDER[@]}"; do
    read -ra rates <<<"${RATES[best,$peer]:-}"
    [[ $peer == pgq || ${#rates[@]} == 0 ]] || queues+=("$peer=$(median "${rates[@]}")")
    [[ -z ${P50[$peer]:-} ]] || p50s+=("$peer=${P50[$peer]#* }")
    [[ -z ${P50[$peer]:-} || $peer == celery ]] || p50s_durable+=("$peer=${P50[$peer]#* }")
done
if ((${#queues[@]})); then
    fastest highest "${queues[@]}"
    read -ra ratios <<<"${RATIOS[best,$FASTEST]}"
    read -ra rates <<<"${RATES[best,$FASTEST]}"
    read -ra gtfs <<<"${GTFS[best,$FASTEST]}"
    row "the fastest at draining: ${NAMES[$FASTEST]}" "$(whole "$(median "${gtfs[@]}")")/s" "$(whole "$(median "${rates[@]}")")/s" \
        "$(ratios "${ratios[@]}")" "${all_measured:+$(median "${ratios[@]}")}" '>=' 2 x
fi
start_row "the first to start, p50" "${p50s[@]}"
start_row "the first to start of the durable, p50" "${p50s_durable[@]}"

declare -A KEEPS=(
    [graphile]="durable, deletes what has run"
    [pgboss]="durable, keeps what has run for days"
    [pgq]="durable, keeps events until its tables rotate; one position for each consumer and nothing of a single event, so not among the fastest"
    [celery]="not durable, Redis as shipped loses what came since its last snapshot; keeps nothing"
    [celery_aof]="durable until a worker takes a task; keeps nothing"
)
note "gtf: durable, keeps what has run; drain, best settings, and start: as shipped, 8 executors; a commit of each: gtf.synchronous_commit, 16 executors; in bulk: gtf_submit_many of 1,000"
for peer in "${ORDER[@]}"; do
    [[ -z ${WORDS[$peer]:-} ]] || note "${NAMES[$peer]}: ${KEEPS[$peer]}${WORDS[$peer]}"
done
