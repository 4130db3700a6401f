/*-------------------------------------------------------------------------
 *
 * visible.h
 *	  Which tasks the current user may see.
 *
 * What is not visible does not exist: callers report such a task exactly as
 * one that is not there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_VISIBLE_H
#define GTF_VISIBLE_H

#include "task.h"

/*
 * Is the caller (current role, gtf.app_user) a subscriber of the task, which
 * is of this principal?
 */
extern bool gtf_is_subscribed(const pg_uuid_t *id, char scope, Oid owner,
							  const char *app_user);

/*
 * May the caller see the task, of this principal and scope?  A foreign one is
 * a copy that gtf_adopt() has not made ours.
 */
extern bool gtf_may_see(const pg_uuid_t *id, bool foreign, char scope,
						Oid owner, const char *app_user);

/*
 * Is the caller an administrator for tasks of this owner?  Those of superusers
 * are for superusers.
 */
extern bool gtf_may_administer(Oid owner);

/*
 * The task without its args, in the current memory context, if it is there
 * and the caller may see it, else NULL.
 */
extern GtfTask *gtf_visible_task(const pg_uuid_t *id);

/*
 * The same with its lock (locks.h), for who is to change something of it: as
 * it is with the lock.  ERROR P0002 if it is not there, or not visible.
 */
extern GtfTask *gtf_visible_task_locked(const pg_uuid_t *id);

/* ERROR P0002: there is no such task, or none that the caller may see. */
extern void gtf_error_no_task(const pg_uuid_t *id);

#endif							/* GTF_VISIBLE_H */
