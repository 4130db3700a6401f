/*-------------------------------------------------------------------------
 *
 * hook_stop.c
 *	  Hooks that do not end, or end more than themselves.
 *
 * Code in C is stopped where it serves interrupts.  A hook that never does
 * would keep its executor for ever, and nobody could end that process from
 * outside but with a signal that the postmaster takes for a crash of the whole
 * server.  So a hook that was told to end, and has not for a while, is ended
 * in the signal handler, as PostgreSQL does with background workers that have
 * no handler of their own; but only in places where nothing can be half done:
 *
 * - interrupts are not held off, so there is no lightweight lock and no
 *	 critical section;
 * - it is the code of the hook's own library that was interrupted, and not the
 *	 server or malloc(); or a system call, where those sit who wait for
 *	 something.
 *
 * The dispatcher rings again until the process has gone, so it is enough to
 * be in such a place now and then.  Where it is not known how to find out, a
 * hook like that has to be waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#define KNOWS_PLACES
#include <link.h>
#include <ucontext.h>
#endif

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "hook.h"

/* The hook that is on the stack. */
static const GtfHook *volatile running = NULL;

/*
 * A hook has called exit().  The postmaster takes any other status than these
 * for a crash, and starts the whole server anew; but all that has to be left
 * behind was.
 */
static void
end_process(int code, Datum arg)
{
	if (running == NULL || code == 0 || code == 1)
		return;
	ereport(LOG,
			(errmsg("hook \"%s\" has called exit()", running->name)));
	_exit(1);
}

void
gtf_hook_guard_exit(void)
{
	on_proc_exit(end_process, (Datum) 0);
}

#ifdef KNOWS_PLACES

/* The code of the library that the running hook is in; 0 = none runs. */
static volatile uintptr_t code_begin = 0;
static volatile uintptr_t code_end = 0;

static int
find_code(struct dl_phdr_info *info, size_t size, void *arg)
{
	const uintptr_t *address = arg;

	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		uintptr_t	begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		uintptr_t	end = begin + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type == PT_LOAD &&
			(info->dlpi_phdr[i].p_flags & PF_X) != 0 &&
			*address >= begin && *address < end)
		{
			code_end = end;
			code_begin = begin;
			return 1;
		}
	}
	return 0;
}

static void
set_code(const GtfHook *hook)
{
	uintptr_t	address;

	code_begin = code_end = 0;
	if (hook == NULL)
		return;
	address = (uintptr_t) hook->run;
	(void) dl_iterate_phdr(find_code, &address);
}

/* Where the signal has interrupted the process. */
static uintptr_t
program_counter(const ucontext_t *context)
{
#ifdef __x86_64__
	return (uintptr_t) context->uc_mcontext.gregs[REG_RIP];
#else
	return (uintptr_t) context->uc_mcontext.pc;
#endif
}

/* Is the instruction before that a system call? */
static bool
is_behind_syscall(uintptr_t pc)
{
	const unsigned char *p = (const unsigned char *) pc;

	/* what is before the beginning of a page may not be there */
	if ((pc & 4095) < 4)
		return false;
#ifdef __x86_64__
	return p[-2] == 0x0f && p[-1] == 0x05;
#else
	/* svc #0 */
	return p[-4] == 0x01 && p[-3] == 0x00 && p[-2] == 0x00 && p[-1] == 0xd4;
#endif
}

void
gtf_hook_stop_here(const void *ucontext)
{
	uintptr_t	pc = program_counter(ucontext);

	if (code_begin == 0 || InterruptHoldoffCount > 0 || CritSectionCount > 0)
		return;
	if (!(pc >= code_begin && pc < code_end) && !is_behind_syscall(pc))
		return;
	sigprocmask(SIG_SETMASK, &BlockSig, NULL);
	ereport(FATAL,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("terminating gtf executor whose hook does not serve interrupts")));
}

#else

static void
set_code(const GtfHook *hook)
{
}

void
gtf_hook_stop_here(const void *ucontext)
{
}

#endif

const GtfHook *
gtf_hook_set_running(const GtfHook *hook)
{
	const GtfHook *before = running;

	running = hook;
	set_code(hook);
	return before;
}
