# shellcheck shell=bash
#
# Tasks that do nothing, preloaded, run as fast as they go; finished tasks stay
# in the tables.  Each run is divided by the mean of the REF before and after.

# What was measured under a name.
declare -A RATES=() BESIDE=() RATIOS=()

# shellcheck disable=SC2153 # RATE is bench.sh's
beside_ref() { # NAME TYPE N [BATCH]
    local before=$REF beside

    drain "${@:2}"
    ref
    beside=$(calc "($before + $REF) / 2")
    RATES[$1]+=" $RATE"
    BESIDE[$1]+=" $beside"
    RATIOS[$1]+=" $(calc "$RATE / $beside")"
}

drain_row() { # NAME WHAT [OP TARGET]
    local rates beside ratios

    read -ra rates <<<"${RATES[$1]}"
    read -ra beside <<<"${BESIDE[$1]}"
    read -ra ratios <<<"${RATIOS[$1]}"
    row "$2" "$(whole "$(median "${rates[@]}")")/s" "REF: $(whole "$(median "${beside[@]}")")/s" "$(ratios "${ratios[@]}")" \
        ${3:+"$(median "${ratios[@]}")" "$3" "$4" x}
}

n=$(size 200000)
n_sync=$(size 60000)

executors 8 noop noop_sql insert_one
ref
beside_ref noop noop "$n"
beside_ref insert insert_one "$n"
beside_ref noop noop "$n"
beside_ref sql noop_sql "$n"
beside_ref noop noop "$n"
beside_ref scan noop "$n" "$n"

setting gtf.synchronous_commit on
beside_ref sync8 noop "$n_sync"
beside_ref sync8 noop "$n_sync"
setting gtf.synchronous_commit off
executors 16 noop
setting gtf.synchronous_commit on
beside_ref sync16 noop "$n_sync"
beside_ref sync16 noop "$n_sync"

drain_row noop "drain, plpgsql no-op, 8 executors" '>=' 25
drain_row insert "drain, plpgsql body inserts a row" '>=' 20
drain_row sql "drain, SQL function no-op"
drain_row scan "drain, all of one transaction"
drain_row sync8 "drain, synchronous_commit, 8 executors"
drain_row sync16 "drain, synchronous_commit, 16 executors" '>=' 4
