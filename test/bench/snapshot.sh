# shellcheck shell=bash
#
# The same drain while another session keeps a snapshot that is older than all
# of these tasks, and while none does.

hold_snapshot() {
    PGAPPNAME='bench snapshot' sql 'BEGIN ISOLATION LEVEL REPEATABLE READ' \
        'SELECT count(*) FROM gtf.outcomes' 'SELECT pg_sleep(3600)' >/dev/null 2>&1 &
    wait_until 10 "$SNAPSHOT_HELD"
}

release_snapshot() {
    [[ $(sql "$SNAPSHOT_HELD") == t ]] || die "the old snapshot was gone"
    sql "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE application_name = 'bench snapshot'" >/dev/null
    wait $! || true
}

SNAPSHOT_HELD="SELECT count(*) = 1 FROM pg_stat_activity
    WHERE application_name = 'bench snapshot' AND wait_event = 'PgSleep' AND backend_xmin IS NOT NULL"

n=$(size 300000)
executors 8 noop
drain noop "$n"
free=("$RATE") held=() ratio=()
for _ in 1 2; do
    before=$RATE
    hold_snapshot
    drain noop "$n"
    release_snapshot
    held+=("$RATE")
    drain noop "$n"
    free+=("$RATE")
    ratio+=("$(calc "${held[-1]} / (($before + $RATE) / 2)")")
done
row "drain under an old snapshot, beside none" "$(whole "$(median "${held[@]}")")/s" \
    "$(whole "$(median "${free[@]}")")/s" "$(ratios "${ratio[@]}")" \
    "$(median "${ratio[@]}")" '>=' 0.9 x
