#!/usr/bin/env bash
#
# test.sh - make test: every suite on PostgreSQL 15
#
# T=word runs only the test files whose name contains the word.  KEEP=1 leaves
# the work folder behind.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=15

need_server $VERSION
need_packages postgresql-$VERSION-cron || say 'no pg_cron: its test will be skipped'
make_work
copy_tree "$WORK/src"
run_suites "$WORK/src" $VERSION
print_totals
