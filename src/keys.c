/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  One active task for each key.
 *
 * gtf.keys has for each key, a hash, the task that was submitted last under
 * it.  Its unique index makes two first submits meet: the second one waits for
 * the transaction of the first.  Later ones find the row and look at that
 * task: while it is pending or in progress they join it and write nothing, so
 * they do not wait for each other; when it has ended, or is aborting, the row
 * gets the new task, under its row lock.  So the end of a task, which is the
 * hot path, has nothing to do with keys.
 *
 * What is being decided by an open transaction is waited for: a submit, a
 * cancel, a retry, a removal, the end of a task.  Nobody here holds anything
 * that an executor needs.
 *
 * A shared task is joined under its lock, because its last subscriber may be
 * leaving, which ends it.  Who is a subscriber already needs no lock, and who
 * submits a new task does not either: others cannot see it before the commit.
 * So many new keys in a transaction need no room in the lock table.
 *
 * gtf_retry() makes an ended task active again, so it takes the row lock, too,
 * and keeps it; who waits for the row looks at its task again afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"

#include "keys.h"
#include "locks.h"
#include "shmem.h"

#define MAX_APP_USER 1024		/* bytes that fit into an index */

StaticAssertDecl(GTF_KEY_LEN == PG_SHA256_DIGEST_LENGTH, "keys are SHA-256");

static void
append(StringInfo buf, const char *part)
{
	uint32		len = strlen(part);

	appendBinaryStringInfo(buf, (char *) &len, sizeof(len));
	appendBinaryStringInfo(buf, part, len);
}

bool
gtf_key_is_of_owner(const GtfTask *task, const GtfType *type)
{
	return task->scope == GTF_SCOPE_PRIVATE ||
		(task->scope == GTF_SCOPE_SHARED && type->scope != GTF_SCOPE_SHARED);
}

/*
 * Who shares a key: private tasks of a principal, all system tasks, all shared
 * tasks if the type says so, those of a role if only the call did.
 */
static void
hash_key(const GtfTask *task, const GtfType *type, uint8 *key)
{
	StringInfoData buf;
	pg_cryptohash_ctx *ctx;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, task->scope);
	append(&buf, type->name);
	append(&buf, task->task_key);
	if (gtf_key_is_of_owner(task, type))
		appendBinaryStringInfo(&buf, (const char *) &task->owner, sizeof(Oid));
	if (task->scope == GTF_SCOPE_PRIVATE)
		append(&buf, task->app_user);
	ctx = pg_cryptohash_create(PG_SHA256);
	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) buf.data, buf.len) < 0 ||
		pg_cryptohash_final(ctx, key, GTF_KEY_LEN) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(ctx));
	pg_cryptohash_free(ctx);
	pfree(buf.data);
}

/* May another task have the key of this one?  See GtfKeyState. */
static GtfKeyState
state_of(const pg_uuid_t *id, TransactionId *xid)
{
	GtfKeyState state = gtf_store_key_holder(id, xid);
	TransactionId outcome_xid;
	GtfSlotInfo slot;

	/* not if that attempt has ended, and gtf_retry() has taken the key back */
	if (state == GTF_KEY_HELD && gtf_slot_find(id, &slot) &&
		slot.abort_cause != GTF_CAUSE_NONE &&
		gtf_store_outcome_probe(id, slot.ref.attempt, &outcome_xid) != GTF_PROBE_EXISTS)
		state = GTF_KEY_RELEASED;
	return state;
}

static void
wait_for(TransactionId xid)
{
	XactLockTableWait(xid, NULL, NULL, XLTW_None);
}

/*
 * Have the key, or find who has it: HELD.  RELEASED and FREE: it is the
 * task's now, *holder is who had it last.
 */
static GtfKeyState
claim(const uint8 *key, const pg_uuid_t *id, pg_uuid_t *holder)
{
	for (;;)
	{
		TransactionId xid;
		GtfKeyState state;
		pg_uuid_t	locked;

		CHECK_FOR_INTERRUPTS();
		state = gtf_store_key_get(key, holder, &xid);
		if (state == GTF_KEY_FREE)
		{
			if (gtf_store_key_put(key, id))
				return GTF_KEY_FREE;
			continue;
		}
		if (state == GTF_KEY_HELD)
			state = state_of(holder, &xid);
		if (state == GTF_KEY_CHANGING)
		{
			wait_for(xid);
			continue;
		}
		if (state == GTF_KEY_HELD)
			return GTF_KEY_HELD;

		/* others may have been faster, or retry the task */
		if (!gtf_store_key_lock(key, &locked) || !gtf_id_equal(&locked, holder))
			continue;
		state = state_of(holder, &xid);
		if (state == GTF_KEY_FREE || state == GTF_KEY_RELEASED)
		{
			gtf_store_key_move(key, id);
			return state;
		}
		if (state == GTF_KEY_CHANGING)
			wait_for(xid);
	}
}

void
gtf_subscribe(const pg_uuid_t *id, Oid role, const char *app_user)
{
	if (strlen(app_user) > MAX_APP_USER)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("gtf.app_user is too long for a shared task"),
				 errdetail("It can have %d bytes.", MAX_APP_USER)));
	gtf_store_subscriber_put(id, role, app_user);
}

/*
 * Subscribe the submitter of a task to the one that has its key; false if that
 * one is not active any more.
 */
static bool
join(const pg_uuid_t *holder, const GtfTask *task)
{
	TransactionId xid;

	if (gtf_store_subscribed_for_good(holder, task->owner, task->app_user))
		return true;
	gtf_lock_task(holder);
	if (state_of(holder, &xid) != GTF_KEY_HELD)
		return false;
	if (!gtf_store_subscribed(holder, task->owner, task->app_user))
		gtf_subscribe(holder, task->owner, task->app_user);
	return true;
}

bool
gtf_key_claim(GtfTask *task, const GtfType *type, pg_uuid_t *holder)
{
	uint8		key[GTF_KEY_LEN];
	GtfKeyState state;

	/* keys have the OIDs of roles in them, which gtf_adopt() changes */
	if (gtf_store_is_copy())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a task with a key cannot be submitted in a copy of a database"),
				 errhint("Have an administrator call gtf_adopt() first.")));
	hash_key(task, type, key);
	do
		state = claim(key, &task->id, holder);
	while (state == GTF_KEY_HELD && task->scope == GTF_SCOPE_SHARED &&
		   !join(holder, task));
	task->has_after = state == GTF_KEY_RELEASED;
	if (task->has_after)
		task->after_id = *holder;
	return state != GTF_KEY_HELD;
}

void
gtf_key_reclaim(GtfTask *task, const GtfType *type)
{
	uint8		key[GTF_KEY_LEN];
	pg_uuid_t	holder;
	GtfKeyState state;

	hash_key(task, type, key);
	for (;;)
	{
		TransactionId xid;

		CHECK_FOR_INTERRUPTS();
		if (!gtf_store_key_lock(key, &holder))
		{
			if (gtf_store_key_put(key, &task->id))
				return;
			continue;
		}
		if (gtf_id_equal(&holder, &task->id))
			return;
		state = state_of(&holder, &xid);
		if (state == GTF_KEY_CHANGING)
		{
			wait_for(xid);
			continue;
		}
		if (state == GTF_KEY_FREE)
		{
			gtf_store_key_move(key, &task->id);
			return;
		}
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("task key \"%s\" is taken", task->task_key),
				 errdetail("Task \"%s\" is %s under it.", gtf_id_text(&holder),
						   state == GTF_KEY_HELD ? "active" : "aborting"),
				 errhint("Wait until that task has ended.")));
	}
}

void
gtf_key_restore(const GtfTask *task, const GtfType *type)
{
	uint8		key[GTF_KEY_LEN];

	hash_key(task, type, key);
	(void) gtf_store_key_put(key, &task->id);
}

void
gtf_key_forget(const GtfTask *task, const GtfType *type)
{
	uint8		key[GTF_KEY_LEN];

	hash_key(task, type, key);
	gtf_store_key_remove(key, &task->id);
}
