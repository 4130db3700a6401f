/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  Every setting of gtf.  The variable of gtf.x is gtf_x.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SETTINGS_H
#define GTF_SETTINGS_H

/* Longest prefix of a channel: with an id it makes a name. */
#define GTF_MAX_CHANNEL_PREFIX 27

extern char *gtf_abort_channel_prefix;
extern char *gtf_admin_role;
extern char *gtf_app_user;
extern char *gtf_completion_channel_prefix;
extern int	gtf_crash_limit;
extern bool gtf_enabled;
extern bool gtf_event_log;
extern int	gtf_executor_idle_timeout;	/* s */
extern int	gtf_executor_max_memory;	/* kB, 0 = no limit */
extern int	gtf_executor_max_tasks; /* 0 = no limit */
extern int	gtf_kill_grace;		/* s */
extern int	gtf_max_databases;
extern int	gtf_max_executors;
extern int	gtf_max_slots;
extern int	gtf_max_waiters;
extern int	gtf_payload_memory; /* kB */
extern int	gtf_progress_flush_interval;	/* ms */
extern int	gtf_queue_memory;	/* kB */
extern int	gtf_retry_delay_max;	/* s */
extern bool gtf_show_stacktrace;
extern bool gtf_signals;
extern bool gtf_synchronous_commit;

/* Define them all; those that size shared memory only while preloading. */
extern void gtf_settings_init(void);

#endif							/* GTF_SETTINGS_H */
