# shellcheck shell=bash
#
# One task at a time is cancelled while it sleeps, nothing else to do.

n=$(size 300)

# p50 and p99 in ms from a moment of the last cancels until the body knew.
stops_ms() { # MOMENT
    sql "SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 3),
            round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))::numeric, 3)
        FROM (SELECT 1000 * extract(epoch FROM s.at - c.$1) AS ms
            FROM bench.commits c JOIN bench.stops s USING (id)) x"
}

cancel_row() { # WHAT TYPE
    local after_50 after_99 before_50 before_99

    PGUSER=bench sql "CALL bench.cancel_now_and_then('$2', $n)"
    wait_until 20 "SELECT count(*) = $n FROM bench.stops"
    read -r after_50 after_99 <<<"$(stops_ms 'done')"
    read -r before_50 before_99 <<<"$(stops_ms 'sent')"
    row "$1, p50" "$after_50 ms" "$backend_50 ms" "$before_50 ms from sending COMMIT"
    row "$1, p99" "$after_99 ms" "$backend_99 ms" "$before_99 ms from sending COMMIT" "$after_99" '<=' 20 ' ms'
}

executors 8 noop
setting gtf.enabled on
sql CHECKPOINT

# what the server needs for it: pg_cancel_backend() of an ordinary session
PGUSER=bench PGAPPNAME='bench cancelled' sql "CALL bench.be_cancelled($n)" &
PGUSER=bench sql "CALL bench.cancel_backend_now_and_then('bench cancelled', $n)"
wait $!
read -r backend_50 backend_99 <<<"$(stops_ms 'done')"

cancel_row "cancel to abort handler, body in gtf_sleep" sleeper
cancel_row "cancel to abort handler, statements of 1 ms" short_statements
cancel_row "cancel to interrupted statement" long_statement
