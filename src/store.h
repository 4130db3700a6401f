/*-------------------------------------------------------------------------
 *
 * store.h
 *	  The tables of gtf: all SQL text and all heap access.
 *
 * Every function needs an open transaction and leaves it open; none knows why
 * it is called.  Rows are read in their latest committed state (SnapshotSelf)
 * and without the caller's privileges: callers check those first.  Relation
 * locks on gtf's tables are released as soon as a read is done, so that a
 * long body never holds one; a write keeps its lock until the transaction
 * ends, as usual.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_STORE_H
#define GTF_STORE_H

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "shmem.h"
#include "task.h"

/* Does this database have the extension, with the version of this library? */
typedef enum GtfInstalled
{
	GTF_NOT_INSTALLED,
	GTF_OTHER_VERSION,
	GTF_INSTALLED
} GtfInstalled;

extern GtfInstalled gtf_store_installed(char **version);

/* Is this what rows carry that were submitted in this database? */
extern bool gtf_store_is_own_home(int32 home);

extern Oid	gtf_store_relid(const char *name);	/* in schema gtf, else ERROR */

/* ---- gtf.tasks ---- */
typedef struct GtfTaskWriter GtfTaskWriter;

/* Insert many tasks; the relation stays open between begin and end. */
extern GtfTaskWriter *gtf_store_tasks_begin(void);
extern void gtf_store_tasks_put(GtfTaskWriter *writer, GtfTask *task);	/* sets tid */
extern void gtf_store_tasks_end(GtfTaskWriter *writer);

/*
 * Read a task into the current memory context, at its tid or else by id.
 * NULL if there is none.
 */
extern GtfTask *gtf_store_task_fetch(const pg_uuid_t *id, ItemPointer tid);

/* The same by id, with args left NULL: they may be large. */
extern GtfTask *gtf_store_task_head(const pg_uuid_t *id);

/*
 * The tasks of an owner that have a key, among the next max_rows above *after,
 * which moves; all bits are set when there are no more.  Without args.
 */
extern List *gtf_store_tasks_of(Oid owner, pg_uuid_t *after, int max_rows);

/*
 * What a task was submitted to wait for, in the current memory context, in
 * the order of depends_on; NULL if it has none, or is gone.  *lsn, if not
 * NULL, is where WAL must be flushed to for its submit to be durable.  Needs
 * an active snapshot.
 */
extern pg_uuid_t *gtf_store_prerequisites(const pg_uuid_t *id, int *n,
										  XLogRecPtr *lsn);

/* Have all of them succeeded? */
extern bool gtf_store_prerequisites_met(const pg_uuid_t *id);

/*
 * Keep a task from being removed until the transaction ends; false if it is
 * gone.  Waits for who is removing it.
 */
extern bool gtf_store_task_keep(const pg_uuid_t *id);

/*
 * The tasks that have this one in depends_on, up to max, above *after in the
 * order of their ids; returns their number.
 */
extern int	gtf_store_dependents(const pg_uuid_t *id, const pg_uuid_t *after,
								 pg_uuid_t *ids, int max);

/* Highest id in the table; false if it is empty. */
extern bool gtf_store_last_id(pg_uuid_t *id);

/*
 * Walk through all tasks without an outcome in the order of their ids, in
 * bounded steps.  Each step uses a new snapshot taken by the caller's
 * transaction.
 */
typedef struct GtfScan
{
	pg_uuid_t	after;			/* continue above this id */
	pg_uuid_t	reading;		/* the task that an error has to do with, if
								 * it is above that */
	bool		finished;
} GtfScan;

/*
 * Look at up to max_rows tasks, append those without an outcome to refs (at
 * most max_refs); returns their number.  lsn and flags are left 0, attempt 1.
 */
extern int	gtf_store_scan_pending(GtfScan *scan, int max_rows,
								   GtfTaskRef *refs, int max_refs);

/* ---- gtf.outcomes ---- */

/*
 * Append the outcome of an attempt: THE guarded write.  The unique key
 * (task_id, attempt) decides every race; the loser gets false (after waiting
 * for the other transaction if that is still open) when may_conflict, else
 * ERROR 23505.  May-conflict writes run in a subtransaction.
 */
extern bool gtf_store_outcome_put(const GtfOutcome *outcome, bool may_conflict);

/* What is there for (id, attempt)? */
typedef enum GtfProbe
{
	GTF_PROBE_NONE,				/* no outcome: the attempt may run */
	GTF_PROBE_EXISTS,			/* committed */
	GTF_PROBE_IN_PROGRESS		/* being written by *xid */
} GtfProbe;

extern GtfProbe gtf_store_outcome_probe(const pg_uuid_t *id, int32 attempt,
										TransactionId *xid);

/*
 * The guarded write without any waiting, for the dispatcher: NONE when it was
 * written, else what is in its way.
 */
extern GtfProbe gtf_store_outcome_try(const GtfOutcome *outcome);

/*
 * The outcome of the last attempt, in the current memory context, or NULL.
 * *lsn, if not NULL, is where WAL must be flushed to before the outcome may
 * be reported as durable (InvalidXLogRecPtr: it is).
 */
extern GtfOutcome *gtf_store_outcome_last(const pg_uuid_t *id, XLogRecPtr *lsn);

/*
 * The same with result, payload and texts left NULL: they may be large, and
 * what is stored out of line can be read only under a snapshot.
 */
extern GtfOutcome *gtf_store_outcome_head(const pg_uuid_t *id, XLogRecPtr *lsn);

/* Has the task a final outcome, or is there no such task (any more)? */
extern bool gtf_store_has_ended(const pg_uuid_t *id);

/*
 * Make the final outcome of an attempt that of a retried one.  The caller
 * holds the task's lock.
 */
extern void gtf_store_outcome_retried(const pg_uuid_t *id, int32 attempt);

/* How many attempts of the task have lost their executor? */
extern int	gtf_store_lost_count(const pg_uuid_t *id);

/* ---- gtf.keys: the last task of each key ---- */
#define GTF_KEY_LEN 32			/* SHA-256 */

/* Of a key, and of the task that has it. */
typedef enum GtfKeyState
{
	GTF_KEY_FREE,				/* no row; the task has ended or is gone */
	GTF_KEY_HELD,				/* there is a row; the task is active */
	GTF_KEY_RELEASED,			/* the task was asked to stop and has not yet */
	GTF_KEY_CHANGING			/* transaction *xid is at it */
} GtfKeyState;

/* Both look at what is not committed, too. */
extern GtfKeyState gtf_store_key_get(const uint8 *key, pg_uuid_t *id,
									 TransactionId *xid);
extern GtfKeyState gtf_store_key_holder(const pg_uuid_t *id, TransactionId *xid);

/* False, after waiting for other transactions, if the row is there already. */
extern bool gtf_store_key_put(const uint8 *key, const pg_uuid_t *id);

/* Lock the row until the transaction ends; false if there is none. */
extern bool gtf_store_key_lock(const uint8 *key, pg_uuid_t *id);
extern void gtf_store_key_move(const uint8 *key, const pg_uuid_t *id);

/* If the row is this task's and nobody is at it. */
extern void gtf_store_key_remove(const uint8 *key, const pg_uuid_t *id);

/* ---- gtf.task_subscribers: of shared tasks only ---- */
#define GTF_SUBSCRIBERS_ALL PG_INT32_MAX

extern bool gtf_store_subscribed(const pg_uuid_t *id, Oid role,
								 const char *app_user);

/* The same, and no other transaction is at it. */
extern bool gtf_store_subscribed_for_good(const pg_uuid_t *id, Oid role,
										  const char *app_user);

/* How many, but it stops counting at max. */
extern int	gtf_store_subscriber_count(const pg_uuid_t *id, int max);

/*
 * The caller holds the task's lock, or has just submitted the task; put: there
 * is no such row.  delete: false if there is none.
 */
extern void gtf_store_subscriber_put(const pg_uuid_t *id, Oid role,
									 const char *app_user);
extern bool gtf_store_subscriber_delete(const pg_uuid_t *id, Oid role,
										const char *app_user);

/* All of a role; returns how many. */
extern int	gtf_store_subscriber_delete_role(const pg_uuid_t *id, Oid role);

/* Tasks that a role has subscribed, maybe one several times; their number. */
extern int	gtf_store_subscriptions(Oid role, pg_uuid_t *ids, int max);

/* Roles that have subscriptions or tasks and do not exist any more. */
extern List *gtf_store_gone_subscribers(void);
extern List *gtf_store_gone_owners(void);

/* ---- removing tasks ---- */
typedef struct GtfEnded
{
	pg_uuid_t	task_id;
	TimestampTz ended_at;
} GtfEnded;

/*
 * The tasks that have ended before this time, those that ended first first,
 * at most max of them, and as many as maintenance_work_mem takes; only those
 * after this one unless it is NULL.  Sets their number, and whether there are
 * more.  Reads the whole table.
 */
extern GtfEnded *gtf_store_ended_before(TimestampTz before,
										const GtfEnded *after, int64 max,
										int *n, bool *more);

/*
 * Removing tasks that have ended before a time, many in one transaction, in
 * which there is an active snapshot from begin to end.
 */
typedef struct GtfRemover GtfRemover;

extern GtfRemover *gtf_store_remover_begin(TimestampTz before);
extern void gtf_store_remover_end(GtfRemover *remover);

/*
 * Remove a task with all its rows if it has ended before that time and no
 * active task depends on it; else, or if it is gone already, false.  Leaves it
 * alone if somebody is making one that does.  The caller holds the task's lock.
 * Sets *keyed to what was removed if that had a key, else to NULL.
 */
extern bool gtf_store_remover_remove(GtfRemover *remover, const pg_uuid_t *id,
									 GtfTask **keyed);

/* ---- gtf.live: attempts that run long, durable starts, later attempts ---- */
#define GTF_LIVE_RUNNING	'r'
#define GTF_LIVE_WAITING	'p' /* for the start of this attempt */

typedef struct GtfLive
{
	pg_uuid_t	task_id;
	int32		attempt;
	char		state;			/* GTF_LIVE_* */
	bool		atomic;			/* RUNNING: a hook that says it is */
	TimestampTz since;			/* started_at, or not before */
	int32		worker;

	/* what a running attempt has reported, some time ago */
	GtfProgress progress;
	Jsonb	   *payload;		/* or NULL */
} GtfLive;

/* When an attempt expires that waits, or has; gtf_retry() later overrides it. */
static inline TimestampTz
gtf_live_expires_at(const GtfLive *live, const GtfTask *task)
{
	return live->since < task->expires_at ? task->expires_at : 0;
}

/* Insert or replace the row of a task. */
extern void gtf_store_live_put(const GtfLive *live);

/* Its payload is left NULL by get, which may be large. */
extern bool gtf_store_live_get(const pg_uuid_t *id, GtfLive *live);
extern bool gtf_store_live_fetch(const pg_uuid_t *id, GtfLive *live);

/*
 * Write what the running attempt has reported into its row; false if that is
 * not there.  The payload stays as it is unless there is one in *live.
 */
extern bool gtf_store_live_report(const GtfLive *live);

/* Fine if there is none; the other one leaves those of other attempts alone. */
extern void gtf_store_live_delete(const pg_uuid_t *id);
extern void gtf_store_live_delete_attempt(const pg_uuid_t *id, int32 attempt);

/*
 * The tasks that have a row, in order, and maybe some that have none any
 * more: the rows are not visited.
 */
extern pg_uuid_t *gtf_store_live_ids(int *n);

/* ---- gtf.abort_requests: until the attempt has ended ---- */
typedef struct GtfRequest
{
	pg_uuid_t	task_id;
	GtfAbortCause cause;
	GtfForce	force;
} GtfRequest;

/* Keeps the first one, but for more force.  The caller holds the task's lock. */
extern void gtf_store_request_put(const pg_uuid_t *id, GtfAbortCause cause,
								  GtfForce force);
extern bool gtf_store_request_get(const pg_uuid_t *id, GtfRequest *request);

/*
 * Fine if there is none.  Never waits: what another transaction is at stays,
 * and the dispatcher deletes it when the task has ended.  True if it is gone.
 */
extern bool gtf_store_request_delete(const pg_uuid_t *id);
extern List *gtf_store_request_all(void);	/* of GtfRequest * */

/* ---- gtf.state: one row ---- */
typedef struct GtfDbState
{
	uint64		system_identifier;
	Oid			database;
	TimestampTz suspect_before; /* tasks submitted earlier start durably; 0 =
								 * none */
	bool		is_copy;		/* the row was written elsewhere */
	bool		clean;			/* no crash since the last start */
} GtfDbState;

extern void gtf_store_state_get(GtfDbState *state);

/* The same as is_copy, as of the current statement. */
extern bool gtf_store_is_copy(void);

/*
 * Record that this server and database own the tables, and make the tasks of
 * other homes tasks of this one, with the roles of this server that have the
 * same names.  Returns those whose keys have to be made anew.
 */
extern pg_uuid_t *gtf_store_state_adopt(int *num_keyed);

/* ---- gtf.roles ---- */

/* Follow the names of roles. */
extern void gtf_store_roles_refresh(void);

/* The name of a role that does not exist (any more), or its OID. */
extern char *gtf_store_role_name(Oid role);

/*
 * A dump was restored: what is in the tables is a copy, even if it was made
 * here, until somebody adopts it.
 */
extern void gtf_store_state_restored(void);

/* Remember a start after a crash. */
extern void gtf_store_state_started(TimestampTz suspect_before);

/* ---- gtf.counters: what was counted before the server was started ---- */
extern int64 gtf_store_counter_get(const char *name);	/* 0 if not there */

/* Without waiting; false if somebody else has locked the table. */
extern bool gtf_store_counters_lock(void);
extern void gtf_store_counter_put(const char *name, int64 value);

/* ---- gtf.flow ---- */

/* What a row of gtf.flow is about, as stored. */
typedef enum GtfFlowKind
{
	GTF_FLOW_QUEUE = 'q',
	GTF_FLOW_TASK_TYPE = 't',
	GTF_FLOW_OWNER = 'o',
	GTF_FLOW_POOL = 'p'			/* the executors of the database; no name */
} GtfFlowKind;

/* A row of gtf.flow. */
typedef struct GtfFlow
{
	GtfFlowKind kind;
	char	   *name;			/* of the queue, the type, the role */
	int32		min_running;	/* pool: executors that stay; 0 = none */
	int32		max_running;	/* 0 = no limit */
	char	   *rate;			/* as 10/s, or NULL */
	bool		paused;			/* queues only */
} GtfFlow;

/* All rows, of GtfFlow *, in the current memory context. */
extern List *gtf_store_flow_all(void);

/*
 * Insert or change the row of a kind and name: the numbers, the rate, or
 * whether it is paused.  A row that says nothing is removed.
 */
extern void gtf_store_flow_put(const GtfFlow *change, bool set_numbers,
							   bool set_rate, bool set_paused);

/* ---- gtf.task_type_versions: rows as read, see registry.h ---- */
struct GtfType;
extern struct GtfType *gtf_store_type_current(const char *name);
extern struct GtfType *gtf_store_type_version(int32 version);

/* Retire the current version, if any, and insert this one; sets version. */
extern void gtf_store_type_put(struct GtfType *type);
extern bool gtf_store_type_retire(const char *name);
extern bool gtf_store_type_in_use(const char *name);

#endif							/* GTF_STORE_H */
