/*-------------------------------------------------------------------------
 *
 * task.h
 *	  The noun: a task, its states and identifiers.
 *
 * Nothing here does I/O or looks at shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_TASK_H
#define GTF_TASK_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/*
 * States of a task as stored in gtf.outcomes.status ("char") and reported as
 * text.  PENDING, IN_PROGRESS and ABORTING are never stored there: a task
 * without an outcome is pending unless a slot holds it.  LOST and RETRIED
 * close an attempt, not the task.
 */
typedef enum GtfStatus
{
	GTF_PENDING = 'p',
	GTF_IN_PROGRESS = 'i',
	GTF_ABORTING = 'b',
	GTF_SUCCESS = 's',
	GTF_FAILURE = 'f',
	GTF_ABORTED = 'a',
	GTF_TIMED_OUT = 't',
	GTF_RETRIED = 'r',			/* attempt raised, another one follows */
	GTF_LOST = 'l'				/* attempt lost its executor, another follows */
} GtfStatus;

/* Who may see and join a task, as stored in scope ("char"). */
typedef enum GtfScope
{
	GTF_SCOPE_PRIVATE = 'p',
	GTF_SCOPE_SHARED = 's',
	GTF_SCOPE_SYSTEM = 'y'
} GtfScope;

/* A row of gtf.tasks with the defaults of its type filled in. */
typedef struct GtfTask
{
	pg_uuid_t	id;
	TimestampTz created_at;
	TimestampTz run_at;			/* 0 = at once */
	TimestampTz expires_at;		/* 0 = never */
	Interval   *timeout;		/* NULL = none */
	Oid			owner;
	int32		type_version;
	int32		priority;
	int32		max_attempts;
	char		scope;			/* a GtfScope */
	bool		is_sync;		/* its first attempt is run by its session */
	bool		foreign;		/* came here as a copy: its roles are others */
	bool		has_after;
	pg_uuid_t	after_id;		/* starts when this one has ended */
	bool		has_parent;
	pg_uuid_t	parent_id;
	pg_uuid_t	root_id;
	char	   *app_user;		/* never NULL */
	char	   *queue;			/* never NULL */
	char	   *task_key;		/* or NULL */
	char	   *task_name;		/* or NULL */
	bool		has_prerequisites;
	int			num_prerequisites;	/* only of one that is to be written */
	const pg_uuid_t *prerequisites;
	Jsonb	   *args;
	ItemPointerData tid;		/* where the row is; a hint, checked by id */
} GtfTask;

/* How an attempt ended: a row of gtf.outcomes. */
typedef struct GtfOutcome
{
	pg_uuid_t	task_id;
	int32		attempt;
	GtfStatus	status;
	TimestampTz started_at;		/* 0 = never started */
	TimestampTz ended_at;
	int32		worker;			/* pid of the executor, 0 = none */
	char		progress_kind;	/* GTF_PROGRESS_* of shmem.h, 0 = none */
	int64		progress_current;
	int64		progress_total;
	double		progress_fraction;
	Jsonb	   *result;			/* or NULL */
	Jsonb	   *payload;		/* or NULL */
	char	   *error_message;	/* or NULL */
	char	   *exception_type; /* or NULL */
	char	   *stack_trace;	/* or NULL */
} GtfOutcome;

extern const char *gtf_status_text(GtfStatus status);
extern bool gtf_status_is_final(GtfStatus status);
extern bool gtf_status_from_text(const char *text, GtfStatus *status);
extern const char *gtf_scope_text(GtfScope scope);

static inline bool
gtf_id_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

static inline int
gtf_id_compare(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN);
}

/* A hash of a name that is never 0. */
extern uint64 gtf_name_hash(const char *name);

/* -1, 0 or 1, as intervals compare with no time at all. */
extern int	gtf_interval_sign(const Interval *interval);

/* Length in bytes of the text form, which users can measure. */
extern int	gtf_jsonb_text_length(const Jsonb *jsonb);

/*
 * What is kept with a task is read by others, along with all their other
 * tasks: neither a row of a view nor a JSON that is built of it may come to
 * the limits of PostgreSQL.  ERROR 54000 if the JSON, in either of its forms,
 * or the text is too large; what says which it is.
 */
#define GTF_MAX_JSON	(64 * 1024 * 1024)	/* bytes, as text */
#define GTF_MAX_TEXT	(1024 * 1024)

extern void gtf_check_jsonb(const Jsonb *jsonb, const char *what);
extern void gtf_check_text(const char *string, const char *what);

/* Canonical text of an id, in a static buffer of one of four slots. */
extern const char *gtf_id_text(const pg_uuid_t *id);

/*
 * Version 7 identifiers.  A tick is 1/4096 ms since the Unix epoch: the 48
 * bits of milliseconds and the 12 bits of sub-millisecond precision that RFC
 * 9562 allows in rand_a.  The caller makes ticks strictly increasing.
 */
extern uint64 gtf_id_ticks_from_timestamp(TimestampTz at);
extern uint64 gtf_id_ticks(const pg_uuid_t *id);
extern void gtf_id_build(uint64 ticks, pg_uuid_t *id);

/* Just below every id with these ticks. */
extern void gtf_id_below(uint64 ticks, pg_uuid_t *id);

/* SQLSTATE to the name plpgsql gives the condition. */
extern const char *gtf_condition_name(int sqlerrcode);

#endif							/* GTF_TASK_H */
