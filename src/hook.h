/*-------------------------------------------------------------------------
 *
 * hook.h
 *	  Tasks written in C.
 *
 * What other libraries see of it is gtf.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_HOOK_H
#define GTF_HOOK_H

#include "nodes/primnodes.h"

#include "registry.h"
#include "task.h"

/*
 * In an executor, before it loads any library: from then on it notices
 * libraries that were replaced, and a hook that calls exit() does not take
 * the server with it.
 */
extern void gtf_hook_begin_process(void);

/*
 * To be called whenever libraries may have been loaded, soon after it: looks
 * which files those of new hooks are.
 */
extern void gtf_hook_note_libraries(void);

/*
 * The same in an executor that has loaded what session_preload_libraries
 * names: hooks of types without a library are those that there are now.
 */
extern void gtf_hook_preloaded(void);

/* Has this process loaded a library that has registered this hook? */
extern bool gtf_hook_is_there(const char *name);

/*
 * Load the library of a type and find its hook: sets type->code.  ERROR if
 * the library cannot be loaded, 42883 if there is no such hook, 42710 if there
 * are several, 55000 if it was built for another version.
 *
 * False in an executor that has loaded a file that another one has replaced
 * since: only a new process can load that.
 */
extern bool gtf_hook_resolve(GtfType *type);

/* ---- hook_call.c ---- */

/*
 * Call the hook of a type that was resolved, as the body of the task.  Its
 * result as jsonb, or NULL, in memory, which has to last until the handlers
 * of the attempt have run.  If it is atomic: in the current transaction, with
 * a snapshot active.
 */
extern Jsonb *gtf_hook_run(const GtfTask *task, const GtfType *type,
						   MemoryContext memory);

/*
 * If it is not: gtf_hook_call_expr() makes a call of an SQL procedure that
 * runs the hook, gtf_hook_take_result() has the result afterwards.
 */
extern FuncExpr *gtf_hook_call_expr(const GtfTask *task, const GtfType *type,
									MemoryContext memory);
extern Jsonb *gtf_hook_take_result(void);

/* ---- hook_stop.c ---- */

/* From now on a hook that calls exit() does not take the server with it. */
extern void gtf_hook_guard_exit(void);

/* This hook is on the stack now, or none; returns which was until now. */
extern const GtfHook *gtf_hook_set_running(const GtfHook *hook);

/*
 * In a signal handler with SA_SIGINFO: end the process if that is possible
 * where it was interrupted; else return.
 */
extern void gtf_hook_stop_here(const void *ucontext);

#endif							/* GTF_HOOK_H */
