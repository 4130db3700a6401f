# shellcheck shell=bash
#
# A long history and a long queue: how soon the first task starts after a
# restart, how fast the queue drains, what the dispatcher needs, how long the
# pages of lists take, and what it takes to remove the history.

if [[ ${BENCH_FULL:-} == 1 ]]; then
    finished=10000000 pending=1000000
else
    finished=$(size 1000000) pending=$(size 100000)
fi
history="$(whole "$finished") finished"

dispatcher_pid() { sql "SELECT pid FROM gtf.workers WHERE kind = 'dispatcher'"; }

# Its largest private memory while it goes on, in a file.
watch_dispatcher() {
    local kb largest=0 pid

    while pid=$(dispatcher_pid) && [[ -z $pid ]]; do sleep 0.1; done
    while kb=$(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [[ -n $kb ]]; do
        ((kb <= largest)) || echo "$kb" >"$WORK/tmp/dispatcher"
        ((kb <= largest)) || largest=$kb
        sleep 0.1
    done
}

# Restart with PENDING tasks: sets FIRST to the seconds until one has started,
# RATE, and MEMORY to the dispatcher's.
drain_after_restart() {
    local watcher before last n

    rm -f "$WORK/tmp/dispatcher"
    load noop "$pending" 100000
    sql "ALTER SYSTEM SET gtf.enabled = 'on'" # takes effect with the restart
    restart_server
    watch_dispatcher &
    watcher=$!
    wait_loaded
    setting gtf.enabled off
    kill $watcher 2>/dev/null || true
    wait $watcher 2>/dev/null || true
    [[ -s $WORK/tmp/dispatcher ]] || die "the dispatcher's memory was not seen"
    MEMORY=$(<"$WORK/tmp/dispatcher")
    read -r before last n <<<"$LOAD"
    read -r FIRST RATE <<<"$(sql "SELECT extract(epoch FROM min(started_at) - pg_postmaster_start_time()),
            $n / extract(epoch FROM max(ended_at) - min(started_at))
        FROM gtf.outcomes WHERE task_id > '$before' AND task_id <= '$last'")"
}

# ------------------------------------------------ restart and drain

drain_after_restart
empty_first=$FIRST empty_rate=$RATE empty_memory=$MEMORY
fresh_database

say "loading $history and $(whole "$pending") pending tasks"
sql 'CALL bench.create_roles(2)'
# the oldest: some that are not due for days, some of a rare type, some shared
PGUSER=bench sql "CALL bench.submit_oldest()"
PGUSER=bench_2 sql "CALL bench.join_oldest()"
for ((i = 0; i < finished; i += 100000)); do
    preload "$( ((i / 100000 % 2)) && echo noop_sql || echo noop)" 100000 100000 >/dev/null
done
# one in a thousand has failed
sql "INSERT INTO gtf.outcomes (task_id, started_at, ended_at, attempt, worker, status, error_message, exception_type)
    SELECT id, created_at, created_at, 1, 1, CASE WHEN failed THEN 'f' ELSE 's' END,
        CASE WHEN failed THEN 'boom' END, CASE WHEN failed THEN 'raise_exception' END
    FROM (SELECT *, row_number() OVER (ORDER BY id) % 1000 = 0 AS failed FROM gtf.tasks WHERE run_at IS NULL) t
    ORDER BY id" 'VACUUM ANALYZE gtf.tasks' 'VACUUM ANALYZE gtf.outcomes'
drain_after_restart

what="$history + $(whole "$pending") pending tasks"
row "restart to first start, $what (beside: no history)" "$(printf '%.1f s' "$FIRST")" "$(printf '%.1f s' "$empty_first")" \
    "" "$FIRST" '<=' 5 ' s'
row "drain of these, beside no history" "$(whole "$RATE")/s" "$(whole "$empty_rate")/s" \
    "$(ratios "$(calc "$RATE / $empty_rate")")" "$(calc "$RATE / $empty_rate")" '>=' 0.9 x
row "memory of the dispatcher, beside no history" "$(whole "$MEMORY") kB" "$(whole "$empty_memory") kB" "" \
    "$(calc "$MEMORY / 1024")" '<=' 96 ' MB'

# ------------------------------------------------ pages

page() { # ROLE WHAT QUERY [TARGET]
    local first again

    # a new session each time
    read -r first again <<<"$(PGUSER=$1 sql "SELECT * FROM bench.page_ms('${3//\'/\'\'}', 20)")"
    row "page of 50, $2" "$again ms" "" "first time $first ms" ${4:+"$again" '<=' "$4" ' ms'}
}

fifty='SELECT * FROM gtf_iter_tasks(50'
behind=$(sql "SELECT id FROM gtf_iter_tasks(1, row_offset => 999)")
restart_server # what is first finds nothing in the server's memory
page postgres "newest of $(whole $((finished + pending)))" "$fifty)" 10
page postgres "the next ones behind a row" "$fifty, after => '$behind')" 10
page postgres "gtf.task_info ORDER BY id DESC LIMIT 50" 'SELECT * FROM gtf.task_info ORDER BY id DESC LIMIT 50' 10
page postgres "status failure" "$fifty, status => '{failure}')" 10
page postgres "status aborted, there are none" "$fifty, status => '{aborted}')" 10
page postgres "status in_progress, there are none" "$fifty, status => '{in_progress}')" 10
page postgres "a type that half of them have" "$fifty, task_type => 'noop_sql')" 10
page postgres "a type of the oldest 1,000" "$fifty, task_type => 'insert_one')" 10
page postgres "failures of a type" "$fifty, task_type => 'noop_sql', status => '{failure}')" 10
page bench "as the owner of all, no administrator" "$fifty)" 10
page bench_2 "as a subscriber of the oldest 1,000" "$fifty)" 10
pending_ms() { sql "SELECT first FROM bench.page_ms('$fifty, status => ''{pending}'')', 0)"; }
ms=$(pending_ms)
row "page of 50, status pending, three behind all that ended, the first such list" "$ms ms" "" ""
# the dispatcher lets some seconds pass before it knows that nothing older can come
for i in {1..20}; do
    (($(printf '%.0f' "$(pending_ms)") > 100)) || break
    sleep 0.5
done
page postgres "status pending, as above" "$fifty, status => '{pending}')" 10

# ------------------------------------------------ prune

all=$(sql 'SELECT count(*) FROM gtf.outcomes')
sql CHECKPOINT
clock=$(sql 'SELECT extract(epoch FROM clock_timestamp())')
pruned=$(sql "CALL gtf_prune('0')")
seconds=$(sql "SELECT extract(epoch FROM clock_timestamp()) - $clock")
[[ $pruned == "$all" ]] || die "gtf_prune removed $pruned of $all tasks"
row "gtf_prune of all $(whole "$pruned")" "$(printf '%.1f s' "$seconds")" "" "$(whole "$(calc "$pruned / $seconds")")/s"
