/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The dispatcher's memory of waiting tasks.  Local data structures only.
 *
 * No locks, and nothing that would be missed: when the dispatcher dies, the
 * next one finds all of it by its scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "queue.h"
#include "settings.h"

/* Between two scans while memory is nearly full: others shall get on, too. */
#define SCAN_PAUSE_MS 1000

/* A growing array of references. */
typedef struct RefArray
{
	GtfTaskRef *refs;
	int			count;
	int			size;
} RefArray;

static MemoryContext queue_context;
static HTAB *owners;
static dlist_head heaps = DLIST_STATIC_INIT(heaps); /* all of them */
static RefHeap delayed;			/* by due time */
static RefArray unflushed;		/* not a heap */
static int	total = 0;
static TimestampTz last_scan_end = 0;

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

/* Make room for n more. */
static void
reserve(GtfTaskRef **refs, int *size, int count, int n)
{
	int			wanted = Max(*size, 16);

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

/* ---- heaps ---- */

static int
compare(const RefHeap *heap, const GtfTaskRef *a, const GtfTaskRef *b)
{
	return heap->by_due ? compare_due(a, b) : gtf_ref_compare(a, b);
}

static void
sift_up(RefHeap *heap, int i)
{
	GtfTaskRef	ref = heap->refs[i];

	while (i > 0)
	{
		int			parent = (i - 1) / 2;

		if (compare(heap, &ref, &heap->refs[parent]) >= 0)
			break;
		heap->refs[i] = heap->refs[parent];
		i = parent;
	}
	heap->refs[i] = ref;
}

static void
sift_down(RefHeap *heap, int i)
{
	GtfTaskRef	ref = heap->refs[i];

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
			compare(heap, &heap->refs[child + 1], &heap->refs[child]) < 0)
			child++;
		if (compare(heap, &ref, &heap->refs[child]) <= 0)
			break;
		heap->refs[i] = heap->refs[child];
		i = child;
	}
	heap->refs[i] = ref;
}

/* So many are left after others were taken out: make it a heap again. */
static void
heapify(RefHeap *heap, int count)
{
	total -= heap->count - count;
	heap->count = count;
	for (int i = count / 2 - 1; i >= 0; i--)
		sift_down(heap, i);
}

void
gtf_queue_heap_init(RefHeap *heap, bool by_due)
{
	memset(heap, 0, sizeof(RefHeap));
	heap->by_due = by_due;
	dlist_push_tail(&heaps, &heap->node);
}

void
gtf_queue_heap_done(RefHeap *heap)
{
	Assert(heap->count == 0);
	if (heap->refs)
		pfree(heap->refs);
	dlist_delete(&heap->node);
}

bool
gtf_queue_heap_peek(const RefHeap *heap, GtfTaskRef *ref)
{
	if (heap->count == 0)
		return false;
	if (heap->held && compare(heap, &heap->refs[0], &heap->held_beyond) > 0)
		return false;
	*ref = heap->refs[0];
	return true;
}

/* Take the first one out and give memory back when most is unused. */
void
gtf_queue_heap_pop(RefHeap *heap)
{
	heap->count--;
	total--;
	if (heap->count > 0)
	{
		heap->refs[0] = heap->refs[heap->count];
		sift_down(heap, 0);
	}
	if (heap->size > 1024 && heap->count < heap->size / 8)
	{
		heap->size /= 4;
		heap->refs = repalloc_huge(heap->refs,
								   (Size) heap->size * sizeof(GtfTaskRef));
	}
}

static void
note_expiry(const GtfTaskRef *ref)
{
	if (ref->expires_at != 0 &&
		(next_expiry == 0 || ref->expires_at < next_expiry))
		next_expiry = ref->expires_at;
}

static void
push(RefHeap *heap, const GtfTaskRef *ref)
{
	reserve(&heap->refs, &heap->size, heap->count, 1);
	heap->refs[heap->count] = *ref;
	sift_up(heap, heap->count++);
	total++;
	note_expiry(ref);
}

static bool
beyond_cutoff(const RefHeap *heap, const GtfTaskRef *ref)
{
	return heap->dropped && compare(heap, ref, &heap->cutoff) > 0;
}

bool
gtf_queue_heap_precedes(const RefHeap *heap, const GtfTaskRef *ref)
{
	return beyond_cutoff(heap, ref) ||
		(heap->held && compare(heap, ref, &heap->held_beyond) > 0) ||
		(heap->count > 0 && compare(heap, &heap->refs[0], ref) < 0);
}

static int
compare_sample_start(const void *a, const void *b)
{
	return gtf_ref_compare(a, b);
}

static int
compare_sample_due(const void *a, const void *b)
{
	return compare_due(a, b);
}

/*
 * Drop about half of the longest heap, what comes last in it, by a cutoff
 * found from a sample.  False if nothing can be dropped: there are about as
 * many heaps as fit into memory.
 */
static bool
make_room(void)
{
	GtfTaskRef	sample[101];
	int			n;
	int			kept = 0;
	RefHeap    *longest = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &heaps)
	{
		RefHeap    *heap = dlist_container(RefHeap, node, iter.cur);

		if (longest == NULL || heap->count > longest->count)
			longest = heap;
	}
	if (longest == NULL || longest->count < 2)
		return false;

	n = Min(longest->count, (int) lengthof(sample));
	for (int i = 0; i < n; i++)
		sample[i] = longest->refs[n == longest->count ? i :
								  pg_prng_uint64_range(&pg_global_prng_state,
													   0, longest->count - 1)];
	qsort(sample, n, sizeof(GtfTaskRef),
		  longest->by_due ? compare_sample_due : compare_sample_start);
	/* all in memory are up to an earlier cutoff, so this one is, too */
	longest->cutoff = sample[(n - 1) / 2];
	longest->dropped = true;
	for (int i = 0; i < longest->count; i++)
	{
		if (compare(longest, &longest->refs[i], &longest->cutoff) <= 0)
			longest->refs[kept++] = longest->refs[i];
	}
	heapify(longest, kept);
	longest->low = kept / 2;
	return true;
}

static int
capacity(void)
{
	return (int) Min((int64) gtf_queue_memory * 1024 / sizeof(GtfTaskRef),
					 INT_MAX / 4);
}

void
gtf_queue_heap_add(RefHeap *heap, const GtfTaskRef *ref)
{
	if (beyond_cutoff(heap, ref))
		return;
	while (total >= capacity() && make_room())
	{
		if (beyond_cutoff(heap, ref))
			return;
	}
	push(heap, ref);
}

/* ---- the queue ---- */

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
	gtf_queue_heap_init(&delayed, true);
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
		gtf_queue_heap_init(&queue->ready, false);
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
	/* what it knows of tasks in the table must not be forgotten */
	if (queue->ready.dropped || queue->ready.held)
		return;
	gtf_queue_heap_done(&queue->ready);
	hash_search(owners, &queue->owner, HASH_REMOVE, NULL);
}

bool
gtf_queue_peek(const OwnerQueue *queue, GtfTaskRef *ref)
{
	return gtf_queue_heap_peek(&queue->ready, ref);
}

void
gtf_queue_pop(OwnerQueue *queue)
{
	gtf_queue_heap_pop(&queue->ready);
}

void
gtf_queue_push(OwnerQueue *queue, const GtfTaskRef *ref)
{
	push(&queue->ready, ref);
}

void
gtf_queue_reserve(OwnerQueue *queue, int n)
{
	reserve(&queue->ready.refs, &queue->ready.size, queue->ready.count, n);
}

void
gtf_queue_add(const GtfTaskRef *ref, TimestampTz now, XLogRecPtr flushed)
{
	if (ref->lsn > flushed)
	{
		reserve(&unflushed.refs, &unflushed.size, unflushed.count, 1);
		unflushed.refs[unflushed.count++] = *ref;
		total++;
	}
	else if (ref->due > now)
		gtf_queue_heap_add(&delayed, ref);
	else
		gtf_queue_heap_add(&gtf_queue_owner(ref->owner)->ready, ref);
}

void
gtf_queue_return(const GtfTaskRef *ref, TimestampTz now)
{
	/* it was in memory before: no cutoff applies */
	push(ref->due > now ? &delayed :
		 &gtf_queue_owner(ref->owner)->ready, ref);
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

		gtf_queue_heap_add(&gtf_queue_owner(ref.owner)->ready, &ref);
		/* the first one of a heap is never dropped to make room */
		gtf_queue_heap_pop(&delayed);
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

/* Take the expired ones out of a heap, up to room. */
static int
sweep(RefHeap *heap, TimestampTz now, GtfTaskRef *expired, int room)
{
	int			kept = 0;
	int			taken = 0;

	for (int i = 0; i < heap->count; i++)
	{
		GtfTaskRef *ref = &heap->refs[i];

		if (ref->expires_at != 0 && ref->expires_at <= now && taken < room)
			expired[taken++] = *ref;
		else
		{
			note_expiry(ref);
			heap->refs[kept++] = *ref;
		}
	}
	if (taken > 0)
		heapify(heap, kept);
	return taken;
}

int
gtf_queue_take_expired(TimestampTz now, GtfTaskRef *refs, int max)
{
	dlist_iter	iter;
	int			n = 0;

	if (next_expiry == 0 || next_expiry > now)
		return 0;
	next_expiry = 0;
	dlist_foreach(iter, &heaps)
		n += sweep(dlist_container(RefHeap, node, iter.cur), now,
				   refs + n, max - n);
	return n;
}

int
gtf_queue_count(void)
{
	return total;
}

bool
gtf_queue_wants_scan(TimestampTz now, TimestampTz *at)
{
	bool		wanted = false;
	dlist_iter	iter;

	*at = 0;
	dlist_foreach(iter, &heaps)
	{
		RefHeap    *heap = dlist_container(RefHeap, node, iter.cur);

		wanted |= heap->dropped && heap->count <= heap->low;
	}
	if (wanted && total > capacity() / 4 * 3)
	{
		*at = TimestampTzPlusMilliseconds(last_scan_end, SCAN_PAUSE_MS);
		if (now < *at)
			return false;
	}
	return wanted;
}

void
gtf_queue_drop_waiting(const pg_uuid_t *after)
{
	int			kept = 0;

	for (int i = 0; i < delayed.count; i++)
	{
		if ((delayed.refs[i].flags & GTF_REF_DEPENDS) == 0 ||
			gtf_id_compare(&delayed.refs[i].id, after) <= 0)
			delayed.refs[kept++] = delayed.refs[i];
	}
	if (kept < delayed.count)
		heapify(&delayed, kept);
}

void
gtf_queue_scan_starts(bool whole)
{
	dlist_iter	iter;

	if (!whole)
		return;
	dlist_foreach(iter, &heaps)
	{
		RefHeap    *heap = dlist_container(RefHeap, node, iter.cur);

		heap->held = heap->dropped;
		heap->held_beyond = heap->cutoff;
		heap->dropped = false;
	}
}

void
gtf_queue_scan_ends(TimestampTz now)
{
	dlist_iter	iter;

	last_scan_end = now;
	dlist_foreach(iter, &heaps)
		dlist_container(RefHeap, node, iter.cur)->held = false;
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
	dlist_iter	iter;

	gtf_queue_known_end();
	ctl.keysize = sizeof(pg_uuid_t);
	ctl.entrysize = sizeof(pg_uuid_t);
	ctl.hcxt = queue_context;
	known = hash_create("gtf known tasks", Max(total, 1024), &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	known_add_array(unflushed.refs, unflushed.count);
	dlist_foreach(iter, &heaps)
	{
		RefHeap    *heap = dlist_container(RefHeap, node, iter.cur);

		known_add_array(heap->refs, heap->count);
	}
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
