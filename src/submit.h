/*-------------------------------------------------------------------------
 *
 * submit.h
 *	  What gtf_run shares with those that submit tasks for executors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SUBMIT_H
#define GTF_SUBMIT_H

#include "fmgr.h"

#include "registry.h"
#include "task.h"

/* The options that all functions have, in the order of their arguments. */
typedef struct GtfTaskOptions
{
	char	   *task_key;		/* or NULL */
	char	   *task_name;
	Interval   *timeout;
	char	   *scope;
	bool		has_priority;
	int32		priority;
	char	   *queue;
	TimestampTz run_at;
	TimestampTz expires_at;
	int32		max_attempts;	/* 0 = the type's */
	int			num_prerequisites;
	pg_uuid_t  *prerequisites;
} GtfTaskOptions;

/* A task as it was asked for. */
typedef struct GtfSubmission
{
	GtfType    *type;
	Jsonb	   *args;
	GtfTaskOptions options;
} GtfSubmission;

/* ERROR unless tasks may be submitted here and now. */
extern void gtf_submit_check_allowed(const char *function);

/*
 * Read and check the arguments of gtf_run, copied into the current memory
 * context.  Conversions may run user code: needs an active snapshot.
 */
extern void gtf_submission_read(FunctionCallInfo fcinfo, GtfSubmission *s);

/*
 * Write the row of a task that its session runs itself.  *id is its id.
 * False: an active task has the key, and *id is that.  The dispatcher is not
 * told.
 */
extern bool gtf_submission_write(const GtfSubmission *s, GtfTask *task,
								 pg_uuid_t *id);

#endif							/* GTF_SUBMIT_H */
