/*-------------------------------------------------------------------------
 *
 * dropped.c
 *	  The dispatcher's part in the end of roles.
 *
 * Nothing of gtf keeps a role from being dropped, and a role can be dropped
 * from any database.  So every dispatcher is told by the commit of a DROP ROLE
 * (ddl.c), by the invalidation of pg_authid should that have been a COMMIT
 * PREPARED, and looks when it starts.  Then
 *
 *	  the subscriptions of the role go, and a shared task that nobody wants any
 *	  more is asked to stop, as if the last subscriber had left;
 *
 *	  so do the keys of the role's tasks which belong to the role: whoever gets
 *	  its OID one day shall not join what it has submitted.
 *
 * A task is looked at under its lock, like a cancel; the dispatcher does not
 * wait for that lock but comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "keys.h"
#include "locks.h"
#include "registry.h"
#include "store.h"
#include "worker.h"

#define BATCH_TASKS		200		/* subscriptions ended in a round */
#define LIST_TASKS		10000	/* looked up at once */
#define BATCH_ROWS		20000	/* tasks looked at for keys in a round */
#define AGAIN_MS		200

static bool changed = true;		/* look for roles that are gone */

/* What a role that is gone has subscribed. */
typedef struct Subscription
{
	pg_uuid_t	task_id;
	Oid			role;
} Subscription;

/* those that are to end */
static Subscription *found = NULL;
static int	num_found = 0;
static int	next_found = 0;
static bool more = false;		/* there was no room for all */
static bool left = false;		/* some could not be ended yet */

/* owners whose keys are to go, the first from this task on, and have gone */
static List *owners = NIL;
static pg_uuid_t owner_after;
static List *forgotten = NIL;

static void
authid_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	int			db = gtf_db_find(MyDatabaseId);

	changed = true;
	if (db >= 0)
		gtf_dispatcher_wake(db);
}

void
gtf_dropped_init(void)
{
	found = MemoryContextAlloc(TopMemoryContext,
							   LIST_TASKS * sizeof(Subscription));
	CacheRegisterSyscacheCallback(AUTHOID, authid_changed, (Datum) 0);
}

/* Those of a that are not in b; both ascend. */
static List *
without(const List *a, const List *b)
{
	List	   *result = NIL;
	int			j = 0;

	for (int i = 0; i < list_length(a); i++)
	{
		Oid			oid = list_nth_oid(a, i);

		while (j < list_length(b) && list_nth_oid(b, j) < oid)
			j++;
		if (j == list_length(b) || list_nth_oid(b, j) != oid)
			result = lappend_oid(result, oid);
	}
	return result;
}

/* Find out what there is to do. */
static void
look_step(void *arg)
{
	pg_uuid_t  *ids;
	List	   *gone;
	List	   *again;
	Oid			first;
	ListCell   *lc;
	MemoryContext old;

	gtf_tx_begin();
	if (gtf_store_is_copy())
	{
		/* these OIDs are not of this server */
		(void) gtf_tx_commit(false);
		return;
	}
	gtf_store_roles_refresh();
	ids = palloc(LIST_TASKS * sizeof(pg_uuid_t));
	foreach(lc, gtf_store_gone_subscribers())
	{
		int			n = gtf_store_subscriptions(lfirst_oid(lc), ids,
												LIST_TASKS - num_found);

		for (int i = 0; i < n; i++)
		{
			found[num_found].task_id = ids[i];
			found[num_found++].role = lfirst_oid(lc);
		}
	}
	more = num_found == LIST_TASKS;

	gone = gtf_store_gone_owners();
	first = owners == NIL ? InvalidOid : linitial_oid(owners);
	/* an OID that is in use again may be dropped again */
	list_sort(forgotten, list_oid_cmp);
	again = without(forgotten, gone);
	old = MemoryContextSwitchTo(TopMemoryContext);
	again = without(forgotten, again);
	list_free(forgotten);
	forgotten = again;
	list_free(owners);
	owners = without(gone, forgotten);
	MemoryContextSwitchTo(old);
	if (owners == NIL || linitial_oid(owners) != first)
		memset(&owner_after, 0, sizeof(owner_after));
	(void) gtf_tx_commit(false);
}

/* End the subscriptions of a role to a task. */
static void
unsubscribe_step(void *arg)
{
	const Subscription *subscription = arg;
	const pg_uuid_t *id = &subscription->task_id;
	bool		asked = false;
	GtfTask    *task;

	gtf_tx_begin();
	task = gtf_store_task_head(id);
	if (task == NULL || task->foreign)
	{
		/* a restore is going on */
	}
	else if (!gtf_lock_task_nowait(id))
		left = true;
	else if (gtf_store_subscriber_delete_role(id, subscription->role) > 0 &&
			 gtf_store_subscriber_count(id, 1) == 0 &&
			 !gtf_store_has_ended(id))
	{
		gtf_store_request_put(id, GTF_CAUSE_CANCEL, GTF_FORCE_NONE);
		asked = true;
	}
	(void) gtf_tx_commit(false);
	if (asked)
		gtf_tell(MyDatabaseId, GTF_NEWS_REQUESTS);
}

/* Forget the keys of the next tasks of the first owner. */
static void
forget_step(void *arg)
{
	Oid			owner = linitial_oid(owners);
	pg_uuid_t	after = owner_after;
	pg_uuid_t	end;
	ListCell   *lc;

	gtf_tx_begin();
	foreach(lc, gtf_store_tasks_of(owner, &after, BATCH_ROWS))
	{
		GtfTask    *task = lfirst(lc);
		GtfType    *type = gtf_type_by_version(task->type_version, true);

		if (type && !task->foreign && gtf_key_is_of_owner(task, type))
			gtf_key_forget(task, type);
	}
	(void) gtf_tx_commit(false);

	owner_after = after;
	memset(&end, 0xff, sizeof(end));
	if (gtf_id_equal(&after, &end))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		forgotten = lappend_oid(forgotten, owner);
		owners = list_delete_first(owners);
		memset(&owner_after, 0, sizeof(owner_after));
		MemoryContextSwitchTo(old);
	}
}

void
gtf_settle_dropped(Dispatcher *d)
{
	static const pg_uuid_t looking = {{0}};
	static const pg_uuid_t forgetting = {{1}};
	static TimestampTz again = 0;

	if (gtf_news_take(d->db, GTF_NEWS_ROLES))
		changed = true;
	if (next_found == num_found &&
		(changed || (more && !left) || (again != 0 && again <= d->now)))
	{
		changed = more = left = false;
		again = 0;
		next_found = num_found = 0;
		if (!gtf_dispatcher_try(d, GTF_TROUBLE_ROLE, &looking, look_step, NULL))
			left = true;
	}
	for (int n = 0; n < BATCH_TASKS && next_found < num_found; n++)
	{
		Subscription *next = &found[next_found++];

		if (!gtf_dispatcher_try(d, GTF_TROUBLE_ROLE, &next->task_id,
								unsubscribe_step, next))
			left = true;
	}
	if (owners != NIL &&
		!gtf_dispatcher_try(d, GTF_TROUBLE_ROLE, &forgetting, forget_step, NULL))
		left = true;

	if (next_found < num_found || changed ||
		((more || owners != NIL) && !left))
		gtf_dispatcher_look_at(d, d->now);
	else if (left)
	{
		if (again == 0)
			again = TimestampTzPlusMilliseconds(d->now, AGAIN_MS);
		gtf_dispatcher_look_at(d, again);
	}
}
