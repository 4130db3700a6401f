# pg_cron calls gtf_prune() and submits tasks, as the documentation shows.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', start => 0);
my $library = $node->config_data('--pkglibdir') . '/pg_cron.so';
plan skip_all => 'pg_cron is not installed (Debian: postgresql-15-cron)' if !-e $library;

# a client of pg_cron, and a background worker of it
for my $workers ('off', 'on')
{
	$node->append_conf(
		'postgresql.conf', qq{
shared_preload_libraries = 'pg_cron, gtf'
cron.host = '@{[ $node->host ]}'
cron.use_background_workers = $workers
});
	if ($workers eq 'off')
	{
		$node->start;
		$node->safe_psql('postgres', 'CREATE EXTENSION gtf; CREATE EXTENSION pg_cron');
		create_bodies($node);
		$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA cron TO app');
	}
	else
	{
		$node->restart;
		$node->safe_psql('postgres', 'TRUNCATE effects');
	}

	# what the documentation has is accepted; it runs at night
	my $documented = join "\n", map { slurp_file($_) } 'README.md', glob('docs/*.md');
	my %calls = map { $_ => 1 } $documented =~ /(SELECT cron\.schedule\('.*?\$\$\))/g;
	$node->safe_psql('postgres', join(';', sort keys %calls));
	is( $node->safe_psql('postgres', q{SELECT string_agg(jobname, ', ' ORDER BY jobname) FROM cron.job}),
		'nightly, prune gtf', 'the jobs of the documentation');
	$node->safe_psql('postgres', 'SELECT cron.unschedule(jobid) FROM cron.job');

	my @old = map { submit($node, q{'note'}) } 1 .. 3;
	my $kept = submit($node, q{'note', delay => '1 h'});
	is(ended($node, $_), 'success', 'an old task') for @old;

	# each minute, in the database of pg_cron
	$node->safe_psql('postgres', q{SELECT cron.schedule('prune gtf', '* * * * *', $$CALL gtf_prune('0')$$)});
	$node->safe_psql('postgres',
		q{SELECT cron.schedule('submit', '* * * * *', $$SELECT gtf_submit('note', '{"n": 1}')$$)},
		extra_params => [ '-U', 'app' ]);
	my $ids = join ',', map { "'$_'" } @old;
	local $PostgreSQL::Test::Utils::timeout_default = 90 + $PostgreSQL::Test::Utils::timeout_default;
	until_true($node, "SELECT count(*) = 0 FROM gtf.tasks WHERE id IN ($ids)");
	pass("gtf_prune() has removed them, background workers $workers");
	is(status($node, $kept), 'pending', 'and nothing else');
	until_true($node, q{SELECT count(*) > 0 FROM effects WHERE n = 1});
	is($node->safe_psql('postgres', 'SELECT DISTINCT who FROM effects WHERE n = 1'), 'app', 'a task was submitted and runs');
	until_true($node, q{SELECT count(*) > 1 FROM cron.job_run_details WHERE status = 'succeeded'});
	is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT return_message, '; ') FROM cron.job_run_details WHERE status = 'failed'}),
		'', 'no job has failed');
	$node->safe_psql('postgres', 'SELECT cron.unschedule(jobid) FROM cron.job; TRUNCATE cron.job_run_details');
	$node->safe_psql('postgres', "SELECT gtf_cancel('$kept')");
}
$node->stop;
done_testing();
