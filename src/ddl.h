/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  Commands that gtf has to make room for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_DDL_H
#define GTF_DDL_H

/* Install the hooks; in _PG_init while preloading. */
extern void gtf_ddl_init(void);

#endif							/* GTF_DDL_H */
