# What the documentation says is so: the examples of README.md and docs/ run and
# print what is printed below them, and its lists of functions, views and
# settings are those of the extension.
#
# A block that is not run is one of %not_run, which says why.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my @pages = ('README.md', map { s{^\Q$root\E/}{}r } sort glob("$root/docs/*.md"));
my %text = map { $_ => slurp_file("$root/$_") } @pages;

# ---- the tutorial of docs/c-tasks.md: its files, made and installed as it says

my $tutorial = "$PostgreSQL::Test::Utils::tmp_check/tutorial";
my ($pkglibdir) = map { chomp; $_ } scalar `pg_config --pkglibdir`;
my @files = $text{'docs/c-tasks.md'} =~ /^```\w+ file=(\S+)\n(.*?)^```$/gms;
my ($commands) = $text{'docs/c-tasks.md'} =~ /^```sh\n(make\n.*?)^```$/ms;

mkdir $tutorial;
while (my ($file, $content) = splice @files, 0, 2)
{
	append_to_file("$tutorial/$file", $content);
}
foreach my $command (split /\n/, $commands // '')
{
	my ($stdout, $stderr);

	# into a folder of ours, and no bitcode, for that needs clang
	$command =~ s/^sudo //;
	$command .= " -s -C $tutorial DESTDIR=$tutorial/root with_llvm=no";
	my $ok = run_log([ 'sh', '-c', "MAKEFLAGS= $command" ], '>', \$stdout, '2>', \$stderr);
	ok($ok && $stderr eq '', "the tutorial's $command") or diag $stderr;
}

my ($conf) = $text{'README.md'} =~ /^```ini\n(.*?)^```$/ms;
my $node = gtf_node('main', extension => 0,
	conf => "$conf\ndynamic_library_path = '\$libdir:$tutorial/root$pkglibdir'");

# ---- every block is an example that is run, or there is a reason

# by page and first line
my %not_run = (
	'README.md' => {
		'make demo ' => 'make test is what runs this; demo.pl runs the demo',
		'make' => 'that is how gtf got into this server',
	},
	'docs/c-tasks.md' => {
		'typedef void' => 'declarations: those of gtf.h, see below',
		'SPI_execute' => 'a line of a function; C that does so is in test/modules/gtf_example',
	},
	'docs/concepts.md' => { ' ' => 'a picture' },
	'docs/flower.md' => { 'DATA_SOURCE_NAME' => 'monitoring.pl starts the exporter like that' },
	'docs/operations.md' =>
	  { 'SELECT cron.schedule' => 'needs pg_cron: pg_cron.pl runs all calls of it in these pages' },
	'docs/psql.md' => { 'postgres=> :' => 'what a display looks like while tasks run; sql/console.sql has it' },
	'docs/sql-reference.md' => { 'gtf_' => 'signatures: compared with those of the extension, see below' });
my @unaccounted;
my %used;

foreach my $page (@pages)
{
	while ($text{$page} =~ /^```(\w*)( file=\S+)?\n(.*?)^```$/gms)
	{
		my ($language, $file, $content) = ($1, $2, $3);
		my ($line) = $content =~ /^(.*)/;

		next if $language =~ /^(sql|text|python|ini)$/ || defined $file;
		next if $language eq 'sh' && $page eq 'docs/c-tasks.md' && $content eq ($commands // '');
		my ($reason) = grep { $line =~ /^\Q$_\E/ } sort { $b cmp $a } keys %{ $not_run{$page} // {} };
		push @unaccounted, "$page: $line" if !defined $reason;
		$used{"$page: $reason"} = 1 if defined $reason;
	}
}
is(join("\n", @unaccounted), '', 'every block is run, or said why not');
is(join("\n", grep { !$used{$_} } map { my $page = $_; map { "$page: $_" } sort keys %{ $not_run{$page} } } sort keys %not_run),
	'', 'and no block is meant that is not there');

my ($declarations) = $text{'docs/c-tasks.md'} =~ /^```\n(typedef .*?)^```$/ms;
my $header = slurp_file("$root/src/gtf.h") =~ s/\s+/ /gr;
foreach my $declaration (split /\n/, $declarations)
{
	my $wanted = $declaration =~ s/;$//r;

	like($header, qr/\Q$wanted\E/, "gtf.h has $wanted");
}

# ---- examples

# A page's ```sql blocks as one script, in which every line has the number it
# has in the page, so that psql's messages name lines of the page.  Returns the
# script and, by line number, the ```text below a block.
sub examples
{
	my ($page) = @_;
	my ($block, $last, @script, %expected) = ('', 0);
	my $n = 0;

	foreach my $line (split /\n/, $text{$page})
	{
		$n++;
		if ($line =~ /^```(\w*)(?: file=\S+)?$/)
		{
			# the line of a fence is free to say where the output belongs
			push @script, $1 eq 'sql' ? "\\echo == $n" : $block eq 'sql' ? '\echo ==' : '';
			# what is printed below a block of another language is none of ours
			$last = $1 eq 'sql' ? $n : 0 if $block eq '' && $1 ne 'text';
			$expected{$last} = '' if $1 eq 'text' && $last;
			$block = $block eq '' ? $1 || 'plain' : '';
			next;
		}
		push @script, $block eq 'sql' ? $line : '';
		$expected{$last} .= "$line\n" if $block eq 'text' && $last;
	}
	return (join("\n", @script) . "\n", %expected);
}

sub tidy
{
	return join "\n", grep { $_ ne '' } map { s/\s+$//r } split /\n/, shift;
}

# A page's ```python blocks, each as a program of its own that prints what is
# in the ```text below it, if anything is.
sub python
{
	my ($page, $db) = @_;
	my @programs = $text{$page} =~ /^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/gms;
	my ($python) = grep { system("$_ -c 'import psycopg' >/dev/null 2>&1") == 0 } 'python3', '/usr/bin/python3';

	while (my ($program, $expected) = splice @programs, 0, 2)
	{
		my $file = "$PostgreSQL::Test::Utils::tmp_check/$db.py";
		my ($stdout, $stderr);

	  SKIP:
		{
			skip "python3 with psycopg (python3-psycopg) is not installed", 2 if !defined $python;
			# the server and database of the test
			local $ENV{PGHOST} = $node->host;
			local $ENV{PGPORT} = $node->port;
			# the database has none, and psycopg gives bytes then
			local $ENV{PGCLIENTENCODING} = 'UTF8';
			unlink $file;
			append_to_file($file, $program =~ s/"dbname=\w+"/"dbname=$db"/r);
			my $ok = run_log([ $python, $file ], '>', \$stdout, '2>', \$stderr);
			ok($ok && $stderr eq '', "Python of $page runs") or diag $stderr;
			is($stdout, $expected, "and prints what it should");
		}
	}
}

foreach my $page (@pages)
{
	my $db = lc($page =~ s/\W+/_/gr);
	my ($script, %expected) = examples($page);
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$db.sql";
	my ($stdout, $stderr);

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	# the first page tells the reader to do it
	$node->safe_psql($db, 'CREATE EXTENSION gtf') if $page ne 'README.md';
	append_to_file($file, $script);
	my $ok = run_log(
		[
			'psql', '-XqP', 'pager=off', '-v', 'ON_ERROR_STOP=1',
			'-d', $node->connstr($db), '-f', $file
		],
		'>', \$stdout, '2>', \$stderr);
	ok($ok && $stderr eq '', "examples of $page run") or diag $stderr;

	my %output = $stdout =~ /^== (\d+)\n(.*?)^==\n/gms;
	foreach my $line (sort { $a <=> $b } keys %expected)
	{
		# what a block prints ends with the text below it
		my $shown = tidy($expected{$line});
		my $got = tidy($output{$line} // '');

		is(substr($got, -length($shown)), $shown,
			"example in line $line of $page prints what it should");
	}
	python($page, $db);
	# there may be more pages than databases that can run tasks
	$node->safe_psql('postgres', "DROP DATABASE $db") if $page ne 'README.md';
}

# ---- lists

# "first cell | second | ..." of the table rows below a heading
sub rows
{
	my ($page, $heading) = @_;
	my ($section) = $text{$page} =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms
	  or return;

	return grep { !/^[- |]*$/ } $section =~ /^\| (.*) \|$/gm;
}

my $db = 'readme_md';

# Every function in a section of its own, with its signature in every form.
my $signatures = $node->safe_psql(
	$db, q{
	SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' ||
		coalesce(' RETURNS ' || pg_get_function_result(p.oid), '')
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
		JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'gtf' AND p.proname LIKE 'gtf\_%' ORDER BY 1});

# As one writes it: no casts of defaults, short names of types.
sub normalise
{
	my ($signature) = @_;

	$signature =~ s/::[a-z ]+(\[\])?//g;
	$signature =~ s/timestamp with time zone/timestamptz/g;
	$signature =~ s/'00:00:01'/'1 s'/g;
	$signature =~ s/\bIN (\w+ )/$1/g;
	return $signature =~ s/\s+/ /gr =~ s/ $//r;
}

my %documented = $text{'docs/sql-reference.md'} =~ /^### (gtf_\w+)\n\n```\n(.*?)^```/gms;
my %functions;
foreach my $signature (map { normalise($_) } split /\n/, $signatures)
{
	my ($name) = $signature =~ /^(\w+)/;

	$functions{$name} = 1;
	ok( (grep { $_ eq $signature }
			map { normalise($_) } split /\n(?=\S)/, ($documented{$name} // '')),
		"docs/sql-reference.md has $signature");
	like($text{'README.md'}, qr/^\|.*`[^`]*\b$name\(/m, "README.md has $name");
}
is(join(' ', grep { !$functions{$_} } sort keys %documented),
	'', 'no function is documented that does not exist');

# Every view with its columns, in order.
foreach my $view (
	split /\n/, $node->safe_psql($db,
		q{SELECT relname FROM pg_class WHERE relnamespace = 'gtf'::regnamespace AND relkind = 'v' ORDER BY 1}
	))
{
	my $columns = $node->safe_psql(
		$db, qq{
		SELECT string_agg('`' || attname || '` | ' ||
			replace(format_type(atttypid, NULL), 'timestamp with time zone', 'timestamptz'), ', ' ORDER BY attnum)
		FROM pg_attribute WHERE attrelid = 'gtf.$view'::regclass AND attnum > 0});
	my @rows = rows('docs/sql-reference.md', "gtf.$view");
	shift @rows;
	is(join(', ', map { /^(`\w+` \| [^|]*[^| ])/ } @rows),
		$columns, "docs/sql-reference.md has gtf.$view");

	my ($row) = $text{'README.md'} =~ /^\| `gtf\.$view` \| (.*) \|$/m;
	is($row, $columns =~ s/ \| [^,]*//gr, "README.md has gtf.$view");
}

# Every setting with its default and who may set it.
my $settings = $node->safe_psql(
	$db, q{
	SELECT string_agg(format('`%s` | `%s` | %s', name,
			coalesce(nullif(current_setting(name), ''), $$''$$),
			CASE context WHEN 'user' THEN 'any role' WHEN 'sighup' THEN 'reload'
				WHEN 'postmaster' THEN 'start' ELSE context END),
		E'\n' ORDER BY name)
	FROM pg_settings WHERE name LIKE 'gtf.%'});
is( join("\n",
		map { /^(`gtf\.\w+` \| `[^`]*` \| [^|]*[^| ])/ } rows('docs/configuration.md', 'Configuration')),
	$settings, 'docs/configuration.md has every setting');

my %in_readme;
foreach ($text{'README.md'} =~ /^\| (`gtf\.\w+`.*) \|$/gm)
{
	my ($names, $defaults) = split / \| /;
	my @names = $names =~ /`(gtf\.\w+)`/g;
	my @defaults = map { s/`//gr } split /, /, $defaults;

	# one default for several names
	@defaults = ($defaults[0]) x @names if @defaults == 1;
	@in_readme{@names} = @defaults if @names == @defaults;
}
foreach (split /\n/, $settings)
{
	my ($name, $default) = /^`(.*?)` \| `(.*?)`/;

	is($in_readme{$name}, $default, "README.md has $name");
}

# ---- links

my @broken;
foreach my $page (@pages, 'CHANGELOG.md')
{
	my $text = slurp_file("$root/$page");
	my ($dir) = $page =~ m{^(.*/)?};
	$dir //= '';

	foreach my $link ($text =~ /\]\((?!https?:)([^)]*)\)/g)
	{
		my ($file, $anchor) = $link =~ /^([^#]*)#?(.*)/;
		my $target = $file eq '' ? "$root/$page" : "$root/$dir$file";

		if (!-e $target)
		{
			push @broken, "$page: $link";
		}
		elsif ($anchor ne '')
		{
			# GitHub's anchors
			my @anchors = map { lc s/[^\w -]//gr =~ s/ /-/gr } slurp_file($target) =~ /^#+ (.*)$/gm;
			push @broken, "$page: $link" if !grep { $_ eq $anchor } @anchors;
		}
	}
}
is(join("\n", @broken), '', 'links lead somewhere');

done_testing();
