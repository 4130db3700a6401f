/*-------------------------------------------------------------------------
 *
 * submit.c
 *	  gtf_submit, gtf_submit_many, gtf_submit_sql.
 *
 * A submit writes one row in the caller's transaction and remembers a
 * reference for the moment of commit (wakeup.c); nothing else, but for its key
 * if it has one (keys.c), and a lock on the rows of its prerequisites.  The
 * transaction has its xid before the task has its id: the dispatcher relies on
 * it when it decides up to which id all submits are settled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "access.h"
#include "attempt.h"
#include "body.h"
#include "hook.h"
#include "keys.h"
#include "registry.h"
#include "safepoint.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "submit.h"
#include "task.h"
#include "visible.h"
#include "wakeup.h"

#define MAX_TEXT_OPTION 128		/* bytes of a queue's name */

PG_FUNCTION_INFO_V1(gtf_submit);
PG_FUNCTION_INFO_V1(gtf_submit_many);
PG_FUNCTION_INFO_V1(gtf_submit_sql);

void
gtf_submit_check_allowed(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	gtf_shmem_require();
	(void) gtf_safe_point();
	if (!gtf_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tasks cannot be submitted while gtf is disabled"),
				 errhint("Set gtf.enabled to on.")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot submit a task within a security-restricted operation")));
}

static char *
read_key(Datum key)
{
	char	   *task_key = text_to_cstring(DatumGetTextPP(key));

	if (task_key[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task_key must not be empty")));
	return task_key;
}

/*
 * What the task shall wait for: no id twice.  They are tasks that the caller
 * sees, and are not removed before the transaction ends.
 */
static void
read_prerequisites(ArrayType *array, GtfTaskOptions *o)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	HTAB	   *seen;
	HASHCTL		ctl = {0};

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("depends_on must be a one-dimensional array")));
	deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
					  &elements, &nulls, &n);
	if (n == 0)
		return;
	ctl.keysize = sizeof(pg_uuid_t);
	ctl.entrysize = sizeof(pg_uuid_t);
	ctl.hcxt = CurrentMemoryContext;
	seen = hash_create("gtf depends_on", n, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	o->prerequisites = palloc(n * sizeof(pg_uuid_t));
	for (int i = 0; i < n; i++)
	{
		pg_uuid_t  *id;
		GtfTask    *task;
		bool		found;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("depends_on must not contain nulls")));
		id = DatumGetUUIDP(elements[i]);
		(void) hash_search(seen, id, HASH_ENTER, &found);
		if (found)
			continue;
		CHECK_FOR_INTERRUPTS();
		task = gtf_visible_task(id);
		if (task == NULL || !gtf_store_task_keep(id))
			gtf_error_no_task(id);
		pfree(task);
		o->prerequisites[o->num_prerequisites++] = *id;
	}
	hash_destroy(seen);
}

/*
 * Read and check the options that every task has, but for the key, which is
 * argument number first.
 */
static GtfTaskOptions
read_common_options(FunctionCallInfo fcinfo, int first)
{
	GtfTaskOptions o = {0};

	if (!PG_ARGISNULL(first + 1))
	{
		o.task_name = text_to_cstring(PG_GETARG_TEXT_PP(first + 1));
		/* what a form sends that was left empty: no name */
		if (o.task_name[0] == '\0')
			o.task_name = NULL;
	}
	if (!PG_ARGISNULL(first + 2))
	{
		o.timeout = PG_GETARG_INTERVAL_P(first + 2);
		if (gtf_interval_sign(o.timeout) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("timeout must not be negative")));
	}
	if (!PG_ARGISNULL(first + 3))
	{
		o.scope = text_to_cstring(PG_GETARG_TEXT_PP(first + 3));
		if (strcmp(o.scope, "private") != 0 &&
			strcmp(o.scope, "shared") != 0 &&
			strcmp(o.scope, "system") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid scope \"%s\"", o.scope),
					 errhint("Scopes are private, shared and system.")));
	}
	return o;
}

/* The same and all the others, which follow. */
static GtfTaskOptions
read_options(FunctionCallInfo fcinfo, int first)
{
	GtfTaskOptions o = read_common_options(fcinfo, first);
	TimestampTz now = GetCurrentTimestamp();
	int			delay = first + 6;
	int			run_at = first + 7;
	int			expires_at = first + 8;
	int			max_attempts = first + 9;

	if (!PG_ARGISNULL(first + 4))
	{
		o.has_priority = true;
		o.priority = PG_GETARG_INT32(first + 4);
	}
	if (!PG_ARGISNULL(first + 5))
	{
		o.queue = text_to_cstring(PG_GETARG_TEXT_PP(first + 5));
		if (o.queue[0] == '\0' || strlen(o.queue) > MAX_TEXT_OPTION)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("queue must have 1 to %d bytes", MAX_TEXT_OPTION)));
	}
	if (!PG_ARGISNULL(delay))
	{
		Interval   *interval = PG_GETARG_INTERVAL_P(delay);

		if (!PG_ARGISNULL(run_at))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("delay and run_at cannot both be given")));
		if (gtf_interval_sign(interval) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("delay must not be negative")));
		o.run_at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														   TimestampTzGetDatum(now),
														   IntervalPGetDatum(interval)));
	}
	if (!PG_ARGISNULL(run_at))
		o.run_at = PG_GETARG_TIMESTAMPTZ(run_at);
	if (!PG_ARGISNULL(expires_at))
	{
		o.expires_at = PG_GETARG_TIMESTAMPTZ(expires_at);
		/* never */
		if (TIMESTAMP_IS_NOEND(o.expires_at))
			o.expires_at = 0;
	}
	if (o.expires_at != 0)
	{
		if (o.expires_at <= now)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("expires_at must be in the future")));
		/* no error: that it ends as aborted then is what was asked for */
		if (o.expires_at <= o.run_at)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("task will expire before it is due"),
					 errhint("Its expires_at should be later than the time that delay or run_at gives.")));
	}
	if (!PG_ARGISNULL(max_attempts))
	{
		o.max_attempts = PG_GETARG_INT32(max_attempts);
		if (o.max_attempts < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_attempts must be at least 1")));
	}

	if (!PG_ARGISNULL(first + 10))
		read_prerequisites(PG_GETARG_ARRAYTYPE_P(first + 10), &o);
	return o;
}

/* The scope that a task of this type gets, for this caller. */
static GtfScope
scope_for(const GtfType *type, const GtfTaskOptions *o)
{
	GtfScope	scope = type->scope;

	if (o->scope)
		scope = strcmp(o->scope, "private") == 0 ? GTF_SCOPE_PRIVATE :
			strcmp(o->scope, "shared") == 0 ? GTF_SCOPE_SHARED : GTF_SCOPE_SYSTEM;
	if (scope == GTF_SCOPE_SHARED && o->task_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a shared task must have a task_key"),
				 errhint("Who submits the same key joins the task.")));
	if (scope == GTF_SCOPE_SYSTEM && !gtf_is_admin(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only an administrator can submit a system task")));
	return scope;
}

/*
 * Write one task, or find the active one that has its key; *id is its id.
 * True if it was written.
 */
static bool
write_task(GtfTaskWriter *writer, GtfType *type, const GtfTaskOptions *o,
		   Jsonb *args, GtfTask *written, pg_uuid_t *id)
{
	GtfTask		task = *written;

	gtf_check_text(o->task_key, "task_key");
	gtf_check_text(o->task_name, "task_name");
	gtf_check_text(gtf_app_user, "gtf.app_user");
	gtf_check_jsonb(args, "args");

	task.created_at = GetCurrentTimestamp();
	gtf_id_build(gtf_shmem_next_ticks(gtf_id_ticks_from_timestamp(task.created_at)),
				 &task.id);
	task.owner = GetUserId();
	task.app_user = gtf_app_user;
	task.scope = scope_for(type, o);
	task.task_key = o->task_key;
	if (task.task_key && !gtf_key_claim(&task, type, id))
		return false;

	task.run_at = o->run_at > task.created_at ? o->run_at : 0;
	task.expires_at = o->expires_at;
	task.timeout = o->timeout;
	task.type_version = type->version;
	task.priority = o->has_priority ? o->priority : type->priority;
	task.max_attempts = o->max_attempts;
	if (gtf_current_task)
	{
		task.has_parent = true;
		task.parent_id = gtf_current_task->id;
		task.root_id = gtf_current_task->has_parent ?
			gtf_current_task->root_id : gtf_current_task->id;
	}
	task.queue = o->queue;
	task.task_name = o->task_name;
	task.num_prerequisites = o->num_prerequisites;
	task.prerequisites = o->prerequisites;
	task.args = args;
	gtf_store_tasks_put(writer, &task);
	if (task.scope == GTF_SCOPE_SHARED)
		gtf_subscribe(&task.id, task.owner, task.app_user);
	*id = task.id;
	*written = task;
	return true;
}

/* The same, and remember it for the commit if it was written. */
static void
put_task(GtfTaskWriter *writer, GtfType *type, const GtfTaskOptions *o,
		 Jsonb *args, pg_uuid_t *id)
{
	GtfTask		task = {0};
	GtfTaskRef	ref = {0};

	if (!write_task(writer, type, o, args, &task, id))
		return;
	gtf_ref_set_task(&ref, &task);
	ref.due = task.run_at != 0 ? task.run_at : task.created_at;
	ref.expires_at = task.expires_at;
	ref.attempt = 1;
	if (task.num_prerequisites > 0)
		ref.flags = GTF_REF_DEPENDS;
	gtf_wakeup_submitted(&ref);
}

static Jsonb *
empty_object(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

static GtfType *
type_for_submit(FunctionCallInfo fcinfo, bool may_be_command)
{
	GtfType    *type;
	char	   *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task_type must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	type = gtf_type_lookup(name, false);
	if (type->kind != GTF_TYPE_COMMAND)
		(void) gtf_type_resolve(type, GetUserId());
	else if (!may_be_command)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task type \"%s\" is built in", name),
				 errhint("Use gtf_submit_sql() to run a command.")));
	return type;
}

/*
 * gtf_submit(task_type, args, options...) RETURNS uuid
 */
Datum
gtf_submit(PG_FUNCTION_ARGS)
{
	GtfType    *type;
	Jsonb	   *args;
	GtfTaskOptions options;
	GtfTaskWriter *writer;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	gtf_submit_check_allowed("gtf_submit()");
	type = type_for_submit(fcinfo, false);
	args = PG_ARGISNULL(1) ? empty_object() : PG_GETARG_JSONB_P(1);
	options = read_options(fcinfo, 2);
	if (!PG_ARGISNULL(2))
		options.task_key = read_key(PG_GETARG_DATUM(2));
	gtf_type_check_args(type, args);

	(void) GetCurrentTransactionId();
	writer = gtf_store_tasks_begin();
	put_task(writer, type, &options, args, id);
	gtf_store_tasks_end(writer);
	PG_RETURN_UUID_P(id);
}

/*
 * gtf_submit_many(task_type, args[], task_keys[], options...) RETURNS SETOF uuid
 *
 * The ids come in the order of args, those of tasks that were joined, too;
 * a null in task_keys is no key.  All or nothing: the first bad element
 * raises, naming its position.
 */
Datum
gtf_submit_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	GtfType    *type;
	GtfTaskOptions options;
	GtfTaskWriter *writer;
	Datum	   *elements;
	bool	   *nulls;
	Datum	   *keys = NULL;
	bool	   *no_key = NULL;
	int			n;
	MemoryContext scratch;

	gtf_submit_check_allowed("gtf_submit_many()");
	type = type_for_submit(fcinfo, false);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("args must not be null")));
	if (ARR_NDIM(PG_GETARG_ARRAYTYPE_P(1)) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("args must be a one-dimensional array")));
	options = read_options(fcinfo, 2);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &n);
	if (!PG_ARGISNULL(2))
	{
		int			num_keys;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false,
						  TYPALIGN_INT, &keys, &no_key, &num_keys);
		if (num_keys != n)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("task_keys must have as many elements as args"),
					 errdetail("There are %d keys and %d args.", num_keys, n)));
	}
	if (n == 0)
		PG_RETURN_NULL();

	(void) GetCurrentTransactionId();
	scratch = AllocSetContextCreate(CurrentMemoryContext, "gtf submit",
									ALLOCSET_DEFAULT_SIZES);
	writer = gtf_store_tasks_begin();
	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		pg_uuid_t	id;
		Datum		value;
		bool		isnull = false;
		Jsonb	   *args;

		CHECK_FOR_INTERRUPTS();
		args = nulls[i] ? empty_object() : DatumGetJsonbP(elements[i]);
		gtf_type_check_args(type, args);
		options.task_key = keys == NULL || no_key[i] ? NULL : read_key(keys[i]);
		put_task(writer, type, &options, args, &id);
		value = UUIDPGetDatum(&id);
		MemoryContextSwitchTo(old);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
		MemoryContextReset(scratch);
	}
	gtf_store_tasks_end(writer);
	MemoryContextDelete(scratch);
	PG_RETURN_NULL();
}

/* A syntax error is at a place in the command, not in the caller's statement. */
static void
syntax_error_callback(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
}

/* Exactly one command, of a kind that a background worker can run. */
static void
check_command(const char *command)
{
	const char *refused;
	ErrorContextCallback callback;

	callback.callback = syntax_error_callback;
	callback.arg = unconstify(char *, command);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	refused = gtf_command_refused(gtf_command_parse(command));
	error_context_stack = callback.previous;

	if (refused)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot be run as a task", refused)));
}

/*
 * gtf_submit_sql(command, options...) RETURNS uuid
 */
Datum
gtf_submit_sql(PG_FUNCTION_ARGS)
{
	GtfType    *type;
	GtfTaskOptions options;
	GtfTaskWriter *writer;
	char	   *command;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	gtf_submit_check_allowed("gtf_submit_sql()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("command must not be null")));
	command = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_command(command);
	options = read_options(fcinfo, 1);
	if (!PG_ARGISNULL(1))
		options.task_key = read_key(PG_GETARG_DATUM(1));
	type = gtf_type_lookup(GTF_TYPE_SQL, false);

	(void) GetCurrentTransactionId();
	writer = gtf_store_tasks_begin();
	put_task(writer, type, &options, gtf_command_args(command), id);
	gtf_store_tasks_end(writer);
	PG_RETURN_UUID_P(id);
}

/* ---- for tasks that their session runs itself ---- */

/* {"command": ...} and nothing else. */
static void
check_command_args(Jsonb *args)
{
	char	   *command = gtf_command_of_args(args);

	if (command == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("args of task type \"%s\" must have one key, \"command\", with a string",
						GTF_TYPE_SQL)));
	check_command(command);
}

void
gtf_submission_read(FunctionCallInfo fcinfo, GtfSubmission *s)
{
	s->type = type_for_submit(fcinfo, true);
	if (s->type->kind == GTF_TYPE_HOOK)
		(void) gtf_hook_resolve(s->type);
	/* the caller's copy may not survive a commit */
	s->args = PG_ARGISNULL(1) ? empty_object() : PG_GETARG_JSONB_P_COPY(1);
	s->options = read_common_options(fcinfo, 2);
	if (!PG_ARGISNULL(2))
		s->options.task_key = read_key(PG_GETARG_DATUM(2));
	if (s->options.timeout)
	{
		Interval   *copy = palloc(sizeof(Interval));

		*copy = *s->options.timeout;
		s->options.timeout = copy;
	}
	s->options.max_attempts = 1;
	if (s->type->kind == GTF_TYPE_COMMAND)
		check_command_args(s->args);
	else
		gtf_type_check_args(s->type, s->args);
}

bool
gtf_submission_write(const GtfSubmission *s, GtfTask *task, pg_uuid_t *id)
{
	GtfTaskWriter *writer;
	bool		written;

	(void) GetCurrentTransactionId();
	writer = gtf_store_tasks_begin();
	memset(task, 0, sizeof(GtfTask));
	task->is_sync = true;
	written = write_task(writer, s->type, &s->options, s->args, task, id);
	gtf_store_tasks_end(writer);
	/* the setting may be changed while the task runs */
	if (written)
		task->app_user = pstrdup(task->app_user);
	return written;
}
