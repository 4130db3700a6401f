/*
 * gtf_v2.c
 *	  The second version of gtf_v1.c.
 */
#define VERSION 2
#include "gtf_v1.c"
