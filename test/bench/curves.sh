# shellcheck shell=bash
#
# How the rates change with the number of executors, of keys and of owners.

# What was submitted by a call, as load leaves it.
load_by_call() { # N QUERY...
    local before

    before=$(sql "$LAST_ID")
    sql 'SET gtf.enabled = on' "${@:2}"
    # shellcheck disable=SC2034 # of bench.sh
    LOAD="$before $(sql "$LAST_ID") $1"
    settle
}

LAST_ID="SELECT coalesce((SELECT id FROM gtf.tasks ORDER BY id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000')"

# ------------------------------------------------ executors

n=$(size 200000)
rates=()
for count in 1 2 4 8 16; do
    executors $count noop
    drain noop "$n"
    rates+=("$(whole "$RATE")")
    figure executors "group commit" $count "$RATE" tasks/s
done
row "drain, 1, 2, 4, 8, 16 executors, tasks/s" "$(printf '%s\n' "${rates[@]}" | paste -sd ' ')" "" ""

setting gtf.synchronous_commit on
rates=()
for count in 16 8 4 2 1; do
    executors $count noop
    drain noop "$(size $((5000 * (count < 4 ? 4 : count))))"
    rates=("$(whole "$RATE")" "${rates[@]}")
    figure executors "gtf.synchronous_commit" $count "$RATE" tasks/s
done
setting gtf.synchronous_commit off
row "the same with gtf.synchronous_commit" "$(printf '%s\n' "${rates[@]}" | paste -sd ' ')" "" ""

# ------------------------------------------------ keys

# Eight clients submit under so many keys, at random, while tasks are run: who
# meets an active task joins it.
executors 8 noop
setting gtf.enabled on
seconds=$(calc "${BENCH_QUICK:-0} == 1 ? 1 : 3")
submits=() runs=()
for keys in 1 100 10000; do
    sql CHECKPOINT
    before=$(sql 'SELECT count(*) FROM gtf.outcomes')
    tps=$(pgbench_tps "$BENCH/submit_key.pgbench" 8 -D keys=$keys -T "$seconds")
    run=$(calc "($(sql 'SELECT count(*) FROM gtf.outcomes') - $before) / $seconds")
    submits+=("$(whole "$tps")") runs+=("$(whole "$run")")
    figure keys "gtf_submit" $keys "$tps" "per second"
    figure keys "tasks run" $keys "$run" "per second"
done
tps=$(pgbench_tps "$BENCH/submit.pgbench" 8 -T "$seconds")
row "gtf_submit under 1, 100, 10,000 keys, clients: 8" "$(printf '%s\n' "${submits[@]}" | paste -sd ' ')/s" \
    "no key: $(whole "$tps")/s" "tasks run: $(printf '%s\n' "${runs[@]}" | paste -sd ' ')/s"
wait_until 60 "SELECT coalesce(sum(ready + in_progress), 0) = 0 FROM gtf.queues"

# each task with a key of its own: what the key costs the drain
setting gtf.enabled off
n=$(size 100000)
drain noop "$n"
without=$RATE
load_by_call "$n" 'SET ROLE bench' "CALL bench.submit_keyed('noop', $n, 1000)"
run_loaded
row "drain, each task with a key of its own, beside no key" "$(whole "$RATE")/s" "$(whole "$without")/s" \
    "$(ratios "$(calc "$RATE / $without")")"

# ------------------------------------------------ owners

# Tasks of so many roles in turns; an executor belongs to one role for its life.
sql 'CALL bench.create_roles(100)'
n=$(size 200000)
for count in 8 100; do
    setting gtf.max_executors $count
    rates=()
    for roles in 1 10 100; do
        load_by_call "$n" "CALL bench.submit_by($roles, 'noop', $n, 100)"
        run_loaded
        rates+=("$(whole "$RATE")")
        figure owners "$count executors" $roles "$RATE" tasks/s
    done
    row "drain, tasks of 1, 10, 100 roles, up to $count executors, tasks/s" \
        "$(printf '%s\n' "${rates[@]}" | paste -sd ' ')" "" ""
done
