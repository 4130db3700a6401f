/*
 * gtf_cases.c
 *	  The body of sql/abort.sql in C: what it does is in its row of "cases".
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static void
execute(const char *command)
{
	if (SPI_execute(command, false, 0) < 0)
		elog(ERROR, "could not execute: %s", command);
}

/* A column of the row of the case, in the context that is current. */
static char *
column(GtfContext *context, const char *name)
{
	Datum		args = JsonbPGetDatum(gtf_ctx_args(context));
	Oid			type = JSONBOID;
	char	   *value;

	if (SPI_execute_with_args(psprintf("SELECT %s::text FROM cases WHERE id = ($1 ->> 'c')::int", name),
							  1, &type, &args, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "no such case");
	value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	return value ? value : "";
}

static void
effect(const char *what)
{
	execute(psprintf("INSERT INTO effects (what) VALUES (%s)", quote_literal_cstr(what)));
}

static void
raise_exception(const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_RAISE_EXCEPTION), errmsg("%s", message)));
}

/* A handler; arg is what it does. */
static void
handle(GtfContext *context, void *arg)
{
	const char *what = arg;

	effect(what);
	if (strstr(what, "fails"))
		raise_exception(what);
	else if (strstr(what, "orphan"))
		execute("INSERT INTO children VALUES (2)");
}

/* The next item of a list that is separated by ", "; NULL at the end. */
static char *
next(char **list)
{
	char	   *item = *list;
	char	   *end = strstr(item, ", ");

	if (*item == '\0')
		return NULL;
	*list = end ? end + 2 : item + strlen(item);
	if (end)
		*end = '\0';
	return item;
}

static void
conclude(GtfContext *context, char *does)
{
	char	   *step;

	while ((step = next(&does)) != NULL)
	{
		if (strcmp(step, "poll") == 0)
			(void) gtf_ctx_is_aborting(context);
		else if (strcmp(step, "progress") == 0)
			(void) gtf_ctx_progress_count(context, 1);
		else if (strcmp(step, "sleep") == 0)
			(void) gtf_ctx_sleep(context, 60000);
		else if (strcmp(step, "check") == 0)
			gtf_ctx_check_abort(context);
		else if (strcmp(step, "raise") == 0)
			raise_exception("oops");
		else if (strcmp(step, "orphan") == 0)
			execute("INSERT INTO children VALUES (1)");
	}
}

static void
body(GtfContext *context)
{
	char	   *id = column(context, "id");
	char	   *handlers = column(context, "handlers");
	char	   *request = column(context, "request");
	char	   *does = column(context, "does");
	char	   *handler;

	/* callbacks in C do not survive their process; functions do */
	if (strstr(request, "kill") || strstr(request, "terminate"))
		execute(psprintf("SELECT prepare(%s)", id));
	else
	{
		while ((handler = next(&handlers)) != NULL)
		{
			if (strncmp(handler, "abort", 5) == 0)
				gtf_ctx_on_abort(context, handle, MemoryContextStrdup(gtf_ctx_memory(context), handler));
			else
				gtf_ctx_on_cleanup(context, handle, MemoryContextStrdup(gtf_ctx_memory(context), handler));
		}
		effect("body");
	}
	execute(psprintf("SELECT hold(%s)", id));
	conclude(context, does);
}

static void
body_commits(GtfContext *context)
{
	SPI_commit();
	body(context);
}

void
_PG_init(void)
{
	gtf_register_hook("gtf_cases.c", body, GTF_HOOK_ATOMIC);
	gtf_register_hook("gtf_cases.c_commits", body_commits, 0);
}
