/*-------------------------------------------------------------------------
 *
 * shmem_layout.h
 *	  Layout of the shared segment, for shmem*.c only.
 *
 * Pointers to PGPROC are valid in every process (the array is in the main
 * segment).  A latch set through a PGPROC whose owner has changed meanwhile
 * is a spurious wake-up for the new owner, which every loop must bear anyway.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SHMEM_LAYOUT_H
#define GTF_SHMEM_LAYOUT_H

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/backend_status.h"

#include "settings.h"
#include "shmem.h"

#define KEPT_SMALL_ARG 128

typedef struct Database
{
	/* Guarded by lock */
	Oid			oid;			/* InvalidOid = entry is free */
	bool		wanted;
	bool		asked;			/* since the last dispatcher began to look */
	int			blocks;			/* commands that need the database alone */
	PGPROC	   *dispatcher;
	int			dispatcher_pid;
	TimestampTz dispatcher_start;
	PGPROC	   *flusher;
	int			flusher_pid;
	TimestampTz flusher_start;
	bool		dispatcher_ready;
	bool		other_version;	/* its dispatcher could do nothing */
	GtfDispatcherExit exit_reason;
	LWLock	   *lock;

	/* Guarded by submit_lock */
	LWLock	   *submit_lock;
	uint64		submit_head;	/* next to read */
	uint64		submit_tail;	/* next to write */
	bool		scan_wanted;
	pg_uuid_t	scan_from;

	/* Guarded by done_lock */
	LWLock	   *done_lock;
	uint64		done_head;
	uint64		done_tail;

	/* Guarded by lock; must_probe may be read without it */
	int			cancelling;		/* transactions that cancel waiting tasks */
	uint64		cancels;		/* how many have begun or ended */
	bool		must_probe;
	uint32		news;			/* GtfNews; may be read without it */
	int			num_ended;		/* see gtf_ended_add */
	GtfIdRange	ended[GTF_ENDED_RANGES];

	/*
	 * When the dispatcher looks at the running tasks again, at the latest; 0
	 * = when it is told.  And: it was told.
	 */
	pg_atomic_uint64 looks_at;
	pg_atomic_uint32 look_wanted;

	pg_atomic_uint64 seen_ticks;	/* see gtf_submitted_seen */
	pg_atomic_uint64 flush_requested;
	pg_atomic_uint32 waiting_executors; /* whose body sits in gtf_wait */
	pg_atomic_uint32 ceiling;	/* see gtf_db_set_ceiling */
	pg_atomic_uint64 starving_since;	/* see gtf_db_set_starving */
	pg_atomic_uint64 starving_until;
	bool		counters_loaded;	/* guarded by lock */
	pg_atomic_uint32 pool_min;	/* see gtf_db_set_pool */
	pg_atomic_uint32 pool_max;

	pg_atomic_uint32 woken;		/* see gtf_dispatcher_woken */
	pg_atomic_uint64 counters[GTF_NUM_COUNTERS];

	/* Written by the dispatcher only, see gtf_watch */
	pg_atomic_uint32 watched[GTF_WATCH_BITS / 32];
	bool		watching;		/* a bit may be set */

	GtfTaskRef	submitted[GTF_SUBMIT_RING_SIZE];
	GtfDone		done[GTF_DONE_RING_SIZE];
} Database;

typedef struct Lane
{
	LWLock	   *lock;

	/* Guarded by lock */
	Oid			owner;			/* InvalidOid = lane is free */
	int			database;		/* index of the database entry */
	int			first;			/* refs[first .. first + count) are sorted */
	int			count;
	bool		more;			/* wake the dispatcher when half empty */
	bool		give_up_one;	/* who takes next leaves instead */
	GtfTaskRef	refs[GTF_LANE_SIZE];
} Lane;

/* A GtfKeptHandler; its argument is here if it is small, else in pages. */
typedef struct KeptHandler
{
	Oid			function;
	Oid			function_owner;
	uint64		signature_hash;
	bool		takes_arg;
	uint32		arg_size;		/* 0 = NULL */
	int			arg_page;		/* -1 = small */
	char		small[KEPT_SMALL_ARG];
} KeptHandler;

typedef struct Slot
{
	LWLock	   *lock;

	/* Guarded by lock; the executor may read without it what only it writes */
	GtfSlotState state;
	uint32		generation;		/* changes with each process */
	int			database;		/* index of the database entry */
	Oid			database_oid;
	Oid			role;
	int			lane;
	int			pid;			/* 0 = gone */
	int			last_pid;
	PGPROC	   *proc;
	bool		asleep;			/* idle and waiting for its latch */
	bool		retiring;
	bool		waiting;
	bool		is_inline;		/* no executor, no lane: see
								 * gtf_slot_take_inline */
	bool		in_block;
	TimestampTz launched_at;
	TimestampTz process_start;
	uint64		processed;
	uint64		failed;
	uint64		serial;
	GtfTaskRef	ref;
	bool		has_later;
	GtfTaskRef	later;			/* an attempt after that of ref, see
								 * gtf_slot_take */
	TimestampTz started_at;
	bool		body_running;
	bool		body_ended;
	volatile bool in_handler;	/* an abort handler, while the body runs */
	bool		told;			/* of the end; written without the lock */
	bool		live_written;
	bool		live_writing;	/* the dispatcher is at it */
	bool		abortable;
	bool		timeout_exceeded;
	GtfAbortMode mode;
	volatile GtfAbortCause abort_cause;
	TimestampTz timeout_at;
	TimestampTz hard_timeout_at;

	/* Written under the lock, read by the executor's signal handler */
	volatile uint64 interrupt_serial;	/* = serial: cancel its statement */
	volatile bool spares_handlers;	/* was it a GTF_INTERRUPT_BODY? */
	volatile uint64 terminate_serial;	/* = serial: end the process */
	int			start_sqlerrcode;
	char		start_error[GTF_START_ERROR_SIZE];

	PgBackendStatus *status;	/* of the process, while it runs a task */

	/*
	 * Cleanup handlers of the task, see shmem_kept.c.  While the slot is not
	 * lost only the executor touches them.
	 */
	int			num_kept;
	GtfKeptState kept_state;
	int			kept_tries;
	KeptHandler kept[GTF_MAX_HANDLERS];

	/*
	 * Written by the executor without the lock, many times a second: an odd
	 * change count means that a write is going on.  Zero for each task at
	 * first.  A new payload counts, too.
	 */
	pg_atomic_uint64 progress_changes;
	GtfProgress progress;
	pg_atomic_uint32 watched;	/* the dispatcher wants to hear of a change */

	/* Guarded by payload_lock; the executor may read its own without it */
	int			payload;		/* index of its first page, -1 = none */
	uint64		payload_serial; /* of the task that it belongs to */
	pg_atomic_uint64 payload_version;	/* no two alike; 0 = none */
} Slot;

/*
 * A page of the pool for payloads; the bytes are in an array of their own.
 * A payload is a chain of pages.
 */
typedef struct PayloadPage
{
	int			next;			/* in the chain or among the free ones, or -1 */

	/* of the first page of a chain */
	int			last;
	int			users;			/* the slot, and those who are reading */
	uint32		size;			/* bytes */
} PayloadPage;

typedef struct Waiter
{
	/* Guarded by the waiters' lock */
	pg_uuid_t	id;
	PGPROC	   *proc;			/* NULL = free */
	int			next;			/* in the bucket, or in the free list */
	bool		done;
} Waiter;

typedef struct Segment
{
	pg_atomic_uint64 last_ticks;

	/* Guarded by lock */
	LWLock	   *lock;
	PGPROC	   *launcher;
	int			launcher_pid;
	TimestampTz launcher_start;
	bool		refused;		/* a database has got no entry */

	/* Guarded by waiter_lock; an empty bucket may be seen without it */
	LWLock	   *waiter_lock;
	int			first_free_waiter;
	int			num_buckets;	/* a power of two */

	/* Guarded by payload_lock */
	LWLock	   *payload_lock;
	int			first_free_page;	/* a chain; -1 = none */
	int			free_pages;		/* in that chain */
	int			untouched_pages;	/* from this page on, never used */
	uint64		last_payload_version;

	/* Fixed at start: where the arrays are */
	PayloadPage *payload_pages;
	char	   *payload_bytes;
	Database   *databases;
	Lane	   *lanes;
	Slot	   *slots;
	pg_uuid_t  *running;		/* of slot i: the task it holds, else zero;
								 * written under its lane's and slot's locks */
	Waiter	   *waiters;
	int		   *buckets;
} Segment;

extern Segment *gtf_segment;

/* shmem_db.c */
extern void gtf_flusher_wake(int db);

/* shmem_payload.c */
extern void gtf_dispatcher_wake_to_look(int db);	/* see
													 * gtf_dispatcher_looks_at */
extern Size gtf_payload_shmem_size(void);
extern void gtf_payload_shmem_startup(void);
extern void gtf_payload_read_progress(Slot *slot, GtfSlotInfo *info);
extern void gtf_payload_drop(Slot *slot);

/* Pages for something else than a payload; -1 when there are not enough. */
extern int	gtf_pages_put(const void *from, Size size);
extern void gtf_pages_get(int first, void *to, Size size);
extern void gtf_pages_drop(int first);

/* shmem_wait.c: like gtf_done_leave, without waiting */
extern bool gtf_done_put(int db, const GtfDone *done);

/* shmem_kept.c */
extern void gtf_kept_drop(Slot *slot);

#define NUM_DATABASES	gtf_max_databases
#define NUM_SLOTS		gtf_max_slots
#define NUM_LANES		gtf_max_slots

#endif							/* GTF_SHMEM_LAYOUT_H */
