/*-------------------------------------------------------------------------
 *
 * access.h
 *	  Who is an administrator of gtf.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_ACCESS_H
#define GTF_ACCESS_H

/* A superuser, or a member of the role that gtf.admin_role names. */
extern bool gtf_is_admin(Oid role);

/* ERROR 42501 unless the current user is an administrator. */
extern void gtf_require_admin(void);

#endif							/* GTF_ACCESS_H */
