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
need_packages postgresql-$VERSION-cron python3-psycopg python3-psycopg2 ||
    say 'tests with pg_cron, psycopg or psycopg2 will be skipped if that is missing'
make_work
unpack_package prometheus-postgres-exporter "$WORK/exporter" ||
    say 'no exporter for Prometheus: a part of its test will be skipped'
for package in pgbouncer libc-ares2 libevent-2.1-7; do
    unpack_package $package "$WORK/pgbouncer" || say "no $package: its test will be skipped"
done
copy_tree "$WORK/src"
test_env=(
    GTF_EXPORTER="$WORK/exporter/usr/bin/prometheus-postgres-exporter"
    GTF_PGBOUNCER="$WORK/pgbouncer/usr/sbin/pgbouncer"
    GTF_PGBOUNCER_LIBS="$(echo "$WORK"/pgbouncer/usr/lib/*-linux-gnu*)"
)
GTF_ENV="${test_env[*]}" run_suites "$WORK/src" $VERSION
print_totals
