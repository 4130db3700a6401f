/*
 * gtf_later.c
 *	  Registers a hook as a library does that was built with a later gtf.h of
 *	  the same ABI.
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
	GtfHook   **first = (GtfHook **) find_rendezvous_variable(GTF_HOOKS_VARIABLE);

	gtf_register_hook("gtf_later.api", run, GTF_HOOK_ATOMIC);
	(*first)->api_size += sizeof(void *);
	gtf_register_hook("gtf_later.hook", run, GTF_HOOK_ATOMIC);
	(*first)->size += sizeof(void *);
}
