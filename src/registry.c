/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  From the name of a task type to the code that runs.
 *
 * The cache.  Types are kept in generations.  A generation is a memory
 * context with everything that was read from gtf.task_type_versions since
 * the last change of that table.  The invalidation callback only marks the
 * current generation as stale; the next lookup, in the same transaction or a
 * later one, begins a new generation and gives the old one away: to the
 * transaction, or to the keeper, whose end is then its end.  So a lookup never
 * returns a type that was known to be out of date, and a type that was handed
 * out stays valid for as long as was promised.  A row that is read while its
 * change commits lands in a generation that is already, or soon, marked as
 * stale.
 *
 * The code.  A type names its handler by schema-qualified signature and
 * remembers who owned it.  What was found for it is kept with the type, along
 * with the xmin and tid of the pg_proc row it was made from: while these are
 * the same, nothing about the function has changed.  Renaming a schema or the
 * type of a parameter does not change that row but does change the signature;
 * a syscache callback on both catalogs makes every type look its handler up
 * again.  The lookup compares signatures as they are printed: it neither
 * parses type names nor depends on search_path or the user's USAGE on the
 * schema.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "handler.h"
#include "registry.h"
#include "store.h"

typedef struct Generation
{
	MemoryContext context;
	HTAB	   *by_name;
	HTAB	   *by_version;
} Generation;

typedef struct NameEntry
{
	char		name[GTF_TYPE_NAME_MAX + 1];
	GtfType    *type;
} NameEntry;

typedef struct VersionEntry
{
	int32		version;
	GtfType    *type;
} VersionEntry;

static Generation *current = NULL;
static bool stale = true;
static Oid	versions_relid = InvalidOid;
static uint64 names_changed = 0;
static MemoryContext keeper = NULL;

static Generation *current_generation(void);
static GtfType *remember(Generation *generation, GtfType *type, bool is_current);

/* ----------------------------------------------------------------------
 * Looking types up
 * ----------------------------------------------------------------------
 */

static void
versions_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == versions_relid)
		stale = true;
}

static void
name_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	names_changed++;
}

void
gtf_type_forget(void)
{
	stale = true;
}

MemoryContext
gtf_type_keep_in(MemoryContext context)
{
	MemoryContext former = keeper;

	keeper = context;
	return former;
}

/* Let go of what a caller may still use. */
static void
give_away(MemoryContext context)
{
	MemoryContextSetParent(context,
						   keeper != NULL ? keeper : TopTransactionContext);
}

GtfType *
gtf_type_lookup(const char *name, bool missing_ok)
{
	Generation *generation = current_generation();
	NameEntry  *entry;
	GtfType    *type;
	MemoryContext old;

	/* A longer name does not fit into the key; no type has one. */
	if (strlen(name) <= GTF_TYPE_NAME_MAX)
	{
		entry = hash_search(generation->by_name, name, HASH_FIND, NULL);
		if (entry != NULL)
			return entry->type;

		old = MemoryContextSwitchTo(generation->context);
		type = gtf_store_type_current(name);
		MemoryContextSwitchTo(old);

		if (type != NULL)
			return remember(generation, type, true);
	}

	if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("task type \"%s\" does not exist", name),
				 errhint("Register it with gtf_register_task().")));
	return NULL;
}

GtfType *
gtf_type_by_version(int32 version, bool missing_ok)
{
	Generation *generation = current_generation();
	VersionEntry *entry;
	GtfType    *type;
	MemoryContext old;

	entry = hash_search(generation->by_version, &version, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->type;

	old = MemoryContextSwitchTo(generation->context);
	type = gtf_store_type_version(version);
	MemoryContextSwitchTo(old);

	if (type != NULL)
		return remember(generation, type, false);
	if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("version %d of a task type does not exist", version)));
	return NULL;
}

/*
 * Enter a type that was read into the generation's memory; returns the one
 * that stands for this version.
 */
static GtfType *
remember(Generation *generation, GtfType *type, bool is_current)
{
	VersionEntry *version_entry;
	NameEntry  *name_entry;
	bool		found;

	version_entry = hash_search(generation->by_version, &type->version,
								HASH_ENTER, &found);
	if (!found)
		version_entry->type = type;
	if (is_current)
	{
		name_entry = hash_search(generation->by_name, type->name,
								 HASH_ENTER, &found);
		name_entry->type = version_entry->type;
	}
	return version_entry->type;
}

/*
 * A generation that is not known to be out of date.
 */
static Generation *
current_generation(void)
{
	static bool callbacks_registered = false;
	MemoryContext context;
	Generation *generation;
	HASHCTL		ctl;
	Oid			relid;

	/* Hear of what others have committed, even within one statement. */
	AcceptInvalidationMessages();
	if (!stale)
		return current;

	if (!callbacks_registered)
	{
		CacheRegisterRelcacheCallback(versions_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, name_changed, (Datum) 0);
		callbacks_registered = true;
	}

	relid = gtf_store_relid("task_type_versions");
	context = AllocSetContextCreate(CurrentMemoryContext, "gtf task types",
									ALLOCSET_SMALL_SIZES);
	generation = MemoryContextAlloc(context, sizeof(Generation));
	generation->context = context;
	ctl.hcxt = context;
	ctl.keysize = sizeof(((NameEntry *) NULL)->name);
	ctl.entrysize = sizeof(NameEntry);
	generation->by_name = hash_create("gtf task types by name", 16, &ctl,
									  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	ctl.keysize = sizeof(int32);
	ctl.entrysize = sizeof(VersionEntry);
	generation->by_version = hash_create("gtf task types by version", 16, &ctl,
										 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	/* Nothing has been read yet: what changes from here on will be noticed. */
	versions_relid = relid;
	stale = false;

	if (current != NULL)
		give_away(current->context);
	MemoryContextSetParent(context, CacheMemoryContext);
	current = generation;
	return current;
}

/* ----------------------------------------------------------------------
 * Finding the code
 * ----------------------------------------------------------------------
 */

/*
 * The function with this signature, as format_procedure_qualified() prints
 * it, or InvalidOid.
 */
static Oid
find_function(const char *signature)
{
	const char *p = signature;
	bool		quoted = false;
	List	   *names;
	Oid			schema;
	CatCList   *candidates;
	Oid			result = InvalidOid;

	for (; *p != '\0' && (quoted || *p != '('); p++)
	{
		if (*p == '"')
			quoted = !quoted;
	}
	names = textToQualifiedNameList(cstring_to_text_with_len(signature,
															 p - signature));
	if (list_length(names) != 2)
		return InvalidOid;
	schema = get_namespace_oid(strVal(linitial(names)), true);
	if (!OidIsValid(schema))
		return InvalidOid;

	candidates = SearchSysCacheList1(PROCNAMEARGSNSP,
									 CStringGetDatum(strVal(lsecond(names))));
	for (int i = 0; i < candidates->n_members; i++)
	{
		HeapTuple	tuple = &candidates->members[i]->tuple;
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);
		char	   *printed;

		if (form->pronamespace != schema)
			continue;
		printed = format_procedure_qualified(form->oid);
		if (strcmp(printed, signature) == 0)
			result = form->oid;
		pfree(printed);
		if (OidIsValid(result))
			break;
	}
	ReleaseSysCacheList(candidates);
	return result;
}

/*
 * The pg_proc row of the handler, with type->handler_oid and type->signature
 * made from this very row.  It has the recorded owner.  The caller releases
 * it.
 */
static HeapTuple
fetch_handler(GtfType *type)
{
	GtfSignature *signature = type->signature;
	GtfSignature *new_signature;
	HeapTuple	tuple;
	Form_pg_proc form;
	Oid			function;
	uint64		names_now;

	if (signature != NULL && signature->names_seen == names_changed)
	{
		tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(type->handler_oid));
		if (HeapTupleIsValid(tuple))
		{
			if (HeapTupleHeaderGetRawXmin(tuple->t_data) == signature->xmin &&
				ItemPointerEquals(&tuple->t_self, &signature->tid))
				return tuple;
			ReleaseSysCache(tuple);
		}
	}

	names_now = names_changed;
	function = find_function(type->handler);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("%s %s does not exist",
						type->kind == GTF_TYPE_PROCEDURE ? "procedure" : "function",
						type->handler),
				 errdetail("It is the handler of task type \"%s\".",
						   type->name),
				 errhint("If it has another name, schema or parameters now, register the task type again.")));
	form = (Form_pg_proc) GETSTRUCT(tuple);

	if (form->proowner != type->handler_owner)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s %s belongs to another role than when task type \"%s\" was registered",
						gtf_prokind_word(form->prokind), type->handler,
						type->name),
				 errdetail("It belongs to role \"%s\" now.",
						   GetUserNameFromId(form->proowner, false)),
				 errhint("If this is as it should be, register the task type again.")));

	new_signature = gtf_signature_make(tuple);
	if (form->prokind != (type->kind == GTF_TYPE_PROCEDURE ?
						  PROKIND_PROCEDURE : PROKIND_FUNCTION))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is now a %s",
						type->handler, gtf_prokind_word(form->prokind)),
				 errdetail("It is the handler of task type \"%s\".",
						   type->name),
				 errhint("Register the task type again.")));

	new_signature->names_seen = names_now;
	MemoryContextSetParent(new_signature->context,
						   GetMemoryChunkContext(type));
	if (signature != NULL)
		give_away(signature->context);
	type->signature = new_signature;
	type->handler_oid = function;
	return tuple;
}

Oid
gtf_type_resolve(GtfType *type, Oid role)
{
	HeapTuple	tuple;
	Oid			owner;

	if (strcmp(type->submit_role, "public") != 0 && !superuser_arg(role))
	{
		Oid			submit_role = get_role_oid(type->submit_role, true);

		if (!OidIsValid(submit_role) || !has_privs_of_role(role, submit_role))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for task type \"%s\"",
							type->name),
					 OidIsValid(submit_role) ?
					 errdetail("Only members of role \"%s\" may submit tasks of this type.",
							   type->submit_role) :
					 errdetail("Role \"%s\", whose members may submit tasks of this type, does not exist.",
							   type->submit_role)));
	}

	switch (type->kind)
	{
		case GTF_TYPE_COMMAND:
			return InvalidOid;
		case GTF_TYPE_HOOK:
			/* who had the library loaded answers for its code */
			if (type->library && superuser_arg(role) &&
				!superuser_arg(type->registered_by))
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("a task of a superuser cannot run code of library \"%s\"",
								type->library),
						 errdetail("Task type \"%s\" was registered by a role that is no superuser any more.",
								   type->name),
						 errhint("Register the task type again.")));
			return InvalidOid;
		case GTF_TYPE_FUNCTION:
		case GTF_TYPE_PROCEDURE:
			break;
	}

	tuple = fetch_handler(type);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);

	if (superuser_arg(role) && !superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a task of a superuser cannot run code of role \"%s\"",
						GetUserNameFromId(owner, false)),
				 errdetail("The role owns %s, the handler of task type \"%s\".",
						   type->handler, type->name),
				 errhint("Submit it as another role, for example after SET ROLE.")));

	if (object_aclcheck(ProcedureRelationId, type->handler_oid, role,
						ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for %s %s",
						type->kind == GTF_TYPE_PROCEDURE ? "procedure" : "function",
						type->handler),
				 errdetail("It is the handler of task type \"%s\".",
						   type->name)));
	return type->handler_oid;
}

void
gtf_type_set_handler(GtfType *type, Oid function)
{
	HeapTuple	tuple;
	Form_pg_proc form;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);

	if (object_aclcheck(ProcedureRelationId, function, GetUserId(),
						ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for %s %s",
						gtf_prokind_word(form->prokind),
						format_procedure(function))));

	MemoryContextDelete(gtf_signature_make(tuple)->context);

	type->kind = form->prokind == PROKIND_PROCEDURE ?
		GTF_TYPE_PROCEDURE : GTF_TYPE_FUNCTION;
	type->handler = format_procedure_qualified(function);
	type->handler_owner = form->proowner;
	ReleaseSysCache(tuple);
}
