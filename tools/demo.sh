#!/usr/bin/env bash
#
# demo.sh - make demo: real tasks on Debian's list of packages, shown as they run
#
#   demo.sh         build gtf, start a private server, run the tasks, clean up
#   KEEP=1 demo.sh  leave the server running, to try things by hand
#   demo.sh stop    end the servers that KEEP=1 has left
#
# What runs is in test/demo: tasks.sql has the tasks, submit.sql submits them.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=15
TIME_LIMIT=120      # seconds until all tasks must have ended

stop() {
    local marker

    KEEP=
    pick_account
    for marker in /var/tmp/gtf.*/demo; do
        [[ -e $marker && $(stat -c %u "$marker") == "$ACCOUNT_UID" ]] || continue
        # its own shell, because that cleans up when it exits
        (adopt_work "$(dirname "$marker")")
        say "stopped: $(dirname "$marker")"
    done
}

case ${1:-} in
    '') ;;
    stop) stop && exit ;;
    *) die "usage: $0 [stop]" ;;
esac

demo_psql() { # PSQL-OPTION...
    as_account "$PGBIN/psql" -qX -v ON_ERROR_STOP=1 "$@"
}

# ---------------------------------------------------------------- server

# Debian's list of packages, as apt knows it on this machine.
packages() {
    if [[ -z $(apt-cache dumpavail | head -c 1) ]]; then
        as_root apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null
    fi
    apt-cache dumpavail
}

start_demo() {
    need_server $VERSION
    make_work
    DEMO=$WORK/src/test/demo
    say "building gtf, in $WORK"
    copy_tree "$WORK/src"
    make_prefix $VERSION "$WORK/pg$VERSION"
    build_install "$WORK/src"
    say "starting a server of our own"
    init_cluster "$WORK/data" "$DEMO/server.conf"
    start_cluster "$WORK/data"
    demo_psql -c 'CREATE ROLE demo LOGIN' -c 'CREATE DATABASE demo OWNER demo'
    export PGDATABASE=demo
    demo_psql -c 'CREATE EXTENSION gtf'

    # No superuser from here on: the database's owner may register tasks.
    export PGUSER=demo
    demo_psql -o /dev/null -f "$DEMO/tasks.sql"
    packages | awk -f "$DEMO/packages.awk" |
        demo_psql -c 'COPY package (name, version, installed_kb, relations) FROM STDIN'
    say "loaded $(demo_psql -At -c 'SELECT count(*) FROM package') packages from apt's list"
}

# ---------------------------------------------------------------- display

IDS=()              # of the tasks, in order
declare -A NEWS=()  # of each task: what makes its line worth printing
declare -A LINE=()
declare -A PRINTED=() SHOWN_AT=()
ACTIVE=0            # tasks that have not ended
LINES_UP=0          # lines of the last frame

read_frame() {
    local id news line

    IDS=() ACTIVE=0
    while IFS=$'\t' read -r id news line; do
        [[ -n $id ]] || continue
        IDS+=("$id") NEWS[$id]=$news LINE[$id]=$line
        [[ $news != pending* && $news != in_progress* ]] || ACTIVE=$((ACTIVE + 1))
    done <<<"$(demo_psql -At -F $'\t' -f "$DEMO/frame.sql")"
}

# On a terminal the last frame is drawn over.
draw_frame() {
    local id size columns=100

    size=$(stty size <&1 2>/dev/null) && ((${size#* } == 0 || ${size#* } > columns)) || columns=${size#* }
    ((LINES_UP == 0)) || printf '\e[%dA' "$LINES_UP"
    for id in "${IDS[@]}"; do
        printf '%.*s\e[K\n' "$((columns - 1))" "${LINE[$id]}"
    done
    LINES_UP=${#IDS[@]}
}

# Elsewhere a line is printed when its task has news, and every two seconds
# while it runs.
print_news() {
    local id

    for id in "${IDS[@]}"; do
        if [[ ${NEWS[$id]} != "${PRINTED[$id]:-}" ]] ||
            { [[ ${NEWS[$id]} == in_progress* ]] && ((SECONDS - SHOWN_AT[$id] >= 2)); }; then
            printf '%s\n' "${LINE[$id]}"
            PRINTED[$id]=${NEWS[$id]} SHOWN_AT[$id]=$SECONDS
        fi
    done
}

# Until the submitting script and all tasks have ended.
watch_tasks() { # PID of the script
    local running=1 started=$SECONDS

    while ((running || ACTIVE)); do
        kill -0 "$1" 2>/dev/null || running=0
        read_frame
        if [[ -t 1 ]]; then draw_frame; else print_news; fi
        ((SECONDS - started < TIME_LIMIT)) || die "some tasks have not ended after $TIME_LIMIT s"
        sleep 0.2
    done
    wait "$1" || {
        cat "$WORK/tmp/submit.log"
        die "not all tasks could be submitted"
    }
}

# ---------------------------------------------------------------- run

start_demo
say "submitting tasks: test/demo/submit.sql"
echo
dashes=------------------------------------------------
printf '  %-30s %-11s %7s  %s\n' task status time 'progress, result or error' \
    "${dashes:0:30}" "${dashes:0:11}" "${dashes:0:7}" "${dashes:0:46}"
demo_psql -f "$DEMO/submit.sql" >"$WORK/tmp/submit.log" 2>&1 &
watch_tasks $!
echo
demo_psql -P footer=off -f "$DEMO/results.sql"

if [[ ${KEEP:-} == 1 ]]; then
    as_account touch "$WORK/demo"
    keep_work
    say "The server stays. Connect to it:"
    echo "     psql -h $WORK/data.s -U demo demo"
    say "and try, for example:"
else
    say "To try it by hand, start with KEEP=1 make demo. Then, for example:"
fi
cat <<'EOF'
     SELECT gtf_submit('closure', '{"package": "inkscape"}') AS id \gset
     CALL gtf_wait(:'id');
     SELECT result FROM gtf_result(:'id');
     SELECT gtf_submit_sql('REINDEX TABLE CONCURRENTLY relation');
     SELECT display_name, status, progress_text, duration FROM gtf.task_info \watch 1
EOF
[[ ${KEEP:-} != 1 ]] || say "End it with: make demo-stop"
