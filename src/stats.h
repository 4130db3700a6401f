/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  Cumulative counters: what is counted, and how it survives a restart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_STATS_H
#define GTF_STATS_H

#include "task.h"

/* An attempt has ended, committed. */
extern void gtf_stats_ended(const GtfOutcome *outcome);

/*
 * For the dispatcher: take over what was counted before the server was
 * started, and write the sums down when this process ends.
 */
extern void gtf_stats_load(void);

#endif							/* GTF_STATS_H */
