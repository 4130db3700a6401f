/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  Tasks written in C: from the name of a hook to its code.
 *
 * Libraries put their hooks into a list that begins in a rendezvous variable
 * (gtf.h), so neither they nor gtf have to be loaded first.  An entry is
 * looked at for the first time when a task wants it: whatever is wrong with it
 * is an error of that task.
 *
 * A process cannot load another version of a file that it has loaded.  It
 * remembers which file that was; when another one has its place the executor
 * hands its task back and leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include "fmgr.h"
#include "utils/memutils.h"

#include "gtf.h"
#include "hook.h"

/* A file that this process has loaded, as it was then. */
typedef struct LoadedFile
{
	struct LoadedFile *next;
	bool		preloaded;		/* by the postmaster: no new process helps */
	dev_t		device;
	ino_t		inode;
	time_t		modified;
	off_t		size;
	char		name[FLEXIBLE_ARRAY_MEMBER];
} LoadedFile;

static LoadedFile *loaded = NULL;
static bool is_executor = false;

/* What was there when an executor began; what it loads later comes before. */
static const GtfHook *preloaded = NULL;

static GtfHook *
first_hook(void)
{
	return *(GtfHook **) find_rendezvous_variable(GTF_HOOKS_VARIABLE);
}

/* The file that an address of code was loaded from, or NULL. */
static const char *
file_of(const void *address)
{
	Dl_info		info;

	return dladdr(address, &info) != 0 ? info.dli_fname : NULL;
}

/* Remember a file, if it is a new one. */
static void
note_file(const char *name, bool preloaded)
{
	LoadedFile *file;
	struct stat st;

	if (name == NULL)
		return;
	for (file = loaded; file != NULL; file = file->next)
	{
		if (strcmp(file->name, name) == 0)
			return;
	}
	if (stat(name, &st) != 0)
		return;
	file = MemoryContextAllocZero(TopMemoryContext,
								  offsetof(LoadedFile, name) + strlen(name) + 1);
	strcpy(file->name, name);
	file->preloaded = preloaded;
	file->device = st.st_dev;
	file->inode = st.st_ino;
	file->modified = st.st_mtime;
	file->size = st.st_size;
	file->next = loaded;
	loaded = file;
}

/* The hooks that are new come first in the list. */
static void
note_new_files(bool preloaded)
{
	static const GtfHook *seen = NULL;

	if (first_hook() == seen)
		return;
	seen = first_hook();
	for (const GtfHook *hook = first_hook(); hook != NULL; hook = hook->next)
		note_file(file_of((void *) hook->run), preloaded);
}

/* Has another file been put into the place of one that was loaded? */
static bool
is_replaced(const char *name)
{
	for (const LoadedFile *file = loaded; file != NULL; file = file->next)
	{
		struct stat st;

		if (name == NULL || strcmp(file->name, name) != 0)
			continue;
		return !file->preloaded && stat(name, &st) == 0 &&
			(st.st_dev != file->device || st.st_ino != file->inode ||
			 st.st_mtime != file->modified || st.st_size != file->size);
	}
	return false;
}

void
gtf_hook_begin_process(void)
{
	is_executor = true;
	note_new_files(true);
	gtf_hook_guard_exit();
}

void
gtf_hook_note_libraries(void)
{
	note_new_files(false);
}

void
gtf_hook_preloaded(void)
{
	note_new_files(false);
	preloaded = first_hook();
}

bool
gtf_hook_is_there(const char *name)
{
	for (const GtfHook *hook = first_hook(); hook != NULL; hook = hook->next)
	{
		if (strcmp(hook->name, name) == 0)
			return true;
	}
	return false;
}

static void
check_hook(const GtfHook *hook, const GtfType *type)
{
	uint32		modes = hook->flags & (GTF_HOOK_POLL | GTF_HOOK_INTERRUPT | GTF_HOOK_NEVER);

	if (hook->abi_version != GTF_ABI_VERSION || hook->size < sizeof(GtfHook))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hook \"%s\" was built for another version of gtf",
						type->hook),
				 errdetail("Its ABI has version %u; that of gtf has version %u.",
						   hook->abi_version, GTF_ABI_VERSION),
				 errhint("Build the library with the gtf.h of this version.")));
	if (hook->size > sizeof(GtfHook) || hook->api_size > sizeof(GtfContextApi) ||
		(hook->flags & ~(GTF_HOOK_ATOMIC | GTF_HOOK_POLL | GTF_HOOK_INTERRUPT | GTF_HOOK_NEVER)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hook \"%s\" was built for a later version of gtf",
						type->hook),
				 errhint("Update gtf, or build the library with the gtf.h of this version.")));
	if ((modes & (modes - 1)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("hook \"%s\" was registered with more than one abort mode",
						type->hook)));
}

bool
gtf_hook_resolve(GtfType *type)
{
	const GtfHook *first;
	const GtfHook *found = NULL;

	type->code = NULL;
	if (type->library)
	{
		/* every library has this; errors are PostgreSQL's */
		const char *file = file_of(load_external_function(type->library,
														  "Pg_magic_func",
														  true, NULL));

		note_file(file, false);
		if (is_executor && is_replaced(file))
			return false;
	}

	/* not what the executor has happened to load for another task */
	first = is_executor && type->library == NULL ? preloaded : first_hook();
	for (const GtfHook *hook = first; hook != NULL; hook = hook->next)
	{
		if (strcmp(hook->name, type->hook) != 0)
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("hook \"%s\" is registered more than once", type->hook),
					 errdetail("By library \"%s\" and by library \"%s\".",
							   file_of((void *) hook->run),
							   file_of((void *) found->run))));
		found = hook;
	}
	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("hook \"%s\" does not exist", type->hook),
				 type->library ?
				 errdetail("Library \"%s\" has not registered it.", type->library) :
				 errdetail("No library of shared_preload_libraries or session_preload_libraries has registered it."),
				 type->library ? 0 :
				 errhint("Register the task type with the library of the hook.")));
	if (is_executor && is_replaced(file_of((void *) found->run)))
		return false;
	check_hook(found, type);
	type->code = found;
	return true;
}
