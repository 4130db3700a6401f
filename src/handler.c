/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  What a function takes and gives when it is the handler of a task type.
 *
 * Arguments are converted as by jsonb_to_record().  A failed conversion is
 * not survived but reported in other words, which is why there is no
 * subtransaction around it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "parser/parse_collate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "handler.h"
#include "registry.h"

/* How a JSON value becomes a value of a parameter. */
typedef enum ParamClass
{
	PARAM_ANY,					/* any JSON value will do */
	PARAM_SCALAR,				/* its text goes to the input function */
	PARAM_NESTED				/* arrays, composites, domains over JSON */
} ParamClass;

/* An input parameter. */
struct GtfParam
{
	char	   *name;			/* "" only if the handler takes one jsonb */
	int			name_length;
	Oid			type;
	Oid			collation;
	int16		typlen;
	bool		typbyval;
	bool		is_domain;
	ParamClass	class;
	Oid			input_function;
	Oid			input_param;
	Node	   *default_value;	/* or NULL */
};

/* ----------------------------------------------------------------------
 * What a handler takes and gives
 * ----------------------------------------------------------------------
 */

const char *
gtf_prokind_word(char prokind)
{
	return prokind == PROKIND_PROCEDURE ? "procedure" : "function";
}

static void
refuse(HeapTuple tuple, const char *detail, const char *hint)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("%s %s cannot be the handler of a task type",
					form->prokind == PROKIND_AGGREGATE ? "aggregate" :
					form->prokind == PROKIND_WINDOW ? "window function" :
					gtf_prokind_word(form->prokind),
					format_procedure(form->oid)),
			 errdetail_internal("%s", detail),
			 hint != NULL ? errhint("%s", hint) : 0));
}

static void
fill_param(GtfParam *param, const char *name, Oid type)
{
	Oid			base = getBaseType(type);

	param->name = pstrdup(name);
	param->name_length = strlen(name);
	param->type = type;
	param->is_domain = base != type;
	param->collation = get_typcollation(type);
	get_typlenbyval(type, &param->typlen, &param->typbyval);
	getTypeInputInfo(type, &param->input_function, &param->input_param);

	switch (type)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case JSONOID:
		case JSONBOID:
			param->class = PARAM_ANY;
			break;
		default:
			if (type_is_array(base) || get_typtype(base) == TYPTYPE_COMPOSITE ||
				base == JSONOID || base == JSONBOID)
				param->class = PARAM_NESTED;
			else
				param->class = PARAM_SCALAR;
	}
}

/* All parameters; true if some are for output. */
static bool
fill_params(GtfSignature *signature, HeapTuple tuple)
{
	Oid		   *types;
	char	  **names;
	char	   *modes;
	bool		has_output = false;
	bool		all_named = true;

	signature->nall = get_func_arg_info(tuple, &types, &names, &modes);
	signature->all_types = types;
	signature->all_modes = modes;
	signature->params = palloc0(sizeof(GtfParam) * (signature->nall + 1));
	for (int i = 0; i < signature->nall; i++)
	{
		char		mode = modes ? modes[i] : PROARGMODE_IN;

		if (mode != PROARGMODE_IN)
			has_output = true;
		if (get_typtype(types[i]) == TYPTYPE_PSEUDO)
			refuse(tuple,
				   psprintf(_("A parameter is of the pseudo-type %s."),
							format_type_be(types[i])),
				   NULL);
		if (mode == PROARGMODE_IN || mode == PROARGMODE_INOUT)
		{
			const char *name = names ? names[i] : "";

			if (name[0] == '\0')
				all_named = false;
			fill_param(&signature->params[signature->nparams++], name,
					   types[i]);
		}
	}
	Assert(signature->nparams == ((Form_pg_proc) GETSTRUCT(tuple))->pronargs);

	if (signature->nparams == 1 && signature->params[0].type == JSONBOID)
		signature->takes_jsonb = true;
	else if (!all_named)
		refuse(tuple, _("It has input parameters without a name."),
			   _("Give each of them a name, or have a single one of type jsonb."));
	return has_output;
}

/* The defaults belong to the last input parameters. */
static void
fill_defaults(GtfSignature *signature, HeapTuple tuple)
{
	bool		isnull;
	Datum		stored = SysCacheGetAttr(PROCOID, tuple,
										 Anum_pg_proc_proargdefaults, &isnull);
	List	   *defaults;
	GtfParam   *param;
	ListCell   *lc;

	if (isnull)
		return;
	defaults = castNode(List, stringToNode(TextDatumGetCString(stored)));
	param = &signature->params[signature->nparams - list_length(defaults)];
	foreach(lc, defaults)
	{
		param->default_value = lfirst(lc);
		param++;
	}
}

GtfSignature *
gtf_signature_make(HeapTuple tuple)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);
	MemoryContext context;
	MemoryContext old;
	GtfSignature *signature;
	bool		has_output;

	if (form->prokind != PROKIND_FUNCTION && form->prokind != PROKIND_PROCEDURE)
		refuse(tuple, _("Only ordinary functions and procedures can be handlers."), NULL);
	if (isAnyTempNamespace(form->pronamespace))
		refuse(tuple, _("It is temporary."), NULL);
	if (form->proretset)
		refuse(tuple, _("It returns a set."), NULL);
	if (OidIsValid(form->provariadic))
		refuse(tuple, _("It has a VARIADIC parameter."), NULL);

	context = AllocSetContextCreate(CurrentMemoryContext, "gtf handler",
									ALLOCSET_SMALL_SIZES);
	MemoryContextCopyAndSetIdentifier(context, NameStr(form->proname));
	old = MemoryContextSwitchTo(context);
	signature = palloc0(sizeof(GtfSignature));
	signature->context = context;
	signature->function = form->oid;
	signature->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	signature->tid = tuple->t_self;
	signature->result = form->prorettype;

	has_output = fill_params(signature, tuple);
	if (get_typtype(form->prorettype) == TYPTYPE_PSEUDO &&
		form->prorettype != VOIDOID &&
		!(form->prorettype == RECORDOID && has_output))
		refuse(tuple,
			   psprintf(_("It returns the pseudo-type %s."),
						format_type_be(form->prorettype)),
			   NULL);

	fill_defaults(signature, tuple);
	MemoryContextSwitchTo(old);
	return signature;
}

/* ----------------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------------
 */

/* For a hint: "a integer, b text". */
static char *
describe_params(const GtfSignature *signature)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < signature->nparams; i++)
		appendStringInfo(&buf, "%s%s %s", i > 0 ? ", " : "",
						 quote_identifier(signature->params[i].name),
						 format_type_be(signature->params[i].type));
	return buf.data;
}

static bool
is_param(const GtfSignature *signature, const char *name, int length)
{
	for (int i = 0; i < signature->nparams; i++)
	{
		if (signature->params[i].name_length == length &&
			memcmp(signature->params[i].name, name, length) == 0)
			return true;
	}
	return false;
}

/* Complain of the first key that names no parameter. */
static void
report_unknown_key(const GtfType *type, Jsonb *args)
{
	const GtfSignature *signature = type->signature;
	JsonbIterator *it = JsonbIteratorInit(&args->root);
	JsonbValue	key;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token == WJB_KEY &&
			!is_param(signature, key.val.string.val, key.val.string.len))
			break;
	}
	Assert(token == WJB_KEY);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("task type \"%s\" has no parameter \"%s\"", type->name,
					pnstrdup(key.val.string.val, key.val.string.len)),
			 signature->nparams == 0 ?
			 errhint("It has no parameters.") :
			 errhint("Its parameters are: %s.", describe_params(signature))));
}

/*
 * The JSON value of each parameter, NULL where the default applies.  ERROR
 * 22023 if the keys are not those of the handler.
 */
static JsonbValue **
match_args(const GtfType *type, Jsonb *args)
{
	const GtfSignature *signature = type->signature;
	JsonbValue **given;
	JsonbValue *values;
	int			ngiven = 0;
	int			missing = -1;

	if (!JB_ROOT_IS_OBJECT(args))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments of task type \"%s\" must be a JSON object",
						type->name),
				 signature->nparams == 0 ?
				 errhint("It has no parameters.") :
				 errhint("Its parameters are: %s.",
						 describe_params(signature))));

	given = palloc(sizeof(JsonbValue *) * (signature->nparams + 1));
	values = palloc(sizeof(JsonbValue) * (signature->nparams + 1));
	for (int i = 0; i < signature->nparams; i++)
	{
		const GtfParam *param = &signature->params[i];

		given[i] = getKeyJsonValueFromContainer(&args->root, param->name,
												param->name_length, &values[i]);
		if (given[i] != NULL)
			ngiven++;
		else if (param->default_value == NULL && missing < 0)
			missing = i;
	}

	/* A misspelt key is also a missing one: tell what is there. */
	if (ngiven < JB_ROOT_COUNT(args))
		report_unknown_key(type, args);
	if (missing >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("missing value for parameter \"%s\" of task type \"%s\"",
						signature->params[missing].name, type->name),
				 errhint("Its parameters are: %s.",
						 describe_params(signature))));
	return given;
}

/* The text that the input function of a type gets for a JSON value. */
static char *
json_text(JsonbValue *value, Oid type)
{
	Jsonb	   *jsonb;

	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvBinary:
			return JsonbToCString(NULL, value->val.binary.data,
								  value->val.binary.len);
		case jbvString:
			if (type != JSONOID)
				return pnstrdup(value->val.string.val, value->val.string.len);
			jsonb = JsonbValueToJsonb(value);
			return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			elog(ERROR, "unrecognized jsonb type: %d", (int) value->type);
			return NULL;		/* keep compiler quiet */
	}
}

/*
 * Let jsonb_to_record() make a row with the single column that has the name
 * and the type of the parameter, and take it from there.
 */
static Datum
convert_nested(const GtfParam *param, Jsonb *args, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	ReturnSetInfo rsinfo;
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	HeapTupleData tuple;
	HeapTupleHeader row;

	TupleDescInitEntry(desc, 1, param->name, param->type, -1, 0);
	gtf_tupledesc_finalize(desc);

	memset(&rsinfo, 0, sizeof(rsinfo));
	rsinfo.type = T_ReturnSetInfo;
	rsinfo.expectedDesc = desc;

	fmgr_info(F_JSONB_TO_RECORD, &flinfo);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL,
							 (Node *) &rsinfo);
	fcinfo->args[0].value = JsonbPGetDatum(args);
	fcinfo->args[0].isnull = false;
	row = DatumGetHeapTupleHeader(FunctionCallInvoke(fcinfo));

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	return heap_getattr(&tuple, 1, desc, isnull);
}

static Datum
convert_arg(const GtfParam *param, Jsonb *args, JsonbValue *value, bool *isnull)
{
	*isnull = value->type == jbvNull;
	if (*isnull && !param->is_domain)
		return (Datum) 0;
	if (param->class == PARAM_NESTED)
		return convert_nested(param, args, isnull);
	if (param->type == JSONBOID)
		return JsonbPGetDatum(JsonbValueToJsonb(value));

	/* A domain gets to see NULLs, too. */
	return OidInputFunctionCall(param->input_function,
								json_text(value, param->type),
								param->input_param, -1);
}

/* Does this error say that something is wrong with the value? */
static bool
is_about_value(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
		case ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR):
			return false;
	}
	return sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * Convert the arguments of all parameters that have one; with check_only,
 * those that may fail, and the values are of no use.
 */
static void
convert_args(const GtfType *type, Jsonb *args, JsonbValue **given,
			 bool check_only, Datum *values, bool *nulls)
{
	const GtfSignature *signature = type->signature;
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	volatile int i;

	PG_TRY();
	{
		for (i = 0; i < signature->nparams; i++)
		{
			if (given[i] != NULL &&
				!(check_only && signature->params[i].class == PARAM_ANY))
				values[i] = convert_arg(&signature->params[i], args, given[i],
										&nulls[i]);
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!is_about_value(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();

	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"%s\" of task type \"%s\"",
						signature->params[i].name, type->name),
				 error->detail != NULL ?
				 errdetail_internal("%s\n%s", error->message, error->detail) :
				 errdetail_internal("%s", error->message),
				 error->hint != NULL ? errhint("%s", error->hint) : 0));
}

void
gtf_type_check_args(GtfType *type, Jsonb *args)
{
	const GtfSignature *signature = type->signature;
	MemoryContext scratch;
	MemoryContext old;

	if (type->kind == GTF_TYPE_COMMAND || type->kind == GTF_TYPE_HOOK)
		return;
	Assert(signature != NULL);
	if (signature->takes_jsonb)
		return;

	scratch = AllocSetContextCreate(CurrentMemoryContext, "gtf arguments",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(scratch);
	convert_args(type, args, match_args(type, args), true,
				 palloc(sizeof(Datum) * (signature->nparams + 1)),
				 palloc(sizeof(bool) * (signature->nparams + 1)));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/*
 * The expressions of the input parameters; *given gets those that are not
 * defaults.
 */
static List *
input_exprs(const GtfType *type, Jsonb *args, List **given)
{
	const GtfSignature *signature = type->signature;
	JsonbValue **json;
	Datum	   *values;
	bool	   *nulls;
	List	   *inputs = NIL;

	*given = NIL;
	if (signature->takes_jsonb)
	{
		inputs = list_make1(makeConst(JSONBOID, -1, InvalidOid, -1,
									  JsonbPGetDatum(args), false, false));
		*given = list_copy(inputs);
		return inputs;
	}

	values = palloc(sizeof(Datum) * (signature->nparams + 1));
	nulls = palloc(sizeof(bool) * (signature->nparams + 1));
	json = match_args(type, args);
	convert_args(type, args, json, false, values, nulls);
	for (int i = 0; i < signature->nparams; i++)
	{
		const GtfParam *param = &signature->params[i];

		if (json[i] == NULL)
			inputs = lappend(inputs, copyObject(param->default_value));
		else
		{
			inputs = lappend(inputs, makeConst(param->type, -1,
											   param->collation, param->typlen,
											   values[i], nulls[i],
											   param->typbyval));
			*given = lappend(*given, llast(inputs));
		}
	}
	return inputs;
}

Expr *
gtf_type_call_expr(GtfType *type, Jsonb *args, List **outargs)
{
	const GtfSignature *signature = type->signature;
	FuncExpr   *call;
	List	   *inputs;
	List	   *given;

	Assert(signature != NULL);
	inputs = input_exprs(type, args, &given);
	call = makeFuncExpr(signature->function, signature->result, given,
						InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);

	/* As in a call that is typed in, defaults have no say in the collation. */
	assign_expr_collations(NULL, (Node *) call);
	call->args = inputs;

	if (type->kind == GTF_TYPE_PROCEDURE)
	{
		int			input = 0;

		*outargs = NIL;
		for (int i = 0; i < signature->nall; i++)
		{
			char		mode = signature->all_modes ?
				signature->all_modes[i] : PROARGMODE_IN;

			if (mode == PROARGMODE_OUT)
				*outargs = lappend(*outargs,
								   makeNullConst(signature->all_types[i], -1,
												 get_typcollation(signature->all_types[i])));
			else if (mode == PROARGMODE_INOUT)
				*outargs = lappend(*outargs,
								   copyObject((Node *) list_nth(inputs, input)));
			if (mode != PROARGMODE_OUT)
				input++;
		}
		return (Expr *) call;
	}

	if (signature->result == VOIDOID || signature->result == JSONBOID)
		return (Expr *) call;
	return (Expr *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(call),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}
