/*-------------------------------------------------------------------------
 *
 * visible.c
 *	  Which tasks the current user may see.
 *
 * A task is visible to its subscribers and to administrators.  The subscriber
 * of a task that is not shared is its principal; only shared tasks need a
 * look into gtf.task_subscribers.  Two exceptions: system tasks are for
 * administrators only, and tasks that superusers own are hidden from
 * administrators who are not superusers, because such a task has more
 * privileges than they have.  A shared task of a superuser is nevertheless
 * visible to who has joined it: the type allows that.  In a copy that is not
 * adopted, tasks are visible to administrators only, and so are rows from
 * elsewhere while nothing says yet that this is a copy.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "access.h"
#include "locks.h"
#include "settings.h"
#include "store.h"
#include "visible.h"

static bool
is_principal(Oid owner, const char *app_user)
{
	return owner == GetUserId() && strcmp(app_user, gtf_app_user) == 0;
}

bool
gtf_is_subscribed(const pg_uuid_t *id, char scope, Oid owner,
				  const char *app_user)
{
	if (scope != GTF_SCOPE_SHARED)
		return is_principal(owner, app_user);
	return gtf_store_subscribed(id, GetUserId(), gtf_app_user);
}

bool
gtf_may_administer(Oid owner)
{
	return superuser() || (gtf_is_admin(GetUserId()) && !superuser_arg(owner));
}

bool
gtf_may_see(const pg_uuid_t *id, bool foreign, char scope, Oid owner,
			const char *app_user)
{
	/* cheapest test first: this runs once per row of the views */
	if (superuser())
		return true;
	/* the OIDs are those of another server until gtf_adopt() */
	if (foreign || gtf_store_is_copy())
		return gtf_is_admin(GetUserId());
	if (scope == GTF_SCOPE_PRIVATE && is_principal(owner, app_user))
		return true;
	if (gtf_may_administer(owner))
		return true;
	return scope == GTF_SCOPE_SHARED &&
		gtf_is_subscribed(id, scope, owner, app_user);
}

GtfTask *
gtf_visible_task(const pg_uuid_t *id)
{
	GtfTask    *task = gtf_store_task_head(id);

	if (task && !gtf_may_see(id, task->foreign, task->scope, task->owner,
							 task->app_user))
		return NULL;
	return task;
}

void
gtf_error_no_task(const pg_uuid_t *id)
{
	/* not only a caller's mistake: who has submitted it does not see it */
	bool		hidden = !gtf_is_admin(GetUserId()) && gtf_store_is_copy();

	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("task \"%s\" does not exist", gtf_id_text(id)),
			 hidden ? errdetail("This database is a copy that was not adopted: only administrators see its tasks, and none runs.") : 0,
			 hidden ? errhint("Have an administrator call gtf_adopt().") : 0));
}

GtfTask *
gtf_visible_task_locked(const pg_uuid_t *id)
{
	GtfTask    *task;

	/* nobody waits for a lock on what he may not see */
	if (gtf_visible_task(id) == NULL)
		gtf_error_no_task(id);
	(void) GetCurrentTransactionId();
	gtf_lock_task(id);

	/* there has been time to leave it, or to remove it */
	task = gtf_visible_task(id);
	if (task == NULL)
		gtf_error_no_task(id);
	return task;
}
