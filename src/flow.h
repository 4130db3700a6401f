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
