/*-------------------------------------------------------------------------
 *
 * access.c
 *	  Who is an administrator of gtf, and who may have executors.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "access.h"
#include "compat.h"
#include "settings.h"
#include "store.h"

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
