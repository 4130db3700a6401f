/*
 * gtf_other_abi.c
 *	  Registers a hook as a library does that was built for another ABI.
 */
#include "postgres.h"

#include "extension/gtf/gtf.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

/* Only what does not move is the same. */
typedef struct OtherHook
{
	struct GtfHook *next;
	const char *name;
	void		(*run) (void);
	uint32		abi_version;
	uint32		size;
	double		something;
} OtherHook;

static void
run(void)
{
}

void
_PG_init(void)
{
	static OtherHook hook = {NULL, "gtf_other_abi.run", run, GTF_ABI_VERSION + 1, sizeof(OtherHook), 0.5};
	GtfHook   **first = (GtfHook **) find_rendezvous_variable(GTF_HOOKS_VARIABLE);

	hook.next = *first;
	*first = (GtfHook *) &hook;
}
