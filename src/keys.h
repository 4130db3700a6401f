/*-------------------------------------------------------------------------
 *
 * keys.h
 *	  One active task for each key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_KEYS_H
#define GTF_KEYS_H

#include "registry.h"
#include "store.h"
#include "task.h"

/*
 * Take the key of a task that is about to be written, or find who has it.
 * task needs id, owner, app_user, scope and task_key.
 *
 * True: the key is the task's; task->has_after and after_id are set if it may
 * start only when another one has ended, which is aborting.  False: *holder
 * is active and has it; of a shared task the owner and app_user of *task are
 * subscribers now.  Waits for transactions that are about to decide it;
 * lock_timeout and deadlock detection apply.
 */
extern bool gtf_key_claim(GtfTask *task, const GtfType *type,
						  pg_uuid_t *holder);

/* Subscribe the submitter of a new shared task to it. */
extern void gtf_subscribe(const pg_uuid_t *id, Oid role, const char *app_user);

/* As gtf_key_claim for a task that is to run again; ERROR 23505 if another has it. */
extern void gtf_key_reclaim(GtfTask *task, const GtfType *type);

/* Is the key the owner's, not one that others have, too? */
extern bool gtf_key_is_of_owner(const GtfTask *task, const GtfType *type);

/* Of a task that came from elsewhere, whose owner is another role here. */
extern void gtf_key_restore(const GtfTask *task, const GtfType *type);

/* Forget the key of a task that is removed. */
extern void gtf_key_forget(const GtfTask *task, const GtfType *type);

#endif							/* GTF_KEYS_H */
