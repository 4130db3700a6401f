/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Every setting of gtf, in alphabetical order.  Nothing else defines one,
 *	  and only PostgreSQL writes them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "settings.h"

char	   *gtf_abort_channel_prefix = NULL;
char	   *gtf_admin_role = NULL;
char	   *gtf_app_user = NULL;
char	   *gtf_completion_channel_prefix = NULL;
int			gtf_crash_limit = 3;
bool		gtf_enabled = true;
bool		gtf_event_log = false;
int			gtf_executor_idle_timeout = 60;
int			gtf_executor_max_memory = 0;
int			gtf_executor_max_tasks = 0;
int			gtf_kill_grace = 10;
int			gtf_max_databases = 8;
int			gtf_max_executors = 4;
int			gtf_max_slots = 64;
int			gtf_max_waiters = 4096;
int			gtf_payload_memory = 16384;
int			gtf_progress_flush_interval = 2000;
int			gtf_queue_memory = 65536;
int			gtf_retry_delay_max = 600;
bool		gtf_show_stacktrace = false;
bool		gtf_signals = true;
bool		gtf_synchronous_commit = false;

static bool
check_channel_prefix(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) <= GTF_MAX_CHANNEL_PREFIX)
		return true;
	GUC_check_errdetail("It has %d bytes, the limit is %d bytes.",
						(int) strlen(*newval), GTF_MAX_CHANNEL_PREFIX);
	return false;
}

/* As long as there are settings: a call for each. */
void
gtf_settings_init(void)
{
	DefineCustomStringVariable("gtf.abort_channel_prefix",
							   "Sets the prefix of the channels on which requests to stop are signalled.",
							   "The id of the task follows.",
							   &gtf_abort_channel_prefix, "gtf:abort:",
							   PGC_SIGHUP, 0, check_channel_prefix, NULL, NULL);

	DefineCustomStringVariable("gtf.admin_role",
							   "Sets the role whose members administer gtf.",
							   NULL, &gtf_admin_role, "pg_database_owner",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("gtf.app_user",
							   "Sets the application user that tasks are submitted for.",
							   "A label inside the database role, not a boundary against it.",
							   &gtf_app_user, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("gtf.completion_channel_prefix",
							   "Sets the prefix of the channels on which ends of tasks are signalled.",
							   "The id of the task follows.",
							   &gtf_completion_channel_prefix, "gtf:complete:",
							   PGC_SIGHUP, 0, check_channel_prefix, NULL, NULL);

	DefineCustomIntVariable("gtf.crash_limit",
							"Sets how often a task may lose its executor before it fails.",
							NULL, &gtf_crash_limit, 3, 1, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("gtf.enabled",
							 "Allows tasks to be submitted and started.",
							 "Can be set per database with ALTER DATABASE.",
							 &gtf_enabled, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("gtf.event_log",
							 "Shows what has happened to tasks in gtf.task_events.",
							 NULL, &gtf_event_log, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.executor_idle_timeout",
							"Sets how long an executor without work stays.",
							NULL, &gtf_executor_idle_timeout, 60, 1, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.executor_max_memory",
							"Sets the memory use above which an executor is replaced between two tasks.",
							"Zero means no limit.",
							&gtf_executor_max_memory, 0, 0, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.executor_max_tasks",
							"Sets the number of tasks after which an executor is replaced.",
							"Zero means no limit.",
							&gtf_executor_max_tasks, 0, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.kill_grace",
							"Sets how long after its hard timeout a task's executor is ended.",
							NULL, &gtf_kill_grace, 10, 0, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.max_executors",
							"Sets the maximum number of executors of one database.",
							"Each one is a background worker and counts against max_worker_processes.",
							&gtf_max_executors, 4, 1, 1024,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.progress_flush_interval",
							"Sets how often progress and payload of a running task are written to disk.",
							"Zero means at each change, as soon as the dispatcher gets to it.",
							&gtf_progress_flush_interval, 2000, 0, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.queue_memory",
							"Sets the memory that the dispatcher of a database keeps waiting tasks in.",
							"Tasks beyond it stay in the table and are read when there is room again.",
							&gtf_queue_memory, 65536, 64, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);

	DefineCustomIntVariable("gtf.retry_delay_max",
							"Sets the longest delay between two attempts of a task.",
							NULL, &gtf_retry_delay_max, 600, 0, 86400 * 7,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomBoolVariable("gtf.show_stacktrace",
							 "Shows the detail, hint and context of a task's error to those who see the task.",
							 "Administrators always see them.",
							 &gtf_show_stacktrace, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("gtf.signals",
							 "Sends a NOTIFY when a task is asked to stop and when it has ended.",
							 NULL, &gtf_signals, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("gtf.synchronous_commit",
							 "Makes each task wait until its end is on disk.",
							 NULL, &gtf_synchronous_commit, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* A library that is loaded later than at server start has no say here. */
	if (process_shared_preload_libraries_in_progress)
	{
		DefineCustomIntVariable("gtf.max_databases",
								"Sets the maximum number of databases that run tasks at the same time.",
								NULL, &gtf_max_databases, 8, 1, 1024,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);

		DefineCustomIntVariable("gtf.max_slots",
								"Sets the maximum number of executors of all databases together.",
								NULL, &gtf_max_slots, 64, 1, 1024,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);

		DefineCustomIntVariable("gtf.max_waiters",
								"Sets how many tasks can be waited for at the same time.",
								NULL, &gtf_max_waiters, 4096, 16, 1048576,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);

		DefineCustomIntVariable("gtf.payload_memory",
								"Sets the size of the shared memory for payloads of running tasks.",
								"A payload that is being replaced is there twice for a moment.",
								&gtf_payload_memory, 16384, 8192, MAX_KILOBYTES,
								PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);

		MarkGUCPrefixReserved("gtf");
	}
}
