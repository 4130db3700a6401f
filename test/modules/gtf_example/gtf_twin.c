/*
 * gtf_twin.c
 *	  Registers a hook that gtf_example has registered, too.
 */
#include "postgres.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static void
digest(GtfContext *context)
{
}

void
_PG_init(void)
{
	gtf_register_hook("gtf_example.digest", digest, GTF_HOOK_ATOMIC);
	gtf_register_hook("gtf_twin.digest", digest, GTF_HOOK_ATOMIC);
}
