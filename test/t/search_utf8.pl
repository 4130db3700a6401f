# Limits and positions of searches are counted in characters, not in bytes.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use GtfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = gtf_node('main', extension => 0);
$node->safe_psql('postgres',
	q{CREATE DATABASE utf8 ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});
$node->safe_psql('utf8', 'CREATE EXTENSION gtf');

# what a search of these characters is, or what is wrong with it
sub parsed
{
	my ($search) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('utf8',
		"SET client_encoding = 'UTF8'; SELECT gtf_parse_search($search)");

	return $rc == 0 ? $stdout : $stderr =~ s/.*ERROR:  ([^\n]*).*/$1/sr;
}

is(parsed(q{U&'\00e4\00f6'}),
	'Search terms must contain at least 3 characters at position 0.',
	'two characters are too few');
is(parsed(q{U&'\00e4\00f6\00fc'}), "{\"field\": \"any\", \"value\": \"\xc3\xa4\xc3\xb6\xc3\xbc\"}", 'three are enough');
is( parsed(q{U&'\00e4\00f6\00fc \20ac\20ac\20ac OR'}),
	'OR must be followed by a search term at position 8.',
	'positions');
like(parsed(q{repeat(U&'\20ac', 2048)}), qr/^\{/, '2048 characters');
is(parsed(q{repeat(U&'\20ac', 2049)}),
	'Search query exceeds 2048 characters at position 2048.', 'and no more');

$node->stop;
done_testing();
