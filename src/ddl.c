/*-------------------------------------------------------------------------
 *
 * ddl.c
 *	  Commands that gtf has to make room for, or to learn from.
 *
 * DROP DATABASE, CREATE DATABASE ... TEMPLATE, ALTER DATABASE ... RENAME or
 * SET TABLESPACE need the database without other sessions: gtf's workers are
 * kept out and stopped first, if the caller has the right to the command.
 * DROP EXTENSION, which also arrives as a CASCADE, and ALTER EXTENSION ...
 * UPDATE change the ground the workers stand on: they are stopped until the
 * transaction ends.  Bodies that run meanwhile are rolled back and run again.
 *
 * DROP ROLE, in whatever database, is told to all dispatchers.
 *
 * COMMIT PREPARED has no commit callback: it asks for a scan of the table, and
 * whoever waits for a task to look whether that is what has ended it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ddl.h"
#include "shmem.h"
#include "wakeup.h"
#include "worker.h"

#define STOP_TIMEOUT_MS 5000

static ProcessUtility_hook_type prev_process_utility = NULL;
static object_access_hook_type prev_object_access = NULL;

/*
 * Stop all workers of a database that is blocked.  After STOP_TIMEOUT_MS the
 * command goes on and fails by itself if they are in its way.
 */
static void
stop_workers(Oid database)
{
	TimestampTz start = GetCurrentTimestamp();
	int			max = gtf_slot_count() + 2;
	int		   *pids = palloc(max * sizeof(int));
	bool		signalled = false;

	for (;;)
	{
		int			n = gtf_db_worker_pids(database, pids, max);

		if (n == 0)
			break;
		/* again from time to time: one may just have started */
		if (!signalled || TimestampDifferenceExceeds(start, GetCurrentTimestamp(), 500))
		{
			for (int i = 0; i < n; i++)
			{
				if (pids[i] != MyProcPid)
					(void) kill(pids[i], SIGTERM);
			}
			signalled = true;
		}
		if (n == 1 && pids[0] == MyProcPid)
			break;
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), STOP_TIMEOUT_MS))
			break;
		gtf_backend_wait(10);
	}
	pfree(pids);
}

/* Is gtf at work in this database, or about to be? */
static bool
is_ours(Oid database)
{
	return OidIsValid(database) && gtf_db_find(database) >= 0;
}

/*
 * Which database does the command need for itself?  InvalidOid: none, or the
 * command will fail anyway.
 */
static Oid
database_needed(Node *stmt)
{
	Oid			database = InvalidOid;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			database = get_database_oid(castNode(DropdbStmt, stmt)->dbname, true);
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, stmt)->renameType == OBJECT_DATABASE)
				database = get_database_oid(castNode(RenameStmt, stmt)->subname, true);
			break;
		case T_AlterDatabaseStmt:
			{
				AlterDatabaseStmt *alter = castNode(AlterDatabaseStmt, stmt);
				ListCell   *lc;

				foreach(lc, alter->options)
				{
					const char *option = lfirst_node(DefElem, lc)->defname;

					/*
					 * nothing runs in templates, so that anybody can copy
					 * them
					 */
					if (strcmp(option, "tablespace") == 0 ||
						strcmp(option, "is_template") == 0)
						database = get_database_oid(alter->dbname, true);
				}
				break;
			}
		case T_CreatedbStmt:
			{
				ListCell   *lc;

				/* the default template is template1, where gtf never runs */
				foreach(lc, castNode(CreatedbStmt, stmt)->options)
				{
					DefElem    *def = lfirst_node(DefElem, lc);

					if (strcmp(def->defname, "template") == 0 && def->arg)
						database = get_database_oid(defGetString(def), true);
				}
				break;
			}
		default:
			break;
	}
	if (!is_ours(database) || !gtf_owns_database(database, GetUserId()))
		return InvalidOid;
	/* one's own can be copied and made a template, the rest will fail */
	if (database == MyDatabaseId &&
		!IsA(stmt, CreatedbStmt) && !IsA(stmt, AlterDatabaseStmt))
		return InvalidOid;
	if (IsTransactionBlock() &&
		!IsA(stmt, RenameStmt) && !IsA(stmt, AlterDatabaseStmt))
		return InvalidOid;
	return database;
}

static bool
is_our_extension_update(Node *stmt)
{
	return IsA(stmt, AlterExtensionStmt) &&
		strcmp(castNode(AlterExtensionStmt, stmt)->extname, "gtf") == 0;
}

static bool
is_our_extension_drop(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, DropStmt) ||
		castNode(DropStmt, stmt)->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, castNode(DropStmt, stmt)->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "gtf") == 0)
			return true;
	}
	return false;
}

/* Keep the workers out of a database until the transaction ends. */
static void
stop_until_end_of_transaction(Oid database)
{
	if (gtf_wakeup_block(database))
		stop_workers(database);
}

/* What a command means to us; the statement may be gone when it has been run. */
typedef struct Command
{
	Oid			needed;			/* a database that it needs for itself */
	bool		dropped;		/* ... and drops */
	char	   *created;		/* name of a database that it makes */
	Oid			changed;		/* a database whose settings for us it changes */
	bool		commit_prepared;
	uint64		seen;			/* before that */
} Command;

static void
look_at_command(Node *stmt, Command *command)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			command->dropped = true;
			command->needed = database_needed(stmt);
			break;
		case T_CreatedbStmt:
			command->created = pstrdup(castNode(CreatedbStmt, stmt)->dbname);
			command->needed = database_needed(stmt);
			break;
		case T_RenameStmt:
		case T_AlterDatabaseStmt:
			command->needed = database_needed(stmt);
			break;
		case T_AlterDatabaseSetStmt:
			{
				AlterDatabaseSetStmt *set = castNode(AlterDatabaseSetStmt, stmt);

				if (set->setstmt->name == NULL ||
					pg_strncasecmp(set->setstmt->name, "gtf.", 4) == 0)
					command->changed = get_database_oid(set->dbname, true);
				break;
			}
		case T_TransactionStmt:
			command->commit_prepared =
				castNode(TransactionStmt, stmt)->kind == TRANS_STMT_COMMIT_PREPARED;
			/* before the commit: none of its tasks is below this */
			if (command->commit_prepared)
				command->seen = gtf_submitted_seen(MyDatabaseId);
			break;
		case T_AlterExtensionStmt:
		case T_DropStmt:

			/*
			 * A drop is seen by object_access(), too, but only when it has
			 * locked the tables, one after the other, which may be in the way
			 * of a worker that has locked another one.
			 */
			if ((is_our_extension_update(stmt) || is_our_extension_drop(stmt)) &&
				OidIsValid(get_extension_oid("gtf", true)) &&
				gtf_owns_extension(get_extension_oid("gtf", true), GetUserId()))
				command->needed = MyDatabaseId;
			break;
		default:
			break;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest,
				QueryCompletion *qc)
{
	Command		command = {0};

	if (!gtf_shmem_available() || IsBinaryUpgrade)
	{
		prev_process_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv,
							 dest, qc);
		return;
	}

	look_at_command(pstmt->utilityStmt, &command);
	if (OidIsValid(command.needed))
		stop_until_end_of_transaction(command.needed);
	prev_process_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv,
						 dest, qc);

	if (OidIsValid(command.needed) && command.dropped)
		gtf_wakeup_gone(command.needed);
	if (is_ours(command.changed))
		gtf_wakeup_restart(command.changed);
	if (command.created)
		gtf_wakeup_database(get_database_oid(command.created, true));
	if (command.commit_prepared && is_ours(MyDatabaseId))
	{
		pg_uuid_t	from;

		gtf_id_below(command.seen, &from);
		gtf_submitted_scan_from(MyDatabaseId, &from);
		gtf_tell(MyDatabaseId, GTF_NEWS_REQUESTS);
		gtf_waiters_wake_all();
	}
}

static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
			  void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);
	if (!gtf_shmem_available() || IsBinaryUpgrade)
		return;
	/* dropped, or renamed */
	if (classId == AuthIdRelationId &&
		(access == OAT_DROP || access == OAT_POST_ALTER))
		gtf_wakeup_roles();
	if (classId != ExtensionRelationId)
		return;

	/* some extension is created: look here at commit whether it is gtf */
	if (access == OAT_POST_CREATE)
		gtf_wakeup_database(MyDatabaseId);
	else if (access == OAT_DROP && is_ours(MyDatabaseId) &&
			 objectId == get_extension_oid("gtf", true))
		stop_until_end_of_transaction(MyDatabaseId);
}

void
gtf_ddl_init(void)
{
	prev_process_utility = ProcessUtility_hook ?
		ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
}
