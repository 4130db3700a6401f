/*-------------------------------------------------------------------------
 *
 * store_rows.c
 *	  The rows of a list: of gtf.task_info, as its reader, who sees there what
 *	  he may see.
 *
 * Which tasks are in it comes as ids from store_list.c, or is left to the
 * filters here.  Runs in the reader's transaction and keeps nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "store_common.h"
#include "store_list.h"

static const Oid param_types[GTF_NUM_ROWS_PARAMS] = {
	[GTF_ROWS_IDS] = UUIDARRAYOID,
	[GTF_ROWS_TASK_TYPE] = TEXTOID,
	[GTF_ROWS_WORKER] = TEXTOID,
	[GTF_ROWS_RECEIVED_START] = TIMESTAMPTZOID,
	[GTF_ROWS_RECEIVED_END] = TIMESTAMPTZOID,
	[GTF_ROWS_STARTED_START] = TIMESTAMPTZOID,
	[GTF_ROWS_STARTED_END] = TIMESTAMPTZOID,
	[GTF_ROWS_SEARCH] = TEXTOID,
	[GTF_ROWS_STATUSES] = TEXTARRAYOID,
	[GTF_ROWS_LIMIT] = INT8OID,
	[GTF_ROWS_OFFSET] = INT8OID,
};

#define MATCHES \
	" AND gtf._matches($8, $9, i.attempt, i.started_at, i.id, i.task_type," \
	" i.task_name, i.status, i.worker, i.queue, i.args, i.result," \
	" i.error_message, i.exception_type, i.stack_trace)"

static const char *const filters[GTF_NUM_ROWS_PARAMS] = {
	[GTF_ROWS_IDS] = " AND i.id = ANY ($1)",
	[GTF_ROWS_TASK_TYPE] = " AND i.task_type = $2",
	[GTF_ROWS_WORKER] = " AND i.worker = $3",
	[GTF_ROWS_RECEIVED_START] = " AND i.created_at >= $4",
	[GTF_ROWS_RECEIVED_END] = " AND i.created_at <= $5",
	[GTF_ROWS_STARTED_START] = " AND i.started_at >= $6",
	[GTF_ROWS_STARTED_END] = " AND i.started_at <= $7",
	[GTF_ROWS_SEARCH] = MATCHES,
	[GTF_ROWS_STATUSES] = MATCHES,
};

/* Words are sorted whatever their case and the database's collation. */
static const char *const sort_columns[GTF_NUM_SORT_KEYS] = {
	[GTF_SORT_CREATED] = NULL,
	[GTF_SORT_NAME] = "lower(i.task_type) COLLATE \"C\"",
	[GTF_SORT_STATE] = "i.status COLLATE \"C\"",
	[GTF_SORT_RECEIVED] = "i.created_at",
	[GTF_SORT_STARTED] = "i.started_at",
	[GTF_SORT_RUNTIME] = "i.duration",
	[GTF_SORT_WORKER] = "i.worker COLLATE \"C\"",
	[GTF_SORT_ENDED] = "i.ended_at",
};

/* As the caller, because the views show him what he may see. */
static int
caller_begin(void)
{
	int			guc_level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	return guc_level;
}

static void
caller_end(int guc_level)
{
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

void
gtf_store_rows_begin(GtfRows *rows, GtfSortKey key, bool ascending)
{
	StringInfoData query;

	rows->guc_level = caller_begin();

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT i.* FROM gtf.task_info i WHERE true");
	for (int p = 0; p < GTF_NUM_ROWS_PARAMS; p++)
	{
		if (!rows->nulls[p] && filters[p] &&
			!(p == GTF_ROWS_STATUSES && !rows->nulls[GTF_ROWS_SEARCH]))
			appendStringInfoString(&query, filters[p]);
	}
	appendStringInfoString(&query, " ORDER BY ");
	if (sort_columns[key])
		appendStringInfo(&query, "%s %s, ", sort_columns[key],
						 ascending ? "ASC NULLS FIRST" : "DESC NULLS LAST");
	appendStringInfo(&query, "i.id %s", ascending ? "ASC" : "DESC");
	if (!rows->nulls[GTF_ROWS_LIMIT])
		appendStringInfoString(&query, " LIMIT $10");
	if (!rows->nulls[GTF_ROWS_OFFSET])
		appendStringInfoString(&query, " OFFSET $11");

	rows->plan = SPI_prepare(query.data, GTF_NUM_ROWS_PARAMS,
							 (Oid *) param_types);
	if (rows->plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
}

void
gtf_store_rows_read(GtfRows *rows, DestReceiver *dest)
{
	SPIExecuteOptions options = {0};
	ParamListInfo params = makeParamList(GTF_NUM_ROWS_PARAMS);

	for (int p = 0; p < GTF_NUM_ROWS_PARAMS; p++)
	{
		params->params[p].value = rows->values[p];
		params->params[p].isnull = rows->nulls[p];
		params->params[p].pflags = PARAM_FLAG_CONST;
		params->params[p].ptype = param_types[p];
	}
	options.params = params;
	options.dest = dest;
	if (SPI_execute_plan_extended(rows->plan, &options) < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s",
			 SPI_result_code_string(SPI_result));
}

void
gtf_store_rows_end(GtfRows *rows)
{
	caller_end(rows->guc_level);
}

List *
gtf_store_list_subscribers(Datum ids)
{
	MemoryContext caller = CurrentMemoryContext;
	int			guc_level = caller_begin();
	Oid			argtype = UUIDARRAYOID;
	List	   *names = NIL;

	if (SPI_execute_with_args("SELECT DISTINCT role || coalesce('/' || nullif(app_user, ''), '')"
							  " FROM gtf.task_subscribers_info"
							  " WHERE task_id = ANY ($1)",
							  1, &argtype, &ids, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read gtf.task_subscribers_info");
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		names = lappend(names, makeString(SPI_getvalue(SPI_tuptable->vals[i],
													   SPI_tuptable->tupdesc, 1)));
	caller_end(guc_level);
	return names;
}
