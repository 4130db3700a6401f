/*-------------------------------------------------------------------------
 *
 * dispatcher.c
 *	  One process per database: hands committed tasks to executors.
 *
 * A round: take references from the submit ring; go on with a scan of the
 * table if one is due; settle attempts whose executor is gone; feed the
 * lanes; adjust the pool.  Each step is short; a round that raises is
 * reported and the next one starts from the same state, because references
 * leave one place only when they are in the next (or in the table, where a
 * scan finds them).  What a broken row can make raise is tried by itself
 * (gtf_dispatcher_try), so that all others are served.
 *
 * What it knows is in its memory and can be lost: the table has every task.
 * Up to which id everything has been seen is kept as seen_ticks: the ids
 * below belong to transactions that are over (so they are visible or never
 * will be) and have been looked at.  It moves by sampling (clock, next xid)
 * and waiting until no older transaction is running; prepared transactions
 * count as running.  A scan for COMMIT PREPARED starts there.
 *
 * A scan can meet tasks that are on their way already.  Those in memory when
 * it begins are known, and so are those that come from the ring before it has
 * reached them.  Others are in a slot, or are pushed into the ring after it
 * has passed them: what it finds, and what comes from the ring with an id that
 * it has passed, until a little after its end, is marked, so that an executor
 * looks for an outcome first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "errors.h"
#include "limits.h"
#include "settings.h"
#include "stats.h"
#include "store.h"
#include "worker.h"

#define SCAN_STEP_ROWS		20000
#define SCAN_STEP_REFS		4096
#define SAMPLE_INTERVAL_MS	1000
#define PUSH_MS				2000	/* from a commit to its push, at the most */
#define PROBE_MS			1000	/* the same, for tasks that were cancelled */
#define MAX_TROUBLES		10000
#define REST_US				300
#define FLUSHER_LEAVES_MS	2500	/* for a database that starves */

static Dispatcher me;
static MemoryContext dispatcher_context;
static GtfDispatcherExit exit_reason = GTF_EXIT_UNKNOWN;

/* the scan that is going on, or the last one */
static bool scanning = false;
static GtfScan scan;
static int	scan_rows = SCAN_STEP_ROWS; /* in one step */
static bool scan_may_meet;		/* tasks that are in the ring or in a slot */
static bool live_wanted = false;	/* gtf.live is to be read, too */
static TimestampTz passed_until = 0;	/* see take_in */
static uint64 suspect_ticks;	/* submitted before a crash */

/* the next scan */
static bool scan_asked = false;
static pg_uuid_t scan_from;

/* what was taken from the ring and not taken in yet */
static GtfTaskRef arrived[256];
static int	num_arrived = 0;
static int	next_arrived = 0;

/* What could not be done for a task, see gtf_dispatcher_try. */
typedef struct Trouble
{
	GtfTroubleKey key;
	int			failures;
	TimestampTz not_before;
	int			sqlerrcode;
	char		message[256];
} Trouble;

static HTAB *troubles = NULL;
static MemoryContext try_context;

/* see the file header */
static uint64 sample_ticks = 0; /* 0 = no sample taken */
static FullTransactionId sample_xid;
static TimestampTz next_sample = 0;
static bool active_since_sample = true; /* there was something before us */

static BackgroundWorkerHandle *flusher_handle = NULL;
static TimestampTz flusher_not_before = 0;

void
gtf_dispatcher_look_at(Dispatcher *d, TimestampTz at)
{
	if (d->next == 0 || at < d->next)
		d->next = at;
}

static void
detach(int code, Datum arg)
{
	/* told to leave in the middle of something: that is no error */
	if (exit_reason == GTF_EXIT_UNKNOWN && gtf_worker_stopping())
		exit_reason = GTF_EXIT_RESTART;
	gtf_dispatcher_detach(me.db, exit_reason);
}

static void
take_sample(TimestampTz now)
{
	sample_ticks = gtf_shmem_next_ticks(gtf_id_ticks_from_timestamp(now));
	sample_xid = ReadNextFullTransactionId();
	active_since_sample = false;
}

static void
advance_seen(TimestampTz now)
{
	if (scanning)
		return;
	if (now < next_sample)
	{
		if (sample_ticks != 0 || active_since_sample)
			gtf_dispatcher_look_at(&me, next_sample);
		return;
	}
	if (sample_ticks != 0)
	{
		TransactionId oldest = GetOldestActiveTransactionId();

		/* compare in the 32-bit space: both are recent */
		if (TransactionIdFollowsOrEquals(oldest, XidFromFullTransactionId(sample_xid)))
		{
			gtf_submitted_set_seen(me.db, sample_ticks);
			sample_ticks = 0;
		}
	}
	if (sample_ticks == 0 && active_since_sample)
		take_sample(now);
	next_sample = TimestampTzPlusMilliseconds(now, SAMPLE_INTERVAL_MS);
	if (sample_ticks != 0 || active_since_sample)
		gtf_dispatcher_look_at(&me, next_sample);
}

void
gtf_dispatcher_ask_scan(const pg_uuid_t *from)
{
	if (!scan_asked || gtf_id_compare(from, &scan_from) < 0)
		scan_from = *from;
	scan_asked = true;
}

/* If this raises, it is called again. */
static void
start_scan(void)
{
	pg_uuid_t	zero = {{0}};
	bool		whole = gtf_id_equal(&scan_from, &zero);

	/* so that all that is waiting is known */
	gtf_pool_recall();
	gtf_queue_drop_waiting(&scan_from);
	gtf_queue_known_begin();
	gtf_queue_scan_starts(whole);
	gtf_depend_scan_starts(&me, whole);
	gtf_count(MyDatabaseId, GTF_COUNT_SCANS, 1);
	memset(&scan, 0, sizeof(GtfScan));
	scan.after = scan_from;
	scanning = true;
	live_wanted = true;
	scan_asked = false;
}

/* Take in a task that waits for nothing but its time and its limits. */
static void
enqueue(const GtfTaskRef *ref)
{
	RefHeap    *parking = NULL;

	if (ref->lsn <= me.flushed && ref->due <= me.now)
		parking = gtf_limits_parking(ref);
	if (parking)
		gtf_queue_heap_add(parking, ref);
	else
		gtf_queue_add(ref, me.now, me.flushed);
}

/* One step of reading: what is above scan.after; true if it went well. */
static bool
read_step(GtfScan *next, GtfTaskRef *refs, int *n)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	*next = scan;
	PG_TRY();
	{
		gtf_tx_begin();
		*n = gtf_store_scan_pending(next, scan_rows, refs, SCAN_STEP_REFS);
		(void) gtf_tx_commit(false);
	}
	PG_CATCH();
	{
		/* no row to blame, or it may be readable in a moment */
		if (gtf_error_is_transient(geterrcode()) ||
			gtf_id_compare(&next->reading, &scan.after) <= 0)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		gtf_worker_recover(scan_rows == 1);
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

static void
scan_step(void)
{
	GtfTaskRef *refs = palloc(SCAN_STEP_REFS * sizeof(GtfTaskRef));
	static GtfScan next;
	int			n = 0;

	/* to go on, or to hand out what was found */
	gtf_dispatcher_look_at(&me, me.now);

	if (!read_step(&next, refs, &n))
	{
		/* shorter steps come closer to the row that cannot be read */
		if (scan_rows > 1)
			scan_rows /= 2;
		else
		{
			ereport(WARNING,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("gtf task %s cannot be read and stays pending",
							gtf_id_text(&next.reading))));
			scan.after = next.reading;
		}
		return;
	}
	scan_rows = Min(scan_rows * 2, SCAN_STEP_ROWS);

	for (int i = 0; i < n; i++)
	{
		if (!gtf_queue_known(&refs[i].id))
		{
			if (gtf_id_ticks(&refs[i].id) < suspect_ticks)
				refs[i].flags |= GTF_REF_DURABLE_START;
			if (scan_may_meet)
				refs[i].flags |= GTF_REF_SCANNED;
			if (refs[i].flags & GTF_REF_DEPENDS)
				gtf_depend_add(&refs[i]);
			else
				enqueue(&refs[i]);
		}
		scan.after = refs[i].id;
	}
	scan.after = next.after;
	if (next.finished)
	{
		gtf_queue_scan_ends(me.now);
		gtf_queue_known_end();
		passed_until = TimestampTzPlusMilliseconds(me.now, PUSH_MS);
		scanning = false;
		scan_may_meet = true;
		me.scanned = true;
	}
	pfree(refs);
}

static void
take_in(const GtfTaskRef *submitted)
{
	GtfTaskRef	ref = *submitted;
	bool		returned = (ref.flags & GTF_REF_RETURNED) != 0;

	if (ref.flags & GTF_REF_ENDED)
	{
		gtf_depend_ended(&ref.id);
		return;
	}
	if (returned)
		gtf_limits_returned(&ref);
	ref.flags &= ~GTF_REF_RETURNED;
	/* what an executor gives back no scan has found */
	if (!returned && (scanning || me.now < passed_until) &&
		gtf_id_compare(&ref.id, &scan.after) <= 0)
		ref.flags |= GTF_REF_SCANNED;
	if (ref.flags & GTF_REF_DEPENDS)
		gtf_depend_add(&ref);
	else
		enqueue(&ref);
	if (!scanning || gtf_id_compare(&ref.id, &scan.after) <= 0)
		return;
	if (gtf_queue_known_full())
		scan_may_meet = true;
	else
		gtf_queue_known_add(&ref.id);
}

static void
read_ring(void)
{
	for (;;)
	{
		/* taking in may raise: then it goes on here */
		for (; next_arrived < num_arrived; next_arrived++)
			take_in(&arrived[next_arrived]);
		next_arrived = 0;
		num_arrived = gtf_submitted_pop(me.db, arrived, lengthof(arrived));
		if (num_arrived == 0)
			break;
		active_since_sample = true;
		me.came_in = true;
	}
}

static Trouble *
find_trouble(GtfTroubleKind kind, const pg_uuid_t *id, HASHACTION action)
{
	GtfTroubleKey key;
	Trouble    *trouble;
	bool		found;

	memset(&key, 0, sizeof(key));
	key.id = *id;
	key.kind = kind;
	trouble = hash_search(troubles, &key, action, &found);
	if (action == HASH_ENTER && !found)
	{
		trouble->failures = 0;
		trouble->not_before = 0;
	}
	return trouble;
}

bool
gtf_dispatcher_try(Dispatcher *d, GtfTroubleKind kind, const pg_uuid_t *id,
				   void (*step) (void *), void *arg)
{
	Trouble    *trouble = find_trouble(kind, id, HASH_FIND);
	pg_uuid_t	key = *id;
	MemoryContext old;
	volatile bool ok = true;

	if (trouble && trouble->not_before > d->now)
	{
		gtf_dispatcher_look_at(d, trouble->not_before);
		return false;
	}

	old = MemoryContextSwitchTo(try_context);
	PG_TRY();
	{
		step(arg);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* this is not about the task: the round will be tried again */
		if (gtf_error_is_transient(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(try_context);
		error = CopyErrorData();
		gtf_worker_recover(true);

		trouble = find_trouble(kind, &key, HASH_ENTER);
		trouble->failures++;
		trouble->sqlerrcode = error->sqlerrcode;
		strlcpy(trouble->message, error->message ? error->message : "",
				sizeof(trouble->message));
		trouble->not_before =
			TimestampTzPlusMilliseconds(d->now, Min(1000 << Min(trouble->failures - 1, 6), 60000));
		gtf_dispatcher_look_at(d, trouble->not_before);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(try_context);
	if (ok)
		(void) find_trouble(kind, &key, HASH_REMOVE);
	return ok;
}

const char *
gtf_dispatcher_gives_up(GtfTroubleKind kind, const pg_uuid_t *id,
						int failures, int *sqlerrcode)
{
	Trouble    *trouble = find_trouble(kind, id, HASH_FIND);

	if (trouble == NULL || trouble->failures < failures)
		return NULL;
	*sqlerrcode = trouble->sqlerrcode;
	return trouble->message;
}

int
gtf_dispatcher_failures(GtfTroubleKind kind, const pg_uuid_t *id)
{
	return ++find_trouble(kind, id, HASH_ENTER)->failures;
}

/* So many broken tasks: most of them will be gone by now. */
static void
forget_troubles(void)
{
	HASH_SEQ_STATUS status;
	Trouble    *trouble;

	if (hash_get_num_entries(troubles) < MAX_TROUBLES)
		return;
	hash_seq_init(&status, troubles);
	while ((trouble = hash_seq_search(&status)) != NULL)
		(void) hash_search(troubles, &trouble->key, HASH_REMOVE, NULL);
}

static void
keep_flusher(void)
{
	pid_t		pid;
	MemoryContext old;
	int			who;
	TimestampTz starving = gtf_db_starving(me.now, &who);

	/* a place for an executor is worth more */
	if (starving != 0)
	{
		TimestampTz leaves = TimestampTzPlusMilliseconds(starving, FLUSHER_LEAVES_MS);
		GtfDatabaseInfo info;

		flusher_not_before = TimestampTzPlusMilliseconds(me.now, 1000);
		if (me.now < leaves)
			gtf_dispatcher_look_at(&me, leaves);
		else if (gtf_db_info(me.db, &info) && info.flusher_pid != 0)
			(void) kill(info.flusher_pid, SIGTERM);
	}

	if (flusher_handle)
	{
		GtfDatabaseInfo info;

		if (!gtf_db_info(me.db, &info) || info.flusher_pid != 0)
			return;
		if (GetBackgroundWorkerPid(flusher_handle, &pid) != BGWH_STOPPED)
		{
			/* the postmaster tells only our latch */
			gtf_dispatcher_look_at(&me, TimestampTzPlusMilliseconds(me.now, 500));
			return;
		}
		pfree(flusher_handle);
		flusher_handle = NULL;
		flusher_not_before = TimestampTzPlusMilliseconds(me.now, 500);
	}
	else
	{
		GtfDatabaseInfo info;

		/* one that an earlier dispatcher has started */
		if (gtf_db_info(me.db, &info) && info.flusher_pid != 0)
			return;
	}
	if (me.now < flusher_not_before)
	{
		gtf_dispatcher_look_at(&me, flusher_not_before);
		return;
	}
	old = MemoryContextSwitchTo(dispatcher_context);
	if (!gtf_worker_start(GTF_WORKER_FLUSHER, MyDatabaseId, Int32GetDatum(me.db),
						  &MyDatabaseId, sizeof(Oid), &flusher_handle))
	{
		/* executors do its work meanwhile */
		flusher_handle = NULL;
		flusher_not_before = TimestampTzPlusMilliseconds(me.now, 1000);
		gtf_dispatcher_look_at(&me, flusher_not_before);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Let executors run tasks without looking for an outcome again, when none that
 * was cancelled can be on its way to them any more.  (As long as a cancel is
 * prepared, its task waits here.)
 */
static void
stop_probing(TimestampTz now)
{
	static uint64 cancels = 0;
	static TimestampTz until = 0;

	if (!gtf_db_must_probe(MyDatabaseId))
	{
		until = 0;
		return;
	}
	if (until == 0 || cancels != gtf_db_cancels(me.db))
	{
		cancels = gtf_db_cancels(me.db);
		until = TimestampTzPlusMilliseconds(now, PROBE_MS);
	}
	if (scanning || gtf_queue_count() > 0 || !gtf_pool_lanes_empty())
		return;
	if (now < until)
		gtf_dispatcher_look_at(&me, until);
	else
		gtf_db_probe_reset(me.db, cancels);
}

/* Who wants a scan, and begin it if none is going on. */
static void
look_for_scans(void)
{
	pg_uuid_t	from = {{0}};
	TimestampTz scan_at;

	if (!scanning && gtf_queue_wants_scan(me.now, &scan_at))
		gtf_dispatcher_ask_scan(&from);
	if (gtf_submitted_scan_wanted(me.db, &from))
	{
		gtf_id_below(gtf_id_ticks(&from), &from);
		gtf_dispatcher_ask_scan(&from);
		active_since_sample = true;
		/* the ring was full, maybe of ends */
		gtf_depend_look_again();
	}
	if (me.live_again != 0)
	{
		if (me.live_again > me.now)
			gtf_dispatcher_look_at(&me, me.live_again);
		else
		{
			pg_uuid_t	last;

			memset(&last, 0xff, sizeof(last));
			gtf_dispatcher_ask_scan(&last);
			me.live_again = 0;
		}
	}
	if (scan_asked && !scanning)
	{
		/* it may have been COMMIT PREPARED, or the first one */
		gtf_limits_stale();
		gtf_limits_read(&me);
		start_scan();
	}
}

/* When what is in the queue has to be looked at again. */
static void
look_at_queue_again(void)
{
	TimestampTz scan_at;
	XLogRecPtr	unflushed = gtf_queue_unflushed();

	if (!XLogRecPtrIsInvalid(unflushed))
	{
		gtf_flush_request(me.db, unflushed);
		/* if there is no flusher, the WAL writer does it soon */
		gtf_dispatcher_look_at(&me, TimestampTzPlusMilliseconds(me.now, 50));
	}
	if (gtf_queue_next_due() != 0)
		gtf_dispatcher_look_at(&me, gtf_queue_next_due());
	/* heaps may have got empty with nobody to tell when they are wanted */
	if (!scanning && gtf_queue_wants_scan(me.now, &scan_at))
		gtf_dispatcher_look_at(&me, me.now);
	else if (!scanning && scan_at != 0)
		gtf_dispatcher_look_at(&me, scan_at);
}

static void
round_of_work(void *arg)
{
	me.now = GetCurrentTimestamp();
	me.flushed = GetFlushRecPtr(NULL);
	me.next = 0;
	me.came_in = me.handed = false;

	forget_troubles();
	read_ring();
	look_for_scans();
	gtf_depend_work(&me);
	gtf_queue_advance(me.now, me.flushed);
	gtf_settle_expired(&me);

	if (gtf_enabled && me.scanned)
		gtf_pool_feed(&me);
	else if (!gtf_enabled)
		gtf_pool_recall();

	gtf_settle_lost(&me);
	gtf_settle_deadlines(&me);
	gtf_settle_dropped(&me);
	if (live_wanted)
	{
		gtf_settle_live(&me);
		live_wanted = false;
	}
	/* when attempts that a crash has ended are settled */
	gtf_settle_requests(&me);
	if (scanning && gtf_depend_busy())
		gtf_dispatcher_look_at(&me, me.now);
	else if (scanning)
		scan_step();
	keep_flusher();
	if (gtf_enabled && me.scanned)
		gtf_pool_adjust(&me);
	gtf_live_write(&me);
	advance_seen(me.now);
	stop_probing(me.now);
	look_at_queue_again();
}

static bool
is_template(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Is there anything to do in this database?  Leaves the process if not. */
static void
check_installed(void)
{
	char	   *version;
	GtfInstalled installed;

	gtf_tx_begin();
	installed = gtf_store_installed(&version);
	/* a session of ours would keep others from copying it */
	if (is_template())
		installed = GTF_NOT_INSTALLED;
	if (installed == GTF_OTHER_VERSION)
		ereport(LOG,
				(errmsg("gtf does not run tasks in database \"%s\": the extension has version %s, the library %s",
						get_database_name(MyDatabaseId), version, GTF_VERSION),
				 errhint("Run ALTER EXTENSION gtf UPDATE, or restart the server after an upgrade of the package.")));
	(void) gtf_tx_commit(false);
	if (installed != GTF_INSTALLED)
	{
		exit_reason = installed == GTF_OTHER_VERSION ?
			GTF_EXIT_OTHER_VERSION : GTF_EXIT_NO_EXTENSION;
		proc_exit(0);
	}
}

/* True if the tables belong to this server and database. */
static bool
check_home(void)
{
	GtfDbState	state;
	TimestampTz now = GetCurrentTimestamp();
	pg_uuid_t	last;

	gtf_tx_begin();
	gtf_store_state_get(&state);
	if (gtf_store_last_id(&last))
		gtf_shmem_raise_ticks(gtf_id_ticks(&last));
	if (state.is_copy)
	{
		(void) gtf_tx_commit(false);
		return false;
	}
	if (!state.clean)
	{
		state.suspect_before = now;
		gtf_store_state_started(now);
	}
	(void) gtf_tx_commit(true);
	suspect_ticks = state.suspect_before == 0 ? 0 :
		gtf_id_ticks_from_timestamp(state.suspect_before);
	return true;
}

/* Has an earlier dispatcher left executors behind? */
static bool
executors_there(void)
{
	GtfSlotInfo info;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.database == MyDatabaseId)
			return true;
	}
	return false;
}

static void
start_up(void *arg)
{
	bool	   *home = arg;
	pg_uuid_t	zero = {{0}};

	check_installed();
	*home = check_home();
	if (!*home)
	{
		char	   *name;

		gtf_tx_begin();
		name = MemoryContextStrdup(dispatcher_context,
								   get_database_name(MyDatabaseId));
		(void) gtf_tx_commit(false);
		ereport(LOG,
				(errmsg("gtf does not run tasks in database \"%s\": its tables are a copy from another server or database",
						name),
				 errhint("Call gtf_adopt() there to let the tasks run.")));
		return;
	}
	gtf_tx_begin();
	gtf_stats_load();
	(void) gtf_tx_commit(false);

	me.now = GetCurrentTimestamp();
	me.flushed = GetFlushRecPtr(NULL);
	take_sample(me.now);
	gtf_pool_inherit();
	scan_may_meet = executors_there();
	gtf_dispatcher_ask_scan(&zero);
	/* requests from before a crash */
	gtf_tell(MyDatabaseId, GTF_NEWS_REQUESTS);
}

void
gtf_dispatcher_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	MemoryContext scratch;
	bool		home = false;
	int			backoff_ms = 0;
	HASHCTL		ctl = {0};

	me.db = gtf_dispatcher_attach(database);
	if (me.db < 0)
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	gtf_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	gtf_worker_own_settings();
	gtf_worker_set_name("gtf dispatcher");

	dispatcher_context = AllocSetContextCreate(TopMemoryContext, "gtf dispatcher",
											   ALLOCSET_DEFAULT_SIZES);
	scratch = AllocSetContextCreate(TopMemoryContext, "gtf dispatcher round",
									ALLOCSET_DEFAULT_SIZES);
	try_context = AllocSetContextCreate(TopMemoryContext, "gtf dispatcher step",
										ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(GtfTroubleKey);
	ctl.entrysize = sizeof(Trouble);
	ctl.hcxt = dispatcher_context;
	troubles = hash_create("gtf troubles", 16, &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	gtf_queue_init(dispatcher_context);
	gtf_pool_init(dispatcher_context, me.db);
	gtf_dropped_init();
	gtf_depend_init(dispatcher_context, me.db);

	/* an error here ends the process; the launcher tries again later */
	start_up(&home);
	gtf_dispatcher_ready(me.db);
	pgstat_report_activity(STATE_IDLE, NULL);
	while (!home && !gtf_worker_stopping() && !gtf_db_is_blocked(me.db))
	{
		/* gtf_adopt() wakes the dispatcher; start anew to read everything */
		(void) gtf_worker_wait(gtf_dispatcher_woken(me.db) ? 0 : -1);
		gtf_dispatcher_looks(me.db);
		if (!gtf_worker_stopping() && check_home())
			break;
	}
	if (!home)
	{
		exit_reason = GTF_EXIT_RESTART;
		proc_exit(0);
	}

	while (!gtf_worker_stopping() && !gtf_db_is_blocked(me.db))
	{
		long		timeout = -1;

		gtf_dispatcher_looks(me.db);
		if (gtf_worker_guarded(round_of_work, NULL, scratch))
			backoff_ms = 0;
		else
		{
			backoff_ms = backoff_ms == 0 ? 100 : Min(backoff_ms * 2, 10000);
			gtf_worker_pause(backoff_ms);
			continue;
		}

		/*
		 * When tasks come that cannot start now, because executors have
		 * enough to do or are switched off, let some more come: while our
		 * latch is set, nobody pays for waking us.  A lane that has just been
		 * full lasts longer than this.
		 */
		if (me.came_in && !me.handed)
			pg_usleep(REST_US);
		if (me.next != 0)
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), me.next);
		/* transactions of this round may have slept with our latch */
		if (gtf_dispatcher_woken(me.db) || ConfigReloadPending)
			timeout = 0;
		(void) gtf_worker_wait(timeout);
	}
	exit_reason = GTF_EXIT_RESTART;
	proc_exit(0);
}
