#!/usr/bin/env bash
#
# bench.sh - make bench: what gtf does in a second, beside what plain SQL does
#
#   make bench                  every part but peers, about eight minutes
#   make bench T=drain          only that part; T="wal submit": these
#   make bench T=peers          the one that is not among them: other queues
#
# From the environment:
#
#   BENCH_FULL=1    big: 10 M finished and 1 M pending tasks (1 M, 100 k)
#   BENCH_QUICK=1   a tenth of everything: does the script work?
#   BENCH_README=1  write the tables into README.md and docs/performance.md, and
#                   docs/bench-*.svg; only of every part, or of peers
#   KEEP=1          leave the work folder behind
#
# Parts are the files test/bench/*.sh; they use what is defined here.  Each one
# has a database of its own in one temporary server.  What is measured, and how
# to read it: test/bench/README.md.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=15
PARTS=(drain submit wal snapshot memory latency cancel progress waiters curves big)

read -ra parts <<<"${T:-${PARTS[*]}}"
for part in "${parts[@]}"; do
    [[ $part =~ ^[a-z]+$ && -e $ROOT/test/bench/$part.sh ]] ||
        die "no such part: $part (there are: $(cd "$ROOT/test/bench" && echo ./*.sh | sed 's,\./,,g; s,\.sh,,g'))"
done

[[ ${BENCH_README:-} != 1 || ${BENCH_QUICK:-} != 1 && (${parts[*]} == "${PARTS[*]}" || ${parts[*]} == peers) ]] ||
    die "BENCH_README is for complete runs, and for T=peers"

need_server $VERSION
make_work

BENCH=$WORK/src/test/bench
DATA=$WORK/data
TABLE=$WORK/tmp/table       # rows for the end
NOTES=$WORK/tmp/notes       # lines below them
FIGURES=$WORK/tmp/figures.tsv
CORES=$(nproc)
REF_CLIENTS=                # set by the first ref
REF=                        # result of ref
REFS=()                     # all of them
LOAD=                       # of load
RATE=                       # of run_loaded and drain
: >"$TABLE"
: >"$NOTES"
: >"$FIGURES"

# ---------------------------------------------------------------- numbers

size() { # N: a tenth if quick
    echo $(($1 / (${BENCH_QUICK:-0} == 1 ? 10 : 1)))
}

calc() { awk "BEGIN { printf \"%.6g\", ($1) }"; }

median() {
    printf '%s\n' "$@" | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.6g", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

lowest() { printf '%s\n' "$@" | sort -g | head -n 1; }
highest() { printf '%s\n' "$@" | sort -g | tail -n 1; }

# 85123.4 -> 85,123
whole() { printf '%.0f' "$1" | sed ':a; s/\B[0-9]\{3\}\>/,&/; ta'; }

# median of ratios and their range: 15.2x (14.1-16.0)
ratios() {
    printf '%.3gx' "$(median "$@")"
    (($# == 1)) || printf ' (%.3g-%.3g)' "$(lowest "$@")" "$(highest "$@")"
}

# One row of the table.  With a target, MEASURED is compared with it; TEXT is
# what the row shows of it.
row() { # WHAT GTF REFERENCE TEXT [MEASURED OP TARGET UNIT]
    local verdict='' target=''

    if [[ -n ${5:-} ]]; then
        target="$6 $7${8:-}"
        verdict=missed
        [[ $(calc "$5 $6 $7") != 1 ]] || verdict=met
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$target" "$verdict" >>"$TABLE"
    printf '   %s: %s | %s | %s %s\n' "$1" "$2" "${3:--}" "$4" "$verdict"
}

# One point of a plot: docs/bench-PLOT.svg, see tools/bench_plot.
figure() { # PLOT SERIES X VALUE UNIT
    printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$FIGURES"
}

# ---------------------------------------------------------------- server

sql() { # QUERY...
    local q args=()

    for q in "$@"; do args+=(-c "$q"); done
    as_account "$PGBIN/psql" -qAtX -F ' ' -v ON_ERROR_STOP=1 "${args[@]}"
}

sql_file() { # FILE [PSQL-OPTION...]
    as_account "$PGBIN/psql" -qAtX -F ' ' -v ON_ERROR_STOP=1 -f "$BENCH/$1" "${@:2}"
}

# Workers that sleep read it at once; what is submitted next comes later.
setting() { # NAME VALUE
    sql "ALTER SYSTEM SET $1 = '$2'" 'SELECT pg_reload_conf(), pg_sleep(0.1)' >/dev/null
}

# An empty database with the extension and the task types.
fresh_database() {
    setting gtf.enabled off
    setting gtf.synchronous_commit off
    PGDATABASE=postgres sql 'DROP DATABASE IF EXISTS bench' 'CREATE DATABASE bench' 2>/dev/null
    export PGDATABASE=bench
    sql_file setup.sql >/dev/null
    sql CHECKPOINT # what the part before has left to write
}

restart_server() {
    stop_cluster "$DATA"
    start_cluster "$DATA"
    export PGDATABASE=bench
}

wait_until() { # SECONDS QUERY: until it shows t
    local i

    for ((i = 0; i < $1 * 10; i++)); do
        [[ $(sql "$2") != t ]] || return 0
        sleep 0.1
    done
    die "waited $1 s in vain for: $2"
}

# Until the dispatcher has read all there is: its processor time stands still.
settle() {
    local pid ticks before=-1

    pid=$(sql "SELECT pid FROM gtf.workers WHERE kind = 'dispatcher'")
    while ticks=$(sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 }'); [[ $ticks != "$before" ]]; do
        before=$ticks
        sleep 0.2
    done
}

pgbench_tps() { # SCRIPT CLIENTS OPTION...: transactions per second
    local jobs=$(($2 < CORES ? $2 : CORES))

    as_account "$PGBIN/pgbench" -n -M prepared -U bench -c "$2" -j "$jobs" -f "$1" "${@:3}" 2>"$WORK/tmp/pgbench.err" |
        tee "$WORK/tmp/pgbench.out" | awk '/^tps/ { print $3 }'
    grep -q 'failed transactions: 0 ' "$WORK/tmp/pgbench.out" || {
        cat "$WORK/tmp/pgbench.err" >&2
        die "pgbench failed: $1"
    }
}

# ---------------------------------------------------------------- the reference

ref_once() { # CLIENTS
    sql_file ref.sql -U bench >/dev/null
    sql CHECKPOINT
    pgbench_tps "$BENCH/ref.pgbench" "$1" -t $(($(size 16000) / $1))
}

# REF: jobs per second of a queue in plain SQL, see ref.pgbench.  Sets REF and
# adds it to REFS.  The first call finds out the best number of clients.
ref() {
    local c tps

    if [[ -z $REF_CLIENTS ]]; then
        REF=0
        for c in 4 8 16 32; do
            tps=$(ref_once $c)
            say "REF with $c clients: $(whole "$tps") jobs/s"
            if [[ $(calc "$tps > $REF") == 1 ]]; then
                REF=$tps REF_CLIENTS=$c
            fi
        done
    fi
    REF=$(ref_once "$REF_CLIENTS")
    REFS+=("$REF")
}

# ---------------------------------------------------------------- draining

preload() { # TYPE N [BATCH]
    sql_file preload.sql -U bench -v type="$1" -v n="$2" -v batch="${3:-1000}"
}

executor_count() { sql "SELECT count(*) FROM gtf.workers WHERE kind = 'executor'"; }

# Exactly N executors, which have run each of these task types.
executors() { # N TYPE...
    local n=$1 type i

    setting gtf.max_executors "$n"
    if (($(executor_count) > n)); then
        setting gtf.executor_idle_timeout 1
        wait_until 20 "SELECT count(*) = 0 FROM gtf.workers WHERE kind = 'executor'"
        setting gtf.executor_idle_timeout 600
    fi
    setting gtf.enabled on
    for i in {1..20}; do
        for type in "${@:2}"; do
            load "$type" 4000
            wait_loaded
        done
        (($(executor_count) < n)) || break
    done
    setting gtf.enabled off
    (($(executor_count) == n)) || die "there are $(executor_count) executors, not $n"
}

# Submits tasks that do not start yet: sets LOAD to "BEFORE LAST N".  In usual
# transactions the dispatcher gets them through shared memory; it has to look
# for the tasks of a big one in the table.
load() { # TYPE N [BATCH]
    LOAD=$(preload "$@")
    LOAD+=" $2"
    settle
}

# Until these tasks have succeeded.  Nobody polls while they run.
wait_loaded() {
    local before last n i done=0

    read -r before last n <<<"$LOAD"
    sql "CALL gtf_wait('$last', '10 min')" >/dev/null
    for i in {1..100}; do
        done=$(sql "SELECT count(*) FROM gtf.outcomes WHERE task_id > '$before' AND task_id <= '$last' AND status = 's'")
        ((done < n)) || return 0
        sleep 0.1
    done
    die "only $done of $n tasks have succeeded"
}

# Runs what load has left: sets RATE to tasks per second.  The clock is that of
# the rows, from the first start to the last end.
run_loaded() {
    local before last n

    read -r before last n <<<"$LOAD"
    sql CHECKPOINT
    setting gtf.enabled on
    wait_loaded
    setting gtf.enabled off
    RATE=$(sql "SELECT $n / extract(epoch FROM max(ended_at) - min(started_at))
        FROM gtf.outcomes WHERE task_id > '$before' AND task_id <= '$last'")
}

drain() { # TYPE N [BATCH]
    load "$@"
    run_loaded
}

# ---------------------------------------------------------------- run

# The disk, by PostgreSQL's own test, of which the second line is enough.
fdatasync_rate() {
    as_account timeout 4 "$PGBIN/pg_test_fsync" -s 1 -f "$WORK/tmp/fsync" 2>/dev/null |
        awk '$1 == "fdatasync" { printf "%.0f", $2; exit }' || true
}

# Share of the processors that other programs leave, during half a second.
idle_percent() {
    { head -n 1 /proc/stat && sleep 0.5 && head -n 1 /proc/stat; } |
        awk '{ t = 0; for (i = 2; i <= 9; i++) t += $i; if (NR == 1) { i0 = $5 + $6; t0 = t }
               else printf "%.0f", 100 * ($5 + $6 - i0) / (t - t0) }'
}

say "building"
copy_tree "$WORK/src"
make_prefix $VERSION "$WORK/pg$VERSION"
build_install "$WORK/src"
init_cluster "$DATA" "$BENCH/server.conf"
start_cluster "$DATA"
sql 'CREATE ROLE bench LOGIN' 'ALTER ROLE bench SET gtf.enabled = on'
fsync_before=$(fdatasync_rate)

idle=()
for part in "${parts[@]}"; do
    fresh_database
    idle+=("$(idle_percent)")
    say "$part ($(date +%T), ${idle[-1]} % idle before)"
    # any of them, they use the same variables of ours
    # shellcheck source=test/bench/drain.sh
    . "$BENCH/$part.sh"
done

fsync_after=$(fdatasync_rate)
if grep -E "$BUG|was terminated by signal" "$DATA.log"; then
    die "the server's log shows a bug"
fi

# ---------------------------------------------------------------- results

# Rows for README.md, where the table has to be short.
TELLING='^(drain, plpgsql|drain, synchronous_commit, 16|gtf_submit, clients: 8|gtf_submit_many|WAL of a task|drain of .* under an old snapshot|from COMMIT to start, p50|cancel to abort handler, body in gtf_sleep, p99|restart to first start|page of 50, newest)'

conditions() {
    echo "$("$PG_CONFIG" --version | sed 's/ (.*//'), $CORES cores ($(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)), $(lowest "${idle[@]}") to $(highest "${idle[@]}") % idle before each part; fdatasync $(whole "${fsync_before:-0}")/s before, $(whole "${fsync_after:-0}")/s after."
}

# The table in Markdown, as it is in the documentation.
results() { # TABLE
    awk -F '\t' '
        BEGIN { cell[0, 1] = "measurement"; cell[0, 2] = "gtf"; cell[0, 3] = "beside it"
                cell[0, 4] = "result"; cell[0, 5] = "target" }
        { for (c = 1; c <= 5; c++) cell[NR, c] = $c }
        $6 != "" { cell[NR, 5] = $5 ": " $6 }
        END {
            for (r = 0; r <= NR; r++) for (c = 1; c <= 5; c++)
                if (length(cell[r, c]) > width[c]) width[c] = length(cell[r, c])
            for (r = 0; r <= NR; r++) {
                line = "|"
                for (c = 1; c <= 5; c++)
                    line = line sprintf(c == 2 || c == 3 ? " %" width[c] "s |" : " %-" width[c] "s |", cell[r, c])
                print line
                if (r > 0) continue
                line = "|"
                for (c = 1; c <= 5; c++) {
                    rule = sprintf("%" width[c] + 2 "s", "")
                    gsub(/ /, "-", rule)
                    if (c == 2 || c == 3) sub(/-$/, ":", rule)
                    line = line rule "|"
                }
                print line
            }
        }' "$1"
    echo
    [[ ! -s $NOTES ]] || cat "$NOTES" <(echo)
    ((${#REFS[@]} == 0)) ||
        echo "REF is a queue in plain SQL, claim and complete, by $REF_CLIENTS clients: $(whole "$(median "${REFS[@]}")") jobs/s ($(whole "$(lowest "${REFS[@]}")") to $(whole "$(highest "${REFS[@]}")"), ${#REFS[@]} runs)."
    conditions
}

results "$TABLE" >"$WORK/tmp/results"
echo
cat "$WORK/tmp/results"
echo
(($(lowest "${idle[@]}") >= 80)) || echo "BUSY MACHINE: other programs took part of it, do not trust the figures"
[[ ${BENCH_QUICK:-} != 1 ]] || echo "BENCH_QUICK: too small to mean anything"

# Into a file, between two comments.
put_results() { # RESULTS FILE [COMMENT]
    awk -v results="$1" -v first="<!-- ${3:-make bench} -->" -v last="<!-- end of ${3:-make bench} -->" '
        $0 == last { skip = 0 }
        !skip
        $0 == first { while ((getline line <results) > 0) print line; skip = 1 }
        ' "$ROOT/$2" >"$WORK/tmp/page"
    cat "$WORK/tmp/page" >"$ROOT/$2"
}

# A plot below each comment that names one, if it was drawn.
put_plots() { # FILE
    awk -v folder="$ROOT/docs" '
        !(/^!\[/ && plotted)
        { plotted = 0 }
        match($0, /^<!-- plot [a-z_]+: .* -->$/) {
            plotted = 1
            name = $3
            sub(/:$/, "", name)
            sub(/^<!-- plot [a-z_]+: /, "")
            sub(/ -->$/, "")
            if ((getline line <(folder "/bench-" name ".svg")) > 0)
                print "![" $0 "](bench-" name ".svg)"
        }' "$ROOT/$1" >"$WORK/tmp/page"
    cat "$WORK/tmp/page" >"$ROOT/$1"
}

if [[ ${BENCH_README:-} == 1 && ${parts[*]} == peers ]]; then
    put_results "$WORK/tmp/results" docs/performance.md 'make bench T=peers'
elif [[ ${BENCH_README:-} == 1 ]]; then
    put_results "$WORK/tmp/results" docs/performance.md
    grep -E "$TELLING" "$TABLE" >"$TABLE.short" || true
    results "$TABLE.short" >"$WORK/tmp/short"
    put_results "$WORK/tmp/short" README.md
fi
if [[ ${BENCH_README:-} == 1 ]]; then
    "$ROOT/tools/bench_plot" "$FIGURES" "$ROOT/docs" "$(conditions)"
    put_plots docs/performance.md
    say "the tables are in the documentation, the plots in docs/"
fi
awk -F '\t' -v t="$SECONDS" '$6 == "met" { met++ } $6 == "missed" { missed++ }
    END { printf "%d met, %d missed, %d min %d s\n", met, missed, t / 60, t % 60 }' "$TABLE"
