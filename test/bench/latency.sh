# shellcheck shell=bash
#
# One client, nothing else to do.  When a transaction committed is what the
# server itself has noted (track_commit_timestamp): the moment its commit record
# was made, before it was flushed, so the flush counts as part of the latency.

n=$(size 1000)

# p50 and p99 in ms of a statement that is sent 200 times a second, as the
# client sees it.
client_ms() { # SCRIPT
    rm -f "$WORK/tmp/latency".*
    pgbench_tps "$1" 1 -R 200 -t "$n" -l --log-prefix="$WORK/tmp/latency" >/dev/null
    # time and schedule lag, in us
    awk '{ print ($3 - $7) / 1000 }' "$WORK/tmp/latency".* | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.3f %.3f\n", v[int(NR * 0.5 + 0.5)], v[int(NR * 0.99 + 0.5)] }'
}

sql 'ALTER SYSTEM SET track_commit_timestamp = on'
restart_server
executors 8 noop
setting gtf.enabled on
sql CHECKPOINT

read -r commit_50_a commit_99_a <<<"$(client_ms "$BENCH/insert.pgbench")"

before=$(sql 'SELECT id FROM gtf.tasks ORDER BY id DESC LIMIT 1')
pgbench_tps "$BENCH/submit_pause.pgbench" 1 -t "$n" >/dev/null
sleep 0.2
read -r start_50 start_99 <<<"$(sql "
    SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 3),
        round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))::numeric, 3)
    FROM gtf.tasks t JOIN gtf.outcomes o ON o.task_id = t.id,
        LATERAL (SELECT extract(epoch FROM o.started_at - pg_xact_commit_timestamp(t.xmin)) * 1000 AS ms) l
    WHERE t.id > '$before'")"

read -r commit_50_b commit_99_b <<<"$(client_ms "$BENCH/insert.pgbench")"
read -r wait_50 wait_99 <<<"$(client_ms "$BENCH/wait.pgbench")"
read -r commit_50_c commit_99_c <<<"$(client_ms "$BENCH/insert.pgbench")"

first_50=$(calc "($commit_50_a + $commit_50_b) / 2") first_99=$(calc "($commit_99_a + $commit_99_b) / 2")
second_50=$(calc "($commit_50_b + $commit_50_c) / 2") second_99=$(calc "($commit_99_b + $commit_99_c) / 2")
row "commit to start, p50 (reference: bare INSERT)" "$start_50 ms" "$(printf '%.3f ms' "$first_50")" \
    "$(printf '%+.3f ms' "$(calc "$start_50 - $first_50")")" "$start_50" '<' 0.5 ' ms'
row "commit to start, p99" "$start_99 ms" "$(printf '%.3f ms' "$first_99")" ""
row "submit and wait until it has ended, p50" "$wait_50 ms" "$(printf '%.3f ms' "$second_50")" \
    "$(ratios "$(calc "$wait_50 / $second_50")")"
row "submit and wait until it has ended, p99" "$wait_99 ms" "$(printf '%.3f ms' "$second_99")" ""

sql 'ALTER SYSTEM RESET track_commit_timestamp'
restart_server
