/*-------------------------------------------------------------------------
 *
 * gtf.c
 *	  The door: what happens when the library is loaded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "ddl.h"
#include "settings.h"
#include "shmem.h"
#include "worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	gtf_settings_init();

	/* Loaded later: reading and registering work, the rest says why not. */
	if (!process_shared_preload_libraries_in_progress)
		return;

	gtf_shmem_init();
	gtf_ddl_init();

	/* pg_upgrade's servers must have their databases to themselves */
	if (!IsBinaryUpgrade)
		gtf_worker_register_launcher();
}
