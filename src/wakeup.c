/*-------------------------------------------------------------------------
 *
 * wakeup.c
 *	  What a transaction has to tell gtf's workers when it ends.
 *
 * Everything is kept in memory that outlives the transaction and acted upon
 * in the commit callback, which must neither allocate nor raise.  Entries
 * carry their subtransaction, so a rollback to a savepoint drops its own.
 * A prepared transaction says nothing here: COMMIT PREPARED has no callback,
 * and has what the transaction has written looked for in the tables (ddl.c);
 * what is not to be seen there is written as a request before it is prepared.
 *
 * A process that is killed between its commit and this is a crash for the
 * postmaster, and then dispatchers begin with a scan.  What it keeps others
 * out of is released by its exit callback.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "store.h"
#include "wakeup.h"

typedef struct Pending
{
	SubTransactionId subid;
	GtfTaskRef	ref;
} Pending;

/* What a cancel has to do at commit. */
typedef struct Cancel
{
	SubTransactionId subid;
	bool		ended;			/* a task was ended, like this, else: */
	GtfStatus	status;
	bool		run;			/* by this session, which counts it */
	pg_uuid_t	id;
	int			slot;			/* the attempt to stop, -1 = none */
	uint64		serial;
	GtfForce	force;
} Cancel;

/*
 * More tasks than this in one transaction are found by a scan that starts at
 * the first one left out.
 */
#define MAX_PENDING (GTF_SUBMIT_RING_SIZE / 2)

static Pending *pending = NULL;
static int	num_pending = 0;
static int	max_pending = 0;
static uint64 left_out = 0;		/* so many more */

/* A scan that the dispatcher is to make after the commit, and from where. */
static bool scan_wanted = false;
static pg_uuid_t scan_from;

/* A database that this transaction keeps the workers out of. */
typedef struct Block
{
	Oid			database;
	bool		gone;			/* dropped by this transaction */
} Block;

static Block *blocks = NULL;
static int	num_blocks = 0;
static int	max_blocks = 0;

static Cancel *cancels = NULL;
static int	num_cancels = 0;
static int	max_cancels = 0;
static bool cancelling = false;

static Oid	wanted_database = InvalidOid;
static Oid	restarted_database = InvalidOid;
static bool roles_changed = false;
static bool flow_changed = false;

static bool registered = false;

static void
forget(void)
{
	if (cancelling)
		gtf_db_cancel_end(MyDatabaseId);
	cancelling = false;
	num_cancels = 0;
	num_pending = 0;
	left_out = 0;
	scan_wanted = false;
	wanted_database = InvalidOid;
	restarted_database = InvalidOid;
	roles_changed = false;
	flow_changed = false;
}

static void
release_blocks(bool committed)
{
	for (int i = 0; i < num_blocks; i++)
	{
		Oid			database = blocks[i].database;

		gtf_db_unblock(database);
		if (blocks[i].gone && committed)
		{
			gtf_db_forget(database);
			gtf_db_unwant(database);
		}
		else
			(void) gtf_db_want(database);
	}
	if (num_blocks > 0)
	{
		gtf_launcher_wake();
		/* what they wait for may be gone with the extension */
		gtf_waiters_wake_all();
	}
	num_blocks = 0;
}

static void
act_on_cancels(void)
{
	bool		requests = false;

	for (int i = 0; i < num_cancels; i++)
	{
		Cancel	   *cancel = &cancels[i];

		if (cancel->ended)
		{
			GtfDone		done = {0};

			done.id = cancel->id;
			done.status = cancel->status;
			done.lsn = XactLastCommitEnd;
			if (!cancel->run)
				gtf_count(MyDatabaseId, GTF_COUNT_ABORTED, 1);
			if (!gtf_done_leave(MyDatabaseId, &done))
				gtf_waiters_wake(&cancel->id);
			continue;
		}
		requests = true;
		if (cancel->slot >= 0)
		{
			if (cancel->force == GTF_FORCE_TERMINATE)
				gtf_slot_terminate(cancel->slot, cancel->serial,
								   GTF_CAUSE_CANCEL);
			else
				(void) gtf_slot_abort(cancel->slot, cancel->serial,
									  GTF_CAUSE_CANCEL,
									  cancel->force == GTF_FORCE_INTERRUPT ?
									  GTF_INTERRUPT_ANYTHING : GTF_INTERRUPT_LISTENING);
		}
	}
	if (requests)
		gtf_tell(MyDatabaseId, GTF_NEWS_REQUESTS);
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (num_pending > 0)
			{
				/*
				 * an asynchronous commit: not to be started before it is
				 * flushed
				 */
				XLogRecPtr	lsn = XactLastCommitEnd;
				GtfTaskRef	batch[64];
				int			n = 0;

				if (lsn <= GetFlushRecPtr(NULL))
					lsn = InvalidXLogRecPtr;
				for (int i = 0; i < num_pending; i++)
				{
					batch[n] = pending[i].ref;
					batch[n++].lsn = lsn;
					if (n == lengthof(batch) || i == num_pending - 1)
					{
						gtf_submitted_push(MyDatabaseId, batch, n);
						n = 0;
					}
				}
			}
			act_on_cancels();
			if (scan_wanted)
				gtf_submitted_scan_from(MyDatabaseId, &scan_from);
			/* also those that a savepoint has taken back */
			if (left_out > 0)
				gtf_count(MyDatabaseId, GTF_COUNT_SUBMITTED, left_out);
			if (flow_changed)
				gtf_tell(MyDatabaseId, GTF_NEWS_FLOW);
			if (OidIsValid(wanted_database))
			{
				(void) gtf_db_want(wanted_database);
				gtf_launcher_wake();
			}
			if (OidIsValid(restarted_database))
			{
				GtfDatabaseInfo info;

				if (gtf_db_info(gtf_db_find(restarted_database), &info) &&
					info.dispatcher_pid != 0)
					(void) kill(info.dispatcher_pid, SIGTERM);
			}
			if (roles_changed)
				gtf_tell_all(GTF_NEWS_ROLES);
			forget();
			release_blocks(true);
			break;

		case XACT_EVENT_PRE_PREPARE:
			/* nobody will remember them at COMMIT PREPARED */
			for (int i = 0; i < num_cancels; i++)
			{
				if (cancels[i].ended)
					gtf_store_request_put(&cancels[i].id, GTF_CAUSE_ENDED,
										  GTF_FORCE_NONE);
			}
			break;

		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
			release_blocks(false);
			break;

		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			for (int i = num_pending - 1; i >= 0 && pending[i].subid == mySubid; i--)
				pending[i].subid = parentSubid;
			for (int i = num_cancels - 1; i >= 0 && cancels[i].subid == mySubid; i--)
				cancels[i].subid = parentSubid;
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			while (num_pending > 0 && pending[num_pending - 1].subid >= mySubid)
				num_pending--;
			while (num_cancels > 0 && cancels[num_cancels - 1].subid >= mySubid)
				num_cancels--;
			break;
		default:
			break;
	}
}

static void
exit_callback(int code, Datum arg)
{
	release_blocks(false);
}

static void
register_callbacks(void)
{
	if (registered)
		return;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	before_shmem_exit(exit_callback, (Datum) 0);
	registered = true;
}

/* An array that outlives transactions, with room for n elements. */
static void *
grow(void *array, int n, Size size)
{
	return array == NULL ? MemoryContextAllocHuge(TopMemoryContext, n * size) :
		repalloc_huge(array, n * size);
}

void
gtf_wakeup_submitted(const GtfTaskRef *ref)
{
	register_callbacks();
	if (num_pending == MAX_PENDING)
	{
		left_out++;
		gtf_wakeup_scan(&ref->id);
		return;
	}
	if (num_pending == max_pending)
	{
		int			n = max_pending == 0 ? 16 : Min(max_pending * 2, MAX_PENDING);

		pending = grow(pending, n, sizeof(Pending));
		max_pending = n;
	}
	pending[num_pending].subid = GetCurrentSubTransactionId();
	pending[num_pending++].ref = *ref;
}

void
gtf_wakeup_cancelling(void)
{
	register_callbacks();
	if (!cancelling)
		gtf_db_cancel_begin(MyDatabaseId);
	cancelling = true;
}

static Cancel *
new_cancel(void)
{
	register_callbacks();
	if (num_cancels == max_cancels)
	{
		int			n = max_cancels == 0 ? 16 : max_cancels * 2;

		cancels = grow(cancels, n, sizeof(Cancel));
		max_cancels = n;
	}
	memset(&cancels[num_cancels], 0, sizeof(Cancel));
	cancels[num_cancels].subid = GetCurrentSubTransactionId();
	return &cancels[num_cancels++];
}

void
gtf_wakeup_ended(const pg_uuid_t *id, GtfStatus status, bool run)
{
	Cancel	   *cancel = new_cancel();

	cancel->ended = true;
	cancel->status = status;
	cancel->run = run;
	cancel->id = *id;
}

void
gtf_wakeup_abort(int slot, uint64 serial, GtfForce force)
{
	Cancel	   *cancel = new_cancel();

	cancel->slot = slot;
	cancel->serial = serial;
	cancel->force = force;
}

void
gtf_wakeup_scan(const pg_uuid_t *from)
{
	register_callbacks();
	if (!scan_wanted || gtf_id_compare(from, &scan_from) < 0)
		scan_from = *from;
	scan_wanted = true;
}

void
gtf_wakeup_flow(void)
{
	register_callbacks();
	flow_changed = true;
}

void
gtf_wakeup_database(Oid database)
{
	register_callbacks();
	wanted_database = database;
}

void
gtf_wakeup_restart(Oid database)
{
	register_callbacks();
	restarted_database = database;
}

void
gtf_wakeup_roles(void)
{
	register_callbacks();
	roles_changed = true;
}

bool
gtf_wakeup_block(Oid database)
{
	register_callbacks();
	for (int i = 0; i < num_blocks; i++)
	{
		if (blocks[i].database == database)
			return true;
	}
	if (num_blocks == max_blocks)
	{
		int			n = max_blocks + 4;

		blocks = grow(blocks, n, sizeof(Block));
		max_blocks = n;
	}
	if (!gtf_db_block(database))
		return false;
	blocks[num_blocks].database = database;
	blocks[num_blocks++].gone = false;
	return true;
}

void
gtf_wakeup_gone(Oid database)
{
	for (int i = 0; i < num_blocks; i++)
	{
		if (blocks[i].database == database)
			blocks[i].gone = true;
	}
}
