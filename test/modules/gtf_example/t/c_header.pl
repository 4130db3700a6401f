# The header that is installed: the only one, and C++ as well as C.

use strict;
use warnings;
use File::Copy qw(copy);
use PostgreSQL::Test::Utils;
use Test::More;

my ($server) = map { chomp; $_ } scalar `pg_config --includedir-server`;
my $own = "$PostgreSQL::Test::Utils::tmp_check/include";

is(join(' ', sort grep { !/^\./ } slurp_dir("$server/extension/gtf")), 'gtf.h', 'what is installed');

# Not where warnings are suppressed, as in the server's headers.
mkdir $own;
mkdir "$own/extension";
mkdir "$own/extension/gtf";
copy("$server/extension/gtf/gtf.h", "$own/extension/gtf/gtf.h") or die $!;

my $code = <<'CODE';
#ifdef __cplusplus
extern "C" {
#endif
#include "postgres.h"
#ifdef __cplusplus
}
#endif
#include "extension/gtf/gtf.h"

static void
callback(GtfContext *context, void *arg)
{
	gtf_ctx_set_payload(context, (Jsonb *) arg);
}

void run(GtfContext *context);
void init(void);

void
run(GtfContext *context)
{
	GtfSubmitOptions options;
	pg_uuid_t	id;

	memset(&options, 0, sizeof(options));
	options.task_key = gtf_ctx_task(context)->task_key;
	gtf_ctx_on_abort(context, callback, gtf_ctx_payload(context));
	gtf_ctx_on_cleanup(context, callback, MemoryContextAlloc(gtf_ctx_memory(context), 1));
	gtf_ctx_submit(context, "type", gtf_ctx_args(context), &options, &id);
	gtf_ctx_check_abort(context);
	while (gtf_ctx_progress(context, 1, 2) && gtf_ctx_progress_count(context, 1) &&
		   gtf_ctx_progress_fraction(context, 0.5) && !gtf_ctx_is_aborting(context))
		gtf_ctx_sleep(context, 1);
	gtf_ctx_set_result(context, NULL);
}

void
init(void)
{
	gtf_register_hook("name", run, GTF_HOOK_ATOMIC | GTF_HOOK_POLL);
}
CODE

sub compiles
{
	my ($compiler, $name, @flags) = @_;
	my ($stdout, $stderr);

	append_to_file("$own/$name", $code);
	my $ok = run_log(
		[
			$compiler, @flags, '-fsyntax-only', '-Wall', '-Wextra', '-Wno-unused-parameter',
			'-D_GNU_SOURCE', "-I$own", '-isystem', $server, "$own/$name"
		],
		'>', \$stdout, '2>', \$stderr);
	ok($ok && $stderr eq '', "$compiler @flags compiles it without a warning") or diag $stderr;
}

compiles('cc', 'header.c', '-std=gnu99', '-Wdeclaration-after-statement', '-Wmissing-prototypes');
SKIP:
{
	my ($cxx) = grep { `sh -c 'command -v $_'` ne '' } qw(c++ g++ clang++);

	skip 'there is no C++ compiler', 2 if !defined $cxx;
	compiles($cxx, 'header11.cc', '-std=gnu++11');
	compiles($cxx, 'header17.cc', '-std=gnu++17');
}

done_testing();
