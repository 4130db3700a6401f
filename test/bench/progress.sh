# shellcheck shell=bash
#
# What reporting progress costs: the task itself, and all others.

# ------------------------------------------------ one report, in one loop

n=$(size 2000000)
executors 8 noop
setting gtf.enabled on
id=$(PGUSER=bench sql "SELECT gtf_submit('reports_beside_empty', '{\"n\": $n, \"rounds\": 5}')")
sql "CALL gtf_wait('$id', '10 min')" >/dev/null
setting gtf.enabled off
empty=() beyond=() ratio=()
while read -r e r; do
    empty+=("$e")
    beyond+=("$(calc "$r - $e")")
    ratio+=("$(calc "$r / $e")")
done < <(sql "SELECT e->>0, e->>1 FROM gtf_result('$id'), jsonb_array_elements(result) e")
((${#beyond[@]} == 5)) || die "the task that measures gtf_update_progress failed"
row "gtf_update_progress, beyond an empty C function" "$(printf '%.3f us' "$(median "${beyond[@]}")")" \
    "$(printf '%.3f us' "$(median "${empty[@]}")")" "$(ratios "${ratio[@]}") in the loop" \
    "$(median "${beyond[@]}")" '<' 1 ' us'

# ------------------------------------------------ 100 tasks beside a drain

# 100 tasks that sleep for a long time (asleep), that wake up 100 times a second
# and do nothing (awake), or 10 reports each time (reporting).
hundred() { # KIND
    wait_until 20 'SELECT bench.cancel_hundred()'
    setting gtf.enabled on
    PGUSER=bench sql "CALL bench.submit_hundred('$1')"
    wait_until 60 'SELECT bench.hundred_running()'
    setting gtf.enabled off
}

n=$(size 200000)
setting gtf.max_executors 108
hundred asleep
executors 108 noop
asleep=() awake=() reporting=() ratio=() ratio_asleep=() reports=()
for _ in 1 2 3; do
    hundred asleep
    drain noop "$n"
    asleep+=("$RATE")

    hundred awake
    drain noop "$n"
    awake+=("$RATE")

    hundred reporting
    load noop "$n"
    read -r reports_before clock_before <<<"$(sql 'SELECT * FROM bench.hundred_reports()')"
    run_loaded
    read -r reports_after clock_after <<<"$(sql 'SELECT * FROM bench.hundred_reports()')"
    reporting+=("$RATE")
    reports+=("$(calc "($reports_after - $reports_before) / ($clock_after - $clock_before)")")

    ratio+=("$(calc "$RATE / ${awake[-1]}")")
    ratio_asleep+=("$(calc "$RATE / ${asleep[-1]}")")
done
wait_until 20 'SELECT bench.cancel_hundred()'

say "reports per second: $(whole "$(median "${reports[@]}")")"
row "drain beside 100 tasks with 1,000 reports/s each, without" "$(whole "$(median "${reporting[@]}")")/s" \
    "$(whole "$(median "${awake[@]}")")/s" "$(ratios "${ratio[@]}")"
row "the same, beside 100 tasks that never wake up" "$(whole "$(median "${reporting[@]}")")/s" \
    "$(whole "$(median "${asleep[@]}")")/s" "$(ratios "${ratio_asleep[@]}")"
