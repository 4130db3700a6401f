# shellcheck shell=bash
#
# From the start of the server to the first task that starts, with a long
# history and a long queue.  The files are in the operating system's cache.

if [[ ${BENCH_FULL:-} == 1 ]]; then
    finished=10000000 pending=1000000
else
    finished=$(size 1000000) pending=$(size 100000)
fi

say "loading $(whole "$finished") finished and $(whole "$pending") pending tasks"
for ((i = 0; i < finished; i += 100000)); do
    preload noop 100000 100000 >/dev/null
done
sql "INSERT INTO gtf.outcomes (task_id, started_at, ended_at, attempt, worker, status)
    SELECT id, created_at, created_at, 1, 1, 's' FROM gtf.tasks ORDER BY id" \
    'VACUUM ANALYZE gtf.tasks' 'VACUUM ANALYZE gtf.outcomes'
load noop "$pending" 100000
setting gtf.enabled on
restart_server
wait_loaded
read -r first all <<<"$(sql "SELECT extract(epoch FROM min(started_at) - pg_postmaster_start_time()),
        extract(epoch FROM max(ended_at) - pg_postmaster_start_time())
    FROM gtf.outcomes WHERE task_id > '${LOAD%% *}'")"
row "restart to first start, $(whole "$finished") + $(whole "$pending") tasks" "$(printf '%.1f s' "$first")" "" \
    "$(printf 'all done after %.1f s' "$all")" "$first" '<=' 15 ' s'
