/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  The shared segment: databases, rings, lanes, slots, waiters.
 *
 * What must survive a process is here.  Only shmem*.c take its locks and see
 * its layout; everyone else calls these functions, each of which is a few
 * assignments under one lock: no palloc, no ereport, no catalog, no I/O.
 *
 * Life of a reference to a task:
 *
 *	  submit ring --dispatcher--> its memory --> lane --executor--> slot
 *	  --> done ring --flusher--> waiters
 *
 * A reference is in exactly one of these places.  Lock order: database,
 * lane, slot; the waiters' lock is taken alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SHMEM_H
#define GTF_SHMEM_H

#include "access/xlogdefs.h"
#include "storage/proc.h"
#include "utils/backend_progress.h"

#include "task.h"

#define GTF_SUBMIT_RING_SIZE	4096
#define GTF_DONE_RING_SIZE		4096
#define GTF_LANE_SIZE			256
#define GTF_START_ERROR_SIZE	256
#define GTF_MAX_HANDLERS		64	/* abort and cleanup handlers of a task */
#define GTF_MAX_HANDLER_ARG		8192	/* bytes, as text */

/* What the dispatcher must know of a task to hand it out. */
typedef struct GtfTaskRef
{
	pg_uuid_t	id;
	TimestampTz due;			/* sorts within a priority; start not before */
	XLogRecPtr	lsn;			/* start not before WAL is flushed to here */
	TimestampTz expires_at;		/* 0 = never */
	uint64		queue;			/* gtf_name_hash(); 0 = that of its type */
	Oid			owner;
	int32		type_version;
	int32		priority;
	int32		attempt;		/* the next one */
	ItemPointerData tid;		/* hint: where the row of gtf.tasks is */
	uint16		flags;
} GtfTaskRef;

#define GTF_REF_DURABLE_START	0x0001	/* write the start before the body */
#define GTF_REF_HAS_LIVE		0x0002	/* a row of gtf.live exists */
#define GTF_REF_RETURNED		0x0004	/* an executor has given it back */
#define GTF_REF_SCANNED			0x0008	/* from the table: somebody may have
										 * had it */

#define GTF_REF_CLEANUP			0x0010	/* not to be run: see gtf_kept_claim */
#define GTF_REF_DEPENDS			0x0020	/* not to be run: prerequisites have
										 * not been looked at */
#define GTF_REF_ENDED			0x0040	/* in the ring only: that task has
										 * ended, see gtf_watch */

/* Its executor tells the dispatcher when it has ended; also when it starts. */
#define GTF_REF_LIMITED			0x0100
#define GTF_REF_PACED			0x0200

/* Order of starting: priority, then due time, then submission. */
static inline int
gtf_ref_compare(const GtfTaskRef *a, const GtfTaskRef *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->due != b->due)
		return a->due < b->due ? -1 : 1;
	return gtf_id_compare(&a->id, &b->id);
}

/* What a reference has of its task, whichever attempt it is for. */
static inline void
gtf_ref_set_task(GtfTaskRef *ref, const GtfTask *task)
{
	ref->id = task->id;
	ref->tid = task->tid;
	ref->owner = task->owner;
	ref->type_version = task->type_version;
	ref->priority = task->priority;
	ref->queue = task->queue ? gtf_name_hash(task->queue) : 0;
}

/*
 * State of a slot.  Who may leave it for what:
 *
 *	FREE		dispatcher -> LAUNCHING; a session -> RUNNING (inline)
 *	LAUNCHING	executor, when it is ready -> IDLE; dispatcher, when the
 *				process could not be started or ended before that -> FREE
 *	IDLE		executor -> RUNNING (takes from its lane), -> FREE (leaves)
 *	RUNNING		executor -> FINISHING, -> IDLE (nothing to do for that task);
 *				its exit callback -> LOST
 *	FINISHING	executor -> IDLE, session -> FREE; its exit callback -> LOST
 *	LOST		dispatcher, after it has settled the attempt -> FREE
 *
 * All under the slot's lock.
 */
typedef enum GtfSlotState
{
	GTF_SLOT_FREE = 0,
	GTF_SLOT_LAUNCHING,
	GTF_SLOT_IDLE,
	GTF_SLOT_RUNNING,
	GTF_SLOT_FINISHING,
	GTF_SLOT_LOST
} GtfSlotState;

/* Why a running attempt shall stop; the first cause wins. */
typedef enum GtfAbortCause
{
	GTF_CAUSE_NONE = 0,
	GTF_CAUSE_CANCEL = 'c',
	GTF_CAUSE_TIMEOUT = 't',
	GTF_CAUSE_ENDED = 'e'		/* in a request only: it has ended, tell so */
} GtfAbortCause;

/* How hard an attempt is asked that is not abortable, as stored. */
typedef enum GtfForce
{
	GTF_FORCE_NONE = 'n',
	GTF_FORCE_INTERRUPT = 'i',	/* cancel its statement */
	GTF_FORCE_TERMINATE = 't'	/* end its process */
} GtfForce;

/* How the code of a task can be stopped, from the abort mode of its type. */
typedef enum GtfAbortMode
{
	GTF_MODE_HANDLER = 'h',		/* once it has registered an abort handler */
	GTF_MODE_POLL = 'p',		/* it asks */
	GTF_MODE_INTERRUPT = 'i',	/* its statement is cancelled */
	GTF_MODE_NEVER = 'n'
} GtfAbortMode;

/* What became of a request to abort. */
typedef enum GtfAbortAnswer
{
	GTF_ABORT_ACCEPTED,
	GTF_ABORT_ALREADY,			/* another request came first */
	GTF_ABORT_REFUSED,			/* the attempt is not abortable (now) */
	GTF_ABORT_GONE				/* the attempt is ending or has ended */
} GtfAbortAnswer;

/*
 * A cleanup handler, as it is kept for the case that its process is gone.
 */
typedef struct GtfKeptHandler
{
	Oid			function;
	Oid			function_owner;
	uint64		signature_hash;
	bool		takes_arg;
	Jsonb	   *arg;			/* or NULL */
} GtfKeptHandler;

/* Who runs the kept handlers of a lost slot? */
typedef enum GtfKeptState
{
	GTF_KEPT_WAITING = 0,
	GTF_KEPT_CLAIMED,			/* an executor is at it */
	GTF_KEPT_OVER
} GtfKeptState;

/* Formats of a progress report. */
#define GTF_PROGRESS_NONE		0
#define GTF_PROGRESS_COUNT		'c' /* current */
#define GTF_PROGRESS_RATIO		'r' /* current of total */
#define GTF_PROGRESS_FRACTION	'f' /* fraction */
#define GTF_PROGRESS_PHASE		'p' /* current of total, of a phase of a
									 * command; never stored */

typedef struct GtfProgress
{
	char		kind;
	int64		current;
	int64		total;
	double		fraction;
} GtfProgress;

/* A consistent copy of a slot. */
typedef struct GtfSlotInfo
{
	int			index;
	uint32		generation;
	GtfSlotState state;
	Oid			database;
	Oid			role;
	int			pid;			/* 0 = not there yet, or gone */
	int			last_pid;		/* kept when it is gone */
	TimestampTz launched_at;
	TimestampTz process_start;
	uint64		processed;
	uint64		failed;
	bool		waiting;		/* its body sits in gtf_wait */
	bool		retiring;
	bool		is_inline;		/* of a session that runs the task itself, ... */
	bool		in_block;		/* ... in a transaction that goes on */
	/* valid in RUNNING, FINISHING and LOST */
	uint64		serial;			/* counts the tasks of this slot */
	GtfTaskRef	ref;
	TimestampTz started_at;
	bool		body_running;	/* else still being fetched: shown as pending */
	bool		body_ended;		/* handlers run: too late to abort it */
	bool		let_go;			/* see gtf_slot_let_go; also of a cleanup */
	bool		told;			/* of the end of the task */
	bool		live_written;	/* the start is in gtf.live */
	bool		abortable;
	GtfAbortCause abort_cause;
	bool		interrupted;	/* its statement was cancelled, at least once */
	int			num_kept;		/* cleanup handlers */
	GtfKeptState kept_state;
	int			kept_tries;		/* executors that died at it */
	TimestampTz timeout_at;		/* 0 = none */
	TimestampTz hard_timeout_at;	/* 0 = none */
	bool		timeout_exceeded;	/* and could not be aborted */
	GtfProgress progress;
	uint64		changes;		/* differs after each report; 0 = none yet */
	uint64		payload_version;	/* differs for each payload; 0 = none */
	int			start_sqlerrcode;	/* 0 = it said nothing */
	char		start_error[GTF_START_ERROR_SIZE];
} GtfSlotInfo;

/* Does it hold a task, or what is left of one? */
static inline bool
gtf_slot_has_task(const GtfSlotInfo *slot)
{
	return slot->state == GTF_SLOT_RUNNING ||
		slot->state == GTF_SLOT_FINISHING ||
		slot->state == GTF_SLOT_LOST;
}

/* Background workers other than executors. */
typedef enum GtfWorkerKind
{
	GTF_WORKER_LAUNCHER,
	GTF_WORKER_DISPATCHER,
	GTF_WORKER_FLUSHER,
	GTF_WORKER_EXECUTOR
} GtfWorkerKind;

/* Why a dispatcher has left, for the launcher. */
typedef enum GtfDispatcherExit
{
	GTF_EXIT_UNKNOWN = 0,		/* error: start again, with a back-off */
	GTF_EXIT_NO_EXTENSION,		/* nothing to do there until told */
	GTF_EXIT_OTHER_VERSION,		/* the same, and submits do not tell */
	GTF_EXIT_RESTART			/* wants to be started again at once */
} GtfDispatcherExit;

typedef struct GtfDatabaseInfo
{
	Oid			database;
	bool		wanted;			/* start a dispatcher */
	bool		blocked;		/* a command needs the database without us */
	int			dispatcher_pid; /* 0 = none */
	int			flusher_pid;
	TimestampTz dispatcher_start;
	TimestampTz flusher_start;
	bool		dispatcher_ready;	/* it has found something to stay for */
	GtfDispatcherExit exit_reason;
} GtfDatabaseInfo;

/* ---- segment ---- */
extern void gtf_shmem_init(void);	/* in _PG_init, while preloading */
extern bool gtf_shmem_available(void);

/* ERROR 55000 that names shared_preload_libraries unless preloaded. */
extern void gtf_shmem_require(void);

/* A tick not given to anyone before, at least that of now. */
extern uint64 gtf_shmem_next_ticks(uint64 now);

/* Make sure that later ticks are above these. */
extern void gtf_shmem_raise_ticks(uint64 ticks);

/* ---- launcher ---- */
extern void gtf_launcher_attach(void);
extern int	gtf_launcher_pid(TimestampTz *started);
extern void gtf_launcher_wake(void);

/* ---- databases (an index into the table of entries, -1 = none) ---- */
extern int	gtf_db_find(Oid database);

/*
 * Ask for a dispatcher; false if the table of databases is full.  Also says
 * that the extension may have another version now.
 */
extern bool gtf_db_want(Oid database);
extern void gtf_db_unwant(Oid database);

/* Was a database refused since the last call, because the table is full? */
extern bool gtf_db_refused(void);
extern bool gtf_db_info(int db, GtfDatabaseInfo *info);

/*
 * Keep all gtf workers out of a database.  Counted; a block whose process is
 * gone no longer counts.
 */
extern bool gtf_db_block(Oid database);
extern void gtf_db_unblock(Oid database);

/*
 * Process ids of all gtf workers of a database (dispatcher last), for
 * signalling; returns how many.
 */
extern int	gtf_db_worker_pids(Oid database, int *pids, int max);

extern int	gtf_dispatcher_attach(Oid database);	/* -1: there is one, or
													 * blocked */
extern void gtf_dispatcher_ready(int db);	/* tells the launcher */
extern void gtf_dispatcher_detach(int db, GtfDispatcherExit reason);

/*
 * Why has the dispatcher left?  Where there was nothing for it what it may
 * have left is forgotten, and none is wanted any more unless somebody has
 * asked for one since it began to look.
 */
extern GtfDispatcherExit gtf_dispatcher_reap(Oid database);
extern bool gtf_flusher_attach(int db, Oid database);
extern void gtf_flusher_detach(int db);
extern void gtf_dispatcher_wake(int db);

/*
 * The dispatcher begins to look at what there is; has it been woken since?  A
 * transaction that waits for a lock takes its latch for that.
 */
extern void gtf_dispatcher_looks(int db);
extern bool gtf_dispatcher_woken(int db);
extern bool gtf_db_is_blocked(int db);

/* ---- submit ring: backends write at commit, the dispatcher reads ---- */

/* Never fails: what does not fit is left to a scan from its lowest id. */
extern void gtf_submitted_push(Oid database, const GtfTaskRef *refs, int n);

/* Ask the dispatcher to look at the table from this id on. */
extern void gtf_submitted_scan_from(Oid database, const pg_uuid_t *id);

/*
 * Ids with ticks below these need no scan any more: what they belong to was
 * over, and looked at, before this was set.  Read it before a transaction is
 * made visible behind the dispatcher's back and have it scanned from there.
 */
extern uint64 gtf_submitted_seen(Oid database);
extern void gtf_submitted_set_seen(int db, uint64 ticks);
extern int	gtf_submitted_pop(int db, GtfTaskRef *refs, int max);
extern bool gtf_submitted_scan_wanted(int db, pg_uuid_t *from);

/* ---- where all tasks have an outcome ---- */

#define GTF_ENDED_RANGES		64

typedef struct GtfIdRange
{
	pg_uuid_t	low;
	pg_uuid_t	high;			/* both are within */
} GtfIdRange;

/* Copies of the ranges that are known, GTF_ENDED_RANGES at most, in no order. */
extern int	gtf_ended_ranges(Oid database, GtfIdRange *ranges);

/*
 * All tasks in this range have a committed outcome, as found by somebody who
 * had begun to look when gtf_submitted_seen() was above it already.
 */
extern void gtf_ended_add(Oid database, const GtfIdRange *range);

/* ---- lanes: the tasks of one owner that executors may take ---- */

/* Find or make the lane of an owner; -1 if there is none free. */
extern int	gtf_lane_open(int db, Oid owner);

/*
 * For a new dispatcher: empty a lane that an earlier one of this database has
 * left; returns its owner, InvalidOid if the lane is not of this database.
 */
extern Oid	gtf_lane_inherit(int lane, int db);

/*
 * Give the lane a task.  Returns false, with *ref replaced by the task to
 * keep (the given one, or the last of the lane if that one comes later), when
 * the lane is full.
 */
extern bool gtf_lane_put(int lane, GtfTaskRef *ref);
extern int	gtf_lane_count(int lane);

/* Copies of those with GTF_REF_LIMITED; refs has room for GTF_LANE_SIZE. */
extern int	gtf_lane_limited(int lane, GtfTaskRef *refs);

/* Is this task in the lane of its owner, about to be taken? */
extern bool gtf_lane_has(Oid database, Oid owner, const pg_uuid_t *id);

/*
 * The dispatcher keeps more tasks of that owner: it wants to be woken when
 * the lane is half empty.  True: it is already, nobody may come to say so.
 */
extern bool gtf_lane_set_more(int lane, bool more);

/* Free slots in the lane. */
extern int	gtf_lane_take_all(int lane, GtfTaskRef *refs);	/* back to memory */
extern void gtf_lane_close(int lane);	/* must be empty and without executors */

/* Wake up to n idle executors of the lane. */
extern void gtf_lane_wake(int lane, int n);

/*
 * The owner is to give up one executor: whichever comes first for another
 * task gets none and leaves.  Or is not, any more.
 */
extern void gtf_lane_give_up(int lane, bool one);

/* ---- slots ---- */
extern int	gtf_slot_reserve(int db, Oid role, int lane, uint32 *generation);
extern bool gtf_slot_release_unattached(int slot, uint32 generation);
extern bool gtf_slot_info(int slot, GtfSlotInfo *info);

/* The slot that runs this task, if any. */
extern bool gtf_slot_find(const pg_uuid_t *id, GtfSlotInfo *info);
extern int	gtf_slot_count(void);

/* Ask an executor to leave when it has nothing to do / after its task. */
extern void gtf_slot_retire(int slot, uint32 generation);

/*
 * Ask an idle executor of another database than this to leave.  True if one
 * is on its way out.
 */
extern bool gtf_slot_retire_idle_elsewhere(int db);

/*
 * This database has so many executors and can have no more now; 0: it can
 * have gtf.max_executors.  When all of them are held by tasks that wait, as
 * many of those have to stop as are too many, see gtf_slot_may_wait().
 */
extern void gtf_db_set_ceiling(int db, int executors);

/*
 * Tasks wait in this database since then, and it has no executor at all and
 * can have none; 0: not so.  Others hold back until then, so a dispatcher
 * that cannot get on does not keep them for ever.  Tells their dispatchers.
 */
extern void gtf_db_set_starving(int db, TimestampTz since, TimestampTz until);

/* Which database has starved longest, and since when; 0, -1: none. */
extern TimestampTz gtf_db_starving(TimestampTz now, int *who);

/*
 * So many executors stay when they are idle, and the database can have so many.
 */
extern void gtf_db_set_pool(int db, int min, int max);

/*
 * The executor has been idle for long: may it leave?  If so it counts as one
 * that is leaving from now on.
 */
extern bool gtf_slot_may_leave(void);

/* The dispatcher has settled the attempt of a lost executor. */
extern void gtf_slot_free_lost(int slot, uint32 generation);

/*
 * Around the dispatcher's writing of a running attempt to gtf.live: begin is
 * false when the attempt is ending.  Until end the executor does not go on to
 * FINISHING, so it knows whether there may be a row to delete, and deletes
 * the last one.  No deadlock detector sees that, so the dispatcher must not wait
 * for locks long in between.
 */
extern bool gtf_slot_live_begin(int slot, uint64 serial);
extern void gtf_slot_live_end(int slot);

/* Whether a request to stop cancels the statement that runs. */
typedef enum GtfInterrupt
{
	GTF_INTERRUPT_LISTENING,	/* if the task wants that, and once */
	GTF_INTERRUPT_BODY,			/* whatever it wants, but not in a handler */
	GTF_INTERRUPT_ANYTHING		/* also in a handler */
} GtfInterrupt;

/*
 * Ask the attempt with this serial to stop.  But for LISTENING even if it is
 * not abortable, and once more if it was asked already.
 */
extern GtfAbortAnswer gtf_slot_abort(int slot, uint64 serial,
									 GtfAbortCause cause, GtfInterrupt interrupt);

/*
 * End the process of the attempt with this serial; no other attempt.  A
 * session that runs the task itself has its statement cancelled.
 */
extern void gtf_slot_terminate(int slot, uint64 serial, GtfAbortCause cause);

/* False if the attempt has become abortable meanwhile. */
extern bool gtf_slot_set_timeout_exceeded(int slot, uint64 serial);

/*
 * While tasks are cancelled that have not started, executors look for an
 * outcome before they run anything.  A canceller begins before it writes the
 * outcome and looks at the slots afterwards; an executor publishes its slot
 * before it asks.  So at least one of them sees the other.
 */
extern void gtf_db_cancel_begin(Oid database);
extern void gtf_db_cancel_end(Oid database);
extern bool gtf_db_must_probe(Oid database);

/*
 * The dispatcher has nothing waiting that could be cancelled already: no more
 * looking, unless somebody has begun or ended a cancel since gtf_db_cancels()
 * has returned this number.
 */
extern uint64 gtf_db_cancels(int db);
extern void gtf_db_probe_reset(int db, uint64 cancels);

/*
 * What a dispatcher is told to look at: the abort requests in the table, roles
 * that do not exist any more, gtf.flow.
 */
typedef enum GtfNews
{
	GTF_NEWS_REQUESTS = 1,
	GTF_NEWS_ROLES = 2,
	GTF_NEWS_FLOW = 4
} GtfNews;

extern void gtf_tell(Oid database, GtfNews news);
extern void gtf_tell_all(GtfNews news); /* of all databases */
extern bool gtf_news_take(int db, GtfNews news);

/* The database is gone: forget its lost and unattached slots and its lanes. */
extern void gtf_db_forget(Oid database);

/*
 * A slot for a task that this session runs itself.  It has the task at once:
 * the caller makes the row visible afterwards.  False if no slot is free:
 * some are left to executors, lest sessions stop everybody's tasks.
 * in_block: the row will not be visible before the slot is left, if ever, so
 * nothing of it is written to a table.
 */
extern bool gtf_slot_take_inline(const GtfTaskRef *ref, bool in_block);

/* The outcome is written; or the attempt is lost and nobody will write it. */
extern void gtf_slot_leave_inline(int slot, bool lost);

/* The slot of the current task, and the one that an executor has; -1: none. */
extern int	gtf_my_slot;
extern int	gtf_my_executor_slot;

/* The process's own slot; all act on gtf_my_slot. */
extern bool gtf_slot_attach(int slot, uint32 generation);
extern void gtf_slot_ready(void);	/* LAUNCHING -> IDLE */

/* Exit callback: leaves LOST, FREE, or LAUNCHING if it has never been ready. */
extern void gtf_slot_detach(void);
extern bool gtf_slot_take(GtfTaskRef *ref); /* lane -> slot: IDLE -> RUNNING */
extern bool gtf_slot_should_retire(void);

/*
 * The body begins.  False: an abort was requested before, it must not.
 */
extern bool gtf_slot_body_starts(TimestampTz at, bool live_written,
								 GtfAbortMode mode, TimestampTz timeout_at,
								 TimestampTz hard_timeout_at);

/* If the attempt has exceeded its timeout before, that aborts it now. */
extern void gtf_slot_set_abortable(void);

/*
 * Abort handlers run at a safe point: a GTF_INTERRUPT_BODY that comes from now
 * on does nothing.  Was there one before?
 */
extern bool gtf_slot_handlers_begin(void);
extern void gtf_slot_handlers_end(void);

/* Was an abort of the running attempt requested?  No lock, a byte. */
extern GtfAbortCause gtf_slot_abort_requested(void);

/* Request it oneself: whoever waits for the task wants it to end. */
extern void gtf_slot_abort_mine(void);

/* Is, or was, that with an interrupt?  To be asked after the above. */
extern bool gtf_slot_interrupt_requested(void);

/*
 * In a signal handler: is there a request that the attempt in this slot of
 * ours be interrupted or this process end?  No slot (-1): none.
 */
extern bool gtf_slot_doorbell(int slot, bool *terminate);

/*
 * The body has ended and its handlers are going to run: requests are too late
 * and the doorbell is silent, but for gtf_revoke() and the end of the process.
 */
extern void gtf_slot_body_ends(GtfAbortCause *cause);

/*
 * RUNNING -> FINISHING; from here on requests are too late.  True if there
 * may be a row of gtf.live to delete.
 */
extern bool gtf_slot_finishing(GtfAbortCause *cause);

/*
 * The attempt has ended, and so has the task for now: gtf_retry() may start it
 * again in another slot while this one is not idle yet.  Before anybody is told.
 */
extern void gtf_slot_let_go(void);

/* Who settles the slot, if its process is lost now, need not tell of the end. */
extern void gtf_slot_told(void);
extern void gtf_slot_idle(bool processed, bool failed);

/*
 * The body begins to wait for other tasks, which need executors, too: false
 * if it must not (any more), and then it does not.  To be asked again whenever
 * the latch was set.
 */
extern void gtf_slot_wait_begin(void);
extern bool gtf_slot_may_wait(void);
extern void gtf_slot_wait_end(void);
extern void gtf_slot_set_start_error(int sqlerrcode, const char *message);

/* ---- cleanup handlers kept in slots ---- */

/* Keep a copy in the own slot; false if there is no room for its argument. */
extern bool gtf_slot_keep_handler(const GtfKeptHandler *handler);

/*
 * Take over what the lost slot of an attempt has kept, in the order it was
 * registered; handlers has room for GTF_MAX_HANDLERS, arguments are palloc'd.
 * 0 if there is nothing to do (any more).
 */
extern int	gtf_kept_claim(const pg_uuid_t *id, int32 attempt,
						   GtfKeptHandler *handlers);

/* The lost slot waits no longer: they have run, or never will. */
extern void gtf_kept_over(const pg_uuid_t *id);

/* The claimant in this slot has not got through: back to the lost slot. */
extern void gtf_kept_return(int slot, const pg_uuid_t *id);

/* ---- reports of running tasks ---- */

/*
 * Of the executor, which never waits for those who read: new progress, a new
 * payload, or both.  What is NULL stays as it is.  False, with nothing
 * changed, when there is no room for the payload.
 */
extern bool gtf_slot_report(const GtfProgress *progress, const Jsonb *payload);

/*
 * A copy, in the current memory context, of the payload that the task of info
 * has set; NULL if it has not, or has ended.  What info tells of reports is
 * read anew, so that it belongs to this payload.
 */
extern Jsonb *gtf_slot_payload(GtfSlotInfo *info);
extern Jsonb *gtf_slot_my_payload(void);

/* Bytes in use, of the whole server. */
extern Size gtf_payload_memory_used(void);

/*
 * Have the next report of this task wake the dispatcher.  False if there has
 * been one since the change count was read.
 */
extern bool gtf_slot_watch(int slot, uint64 serial, uint64 changes);

/*
 * The dispatcher will look at all running tasks then, at the latest; 0: not
 * before it is told.  To be called before it looks, with a time that holds
 * for a task that starts while it does.
 */
extern void gtf_dispatcher_looks_at(int db, TimestampTz at);
extern bool gtf_dispatcher_look_wanted(int db); /* was it told? */

/* What the server shows in pg_stat_progress_* of a slot's process. */
typedef struct GtfCommandReport
{
	ProgressCommandType command;
	int64		param[PGSTAT_NUM_PROGRESS_PARAM];
} GtfCommandReport;

/* False if it runs no such command, or another task meanwhile. */
extern bool gtf_slot_command(const GtfSlotInfo *slot, GtfCommandReport *report);

/*
 * ---- done ring: executors write after commit, the flusher reads ----
 *
 * Tasks that have ended and, for their signals only, tasks that have been
 * asked to stop (status GTF_ABORTING).
 */
typedef struct GtfDone
{
	pg_uuid_t	id;
	XLogRecPtr	lsn;
	int32		status;
	int32		attempt;
} GtfDone;

/* False when the ring is full: the caller flushes and tells by itself. */
extern bool gtf_done_push(Oid database, const GtfDone *done);

/*
 * For those who can do neither: waits for some room and for the next flusher
 * if need be.  Never raises.  False when nobody will tell the waiters soon.
 */
extern bool gtf_done_leave(Oid database, const GtfDone *done);
extern int	gtf_done_pop(int db, GtfDone *done, int max);

/* Put back what was taken; returns how many there was no room for. */
extern int	gtf_done_unpop(int db, const GtfDone *done, int n);

/* Ask the flusher for WAL up to here; it wakes the dispatcher afterwards. */
extern void gtf_flush_request(int db, XLogRecPtr lsn);
extern XLogRecPtr gtf_flush_requested(int db);

/* ---- waiters ---- */

/* Register this backend for a task; -1 when the pool is exhausted. */
extern int	gtf_waiter_add(const pg_uuid_t *id);

/*
 * Has an end been told to it since it was asked last?  Look at the table then:
 * it may have been told to all, and what ends from now on is told again.
 */
extern bool gtf_waiter_told(int waiter);
extern void gtf_waiter_remove(int waiter);

/*
 * Wake those who wait for a task of this database.  Its end must be durable.
 */
extern void gtf_waiters_wake(const pg_uuid_t *id);

/* Wake all waiters of the server, to look again. */
extern void gtf_waiters_wake_all(void);

/*
 * ---- prerequisites: ends that the dispatcher wants to hear of ----
 *
 * It watches bits that ids are mapped to, and gets the ids of tasks with such
 * a bit through the submit ring when they have ended and that is durable, like
 * a waiter: it watches first and looks at the table then.  A zero id: some may
 * have ended unheard.
 */
#define GTF_WATCH_BITS	32768
extern int	gtf_watch_bit(const pg_uuid_t *id);
extern void gtf_watch(int db, int bit, bool on);
extern void gtf_watch_all(int db, bool on);

/* ---- cumulative counters ---- */
typedef enum GtfCounter
{
	GTF_COUNT_SUBMITTED,
	GTF_COUNT_STARTED,
	GTF_COUNT_SUCCEEDED,
	GTF_COUNT_FAILED,
	GTF_COUNT_ABORTED,
	GTF_COUNT_TIMED_OUT,
	GTF_COUNT_RETRIED,
	GTF_COUNT_LOST,
	GTF_COUNT_SCANS,
	GTF_COUNT_RUNTIME,			/* microseconds */
	GTF_COUNT_RUNTIME_BUCKETS,	/* the first one, see stats.c */
	GTF_NUM_COUNTERS = GTF_COUNT_RUNTIME_BUCKETS + 15
} GtfCounter;

extern void gtf_count(Oid database, GtfCounter counter, uint64 n);

/*
 * All of them; false if those from before the start of the server, which are
 * in gtf.counters, are not yet in there.
 */
extern bool gtf_counters_get(Oid database, uint64 *values);

/* Add those; once in the life of the server. */
extern void gtf_counters_load(Oid database, const uint64 *values);

#endif							/* GTF_SHMEM_H */
