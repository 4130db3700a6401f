# shellcheck shell=bash
#
# One client, a commit every 5 ms, nothing else to do.

n=$(size 1000)

# p50 and p99 in ms of an expression over the commits of the last run.
commits_ms() { # EXPRESSION
    sql "SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 3),
            round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))::numeric, 3)
        FROM (SELECT 1000 * extract(epoch FROM $1) AS ms
            FROM bench.commits c LEFT JOIN gtf.outcomes o ON o.task_id = c.id) x"
}

# The same of a statement that is sent 200 times a second, as pgbench sees it.
client_ms() { # SCRIPT
    rm -f "$WORK/tmp/latency".*
    pgbench_tps "$1" 1 -R 200 -t "$n" -l --log-prefix="$WORK/tmp/latency" >/dev/null
    # duration and, part of it, how late it was sent; in us
    awk '{ print ($3 - $7) / 1000 }' "$WORK/tmp/latency".* | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.3f %.3f\n", v[int(NR * 0.5 + 0.5)], v[int(NR * 0.99 + 0.5)] }'
}

executors 8 noop
setting gtf.enabled on
sql CHECKPOINT

# how long a COMMIT takes that has nothing to do with gtf
sql "CALL bench.commit_now_and_then($n, false)"
read -r commit_50 commit_99 <<<"$(commits_ms 'c.done - c.sent')"

PGUSER=bench sql "CALL bench.commit_now_and_then($n, true)"
sleep 0.5
read -r after_50 after_99 <<<"$(commits_ms 'o.started_at - c.done')"
read -r before_50 before_99 <<<"$(commits_ms 'o.started_at - c.sent')"

sql "CALL bench.commit_now_and_then($n, false)"
read -r commit_50_b commit_99_b <<<"$(commits_ms 'c.done - c.sent')"

read -r insert_50 insert_99 <<<"$(client_ms "$BENCH/insert.pgbench")"
read -r wait_50 wait_99 <<<"$(client_ms "$BENCH/wait.pgbench")"
read -r insert_50_b insert_99_b <<<"$(client_ms "$BENCH/insert.pgbench")"

mean_ms() { printf '%.3f ms' "$(calc "($1 + $2) / 2")"; }

row "from COMMIT to start, p50 (beside: COMMIT)" "$after_50 ms" "$(mean_ms "$commit_50" "$commit_50_b")" \
    "$before_50 ms from sending COMMIT" "$after_50" '<=' 0.1 ' ms'
row "from COMMIT to start, p99" "$after_99 ms" "$(mean_ms "$commit_99" "$commit_99_b")" \
    "$before_99 ms from sending COMMIT" "$after_99" '<=' 2 ' ms'
ratio=$(calc "$wait_50 * 2 / ($insert_50 + $insert_50_b)")
row "submit and wait for the end, p50 (beside: INSERT)" "$wait_50 ms" "$(mean_ms "$insert_50" "$insert_50_b")" \
    "$(ratios "$ratio")" "$ratio" '<=' 3 x
row "submit and wait for the end, p99" "$wait_99 ms" "$(mean_ms "$insert_99" "$insert_99_b")" ""
