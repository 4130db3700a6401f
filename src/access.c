/*-------------------------------------------------------------------------
 *
 * access.c
 *	  Who is an administrator of gtf.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "access.h"
#include "settings.h"

bool
gtf_is_admin(Oid role)
{
	Oid			admin_role;

	if (superuser_arg(role))
		return true;

	/* A setting that names no role makes nobody an administrator. */
	admin_role = get_role_oid(gtf_admin_role, true);
	return OidIsValid(admin_role) && is_member_of_role(role, admin_role);
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
