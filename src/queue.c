/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The dispatcher's memory of waiting tasks.  Local data structures only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "queue.h"
#include "settings.h"

/* A growing array of references, as a heap or as a list. */
typedef struct RefArray
{
	GtfTaskRef *refs;
	int			count;
	int			size;
} RefArray;

typedef int (*RefCompare) (const GtfTaskRef *a, const GtfTaskRef *b);

static MemoryContext queue_context;
static HTAB *owners;
static RefArray delayed;		/* heap by due time */
static RefArray unflushed;		/* list */
static int	total = 0;

/* What was dropped, and from where on later tasks must not be taken in. */
static bool ready_dropped = false;
static GtfTaskRef ready_cutoff;
static bool delayed_dropped = false;
static GtfTaskRef delayed_cutoff;

/* While what was dropped is read again, nothing beyond this may start. */
static bool held = false;
static GtfTaskRef held_beyond;

static HTAB *known = NULL;

/* No task in memory expires before this; 0 = none does at all. */
static TimestampTz next_expiry = 0;

static int
compare_due(const GtfTaskRef *a, const GtfTaskRef *b)
{
	if (a->due != b->due)
		return a->due < b->due ? -1 : 1;
	return gtf_ref_compare(a, b);
}

static int
compare_start(const GtfTaskRef *a, const GtfTaskRef *b)
{
	return gtf_ref_compare(a, b);
}

/* Make room for n more. */
static void
reserve(GtfTaskRef **refs, int *size, int count, int n)
{
	int			wanted = Max(*size, 64);

	if (count + n <= *size)
		return;
	while (wanted < count + n)
		wanted *= 2;
	if (*refs == NULL)
		*refs = MemoryContextAllocHuge(queue_context,
									   (Size) wanted * sizeof(GtfTaskRef));
	else
		*refs = repalloc_huge(*refs, (Size) wanted * sizeof(GtfTaskRef));
	*size = wanted;
}

static void
sift_up(GtfTaskRef *refs, int i, RefCompare compare)
{
	GtfTaskRef	ref = refs[i];

	while (i > 0)
	{
		int			parent = (i - 1) / 2;

		if (compare(&ref, &refs[parent]) >= 0)
			break;
		refs[i] = refs[parent];
		i = parent;
	}
	refs[i] = ref;
}

static void
sift_down(GtfTaskRef *refs, int count, int i, RefCompare compare)
{
	GtfTaskRef	ref = refs[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= count)
			break;
		if (child + 1 < count && compare(&refs[child + 1], &refs[child]) < 0)
			child++;
		if (compare(&ref, &refs[child]) <= 0)
			break;
		refs[i] = refs[child];
		i = child;
	}
	refs[i] = ref;
}

/* Take the first element out and give memory back when most is unused. */
static void
heap_pop(GtfTaskRef **refs, int *count, int *size, RefCompare compare)
{
	(*count)--;
	if (*count > 0)
	{
		(*refs)[0] = (*refs)[*count];
		sift_down(*refs, *count, 0, compare);
	}
	if (*size > 1024 && *count < *size / 8)
	{
		*size /= 4;
		*refs = repalloc_huge(*refs, (Size) *size * sizeof(GtfTaskRef));
	}
}

void
gtf_queue_init(MemoryContext context)
{
	HASHCTL		ctl = {0};

	queue_context = context;
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(OwnerQueue);
	ctl.hcxt = context;
	owners = hash_create("gtf owners", 32, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

OwnerQueue *
gtf_queue_owner(Oid owner)
{
	bool		found;
	OwnerQueue *queue = hash_search(owners, &owner, HASH_ENTER, &found);

	if (!found)
	{
		memset(queue, 0, sizeof(OwnerQueue));
		queue->owner = owner;
		queue->lane = -1;
	}
	return queue;
}

OwnerQueue **
gtf_queue_owners(int *n)
{
	OwnerQueue **result = palloc(Max(hash_get_num_entries(owners), 1) *
								 sizeof(OwnerQueue *));
	HASH_SEQ_STATUS status;
	OwnerQueue *queue;

	*n = 0;
	hash_seq_init(&status, owners);
	while ((queue = hash_seq_search(&status)) != NULL)
		result[(*n)++] = queue;
	return result;
}

void
gtf_queue_drop_owner(OwnerQueue *queue)
{
	Assert(queue->count == 0);
	if (queue->refs)
		pfree(queue->refs);
	hash_search(owners, &queue->owner, HASH_REMOVE, NULL);
}

bool
gtf_queue_peek(OwnerQueue *queue, GtfTaskRef *ref)
{
	if (queue->count == 0)
		return false;
	if (held && compare_start(&queue->refs[0], &held_beyond) > 0)
		return false;
	*ref = queue->refs[0];
	return true;
}

void
gtf_queue_pop(OwnerQueue *queue)
{
	heap_pop(&queue->refs, &queue->count, &queue->size, compare_start);
	total--;
}

static void
note_expiry(const GtfTaskRef *ref)
{
	if (ref->expires_at != 0 &&
		(next_expiry == 0 || ref->expires_at < next_expiry))
		next_expiry = ref->expires_at;
}

void
gtf_queue_push(OwnerQueue *queue, const GtfTaskRef *ref)
{
	reserve(&queue->refs, &queue->size, queue->count, 1);
	queue->refs[queue->count] = *ref;
	sift_up(queue->refs, queue->count++, compare_start);
	total++;
	note_expiry(ref);
}

/*
 * Drop about half of what is in memory: of the ready tasks those that start
 * last, by a cutoff found from a sample; of the delayed ones those due last.
 */
static void
make_room(void)
{
	GtfTaskRef	sample[101];
	int			n = 0;
	int			ready;
	HASH_SEQ_STATUS status;
	OwnerQueue *queue;

	if (delayed.count > total / 2)
	{
		int			kept = 0;

		while (n < (int) lengthof(sample))
			sample[n++] = delayed.refs[pg_prng_uint64_range(&pg_global_prng_state,
															0, delayed.count - 1)];
		qsort(sample, n, sizeof(GtfTaskRef),
			  (int (*) (const void *, const void *)) compare_due);
		if (!delayed_dropped || compare_due(&sample[n / 2], &delayed_cutoff) < 0)
			delayed_cutoff = sample[n / 2];
		delayed_dropped = true;
		for (int i = 0; i < delayed.count; i++)
		{
			if (compare_due(&delayed.refs[i], &delayed_cutoff) <= 0)
				delayed.refs[kept++] = delayed.refs[i];
		}
		total -= delayed.count - kept;
		delayed.count = kept;
		for (int i = kept / 2 - 1; i >= 0; i--)
			sift_down(delayed.refs, kept, i, compare_due);
		return;
	}

	ready = total - delayed.count - unflushed.count;
	if (ready == 0)
		return;
	while (n < (int) lengthof(sample))
	{
		/* owners in proportion to their number of tasks */
		int64		at = pg_prng_uint64_range(&pg_global_prng_state, 0, ready - 1);

		hash_seq_init(&status, owners);
		while ((queue = hash_seq_search(&status)) != NULL)
		{
			if (at < queue->count)
			{
				sample[n++] = queue->refs[at];
				hash_seq_term(&status);
				break;
			}
			at -= queue->count;
		}
	}
	qsort(sample, n, sizeof(GtfTaskRef),
		  (int (*) (const void *, const void *)) compare_start);
	if (!ready_dropped || compare_start(&sample[n / 2], &ready_cutoff) < 0)
		ready_cutoff = sample[n / 2];
	ready_dropped = true;

	hash_seq_init(&status, owners);
	while ((queue = hash_seq_search(&status)) != NULL)
	{
		int			kept = 0;

		for (int i = 0; i < queue->count; i++)
		{
			if (compare_start(&queue->refs[i], &ready_cutoff) <= 0)
				queue->refs[kept++] = queue->refs[i];
		}
		total -= queue->count - kept;
		queue->count = kept;
		for (int i = kept / 2 - 1; i >= 0; i--)
			sift_down(queue->refs, kept, i, compare_start);
	}
}

static int
capacity(void)
{
	return (int) Min((int64) gtf_queue_memory * 1024 / sizeof(GtfTaskRef),
					 INT_MAX / 4);
}

static void
add_ready(const GtfTaskRef *ref)
{
	if (ready_dropped && compare_start(ref, &ready_cutoff) > 0)
		return;
	if (total >= capacity())
	{
		make_room();
		if (ready_dropped && compare_start(ref, &ready_cutoff) > 0)
			return;
	}
	gtf_queue_push(gtf_queue_owner(ref->owner), ref);
}

void
gtf_queue_reserve(OwnerQueue *queue, int n)
{
	reserve(&queue->refs, &queue->size, queue->count, n);
}

static void
push_delayed(const GtfTaskRef *ref)
{
	reserve(&delayed.refs, &delayed.size, delayed.count, 1);
	delayed.refs[delayed.count] = *ref;
	sift_up(delayed.refs, delayed.count++, compare_due);
	total++;
	note_expiry(ref);
}

void
gtf_queue_add(const GtfTaskRef *ref, TimestampTz now, XLogRecPtr flushed)
{
	if (ref->lsn > flushed)
	{
		reserve(&unflushed.refs, &unflushed.size, unflushed.count, 1);
		unflushed.refs[unflushed.count++] = *ref;
		total++;
		return;
	}
	if (ref->due > now)
	{
		if (delayed_dropped && compare_due(ref, &delayed_cutoff) > 0)
			return;
		if (total >= capacity())
		{
			make_room();
			if (delayed_dropped && compare_due(ref, &delayed_cutoff) > 0)
				return;
		}
		push_delayed(ref);
		return;
	}
	add_ready(ref);
}

void
gtf_queue_return(const GtfTaskRef *ref, TimestampTz now)
{
	/* it was in memory before: no cutoff applies */
	if (ref->due > now)
		push_delayed(ref);
	else
		gtf_queue_push(gtf_queue_owner(ref->owner), ref);
}

/* A reference leaves its place when it is in the next: adding it may raise. */
void
gtf_queue_advance(TimestampTz now, XLogRecPtr flushed)
{
	int			i = 0;

	while (i < unflushed.count)
	{
		GtfTaskRef	ref = unflushed.refs[i];

		if (ref.lsn > flushed)
		{
			i++;
			continue;
		}
		ref.lsn = InvalidXLogRecPtr;
		gtf_queue_add(&ref, now, flushed);
		unflushed.refs[i] = unflushed.refs[--unflushed.count];
		total--;
	}

	while (delayed.count > 0 && delayed.refs[0].due <= now)
	{
		GtfTaskRef	ref = delayed.refs[0];

		add_ready(&ref);
		/* unless it was dropped to make room for itself */
		if (delayed.count > 0 && gtf_id_equal(&delayed.refs[0].id, &ref.id))
		{
			heap_pop(&delayed.refs, &delayed.count, &delayed.size, compare_due);
			total--;
		}
	}
}

TimestampTz
gtf_queue_next_due(void)
{
	return delayed.count > 0 ? delayed.refs[0].due : 0;
}

XLogRecPtr
gtf_queue_unflushed(void)
{
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	for (int i = 0; i < unflushed.count; i++)
		lsn = Max(lsn, unflushed.refs[i].lsn);
	return lsn;
}

TimestampTz
gtf_queue_next_expiry(void)
{
	return next_expiry;
}

/* Take the expired ones out of a heap, up to room; the rest stays a heap. */
static int
sweep(GtfTaskRef *refs, int *count, RefCompare compare, TimestampTz now,
	  GtfTaskRef *expired, int room)
{
	int			kept = 0;
	int			taken = 0;

	for (int i = 0; i < *count; i++)
	{
		if (refs[i].expires_at != 0 && refs[i].expires_at <= now && taken < room)
			expired[taken++] = refs[i];
		else
		{
			note_expiry(&refs[i]);
			refs[kept++] = refs[i];
		}
	}
	if (taken > 0)
	{
		*count = kept;
		for (int i = kept / 2 - 1; i >= 0; i--)
			sift_down(refs, kept, i, compare);
		total -= taken;
	}
	return taken;
}

int
gtf_queue_take_expired(TimestampTz now, GtfTaskRef *refs, int max)
{
	HASH_SEQ_STATUS status;
	OwnerQueue *queue;
	int			n;

	if (next_expiry == 0 || next_expiry > now)
		return 0;
	next_expiry = 0;
	n = sweep(delayed.refs, &delayed.count, compare_due, now, refs, max);
	hash_seq_init(&status, owners);
	while ((queue = hash_seq_search(&status)) != NULL)
		n += sweep(queue->refs, &queue->count, compare_start, now,
				   refs + n, max - n);
	return n;
}

int
gtf_queue_count(void)
{
	return total;
}

bool
gtf_queue_wants_scan(void)
{
	int			ready = total - delayed.count - unflushed.count;

	if (ready_dropped && ready < capacity() / 4)
		return true;
	return delayed_dropped && delayed.count < capacity() / 8;
}

void
gtf_queue_scan_starts(bool whole)
{
	if (!whole)
		return;
	held = ready_dropped;
	held_beyond = ready_cutoff;
	ready_dropped = false;
	delayed_dropped = false;
}

void
gtf_queue_scan_ends(void)
{
	held = false;
}

/* ---- ids that a scan shall not take in again ---- */

static void
known_add_array(const GtfTaskRef *refs, int count)
{
	for (int i = 0; i < count; i++)
		(void) hash_search(known, &refs[i].id, HASH_ENTER, NULL);
}

void
gtf_queue_known_begin(void)
{
	HASHCTL		ctl = {0};
	HASH_SEQ_STATUS status;
	OwnerQueue *queue;

	gtf_queue_known_end();
	ctl.keysize = sizeof(pg_uuid_t);
	ctl.entrysize = sizeof(pg_uuid_t);
	ctl.hcxt = queue_context;
	known = hash_create("gtf known tasks", Max(total, 1024), &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	known_add_array(delayed.refs, delayed.count);
	known_add_array(unflushed.refs, unflushed.count);
	hash_seq_init(&status, owners);
	while ((queue = hash_seq_search(&status)) != NULL)
		known_add_array(queue->refs, queue->count);
}

bool
gtf_queue_known(const pg_uuid_t *id)
{
	return known != NULL && hash_search(known, id, HASH_FIND, NULL) != NULL;
}

void
gtf_queue_known_add(const pg_uuid_t *id)
{
	if (known)
		(void) hash_search(known, id, HASH_ENTER, NULL);
}

bool
gtf_queue_known_full(void)
{
	return hash_get_num_entries(known) >= capacity();
}

void
gtf_queue_known_end(void)
{
	HTAB	   *table = known;

	known = NULL;
	if (table)
		hash_destroy(table);
}
