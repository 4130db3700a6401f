/*-------------------------------------------------------------------------
 *
 * depend.c
 *	  Tasks with prerequisites: the dispatcher's part.
 *
 * A task with prerequisites comes here before it goes into the queue: all of
 * them are looked up.  Those that have not ended are watched, that is, their
 * ends come through the submit ring when they are durable; the task itself is
 * forgotten.  When a watched one has ended, gtf.dependents tells who depends
 * on it, and those are looked at again.  So waiting costs memory for each
 * prerequisite that has not ended, and none for the tasks that wait for it
 * (but for their expiry).
 *
 * No end is missed: a prerequisite is watched before the look that finds it
 * active, and as long as it is watched that look need not be repeated.  That
 * holds for its dependents to come, too, so a task becomes ready when the last
 * one of its prerequisites is taken off the watch, once.  Ends that may have
 * gone unheard (the flusher died, the ring was full) are looked for.  A new
 * dispatcher begins with nothing and finds the tasks by its scan.
 *
 * Whoever succeeds is final: only what has failed can be retried.  Dependents
 * that were failed meanwhile stay so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "settings.h"
#include "store.h"
#include "worker.h"

#define ROUND_ITEMS		500		/* looked at in one round */
#define MAX_ITEMS		65536	/* that wait for a look */
#define PAGE_IDS		256		/* of gtf.dependents, read at once */
#define BROKEN_TRIES	3		/* then a task that cannot be looked at fails */

/* What is to be looked at. */
typedef struct Item
{
	GtfTaskRef	ref;
	TimestampTz not_before;		/* after an error */

	/* found in gtf.dependents: the rest of ref is to be read */
	bool		found;
	pg_uuid_t	cause;			/* the prerequisite that has ended, and how */
	GtfStatus	status;
} Item;

/* A task that has ended; its dependents from here on are to be looked at. */
typedef struct Ended
{
	pg_uuid_t	id;
	pg_uuid_t	after;
} Ended;

/* The status of a prerequisite that is not there. */
#define GONE GTF_LOST

typedef enum Verdict
{
	WAITS,
	READY,
	FAILS,
	OVER						/* has ended, or is running */
} Verdict;

/* The argument of a step that is tried. */
typedef struct Look
{
	Dispatcher *d;
	Item	   *item;
	Verdict		verdict;
	char		message[128];	/* of FAILS */

	const Ended *ended;
	GtfStatus	status;
	pg_uuid_t	ids[PAGE_IDS];
	int			n;
} Look;

static MemoryContext depend_context;

static Item *items = NULL;
static int	num_items = 0;
static int	max_items = 0;

static Ended *ended = NULL;
static int	num_ended = 0;
static int	max_ended = 0;

/* Prerequisites that are watched, and how many of them have each bit. */
static HTAB *watched = NULL;
static uint32 *watched_bits = NULL;

/* They were too many to be remembered: every end is heard of. */
static bool watching_all = false;

void
gtf_depend_init(MemoryContext context, int db)
{
	depend_context = context;
	gtf_watch_all(db, false);
}

/* An array with room for one more. */
static void *
room(void *array, int n, int *max, Size size)
{
	if (n < *max)
		return array;
	*max = Max(64, *max * 2);
	return array == NULL ? MemoryContextAllocHuge(depend_context, *max * size) :
		repalloc_huge(array, *max * size);
}

static bool
is_watched(const pg_uuid_t *id)
{
	return watched != NULL && hash_search(watched, id, HASH_FIND, NULL) != NULL;
}

static void
watch(Dispatcher *d, const pg_uuid_t *id)
{
	int			bit = gtf_watch_bit(id);

	if (watching_all)
		return;
	if (watched == NULL)
	{
		HASHCTL		ctl = {0};

		watched_bits = MemoryContextAllocZero(depend_context,
											  GTF_WATCH_BITS * sizeof(uint32));
		ctl.keysize = sizeof(pg_uuid_t);
		ctl.entrysize = sizeof(pg_uuid_t);
		ctl.hcxt = depend_context;
		watched = hash_create("gtf prerequisites", 256, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (hash_get_num_entries(watched) * INT64CONST(64) >= gtf_queue_memory * INT64CONST(1024))
	{
		watching_all = true;
		gtf_watch_all(d->db, true);
		return;
	}
	(void) hash_search(watched, id, HASH_ENTER, NULL);
	watched_bits[bit]++;
	gtf_watch(d->db, bit, true);
}

static void
unwatch(Dispatcher *d, const pg_uuid_t *id)
{
	int			bit = gtf_watch_bit(id);

	if (!is_watched(id))
		return;
	(void) hash_search(watched, id, HASH_REMOVE, NULL);
	watched_bits[bit]--;
	if (watching_all)
	{
		/* have it end */
		if (hash_get_num_entries(watched) == 0)
		{
			pg_uuid_t	zero = {{0}};

			gtf_dispatcher_ask_scan(&zero);
		}
		return;
	}
	if (hash_get_num_entries(watched) == 0)
		gtf_watch_all(d->db, false);
	else if (watched_bits[bit] == 0)
		gtf_watch(d->db, bit, false);
}

void
gtf_depend_scan_starts(Dispatcher *d, bool whole)
{
	/* it brings all who wait */
	if (!whole || !watching_all)
		return;
	watching_all = false;
	gtf_watch_all(d->db, false);
	if (watched)
	{
		hash_destroy(watched);
		pfree(watched_bits);
		watched = NULL;
	}
}

static Item *
new_item(void)
{
	items = room(items, num_items, &max_items, sizeof(Item));
	memset(&items[num_items], 0, sizeof(Item));
	return &items[num_items++];
}

void
gtf_depend_add(const GtfTaskRef *ref)
{
	if (num_items >= MAX_ITEMS)
	{
		pg_uuid_t	from;

		gtf_id_below(gtf_id_ticks(&ref->id), &from);
		gtf_dispatcher_ask_scan(&from);
	}
	else
		new_item()->ref = *ref;
}

static void
add_ended(const pg_uuid_t *id)
{
	ended = room(ended, num_ended, &max_ended, sizeof(Ended));
	memset(&ended[num_ended], 0, sizeof(Ended));
	ended[num_ended++].id = *id;
}

void
gtf_depend_ended(const pg_uuid_t *id)
{
	static const pg_uuid_t none = {{0}};

	if (gtf_id_equal(id, &none))
		gtf_depend_look_again();
	else if (watching_all || is_watched(id))
		add_ended(id);
}

void
gtf_depend_look_again(void)
{
	HASH_SEQ_STATUS status;
	pg_uuid_t  *id;

	if (watching_all)
	{
		pg_uuid_t	zero = {{0}};

		gtf_dispatcher_ask_scan(&zero);
	}
	else if (watched)
	{
		/* in their place, not in addition to them */
		for (int i = num_ended - 1; i >= 0; i--)
		{
			if (is_watched(&ended[i].id))
				ended[i] = ended[--num_ended];
		}
		hash_seq_init(&status, watched);
		while ((id = hash_seq_search(&status)) != NULL)
			add_ended(id);
	}
}

bool
gtf_depend_busy(void)
{
	return num_items >= ROUND_ITEMS;
}

/* Fill in the reference of a task that was found in gtf.dependents. */
static bool
read_item(Item *item)
{
	GtfTaskRef *ref = &item->ref;
	GtfTask    *task = gtf_store_task_head(&ref->id);
	GtfOutcome *last = gtf_store_outcome_head(&ref->id, NULL);
	GtfSlotInfo slot;
	GtfLive		live;

	/* one that is not ours is looked at when it has been adopted */
	if (task == NULL || task->foreign ||
		(last && gtf_status_is_final(last->status)) ||
		gtf_slot_find(&ref->id, &slot))
		return false;
	gtf_ref_set_task(ref, task);
	ref->expires_at = task->expires_at;
	ref->due = task->run_at != 0 ? task->run_at : task->created_at;
	ref->attempt = last ? last->attempt + 1 : 1;
	if (gtf_store_live_get(&ref->id, &live))
	{
		if (live.state != GTF_LIVE_WAITING)
			return false;
		ref->attempt = live.attempt;
		ref->due = live.since;
		ref->flags |= GTF_REF_HAS_LIVE | GTF_REF_DURABLE_START;
		ref->expires_at = gtf_live_expires_at(&live, task);
	}
	return true;
}

/* How is this prerequisite?  Pending until it has ended. */
static GtfStatus
look_up(Dispatcher *d, const pg_uuid_t *id, XLogRecPtr *lsn)
{
	GtfOutcome *last;
	bool		gone = false;

	last = gtf_store_outcome_head(id, lsn);
	if (last && gtf_status_is_final(last->status))
		return last->status;

	watch(d, id);
	last = gtf_store_outcome_head(id, lsn);
	if (last == NULL || !gtf_status_is_final(last->status))
	{
		gone = gtf_store_task_head(id) == NULL;
		if (!gone)
			return GTF_PENDING;
	}
	unwatch(d, id);
	return gone ? GONE : last->status;
}

/* Look at all prerequisites of a task, as far as is needed. */
static Verdict
look_at_all(Look *look, const pg_uuid_t *ids, int n)
{
	Item	   *item = look->item;
	Verdict		verdict = READY;
	GtfStatus	status = item->status;
	const pg_uuid_t *which = &item->cause;
	XLogRecPtr	lsn;

	if (!item->found || status == GTF_SUCCESS)
	{
		for (int i = 0; i < n; i++)
		{
			if (is_watched(&ids[i]))
				verdict = WAITS;
		}
		/* those that have failed, or are not watched yet, are found once */
		if (item->found && verdict == WAITS)
			return WAITS;
		for (int i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (is_watched(&ids[i]))
				continue;
			which = &ids[i];
			status = look_up(look->d, which, &lsn);
			if (status == GTF_PENDING)
				verdict = WAITS;
			else if (status != GTF_SUCCESS)
				break;
			else
				item->ref.lsn = Max(item->ref.lsn, lsn);
		}
		if (status == GTF_SUCCESS || status == GTF_PENDING || status == 0)
			return verdict;
	}

	if (status == GONE)
		snprintf(look->message, sizeof(look->message),
				 "Prerequisite task %s no longer exists", gtf_id_text(which));
	else
		snprintf(look->message, sizeof(look->message),
				 "Prerequisite task %s did not succeed (status=%s)",
				 gtf_id_text(which), gtf_status_text(status));
	return FAILS;
}

static void
look_step(void *arg)
{
	Look	   *look = arg;
	GtfTaskRef *ref = &look->item->ref;
	pg_uuid_t  *ids;
	int			n;
	XLogRecPtr	lsn;

	gtf_tx_begin();
	look->verdict = OVER;
	if ((!look->item->found || read_item(look->item)) &&
		(ids = gtf_store_prerequisites(&ref->id, &n, &lsn)) != NULL)
	{
		ref->lsn = Max(ref->lsn, lsn);
		look->verdict = look_at_all(look, ids, n);
	}
	(void) gtf_tx_commit(false);
}

static void
fail(Dispatcher *d, const GtfTaskRef *ref, int sqlerrcode, const char *message)
{
	gtf_settle_unstarted(d, ref, 1, sqlerrcode, message);
	/* who depends on it need not wait until that is flushed */
	if (watching_all || is_watched(&ref->id))
		add_ended(&ref->id);
}

/* False: it stays where it is, to be looked at later. */
static bool
look_at(Dispatcher *d, Item *item)
{
	static Look look;
	int			sqlerrcode;
	const char *trouble;

	look.d = d;
	look.item = item;
	if (!gtf_dispatcher_try(d, GTF_TROUBLE_DEPEND, &item->ref.id, look_step, &look))
	{
		item->not_before = TimestampTzPlusMilliseconds(d->now, 1000);
		trouble = gtf_dispatcher_gives_up(GTF_TROUBLE_DEPEND, &item->ref.id,
										  BROKEN_TRIES, &sqlerrcode);
		if (trouble == NULL)
			return false;
		item->ref.attempt = Max(item->ref.attempt, 1);
		fail(d, &item->ref, sqlerrcode,
			 psprintf("could not read the prerequisites: %s", trouble));
		return true;
	}
	switch (look.verdict)
	{
		case READY:
			item->ref.flags &= ~GTF_REF_DEPENDS;
			/* there may be more than one reference to it */
			item->ref.flags |= GTF_REF_SCANNED;
			gtf_queue_add(&item->ref, d->now, d->flushed);
			gtf_dispatcher_look_at(d, d->now);
			break;
		case FAILS:
			fail(d, &item->ref, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				 look.message);
			break;
		case WAITS:
			/* it is remembered only to expire; once, not after each look */
			if (item->ref.expires_at != 0 && !item->found)
			{
				GtfTaskRef	ref = item->ref;

				ref.due = TimestampTzPlusMilliseconds(ref.expires_at, 60000);
				ref.lsn = InvalidXLogRecPtr;
				gtf_queue_add(&ref, d->now, d->flushed);
			}
			break;
		case OVER:
			break;
	}
	return true;
}

static void
ended_step(void *arg)
{
	Look	   *look = arg;
	const pg_uuid_t *id = &look->ended->id;
	GtfOutcome *last;

	gtf_tx_begin();
	look->n = 0;
	last = gtf_store_outcome_head(id, NULL);
	if (last && gtf_status_is_final(last->status))
		look->status = last->status;
	else
		look->status = gtf_store_task_head(id) ? GTF_PENDING : GONE;

	/* it may be running again, or there may have been nothing to hear of */
	if (look->status != GTF_PENDING)
	{
		look->n = gtf_store_dependents(id, &look->ended->after, look->ids, PAGE_IDS);
		unwatch(look->d, id);
	}
	(void) gtf_tx_commit(false);
}

/* Have the dependents of a task that has ended looked at.  False: not all. */
static bool
look_at_dependents(Dispatcher *d, Ended *one)
{
	static Look look;

	look.d = d;
	look.ended = one;
	do
	{
		if (num_items >= ROUND_ITEMS ||
			!gtf_dispatcher_try(d, GTF_TROUBLE_DEPENDENTS, &one->id, ended_step,
								&look))
			return false;
		for (int i = 0; i < look.n; i++)
		{
			Item	   *item = new_item();

			item->ref.id = look.ids[i];
			item->ref.flags = GTF_REF_DEPENDS;
			item->found = true;
			item->cause = one->id;
			item->status = look.status;
			one->after = look.ids[i];
		}
	} while (look.n == PAGE_IDS);
	return true;
}

/* What is done leaves its array then, so that an error loses nothing. */
void
gtf_depend_work(Dispatcher *d)
{
	int			done = 0;

	for (int i = 0; i < num_ended;)
	{
		if (look_at_dependents(d, &ended[i]))
			ended[i] = ended[--num_ended];
		else
			i++;
	}
	for (int i = 0; i < num_items && done < ROUND_ITEMS;)
	{
		if (items[i].not_before > d->now)
			gtf_dispatcher_look_at(d, items[i++].not_before);
		else if (look_at(d, &items[i]))
		{
			items[i] = items[--num_items];
			done++;
		}
		else
			i++;
	}
	/* those that have raised are looked at when their time has come */
	if (done > 0 && (num_ended > 0 || num_items > 0))
		gtf_dispatcher_look_at(d, d->now);
}
