/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  gtf_adopt: let the tasks of a copied database run here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"

#include "access.h"
#include "shmem.h"
#include "store.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(gtf_adopt);

/*
 * gtf_adopt() RETURNS void
 *
 * The dispatcher of a copy sleeps; woken at commit, it starts over.
 */
Datum
gtf_adopt(PG_FUNCTION_ARGS)
{
	pg_uuid_t	zero = {{0}};

	PreventCommandIfReadOnly("gtf_adopt()");
	gtf_shmem_require();
	gtf_require_admin();
	gtf_store_state_adopt();
	gtf_wakeup_scan(&zero);
	PG_RETURN_VOID();
}
