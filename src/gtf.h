/*-------------------------------------------------------------------------
 *
 * gtf.h
 *	  Tasks written in C.
 *
 * The only header of gtf that is installed.  A library registers hooks in its
 * _PG_init():
 *
 *		#include "postgres.h"
 *		#include "extension/gtf/gtf.h"
 *
 *		static void
 *		resize(GtfContext *context)
 *		{
 *			...
 *		}
 *
 *		void
 *		_PG_init(void)
 *		{
 *			gtf_register_hook("my_ext.resize", resize, GTF_HOOK_ATOMIC);
 *		}
 *
 * and a superuser names it in SQL:
 *
 *		SELECT gtf_register_task('resize', hook => 'my_ext.resize',
 *								 library => 'my_ext');
 *
 * Nothing here links with gtf: it may be loaded before or after the library,
 * or not be there at all.  The header is C and C++.  docs/c-tasks.md is a
 * tutorial.
 *
 * Rules that hold for everything here:
 *
 * - A function fails with ereport(ERROR), and so does a hook.
 * - What is passed to a function is copied where it has to last, unless its
 *	 description says otherwise; what a function returns is palloc'd in the
 *	 current memory context, unless its description says otherwise.
 * - A context belongs to one attempt of one task.  It can be used by the
 *	 hook and its callbacks, and what these call, until the last of them has
 *	 returned; in no other process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_H
#define GTF_H

#ifdef __cplusplus
extern "C"
{
#endif

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/*
 * Changes when a library that was compiled before cannot work any more.
 * Additions do not change it: structs get longer at their ends, and gtf
 * refuses a library only if that was compiled with a longer one.
 */
#define GTF_ABI_VERSION		1

/* ---- what a task knows of itself ---- */

/*
 * Strings are in the encoding of the database.  All of it belongs to gtf and
 * stays as it is for as long as the context does.
 */
typedef struct GtfTaskFacts
{
	pg_uuid_t	id;
	const char *task_type;
	const char *task_key;		/* or NULL */
	const char *task_name;		/* or NULL */
	const char *scope;			/* "private", "shared" or "system" */
	int32		attempt;		/* 1, 2, ... */
	Oid			owner;			/* the role that the hook runs as */
	const char *app_user;		/* "" if there is none */
	const Interval *timeout;	/* of an attempt; NULL = none */
	const Jsonb *args;
} GtfTaskFacts;

/* ---- submitting tasks ---- */

/*
 * Options of gtf_ctx_submit(), as those of gtf_submit() in SQL.  Set all of
 * it to zero first, then what is wanted: zero is "not given".
 */
typedef struct GtfSubmitOptions
{
	const char *task_key;
	const char *task_name;
	const Interval *timeout;	/* an interval of zero = none */
	const char *scope;
	bool		has_priority;	/* priority is given */
	int32		priority;
	const char *queue;
	const Interval *delay;		/* one of this and run_at */
	TimestampTz run_at;
	TimestampTz expires_at;
	int32		max_attempts;
	const pg_uuid_t *depends_on;
	int			num_depends_on;
} GtfSubmitOptions;

/* ---- the context ---- */

typedef struct GtfContext GtfContext;

/* An abort or cleanup callback, see gtf_ctx_on_abort(). */
typedef void (*GtfCallback) (GtfContext *context, void *arg);

/* How the functions below reach gtf.  Call those, not these. */
typedef struct GtfContextApi
{
	uint32		size;
	const GtfTaskFacts *(*task) (GtfContext *context);
	MemoryContext (*memory) (GtfContext *context);
	Jsonb	   *(*payload) (GtfContext *context);
	bool		(*progress) (GtfContext *context, int64 current, int64 total);
	bool		(*progress_fraction) (GtfContext *context, double fraction);
	bool		(*progress_count) (GtfContext *context, int64 current);
	bool		(*set_payload) (GtfContext *context, const Jsonb *payload);
	void		(*on_abort) (GtfContext *context, GtfCallback callback, void *arg);
	void		(*on_cleanup) (GtfContext *context, GtfCallback callback, void *arg);
	bool		(*is_aborting) (GtfContext *context);
	void		(*check_abort) (GtfContext *context);
	bool		(*sleep) (GtfContext *context, int64 milliseconds);
	void		(*set_result) (GtfContext *context, const Jsonb *result);
	void		(*submit) (GtfContext *context, const char *task_type,
						   const Jsonb *args, const GtfSubmitOptions *options,
						   Size options_size, pg_uuid_t *id);
} GtfContextApi;

struct GtfContext
{
	const GtfContextApi *api;
	/* what follows belongs to gtf */
};

/* The facts of the task; valid for as long as the context is. */
static inline const GtfTaskFacts *
gtf_ctx_task(GtfContext *context)
{
	return context->api->task(context);
}

/* Its arguments: a JSON value, an object by convention.  Never NULL. */
static inline const Jsonb *
gtf_ctx_args(GtfContext *context)
{
	return context->api->task(context)->args;
}

/*
 * A memory context that lives until the last callback has returned, through
 * commits and rollbacks.  What a callback needs belongs there.
 */
static inline MemoryContext
gtf_ctx_memory(GtfContext *context)
{
	return context->api->memory(context);
}

/*
 * Report progress: so many of a total, a fraction from 0 to 1, or a count
 * whose total is not known.  Others see it at once; no rollback takes it
 * back.  Costs no lock and no system call: call it as often as you like.
 *
 * False if the task shall stop; then it counts as having noticed, and its
 * abort callbacks have run (see gtf_ctx_on_abort()).  Serves interrupts.
 * ERROR 22023 for negative numbers and fractions outside of 0 to 1.
 */
static inline bool
gtf_ctx_progress(GtfContext *context, int64 current, int64 total)
{
	return context->api->progress(context, current, total);
}

static inline bool
gtf_ctx_progress_fraction(GtfContext *context, double fraction)
{
	return context->api->progress_fraction(context, fraction);
}

static inline bool
gtf_ctx_progress_count(GtfContext *context, int64 current)
{
	return context->api->progress_count(context, current);
}

/*
 * The payload that the task shows: what it has set last, else what the
 * attempt before has left, else NULL.
 */
static inline Jsonb *
gtf_ctx_payload(GtfContext *context)
{
	return context->api->payload(context);
}

/*
 * Replace the payload; NULL leaves it as it is.  Returns as
 * gtf_ctx_progress() does.  ERROR 54000 above 1 MB of text, 53200 if
 * gtf.payload_memory has no room: the old one stays.
 */
static inline bool
gtf_ctx_set_payload(GtfContext *context, const Jsonb *payload)
{
	return context->api->set_payload(context, payload);
}

/*
 * Have a callback called when the task is aborted, or at its end however it
 * ends.  As gtf_on_abort() and gtf_on_cleanup() in SQL: the last one that was
 * registered is called first, each in a subtransaction of its own, as the
 * owner of the task, with SPI connected; an ERROR in one makes the task a
 * failure and does not keep the others from being called.
 *
 * When: an abort callback at the next safe point after the request (the
 * functions here that return whether the task shall stop, and the ends of
 * statements that the hook runs through SPI), else at the end.  If the hook
 * has raised, callbacks run after its transaction was rolled back.  One that
 * was rolled back after it had run is called once more.
 *
 * arg is passed as it is.  What it points to must last: allocate it in
 * gtf_ctx_memory().  It is not freed for each callback but with that context.
 *
 * No other process can call them: if this one is lost (killed, terminated),
 * they are not called.  What has to be cleaned up even then belongs into SQL
 * functions, registered through SPI: SELECT gtf_on_cleanup(...).
 *
 * The first abort callback makes the task abortable, unless its abort mode is
 * never.  ERROR 54000 above 64 callbacks and SQL handlers.
 */
static inline void
gtf_ctx_on_abort(GtfContext *context, GtfCallback callback, void *arg)
{
	context->api->on_abort(context, callback, arg);
}

static inline void
gtf_ctx_on_cleanup(GtfContext *context, GtfCallback callback, void *arg)
{
	context->api->on_cleanup(context, callback, arg);
}

/*
 * Shall the task stop?  Reads one word of shared memory: for inner loops.
 * True counts as noticed; abort callbacks have run.  Serves interrupts.
 */
static inline bool
gtf_ctx_is_aborting(GtfContext *context)
{
	return context->api->is_aborting(context);
}

/* The same, but raises: ERROR 57014 if the task shall stop. */
static inline void
gtf_ctx_check_abort(GtfContext *context)
{
	context->api->check_abort(context);
}

/*
 * Sleep so many milliseconds, 0 or less: not at all.  False if the task shall
 * stop, and at once.  Serves interrupts.
 */
static inline bool
gtf_ctx_sleep(GtfContext *context, int64 milliseconds)
{
	return context->api->sleep(context, milliseconds);
}

/*
 * The result of the task if it succeeds; a copy is made.  The last one
 * counts; NULL: none, which is what it has at first.
 */
static inline void
gtf_ctx_set_result(GtfContext *context, const Jsonb *result)
{
	context->api->set_result(context, result);
}

/*
 * Submit a task, whose parent this one is, in the current transaction:
 * gtf_submit() of SQL, with the same errors.  args NULL = {}; options NULL =
 * none.  The id of the new task, or of one that has the key already, goes to
 * *id.
 */
static inline void
gtf_ctx_submit(GtfContext *context, const char *task_type, const Jsonb *args,
			   const GtfSubmitOptions *options, pg_uuid_t *id)
{
	context->api->submit(context, task_type, args, options,
						 sizeof(GtfSubmitOptions), id);
}

/* ---- hooks ---- */

/*
 * The code of a task.  It runs as the owner of the task, in a session of that
 * role, with SPI connected.
 *
 * Atomic: in one transaction with the outcome of the task.  It must not end
 * that transaction.  If the process is lost there is nothing left of it, and
 * the task runs again.
 *
 * Not atomic: in a transaction that it may end, with SPI_commit() and
 * SPI_rollback(), like a procedure.  What it has committed stays.  Memory
 * that it has allocated in the current context survives that, snapshots do
 * not.
 *
 * The current memory context is reset when it has returned.  It has to leave
 * everything else as it was: subtransactions, snapshots, SPI connections,
 * the current user, levels of settings, held-off interrupts, the stacks of
 * error contexts and PG_TRY.  If it does not, the task fails.
 */
typedef void (*GtfHookRun) (GtfContext *context);

/* One or none of the abort modes; none: handler, see gtf_register_task(). */
#define GTF_HOOK_ATOMIC		0x0001	/* one transaction with the outcome */
#define GTF_HOOK_POLL		0x0010	/* abortable: the hook asks */
#define GTF_HOOK_INTERRUPT	0x0020	/* abortable: raised where interrupts are
									 * served */
#define GTF_HOOK_NEVER		0x0040	/* not abortable */

/* An entry of the list of all hooks of the process. */
typedef struct GtfHook
{
	/* these do not move, whatever the version */
	struct GtfHook *next;
	const char *name;
	GtfHookRun	run;
	uint32		abi_version;
	uint32		size;			/* of this struct ... */

	uint32		api_size;		/* ... and of the other one */
	uint32		flags;			/* GTF_HOOK_* */
} GtfHook;

/* The name of the rendezvous variable that the list begins in. */
#define GTF_HOOKS_VARIABLE	"gtf_hooks"

/*
 * Register a hook, in _PG_init().  The name is copied; begin it with that of
 * the library, for there can be one of each name only: a task whose hook two
 * libraries have registered fails.
 */
static inline void
gtf_register_hook(const char *name, GtfHookRun run, int flags)
{
	GtfHook   **first = (GtfHook **) (void *) find_rendezvous_variable(GTF_HOOKS_VARIABLE);
	GtfHook    *hook;

	/* _PG_init() is called again after it has raised */
	for (hook = *first; hook != NULL; hook = hook->next)
	{
		if (hook->abi_version == GTF_ABI_VERSION && hook->run == run &&
			strcmp(hook->name, name) == 0)
			return;
	}
	hook = (GtfHook *) MemoryContextAllocZero(TopMemoryContext, sizeof(GtfHook));
	hook->abi_version = GTF_ABI_VERSION;
	hook->size = sizeof(GtfHook);
	hook->api_size = sizeof(GtfContextApi);
	hook->flags = (uint32) flags;
	hook->name = MemoryContextStrdup(TopMemoryContext, name);
	hook->run = run;
	hook->next = *first;
	*first = hook;
}

#ifdef __cplusplus
}
#endif

#endif							/* GTF_H */
