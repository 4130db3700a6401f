/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  One process per cluster: keeps a dispatcher in every database that has
 *	  the extension.
 *
 * It cannot look into databases, so it finds out by starting a dispatcher,
 * which leaves at once where there is nothing for it: one database at a time,
 * each once.  After that CREATE EXTENSION, a submit without a dispatcher and
 * CREATE DATABASE tell it at their commit (wakeup.c); a look at pg_database
 * once a minute finds the rest.  If gtf.max_databases is too small for one of
 * them it says so, and looks again when there is room.
 *
 * Its memory is only an optimisation: after a restart it starts over, and
 * dispatchers that are already there refuse a second one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shmem.h"
#include "worker.h"

#define LIST_INTERVAL_MS	60000
#define REFUSED_INTERVAL_MS	1000
#define MAX_BACKOFF_MS		30000
#define SHORTAGE_RETRY_MS	200
#define STARVING_LEASE_MS	3000
#define PROBE_MS			5000	/* then others need not wait for this one */

/* What the launcher remembers of a database. */
typedef struct Known
{
	Oid			database;
	NameData	name;			/* for messages */
	bool		listed;			/* was there in the last list */
	bool		probed;			/* it is known what a dispatcher does there */
	BackgroundWorkerHandle *handle; /* started and not yet reaped */
	TimestampTz started_at;		/* if there is one */
	bool		refused;		/* was told of: gtf.max_databases is reached */
	int			backoff_ms;
	TimestampTz not_before;
	TimestampTz starving_since; /* there is no room for its dispatcher */
} Known;

static MemoryContext launcher_context;
static List *databases = NIL;	/* of Known */
static TimestampTz last_list = 0;
static TimestampTz next_list = 0;
static bool shortage_reported = false;

/* Finds it, or makes it. */
static Known *
find_known(Oid database)
{
	ListCell   *lc;
	Known	   *known;
	MemoryContext old;

	foreach(lc, databases)
	{
		known = lfirst(lc);
		if (known->database == database)
			return known;
	}
	old = MemoryContextSwitchTo(launcher_context);
	known = palloc0(sizeof(Known));
	known->database = database;
	databases = lappend(databases, known);
	MemoryContextSwitchTo(old);
	return known;
}

static void
list_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	ListCell   *lc;

	foreach(lc, databases)
		((Known *) lfirst(lc))->listed = false;

	gtf_tx_begin();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate)
		{
			Known	   *known = find_known(form->oid);

			known->listed = true;
			known->name = form->datname;
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	(void) gtf_tx_commit(false);

	foreach(lc, databases)
	{
		Known	   *known = lfirst(lc);

		if (!known->listed && known->handle == NULL)
		{
			gtf_db_unwant(known->database);
			databases = foreach_delete_current(databases, lc);
			pfree(known);
		}
	}
}

/* A dispatcher has left: why, and when to start the next. */
static void
reap(Known *known, TimestampTz now)
{
	pid_t		pid;

	if (GetBackgroundWorkerPid(known->handle, &pid) != BGWH_STOPPED)
		return;
	pfree(known->handle);
	known->handle = NULL;
	known->probed = true;
	shortage_reported = false;

	switch (gtf_dispatcher_reap(known->database))
	{
		case GTF_EXIT_NO_EXTENSION:
			known->backoff_ms = 0;
			known->not_before = 0;
			break;
		case GTF_EXIT_OTHER_VERSION:
			known->backoff_ms = 0;
			break;
		case GTF_EXIT_RESTART:
			known->backoff_ms = 0;
			known->not_before = 0;
			break;
		case GTF_EXIT_UNKNOWN:
			known->backoff_ms = known->backoff_ms == 0 ? 500 :
				Min(known->backoff_ms * 2, MAX_BACKOFF_MS);
			known->not_before = TimestampTzPlusMilliseconds(now, known->backoff_ms);
			break;
	}
}

static void
start_dispatcher(Known *known, int db, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(launcher_context);

	known->started_at = now;
	if (!gtf_worker_start(GTF_WORKER_DISPATCHER, known->database,
						  ObjectIdGetDatum(known->database), NULL, 0,
						  &known->handle))
	{
		known->handle = NULL;
		known->not_before = TimestampTzPlusMilliseconds(now, SHORTAGE_RETRY_MS);
		if (known->starving_since == 0)
			known->starving_since = now;
		(void) gtf_slot_retire_idle_elsewhere(db);
		gtf_db_set_starving(db, known->starving_since,
							TimestampTzPlusMilliseconds(now, STARVING_LEASE_MS));
		if (!shortage_reported)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("no background worker slot is free for a gtf dispatcher"),
					 errhint("Raise max_worker_processes.")));
		shortage_reported = true;
	}
	else if (known->starving_since != 0)
	{
		known->starving_since = 0;
		gtf_db_set_starving(db, 0, 0);
	}
	MemoryContextSwitchTo(old);
}

/* Somebody waits for a dispatcher that there is no room for. */
static void
look_for_room(void)
{
	ListCell   *lc;

	next_list = Min(next_list,
					TimestampTzPlusMilliseconds(last_list, REFUSED_INTERVAL_MS));
	foreach(lc, databases)
	{
		Known	   *known = lfirst(lc);

		if (known->handle == NULL && gtf_db_find(known->database) < 0)
			known->probed = false;
	}
}

/*
 * See what became of the dispatchers.  True: one is looking where it is; by
 * *next it has found out, or is held up.
 */
static bool
watch_dispatchers(TimestampTz now, TimestampTz *next)
{
	bool		probing = false;
	ListCell   *lc;

	foreach(lc, databases)
	{
		Known	   *known = lfirst(lc);
		GtfDatabaseInfo info;

		if (known->handle)
			reap(known, now);
		if (known->handle == NULL)
			continue;
		if (gtf_db_info(gtf_db_find(known->database), &info) &&
			info.dispatcher_ready)
		{
			/* it has found something to do, and does it */
			known->probed = true;
			known->backoff_ms = 0;
		}
		else if (!known->probed &&
				 !TimestampDifferenceExceeds(known->started_at, now, PROBE_MS))
		{
			probing = true;
			*next = Min(*next, TimestampTzPlusMilliseconds(known->started_at,
														   PROBE_MS));
		}
	}
	return probing;
}

/* Want a database of which nothing is known; false if there is no room. */
static bool
probe(Known *known)
{
	if (gtf_db_want(known->database))
		return true;
	if (!known->refused)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("gtf cannot look for tasks in database \"%s\": gtf.max_databases is reached",
						NameStr(known->name)),
				 errhint("Raise gtf.max_databases and restart the server.")));
	known->refused = true;
	return false;
}

static void
tick(void *arg)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz *next = arg;
	bool		probing;
	ListCell   *lc;

	if (gtf_db_refused())
		look_for_room();
	if (now >= next_list)
	{
		list_databases();
		last_list = now;
		next_list = TimestampTzPlusMilliseconds(now, LIST_INTERVAL_MS);
	}
	*next = next_list;

	/* told by others */
	for (int i = 0; i < gtf_max_databases; i++)
	{
		GtfDatabaseInfo info;

		if (gtf_db_info(i, &info) && info.wanted)
			(void) find_known(info.database);
	}

	probing = watch_dispatchers(now, next);
	foreach(lc, databases)
	{
		Known	   *known = lfirst(lc);
		GtfDatabaseInfo info;
		int			db = gtf_db_find(known->database);

		if (known->handle)
			continue;
		if (!known->probed && !probing && db < 0)
		{
			if (!probe(known))
				continue;
			probing = true;
			db = gtf_db_find(known->database);
		}
		if (db >= 0)
			known->refused = false;
		if (db < 0 || !gtf_db_info(db, &info) || !info.wanted ||
			info.blocked || info.dispatcher_pid != 0)
		{
			known->starving_since = 0;
			continue;
		}
		if (known->not_before > now)
		{
			*next = Min(*next, known->not_before);
			continue;
		}
		start_dispatcher(known, db, now);
		if (known->handle == NULL)
			*next = Min(*next, known->not_before);
		else if (!known->probed)
			*next = Min(*next, TimestampTzPlusMilliseconds(now, PROBE_MS));
	}
}

void
gtf_launcher_main(Datum arg)
{
	MemoryContext scratch;
	TimestampTz next = 0;

	gtf_worker_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	gtf_launcher_attach();
	gtf_worker_own_settings();
	gtf_worker_set_name("gtf launcher");

	launcher_context = AllocSetContextCreate(TopMemoryContext, "gtf launcher",
											 ALLOCSET_DEFAULT_SIZES);
	scratch = AllocSetContextCreate(TopMemoryContext, "gtf launcher tick",
									ALLOCSET_DEFAULT_SIZES);
	while (!gtf_worker_stopping())
	{
		TimestampTz now;

		if (!gtf_worker_guarded(tick, &next, scratch))
			next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 1000);
		now = GetCurrentTimestamp();
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) gtf_worker_wait(Max(1, TimestampDifferenceMilliseconds(now, next)));
	}

	/* not 0, which would keep the postmaster from starting it again */
	proc_exit(1);
}
