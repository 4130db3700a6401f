/*-------------------------------------------------------------------------
 *
 * register.c
 *	  SQL functions that register and unregister task types.
 *
 * Registrations exclude each other by a lock on the table of types, which is
 * held until the transaction ends; nobody who reads a type waits for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "access.h"
#include "compat.h"
#include "hook.h"
#include "registry.h"
#include "store.h"

#define QUEUE_NAME_MAX	128		/* bytes */

PG_FUNCTION_INFO_V1(gtf_register_task);
PG_FUNCTION_INFO_V1(gtf_unregister_task);
PG_FUNCTION_INFO_V1(gtf_set_timeout);

/* An argument that is text, or what it is when it is NULL. */
static char *
text_argument(FunctionCallInfo fcinfo, int n, const char *if_null)
{
	if (!PG_ARGISNULL(n))
		return text_to_cstring(PG_GETARG_TEXT_PP(n));
	return if_null != NULL ? pstrdup(if_null) : NULL;
}

/* An argument that is an interval, or NULL. */
static Interval *
interval_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	static const Interval zero = {0};
	Interval   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = PG_GETARG_INTERVAL_P(n);
	if (DatumGetBool(DirectFunctionCall2(interval_lt,
										 IntervalPGetDatum(value),
										 IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	if (!gtf_interval_is_finite(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name)));
	return value;
}

static bool
is_zero(const Interval *value)
{
	return value->time == 0 && value->day == 0 && value->month == 0;
}

static void
check_name(const char *value, const char *what, int max)
{
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what)));
	if (strlen(value) > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be longer than %d bytes", what, max)));
}

static GtfScope
parse_scope(const char *scope)
{
	if (strcmp(scope, "private") == 0)
		return GTF_SCOPE_PRIVATE;
	if (strcmp(scope, "shared") == 0)
		return GTF_SCOPE_SHARED;
	if (strcmp(scope, "system") == 0)
		return GTF_SCOPE_SYSTEM;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid scope \"%s\"", scope),
			 errhint("Scopes are private, shared and system.")));
	return GTF_SCOPE_PRIVATE;	/* keep compiler quiet */
}

static void
check_abort_mode(const char *mode)
{
	if (strcmp(mode, "handler") != 0 && strcmp(mode, "poll") != 0 &&
		strcmp(mode, "interrupt") != 0 && strcmp(mode, "never") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid abort mode \"%s\"", mode),
				 errhint("Abort modes are handler, poll, interrupt and never.")));
}

/* Nobody registers or unregisters a built-in type. */
static void
check_not_built_in(const char *name)
{
	if (strcmp(name, GTF_TYPE_SQL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("task type \"%s\" is built in", name)));
}

/*
 * Lock out other registrations.  What is read afterwards is current until the
 * end of the transaction.
 */
static void
lock_types(const char *function)
{
	PreventCommandIfReadOnly(function);
	LockRelationOid(gtf_store_relid("task_type_versions"),
					ShareRowExclusiveLock);
}

static bool
equal_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

/* 1 day and 24 hours are different things to add to a time. */
static bool
equal_interval(const Interval *a, const Interval *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return a->time == b->time && a->day == b->day && a->month == b->month;
}

static bool
equal_types(const GtfType *a, const GtfType *b)
{
	return a->kind == b->kind &&
		a->scope == b->scope &&
		a->handler_owner == b->handler_owner &&
		a->max_attempts == b->max_attempts &&
		a->priority == b->priority &&
		equal_text(a->handler, b->handler) &&
		equal_text(a->hook, b->hook) &&
		equal_text(a->library, b->library) &&
		equal_text(a->abort, b->abort) &&
		equal_text(a->queue, b->queue) &&
		equal_text(a->submit_role, b->submit_role) &&
		equal_text(a->description, b->description) &&
		equal_interval(a->timeout, b->timeout) &&
		equal_interval(a->hard_timeout, b->hard_timeout) &&
		equal_interval(a->retry_delay, b->retry_delay);
}

/* Say which code runs: exactly one of handler and hook. */
static void
set_code(FunctionCallInfo fcinfo, GtfType *type)
{
	if (PG_ARGISNULL(1) == PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of handler and hook must be given")));

	type->hook = text_argument(fcinfo, 2, NULL);
	type->library = text_argument(fcinfo, 3, NULL);
	if (type->library != NULL)
	{
		if (type->hook == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("library must be given with a hook only")));
		check_name(type->library, "library", MAXPGPATH - 1);
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be superuser to register a task type with a library")));
	}

	if (type->hook != NULL)
	{
		check_name(type->hook, "hook", GTF_TYPE_NAME_MAX);
		type->kind = GTF_TYPE_HOOK;
		if (type->library == NULL && !gtf_hook_is_there(type->hook))
			ereport(NOTICE,
					(errmsg("hook \"%s\" is not registered by a library that this session has loaded",
							type->hook),
					 errhint("Give its library, unless shared_preload_libraries or session_preload_libraries have it where the tasks run.")));
	}
	else
		gtf_type_set_handler(type, PG_GETARG_OID(1));
}

/*
 * gtf_register_task(task_type, handler, hook, library, scope, timeout, abort,
 *					 max_attempts, retry_delay, priority, queue, submit_role,
 *					 description)
 *
 * NULL is the default of the parameter everywhere.
 */
Datum
gtf_register_task(PG_FUNCTION_ARGS)
{
	GtfType		type = {0};
	GtfType    *previous;
	Interval	one_second = {.time = USECS_PER_SEC};

	gtf_require_admin();

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task_type must not be null")));
	type.name = text_argument(fcinfo, 0, NULL);
	check_name(type.name, "task_type", GTF_TYPE_NAME_MAX);
	check_not_built_in(type.name);

	set_code(fcinfo, &type);
	type.scope = parse_scope(text_argument(fcinfo, 4, "private"));
	type.timeout = interval_argument(fcinfo, 5, "timeout");
	if (type.timeout != NULL && is_zero(type.timeout))
		type.timeout = NULL;
	type.abort = text_argument(fcinfo, 6, "handler");
	check_abort_mode(type.abort);
	type.max_attempts = PG_ARGISNULL(7) ? 1 : PG_GETARG_INT32(7);
	if (type.max_attempts < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_attempts must be at least 1")));
	type.retry_delay = interval_argument(fcinfo, 8, "retry_delay");
	if (type.retry_delay == NULL)
		type.retry_delay = &one_second;
	type.priority = PG_ARGISNULL(9) ? 0 : PG_GETARG_INT32(9);
	type.queue = text_argument(fcinfo, 10, "default");
	check_name(type.queue, "queue", QUEUE_NAME_MAX);
	type.submit_role = text_argument(fcinfo, 11, "public");
	if (strcmp(type.submit_role, "public") != 0)
		(void) get_role_oid(type.submit_role, false);
	type.description = text_argument(fcinfo, 12, NULL);
	type.registered_by = GetUserId();

	lock_types("gtf_register_task()");
	previous = gtf_store_type_current(type.name);
	if (previous != NULL)
	{
		/* set by another function, not by a registration */
		type.hard_timeout = previous->hard_timeout;
		if (equal_types(&type, previous))
			PG_RETURN_VOID();
	}
	gtf_store_type_put(&type);
	CommandCounterIncrement();
	gtf_type_forget();
	PG_RETURN_VOID();
}

Datum
gtf_unregister_task(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	gtf_require_admin();
	check_not_built_in(name);
	lock_types("gtf_unregister_task()");

	if (gtf_store_type_current(name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task type \"%s\" does not exist", name)));
	if (gtf_store_type_in_use(name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("task type \"%s\" is in use", name),
				 errdetail("There are tasks of this type that have not ended."),
				 errhint("Wait for them, or cancel them.")));
	gtf_store_type_retire(name);
	CommandCounterIncrement();
	gtf_type_forget();
	PG_RETURN_VOID();
}

/*
 * gtf_set_timeout(task_type, timeout, hard_timeout) RETURNS void
 *
 * NULL leaves a timeout as it is, zero removes it.  For tasks submitted from
 * now on.  ERROR 42501, 42704, 22023.
 */
Datum
gtf_set_timeout(PG_FUNCTION_ARGS)
{
	GtfType    *type;
	char	   *name;

	gtf_require_admin();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task_type must not be null")));
	name = text_argument(fcinfo, 0, NULL);
	check_not_built_in(name);
	lock_types("gtf_set_timeout()");
	type = gtf_store_type_current(name);
	if (type == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task type \"%s\" does not exist", name)));
	if (!PG_ARGISNULL(1))
	{
		type->timeout = interval_argument(fcinfo, 1, "timeout");
		if (is_zero(type->timeout))
			type->timeout = NULL;
	}
	if (!PG_ARGISNULL(2))
	{
		type->hard_timeout = interval_argument(fcinfo, 2, "hard_timeout");
		if (is_zero(type->hard_timeout))
			type->hard_timeout = NULL;
	}
	gtf_store_type_put(type);
	CommandCounterIncrement();
	gtf_type_forget();
	PG_RETURN_VOID();
}
