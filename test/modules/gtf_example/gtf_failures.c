/*-------------------------------------------------------------------------
 *
 * gtf_failures.c
 *	  Hooks that do what a hook must not, one for each way, and some that
 *	  show what they are told.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/* So that there is something to be rolled back. */
static void
effect(const char *what)
{
	SPI_execute(psprintf("INSERT INTO effects (what) VALUES (%s)", quote_literal_cstr(what)),
				false, 0);
}

static Jsonb *
json(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static void
fails(GtfContext *context)
{
	effect("fails");
	ereport(ERROR,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("oops"), errdetail("It is broken."), errhint("Mend it.")));
}

static void
subtransaction(GtfContext *context)
{
	effect("subtransaction");
	BeginInternalSubTransaction(NULL);
}

static void
aborted(GtfContext *context)
{
	MemoryContext caller = CurrentMemoryContext;

	effect("aborted");
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		SPI_execute("SELECT 1/0", false, 0);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
	}
	PG_END_TRY();
}

static void
end_transaction(GtfContext *context)
{
	effect("end_transaction");
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
next_transaction(GtfContext *context)
{
	end_transaction(context);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
rollback_all(GtfContext *context)
{
	effect("rollback_all");
	AbortOutOfAnyTransaction();
}

static void
commit(GtfContext *context)
{
	effect("commit");
	SPI_commit();
}

static void
snapshot(GtfContext *context)
{
	effect("snapshot");
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
no_snapshot(GtfContext *context)
{
	effect("no_snapshot");
	PopActiveSnapshot();
}

static void
spi(GtfContext *context)
{
	effect("spi");
	SPI_connect();
}

static void
no_spi(GtfContext *context)
{
	effect("no_spi");
	SPI_finish();
}

static void
user(GtfContext *context)
{
	effect("user");
	SetUserIdAndSecContext(ROLE_PG_MONITOR, 0);
}

static void
guc(GtfContext *context)
{
	effect("guc");
	(void) NewGUCNestLevel();
	(void) set_config_option("work_mem", "123kB", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static void
holdoff(GtfContext *context)
{
	effect("holdoff");
	HOLD_INTERRUPTS();
}

static void
lwlock(GtfContext *context)
{
	effect("lwlock");
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
}

static void
critical(GtfContext *context)
{
	effect("critical");
	START_CRIT_SECTION();
}

static void
parallel(GtfContext *context)
{
	effect("parallel");
	EnterParallelMode();
}

/* The macros do not let one do it by accident. */
static void
in_try(GtfContext *context)
{
	static sigjmp_buf gone;

	effect("in_try");
	PG_exception_stack = &gone;
}

static void
on_error(void *arg)
{
	abort();
}

static void
error_context(GtfContext *context)
{
	static ErrorContextCallback callback;

	effect("error_context");
	callback.callback = on_error;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
}

static void
resource_owner(GtfContext *context)
{
	effect("resource_owner");
	CurrentResourceOwner = NULL;
}

/* 100 MB in the memory of the call, which goes with it. */
static void
memory(GtfContext *context)
{
	for (int i = 0; i < 100; i++)
		memset(palloc(1024 * 1024), 0, 1024 * 1024);
	MemoryContextSwitchTo(TopMemoryContext);
}

/* 4 MB where nobody frees them. */
static void
leak(GtfContext *context)
{
	(void) MemoryContextAlloc(TopMemoryContext, 4 * 1024 * 1024);
}

static void
call_exit(GtfContext *context)
{
	effect("exit");
	exit(3);
}

static void
call_proc_exit(GtfContext *context)
{
	effect("proc_exit");
	proc_exit(2);
}

static void
fatal(GtfContext *context)
{
	effect("fatal");
	ereport(FATAL, (errmsg("I am leaving")));
}

/* Takes the server with it, the first time. */
static void
crash(GtfContext *context)
{
	effect("crash");
	if (gtf_ctx_task(context)->attempt == 1)
		kill(MyProcPid, SIGKILL);
}

/* Interrupts nothing, but never asks. */
static void
loop(GtfContext *context)
{
	static volatile uint64 turns = 0;

	effect("loop");
	while (++turns > 0)
		;
}

/* The same, asleep most of the time. */
static void
deaf_sleep(GtfContext *context)
{
	effect("deaf_sleep");
	for (;;)
		pg_usleep(10000);
}

/* Waits until it is interrupted, or for an abort. */
static void
wait_(GtfContext *context)
{
	effect("wait");
	while (gtf_ctx_sleep(context, 60000))
		;
}

static void
facts(GtfContext *context)
{
	const GtfTaskFacts *task = gtf_ctx_task(context);
	const Jsonb *args = gtf_ctx_args(context);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "\"%s|%s|%s|%s|%d|%s|%s|%s|",
					 task->task_type, task->task_key ? task->task_key : "-",
					 task->task_name ? task->task_name : "-", task->scope,
					 task->attempt, GetUserNameFromId(task->owner, false),
					 task->app_user,
					 task->timeout ? DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(task->timeout))) : "-");
	appendStringInfo(&buf, "%s|%s\"",
					 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&task->id))),
					 GetUserNameFromId(GetUserId(), false));
	gtf_ctx_set_result(context, json("{\"first\": \"is replaced\"}"));
	gtf_ctx_set_result(context, json(psprintf("[%s, %s]", buf.data,
											  JsonbToCString(NULL, (JsonbContainer *) &args->root, VARSIZE(args)))));
}

static void
no_result(GtfContext *context)
{
	gtf_ctx_set_result(context, json("1"));
	gtf_ctx_set_result(context, NULL);
}

/* Reports in all formats, and succeeds in its second attempt. */
static void
progress(GtfContext *context)
{
	bool		go_on = true;
	int			attempt = gtf_ctx_task(context)->attempt;
	Jsonb	   *payload = gtf_ctx_payload(context);

	go_on &= gtf_ctx_progress_fraction(context, 0.25);
	go_on &= gtf_ctx_progress_count(context, 42);
	go_on &= gtf_ctx_progress(context, 3, 4);
	go_on &= gtf_ctx_set_payload(context, json(psprintf("{\"attempt\": %d, \"before\": %s}", attempt,
														payload ? JsonbToCString(NULL, &payload->root, VARSIZE(payload)) : "null")));
	go_on &= gtf_ctx_set_payload(context, NULL);
	go_on &= gtf_ctx_sleep(context, 0) && gtf_ctx_sleep(context, -5) &&
		gtf_ctx_sleep(context, 1) && !gtf_ctx_is_aborting(context);
	gtf_ctx_check_abort(context);
	if (attempt == 1)
		elog(ERROR, "first attempt");
	gtf_ctx_set_result(context, json(go_on ? "true" : "false"));
}

static void
bad_progress(GtfContext *context)
{
	gtf_ctx_progress(context, -1, 4);
}

static void
bad_fraction(GtfContext *context)
{
	gtf_ctx_progress_fraction(context, 1.5);
}

static void
submit(GtfContext *context)
{
	GtfSubmitOptions options = {0};
	Interval	delay = {.day = 1};
	pg_uuid_t	ids[3];

	gtf_ctx_submit(context, "facts", NULL, NULL, &ids[0]);
	options.task_key = "k";
	options.task_name = "child";
	options.has_priority = true;
	options.priority = 7;
	options.delay = &delay;
	options.max_attempts = 3;
	options.depends_on = ids;
	options.num_depends_on = 1;
	gtf_ctx_submit(context, "facts", json("{\"a\": 1}"), &options, &ids[1]);
	gtf_ctx_submit(context, "facts", json("{\"a\": 2}"), &options, &ids[2]);
	gtf_ctx_set_result(context, json(psprintf("[\"%s\", \"%s\", %s]",
											  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&ids[0]))),
											  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&ids[1]))),
											  memcmp(&ids[1], &ids[2], UUID_LEN) == 0 ? "true" : "false")));
}

static void
submit_unknown(GtfContext *context)
{
	pg_uuid_t	id;

	gtf_ctx_submit(context, "no such type", NULL, NULL, &id);
}

static void
bad_callback(GtfContext *context, void *arg)
{
	effect("bad_callback");
	BeginInternalSubTransaction(NULL);
}

static void
callback_leaves(GtfContext *context)
{
	effect("callback_leaves");
	gtf_ctx_on_cleanup(context, bad_callback, NULL);
}

static void
two_modes(GtfContext *context)
{
}

void
_PG_init(void)
{
	/* twice: as when it is called again after an error */
	for (int i = 0; i < 2; i++)
	{
#define ATOMIC(f) gtf_register_hook("gtf_failures." #f, f, GTF_HOOK_ATOMIC)
#define BOTH(f) \
		ATOMIC(f); \
		gtf_register_hook("gtf_failures." #f " commits", f, 0)

		BOTH(fails);
		BOTH(subtransaction);
		BOTH(aborted);
		ATOMIC(end_transaction);
		BOTH(next_transaction);
		BOTH(rollback_all);
		BOTH(commit);
		BOTH(snapshot);
		BOTH(no_snapshot);
		BOTH(spi);
		BOTH(no_spi);
		BOTH(user);
		BOTH(guc);
		BOTH(holdoff);
		BOTH(lwlock);
		BOTH(critical);
		BOTH(parallel);
		BOTH(in_try);
		BOTH(error_context);
		ATOMIC(resource_owner);
		BOTH(memory);
		BOTH(leak);
		BOTH(call_exit);
		BOTH(call_proc_exit);
		BOTH(fatal);
		BOTH(crash);
		BOTH(loop);
		BOTH(deaf_sleep);
		BOTH(wait_);
		BOTH(facts);
		BOTH(no_result);
		BOTH(progress);
		ATOMIC(bad_progress);
		ATOMIC(bad_fraction);
		BOTH(submit);
		ATOMIC(submit_unknown);
		BOTH(callback_leaves);
	}
	gtf_register_hook("gtf_failures.two_modes", two_modes, GTF_HOOK_POLL | GTF_HOOK_NEVER);
	gtf_register_hook("gtf_failures.flags", two_modes, 0x10000);
	gtf_register_hook("gtf_failures.poll", wait_, GTF_HOOK_ATOMIC | GTF_HOOK_POLL);
	gtf_register_hook("gtf_failures.interrupt", wait_, GTF_HOOK_ATOMIC | GTF_HOOK_INTERRUPT);
	gtf_register_hook("gtf_failures.never", wait_, GTF_HOOK_ATOMIC | GTF_HOOK_NEVER);
}
