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
 * scan finds them).
 *
 * What it knows is in its memory and can be lost: the table has every task.
 * Up to which id everything has been seen is kept as seen_ticks: the ids
 * below belong to transactions that are over (so they are visible or never
 * will be) and have been looked at.  It moves by sampling (clock, next xid)
 * and waiting until no older transaction is running; prepared transactions
 * count as running.  A scan for COMMIT PREPARED starts there.
 *
 * A scan can meet tasks that are on their way already: in a slot, or pushed
 * into the ring a moment after their commit.  What it finds is marked, so
 * that an executor looks for an outcome first, and the ids it has taken in
 * are remembered a little longer than it lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "settings.h"
#include "store.h"
#include "worker.h"

#define SCAN_STEP_ROWS		20000
#define SCAN_STEP_REFS		4096
#define SAMPLE_INTERVAL_MS	1000
#define KNOWN_MS			2000	/* from a commit to its push, at the most */
#define PROBE_MS			1000	/* the same, for tasks that were cancelled */

static Dispatcher me;
static MemoryContext dispatcher_context;
static GtfDispatcherExit exit_reason = GTF_EXIT_UNKNOWN;

/* the scan that is going on */
static bool scanning = false;
static GtfScan scan;
static bool scan_may_meet;		/* tasks that are in the ring or in a slot */
static bool live_wanted = false;	/* gtf.live is to be read, too */
static TimestampTz known_until;
static uint64 suspect_ticks;	/* submitted before a crash */

/* see the file header */
static uint64 sample_ticks = 0; /* 0 = no sample taken */
static FullTransactionId sample_xid;
static TimestampTz next_sample = 0;
static bool active_since_sample = false;

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

/* Start a scan above the given id, or extend the one that is going on. */
static void
start_scan(const pg_uuid_t *from)
{
	pg_uuid_t	zero = {{0}};

	live_wanted = true;
	if (scanning && gtf_id_compare(from, &scan.after) >= 0)
		return;
	if (!scanning)
	{
		/* so that all that is waiting is known */
		gtf_pool_recall();
		gtf_queue_known_begin();
		gtf_queue_scan_starts(gtf_id_equal(from, &zero));
		gtf_count(MyDatabaseId, GTF_COUNT_SCANS, 1);
	}
	scanning = true;
	scan.after = *from;
	scan.finished = false;
}

static void
scan_step(void *arg)
{
	GtfTaskRef *refs = palloc(SCAN_STEP_REFS * sizeof(GtfTaskRef));
	int			n;

	gtf_tx_begin();
	scan.homes = gtf_store_homes();
	n = gtf_store_scan_pending(&scan, SCAN_STEP_ROWS, refs, SCAN_STEP_REFS);
	(void) gtf_tx_commit(false);

	for (int i = 0; i < n; i++)
	{
		if (!gtf_queue_known_add(&refs[i].id))
			continue;
		if (gtf_id_ticks(&refs[i].id) < suspect_ticks)
			refs[i].flags |= GTF_REF_DURABLE_START;
		if (scan_may_meet)
			refs[i].flags |= GTF_REF_SCANNED;
		gtf_queue_add(&refs[i], me.now, me.flushed);
	}
	if (scan.finished)
	{
		gtf_queue_scan_ends();
		known_until = TimestampTzPlusMilliseconds(me.now, KNOWN_MS);
		scanning = false;
		scan_may_meet = true;
		me.scanned = true;
	}
	/* to go on, or to hand out what was found */
	gtf_dispatcher_look_at(&me, me.now);
	pfree(refs);
}

static void
read_ring(void)
{
	GtfTaskRef	refs[256];
	int			n;

	while ((n = gtf_submitted_pop(me.db, refs, lengthof(refs))) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			/* what an executor gives back is not a second submit */
			if (gtf_queue_known_active() &&
				(refs[i].flags & GTF_REF_RETURNED) == 0 &&
				!gtf_queue_known_add(&refs[i].id))
				continue;
			refs[i].flags &= ~GTF_REF_RETURNED;
			gtf_queue_add(&refs[i], me.now, me.flushed);
		}
		active_since_sample = true;
	}
}

static void
keep_flusher(void)
{
	pid_t		pid;
	MemoryContext old;

	if (flusher_handle)
	{
		GtfDatabaseInfo info;

		if (!gtf_db_info(me.db, &info) || info.flusher_pid != 0 ||
			GetBackgroundWorkerPid(flusher_handle, &pid) != BGWH_STOPPED)
			return;
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

static void
round_of_work(void *arg)
{
	pg_uuid_t	from;
	XLogRecPtr	unflushed;

	me.now = GetCurrentTimestamp();
	me.flushed = GetFlushRecPtr(NULL);
	me.next = 0;

	read_ring();
	if (gtf_submitted_scan_wanted(me.db, &from))
	{
		gtf_id_below(gtf_id_ticks(&from), &from);
		start_scan(&from);
		active_since_sample = true;
	}
	if (!scanning && gtf_queue_wants_scan())
	{
		pg_uuid_t	zero = {{0}};

		start_scan(&zero);
	}
	gtf_queue_advance(me.now, me.flushed);
	gtf_settle_expired(&me);

	if (gtf_enabled && me.scanned)
		gtf_pool_feed(&me);
	else if (!gtf_enabled)
		gtf_pool_recall();

	gtf_settle_lost(&me);
	gtf_settle_deadlines(&me);
	if (live_wanted)
	{
		gtf_settle_live(&me);
		live_wanted = false;
	}
	/* when attempts that a crash has ended are settled */
	gtf_settle_requests(&me);
	if (scanning)
		scan_step(NULL);
	else if (gtf_queue_known_active())
	{
		if (me.now >= known_until)
			gtf_queue_known_end();
		else
			gtf_dispatcher_look_at(&me, known_until);
	}
	keep_flusher();
	if (gtf_enabled && me.scanned)
		gtf_pool_adjust(&me);
	gtf_live_write(&me);
	advance_seen(me.now);

	stop_probing(me.now);

	unflushed = gtf_queue_unflushed();
	if (!XLogRecPtrIsInvalid(unflushed))
	{
		gtf_flush_request(me.db, unflushed);
		/* if there is no flusher, the WAL writer does it soon */
		gtf_dispatcher_look_at(&me, TimestampTzPlusMilliseconds(me.now, 50));
	}
	if (gtf_queue_next_due() != 0)
		gtf_dispatcher_look_at(&me, gtf_queue_next_due());
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
	me.now = GetCurrentTimestamp();
	me.flushed = GetFlushRecPtr(NULL);
	take_sample(me.now);
	gtf_pool_inherit();
	scan_may_meet = executors_there();
	start_scan(&zero);
	/* requests from before a crash */
	gtf_requests_changed(MyDatabaseId);
}

void
gtf_dispatcher_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	MemoryContext scratch;
	bool		home = false;
	int			backoff_ms = 0;

	me.db = gtf_dispatcher_attach(database);
	if (me.db < 0)
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	gtf_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	gtf_worker_set_name("gtf dispatcher");

	dispatcher_context = AllocSetContextCreate(TopMemoryContext, "gtf dispatcher",
											   ALLOCSET_DEFAULT_SIZES);
	scratch = AllocSetContextCreate(TopMemoryContext, "gtf dispatcher round",
									ALLOCSET_DEFAULT_SIZES);
	gtf_queue_init(dispatcher_context);
	gtf_pool_init(dispatcher_context, me.db);

	/* an error here ends the process; the launcher tries again later */
	start_up(&home);
	gtf_dispatcher_ready(me.db);
	pgstat_report_activity(STATE_IDLE, NULL);
	while (!home && !gtf_worker_stopping() && !gtf_db_is_blocked(me.db))
	{
		/* gtf_adopt() wakes the dispatcher; start anew to read everything */
		(void) gtf_worker_wait(-1);
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

		if (gtf_worker_guarded(round_of_work, NULL, scratch))
			backoff_ms = 0;
		else
		{
			backoff_ms = backoff_ms == 0 ? 100 : Min(backoff_ms * 2, 10000);
			me.next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), backoff_ms);
		}
		if (me.next != 0)
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), me.next);
		if (backoff_ms > 0)
			pg_usleep(backoff_ms * 1000L);
		(void) gtf_worker_wait(timeout);
	}
	exit_reason = GTF_EXIT_RESTART;
	proc_exit(0);
}
