/*-------------------------------------------------------------------------
 *
 * pool.c
 *	  Lanes and executors of one database, as the dispatcher runs them.
 *
 * An executor is bound to one role for its life, so the pool is shared
 * between owners by starting and retiring processes.  For an owner with work
 * that waits, an idle executor of somebody else is retired at once; for one
 * who has no executor at all (a hungry one), a busy executor, too, after its
 * current task: whichever comes first of the owner who has most, since another
 * one may be busy for hours.  If that takes long, of any owner.  What becomes
 * free goes to the owner who has been hungry longest.
 *
 * The server's worker slots and gtf's slots are shared between databases: when
 * none is free, idle executors of other owners and then of other databases are
 * asked to leave.  A database that has no executor at all for its tasks, a
 * starving one, says so in shared memory: whoever has most executors gives up
 * one after its task, and nobody else starts any until it has got one.  If
 * that takes long, flushers leave (dispatcher.c): executors can do without.
 * If that does not help, whoever has any gives up one, and tasks that wait for
 * others must not hold all that a database has.
 *
 * Nothing here waits for a child.  A process that did not come up is found
 * by its handle; what it said in its FATAL is in its slot.  One that has left
 * its slot holds a worker slot until the postmaster has seen its end, which
 * then sets our latch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "access.h"
#include "dispatcher.h"
#include "executor.h"
#include "limits.h"
#include "worker.h"

#define HUNGRY_MS			20	/* before a busy executor is retired */
#define VERY_HUNGRY_MS		500 /* ... of whoever has one */
#define MAX_START_FAILURES	3
#define FAIL_BATCH			500
#define SHORTAGE_RETRY_MS	1000
#define LEAVING_MS			20	/* between two looks at those who make room */
#define LEFT_MS				3000	/* from a slot to the end of the process */
#define MAX_LEAVING_MS		10000
#define UNATTACHED_MS		30000
#define TAKE_IDLE_MS		100 /* between two looks at others' idle ones */
#define STARVING_MS			500 /* before other databases have to make room */
#define STARVING_LEASE_MS	3000	/* ... for so long, if not told again */
#define VERY_STARVING_MS	5000	/* before all of them have to */
#define WATCH_MS			1000	/* for the start or the end of a process */
#define GIVE_MS				1000	/* between two executors that are given up */

/* A process of ours, by slot. */
typedef struct Launch
{
	BackgroundWorkerHandle *handle; /* NULL = none */
	uint32		generation;
	Oid			owner;
	bool		ready;			/* it has come up */
} Launch;

static MemoryContext pool_context;
static int	my_db;
static Launch *launches;
static List *leaving = NIL;		/* handles of processes without a slot */
static TimestampTz leaving_since = 0;	/* we wait for room since then ... */
static TimestampTz room_until = 0;	/* ... and expect it until then */
static bool shortage_reported = false;
static int	shortage_tries = 0;
static TimestampTz shortage_until = 0;

/* Of this round of gtf_pool_adjust. */
static int	max_executors;
static int	total_before;		/* what follows, in the round before */
static int	total;				/* executors, from their launch to their exit */
static int	retiring;			/* of these */
static int	going;				/* of these, with no task any more */
static const OwnerQueue *hungriest; /* whom others have to make room for */
static bool yielding;			/* another database comes first */
static bool urgent;				/* ... and has waited for long */
static bool shortage_now;

void
gtf_pool_init(MemoryContext context, int db)
{
	pool_context = context;
	my_db = db;
	launches = MemoryContextAllocZero(context,
									  gtf_slot_count() * sizeof(Launch));
	gtf_db_set_ceiling(db, 0);
	gtf_limits_init(context, db);
}

void
gtf_pool_inherit(void)
{
	/* there are as many lanes as slots */
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		Oid			owner = gtf_lane_inherit(i, my_db);

		if (OidIsValid(owner))
			gtf_queue_owner(owner)->lane = i;
	}
}

/* As much of what an owner has waiting as his lane takes. */
static void
fill_lane(Dispatcher *d, OwnerQueue *queue)
{
	GtfTaskRef	ref;

	if (queue->lane < 0)
		queue->lane = gtf_lane_open(my_db, queue->owner);
	if (queue->lane < 0)
	{
		/* all are taken, maybe by other databases, who tell nobody */
		gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, 100));
		return;
	}
	while (gtf_queue_peek(queue, &ref))
	{
		GtfTaskRef	back;
		RefHeap    *parking = gtf_limits_check(&ref);

		if (parking)
		{
			gtf_queue_heap_add(parking, &ref);
			gtf_queue_pop(queue);
			if (!gtf_limits_enough())
				continue;
			gtf_dispatcher_look_at(d, d->now);
			break;
		}
		back = ref;
		if (gtf_lane_put(queue->lane, &back))
		{
			gtf_queue_pop(queue);
			gtf_limits_handed(&ref);
			d->handed = true;
			continue;
		}
		if (gtf_id_equal(&back.id, &ref.id))
			break;				/* full of earlier ones */
		/* what may raise comes when all are in their places */
		gtf_queue_pop(queue);
		gtf_queue_push(queue, &back);
		gtf_limits_handed(&ref);
		gtf_limits_returned(&back);
	}
	if (gtf_lane_set_more(queue->lane, queue->ready.count > 0))
		gtf_dispatcher_look_at(d, d->now);
}

void
gtf_pool_feed(Dispatcher *d)
{
	int			n;
	OwnerQueue **owners;

	gtf_limits_begin(d);
	owners = gtf_queue_owners(&n);
	for (int i = 0; i < n; i++)
	{
		int			waiting;

		if (owners[i]->ready.count > 0)
			fill_lane(d, owners[i]);

		/* not only what is new: who was woken for it may have left since */
		waiting = owners[i]->lane < 0 ? 0 : gtf_lane_count(owners[i]->lane);
		if (waiting > 0)
			gtf_lane_wake(owners[i]->lane, waiting);
	}
	pfree(owners);
	gtf_limits_end(d);
}

void
gtf_pool_recall(void)
{
	int			n;
	OwnerQueue **owners = gtf_queue_owners(&n);
	GtfTaskRef *refs = palloc(GTF_LANE_SIZE * sizeof(GtfTaskRef));
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		if (owners[i]->lane >= 0)
		{
			int			taken;

			gtf_queue_reserve(owners[i], gtf_lane_count(owners[i]->lane));
			taken = gtf_lane_take_all(owners[i]->lane, refs);
			for (int r = 0; r < taken; r++)
				gtf_queue_return(&refs[r], now);
			for (int r = 0; r < taken; r++)
				gtf_limits_returned(&refs[r]);
		}
	}
	pfree(refs);
	pfree(owners);
}

bool
gtf_pool_lanes_empty(void)
{
	int			n;
	OwnerQueue **owners = gtf_queue_owners(&n);
	bool		empty = true;

	for (int i = 0; i < n; i++)
	{
		if (owners[i]->lane >= 0 && gtf_lane_count(owners[i]->lane) > 0)
			empty = false;
	}
	pfree(owners);
	return empty;
}

/* Everything this owner has waiting ends with this error. */
static void
fail_owner(Dispatcher *d, OwnerQueue *queue, int sqlerrcode, const char *message)
{
	GtfTaskRef *refs = palloc(FAIL_BATCH * sizeof(GtfTaskRef));
	GtfTaskRef	ref;
	int			n = 0;

	if (queue->lane >= 0)
	{
		gtf_queue_reserve(queue, gtf_lane_count(queue->lane));
		n = gtf_lane_take_all(queue->lane, refs);
	}
	while (n < FAIL_BATCH && gtf_queue_peek(queue, &ref))
	{
		refs[n++] = ref;
		gtf_queue_pop(queue);
	}
	PG_TRY();
	{
		gtf_settle_unstarted(d, refs, n, sqlerrcode, message);
	}
	PG_CATCH();
	{
		/* nothing is lost: try again in the next round */
		for (int i = 0; i < n; i++)
			gtf_queue_return(&refs[i], d->now);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (queue->ready.count > 0)
		gtf_dispatcher_look_at(d, d->now);
	pfree(refs);
}

/* gtf_may_connect() for a caller outside a transaction. */
static char *
check_owner(Oid owner, bool *can_login, bool *is_superuser, int *sqlerrcode)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *why;

	gtf_tx_begin();
	MemoryContextSwitchTo(context);
	why = gtf_may_connect(owner, can_login, is_superuser, sqlerrcode);
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(context);
	return why;
}

/* False when no process can be had now. */
static bool
launch(Dispatcher *d, OwnerQueue *queue, bool can_login, bool is_superuser)
{
	GtfExecutorStart start;
	MemoryContext old;
	int			slot;

	slot = gtf_slot_reserve(my_db, queue->owner, queue->lane, &start.generation);
	if (slot < 0)
	{
		gtf_settle_no_room(d);
		return false;
	}
	start.slot = slot;
	start.database = MyDatabaseId;
	start.role = queue->owner;
	start.can_login = can_login;
	start.is_superuser = is_superuser;

	old = MemoryContextSwitchTo(pool_context);
	if (launches[slot].handle)
		leaving = lappend(leaving, launches[slot].handle);
	launches[slot].handle = NULL;
	if (!gtf_worker_start(GTF_WORKER_EXECUTOR, MyDatabaseId, Int32GetDatum(slot),
						  &start, sizeof(start), &launches[slot].handle))
	{
		launches[slot].handle = NULL;
		(void) gtf_slot_release_unattached(slot, start.generation);
		MemoryContextSwitchTo(old);
		return false;
	}
	MemoryContextSwitchTo(old);
	launches[slot].generation = start.generation;
	launches[slot].owner = queue->owner;
	launches[slot].ready = false;
	queue->executors++;
	queue->launching++;
	return true;
}

/* Does this keep executors from starting for a while only? */
static bool
is_transient(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	/* connection limits; a shutdown; a database that takes no connections */
	return category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OPERATOR_INTERVENTION ||
		category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

/* A process of this owner has ended before it was ready. */
static void
start_failed(Dispatcher *d, OwnerQueue *queue, GtfSlotInfo *info)
{
	char	   *error = info->start_error;
	int			length = strlen(error);

	/* the last character may be there in part */
	error[pg_mbcliplen(error, length, length)] = '\0';
	if (is_transient(info->start_sqlerrcode))
	{
		if (queue->start_not_before == 0)
			ereport(WARNING,
					(errcode(info->start_sqlerrcode),
					 errmsg("could not start a gtf executor: %s", error),
					 errdetail("Tasks stay pending until one can be started.")));
		queue->start_not_before = TimestampTzPlusMilliseconds(d->now, SHORTAGE_RETRY_MS);
		return;
	}
	queue->start_failures++;
	if (queue->start_failures >= MAX_START_FAILURES)
	{
		char	   *message = psprintf("could not start an executor: %s",
									   error[0] != '\0' ? error :
									   "the process ended early");

		fail_owner(d, queue, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message);
		queue->start_failures = 0;
	}
}

/* See what became of the processes that were started. */
static void
watch_launches(Dispatcher *d)
{
	ListCell   *lc;
	pid_t		pid;

	foreach(lc, leaving)
	{
		if (GetBackgroundWorkerPid(lfirst(lc), &pid) == BGWH_STOPPED)
		{
			shortage_until = 0;
			pfree(lfirst(lc));
			leaving = foreach_delete_current(leaving, lc);
		}
		else
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, WATCH_MS));
	}
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		Launch	   *l = &launches[i];
		GtfSlotInfo info;
		bool		alive = gtf_slot_info(i, &info);

		if (l->handle == NULL)
		{
			/* started by a dispatcher that is gone, and never came up */
			if (alive && info.database == MyDatabaseId &&
				info.state == GTF_SLOT_LAUNCHING && info.pid == 0)
			{
				/* it came, and has gone again; or it may still come */
				if (info.process_start != 0 ||
					TimestampDifferenceExceeds(info.launched_at, d->now, UNATTACHED_MS))
					(void) gtf_slot_release_unattached(i, info.generation);
				else
					gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(info.launched_at,
																		  UNATTACHED_MS + 1));
			}
			continue;
		}
		if (!l->ready &&
			!(alive && info.generation == l->generation &&
			  info.state == GTF_SLOT_LAUNCHING))
		{
			OwnerQueue *queue = gtf_queue_owner(l->owner);

			queue->start_failures = 0;
			queue->start_not_before = 0;
			l->ready = true;
		}
		if (l->ready && alive && info.generation == l->generation && info.pid != 0)
			continue;
		if (GetBackgroundWorkerPid(l->handle, &pid) != BGWH_STOPPED)
		{
			/* the postmaster tells only our latch */
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, WATCH_MS));
			continue;
		}

		/* gone: before it was ready, or after a life of any length */
		shortage_until = 0;
		pfree(l->handle);
		l->handle = NULL;
		if (alive && info.generation == l->generation &&
			gtf_slot_release_unattached(i, l->generation))
			start_failed(d, gtf_queue_owner(l->owner), &info);
	}
}

static void
report_shortage(Dispatcher *d)
{
	if (!shortage_reported)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker slot is free for a gtf executor"),
				 errdetail("Tasks stay pending until one is."),
				 errhint("Raise max_worker_processes, or gtf.max_slots.")));
	shortage_reported = true;
	shortage_now = true;
	shortage_tries++;
	leaving_since = room_until = 0;
	shortage_until = TimestampTzPlusMilliseconds(d->now, SHORTAGE_RETRY_MS);
	gtf_dispatcher_look_at(d, shortage_until);
}

/*
 * Retire one executor: an idle one of another owner than the hungry one, or,
 * with busy_too and NULL, any because there are too many.  True if one is on
 * its way out.
 */
static bool
retire_one(const OwnerQueue *hungry, bool busy_too)
{
	GtfSlotInfo info;
	int			victim = -1;
	uint32		victim_generation = 0;
	int			victim_rank = -1;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		OwnerQueue *queue;
		int			rank;

		if (!gtf_slot_info(i, &info) || info.database != MyDatabaseId ||
			info.is_inline || (hungry && info.role == hungry->owner))
			continue;
		if (info.retiring)
		{
			if (hungry && info.state == GTF_SLOT_IDLE)
				return true;
			continue;
		}
		queue = gtf_queue_owner(info.role);
		if (info.state == GTF_SLOT_IDLE &&
			(queue->lane < 0 || gtf_lane_count(queue->lane) == 0))
			rank = 10000;
		else if (busy_too && (info.state == GTF_SLOT_RUNNING ||
							  info.state == GTF_SLOT_FINISHING ||
							  info.state == GTF_SLOT_IDLE))
			rank = queue->executors;
		else
			continue;
		if (rank > victim_rank)
		{
			victim = i;
			victim_rank = rank;
			victim_generation = info.generation;
		}
	}
	if (victim < 0)
		return false;
	gtf_slot_retire(victim, victim_generation);
	return true;
}

/* How many executors of this owner go from task to task, or will? */
static int
able(const OwnerQueue *queue)
{
	return queue->executors - queue->held;
}

/* How many can be given up: one that is starting would do so for nothing. */
static int
spare(const OwnerQueue *queue)
{
	return able(queue) - queue->launching;
}

/*
 * Mark the lanes whose owners are to give up one executor for a hungry one:
 * those with at least so many executors.  0: no lane.
 */
static void
mark_lanes(const OwnerQueue *hungry, int executors)
{
	int			n;
	OwnerQueue **owners = gtf_queue_owners(&n);

	for (int i = 0; i < n; i++)
	{
		if (owners[i]->lane >= 0)
			gtf_lane_give_up(owners[i]->lane,
							 executors > 0 && owners[i] != hungry &&
							 spare(owners[i]) >= executors);
	}
	pfree(owners);
}

/* Have others make room for the executor of this owner, if it has none. */
static void
feed_hungry(Dispatcher *d, const OwnerQueue *hungry)
{
	int			n;
	OwnerQueue **owners;
	int			most = 0;

	if (hungry == NULL ||
		!TimestampDifferenceExceeds(hungry->hungry_since, d->now, HUNGRY_MS))
	{
		mark_lanes(NULL, 0);
		return;
	}
	owners = gtf_queue_owners(&n);
	for (int i = 0; i < n; i++)
		most = Max(most, spare(owners[i]));
	pfree(owners);
	if (most > 0 && TimestampDifferenceExceeds(hungry->hungry_since, d->now,
											   VERY_HUNGRY_MS))
		most = 1;
	mark_lanes(hungry, most);
}

/* Is one of our processes leaving, or one of others asked to? */
static bool
somebody_leaves(const OwnerQueue *queue)
{
	if (leaving != NIL)
		return true;
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		GtfSlotInfo info;

		if (launches[i].handle && launches[i].ready &&
			(!gtf_slot_info(i, &info) || info.pid == 0 ||
			 info.generation != launches[i].generation))
			return true;
	}
	return retire_one(queue, false) || gtf_slot_retire_idle_elsewhere(my_db);
}

/*
 * No process can be had.  True if that may change in a moment.  Who has left
 * its slot still holds a worker slot until the postmaster has seen its end,
 * and those of other databases are not ours to watch: so a little longer than
 * somebody is seen leaving, but not if that does not get on.
 */
static bool
room_expected(Dispatcher *d, const OwnerQueue *queue)
{
	if (leaving_since == 0)
		leaving_since = d->now;
	if (TimestampDifferenceExceeds(leaving_since, d->now, MAX_LEAVING_MS))
		return false;
	if (somebody_leaves(queue))
		room_until = TimestampTzPlusMilliseconds(d->now, LEFT_MS);
	return d->now < room_until;
}

/* Who has been hungry longest comes first, who is not comes last. */
static int
compare_hunger(const void *a, const void *b)
{
	TimestampTz since_a = (*(OwnerQueue *const *) a)->hungry_since;
	TimestampTz since_b = (*(OwnerQueue *const *) b)->hungry_since;

	if (since_a == since_b)
		return 0;
	if (since_a == 0 || since_b == 0)
		return since_a == 0 ? 1 : -1;
	return since_a < since_b ? -1 : 1;
}

/* Which executors there are, by owner. */
static void
count_executors(void)
{
	int			n;
	OwnerQueue **owners = gtf_queue_owners(&n);

	for (int i = 0; i < n; i++)
		owners[i]->executors = owners[i]->held = owners[i]->idle =
			owners[i]->launching = 0;
	pfree(owners);
	total_before = total;
	total = retiring = going = 0;
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		GtfSlotInfo info;
		OwnerQueue *queue;

		if (!gtf_slot_info(i, &info) || info.database != MyDatabaseId ||
			info.state == GTF_SLOT_LOST || info.is_inline)
			continue;
		total++;
		if (info.retiring)
		{
			retiring++;
			if (info.state == GTF_SLOT_IDLE)
				going++;
			continue;
		}
		queue = gtf_queue_owner(info.role);
		queue->executors++;
		if (info.waiting)
			queue->held++;
		if (info.state == GTF_SLOT_IDLE)
			queue->idle++;
		else if (info.state == GTF_SLOT_LAUNCHING)
			queue->launching++;
	}
}

/* What waits for each owner, and since when he has no executor for it. */
static void
count_waiting(Dispatcher *d, OwnerQueue **owners, int n)
{
	for (int i = 0; i < n; i++)
	{
		OwnerQueue *queue = owners[i];

		queue->waiting = queue->ready.count +
			(queue->lane >= 0 ? gtf_lane_count(queue->lane) : 0);
		if (queue->waiting == 0 || able(queue) > 0)
			queue->hungry_since = 0;
		else if (queue->hungry_since == 0)
			queue->hungry_since = d->now;
	}
}

/* Others are to make room for this owner, unless somebody else comes first. */
static void
note_hungry(const OwnerQueue *queue)
{
	if (queue->hungry_since != 0 && hungriest == NULL)
		hungriest = queue;
}

/*
 * Does another database come first, because it has no executor?  Since when;
 * 0: no.
 */
static TimestampTz
must_yield(const Dispatcher *d)
{
	int			who;
	TimestampTz since = gtf_db_starving(d->now, &who);

	return who == my_db ? 0 : since;
}

/* Does any other database have more executors than we have? */
static bool
others_have_more(void)
{
	GtfSlotInfo info;
	Oid		   *databases = palloc(gtf_slot_count() * sizeof(Oid));
	int			n = 0;
	bool		more = false;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.state != GTF_SLOT_LOST &&
			!info.is_inline && info.database != MyDatabaseId)
			databases[n++] = info.database;
	}
	for (int i = 0; i < n && !more; i++)
	{
		int			count = 0;

		for (int j = 0; j < n; j++)
			count += databases[j] == databases[i];
		more = count > total;
	}
	pfree(databases);
	return more;
}

/*
 * Another database has no executor: give up one of ours after its task, if no
 * database has more, and of the owner who has most; of anybody if those are
 * busy for long.  They all do so until it has one.
 */
static void
give_up_one(Dispatcher *d)
{
	static TimestampTz not_before = 0;
	int			n;
	OwnerQueue **owners;
	OwnerQueue *most = NULL;

	gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, TAKE_IDLE_MS));
	if (going > 0 || total < total_before)
		not_before = TimestampTzPlusMilliseconds(d->now, GIVE_MS);
	if (total == 0 || d->now < not_before)
		return;
	if (urgent)
	{
		mark_lanes(NULL, 1);
		return;
	}
	if (others_have_more())
		return;

	owners = gtf_queue_owners(&n);
	for (int i = 0; i < n; i++)
	{
		if (owners[i]->lane >= 0 &&
			(most == NULL || spare(owners[i]) > spare(most)))
			most = owners[i];
	}
	if (most && spare(most) > 0)
		gtf_lane_give_up(most->lane, true);
	pfree(owners);
}

/* Say whether we have no executor at all, with tasks waiting since then. */
static void
report_starving(Dispatcher *d, TimestampTz since)
{
	if (!shortage_now || total > 0)
		since = 0;
	if (since == 0 ||
		!TimestampDifferenceExceeds(since, d->now, STARVING_MS))
	{
		gtf_db_set_starving(my_db, 0, 0);
		if (since != 0)
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(since, STARVING_MS + 1));
		return;
	}
	gtf_db_set_starving(my_db, since,
						TimestampTzPlusMilliseconds(d->now, STARVING_LEASE_MS));
	/* others make room without telling us */
	shortage_until = Min(shortage_until,
						 TimestampTzPlusMilliseconds(d->now, TAKE_IDLE_MS));
	gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, TAKE_IDLE_MS));
}

/* So many more for this owner, as far as processes can be had. */
static void
start_executors(Dispatcher *d, OwnerQueue *queue, int wanted,
				bool can_login, bool is_superuser)
{
	while (wanted-- > 0 && total < max_executors)
	{
		if (launch(d, queue, can_login, is_superuser))
		{
			leaving_since = room_until = 0;
			shortage_tries = 0;
			gtf_db_set_ceiling(my_db, 0);
			gtf_db_set_starving(my_db, 0, 0);
			total++;
			if (must_yield(d) != 0)
				break;
			continue;
		}
		if (room_expected(d, queue))
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, LEAVING_MS));
		else
		{
			report_shortage(d);
			/* not because of a moment in which others have more */
			if (shortage_tries > 1)
				gtf_db_set_ceiling(my_db, Max(total - retiring, 1));
			if (retiring == 0)
				note_hungry(queue);
		}
		shortage_now = true;
		break;
	}
}

/* Start executors for an owner whose tasks wait in a lane, if that may be. */
static void
serve_owner(Dispatcher *d, OwnerQueue *queue)
{
	int			wanted = queue->waiting - queue->idle - queue->launching;
	bool		can_login = true;
	bool		is_superuser = false;
	int			sqlerrcode = 0;
	char	   *why;

	if (wanted <= 0 || queue->executors >= max_executors)
		return;
	if (total >= max_executors)
	{
		bool		hungry = queue->hungry_since != 0;

		if (!retire_one(queue, false) && total - retiring >= max_executors)
			note_hungry(queue);
		gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now,
															  hungry ? HUNGRY_MS : TAKE_IDLE_MS));
		return;
	}
	if (yielding || d->now < shortage_until)
	{
		if (retiring == 0 && !yielding)
			note_hungry(queue);
		shortage_now = true;
		if (!yielding)
			gtf_dispatcher_look_at(d, shortage_until);
		else if (urgent)
			gtf_db_set_ceiling(my_db, Max(total - retiring, 1));
		return;
	}
	if (d->now < queue->start_not_before)
	{
		gtf_dispatcher_look_at(d, queue->start_not_before);
		return;
	}
	why = check_owner(queue->owner, &can_login, &is_superuser, &sqlerrcode);
	if (why)
		fail_owner(d, queue, sqlerrcode, why);
	else
		start_executors(d, queue, wanted, can_login, is_superuser);
}

void
gtf_pool_adjust(Dispatcher *d)
{
	int			n;
	OwnerQueue **owners;
	TimestampTz hungry_since;
	TimestampTz starving;

	max_executors = gtf_limits_max_executors();
	/* whoever waits in an executor has other settings than we, perhaps */
	gtf_db_set_pool(my_db, gtf_limits_min_executors(), max_executors);
	hungriest = NULL;
	starving = must_yield(d);
	yielding = starving != 0;
	urgent = yielding &&
		TimestampDifferenceExceeds(starving, d->now, VERY_STARVING_MS);
	shortage_now = false;
	watch_launches(d);
	count_executors();

	/* after gtf.max_executors was lowered */
	for (int excess = total - retiring - max_executors; excess > 0; excess--)
	{
		if (!retire_one(NULL, true))
			break;
		retiring++;
	}

	owners = gtf_queue_owners(&n);
	count_waiting(d, owners, n);
	qsort(owners, n, sizeof(OwnerQueue *), compare_hunger);
	hungry_since = n > 0 ? owners[0]->hungry_since : 0;
	for (int i = 0; i < n; i++)
	{
		OwnerQueue *queue = owners[i];

		if (queue->waiting > 0)
		{
			if (queue->lane >= 0)
				serve_owner(d, queue);
			else				/* whose lane is free when he has left */
				(void) retire_one(queue, false);
		}
		else if (queue->executors == 0)
		{
			/* nothing left of this owner */
			if (queue->lane >= 0)
				gtf_lane_close(queue->lane);
			queue->lane = -1;
			gtf_queue_drop_owner(queue);
		}
	}
	feed_hungry(d, hungriest);
	report_starving(d, hungry_since);
	if (yielding)
		give_up_one(d);

	/* one report until all have what they need */
	if (!shortage_now)
	{
		shortage_reported = false;
		shortage_tries = 0;
		leaving_since = room_until = 0;
		gtf_db_set_ceiling(my_db, 0);
	}
	pfree(owners);
}
