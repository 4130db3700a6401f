/*-------------------------------------------------------------------------
 *
 * store_list.h
 *	  Which tasks may be in a list: their ids, in order, from indexes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_STORE_LIST_H
#define GTF_STORE_LIST_H

#include "executor/spi.h"

#include "task.h"

/* Whose tasks, and which; what is not given restricts nothing. */
typedef struct GtfListWanted
{
	bool		ascending;
	bool		has_after;
	pg_uuid_t	after;			/* behind this one, in that order */
	bool		has_from;
	pg_uuid_t	from;			/* not below this one */
	Oid			viewer;			/* what he may see at most; InvalidOid = all */
	Oid			owner;			/* InvalidOid = everybody's */
	const char *task_type;
	const char *statuses;		/* a string of GtfStatus */
	bool		has_created_until;
	TimestampTz created_until;
} GtfListWanted;

/*
 * Ids in order.  All the wanted tasks are among them, and maybe others: what
 * has changed, or is not committed, is not looked at here.
 */
typedef struct GtfList GtfList;

extern GtfList *gtf_store_list_begin(const GtfListWanted *wanted);
extern int	gtf_store_list_next(GtfList *list, pg_uuid_t *ids, int max);
extern void gtf_store_list_end(GtfList *list);

/* Does an index say which, or would it be all the tasks that there are? */
extern bool gtf_store_list_restricted(const GtfList *list);

/* Every owner of a task, or every name of a task type that ever was. */
extern List *gtf_store_list_owners(void);	/* of Oid */
extern List *gtf_store_list_types(void);	/* of String */

/*
 * Subscribers of these tasks (uuid[]) that the current user may see, as role or
 * role/app_user; of String.
 */
extern List *gtf_store_list_subscribers(Datum ids);

/*
 * Rows of gtf.task_info as the current user sees them, to be handed to dest.
 * The filters that are null are left out.
 */
typedef enum GtfRowsParam
{
	GTF_ROWS_IDS,
	GTF_ROWS_TASK_TYPE,
	GTF_ROWS_WORKER,
	GTF_ROWS_RECEIVED_START,
	GTF_ROWS_RECEIVED_END,
	GTF_ROWS_STARTED_START,
	GTF_ROWS_STARTED_END,
	GTF_ROWS_SEARCH,
	GTF_ROWS_STATUSES,
	GTF_ROWS_LIMIT,
	GTF_ROWS_OFFSET,
	GTF_NUM_ROWS_PARAMS
} GtfRowsParam;

typedef enum GtfSortKey
{
	GTF_SORT_CREATED,
	GTF_SORT_NAME,
	GTF_SORT_STATE,
	GTF_SORT_RECEIVED,
	GTF_SORT_STARTED,
	GTF_SORT_RUNTIME,
	GTF_SORT_WORKER,
	GTF_SORT_ENDED,
	GTF_NUM_SORT_KEYS
} GtfSortKey;

typedef struct GtfRows
{
	SPIPlanPtr	plan;
	Datum		values[GTF_NUM_ROWS_PARAMS];
	bool		nulls[GTF_NUM_ROWS_PARAMS];
	int			guc_level;
} GtfRows;

/* Set values and nulls before begin; which are null must not change then. */
extern void gtf_store_rows_begin(GtfRows *rows, GtfSortKey key, bool ascending);
extern void gtf_store_rows_read(GtfRows *rows, DestReceiver *dest);
extern void gtf_store_rows_end(GtfRows *rows);

#endif							/* GTF_STORE_LIST_H */
