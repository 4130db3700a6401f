/*
 * gtf_init_fails.c
 *	  A library that cannot be loaded.
 */
#include "postgres.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static void
run(GtfContext *context)
{
}

void
_PG_init(void)
{
	gtf_register_hook("gtf_init_fails.run", run, GTF_HOOK_ATOMIC);
	elog(ERROR, "not today");
}
