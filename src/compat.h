/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between server versions that gtf has to know of.
 *
 * The rest of the code is written for the newest signature; older servers
 * are adapted here.  No other file tests PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_COMPAT_H
#define GTF_COMPAT_H

#include "access/genam.h"
#include "access/heapam.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 180000
#include "utils/injection_point.h"
#endif

#if PG_VERSION_NUM < 150000
#error "gtf needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM < 160000
static inline AclResult
object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	switch (classid)
	{
		case ProcedureRelationId:
			return pg_proc_aclcheck(objectid, roleid, mode);
		case DatabaseRelationId:
			return pg_database_aclcheck(objectid, roleid, mode);
		default:
			elog(ERROR, "unexpected class %u in object_aclcheck", classid);
			return ACLCHECK_NO_PRIV;
	}
}
#endif

static inline bool
gtf_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

static inline bool
gtf_owns_extension(Oid extension, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(ExtensionRelationId, extension, role);
#else
	return pg_extension_ownercheck(extension, role);
#endif
}

/*
 * With nowait, a key that is there already, or that another transaction is
 * writing, is no error: true, and the caller has to undo the insertion.
 */
static inline bool
gtf_exec_try_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot,
						  EState *estate, bool nowait)
{
	bool		conflict = false;
#if PG_VERSION_NUM >= 160000
	List	   *recheck = ExecInsertIndexTuples(rri, slot, estate, false, nowait,
												&conflict, NIL, false);
#else
	List	   *recheck = ExecInsertIndexTuples(rri, slot, estate, false, nowait,
												&conflict, NIL);
#endif

	list_free(recheck);
	return conflict;
}

static inline void
gtf_exec_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot,
							 EState *estate)
{
	(void) gtf_exec_try_index_tuples(rri, slot, estate, false);
}

/* Update a row; true if its new version needs entries in the indexes. */
static inline bool
gtf_heap_update(Relation rel, ItemPointer tid, HeapTuple tuple)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update_indexes;

	simple_heap_update(rel, tid, tuple, &update_indexes);
	return update_indexes != TU_None;
#else
	simple_heap_update(rel, tid, tuple);
	return !HeapTupleIsHeapOnly(tuple);
#endif
}

static inline IndexScanDesc
gtf_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

static inline bool
gtf_portal_run(Portal portal, DestReceiver *dest, QueryCompletion *qc)
{
#if PG_VERSION_NUM >= 180000
	return PortalRun(portal, FETCH_ALL, true, dest, dest, qc);
#else
	return PortalRun(portal, FETCH_ALL, true, true, dest, dest, qc);
#endif
}

/* What an ExecutorRun hook gets and hands on. */
#if PG_VERSION_NUM >= 180000
#define GTF_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define GTF_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define GTF_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, \
	bool execute_once
#define GTF_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

/* Names for commands/progress.h: what VACUUM and CLUSTER report. */
#if PG_VERSION_NUM >= 170000
#define GTF_VACUUM_INDEXES_TOTAL			PROGRESS_VACUUM_INDEXES_TOTAL
#define GTF_VACUUM_INDEXES_PROCESSED		PROGRESS_VACUUM_INDEXES_PROCESSED
#else
#define GTF_VACUUM_INDEXES_TOTAL			8	/* always 0 */
#define GTF_VACUUM_INDEXES_PROCESSED		9
#endif
#if PG_VERSION_NUM >= 190000
#define GTF_COMMAND_CLUSTER					PROGRESS_COMMAND_REPACK
#define GTF_CLUSTER_PHASE					PROGRESS_REPACK_PHASE
#define GTF_CLUSTER_PHASE_SEQ_SCAN_HEAP		PROGRESS_REPACK_PHASE_SEQ_SCAN_HEAP
#define GTF_CLUSTER_PHASE_INDEX_SCAN_HEAP	PROGRESS_REPACK_PHASE_INDEX_SCAN_HEAP
#define GTF_CLUSTER_PHASE_SORT_TUPLES		PROGRESS_REPACK_PHASE_SORT_TUPLES
#define GTF_CLUSTER_TOTAL_HEAP_BLKS			PROGRESS_REPACK_TOTAL_HEAP_BLKS
#define GTF_CLUSTER_HEAP_BLKS_SCANNED		PROGRESS_REPACK_HEAP_BLKS_SCANNED
#define GTF_CLUSTER_HEAP_TUPLES_SCANNED		PROGRESS_REPACK_HEAP_TUPLES_SCANNED
#define GTF_CLUSTER_HEAP_TUPLES_WRITTEN		PROGRESS_REPACK_HEAP_TUPLES_INSERTED
#else
#define GTF_COMMAND_CLUSTER					PROGRESS_COMMAND_CLUSTER
#define GTF_CLUSTER_PHASE					PROGRESS_CLUSTER_PHASE
#define GTF_CLUSTER_PHASE_SEQ_SCAN_HEAP		PROGRESS_CLUSTER_PHASE_SEQ_SCAN_HEAP
#define GTF_CLUSTER_PHASE_INDEX_SCAN_HEAP	PROGRESS_CLUSTER_PHASE_INDEX_SCAN_HEAP
#define GTF_CLUSTER_PHASE_SORT_TUPLES		PROGRESS_CLUSTER_PHASE_SORT_TUPLES
#define GTF_CLUSTER_TOTAL_HEAP_BLKS			PROGRESS_CLUSTER_TOTAL_HEAP_BLKS
#define GTF_CLUSTER_HEAP_BLKS_SCANNED		PROGRESS_CLUSTER_HEAP_BLKS_SCANNED
#define GTF_CLUSTER_HEAP_TUPLES_SCANNED		PROGRESS_CLUSTER_HEAP_TUPLES_SCANNED
#define GTF_CLUSTER_HEAP_TUPLES_WRITTEN		PROGRESS_CLUSTER_HEAP_TUPLES_WRITTEN
#endif

/* Call when all columns of a descriptor made by hand are there. */
static inline void
gtf_tupledesc_finalize(TupleDesc desc)
{
#if PG_VERSION_NUM >= 190000
	TupleDescFinalize(desc);
#endif
}

/* Tells the transactions of a process from each other. */
#if PG_VERSION_NUM >= 170000
#define gtf_my_lxid()	(MyProc->vxid.lxid)
#else
#define gtf_my_lxid()	(MyProc->lxid)
#endif

/* Intervals may be infinite from version 17 on. */
static inline bool
gtf_interval_is_finite(const Interval *interval)
{
#if PG_VERSION_NUM >= 170000
	return !INTERVAL_NOT_FINITE(interval);
#else
	return true;
#endif
}

/*
 * Connect a background worker to a database as a role that may be NOLOGIN.
 * The owner's right to connect is checked by the caller.
 *
 * Servers before 17 have no flag for it.  A parallel worker is in the same
 * position, a backend that acts for a role which does not log in itself, so
 * its initialisation path is used: identity first, then the connection with
 * InitializingParallelWorker set, which skips rolcanlogin and rolconnlimit
 * and nothing else that happens at that point.  Minor releases before 15.9 and
 * 16.5 have no such path: there the server refuses, and says that the role is
 * not permitted to log in.
 */
#if PG_VERSION_NUM < 170000
#include "access/parallel.h"

#define GTF_PARALLEL_WORKER_IDENTITY \
	(PG_VERSION_NUM >= 160005 || \
	 (PG_VERSION_NUM >= 150009 && PG_VERSION_NUM < 160000))
#endif

static inline void
gtf_connect_as_role(Oid database, Oid role, bool can_login, bool is_superuser)
{
#if PG_VERSION_NUM >= 170000
	BackgroundWorkerInitializeConnectionByOid(database, role,
											  BGWORKER_BYPASS_ROLELOGINCHECK);
#elif !GTF_PARALLEL_WORKER_IDENTITY
	BackgroundWorkerInitializeConnectionByOid(database, role, 0);
#else
	if (can_login)
	{
		BackgroundWorkerInitializeConnectionByOid(database, role, 0);
		return;
	}
	SetAuthenticatedUserId(role, is_superuser);
	SetSessionAuthorization(role, is_superuser);
	InitializingParallelWorker = true;
	BackgroundWorkerInitializeConnectionByOid(database, role, 0);
	InitializingParallelWorker = false;
#endif
}

/* Drop the temporary replication slots of this session. */
#if PG_VERSION_NUM >= 170000
#define gtf_drop_temporary_slots() ReplicationSlotCleanup(false)
#else
#define gtf_drop_temporary_slots() ReplicationSlotCleanup()
#endif

/* Where a test can stop a process; nothing unless the server is built for it. */
#if PG_VERSION_NUM >= 180000
#define GTF_INJECTION_POINT(name) INJECTION_POINT(name, NULL)
#else
#define GTF_INJECTION_POINT(name) ((void) 0)
#endif

#endif							/* GTF_COMPAT_H */
