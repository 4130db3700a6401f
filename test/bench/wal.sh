# shellcheck shell=bash
#
# Bytes of WAL per task, from pg_waldump, which knows full-page images from
# records.  Each step starts with a checkpoint, so images are as many as they
# can be for that number of tasks.

position() { sql 'SELECT pg_current_wal_insert_lsn()'; }

# Sets RECORDS and IMAGES to the bytes per task since a position.
wal_since() { # POSITION N
    local end

    end=$(position)
    # what was committed asynchronously gets written with this
    sql "INSERT INTO bench.effects VALUES (0)"
    read -r RECORDS IMAGES < <(as_account "$PGBIN/pg_waldump" --stats -p "$DATA/pg_wal" --start="$1" --end="$end" |
        awk -v n="$2" '$1 == "Total" { gsub(/[][(%)]/, ""); print $3 / n, $5 / n }')
}

wal_row() { # WHAT RECORDS IMAGES [OP TARGET]
    row "$1" "$(whole "$2") B" "" "$(whole "$(calc "$2 + $3")") B with page images" \
        ${4:+"$2" "$4" "$5" " B"}
}

executors 8 noop
n_single=$(size 20000)
n=$(size 100000)

sql CHECKPOINT
from=$(position)
pgbench_tps "$BENCH/submit.pgbench" 8 -t $((n_single / 8)) >/dev/null
wal_since "$from" "$n_single"
single=$RECORDS single_images=$IMAGES

sql CHECKPOINT
from=$(position)
load noop "$n"
wal_since "$from" "$n"
many=$RECORDS many_images=$IMAGES

sql CHECKPOINT
from=$(position)
run_loaded
# the single ones were waiting, too
wal_since "$from" $((n + n_single))

wal_row "WAL, gtf_submit" "$single" "$single_images"
wal_row "WAL, gtf_submit_many" "$many" "$many_images"
wal_row "WAL, from start to end" "$RECORDS" "$IMAGES"
wal_row "WAL of a task's life" "$(calc "$single + $RECORDS")" "$(calc "$single_images + $IMAGES")" '<=' 900
