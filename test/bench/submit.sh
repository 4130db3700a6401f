# shellcheck shell=bash
#
# Submitting while nothing runs: the dispatcher takes note of the tasks, but
# gtf.enabled is off for it.

seconds=$(calc "${BENCH_QUICK:-0} == 1 ? 1 : 3")

against_insert() { # CLIENTS ROUNDS: a submit between two inserts
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
    row "gtf_submit, $1 client(s), beside a bare INSERT" "$(whole "$(median "${submits[@]}")")/s" \
        "$(whole "$(median "${inserts[@]}")")/s" "$(ratios "${ratio[@]}")" \
        "$(median "${ratio[@]}")" '>=' 0.8 x
}

against_insert 1 2
against_insert 8 2

# In bulk.  The rows for the INSERT are those of real tasks, in order of their
# ids; both statements read the same source.
rounds=3 batches=$(size 200)
columns=$(sql "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'gtf.tasks'::regclass AND attnum > 0 AND NOT attisdropped")
sql_file preload.sql -U bench -v type=noop -v n=$(((rounds + 1) * batches * 1000)) >/dev/null
sql "CREATE TABLE bench.rows AS SELECT row_number() OVER (ORDER BY id) AS n, * FROM
        (SELECT * FROM gtf.tasks ORDER BY id DESC LIMIT $(((rounds + 1) * batches * 1000))) t" \
    'ALTER TABLE bench.rows ADD PRIMARY KEY (n)' \
    'CREATE TABLE bench.tasks (LIKE gtf.tasks INCLUDING ALL)' \
    'ALTER TABLE bench.rows OWNER TO bench' \
    'ALTER TABLE bench.tasks OWNER TO bench' \
    'VACUUM ANALYZE bench.rows'
cat >"$WORK/tmp/insert_many.pgbench" <<EOF
\\set n :n + 1000
INSERT INTO bench.tasks ($columns) SELECT $columns FROM bench.rows WHERE n > :n - 1000 AND n <= :n;
EOF
settle

bulk() { # SCRIPT FROM: rows per second
    sql CHECKPOINT
    calc "1000 * $(pgbench_tps "$1" 1 -D n="$2" -t "$batches")"
}

before=$(bulk "$WORK/tmp/insert_many.pgbench" 0)
inserts=("$before") submits=() ratio=()
for ((i = 1; i <= rounds; i++)); do
    from=$((i * batches * 1000))
    rate=$(bulk "$BENCH/submit_many.pgbench" $from)
    settle
    after=$(bulk "$WORK/tmp/insert_many.pgbench" $from)
    submits+=("$rate")
    inserts+=("$after")
    ratio+=("$(calc "$rate / (($before + $after) / 2)")")
    before=$after
done
row "gtf_submit_many(1000), beside INSERT SELECT" "$(whole "$(median "${submits[@]}")")/s" \
    "$(whole "$(median "${inserts[@]}")")/s" "$(ratios "${ratio[@]}")" \
    "$(median "${ratio[@]}")" '>=' 0.9 x
