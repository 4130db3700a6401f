/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  Progress of ad-hoc commands, as the server reports it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_PROGRESS_H
#define GTF_PROGRESS_H

#include "shmem.h"
#include "task.h"

/*
 * Set *progress if the task is an ad-hoc command that shows in one of the
 * views pg_stat_progress_*; else leave it as it is.
 */
extern void gtf_progress_of_command(const GtfTask *task, const GtfSlotInfo *slot,
									GtfProgress *progress);

#endif							/* GTF_PROGRESS_H */
