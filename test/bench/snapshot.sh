# shellcheck shell=bash
#
# The same drain while another session keeps a snapshot that is older than all
# of these tasks, and while none does.  Somebody goes on submitting meanwhile.

# Sessions that do one thing until they are ended.  Sets SESSION.
begin_session() { # NAME READY QUERY...
    PGAPPNAME=$1 sql "${@:3}" >/dev/null 2>&1 &
    SESSION=$!
    wait_until 10 "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$1' AND $2"
}

end_session() { # NAME READY PID
    [[ $(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name = '$1' AND $2") == 1 ]] ||
        die "there is no session $1"
    sql "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = '$1'" >/dev/null
    wait "$3" || true
}

HELD="wait_event = 'PgSleep' AND backend_xmin IS NOT NULL"

hold_snapshot() {
    begin_session 'bench snapshot' "$HELD" 'BEGIN ISOLATION LEVEL REPEATABLE READ' \
        'SELECT count(*) FROM gtf.outcomes' 'SELECT pg_sleep(3600)'
    holder=$SESSION
}

release_snapshot() { end_session 'bench snapshot' "$HELD" "$holder"; }

# A drain while tasks are submitted, 200 times in a second or so.
drain_and_submit() { # N
    local submitter

    load noop "$1"
    PGUSER=bench begin_session 'bench submits' true 'CALL bench.go_on_submitting()'
    submitter=$SESSION
    run_loaded
    end_session 'bench submits' true "$submitter"
}

n=$(size 1000000)
executors 8 noop
drain_and_submit "$n"
before=$RATE
hold_snapshot
drain_and_submit "$n"
release_snapshot
held=$RATE
drain_and_submit "$n"
free=$(calc "($before + $RATE) / 2")
ratio=$(calc "$held / $free")
row "drain of $(whole "$n") under an old snapshot, beside none" "$(whole "$held")/s" "$(whole "$free")/s" \
    "$(ratios "$ratio")" "$ratio" '>=' 0.9 x
