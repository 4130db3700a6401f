# shellcheck shell=bash
#
# A thousand sessions wait, each for a task of its own that is not due yet:
# what does that cost, and how soon do they know when the tasks have ended?

waiters=$(size 1000)

# Start all sessions; the tasks are due from AT seconds on, one every GAP ms.
start_waiting() { # AT GAP
    rm -f "$WORK/tmp/waiters".*
    PGUSER=bench sql "CALL bench.submit_for_waiters($waiters, $1, $2)"
    # -l writes when each transaction has ended.  There are two, because backends
    # that exit are in the way of those that wake up.
    pgbench_tps "$BENCH/waiting.pgbench" "$waiters" -t 2 -l --log-prefix="$WORK/tmp/waiters" >"$WORK/tmp/waiters.tps" &
    WAITING=$!
    wait_until 60 "SELECT count(*) = $waiters FROM pg_stat_activity
        WHERE application_name = 'pgbench' AND query LIKE 'CALL gtf_wait%' AND state = 'active' AND wait_event = 'Extension'"
}

# The processor time of all these backends, in ticks.
waiters_ticks() {
    sql "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'" |
        sed 's,.*,/proc/&/stat,' | xargs cat | sed 's/.*) //' | awk '{ t += $12 + $13 } END { print t + 0 }'
}

# p50 and p99 in ms from the end of the tasks to the end of the waits, by the
# clock of this machine, which both have.
wakes_ms() {
    cat "$WORK/tmp/waiters".[0-9]* | awk '!seen[$1]++ { printf "%d\t%s.%06d\n", $1, $5, $6 }' |
        sql 'CREATE TEMP TABLE woken (n int, at float8)' '\copy woken FROM PSTDIN' \
            "SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 3),
                round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))::numeric, 3)
            FROM (SELECT 1000 * (at - extract(epoch FROM ended_at)) AS ms
                FROM woken JOIN bench.waiting USING (n) JOIN gtf.outcomes ON task_id = id) x
            HAVING count(*) = $waiters" >"$WORK/tmp/wakes"
    [[ -s $WORK/tmp/wakes ]] || die "not all have waited"
    cat "$WORK/tmp/wakes"
}

limit=$(ulimit -Sn)
ulimit -Sn "$(ulimit -Hn)" # a socket each
setting max_connections $((waiters + 100))
restart_server
executors 8 noop
setting gtf.enabled on

start_waiting 20 5
seconds=4
ticks=$(waiters_ticks)
snapshots=0
for ((i = 0; i < seconds * 2; i++)); do
    held=$(sql "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'pgbench' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)")
    ((held <= snapshots)) || snapshots=$held
    sleep 0.5
done
ticks=$(($(waiters_ticks) - ticks))
[[ $(sql "SELECT min(run_at) > clock_timestamp() FROM bench.waiting JOIN gtf.tasks USING (id)") == t ]] ||
    die "it took too long until all were waiting"
cpu=$(calc "1000 * $ticks / $(getconf CLK_TCK) / $seconds")
wait "$WAITING"
read -r spread_50 spread_99 <<<"$(wakes_ms)"

start_waiting 15 0
wait "$WAITING"
read -r burst_50 burst_99 <<<"$(wakes_ms)"

row "$(whole "$waiters") waiters, tasks idle: processor time" "$cpu ms/s" "" "$seconds s" "$cpu" '<=' 1 ' ms/s'
row "$(whole "$waiters") waiters, tasks idle: snapshots held" "$snapshots" "" "" "$snapshots" '<=' 0
row "from the end of a task to its waiter, one each 5 ms, p50" "$spread_50 ms" "" ""
row "from the end of a task to its waiter, one each 5 ms, p99" "$spread_99 ms" "" "" "$spread_99" '<=' 50 ' ms'
row "from the end of a task to its waiter, all at once, p50" "$burst_50 ms" "" ""
row "from the end of a task to its waiter, all at once, p99" "$burst_99 ms" "" ""

sql 'ALTER SYSTEM RESET max_connections'
ulimit -Sn "$limit"
restart_server
