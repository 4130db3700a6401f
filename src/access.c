/*-------------------------------------------------------------------------
 *
 * access.c
 *	  Who is an administrator of gtf, who may have executors, and who may
 *	  write into its tables.
 *
 * Answers from the catalogs, in whatever process asks.  Nothing is kept: what
 * is asked twice may have changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "access.h"
#include "compat.h"
#include "settings.h"
#include "store.h"

PG_FUNCTION_INFO_V1(gtf_guard);

bool
gtf_is_admin(Oid role)
{
	Oid			admin_role;

	if (superuser_arg(role))
		return true;

	/*
	 * A setting that names no role makes nobody an administrator.  A member
	 * without the privileges of the role is none either: one that may only
	 * SET ROLE, or, since version 16, only grant the role to others.
	 */
	admin_role = get_role_oid(gtf_admin_role, true);
	return OidIsValid(admin_role) && has_privs_of_role(role, admin_role);
}

void
gtf_require_admin(void)
{
	if (!gtf_is_admin(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be an administrator of gtf"),
				 errdetail("Administrators are superusers and the members of role \"%s\" (gtf.admin_role).",
						   gtf_admin_role)));
}

char *
gtf_may_connect(Oid role, bool *can_login, bool *is_superuser, int *sqlerrcode)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	Form_pg_authid form;
	char	   *why = NULL;

	if (!HeapTupleIsValid(tuple))
	{
		*sqlerrcode = ERRCODE_UNDEFINED_OBJECT;
		return psprintf("role \"%s\" does not exist", gtf_store_role_name(role));
	}
	form = (Form_pg_authid) GETSTRUCT(tuple);
	*can_login = form->rolcanlogin;
	*is_superuser = form->rolsuper;
	if (!form->rolsuper &&
		object_aclcheck(DatabaseRelationId, MyDatabaseId, role,
						ACL_CONNECT) != ACLCHECK_OK)
	{
		*sqlerrcode = ERRCODE_INSUFFICIENT_PRIVILEGE;
		why = psprintf("role \"%s\" does not have CONNECT privilege on the database",
					   NameStr(form->rolname));
	}
	ReleaseSysCache(tuple);
	return why;
}

/*
 * gtf._guard() RETURNS trigger
 *
 * A table of ours is changed with SQL: by ourselves, who are its owner then,
 * or by a restore or a superuser at work, or his subscription.
 */
Datum
gtf_guard(PG_FUNCTION_ARGS)
{
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("gtf._guard() is called by gtf only")));
	rel = ((TriggerData *) fcinfo->context)->tg_relation;
	if (!has_privs_of_role(GetUserId(), rel->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s",
						RelationGetRelationName(rel)),
				 errdetail("Only the owner of the extension writes into its tables.")));
	/* a null pointer, not a null value, is what a trigger returns */
	PG_RETURN_POINTER(NULL);
}
