/*
 * gtf_v1.c
 *	  A library of which there are two versions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

#ifndef VERSION
#define VERSION 1
#endif

/* Loads the library without gtf. */
PG_FUNCTION_INFO_V1(gtf_version_number);

Datum
gtf_version_number(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(VERSION);
}

static void
version(GtfContext *context)
{
	char	   *result = psprintf("%d", VERSION);

	gtf_ctx_set_result(context, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(result))));
}

void
_PG_init(void)
{
	gtf_register_hook("gtf_version.version", version, GTF_HOOK_ATOMIC);
#if VERSION > 1
	gtf_register_hook("gtf_version.added", version, 0);
#endif
}
