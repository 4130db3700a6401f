#!/usr/bin/env bash
#
# check_layers.sh - the rules of the house that a script can check
#
# usage: check_layers.sh [gtf.so]
#
# Every kind of state has one owner, so that a reader who looks for, say, the
# locking needs to read one file.  Without the library the check of its symbols
# is left out.  One line per rule, "ok" or "not ok", what breaks it above.

# shellcheck disable=SC2317 # the checks are called through rule

set -euo pipefail
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0 number=0

# CMD prints what breaks the rule, as FILE:LINE: TEXT.
rule() { # NAME CMD...
    local broken

    number=$((number + 1))
    broken=$("${@:2}") || broken+=$'\n'"the check itself failed: $2"
    if [[ -n $broken ]]; then
        printf '%s\n' "$broken" "not ok $number - $1"
        failed=1
    else
        echo "ok $number - $1"
    fi
}

# Lines of our C code that match, comments left out: those may name anything.
# shellcheck disable=SC2016 # Perl's variables
code() { # PATTERN FILE...
    perl -e '
        use strict; use warnings;
        my $pattern = shift;
        local $/;
        foreach my $file (@ARGV)
        {
            open(my $in, "<", $file) or die "$file: $!\n";
            my $text = <$in>;
            my $n = 0;
            $text =~ s{("(?:\\.|[^"\\\n])*")|/\*(.*?)\*/|//[^\n]*}
                      {defined $1 ? $1 : defined $2 ? "\n" x ($2 =~ tr/\n//) : ""}gse;
            foreach my $line (split /\n/, $text)
            {
                $n++;
                print "$file:$n: $line\n" if $line =~ /$pattern/;
            }
        }' -- "$@"
}

sources=(src/*.c src/*.h)

# An owner that outgrew one file, shmem.c, is all of shmem.c and shmem_*.c.
only_in() { # WHAT PATTERN FILE...
    local what=$1 pattern=$2 f files=()

    shift 2
    for f in "${sources[@]}"; do
        [[ " $* " == *" $f "* || " $* " == *" ${f/_*./.} "* ]] || files+=("$f")
    done
    rule "$what only in $*" code "$pattern" "${files[@]}"
}

only_in 'server versions' '\bPG_VERSION_NUM\b' src/compat.h
only_in 'shared memory and its locks' '\b(LWLockAcquire|ShmemInitStruct)\b' src/shmem.c
only_in 'settings' '\bDefineCustom' src/settings.c
# hook_call.c gives SPI to bodies in C, procedure.c ends the snapshot of its caller: no SQL of theirs
only_in 'SQL' '\bSPI_(execute|prepare|connect)' src/store.c src/procedure.c src/hook_call.c
only_in 'sleeping, and starting workers,' \
    '\b(WaitLatch|Register(Dynamic)?BackgroundWorker)\b' src/worker.c src/wait.c

# src/README.md, section Files.
level() { # FILE
    case $1 in
        errors.h | errcodes_table.h | compat.h) echo 0 ;;
        task.* | settings.*) echo 1 ;;
        store* | shmem* | registry.* | handler.* | gtf.h) echo 2 ;;
        worker.* | wakeup.*) echo 3 ;;
        gtf.c) echo 5 ;;
        *) echo 4 ;;
    esac
}
levels() {
    local f header

    for f in "${sources[@]}"; do
        sed -n 's/^#include "\([a-z_]*\.h\)"$/\1/p' "$f" | while read -r header; do
            [[ ! -e src/$header ]] || (($(level "$header") <= $(level "${f#src/}"))) ||
                echo "$f: $header"
        done
    done
}
rule 'no file includes a header of a level above it' levels

# What another library could collide with.
symbols() { # LIBRARY
    nm -D --defined-only "$1" | awk -v library="$1" '
        $NF !~ /^(gtf_.+|pg_finfo_gtf_.+|_PG_init|Pg_magic_func)$/ { print library ": " $NF }'
}
[[ -z ${1:-} ]] || rule 'exported symbols start with gtf_' symbols "$1"

# A test without expected output stops pg_regress, and one with another suffix
# is never run.
test_files() {
    local f name expected test

    for f in sql/* test/specs/* test/t/*; do
        name=$(basename "${f%.*}")
        case $f in
            sql/*.sql) expected=expected/$name.out ;;
            test/specs/*.spec) expected=test/expected/$name.out ;;
            test/t/*.pl) continue ;;
            *) echo "$f: no suite runs this file" && continue ;;
        esac
        [[ -e $expected ]] || echo "$f: $expected is missing"
    done
    for f in expected/*.out test/expected/*.out; do
        name=$(basename "$f" .out)
        case $f in
            expected/*) test=sql/$name.sql ;;
            *) test=test/specs/$name.spec ;;
        esac
        # x_1.out is a second accepted output of x
        [[ -e $test || -e ${test/_[0-9]./.} ]] || echo "$f: $test is missing"
    done
}
rule 'every test file is run, and has its expected output' test_files

versions() {
    perl -MJSON::PP -0777 -e '
        my ($control, $meta) = map { open(my $in, "<", $_) or die "$_: $!\n"; scalar <$in> } @ARGV;
        my ($version) = $control =~ /^default_version\s*=\s*\x27(.*)\x27/m or die "no version\n";
        $meta = decode_json($meta);
        foreach my $part ($meta, values %{ $meta->{provides} })
        {
            print "META.json: version $part->{version}, gtf.control: $version\n"
              if $part->{version} ne $version;
        }' gtf.control META.json
}
rule 'one version everywhere' versions

exit "$failed"
