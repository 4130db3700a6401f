# shellcheck shell=bash
#
# Submitting while nothing runs: the dispatcher takes note of the tasks, but
# gtf.enabled is off for it.

seconds=$(calc "${BENCH_QUICK:-0} == 1 ? 1 : 2")

against_insert() { # CLIENTS ROUNDS [TARGET]: a submit between two inserts
    local i before after tps ratio=() submits=() inserts=()

    before=$(pgbench_tps "$BENCH/insert.pgbench" "$1" -T "$seconds")
    inserts+=("$before")
    for ((i = 0; i < $2; i++)); do
        sql CHECKPOINT
        tps=$(pgbench_tps "$BENCH/submit.pgbench" "$1" -T "$seconds")
        sql CHECKPOINT
        after=$(pgbench_tps "$BENCH/insert.pgbench" "$1" -T "$seconds")
        submits+=("$tps")
        inserts+=("$after")
        ratio+=("$(calc "$tps / (($before + $after) / 2)")")
        before=$after
    done
    row "gtf_submit, clients: $1, beside a bare INSERT" "$(whole "$(median "${submits[@]}")")/s" \
        "$(whole "$(median "${inserts[@]}")")/s" "$(ratios "${ratio[@]}")" \
        ${3:+"$(median "${ratio[@]}")" '>=' "$3" x}
}

against_insert 1 3
against_insert 8 3 0.8

# In bulk.  The rows for the INSERT are those of real tasks, in order of their
# ids; both statements read the same source.  So few tasks that the dispatcher
# can keep them all in memory.
fresh_database
batches=$(size 150) rows=$(size 150000)
columns=$(sql "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'gtf.tasks'::regclass AND attnum > 0 AND NOT attisdropped")
load noop "$rows"
sql 'CREATE TABLE bench.rows AS SELECT row_number() OVER (ORDER BY id) AS n, * FROM gtf.tasks' \
    'ALTER TABLE bench.rows ADD PRIMARY KEY (n)' \
    'CREATE TABLE bench.tasks (LIKE gtf.tasks INCLUDING ALL)' \
    'ALTER TABLE bench.rows OWNER TO bench' \
    'ALTER TABLE bench.tasks OWNER TO bench' \
    'VACUUM ANALYZE bench.rows'
cat >"$WORK/tmp/insert_many.pgbench" <<EOF
\\set n :n + 1000
INSERT INTO bench.tasks ($columns) SELECT $columns FROM bench.rows WHERE n > :n - 1000 AND n <= :n;
EOF

bulk() { # SCRIPT: rows per second
    sql 'TRUNCATE bench.tasks' CHECKPOINT
    calc "1000 * $(pgbench_tps "$1" 1 -D n=0 -t "$batches")"
}

before=$(bulk "$WORK/tmp/insert_many.pgbench")
inserts=("$before") submits=() ratio=()
for _ in 1 2 3; do
    rate=$(bulk "$BENCH/submit_many.pgbench")
    settle
    after=$(bulk "$WORK/tmp/insert_many.pgbench")
    submits+=("$rate")
    inserts+=("$after")
    ratio+=("$(calc "$rate / (($before + $after) / 2)")")
    before=$after
done
row "gtf_submit_many(1000), beside INSERT SELECT" "$(whole "$(median "${submits[@]}")")/s" \
    "$(whole "$(median "${inserts[@]}")")/s" "$(ratios "${ratio[@]}")" \
    "$(median "${ratio[@]}")" '>=' 0.9 x
