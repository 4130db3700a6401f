/*-------------------------------------------------------------------------
 *
 * registry.h
 *	  From the name of a task type to the code that runs.
 *
 * A registration makes a new version of a type; versions never change and
 * are never removed while a task refers to them, so that a task runs the
 * code its type had when it was submitted.  Both lookups are cached per
 * backend; the cache is dropped by relcache invalidation of
 * gtf.task_type_versions, which every write to that table sends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_REGISTRY_H
#define GTF_REGISTRY_H

#include "nodes/primnodes.h"

#include "gtf.h"
#include "task.h"

#define GTF_TYPE_NAME_MAX		128 /* bytes */
#define GTF_TYPE_SQL "sql"		/* the built-in type of ad-hoc commands */

typedef enum GtfTypeKind
{
	GTF_TYPE_FUNCTION = 'f',
	GTF_TYPE_PROCEDURE = 'p',
	GTF_TYPE_COMMAND = 'c',
	GTF_TYPE_HOOK = 'h'
} GtfTypeKind;

/* One version of a task type: a row of gtf.task_type_versions. */
typedef struct GtfType
{
	int32		version;
	char	   *name;
	GtfTypeKind kind;
	char	   *handler;		/* schema-qualified signature, or NULL */
	Oid			handler_owner;
	char	   *hook;			/* or NULL */
	char	   *library;		/* or NULL */
	char		scope;			/* 'p', 's', 'y' */
	Interval   *timeout;		/* or NULL */
	Interval   *hard_timeout;	/* or NULL */
	char	   *abort;			/* handler, poll, interrupt, never */
	int32		max_attempts;
	Interval   *retry_delay;
	int32		priority;
	char	   *queue;
	char	   *submit_role;	/* role name, or public */
	char	   *description;	/* or NULL */
	Oid			registered_by;

	/* not stored: found when the code is resolved, checked at each use */
	Oid			handler_oid;
	struct GtfSignature *signature;
	const GtfHook *code;		/* of a hook, see gtf_hook_resolve() */
} GtfType;

/* Cached; valid until the end of the transaction.  ERROR 42704 or NULL. */
extern GtfType *gtf_type_lookup(const char *name, bool missing_ok);
extern GtfType *gtf_type_by_version(int32 version, bool missing_ok);

/*
 * Types stay valid until this context is reset instead, for a caller that
 * needs them through several transactions; NULL = until the transaction ends.
 * Returns what was said before.
 */
extern MemoryContext gtf_type_keep_in(MemoryContext context);

/* Make the next lookup read anew: after a change in this transaction. */
extern void gtf_type_forget(void);

/*
 * Is the body one transaction with the final status?  Of a hook this is known
 * only in a process that has resolved it; elsewhere the answer is no.
 */
static inline bool
gtf_type_is_atomic(const GtfType *type)
{
	return type->kind == GTF_TYPE_FUNCTION ||
		(type->kind == GTF_TYPE_HOOK && type->code != NULL &&
		 (type->code->flags & GTF_HOOK_ATOMIC) != 0);
}

/*
 * Fill in kind, handler and handler_owner from a function that the current
 * user may execute.  ERROR 42883, 42501, or 42809 if it cannot be a handler.
 */
extern void gtf_type_set_handler(GtfType *type, Oid function);

/*
 * Find the code of a type and check that role may run it: the function is
 * there with the recorded owner, EXECUTE is granted, role is a member of
 * submit_role, and a superuser runs only code of a superuser or his own.
 * ERROR 42883, 42501.  A command has no code to find, a hook is found by
 * gtf_hook_resolve().
 */
extern Oid	gtf_type_resolve(GtfType *type, Oid role);

/*
 * Check args against the parameters of the handler as the current user:
 * ERROR 22023 that names the parameter.  The code must have been resolved.
 * Conversions may run user code: there must be an active snapshot.
 */
extern void gtf_type_check_args(GtfType *type, Jsonb *args);

/*
 * A call of the handler as an expression over constants, defaults filled in:
 * for a function the expression gives its result as jsonb, or is the bare
 * FuncExpr of type void; for a procedure the bare FuncExpr for a CallStmt,
 * with *outargs the output arguments.  args must stay for as long as the
 * expression is used.  Needs an active snapshot, as above.
 */
extern Expr *gtf_type_call_expr(GtfType *type, Jsonb *args, List **outargs);

#endif							/* GTF_REGISTRY_H */
