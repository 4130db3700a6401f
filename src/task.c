/*-------------------------------------------------------------------------
 *
 * task.c
 *	  States of a task, identifiers and condition names.  No I/O.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "task.h"

static const struct
{
	GtfStatus	status;
	const char *text;
	bool		final;
}			statuses[] =

{
	{GTF_PENDING, "pending", false},
	{GTF_IN_PROGRESS, "in_progress", false},
	{GTF_ABORTING, "aborting", false},
	{GTF_SUCCESS, "success", true},
	{GTF_FAILURE, "failure", true},
	{GTF_ABORTED, "aborted", true},
	{GTF_TIMED_OUT, "timed_out", true},
	/* the task of such an attempt is pending again */
	{GTF_RETRIED, "pending", false},
	{GTF_LOST, "pending", false},
};

static const struct
{
	int			sqlerrcode;
	const char *name;
}			conditions[] =

{
#include "errcodes_table.h"
};

const char *
gtf_status_text(GtfStatus status)
{
	for (int i = 0; i < lengthof(statuses); i++)
	{
		if (statuses[i].status == status)
			return statuses[i].text;
	}
	elog(ERROR, "unrecognized task status: %d", (int) status);
	return NULL;				/* keep compiler quiet */
}

bool
gtf_status_is_final(GtfStatus status)
{
	for (int i = 0; i < lengthof(statuses); i++)
	{
		if (statuses[i].status == status)
			return statuses[i].final;
	}
	return false;
}

bool
gtf_status_from_text(const char *text, GtfStatus *status)
{
	for (int i = 0; i < lengthof(statuses); i++)
	{
		if (strcmp(statuses[i].text, text) == 0)
		{
			*status = statuses[i].status;
			return true;
		}
	}
	return false;
}

const char *
gtf_scope_text(GtfScope scope)
{
	switch (scope)
	{
		case GTF_SCOPE_PRIVATE:
			return "private";
		case GTF_SCOPE_SHARED:
			return "shared";
		case GTF_SCOPE_SYSTEM:
			return "system";
	}
	elog(ERROR, "unrecognized task scope: %d", (int) scope);
	return NULL;				/* keep compiler quiet */
}

const char *
gtf_id_text(const pg_uuid_t *id)
{
	static char buffers[4][2 * UUID_LEN + 5];
	static int	next = 0;
	static const char hex[] = "0123456789abcdef";
	char	   *start = buffers[next++ % 4];
	char	   *p = start;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[id->data[i] >> 4];
		*p++ = hex[id->data[i] & 0x0f];
	}
	*p = '\0';
	return start;
}

/* TimestampTz counts microseconds since 2000-01-01, Unix time since 1970. */
#define EPOCH_OFFSET_USECS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

uint64
gtf_id_ticks_from_timestamp(TimestampTz at)
{
	int64		usecs = at + EPOCH_OFFSET_USECS;

	if (usecs < 0)
		usecs = 0;
	return ((uint64) (usecs / 1000) << 12) |
		(uint64) ((usecs % 1000) * 4096 / 1000);
}

uint64
gtf_id_ticks(const pg_uuid_t *id)
{
	uint64		ms = 0;

	for (int i = 0; i < 6; i++)
		ms = (ms << 8) | id->data[i];
	return (ms << 12) | ((uint64) (id->data[6] & 0x0f) << 8) | id->data[7];
}

static void
put_ticks(uint64 ticks, pg_uuid_t *id)
{
	uint64		ms = ticks >> 12;

	for (int i = 5; i >= 0; i--)
	{
		id->data[i] = (unsigned char) (ms & 0xff);
		ms >>= 8;
	}
	id->data[6] = 0x70 | (unsigned char) ((ticks >> 8) & 0x0f);
	id->data[7] = (unsigned char) (ticks & 0xff);
}

void
gtf_id_build(uint64 ticks, pg_uuid_t *id)
{
	/* one call for random bytes serves many ids */
	static unsigned char pool[1024];
	static int	used = sizeof(pool);
	static int	pool_pid = 0;

	if (used + 8 > (int) sizeof(pool) || pool_pid != MyProcPid)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		used = 0;
		pool_pid = MyProcPid;
	}
	put_ticks(ticks, id);
	memcpy(&id->data[8], &pool[used], 8);
	used += 8;
	id->data[8] = 0x80 | (id->data[8] & 0x3f);
}

void
gtf_id_below(uint64 ticks, pg_uuid_t *id)
{
	memset(id, 0, sizeof(pg_uuid_t));
	if (ticks > 0)
		put_ticks(ticks, id);
}

const char *
gtf_condition_name(int sqlerrcode)
{
	for (int i = 0; i < lengthof(conditions); i++)
	{
		if (conditions[i].sqlerrcode == sqlerrcode)
			return conditions[i].name;
	}
	return unpack_sql_state(sqlerrcode);
}

uint64
gtf_name_hash(const char *name)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) name,
										   strlen(name), 0);

	return hash != 0 ? hash : 1;
}

int
gtf_interval_sign(const Interval *interval)
{
	Interval	zero = {0};

	return DatumGetInt32(DirectFunctionCall2(interval_cmp,
											 IntervalPGetDatum(interval),
											 IntervalPGetDatum(&zero)));
}

int
gtf_jsonb_text_length(const Jsonb *jsonb)
{
	StringInfoData text;

	initStringInfo(&text);
	(void) JsonbToCString(&text, (JsonbContainer *) &jsonb->root,
						  VARSIZE(jsonb));
	pfree(text.data);
	return text.len;
}

void
gtf_check_jsonb(const Jsonb *jsonb, const char *what)
{
	/*
	 * No value is longer as text, in relation, than a number with all the
	 * digits that numeric can have, which takes 12 bytes: what is smaller
	 * than this need not be measured.
	 */
	if (VARSIZE(jsonb) < GTF_MAX_JSON / 12500)
		return;
	if (VARSIZE(jsonb) > 2 * GTF_MAX_JSON ||
		gtf_jsonb_text_length(jsonb) > GTF_MAX_JSON)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is too large", what),
				 errdetail("The limit is %d MB as text, %d MB as it is stored.",
						   GTF_MAX_JSON / (1024 * 1024),
						   GTF_MAX_JSON / (512 * 1024))));
}

void
gtf_check_text(const char *string, const char *what)
{
	if (string && strlen(string) > GTF_MAX_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is too long", what),
				 errdetail("It has %zu bytes, the limit is %d bytes.",
						   strlen(string), GTF_MAX_TEXT)));
}
