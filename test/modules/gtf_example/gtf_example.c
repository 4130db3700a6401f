/*-------------------------------------------------------------------------
 *
 * gtf_example.c
 *	  Two tasks that do something useful.
 *
 *		digest	the number of rows of a table, and a digest of them all that
 *				does not depend on their order.  Atomic; reports progress, stops
 *				when asked.
 *		archive	moves rows from one table to another, so many at a time, with
 *				a commit after each batch.  An abort leaves what was moved;
 *				the payload says how much that is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

#define BATCH 1000

/* A text argument of the task, palloc'd. */
static char *
text_arg(GtfContext *context, const char *name)
{
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(gtf_ctx_args(context)) ||
		getKeyJsonValueFromContainer((JsonbContainer *) &gtf_ctx_args(context)->root,
									 name, strlen(name), &value) == NULL ||
		value.type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a string", name)));
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* The name of a table that exists, quoted for a command. */
static char *
table_arg(GtfContext *context, const char *name)
{
	Oid			relid = DatumGetObjectId(DirectFunctionCall1(regclassin,
															 CStringGetDatum(text_arg(context, name))));

	return DatumGetCString(DirectFunctionCall1(regclassout,
											   ObjectIdGetDatum(relid)));
}

/* The only column of the only row of a query. */
static int64
query_int64(const char *query)
{
	bool		isnull;

	if (SPI_execute(query, false, 0) < 0 || SPI_processed != 1)
		elog(ERROR, "could not execute: %s", query);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &isnull));
}

static Jsonb *
json(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static void
digest(GtfContext *context)
{
	char	   *table = table_arg(context, "table");
	int64		total = query_int64(psprintf("SELECT count(*) FROM %s", table));
	int64		done = 0;
	uint64		sum = 0;
	Portal		portal;

	portal = SPI_cursor_open_with_args(NULL,
									   psprintf("SELECT CAST(t AS text) FROM %s t", table),
									   0, NULL, NULL, NULL, true, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, BATCH);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			char	   *row = SPI_getvalue(SPI_tuptable->vals[i],
										   SPI_tuptable->tupdesc, 1);

			sum += hash_bytes_extended((unsigned char *) row, strlen(row), 0);
			pfree(row);
		}
		done += SPI_processed;
		SPI_freetuptable(SPI_tuptable);
		if (!gtf_ctx_progress(context, done, total))
			return;
	}
	SPI_cursor_close(portal);
	gtf_ctx_set_result(context, json(psprintf("{\"rows\": " INT64_FORMAT ", \"digest\": \"%08x%08x\"}",
											  done, (uint32) (sum >> 32), (uint32) sum)));
}

static void
archive(GtfContext *context)
{
	char	   *from = table_arg(context, "from");
	char	   *to = table_arg(context, "to");
	char	   *command = psprintf("WITH moved AS (DELETE FROM %s WHERE ctid IN"
								   " (SELECT ctid FROM %s LIMIT %d) RETURNING *)"
								   " INSERT INTO %s SELECT * FROM moved",
								   from, from, BATCH, to);
	int64		total = query_int64(psprintf("SELECT count(*) FROM %s", from));
	int64		done = 0;

	for (;;)
	{
		if (SPI_execute(command, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not execute: %s", command);
		if (SPI_processed == 0)
			break;
		done += SPI_processed;
		SPI_commit();
		gtf_ctx_set_payload(context, json(psprintf("{\"moved\": " INT64_FORMAT "}", done)));
		if (!gtf_ctx_progress(context, done, Max(done, total)))
			break;
	}
	gtf_ctx_set_result(context, json(psprintf(INT64_FORMAT, done)));
}

void
_PG_init(void)
{
	gtf_register_hook("gtf_example.digest", digest, GTF_HOOK_ATOMIC | GTF_HOOK_POLL);
	gtf_register_hook("gtf_example.archive", archive, GTF_HOOK_POLL);
}
