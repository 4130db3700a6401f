#!/usr/bin/env bash
#
# suites.sh - build one copy of the tree against one PostgreSQL, run its tests
#
# usage: suites.sh SRC VERSION|PG_CONFIG
#
# Called by test*.sh as the test account, inside their work folder.  SRC is a
# private copy.  PG_CONFIG belongs to a private installation; for a VERSION, one
# is made from Debian's package.  From the environment:
#
#   T               run only the files whose name contains this
#   GTF_SUITES      default "layers regress isolation tap"
#   GTF_COPT        compiler flags besides -Werror
#   GTF_SHLIB_LINK  linker flags
#   GTF_ENV         VAR=VALUE words for the environment of the tests
#   GTF_SERVER      1: use the running server that PGHOST names, which has gtf
#   GTF_LEAVE_OUT   leave out the files that have a comment line beginning so
#   GTF_JOBS        TAP tests at a time (twice as many as processors)
#   GTF_TIME_LIMIT  seconds for one suite (900)
#   GTF_RESULT      file that gets a line "PASSED FAILED" for each suite
#
# Succeeds when everything could be run, whatever the results are: those are
# in GTF_RESULT.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

SRC=$1
WORK=$GTF_WORK
pick_account
case $2 in
    */*) use_prefix "$2" ;;
    *) make_prefix "$2" "$WORK/pg$2" ;;
esac
suites=${GTF_SUITES:-layers regress isolation tap}
version=$("$PG_CONFIG" --version)
read -ra test_env <<<"${GTF_ENV:-}"
cd "$SRC"

# Suites that kill nothing on purpose see no process die by a signal either.
readonly CRASH="$BUG|was terminated by signal"

passed=0 failed=0

# Sums up one suite: what its log counts, and what only its exit status or its
# server's log knows.
finish() { # NAME FILES RC LOG OK-PATTERN NOT-OK-PATTERN BUG-PATTERN SERVER-LOGS...
    local name=$1 files=$2 rc=$3 log=$4 bugs=$7 ok notok pattern_ok=$5 pattern_notok=$6

    shift 7
    stop_servers "$SRC"
    ok=$(grep -cE "$pattern_ok" "$log" || true)
    notok=$(grep -E "$pattern_notok" "$log" | grep -cvE '# TODO' || true)
    if ((rc == 124 || rc == 137)); then
        echo "$name: stopped after ${GTF_TIME_LIMIT:-900} s"
    fi
    if ((rc != 0 && notok == 0)); then
        echo "$name: failed outside its tests (exit status $rc)"
        notok=1
    fi
    if ((ok + notok == 0)); then
        echo "$name: $files files, but nothing was executed"
        notok=1
    fi
    if (($#)) && grep -rEn "$bugs" "$@" 2>/dev/null | head -n 20 | grep .; then
        echo "$name: the server's log shows a bug"
        notok=$((notok + 1))
    fi
    passed=$((passed + ok)) failed=$((failed + notok))
    [[ -z ${GTF_RESULT:-} ]] || echo "$ok $notok" >>"$GTF_RESULT"
    say "$name: $ok ok, $notok not ok"
    ((notok == 0))
}

# The end of a log, without the repetitions of a polling test.
log_tail() { # FILE
    echo "==> $(basename "$1")"
    awk '{ text = $0; sub(/^[^]]*\] */, "", text) } text != last; { last = text }' "$1" |
        tail -n 40
}

installcheck() { # DIR VAR=VALUE...
    local dir=$1

    shift
    as_account env "${test_env[@]}" timeout -k 20 "${GTF_TIME_LIMIT:-900}" \
        make -s -C "$dir" PG_CONFIG="$PG_CONFIG" installcheck "$@" 2>&1
}

# Names of the test files of a kind that T selects, without directory and suffix.
select_tests() { # DIR SUFFIX
    local f

    for f in "$1"/*"${T:-}"*"$2"; do
        [[ -e $f ]] || continue
        if [[ -n ${GTF_LEAVE_OUT:-} ]] && grep -qE "^(--|#) $GTF_LEAVE_OUT" "$f"; then
            say "left out: $f" >&2
        else
            basename "$f" "$2"
        fi
    done
}

# pg_regress and pg_isolation_regress: 15 writes its own format, 16 and later TAP
run_pg_regress() { # NAME DIR OUTPUT-DIR MAKE-VARIABLE TESTS...
    local name=$1 dir=$2 out=$2/$3 var=$4 rc=0 log=$SRC/suite.log temp=()

    shift 4
    if [[ ${GTF_SERVER:-} != 1 ]]; then
        rm -rf "$dir/tmp_instance"
        temp=(--temp-instance="$dir/tmp_instance" --temp-config="$SRC/test/gtf.conf")
    fi
    # a statement that hangs costs its test, not all that follow; tasks do not see it
    PGOPTIONS='-c statement_timeout=400s' \
        installcheck "$dir" REGRESS= ISOLATION= TAP_TESTS= "$var=$*" \
        "EXTRA_REGRESS_OPTS=${temp[*]}" | tee "$log" || rc=${PIPESTATUS[0]}
    [[ ! -s $out/regression.diffs ]] || cat "$out/regression.diffs"
    finish "$name" $# "$rc" "$log" '^test +\S+ +\.\.\. ok|^ok [0-9]' \
        '^test +\S+ +\.\.\. FAILED|^not ok [0-9]' "$CRASH" "$out/log" ||
        [[ ! -e $out/log/postmaster.log ]] || log_tail "$out/log/postmaster.log"
}

run_tap() { # NAME DIR T-DIR TESTS...
    local name=$1 dir=$2 t rc=0 log=$SRC/suite.log logs=$2/tmp_check/log

    local files=("${@:4}")
    files=("${files[@]/#/$3/}")
    files=("${files[@]/%/.pl}")
    rm -rf "$SRC/tap"
    # the tests wait more than they compute; prove keeps what each one printed
    test_env+=(PERL_TEST_HARNESS_DUMP_TAP="$SRC/tap")
    installcheck "$dir" REGRESS= ISOLATION= TAP_TESTS=1 "PROVE_TESTS=${files[*]}" \
        PROVE_FLAGS="--timer --jobs ${GTF_JOBS:-$(($(nproc) * 2))}" TEMP_CONFIG="$SRC/test/gtf.conf" |
        tee "$log" || rc=${PIPESTATUS[0]}
    find "$SRC/tap" -type f -exec cat {} + >"$log.tap" 2>/dev/null || true
    if ! finish "$name" ${#files[@]} "$rc" "$log.tap" '^ok [0-9]+( |$)' \
        '^not ok [0-9]+( |$)' "$BUG" "$logs"; then
        for t in "${@:4}"; do
            ! grep -qE "/$t\.pl \.+ (ok|skipped)" "$log" || continue
            for f in "$logs/regress_log_$t" "$logs/$t"_*.log; do
                [[ ! -s $f ]] || log_tail "$f"
            done
        done
    fi
}

wanted() { [[ " $suites " == *" $1 "* ]]; }

# Without a filter a suite that has nothing to run is a failure: a wildcard
# that went wrong looks like success otherwise.
none() { # NAME
    [[ -z ${T:-} ]] || return 0
    echo "$1: no test files"
    failed=$((failed + 1))
    [[ -z ${GTF_RESULT:-} ]] || echo "0 1" >>"$GTF_RESULT"
}

if [[ ${GTF_SERVER:-} != 1 ]]; then
    say "building for $version"
    build_install "$SRC" COPT="-Werror ${GTF_COPT:-}" SHLIB_LINK="${GTF_SHLIB_LINK:-}"
fi

if wanted layers && [[ -z ${T:-} ]]; then
    rc=0
    tools/check_layers.sh gtf.so | tee suite.log || rc=${PIPESTATUS[0]}
    finish layers 1 "$rc" suite.log '^ok ' '^not ok ' "$BUG" || true
fi

if wanted regress; then
    mapfile -t tests < <(select_tests sql .sql)
    say "regress, $version"
    if ((${#tests[@]})); then run_pg_regress regress "$SRC" . REGRESS "${tests[@]}"; else none regress; fi
fi
if wanted isolation; then
    mapfile -t tests < <(select_tests test/specs .spec)
    say "isolation, $version"
    if ((${#tests[@]})); then
        run_pg_regress isolation "$SRC" test/output_iso ISOLATION "${tests[@]}"
    else none isolation; fi
fi
if wanted tap; then
    mapfile -t tests < <(select_tests test/t .pl)
    say "tap, $version"
    if ((${#tests[@]})); then run_tap tap "$SRC" test/t "${tests[@]}"; else none tap; fi
fi

# Test modules may bring tests, laid out as in PostgreSQL's src/test/modules.
for m in test/modules/*/; do
    [[ -e $m/Makefile ]] || continue
    name=$(basename "$m")
    mapfile -t tests < <(select_tests "$m/sql" .sql)
    if wanted regress && ((${#tests[@]})); then
        run_pg_regress "regress of $name" "$SRC/$m" . REGRESS "${tests[@]}"
    fi
    mapfile -t tests < <(select_tests "$m/specs" .spec)
    if wanted isolation && ((${#tests[@]})); then
        run_pg_regress "isolation of $name" "$SRC/$m" output_iso ISOLATION "${tests[@]}"
    fi
    mapfile -t tests < <(select_tests "$m/t" .pl)
    if wanted tap && ((${#tests[@]})); then
        run_tap "tap of $name" "$SRC/$m" t "${tests[@]}"
    fi
done

say "$version: $passed passed, $failed failed"
