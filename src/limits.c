/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  Limits and pauses, as the dispatcher enforces them.
 *
 * The dispatcher alone hands tasks out, so a limit is its decision: a task
 * goes into its owner's lane only when none of its limits (of its queue, its
 * type, its owner) is reached.  A task that is kept from starting waits in the
 * heap of the limit that keeps it, out of the way of all others, and goes back
 * to its owner's heap when there is room.  What has limits comes in there, too.
 *
 * What runs is not counted up and down but looked up in each round: a task
 * counts from when it is in a lane until its slot is idle, or free after a
 * lost attempt was settled.  Lanes are read before slots, and a task that has
 * moved in between counts once.  So nothing can drift, whoever dies, and a new
 * dispatcher knows at once what the executors have.
 *
 * A rate is about starts.  Of the tasks that a rate limits at most one is in a
 * lane; the next one follows when that has started, and not before the time
 * between two starts has passed since.  Its executor wakes the dispatcher when
 * the body starts, and whenever a limited task has ended.  A task that has
 * come and gone unseen has left an outcome, which says when it was started,
 * or that it never was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "flow.h"
#include "limits.h"
#include "registry.h"
#include "settings.h"
#include "store.h"
#include "worker.h"

#define MAX_PER_TASK		3	/* of the queue, the type, the owner */
#define MAX_RELEASE			1000	/* tasks in one round, where no number
									 * limits them */
#define MAX_PARKED			20000	/* tasks in one round */
#define UNFLAGGED_MS		100 /* between looks at tasks that do not tell
								 * when they end */
#define GONE_MS				1000	/* from a slot back into the ring */

typedef struct LimitKey
{
	uint64		id;				/* hash of a name, or OID of the owner */
	int64		kind;			/* GtfFlowKind */
} LimitKey;

typedef struct Limit
{
	LimitKey	key;
	int			max_running;	/* 0 = none */
	int64		interval_us;	/* between two starts; 0 = none */
	bool		paused;
	bool		listed;			/* when gtf.flow was read last */
	RefHeap		parked;			/* what it keeps from starting */

	int			running;		/* counted in this round */
	TimestampTz last_start;
	bool		has_handed;		/* a task that has not started yet, as far as
								 * is known */
	bool		handed_seen;
	TimestampTz gone_since;		/* it was not seen any more; 0 = it was */
	pg_uuid_t	handed;
	int32		handed_attempt;
} Limit;

/* What is to be known of a version of a type. */
typedef struct TypeInfo
{
	int32		version;		/* hash key */
	uint64		name;
	uint64		queue;
} TypeInfo;

static int	my_db;
static HTAB *limits;
static HTAB *types;
static bool any[128];			/* by kind: is there one? */
static bool stale = true;
static bool unapplied = false;	/* what was to be read then */
static int	max_executors = 0;	/* 0 = gtf.max_executors */
static int	min_executors = 0;

/* of the round */
static Dispatcher *round_of;
static MemoryContext round_context;
static GtfTaskRef *lane_refs;
static int	num_lane_refs;
static int	max_lane_refs;
static bool unflagged;			/* do limited tasks run that do not tell when
								 * they end? */
static int	num_parked;

static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (any[GTF_FLOW_OWNER])
		stale = true;
}

void
gtf_limits_init(MemoryContext context, int db)
{
	HASHCTL		ctl = {0};

	my_db = db;
	ctl.keysize = sizeof(LimitKey);
	ctl.entrysize = sizeof(Limit);
	ctl.hcxt = context;
	limits = hash_create("gtf limits", 16, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(int32);
	ctl.entrysize = sizeof(TypeInfo);
	types = hash_create("gtf types of limited tasks", 16, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	max_lane_refs = GTF_LANE_SIZE;
	lane_refs = MemoryContextAlloc(context, max_lane_refs * sizeof(GtfTaskRef));
	CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
}

void
gtf_limits_stale(void)
{
	stale = true;
}

int
gtf_limits_max_executors(void)
{
	return max_executors > 0 ? max_executors : gtf_max_executors;
}

int
gtf_limits_min_executors(void)
{
	return min_executors;
}

/* ---- reading gtf.flow ---- */

/* True if it is new, or has changed. */
static bool
take_limit(const GtfFlow *flow)
{
	LimitKey	key = {0};
	Limit	   *limit;
	int64		interval_us = 0;
	bool		found;
	bool		changed;

	key.kind = flow->kind;
	if (flow->kind == GTF_FLOW_OWNER)
	{
		/* that of a role that is not there limits nobody */
		key.id = get_role_oid(flow->name, true);
		if (key.id == InvalidOid)
			return false;
	}
	else
		key.id = gtf_name_hash(flow->name);
	if (flow->rate && !gtf_flow_parse_rate(flow->rate, &interval_us))
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("invalid rate \"%s\" in gtf.flow is ignored", flow->rate)));

	limit = hash_search(limits, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) limit + sizeof(LimitKey), 0,
			   sizeof(Limit) - sizeof(LimitKey));
		gtf_queue_heap_init(&limit->parked, false);
	}
	changed = !found || limit->max_running != flow->max_running ||
		limit->interval_us != interval_us || limit->paused != flow->paused;
	limit->max_running = flow->max_running;
	limit->interval_us = interval_us;
	limit->paused = flow->paused;
	limit->listed = true;
	return changed;
}

/* Up to n tasks back to their owners; they are in one place at any time. */
static void
release(Limit *limit, int n)
{
	GtfTaskRef	ref;

	while (n-- > 0 && gtf_queue_heap_peek(&limit->parked, &ref))
	{
		gtf_queue_push(gtf_queue_owner(ref.owner), &ref);
		gtf_queue_heap_pop(&limit->parked);
	}
}

/* *arg: the rows, in the context of the round. */
static void
read_step(void *arg)
{
	List	  **rows = arg;
	MemoryContext context = CurrentMemoryContext;

	gtf_tx_begin();
	MemoryContextSwitchTo(round_context);
	*rows = gtf_store_flow_all();
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(context);
}

/* What is read is what holds; a limit that has gone lets its tasks go. */
static void
apply(List *rows)
{
	ListCell   *lc;
	HASH_SEQ_STATUS status;
	Limit	   *limit;
	static bool changed = false;	/* until it has been acted upon */

	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
		limit->listed = false;
	min_executors = max_executors = 0;
	gtf_tx_begin();
	foreach(lc, rows)
	{
		const GtfFlow *flow = lfirst(lc);

		if (flow->kind == GTF_FLOW_POOL)
		{
			min_executors = flow->min_running;
			max_executors = flow->max_running;
		}
		else
			changed |= take_limit(flow);
	}
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(round_context);

	memset(any, 0, sizeof(any));
	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
	{
		any[limit->key.kind & 127] |= limit->listed;
		changed |= !limit->listed;
	}
	if (!changed)
		return;

	/* look anew at everything that has not started */
	gtf_pool_recall();
	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
	{
		limit->parked.held = false;
		release(limit, INT_MAX);
		if (limit->listed)
			continue;
		/* what it has left to the table is to be found again */
		if (limit->parked.dropped)
		{
			pg_uuid_t	zero = {{0}};

			gtf_dispatcher_ask_scan(&zero);
		}
		gtf_queue_heap_done(&limit->parked);
		(void) hash_search(limits, &limit->key, HASH_REMOVE, NULL);
	}
	changed = false;
}

/* ---- the limits of a task ---- */

static void
type_step(void *arg)
{
	TypeInfo   *info = arg;
	const GtfType *type;
	MemoryContext context = CurrentMemoryContext;

	gtf_tx_begin();
	type = gtf_type_by_version(info->version, true);
	if (type)
	{
		info->name = gtf_name_hash(type->name);
		info->queue = gtf_name_hash(type->queue);
	}
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(context);
}

/* Versions never change, so it is read once. */
static const TypeInfo *
type_info(const GtfTaskRef *ref)
{
	static TypeInfo unread;
	TypeInfo   *info = hash_search(types, &ref->type_version, HASH_FIND, NULL);

	if (info)
		return info;
	memset(&unread, 0, sizeof(unread));
	unread.version = ref->type_version;
	/* a type that cannot be read is a matter of those who run its tasks */
	if (!gtf_dispatcher_try(round_of, GTF_TROUBLE_LIMIT, &ref->id, type_step,
							&unread))
		return &unread;
	info = hash_search(types, &ref->type_version, HASH_ENTER, NULL);
	*info = unread;
	return info;
}

static int
limits_of(const GtfTaskRef *ref, Limit **found)
{
	LimitKey	key = {0};
	int			n = 0;

	if (hash_get_num_entries(limits) == 0 || (ref->flags & GTF_REF_CLEANUP))
		return 0;
	if (any[GTF_FLOW_QUEUE])
	{
		key.kind = GTF_FLOW_QUEUE;
		key.id = ref->queue != 0 ? ref->queue : type_info(ref)->queue;
		if ((found[n] = hash_search(limits, &key, HASH_FIND, NULL)) != NULL)
			n++;
	}
	if (any[GTF_FLOW_TASK_TYPE])
	{
		key.kind = GTF_FLOW_TASK_TYPE;
		key.id = type_info(ref)->name;
		if ((found[n] = hash_search(limits, &key, HASH_FIND, NULL)) != NULL)
			n++;
	}
	if (any[GTF_FLOW_OWNER])
	{
		key.kind = GTF_FLOW_OWNER;
		key.id = ref->owner;
		if ((found[n] = hash_search(limits, &key, HASH_FIND, NULL)) != NULL)
			n++;
	}
	return n;
}

/* ---- what runs ---- */

/* started_at 0: not yet. */
static void
count(const GtfTaskRef *ref, TimestampTz started_at)
{
	Limit	   *found[MAX_PER_TASK];
	int			n = limits_of(ref, found);

	unflagged |= n > 0 && (ref->flags & GTF_REF_LIMITED) == 0;
	for (int i = 0; i < n; i++)
	{
		Limit	   *limit = found[i];

		limit->running++;
		limit->last_start = Max(limit->last_start, started_at);
		if (limit->has_handed && gtf_id_equal(&limit->handed, &ref->id) &&
			limit->handed_attempt == ref->attempt)
		{
			limit->handed_seen = true;
			if (started_at != 0)
				limit->has_handed = false;
		}
	}
}

/*
 * A task that was handed out is neither in a lane nor in a slot: was it
 * started, and when?
 */
static void
gone_step(void *arg)
{
	Limit	   *limit = arg;
	GtfOutcome *last;
	MemoryContext context = CurrentMemoryContext;

	gtf_tx_begin();
	last = gtf_store_outcome_head(&limit->handed, NULL);
	if (last && last->attempt == limit->handed_attempt)
	{
		limit->last_start = Max(limit->last_start, last->started_at);
		limit->has_handed = false;
	}
	else if (last == NULL && !TimestampDifferenceExceeds(limit->gone_since,
														 round_of->now, GONE_MS))
	{
		/* it may be on its way back */
		gtf_dispatcher_look_at(round_of,
							   TimestampTzPlusMilliseconds(limit->gone_since, GONE_MS));
	}
	else
	{
		limit->last_start = round_of->now;
		limit->has_handed = false;
	}
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(context);
}

static void
count_all(Dispatcher *d)
{
	HASH_SEQ_STATUS status;
	Limit	   *limit;
	OwnerQueue **owners;
	int			n;
	GtfSlotInfo slot;
	List	   *gone = NIL;
	ListCell   *lc;

	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
	{
		limit->running = 0;
		limit->handed_seen = false;
	}

	unflagged = false;
	num_lane_refs = 0;
	owners = gtf_queue_owners(&n);
	for (int i = 0; i < n; i++)
	{
		/*
		 * under its lock even if it is empty: a task that leaves it is in a
		 * slot when the lock is released
		 */
		if (owners[i]->lane < 0)
			continue;
		if (num_lane_refs + GTF_LANE_SIZE > max_lane_refs)
		{
			max_lane_refs = 2 * max_lane_refs + GTF_LANE_SIZE;
			lane_refs = repalloc(lane_refs, max_lane_refs * sizeof(GtfTaskRef));
		}
		num_lane_refs += gtf_lane_limited(owners[i]->lane,
										  lane_refs + num_lane_refs);
	}
	pfree(owners);

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (!gtf_slot_info(i, &slot) || slot.database != MyDatabaseId ||
			!gtf_slot_has_task(&slot) || slot.is_inline)
			continue;
		count(&slot.ref, slot.started_at);
		/* taken from the lane meanwhile: it counts once */
		for (int r = 0; r < num_lane_refs; r++)
		{
			if (gtf_id_equal(&lane_refs[r].id, &slot.ref.id) &&
				lane_refs[r].attempt == slot.ref.attempt)
				lane_refs[r] = lane_refs[--num_lane_refs];
		}
	}
	for (int r = 0; r < num_lane_refs; r++)
		count(&lane_refs[r], 0);

	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
	{
		if (limit->handed_seen)
			limit->gone_since = 0;
		else if (limit->has_handed)
		{
			if (limit->gone_since == 0)
				limit->gone_since = d->now;
			gone = lappend(gone, limit);
		}
	}
	/* not in the loop: a transaction's end is the end of such scans */
	foreach(lc, gone)
	{
		limit = lfirst(lc);
		(void) gtf_dispatcher_try(d, GTF_TROUBLE_LIMIT, &limit->handed,
								  gone_step, limit);
	}
	list_free(gone);
}

/* How many more may be handed out now? */
static int
room(const Limit *limit, TimestampTz now)
{
	int			n = MAX_RELEASE;

	if (limit->paused)
		return 0;
	if (limit->max_running > 0)
		n = Min(n, Max(limit->max_running - limit->running, 0));
	if (limit->interval_us > 0)
		n = Min(n, !limit->has_handed &&
				now >= limit->last_start + limit->interval_us ? 1 : 0);
	return n;
}

void
gtf_limits_read(Dispatcher *d)
{
	pg_uuid_t	zero = {{0}};
	List	   *rows;

	round_of = d;
	round_context = CurrentMemoryContext;
	if (gtf_news_take(my_db, GTF_NEWS_FLOW))
		stale = true;
	if (stale || unapplied)
	{
		/* roles may change meanwhile */
		stale = false;
		unapplied = true;
		if (gtf_dispatcher_try(d, GTF_TROUBLE_LIMIT, &zero, read_step, &rows))
		{
			apply(rows);
			unapplied = false;
		}
	}
}

void
gtf_limits_begin(Dispatcher *d)
{
	HASH_SEQ_STATUS status;
	Limit	   *limit;

	gtf_limits_read(d);
	if (hash_get_num_entries(limits) == 0)
		return;

	count_all(d);
	num_parked = 0;
	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
		release(limit, room(limit, d->now));
}

RefHeap *
gtf_limits_parking(const GtfTaskRef *ref)
{
	Limit	   *found[MAX_PER_TASK];
	Limit	   *best = NULL;
	int			n = limits_of(ref, found);

	for (int i = 0; i < n; i++)
	{
		if (found[i]->paused)
			return &found[i]->parked;
		if (best == NULL ||
			(room(best, round_of->now) > 0 && room(found[i], round_of->now) == 0))
			best = found[i];
	}
	return best ? &best->parked : NULL;
}

RefHeap *
gtf_limits_check(GtfTaskRef *ref)
{
	Limit	   *found[MAX_PER_TASK];
	int			n;

	ref->flags &= ~(GTF_REF_LIMITED | GTF_REF_PACED);
	n = limits_of(ref, found);
	for (int i = 0; i < n; i++)
	{
		Limit	   *limit = found[i];

		/* those that wait longer come first */
		if (room(limit, round_of->now) == 0 ||
			gtf_queue_heap_precedes(&limit->parked, ref))
		{
			num_parked++;
			return &limit->parked;
		}
		ref->flags |= GTF_REF_LIMITED;
		if (limit->interval_us > 0)
			ref->flags |= GTF_REF_PACED;
	}
	return NULL;
}

bool
gtf_limits_enough(void)
{
	return num_parked >= MAX_PARKED;
}

void
gtf_limits_end(Dispatcher *d)
{
	HASH_SEQ_STATUS status;
	Limit	   *limit;

	if (hash_get_num_entries(limits) == 0)
		return;
	hash_seq_init(&status, limits);
	while ((limit = hash_seq_search(&status)) != NULL)
	{
		if (limit->parked.count == 0 || limit->paused)
			continue;
		/* those that were let go have met another limit: the next ones */
		if (num_parked > 0 && room(limit, d->now) > 0)
			gtf_dispatcher_look_at(d, d->now);
		if (limit->interval_us > 0 && !limit->has_handed &&
			d->now < limit->last_start + limit->interval_us)
			gtf_dispatcher_look_at(d, limit->last_start + limit->interval_us);
		/* what was started before there was this limit does not tell */
		if (unflagged)
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now,
																  UNFLAGGED_MS));
	}
}

void
gtf_limits_handed(const GtfTaskRef *ref)
{
	Limit	   *found[MAX_PER_TASK];
	int			n = limits_of(ref, found);

	for (int i = 0; i < n; i++)
	{
		found[i]->running++;
		if (found[i]->interval_us > 0)
		{
			found[i]->has_handed = true;
			found[i]->handed = ref->id;
			found[i]->handed_attempt = ref->attempt;
		}
	}
}

void
gtf_limits_returned(const GtfTaskRef *ref)
{
	Limit	   *found[MAX_PER_TASK];
	int			n;

	if ((ref->flags & GTF_REF_LIMITED) == 0)
		return;
	n = limits_of(ref, found);
	for (int i = 0; i < n; i++)
	{
		if (found[i]->has_handed && gtf_id_equal(&found[i]->handed, &ref->id) &&
			found[i]->handed_attempt == ref->attempt)
			found[i]->has_handed = false;
	}
}
