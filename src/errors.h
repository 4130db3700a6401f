/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  Reports that are raised in more than one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_ERRORS_H
#define GTF_ERRORS_H

/* errhint() for functions that only a task can call */
#define gtf_hint_in_task() \
	errhint("Submit the code as a task, or run it as one with CALL gtf_run().")

/*
 * Does what raised this deserve to be tried again as it is?  The server is
 * short of something, or somebody was in the way.  Everything else will most
 * likely raise again.
 */
static inline bool
gtf_error_is_transient(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OPERATOR_INTERVENTION ||
		category == ERRCODE_TRANSACTION_ROLLBACK ||
		sqlerrcode == ERRCODE_IO_ERROR ||
		sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_UNDEFINED_TABLE;
}

#endif							/* GTF_ERRORS_H */
