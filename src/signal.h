/*-------------------------------------------------------------------------
 *
 * signal.h
 *	  Signals to the outside world: NOTIFY when a task is asked to stop, and
 *	  when it has ended.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SIGNAL_H
#define GTF_SIGNAL_H

#include "shmem.h"

/*
 * In the flusher: remember what is to be signalled once it is durable.
 * Nothing is remembered while gtf.signals is off.
 */
extern void gtf_signal_add(const GtfDone *done, int n);

/*
 * In the flusher, outside a transaction: send some of what is remembered and
 * durable, in one transaction.  After an ERROR nothing is lost; for a moment
 * further calls do nothing.
 */
extern void gtf_signal_send(void);

/* Is there something to send, and when (0 = now)? */
extern bool gtf_signal_waiting(long *timeout_ms);

/* At the end of the flusher: leave what was not sent to the next one. */
extern void gtf_signal_leave(int db);

/*
 * In other processes, outside a transaction, when the flusher could not be
 * told: send this one now.  Never raises; an error is reported.
 */
extern void gtf_signal_now(const GtfDone *done);

#endif							/* GTF_SIGNAL_H */
