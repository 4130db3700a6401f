/*-------------------------------------------------------------------------
 *
 * context.h
 *	  What a running task can ask and tell about itself, for code in C.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_CONTEXT_H
#define GTF_CONTEXT_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "shmem.h"

/* What this attempt has set last, else what the last one has left. */
extern Jsonb *gtf_context_payload(void);

/*
 * Report progress of one of the formats, a payload, or both (NULL = stays as
 * it is).  False if the body shall stop; abort handlers have run then.  ERROR
 * 22023, 54000, 53200.
 */
extern bool gtf_context_report(const GtfProgress *progress,
							   const Jsonb *payload);

/* Shall the body stop?  Abort handlers have run then. */
extern bool gtf_context_shall_stop(void);

/* ERROR 57014 if it shall. */
extern void gtf_context_check_abort(void);

/* Sleep until then; false if the body shall stop. */
extern bool gtf_context_sleep(TimestampTz until);

#endif							/* GTF_CONTEXT_H */
