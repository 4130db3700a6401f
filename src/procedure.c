/*-------------------------------------------------------------------------
 *
 * procedure.c
 *	  What those of our SQL procedures share that commit by themselves.
 *
 * They leave the transaction and the snapshot of their CALL, and come back to
 * new ones.  What they keep meanwhile is theirs to keep in memory that lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"

#include "procedure.h"

bool
gtf_procedure_may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic &&
		!IsSubTransaction();
}

bool
gtf_procedure_at_top_level(FunctionCallInfo fcinfo)
{
	return gtf_procedure_may_commit(fcinfo) && !SPI_inside_nonatomic_context();
}

void
gtf_procedure_begin(void)
{
	gtf_procedure_connect();
	SPI_commit();
}

void
gtf_procedure_connect(void)
{
	SPI_connect_ext(SPI_OPT_NONATOMIC);
}

void
gtf_procedure_commit(void)
{
	SPI_commit();
}

void
gtf_procedure_rollback(void)
{
	SPI_rollback();
}

void
gtf_procedure_end(void)
{
	SPI_finish();
}

Datum
gtf_procedure_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
