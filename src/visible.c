/*-------------------------------------------------------------------------
 *
 * visible.c
 *	  Which tasks the current user may see.
 *
 * A task is visible to its principal and to administrators.  Two exceptions:
 * system tasks are for administrators only, and tasks that superusers own are
 * hidden from administrators who are not superusers, because such a task has
 * more privileges than they have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "access.h"
#include "settings.h"
#include "store.h"
#include "visible.h"

bool
gtf_is_principal(Oid owner, const char *app_user)
{
	return owner == GetUserId() && strcmp(app_user, gtf_app_user) == 0;
}

bool
gtf_may_see(Oid owner, const char *app_user, char scope)
{
	/* cheapest test first: this runs once per row of the views */
	if (superuser())
		return true;
	if (scope != GTF_SCOPE_SYSTEM && gtf_is_principal(owner, app_user))
		return true;
	return gtf_is_admin(GetUserId()) && !superuser_arg(owner);
}

GtfTask *
gtf_visible_task(const pg_uuid_t *id)
{
	GtfTask    *task = gtf_store_task_head(id);

	if (task && !gtf_may_see(task->owner, task->app_user, task->scope))
		return NULL;
	return task;
}
