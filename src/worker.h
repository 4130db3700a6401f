/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What every background worker of gtf needs once: registration, signals,
 *	  the transaction bracket, the guarded tick, waiting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_WORKER_H
#define GTF_WORKER_H

#include "postmaster/bgworker.h"

#include "shmem.h"

/* The launcher; in _PG_init while preloading. */
extern void gtf_worker_register_launcher(void);

/*
 * Start a worker of the current or another database.  The handle is palloc'd
 * in the current memory context.  False when there is no background worker
 * slot free.  What is in extra (BGW_EXTRALEN bytes) reaches MyBgworkerEntry.
 */
extern bool gtf_worker_start(GtfWorkerKind kind, Oid database, Datum arg,
							 const void *extra, Size extra_size,
							 BackgroundWorkerHandle **handle);

/*
 * Install signal handlers and let signals through.  SIGTERM ends a running
 * query as usual (die) and is seen at the next gtf_worker_wait as a request
 * to leave quietly.
 */
extern void gtf_worker_signals(void);

/* For a worker that runs no code of others, once it is connected. */
extern void gtf_worker_own_settings(void);

/* Set application_name, in a way that RESET comes back to. */
extern void gtf_worker_set_name(const char *name);

/* Was this process asked to stop? */
extern bool gtf_worker_stopping(void);

/*
 * Leave if the postmaster is gone.  Who has no reason to sleep would go on for
 * long otherwise and keep the server from being started again.
 */
extern void gtf_worker_check_postmaster(void);

/*
 * Sleep until the latch is set or timeout_ms has passed (-1: no limit), then
 * reset the latch, serve interrupts and reload the configuration if asked to.
 * Call it first in a loop, before any shared state is looked at.  True: the
 * configuration was reloaded.
 */
extern bool gtf_worker_wait(long timeout_ms);

/*
 * The same for any backend: sleep, reset the latch, serve interrupts.  The
 * configuration and a pending cancel are left to the backend's own loop.
 */
extern void gtf_backend_wait(long timeout_ms);

/*
 * Run tick; an ERROR in it is reported, rolled back and survived.  False
 * after an error.
 */
extern bool gtf_worker_guarded(void (*tick) (void *), void *arg,
							   MemoryContext scratch);

/*
 * In a PG_CATCH() block outside of any transaction bracket, in a memory
 * context that stays: report the error if wanted, roll back, go on.
 */
extern void gtf_worker_recover(bool report);

/* Sleep that long, whatever happens, unless the process shall stop. */
extern void gtf_worker_pause(long ms);

/*
 * Transaction bracket.  With a snapshot pushed; asynchronous commit unless
 * durable.  Returns the end of the commit record (InvalidXLogRecPtr if
 * nothing was written), in the memory context that begin was called in.
 */
extern void gtf_tx_begin(void);
extern XLogRecPtr gtf_tx_commit(bool durable);

/* WAL is on disk, and on synchronous standbys, up to lsn (if valid). */
extern void gtf_make_durable(XLogRecPtr lsn);

/* Entry points, named in gtf_worker_start. */
extern PGDLLEXPORT void gtf_launcher_main(Datum arg);
extern PGDLLEXPORT void gtf_dispatcher_main(Datum arg);
extern PGDLLEXPORT void gtf_flusher_main(Datum arg);
extern PGDLLEXPORT void gtf_executor_main(Datum arg);

#endif							/* GTF_WORKER_H */
