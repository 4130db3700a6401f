/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  gtf_adopt: let the tasks of a copied database run here.
 *
 * All in the transaction of the administrator who calls it (store_role.c); the
 * dispatcher of a copy leaves these rows alone, so nobody is in its way.  If
 * it is rolled back the database is the copy that it was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"

#include "access.h"
#include "keys.h"
#include "registry.h"
#include "shmem.h"
#include "store.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(gtf_adopt);
PG_FUNCTION_INFO_V1(gtf_restored);

/*
 * gtf_adopt() RETURNS void
 *
 * The dispatcher of a copy sleeps; woken at commit, it starts over.
 */
Datum
gtf_adopt(PG_FUNCTION_ARGS)
{
	pg_uuid_t	zero = {{0}};
	pg_uuid_t  *keyed;
	int			n;

	PreventCommandIfReadOnly("gtf_adopt()");
	gtf_shmem_require();
	gtf_require_admin();
	keyed = gtf_store_state_adopt(&n);
	for (int i = 0; i < n; i++)
	{
		GtfTask    *task = gtf_store_task_head(&keyed[i]);
		GtfType    *type = gtf_type_by_version(task->type_version, true);

		if (type)
			gtf_key_restore(task, type);
		pfree(task);
	}
	gtf_wakeup_scan(&zero);
	PG_RETURN_VOID();
}

/*
 * gtf._restored() RETURNS trigger
 *
 * A row of gtf.state is inserted with SQL: by a restore.
 */
Datum
gtf_restored(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("gtf._restored() is called by gtf only")));
	/* also into the database that it was made of: time has passed there */
	gtf_store_state_restored();
	if (gtf_shmem_available())
		gtf_wakeup_restart(MyDatabaseId);
	/* a null pointer, not a null value, is what a trigger returns */
	PG_RETURN_POINTER(NULL);
}
