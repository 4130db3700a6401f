/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  Progress of ad-hoc commands, as the server reports it.
 *
 * Commands that take long tell the server how far they are; it shows that in
 * the views pg_stat_progress_*, to the role itself and to those who may read
 * all statistics.  Here the same numbers are read from where the server keeps
 * them, for whoever sees the task.
 *
 * A command has phases, and how long the next ones will take nobody knows.  So
 * what is shown is the present phase: its numbers start again with the next
 * one, it is never complete, and there is no time to go.
 *
 *		CREATE INDEX, REINDEX	while waiting for transactions: lockers_done of
 *								lockers_total; on a partitioned table:
 *								partitions_done of partitions_total; else
 *								blocks_done of blocks_total, or tuples_done of
 *								tuples_total
 *		VACUUM					heap_blks_scanned of heap_blks_total; indexes
 *								(17+): indexes_processed of indexes_total;
 *								vacuuming heap: heap_blks_vacuumed of
 *								heap_blks_total
 *		ANALYZE					sample_blks_scanned of sample_blks_total;
 *								inherited: child_tables_done of
 *								child_tables_total; extended statistics:
 *								ext_stats_computed of ext_stats_total
 *		CLUSTER, VACUUM FULL	heap_blks_scanned of heap_blks_total, or
 *								heap_tuples_scanned when an index is followed;
 *								then heap_tuples_written of heap_tuples_scanned
 *		COPY					bytes_processed of bytes_total, or
 *								tuples_processed when the size is not known
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/progress.h"

#include "compat.h"
#include "progress.h"
#include "registry.h"

/* A phase with a total; false if the total is not known. */
static bool
of_total(GtfProgress *progress, int64 current, int64 total)
{
	if (total <= 0)
		return false;
	progress->kind = GTF_PROGRESS_PHASE;
	progress->current = Max(current, 0);
	progress->total = total;
	return true;
}

static void
count(GtfProgress *progress, int64 current)
{
	progress->kind = GTF_PROGRESS_COUNT;
	progress->current = Max(current, 0);
}

/* The table of the file header, in C: one case for each command. */
void
gtf_progress_of_command(const GtfTask *task, const GtfSlotInfo *slot,
						GtfProgress *progress)
{
	GtfCommandReport report;
	const GtfType *type;
	const int64 *p = report.param;

	if (!gtf_slot_command(slot, &report))
		return;
	type = gtf_type_by_version(task->type_version, true);
	if (type == NULL || type->kind != GTF_TYPE_COMMAND)
		return;

	switch (report.command)
	{
		case PROGRESS_COMMAND_CREATE_INDEX:
			(void) (of_total(progress, p[PROGRESS_WAITFOR_DONE],
							 p[PROGRESS_WAITFOR_TOTAL]) ||
					of_total(progress, p[PROGRESS_CREATEIDX_PARTITIONS_DONE],
							 p[PROGRESS_CREATEIDX_PARTITIONS_TOTAL]) ||
					of_total(progress, p[PROGRESS_SCAN_BLOCKS_DONE],
							 p[PROGRESS_SCAN_BLOCKS_TOTAL]) ||
					of_total(progress, p[PROGRESS_CREATEIDX_TUPLES_DONE],
							 p[PROGRESS_CREATEIDX_TUPLES_TOTAL]));
			break;

		case PROGRESS_COMMAND_VACUUM:
			switch (p[PROGRESS_VACUUM_PHASE])
			{
				case PROGRESS_VACUUM_PHASE_VACUUM_INDEX:
				case PROGRESS_VACUUM_PHASE_INDEX_CLEANUP:
					if (of_total(progress, p[GTF_VACUUM_INDEXES_PROCESSED],
								 p[GTF_VACUUM_INDEXES_TOTAL]))
						return;
					break;
				case PROGRESS_VACUUM_PHASE_VACUUM_HEAP:
					(void) of_total(progress, p[PROGRESS_VACUUM_HEAP_BLKS_VACUUMED],
									p[PROGRESS_VACUUM_TOTAL_HEAP_BLKS]);
					return;
			}
			(void) of_total(progress, p[PROGRESS_VACUUM_HEAP_BLKS_SCANNED],
							p[PROGRESS_VACUUM_TOTAL_HEAP_BLKS]);
			break;

		case PROGRESS_COMMAND_ANALYZE:
			switch (p[PROGRESS_ANALYZE_PHASE])
			{
				case PROGRESS_ANALYZE_PHASE_ACQUIRE_SAMPLE_ROWS_INH:
					if (of_total(progress, p[PROGRESS_ANALYZE_CHILD_TABLES_DONE],
								 p[PROGRESS_ANALYZE_CHILD_TABLES_TOTAL]))
						return;
					break;
				case PROGRESS_ANALYZE_PHASE_COMPUTE_EXT_STATS:
					if (of_total(progress, p[PROGRESS_ANALYZE_EXT_STATS_COMPUTED],
								 p[PROGRESS_ANALYZE_EXT_STATS_TOTAL]))
						return;
					break;
			}
			(void) of_total(progress, p[PROGRESS_ANALYZE_BLOCKS_DONE],
							p[PROGRESS_ANALYZE_BLOCKS_TOTAL]);
			break;

		case GTF_COMMAND_CLUSTER:
			switch (p[GTF_CLUSTER_PHASE])
			{
				case GTF_CLUSTER_PHASE_SEQ_SCAN_HEAP:
				case GTF_CLUSTER_PHASE_SORT_TUPLES:
					(void) of_total(progress, p[GTF_CLUSTER_HEAP_BLKS_SCANNED],
									p[GTF_CLUSTER_TOTAL_HEAP_BLKS]);
					break;
				case GTF_CLUSTER_PHASE_INDEX_SCAN_HEAP:
					count(progress, p[GTF_CLUSTER_HEAP_TUPLES_SCANNED]);
					break;
				default:
					(void) of_total(progress, p[GTF_CLUSTER_HEAP_TUPLES_WRITTEN],
									p[GTF_CLUSTER_HEAP_TUPLES_SCANNED]);
					break;
			}
			break;

		case PROGRESS_COMMAND_COPY:
			if (!of_total(progress, p[PROGRESS_COPY_BYTES_PROCESSED],
						  p[PROGRESS_COPY_BYTES_TOTAL]))
				count(progress, p[PROGRESS_COPY_TUPLES_PROCESSED]);
			break;

		default:
			break;
	}
}
