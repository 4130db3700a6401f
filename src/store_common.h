/*-------------------------------------------------------------------------
 *
 * store_common.h
 *	  What the store*.c files share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_STORE_COMMON_H
#define GTF_STORE_COMMON_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

#include "compat.h"
#include "store.h"

/* Columns of gtf.tasks, in order. */
enum
{
	TASK_ID = 1, TASK_CREATED_AT, TASK_OWNER, TASK_TYPE_VERSION,
	TASK_PRIORITY, TASK_HOME, TASK_MAX_ATTEMPTS, TASK_RUN_AT, TASK_EXPIRES_AT,
	TASK_TIMEOUT, TASK_PARENT_ID, TASK_ROOT_ID, TASK_AFTER_ID, TASK_IS_SYNC, TASK_SCOPE, TASK_APP_USER,
	TASK_QUEUE, TASK_TASK_KEY, TASK_TASK_NAME, TASK_DEPENDS_ON, TASK_ARGS
};

/* Columns of gtf.outcomes, in order. */
enum
{
	OUT_TASK_ID = 1, OUT_STARTED_AT, OUT_ENDED_AT, OUT_ATTEMPT, OUT_WORKER,
	OUT_PROGRESS_CURRENT, OUT_PROGRESS_TOTAL, OUT_PROGRESS_FRACTION,
	OUT_STATUS, OUT_PROGRESS_KIND, OUT_RESULT, OUT_PAYLOAD,
	OUT_ERROR_MESSAGE, OUT_EXCEPTION_TYPE, OUT_STACK_TRACE
};

/* Inserting rows straight into a table of ours and its indexes. */
typedef struct StoreWriter
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
	CommandId	cid;
} StoreWriter;

extern void gtf_writer_open(StoreWriter *writer, const char *table);

/*
 * The row will have no entry in this partial index, the caller knows: to
 * prepare its predicate for a single row costs more than the other entries.
 */
extern void gtf_writer_leave_out(StoreWriter *writer, const char *index);

/* Insert what is in values and isnull of the cleared slot; tid in the slot. */
extern void gtf_writer_put(StoreWriter *writer);

/* The same; true if there is a conflict, instead of waiting and raising. */
extern bool gtf_writer_try(StoreWriter *writer);
extern void gtf_writer_close(StoreWriter *writer);

/* What rows carry to tell where they were submitted: here. */
extern int32 gtf_own_home(void);

/* The rest of a task's row, see store_depend.c. */
extern Datum gtf_ids_to_array(const pg_uuid_t *ids, int n);
extern void gtf_dependents_put(const GtfTask *task);

/* Look up rows by an index: first by one whose first column is a uuid. */
typedef struct StoreLookup
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} StoreLookup;

extern void gtf_lookup_begin(StoreLookup *lookup, const char *table,
							 const char *index, const pg_uuid_t *id,
							 Snapshot snapshot);

/* The same by any keys of an index. */
extern void gtf_lookup_begin_keys(StoreLookup *lookup, const char *table,
								  const char *index, ScanKey keys, int nkeys,
								  Snapshot snapshot);

/* What gtf_lookup_begin() has begun, for another id, which must not go away. */
extern void gtf_lookup_again(StoreLookup *lookup, const pg_uuid_t *id);
extern bool gtf_lookup_next(StoreLookup *lookup, ScanDirection direction);
extern void gtf_lookup_end(StoreLookup *lookup);

/*
 * Before a task is removed whose row is locked, so that nobody can come to
 * depend on it: false if an active one does.  Else what gtf.dependents has of
 * it is gone.  The lookup is one by dependents_pkey.
 */
extern bool gtf_dependents_remove(StoreLookup *dependents, const pg_uuid_t *id,
								  bool has_prerequisites);

/* store_role.c: this role will be in a table; and gtf_store_state_adopt */
extern void gtf_roles_note(Oid role);
extern pg_uuid_t *gtf_roles_adopt(int *num_keyed);

/* Up to where WAL must be flushed before the row in the slot is durable. */
extern XLogRecPtr gtf_row_lsn(TupleTableSlot *slot);

/*
 * Read a whole table, locked until the end, as it is when the lock has come.
 * The transaction, which may last (gtf_wait), gets no snapshot by that.
 */
typedef struct StoreScan
{
	Relation	rel;
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
} StoreScan;

extern void gtf_scan_begin(StoreScan *scan, const char *table);
extern bool gtf_scan_next(StoreScan *scan);
extern void gtf_scan_end(StoreScan *scan);

/* Delete the rows that an index has for these keys; returns their number. */
extern int	gtf_delete_rows(const char *table, const char *index,
							ScanKey keys, int nkeys);

/*
 * SPI as the owner of gtf's tables under a search_path that nobody else can
 * put anything into.
 */
typedef struct StoreSpi
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} StoreSpi;

extern void gtf_spi_begin(StoreSpi *spi);
extern void gtf_spi_end(StoreSpi *spi);

/*
 * Delete a row unless another transaction is at it.  True if it is gone, or
 * will be when this transaction commits.
 */
extern bool gtf_heap_delete_nowait(Relation rel, ItemPointer tid);

/* Datum d, bool isnull = a column of TupleTableSlot *slot */
#define GET(att) (d = slot_getattr(slot, (att), &isnull))

/* The same the other way round: into Datum *values and bool *isnull. */
#define PUT(att, datum) \
	(values[(att) - 1] = (datum), isnull[(att) - 1] = false)

#define text_or_null(slot, att, out) \
	do { \
		Datum		d_; \
		bool		n_; \
		d_ = slot_getattr((slot), (att), &n_); \
		(out) = n_ ? NULL : TextDatumGetCString(d_); \
	} while (0)

#endif							/* GTF_STORE_COMMON_H */
