#!/usr/bin/env bash
#
# indent.sh - make indent: lay the C files out as PostgreSQL does, with its own
# indenter; make indent-check (--check): only show what would change, and fail
# if there is something.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION=15

need_server $VERSION
need_packages diffutils
make_work
copy_tree "$WORK/src"
make_prefix $VERSION "$WORK/pg"
build_install "$WORK/src"

# The indenter that PostgreSQL uses since 16; earlier ones differ.  Debian 12
# does not have it, but it needs little.
indent=${GTF_CACHE:-$WORK}/pg_bsd_indent-2.1.2
if [[ ! -x $indent ]]; then
    fetch_source 18 "$WORK/postgresql"
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_account sh -ec '
        cd "$1"
        gcc -O -w -D_GNU_SOURCE -Dpg_noreturn=_Noreturn -I. -I"$("$2" --includedir-server)" \
            *.c -L"$("$2" --pkglibdir)" -lpgcommon -lpgport -o pg_bsd_indent' \
        sh "$WORK/postgresql/src/tools/pg_bsd_indent" "$PG_CONFIG"
    cp "$WORK/postgresql/src/tools/pg_bsd_indent/pg_bsd_indent" "$indent"
fi

# The indenter must know the names of types.  The debug information has those
# that are used, PostgreSQL's too; the text has those that only we define.
# Left out, as by pgindent: names that are variables more often.
typedefs=$WORK/tmp/typedefs
{
    find "$WORK/src" -name '*.o' -exec objdump --dwarf=info {} + |
        awk '/DW_TAG_/ { typedef = /DW_TAG_typedef/ }
             typedef && /DW_AT_name/ { print $NF; typedef = 0 }'
    find "$WORK/src" -name '*.[ch]' -exec sed -nE \
        's/^\} ([A-Za-z_]\w*);.*/\1/p; s/^typedef .*\W([A-Za-z_]\w*);.*/\1/p; s/^typedef .*\(\*\s*(\w+)\) ?\(.*/\1/p' {} +
    echo bool
} | sort -u | grep -vxE 'FD_SET|LookupSet|boolean|date|duration|element_type|inquiry|iterator|other|pointer|reference|rep|string|timestamp|type|wrap' >"$typedefs"

# pg_bsd_indent with pgindent's options, and with what pgindent does before and
# after it.
lay_out() { # FILE
    perl -0777 -pe '
        s!^([ \t]*)//(.*)$!$1/* $2 */!gm;
        s!/\* +---!/*---X_X!g;
        s!(^#ifdef[ \t]+__cplusplus.*\nextern[ \t]+"C"[ \t]*\n)\{[ \t]*$!$1/* Open extern "C" */!gm;
        s!(^#ifdef[ \t]+__cplusplus.*\n)\}[ \t]*$!$1/* Close extern "C" */!gm;' "$1" |
        "$indent" -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 \
            -lp -lpl -nip -npro -sac -tpg -ts4 -U"$typedefs" |
        perl -0777 -pe '
        s!^/\* Open extern "C" \*/$!{!gm;
        s!^/\* Close extern "C" \*/$!}!gm;
        s!/\*---X_X!/* ---!g;
        s!\*/(/\*.*\*/)$!*/\t$1!gm;
        s!^([A-Za-z_]\S*)[ \t]+\*$!$1 *!gm;'
}

changed=0
shopt -s nullglob
cd "$ROOT"
for f in src/*.[ch] test/modules/*/*.[ch]; do
    [[ $f != src/errcodes_table.h ]] || continue
    lay_out "$f" >"$WORK/tmp/indented"
    [[ -s $WORK/tmp/indented ]] || die "the indenter gave nothing for $f"
    diff -u --label "$f" --label "$f, indented" "$f" "$WORK/tmp/indented" && continue
    changed=$((changed + 1))
    [[ ${1:-} == --check ]] || cat "$WORK/tmp/indented" >"$f"
done

if [[ ${1:-} == --check ]]; then
    say "$changed files to indent"
    ((changed == 0))
else
    say "$changed files changed"
fi
