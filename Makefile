# gtf - Global Task Framework for PostgreSQL
#
# Two kinds of goals.  The project's own goals, below, are run by scripts that
# fetch what they need and work in a private copy; they work on a machine with
# nothing installed, so they must not depend on PGXS.  Every other goal (all,
# install, installcheck, clean, ...) is PGXS's and needs the server's headers.

OWN_GOALS = help test check test-versions test-debug demo demo-stop bench \
	indent indent-check

ifneq ($(filter $(OWN_GOALS),$(MAKECMDGOALS)),)

# Everything here is a script's name; there is also a directory called test.
.PHONY: $(OWN_GOALS)

export T

help:           ## this list
	@echo 'Build and install into the PostgreSQL that PG_CONFIG names:'
	@echo '  make && make install && make installcheck   (the last: running server that preloads gtf)'
	@echo
	@echo 'Self-contained: works in a copy, installs missing Debian packages and says which.'
	@echo 'KEEP=1 leaves the work folder behind, T=word tests only the files named *word*:'
	@sed -n 's/^\([a-z-]*\): *## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS="$$(printf '\t')" read -r goal text; do \
			printf '  make %-15s%s\n' "$$goal" "$$text"; \
		done

# exec: a signal that make passes on must reach the script, not a shell
demo:           ## build gtf, start a private server and show tasks running
	@exec tools/demo.sh

demo-stop:      ## stop the server that make demo left running
	@exec tools/demo.sh stop

test:           ## every suite on PostgreSQL 15
	@exec tools/test.sh

test-versions:  ## every suite on PostgreSQL 17, regress and isolation on 18, in a throw-away Debian tree
	@exec tools/test_versions.sh

test-debug:     ## PostgreSQL 18 with assertions: suites under ASAN and UBSAN, then valgrind
	@exec tools/test_debug.sh

bench:          ## throughput and latency on a private server
	@exec tools/bench.sh

indent:         ## lay the C files out as PostgreSQL does
	@exec tools/indent.sh

indent-check:   ## fail where make indent would change something
	@exec tools/indent.sh --check

# PGXS has a check goal that runs nothing and succeeds; nobody shall trust it.
check: test

else

EXTENSION = gtf
MODULE_big = gtf
PGFILEDESC = "gtf - background tasks inside the server"
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" gtf.control)

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
# for tasks in C; it goes to .../include/server/extension/gtf/
HEADERS_gtf = src/gtf.h

# schema/gtf.sql is always the whole current SQL surface; what is installed
# under the current version is a copy.  Upgrade steps are frozen files.
DATA_built = schema/gtf--$(EXTVERSION).sql
DATA = $(sort $(wildcard schema/gtf--*--*.sql))

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=test/output_iso

# The TAP tests start servers of their own and need IPC::Run; without it
# installcheck still runs the other two suites.
ifeq ($(shell perl -MIPC::Run -e 'print "yes"' 2>/dev/null),yes)
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
endif
installcheck: export TEMP_CONFIG = $(abspath test/gtf.conf)

EXTRA_CLEAN = src/errcodes_table.h test/output_iso

# A task's body is never inlined into a query: bitcode would only make every
# build need clang.  `make with_llvm=yes` still builds it.
ifeq ($(origin with_llvm),undefined)
override with_llvm = no
endif

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)

# The server's headers are system headers, so that every warning is ours.
# -Werror comes from the test scripts only (COPT=-Werror): a newer compiler
# must not stop a user.
PG_CPPFLAGS = '-DGTF_VERSION="$(EXTVERSION)"' -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-clobbered

include $(PGXS)

schema/gtf--$(EXTVERSION).sql: schema/gtf.sql gtf.control
	cp $< $@

# SQLSTATE -> condition name, from the server that is built against
ERRCODES = $(datadir)/errcodes.txt

src/errcodes_table.h: tools/gen_errcodes.pl $(ERRCODES)
	$(PERL) $^ > $@.tmp && mv $@.tmp $@

# Debian's PostgreSQL is configured without --enable-depend.
$(OBJS): $(wildcard src/*.h) src/errcodes_table.h

endif
