/*-------------------------------------------------------------------------
 *
 * search.c
 *	  The search language: which tasks does a text mean?
 *
 *		query	= or
 *		or		= and { "OR" and }
 *		and		= primary { [ "AND" ] primary }
 *		primary = "(" or ")" | term
 *		term	= [ field ":" ] text
 *
 * A text is split into words first: blanks and parentheses end a word, double
 * quotes anywhere in a word take away their meaning, \" and \\ stand for the
 * second character.  AND, OR and NOT are operators in capitals and without
 * quotes only.
 *
 * A term is a part of the field, whatever the case, and has three characters
 * at least.  Two exceptions: "state:" is the whole status, and "kwargs:k=v"
 * one pair of the arguments.  A word without a field, or with one that there
 * is not, is looked for in all that a list of tasks shows.
 *
 * What is compared are columns of gtf.task_info as the caller sees them, so
 * nothing can be found out about what one may not see.  And it is compared
 * here, so that nothing of the text ever becomes part of a query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "search.h"

PG_FUNCTION_INFO_V1(gtf_parse_search);
PG_FUNCTION_INFO_V1(gtf_matches);
PG_FUNCTION_INFO_V1(gtf_args_contain);

#define MAX_CHARACTERS	2048
#define MAX_TOKENS		128
#define MAX_DEPTH		5
#define MIN_TERM		3

/* ---- words ---- */

typedef enum TokenKind
{
	TOKEN_WORD,
	TOKEN_AND,
	TOKEN_OR,
	TOKEN_NOT,
	TOKEN_OPEN,
	TOKEN_CLOSE,
	TOKEN_END
} TokenKind;

typedef struct Token
{
	TokenKind	kind;
	char	   *text;
	int			position;		/* in characters, from 0 */
} Token;

static void fail(const char *what, int position) __attribute__((noreturn));

static void
fail(const char *what, int position)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("%s at position %d.", what, position)));
}

static void
put_token(Token *tokens, int *n, TokenKind kind, char *text, int position)
{
	if (*n >= MAX_TOKENS)
		fail(psprintf("Search query exceeds %d tokens", MAX_TOKENS), position);
	tokens[*n].kind = kind;
	tokens[*n].text = text;

	tokens[*n].position = position;
	(*n)++;
}

/* The words of a text; TOKEN_END is the last one. */
static Token *
read_tokens(const char *text)
{
	Token	   *tokens = palloc(sizeof(Token) * (MAX_TOKENS + 1));
	const char *p = text;
	int			n = 0;

	if (pg_mbstrlen(text) > MAX_CHARACTERS)
		fail(psprintf("Search query exceeds %d characters", MAX_CHARACTERS),
			 MAX_CHARACTERS);

	/*
	 * All that matters is ASCII, which is never part of another character in
	 * an encoding of a server.
	 */
	while (*p != '\0')
	{
		int			position = pg_mbstrlen_with_len(text, p - text);
		StringInfoData word;
		bool		in_quotes = false;
		bool		quoted = false;
		TokenKind	kind = TOKEN_WORD;

		if (scanner_isspace(*p))
		{
			p++;
			continue;
		}
		if (*p == '(' || *p == ')')
		{
			put_token(tokens, &n, *p == '(' ? TOKEN_OPEN : TOKEN_CLOSE, NULL,
					  position);
			p++;
			continue;
		}

		initStringInfo(&word);
		for (; *p != '\0'; p++)
		{
			if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
			{
				appendStringInfoChar(&word, *++p);
				quoted = true;
			}
			else if (*p == '"')
			{
				in_quotes = !in_quotes;
				quoted = true;
			}
			else if (!in_quotes &&
					 (scanner_isspace(*p) || *p == '(' || *p == ')'))
				break;
			else
				appendStringInfoChar(&word, *p);
		}
		if (in_quotes)
			fail("Unterminated quoted phrase", position);
		if (!quoted)
		{
			if (strcmp(word.data, "AND") == 0)
				kind = TOKEN_AND;
			else if (strcmp(word.data, "OR") == 0)
				kind = TOKEN_OR;
			else if (strcmp(word.data, "NOT") == 0)
				kind = TOKEN_NOT;
		}
		put_token(tokens, &n, kind, word.data, position);
	}
	tokens[n].kind = TOKEN_END;
	tokens[n].text = NULL;
	tokens[n].position = pg_mbstrlen(text);
	return tokens;
}

/* ---- the tree ---- */

typedef enum Field
{
	FIELD_ANY,
	FIELD_NAME,
	FIELD_STATE,
	FIELD_WORKER,
	FIELD_ARGS,
	FIELD_KWARGS,
	FIELD_RESULT,
	FIELD_ERROR,
	FIELD_ID,
	FIELD_QUEUE
} Field;

static const char *const field_names[] = {
	"any", "name", "state", "worker", "args", "kwargs", "result", "error",
	"id", "queue"
};

typedef enum PartKind
{
	PART_ALL,
	PART_AND,
	PART_OR,
	PART_TERM
} PartKind;

typedef struct Part
{
	PartKind	kind;
	List	   *parts;			/* of PART_AND and PART_OR */
	Field		field;
	char	   *key;			/* of a pair, else NULL */
	char	   *value;
	char	   *folded_key;
	char	   *folded;
} Part;

typedef struct Parser
{
	Token	   *token;			/* the next one */
	int			depth;
} Parser;

static char *
fold(const char *text)
{
	return str_tolower(text, strlen(text), DEFAULT_COLLATION_OID);
}

static Part *
make_part(PartKind kind)
{
	Part	   *node = palloc0(sizeof(Part));

	node->kind = kind;
	return node;
}

static char *
trim(const char *text, int len)
{
	while (len > 0 && scanner_isspace(*text))
		text	  ++,
					len--;

	while (len > 0 && scanner_isspace(text[len - 1]))
		len--;
	return pnstrdup(text, len);
}

static Part *
parse_term(const Token *token)
{
	Part	   *node = make_part(PART_TERM);
	char	   *colon = strchr(token->text, ':');
	char	   *equals;

	node->field = FIELD_ANY;
	node->value = token->text;
	if (colon)
	{
		char	   *name = fold(pnstrdup(token->text, colon - token->text));

		for (int f = FIELD_NAME; f < lengthof(field_names); f++)
		{
			if (strcmp(name, field_names[f]) == 0)
			{
				node->field = f;
				node->value = colon + 1;
			}
		}
	}

	if (node->field == FIELD_ANY)
	{
		if (node->value[0] == '-')
			fail("Search negation is not supported", token->position);
	}
	else if (*trim(node->value, strlen(node->value)) == '\0')
		fail(psprintf("%s: requires a value", field_names[node->field]),
			 token->position);

	if (node->field == FIELD_KWARGS && (equals = strchr(node->value, '=')) != NULL)
	{
		node->key = trim(node->value, equals - node->value);
		node->folded_key = fold(node->key);
		node->value = trim(equals + 1, strlen(equals + 1));
	}
	else if (node->field == FIELD_STATE)
		node->value = trim(node->value, strlen(node->value));
	else if (pg_mbstrlen(node->value) < MIN_TERM)
		fail(psprintf("Search terms must contain at least %d characters", MIN_TERM),
			 token->position);
	node->folded = fold(node->value);
	return node;
}

static bool
same_part(const Part *a, const Part *b)
{
	ListCell   *ca;
	ListCell   *cb;

	check_stack_depth();
	if (a->kind != b->kind)
		return false;
	if (a->kind == PART_TERM)
		return a->field == b->field &&
			(a->key == NULL) == (b->key == NULL) &&
			(a->key == NULL || strcmp(a->folded_key, b->folded_key) == 0) &&
			strcmp(a->folded, b->folded) == 0;
	if (list_length(a->parts) != list_length(b->parts))
		return false;
	forboth(ca, a->parts, cb, b->parts)
	{
		if (!same_part(lfirst(ca), lfirst(cb)))
			return false;
	}
	return true;
}

/* Add to the parts of an AND or OR: those of the same kind are merged. */
static void
add_part(Part *node, Part *part)
{
	ListCell   *lc;

	if (part->kind == node->kind)
	{
		foreach(lc, part->parts)
			add_part(node, lfirst(lc));
		return;
	}
	foreach(lc, node->parts)
	{
		if (same_part(lfirst(lc), part))
			return;
	}
	node->parts = lappend(node->parts, part);
}

static Part *
finish_parts(Part *node)
{
	return list_length(node->parts) == 1 ? linitial(node->parts) : node;
}

static Part *parse_or(Parser *parser);

static Part *
parse_primary(Parser *parser)
{
	const Token *token = parser->token++;
	Part	   *node;

	switch (token->kind)
	{
		case TOKEN_WORD:
			return parse_term(token);
		case TOKEN_OPEN:
			if (parser->depth >= MAX_DEPTH)
				fail(psprintf("Search query nesting exceeds %d levels", MAX_DEPTH),
					 token->position);
			if (parser->token->kind == TOKEN_CLOSE)
				fail("Empty group", token->position);
			parser->depth++;
			node = parse_or(parser);
			parser->depth--;
			if (parser->token->kind != TOKEN_CLOSE)
				fail("Missing closing parenthesis", token->position);
			parser->token++;
			return node;
		case TOKEN_NOT:
			fail("NOT is not supported", token->position);
		case TOKEN_CLOSE:
			fail("Unexpected closing parenthesis", token->position);
		default:
			fail("Expected a search term", token->position);
	}
	pg_unreachable();
}

static bool
starts_primary(const Token *token)
{
	return token->kind == TOKEN_WORD || token->kind == TOKEN_OPEN ||
		token->kind == TOKEN_NOT;
}

static Part *
parse_and(Parser *parser)
{
	Part	   *node = make_part(PART_AND);

	add_part(node, parse_primary(parser));
	while (true)
	{
		const Token *token = parser->token;

		if (token->kind == TOKEN_AND)
		{
			parser->token++;
			if (!starts_primary(parser->token))
				fail("AND must be followed by a search term", token->position);
		}
		else if (!starts_primary(token))
			return finish_parts(node);
		add_part(node, parse_primary(parser));
	}
}

static Part *
parse_or(Parser *parser)
{
	Part	   *node = make_part(PART_OR);

	check_stack_depth();
	add_part(node, parse_and(parser));
	while (parser->token->kind == TOKEN_OR)
	{
		const Token *token = parser->token++;

		if (!starts_primary(parser->token))
			fail("OR must be followed by a search term", token->position);
		add_part(node, parse_and(parser));
	}
	return finish_parts(node);
}

static Part *
parse(const char *text)
{
	Parser		parser = {.token = read_tokens(text)};
	Part	   *node;

	if (parser.token->kind == TOKEN_END)
		return make_part(PART_ALL);
	node = parse_or(&parser);
	if (parser.token->kind != TOKEN_END)
		fail("Unexpected closing parenthesis", parser.token->position);
	return node;
}

void
gtf_search_check(const char *text)
{
	(void) parse(text);
}

static void
write_json(StringInfo out, const Part *node)
{
	ListCell   *lc;

	check_stack_depth();
	switch (node->kind)
	{
		case PART_ALL:
			appendStringInfoString(out, "{\"op\": \"all\"}");
			break;
		case PART_TERM:
			appendStringInfo(out, "{\"field\": \"%s\"", field_names[node->field]);
			if (node->key)
			{
				appendStringInfoString(out, ", \"key\": ");
				escape_json(out, node->key);
			}
			appendStringInfoString(out, ", \"value\": ");
			escape_json(out, node->value);
			appendStringInfoChar(out, '}');
			break;
		case PART_AND:
		case PART_OR:
			appendStringInfo(out, "{\"op\": \"%s\", \"terms\": [",
							 node->kind == PART_AND ? "and" : "or");
			foreach(lc, node->parts)
			{
				if (lc != list_head(node->parts))
					appendStringInfoString(out, ", ");
				write_json(out, lfirst(lc));
			}
			appendStringInfoString(out, "]}");
			break;
	}
}

/* gtf_parse_search(search text) RETURNS jsonb */
Datum
gtf_parse_search(PG_FUNCTION_ARGS)
{
	StringInfoData json;

	initStringInfo(&json);
	write_json(&json, parse(text_to_cstring(PG_GETARG_TEXT_PP(0))));
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* ---- comparing ---- */

/* Columns of a task; the folded forms are made when they are needed. */
typedef enum Column
{
	COLUMN_ID,
	COLUMN_TASK_TYPE,
	COLUMN_TASK_NAME,
	COLUMN_STATUS,
	COLUMN_WORKER,
	COLUMN_QUEUE,
	COLUMN_ARGS,
	COLUMN_RESULT,
	COLUMN_ERROR_MESSAGE,
	COLUMN_EXCEPTION_TYPE,
	COLUMN_STACK_TRACE,
	NUM_COLUMNS
} Column;

typedef struct Row
{
	char	   *folded[NUM_COLUMNS];
	FunctionCallInfo fcinfo;
	int			first;			/* argument of column 0 */
	const char *status;
	int32		attempt;
	bool		started;
} Row;

static bool
in_text(const char *text, const char *folded_needle)
{
	return strstr(fold(text), folded_needle) != NULL;
}

/*
 * Is it a part of the JSON text, or of a string in there as it was before
 * quotes and the like were escaped?
 */
static bool
in_json(Jsonb *jsonb, const char *folded_text, const char *folded_needle)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;

	if (strstr(folded_text, folded_needle) != NULL)
		return true;
	if (strchr(folded_text, '\\') == NULL)
		return false;
	it = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) &&
			v.type == jbvString &&
			in_text(pnstrdup(v.val.string.val, v.val.string.len), folded_needle))
			return true;
	}
	return false;
}

static bool
in_column(Row *row, Column column, const char *folded_needle)
{
	int			arg = row->first + column;
	bool		json = column == COLUMN_ARGS || column == COLUMN_RESULT;

	if (row->fcinfo->args[arg].isnull)
		return false;
	if (row->folded[column] == NULL)
	{
		Datum		d = row->fcinfo->args[arg].value;
		char	   *raw;

		if (column == COLUMN_ID)
			raw = DatumGetCString(DirectFunctionCall1(uuid_out, d));
		else if (json)
		{
			Jsonb	   *jsonb = DatumGetJsonbP(d);

			raw = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
		}
		else
			raw = TextDatumGetCString(d);
		row->folded[column] = fold(raw);
	}
	if (json)
		return in_json(DatumGetJsonbP(row->fcinfo->args[arg].value),
					   row->folded[column], folded_needle);
	return strstr(row->folded[column], folded_needle) != NULL;
}

/* A scalar as one would write it in a search, anything else as JSON. */
static char *
value_text(JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return pnstrdup(v->val.string.val, v->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(v->val.numeric)));
		case jbvBool:
			return v->val.boolean ? "true" : "false";
		case jbvNull:
			return "null";
		default:
			{
				Jsonb	   *jsonb = JsonbValueToJsonb(v);

				return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
			}
	}
}

static bool
has_pair(Jsonb *args, const char *folded_key, const char *folded_value)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	bool		wanted = false;

	if (!JB_ROOT_IS_OBJECT(args))
		return false;
	it = JsonbIteratorInit(&args->root);
	/* values that are no scalars are not walked through */
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			wanted = strcmp(fold(pnstrdup(v.val.string.val, v.val.string.len)),
							folded_key) == 0;
		else if (token == WJB_VALUE && wanted &&
				 strcmp(fold(value_text(&v)), folded_value) == 0)
			return true;
	}
	return false;
}

/* Names of states in Celery, where they differ from ours. */
static const struct
{
	const char *word;
	const char *statuses;
}			aliases[] =

{
	{"received", "p"},
	{"started", "ib"},
	{"retry", "p"},				/* after an attempt */
	{"revoked", "a"},
	{"rejected", "f"},			/* without an attempt */
};

const char *
gtf_search_statuses(const char *word)
{
	static char own[2];
	char	   *folded = fold(word);
	GtfStatus	status;

	for (int i = 0; i < lengthof(aliases); i++)
	{
		if (strcmp(folded, aliases[i].word) == 0)
			return aliases[i].statuses;
	}
	own[0] = gtf_status_from_text(folded, &status) ? (char) status : '\0';
	return own;
}

static bool
is_state(const Row *row, const char *folded)
{
	if (strcmp(folded, row->status) == 0)
		return true;
	if (strcmp(folded, "retry") == 0)
		return strcmp(row->status, "pending") == 0 && row->attempt > 0;
	if (strcmp(folded, "rejected") == 0)
		return strcmp(row->status, "failure") == 0 && !row->started;
	for (int i = 0; i < lengthof(aliases); i++)
	{
		if (strcmp(folded, aliases[i].word) == 0)
		{
			for (const char *s = aliases[i].statuses; *s; s++)
			{
				if (strcmp(row->status, gtf_status_text(*s)) == 0)
					return true;
			}
		}
	}
	return false;
}

static bool
matches_term(Row *row, const Part *node)
{
	static const Column any[] = {
		COLUMN_ID, COLUMN_TASK_TYPE, COLUMN_TASK_NAME, COLUMN_STATUS,
		COLUMN_WORKER, COLUMN_ARGS, COLUMN_RESULT
	};

	switch (node->field)
	{
		case FIELD_ANY:
			for (int i = 0; i < lengthof(any); i++)
			{
				if (in_column(row, any[i], node->folded))
					return true;
			}
			return false;
		case FIELD_NAME:
			return in_column(row, COLUMN_TASK_TYPE, node->folded) ||
				in_column(row, COLUMN_TASK_NAME, node->folded);
		case FIELD_STATE:
			return is_state(row, node->folded);
		case FIELD_WORKER:
			return in_column(row, COLUMN_WORKER, node->folded);
		case FIELD_KWARGS:
			if (node->key)
			{
				int			arg = row->first + COLUMN_ARGS;

				return !row->fcinfo->args[arg].isnull &&
					has_pair(DatumGetJsonbP(row->fcinfo->args[arg].value),
							 node->folded_key, node->folded);
			}
			/* FALLTHROUGH */
		case FIELD_ARGS:
			return in_column(row, COLUMN_ARGS, node->folded);
		case FIELD_RESULT:
			return in_column(row, COLUMN_RESULT, node->folded);
		case FIELD_ERROR:
			return in_column(row, COLUMN_ERROR_MESSAGE, node->folded) ||
				in_column(row, COLUMN_EXCEPTION_TYPE, node->folded) ||
				in_column(row, COLUMN_STACK_TRACE, node->folded);
		case FIELD_ID:
			return in_column(row, COLUMN_ID, node->folded);
		case FIELD_QUEUE:
			return in_column(row, COLUMN_QUEUE, node->folded);
	}
	return false;
}

static bool
matches(Row *row, const Part *node)
{
	ListCell   *lc;

	check_stack_depth();
	switch (node->kind)
	{
		case PART_ALL:
			return true;
		case PART_TERM:
			return matches_term(row, node);
		case PART_AND:
			foreach(lc, node->parts)
			{
				if (!matches(row, lfirst(lc)))
					return false;
			}
			return true;
		case PART_OR:
			foreach(lc, node->parts)
			{
				if (matches(row, lfirst(lc)))
					return true;
			}
			return false;
	}
	return false;
}

/* What a call site has parsed last. */
typedef struct Parsed
{
	text	   *search;
	Part	   *tree;
	MemoryContext context;		/* of both */
} Parsed;

static Part *
parse_once(FmgrInfo *flinfo, text *search)
{
	Parsed	   *parsed = flinfo->fn_extra;
	MemoryContext old;

	if (parsed == NULL)
	{
		parsed = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Parsed));
		parsed->context = AllocSetContextCreate(flinfo->fn_mcxt, "gtf search",
												ALLOCSET_SMALL_SIZES);
		flinfo->fn_extra = parsed;
	}
	if (parsed->search &&
		VARSIZE_ANY_EXHDR(parsed->search) == VARSIZE_ANY_EXHDR(search) &&
		memcmp(VARDATA_ANY(parsed->search), VARDATA_ANY(search),
			   VARSIZE_ANY_EXHDR(search)) == 0)
		return parsed->tree;

	parsed->search = NULL;
	MemoryContextReset(parsed->context);
	old = MemoryContextSwitchTo(parsed->context);
	parsed->tree = parse(text_to_cstring(search));
	parsed->search = cstring_to_text_with_len(VARDATA_ANY(search),
											  VARSIZE_ANY_EXHDR(search));
	MemoryContextSwitchTo(old);
	return parsed->tree;
}

/*
 * gtf._matches(search text, states text[], attempt int, started_at timestamptz,
 * columns...) RETURNS boolean: is a row of gtf.task_info what the search means,
 * and in one of these states?  NULL: whatever it is.
 */
Datum
gtf_matches(PG_FUNCTION_ARGS)
{
	Row			row = {0};

	row.fcinfo = fcinfo;
	row.first = 4;
	row.status = PG_ARGISNULL(row.first + COLUMN_STATUS) ? "" :
		text_to_cstring(PG_GETARG_TEXT_PP(row.first + COLUMN_STATUS));
	row.attempt = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
	row.started = !PG_ARGISNULL(3);

	if (!PG_ARGISNULL(1))
	{
		Datum	   *words;
		bool	   *nulls;
		int			n;
		bool		found = false;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false,
						  TYPALIGN_INT, &words, &nulls, &n);
		for (int i = 0; i < n && !found; i++)
			found = !nulls[i] && is_state(&row, fold(TextDatumGetCString(words[i])));
		if (!found)
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(PG_ARGISNULL(0) ||
				   matches(&row, parse_once(fcinfo->flinfo, PG_GETARG_TEXT_PP(0))));
}

/*
 * gtf_args_contain(args jsonb, needles text[]) RETURNS boolean: each of them is
 * an element of args if that is an array, else part of its text.
 */
Datum
gtf_args_contain(PG_FUNCTION_ARGS)
{
	Jsonb	   *args = PG_GETARG_JSONB_P(0);
	Datum	   *needles;
	bool	   *nulls;
	int			n;
	char	   *folded = NULL;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false,
					  TYPALIGN_INT, &needles, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *needle;
		bool		found = false;

		if (nulls[i])
			PG_RETURN_BOOL(false);
		needle = fold(TextDatumGetCString(needles[i]));
		if (JB_ROOT_IS_ARRAY(args) && !JB_ROOT_IS_SCALAR(args))
		{
			JsonbIterator *it = JsonbIteratorInit(&args->root);
			JsonbValue	v;
			JsonbIteratorToken token;

			while (!found && (token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
				found = token == WJB_ELEM &&
					strcmp(fold(value_text(&v)), needle) == 0;
		}
		else
		{
			if (folded == NULL)
				folded = fold(JsonbToCString(NULL, &args->root, VARSIZE(args)));
			found = in_json(args, folded, needle);
		}
		if (!found)
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}
