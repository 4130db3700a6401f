# shellcheck shell=bash
#
# One executor, many tasks: does it grow?

anonymous_kb() { awk '/^RssAnon/ { print $2 }' "/proc/$1/status"; }

n=$(size 1000000)
executors 1 noop
pid=$(sql "SELECT pid FROM gtf.workers WHERE kind = 'executor'")
before=$(anonymous_kb "$pid")
drain noop "$n"
after=$(anonymous_kb "$pid")
[[ $pid == "$(sql "SELECT pid FROM gtf.workers WHERE kind = 'executor'")" ]] || die "it was another executor"
row "drain, 1 executor" "$(whole "$RATE")/s" "" ""
row "its own memory after $(whole "$n") more tasks" "$(whole "$after") kB" "$(whole "$before") kB" \
    "$(printf '%+d kB' $((after - before)))" $((after - before)) '<=' 256 ' kB'
