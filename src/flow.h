/*-------------------------------------------------------------------------
 *
 * flow.h
 *	  Limits, pauses and the size of the pool, as administrators set them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_FLOW_H
#define GTF_FLOW_H

#include "task.h"

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

/*
 * Microseconds between two starts, of a rate as 10/s, 100/m, 5/h or 0.5/d.
 * False if it is none.
 */
extern bool gtf_flow_parse_rate(const char *rate, int64 *interval_us);

/*
 * Why does a task wait that could start otherwise?  "paused", "limit" or
 * NULL.  Needs an open transaction.
 */
extern const char *gtf_flow_wait_reason(const GtfTask *task);

#endif							/* GTF_FLOW_H */
