#!/usr/bin/env bash
#
# test_debug.sh - make test-debug: PostgreSQL 18 with assertions, built from
# Debian's source; every suite with gtf under ASAN and UBSAN, then pg_regress
# and isolation with the server under valgrind.
#
# Between them they see what no test expects: see BUG in lib.sh for what is
# looked for in the logs.  A test that would take minutes under valgrind says so
# in a comment line that begins with "not under valgrind".  T and KEEP as in
# test.sh; GTF_CACHE=folder keeps the server there for the next run.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=18

need_packages gcc make libc6-dev binutils perl git bison flex libipc-run-perl valgrind
make_work

cache=${GTF_CACHE:-$WORK}
tree=$cache/postgresql
pg=$cache/pg-debug

# Without NLS and ICU: libasan hangs in the one, nobody needs the other here.
build_server() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_account sh -ec '
        cd "$1"
        ./configure -q --prefix="$2" --enable-cassert --enable-debug \
            --enable-tap-tests --enable-injection-points \
            --without-icu --without-readline --without-zlib \
            CPPFLAGS=-DUSE_VALGRIND CFLAGS="-O1 -g -fno-omit-frame-pointer"
        make -s -j "$(nproc)"
        make -s install
        for d in src/test/modules/injection_points contrib/dblink contrib/pageinspect \
                contrib/pgstattuple contrib/pg_stat_statements contrib/postgres_fdw; do
            make -s -C "$d" install
        done' sh "$tree" "$pg" >"$WORK/tmp/build.log" 2>&1 || {
        tail -n 40 "$WORK/tmp/build.log"
        die "PostgreSQL could not be built"
    }
}

if [[ ! -x $pg/bin/pg_config ]]; then
    say "fetching the source of PostgreSQL $VERSION"
    fetch_source $VERSION "$tree"
    say "building it with assertions (some minutes)"
    own_folder "$pg"
    build_server
fi
use_prefix "$pg/bin/pg_config"

# ---------------------------------------------------------------- sanitizers

# Reports go to the server's log, where suites.sh looks for them; a program
# that libasan is not linked into needs it preloaded.  Undefined behaviour is
# reported and survived, so that one run shows all of it.
sanitizers() {
    say "suites under ASAN and UBSAN"
    copy_tree "$WORK/san"
    GTF_SUITES='regress isolation tap' \
        GTF_COPT='-O1 -U_FORTIFY_SOURCE -fsanitize=address,undefined,float-cast-overflow -fno-wrapv -Wno-error=maybe-uninitialized' \
        GTF_ENV="LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1 PG_TEST_TIMEOUT_DEFAULT=360 PGISOLATIONTIMEOUT=600" \
        run_suites "$WORK/san" "$PG_CONFIG"
}

# ---------------------------------------------------------------- valgrind

# Every process of the server, followed through fork, writes a report of its
# own, and an empty one when all is well.
under_valgrind() { # SUITE
    local src=$WORK/vg-$1 data=$WORK/vg-$1-data reports=$WORK/vg-$1-reports reported

    copy_tree "$src"
    as_account mkdir "$reports"
    printf '%s\n' '#!/bin/sh' "exec valgrind --quiet --leak-check=no --trace-children=yes \\
        --suppressions=$tree/src/tools/valgrind.supp --log-file=$reports/%p \\
        $PGBIN/postgres \"\$@\"" | as_account tee "$data-postgres" >/dev/null
    as_account chmod +x "$data-postgres"

    init_cluster "$data" "$src/test/gtf.conf"
    POSTGRES=$data-postgres PGCTLTIMEOUT=300 start_cluster "$data"
    GTF_SERVER=1 GTF_SUITES=$1 GTF_LEAVE_OUT='not under valgrind' GTF_TIME_LIMIT=3000 \
        GTF_ENV='PGISOLATIONTIMEOUT=600 PG_TEST_TIMEOUT_DEFAULT=900' \
        run_suites "$src" "$PG_CONFIG"
    PGCTLTIMEOUT=300 stop_cluster "$data" || record 0 1

    # No report at all means that valgrind was not there, not that all is well.
    reported=$(find "$reports" -type f -size +0 | wc -l)
    if [[ -z $(find "$reports" -type f) ]]; then
        say "valgrind, $1: it watched no process"
        record 0 1
    elif ((reported)); then
        find "$reports" -type f -size +0 -exec tail -n +1 {} + | head -n 200
        say "valgrind, $1: $reported processes with errors"
        record 0 "$reported"
    elif grep -nE "$BUG|was terminated by signal" "$data.log"; then
        say "valgrind, $1: the server's log shows a bug"
        record 0 1
    else
        say "valgrind, $1: nothing to report from $(find "$reports" -type f | wc -l) processes"
        record 1 0
    fi
}

# Valgrind runs one thread and takes most of our time: both suites at once, on
# a server each.
valgrind_suites() {
    local suite pids=() i=0

    say "regress and isolation under valgrind"
    # once for both: the servers preload it, and installing is not atomic
    copy_tree "$WORK/vg"
    build_install "$WORK/vg"
    for suite in regress isolation; do
        under_valgrind $suite >"$WORK/tmp/$suite.log" 2>&1 &
        pids+=($!)
    done
    for suite in regress isolation; do
        wait "${pids[i++]}" || record 0 1
        cat "$WORK/tmp/$suite.log"
    done
}

sanitizers
valgrind_suites
print_totals
