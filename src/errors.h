/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  Reports that are raised in more than one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_ERRORS_H
#define GTF_ERRORS_H

#define gtf_error_no_task(id) \
	ereport(ERROR, \
			(errcode(ERRCODE_NO_DATA_FOUND), \
			 errmsg("task \"%s\" does not exist", gtf_id_text(id))))

#endif							/* GTF_ERRORS_H */
