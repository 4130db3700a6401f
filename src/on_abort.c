/*-------------------------------------------------------------------------
 *
 * on_abort.c
 *	  gtf_on_abort, gtf_on_cleanup: handlers that a running body registers.
 *
 * What is registered is state of the attempt, not of a transaction: a
 * rollback does not take it back, for it is then that handlers are wanted.
 * What a handler has done is state of its transaction: when that is rolled
 * back the handler counts as not run, and runs again at the end, so that its
 * changes are there with the final status and exactly once.
 *
 * A handler runs in a subtransaction of its own as the owner of the task.
 * An error in it is logged, kept for the final status, and does not keep the
 * next one from running.  It has no say in how the body goes on.
 *
 * safepoint.c knows when abort handlers may run while the body does;
 * cleanup.c runs cleanup handlers whose executor is gone, which are kept in
 * the slot for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "attempt.h"
#include "compat.h"
#include "errors.h"
#include "on_abort.h"
#include "safepoint.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(gtf_on_abort);
PG_FUNCTION_INFO_V1(gtf_on_cleanup);

typedef enum HandlerState
{
	HANDLER_WAITING,
	HANDLER_RAN,				/* in a transaction that is still open */
	HANDLER_UNDONE,				/* ran, and was rolled back */
	HANDLER_OVER
} HandlerState;

typedef struct Handler
{
	bool		is_abort;		/* else a cleanup handler */
	HandlerState state;
	SubTransactionId subid;		/* RAN: the subtransaction it belongs to */
	GtfKeptHandler what;

	/* or, of a task in C */
	void		(*callback) (void *arg);
	void	   *arg;
	const char *name;
} Handler;

/* What belongs to one attempt. */
typedef struct Registry
{
	Handler		handlers[GTF_MAX_HANDLERS];
	int			num_handlers;
	int			aborts_waiting; /* abort handlers that have never run */
	MemoryContext context;
	List	   *errors;
	bool		running;
	struct Registry *outer;		/* of the attempt that this one runs in */
} Registry;

static Registry base;
static Registry *current = &base;

/* ---- the functions ---- */

static void
refuse(HeapTuple tuple, const char *detail)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("%s cannot be an abort or cleanup handler",
					format_procedure(form->oid)),
			 errdetail_internal("%s", detail)));
}

/* What a later lookup must find again, besides the OID. */
static uint64
signature_hash(Oid function)
{
	char	   *signature = format_procedure_qualified(function);
	uint64		hash = hash_bytes_extended((unsigned char *) signature,
										   strlen(signature), 0);

	pfree(signature);
	return hash;
}

/* The role may run it, and nobody can have put it there who should not. */
static void
check_privileges(HeapTuple tuple, Oid role)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

	if (object_aclcheck(ProcedureRelationId, form->oid, role,
						ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s",
						format_procedure(form->oid))));
	if (superuser_arg(role) && !superuser_arg(form->proowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a task of a superuser cannot run code of role \"%s\"",
						GetUserNameFromId(form->proowner, false)),
				 errdetail("The role owns %s.", format_procedure(form->oid))));
}

/* Check a function at its registration and describe it for the call. */
static void
describe(Oid function, Jsonb *arg, GtfKeptHandler *what)
{
	HeapTuple	tuple;
	Form_pg_proc form;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
	{
		/*
		 * A plan of the body may have been made before the function was
		 * dropped and created again: PostgreSQL does not notice that for a
		 * constant of type regprocedure.  The next body shall find it.
		 */
		ResetPlanCache();
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	}
	form = (Form_pg_proc) GETSTRUCT(tuple);

	if (form->prokind != PROKIND_FUNCTION)
		refuse(tuple, _("Only ordinary functions can be handlers."));
	if (isAnyTempNamespace(form->pronamespace))
		refuse(tuple, _("It is temporary."));
	if (form->proretset)
		refuse(tuple, _("It returns a set."));
	if (form->pronargs > 1 || OidIsValid(form->provariadic) ||
		(form->pronargs == 1 && form->proargtypes.values[0] != JSONBOID))
		refuse(tuple, _("It must have no parameters or one of type jsonb."));
	if (get_typtype(form->prorettype) == TYPTYPE_PSEUDO &&
		form->prorettype != VOIDOID)
		refuse(tuple,
			   psprintf(_("It returns the pseudo-type %s."),
						format_type_be(form->prorettype)));

	if (form->pronargs == 0 && arg != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s takes no argument",
						format_procedure(function))));
	if (form->pronargs == 1 && arg == NULL && form->proisstrict)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("function %s is strict and would not be called without an argument",
						format_procedure(function))));

	check_privileges(tuple, gtf_current_task->owner);

	what->function = function;
	what->function_owner = form->proowner;
	what->signature_hash = signature_hash(function);
	what->takes_arg = form->pronargs == 1;
	what->arg = arg;
	ReleaseSysCache(tuple);
}

/* ERROR unless it is the function that was registered and may be called. */
static void
check_again(const GtfKeptHandler *what, Oid role)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(what->function));
	Form_pg_proc form;

	/* an OID may have been given to another function meanwhile */
	if (!HeapTupleIsValid(tuple) ||
		signature_hash(what->function) != what->signature_hash)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function does not exist any more")));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->proowner != what->function_owner)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("function %s belongs to another role than when it was registered",
						format_procedure(what->function))));
	if (form->prokind != PROKIND_FUNCTION || form->proretset)
		refuse(tuple, _("It is not the function that was registered."));
	check_privileges(tuple, role);
	ReleaseSysCache(tuple);
}

static void
call(const GtfKeptHandler *what)
{
	FmgrInfo	flinfo;

	LOCAL_FCINFO(fcinfo, 1);

	fmgr_info(what->function, &flinfo);
	InvokeFunctionExecuteHook(what->function);
	InitFunctionCallInfoData(*fcinfo, &flinfo, what->takes_arg ? 1 : 0,
							 InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(what->arg);
	fcinfo->args[0].isnull = what->arg == NULL;
	/* made strict since it was registered? */
	if (what->takes_arg && what->arg == NULL && flinfo.fn_strict)
		return;
	(void) FunctionCallInvoke(fcinfo);
}

/* ---- running them ---- */

/* The transaction ends, or the subtransaction and all that began in it. */
static void
xact_callback(XactEvent event, void *arg)
{
	HandlerState state;

	if (event == XACT_EVENT_COMMIT)
		state = HANDLER_OVER;
	else if (event == XACT_EVENT_ABORT)
		state = HANDLER_UNDONE;
	else
		return;
	for (Registry *r = current; r != NULL; r = r->outer)
	{
		for (int i = 0; i < r->num_handlers; i++)
		{
			if (r->handlers[i].state == HANDLER_RAN)
				r->handlers[i].state = state;
		}
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	for (Registry *r = current; r != NULL; r = r->outer)
	{
		for (int i = 0; i < r->num_handlers; i++)
		{
			Handler    *handler = &r->handlers[i];

			if (handler->state != HANDLER_RAN)
				continue;
			if (event == SUBXACT_EVENT_COMMIT_SUB && handler->subid == mySubid)
				handler->subid = parentSubid;
			else if (event == SUBXACT_EVENT_ABORT_SUB && handler->subid >= mySubid)
				handler->state = HANDLER_UNDONE;
		}
	}
}

void
gtf_handlers_check_constraints(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = NIL;
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
}

static void
keep_error(const Handler *handler, const char *name, ErrorData *edata)
{
	MemoryContext old;
	GtfHandlerError *error;
	ErrorContextCallback *stack = error_context_stack;

	error_context_stack = NULL;
	ereport(WARNING,
			(errcode(edata->sqlerrcode),
			 errmsg("%s handler %s of gtf task %s failed: %s",
					handler->is_abort ? "abort" : "cleanup", name,
					gtf_id_text(&gtf_current_task->id), edata->message),
			 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
			 edata->hint ? errhint("%s", edata->hint) : 0,
			 edata->context ? errcontext("%s", edata->context) : 0));
	error_context_stack = stack;

	old = MemoryContextSwitchTo(current->context);
	error = palloc(sizeof(GtfHandlerError));
	error->is_abort = handler->is_abort;
	error->name = pstrdup(name);
	error->edata = edata;
	current->errors = lappend(current->errors, error);
	MemoryContextSwitchTo(old);
}

/* The code of a handler; *name is how it is called, for messages. */
static void
call_one(Handler *handler, char *volatile *name)
{
	if (handler->callback)
	{
		*name = unconstify(char *, handler->name);
		handler->callback(handler->arg);
	}
	else
	{
		*name = format_procedure_qualified(handler->what.function);
		check_again(&handler->what, gtf_current_task->owner);
		call(&handler->what);
	}
}

/*
 * Run one handler.  last: in the transaction that ends the attempt, so its
 * deferred constraints are checked with it.
 */
static void
run_one(Handler *handler, bool last)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext scratch = AllocSetContextCreate(caller, "gtf abort or cleanup handler",
												  ALLOCSET_DEFAULT_SIZES);
	ErrorContextCallback *stack = error_context_stack;
	int			level = GetCurrentTransactionNestLevel();
	char	   *volatile name = "";
	ErrorData  *volatile edata = NULL;

	/* never again, whatever it does; unless it is rolled back */
	if (handler->is_abort && handler->state == HANDLER_WAITING)
		current->aborts_waiting--;
	handler->state = HANDLER_OVER;

	current->running = true;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(scratch);
	PG_TRY();
	{
		int			guc_level = NewGUCNestLevel();
		Oid			user;
		int			sec_context;

		/* where the body is does not matter for its errors */
		error_context_stack = NULL;
		GetUserIdAndSecContext(&user, &sec_context);
		/* as the body, which may be inside a function that is not the owner's */
		SetUserIdAndSecContext(gtf_current_task->owner,
							   sec_context & SECURITY_LOCAL_USERID_CHANGE);
		/* see what the body has done so far */
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		call_one(handler, &name);
		PopActiveSnapshot();
		CommandCounterIncrement();
		if (last)
			gtf_handlers_check_constraints();
		/* what it SET is not for the body or the next one */
		AtEOXact_GUC(false, guc_level);
		SetUserIdAndSecContext(user, sec_context);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* code in C may have ended all of it */
		if (GetCurrentTransactionNestLevel() <= level)
		{
			current->running = false;
			PG_RE_THROW();
		}
		MemoryContextSwitchTo(current->context);
		edata = CopyErrorData();
		FlushErrorState();
		/* or have left subtransactions of its own */
		while (GetCurrentTransactionNestLevel() > level)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	current->running = false;
	error_context_stack = stack;
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(caller);

	if (edata)
		keep_error(handler, name, edata);
	else
	{
		handler->state = HANDLER_RAN;
		handler->subid = GetCurrentSubTransactionId();
	}
	MemoryContextDelete(scratch);
}

/* The one that was registered last and has (not) run; NULL if there is none. */
static Handler *
next(bool is_abort, bool undone_too)
{
	for (int i = current->num_handlers - 1; i >= 0; i--)
	{
		if (current->handlers[i].is_abort == is_abort &&
			(current->handlers[i].state == HANDLER_WAITING ||
			 (undone_too && current->handlers[i].state == HANDLER_UNDONE)))
			return &current->handlers[i];
	}
	return NULL;
}

void
gtf_handlers_run_abort(void)
{
	Handler    *handler;

	/* a hard timeout that has interrupted the body lets them do their work */
	gtf_attempt_spare_handlers();
	PG_TRY();
	{
		/* those that a handler registers run, too */
		while ((handler = next(true, false)) != NULL)
			run_one(handler, false);
	}
	PG_FINALLY();
	{
		gtf_slot_handlers_end();
	}
	PG_END_TRY();
}

void
gtf_handlers_run(bool aborting, bool last)
{
	Handler    *handler;

	while ((aborting && (handler = next(true, true)) != NULL) ||
		   (handler = next(false, true)) != NULL)
		run_one(handler, last);
}

bool
gtf_handlers_abort_waiting(void)
{
	return current->aborts_waiting > 0;
}

bool
gtf_handlers_any(void)
{
	return current->num_handlers > 0;
}

List *
gtf_handlers_errors(void)
{
	return current->errors;
}

bool
gtf_in_handler(void)
{
	return current->running;
}

/* ---- registering them ---- */

static Handler *
append(bool is_abort)
{
	static bool registered = false;
	Handler    *handler = &current->handlers[current->num_handlers++];

	if (!registered)
	{
		RegisterXactCallback(xact_callback, NULL);
		RegisterSubXactCallback(subxact_callback, NULL);
		registered = true;
	}
	memset(handler, 0, sizeof(Handler));
	handler->is_abort = is_abort;
	handler->state = HANDLER_WAITING;
	if (is_abort)
		current->aborts_waiting++;
	return handler;
}

static MemoryContext
context(void)
{
	if (current->context == NULL)
		current->context = AllocSetContextCreate(TopMemoryContext, "gtf handlers",
												 ALLOCSET_SMALL_SIZES);
	return current->context;
}

void
gtf_handlers_begin(void)
{
	current->running = false;
	if (current->num_handlers == 0)
		return;
	current->num_handlers = current->aborts_waiting = 0;
	current->errors = NIL;
	MemoryContextReset(current->context);
}

void
gtf_handlers_push(void)
{
	Registry   *inner = MemoryContextAllocZero(TopMemoryContext, sizeof(Registry));

	inner->outer = current;
	current = inner;
}

void
gtf_handlers_pop(void)
{
	Registry   *inner = current;

	Assert(inner != &base);
	current = inner->outer;
	if (inner->context != NULL)
		MemoryContextDelete(inner->context);
	pfree(inner);
}

void
gtf_handlers_load(const GtfKeptHandler *kept, int n)
{
	(void) context();
	for (int i = 0; i < n; i++)
		append(false)->what = kept[i];
}

/*
 * A handler runs as the owner of the task.  Who is not the owner right now,
 * in a function with SECURITY DEFINER for example, must not give him code to
 * run unless he could act as the owner anyway.
 */
static void
check_identity(void)
{
	Oid			owner = gtf_current_task->owner;

	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot register a handler within a security-restricted operation")));
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to register a handler that role \"%s\" shall run",
						GetUserNameFromId(owner, false)),
				 errdetail("Handlers run as the owner of the task; the current user is \"%s\".",
						   GetUserNameFromId(GetUserId(), false))));
}

/* The limit is for the text, as with payloads: the caller can measure it. */
static void
check_size(const Jsonb *arg)
{
	int			length = gtf_jsonb_text_length(arg);

	if (length > GTF_MAX_HANDLER_ARG)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument of the handler is too large"),
				 errdetail("It has %d bytes as text, the limit is %d bytes.",
						   length, GTF_MAX_HANDLER_ARG)));
}

static void
check_number(void)
{
	if (current->num_handlers == GTF_MAX_HANDLERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a task cannot register more than %d handlers",
						GTF_MAX_HANDLERS)));
}

/* One more is registered. */
static void
registered(bool is_abort)
{
	if (is_abort)
		gtf_slot_set_abortable();
	(void) gtf_safe_point();
}

static void
register_handler(FunctionCallInfo fcinfo, bool is_abort, const char *name)
{
	Jsonb	   *arg = NULL;
	GtfKeptHandler what = {0};

	if (gtf_current_task == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s can be called only in a running task", name),
				 gtf_hint_in_task()));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("handler must not be null")));
	check_identity();
	if (!PG_ARGISNULL(1))
		arg = PG_GETARG_JSONB_P(1);
	if (arg)
		check_size(arg);
	check_number();
	describe(PG_GETARG_OID(0), arg, &what);

	if (arg)
	{
		what.arg = MemoryContextAlloc(context(), VARSIZE(arg));
		memcpy(what.arg, arg, VARSIZE(arg));
	}
	(void) context();
	if (!is_abort && !gtf_slot_keep_handler(&what))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of shared memory for arguments of cleanup handlers"),
				 errhint("You might need to increase gtf.payload_memory.")));
	append(is_abort)->what = what;
	registered(is_abort);
}

void
gtf_handlers_add(bool is_abort, const char *name,
				 void (*callback) (void *arg), void *arg)
{
	Handler    *handler;

	check_number();
	(void) context();
	handler = append(is_abort);
	handler->callback = callback;
	handler->arg = arg;
	handler->name = name;
	registered(is_abort);
}

/*
 * gtf_on_abort(handler regprocedure, arg jsonb) RETURNS void
 *
 * The first one makes the task abortable, and if it has exceeded its timeout
 * before, aborts it.  ERROR 55000 outside a task, 42809 for functions of
 * other kinds, 42501, 54000.
 */
Datum
gtf_on_abort(PG_FUNCTION_ARGS)
{
	register_handler(fcinfo, true, "gtf_on_abort()");
	PG_RETURN_VOID();
}

/* gtf_on_cleanup(handler regprocedure, arg jsonb) RETURNS void: as above */
Datum
gtf_on_cleanup(PG_FUNCTION_ARGS)
{
	register_handler(fcinfo, false, "gtf_on_cleanup()");
	PG_RETURN_VOID();
}
