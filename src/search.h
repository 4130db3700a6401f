/*-------------------------------------------------------------------------
 *
 * search.h
 *	  The search language: which tasks does a text mean?
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SEARCH_H
#define GTF_SEARCH_H

#include "task.h"

/* ERROR 42601 unless this is a search. */
extern void gtf_search_check(const char *text);

/*
 * Statuses that a word of "state:" can mean, as a string of GtfStatus, in a
 * static buffer; empty if it means none.
 */
extern const char *gtf_search_statuses(const char *word);

#endif							/* GTF_SEARCH_H */
