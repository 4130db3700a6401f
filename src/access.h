/*-------------------------------------------------------------------------
 *
 * access.h
 *	  Who is an administrator of gtf, and who may have executors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_ACCESS_H
#define GTF_ACCESS_H

/* A superuser, or who has the privileges of the role of gtf.admin_role. */
extern bool gtf_is_admin(Oid role);

/* ERROR 42501 unless the current user is an administrator. */
extern void gtf_require_admin(void);

/*
 * May this role have executors in this database?  Returns NULL, or why not,
 * with the SQLSTATE.  The booleans are set if the role exists.
 */
extern char *gtf_may_connect(Oid role, bool *can_login, bool *is_superuser,
							 int *sqlerrcode);

#endif							/* GTF_ACCESS_H */
