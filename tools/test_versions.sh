#!/usr/bin/env bash
#
# test_versions.sh - make test-versions: the newer PostgreSQLs
#
# They come from Debian's newer suites, installed into a directory of their own
# that is thrown away afterwards.  17 must be there, and gets every suite; 18 is
# tested when the archive has it, without the TAP tests: make test-debug has all
# of them run on 18.  GTF_SUITES names the suites for both.  T and KEEP as in
# test.sh; GTF_CACHE=folder keeps the Debian tree there for the next run.

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

OLD=15
MANDATORY=17
OPTIONAL=(18)

need_packages mmdebstrap git util-linux
make_work

root=${GTF_CACHE:-$WORK}/debian
mirror=$(debian_mirror Debian)
security=$(debian_mirror Debian-Security)
[[ -n $mirror ]] || die "apt knows no Debian archive"

# How this machine reaches the archive (proxy) and how fresh it wants it.
apt-config dump | grep -E '^Acquire::(https?|ForceIPv[46]|Retries|Check-Date|Check-Valid-Until)\b' \
    >"$WORK/tmp/apt.conf" || true

# Runs in the new tree.  Packages of the optional versions may be missing or
# not installable today; that must not cost the others.
# shellcheck disable=SC2016 # expanded by the inner shell
INSTALL='
    export DEBIAN_FRONTEND=noninteractive
    for v in "$@"; do
        apt-get -q -y install --no-install-recommends postgresql-$v &&
            # its headers only: the package wants clang, which we do not
            cd /tmp && apt-get -q download postgresql-server-dev-$v &&
            dpkg -x postgresql-server-dev-$v*.deb / || echo "PostgreSQL $v cannot be installed"
    done'

# shellcheck disable=SC2016 # expanded by the hooks' shells
debian_tree() { # SUITE...
    local s sources=()

    for s in "$@"; do
        sources+=("deb $mirror $s main")
        if [[ $s == trixie && -n $security ]]; then
            sources+=("deb $security $s-security main")
        fi
    done
    as_root rm -rf --one-file-system "$root"
    job_as_root mmdebstrap --quiet --mode=root --variant=apt --format=directory \
        --aptopt="$WORK/tmp/apt.conf" --aptopt='Acquire::Languages "none"' \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt=force-confold \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include=gcc,make,libc6-dev,libipc-run-perl \
        --setup-hook='mkdir -p "$1/etc/postgresql-common"' \
        --setup-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
        --customize-hook="echo '$ACCOUNT:x:$ACCOUNT_UID:$ACCOUNT_UID::/nonexistent:/bin/sh' >>\"\$1/etc/passwd\"" \
        --customize-hook="echo '$ACCOUNT:x:$ACCOUNT_UID:' >>\"\$1/etc/group\"" \
        --customize-hook="chroot \"\$1\" sh -c '$INSTALL' sh $MANDATORY ${OPTIONAL[*]}" \
        "$1" "$root" "${sources[@]}" </dev/null >"$WORK/tmp/mmdebstrap.log" 2>&1 &&
        has $MANDATORY
}

has() { [[ -x $root/usr/lib/postgresql/$1/bin/postgres ]]; }

if ! has $MANDATORY; then
    say "making a Debian tree with PostgreSQL $MANDATORY ${OPTIONAL[*]}"
    # Debian's next release may be broken on a given day; the stable one is not.
    debian_tree forky trixie || {
        tail -n 20 "$WORK/tmp/mmdebstrap.log"
        say "that failed; trying with the stable suite alone"
        debian_tree trixie
    } || {
        tail -n 40 "$WORK/tmp/mmdebstrap.log"
        die "no Debian tree with PostgreSQL $MANDATORY"
    }
fi

# pg_upgrade is tested from the version that the machine has: a copy of it, with
# the libraries that the tree does not have.
old_install() { # VERSION DEST
    local bin lib

    need_server "$1"
    copy_tree "$WORK/src$1"
    make_prefix "$1" "$2"
    build_install "$WORK/src$1"
    for bin in postgres psql pg_dump initdb; do
        ldd "$PGBIN/$bin"
    done | awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u |
        while read -r lib; do
            [[ -n $(find "$root/usr/lib" -name "$(basename "$lib")" -print -quit) ]] ||
                as_account cp -L "$lib" "$PGBIN/../lib/"
        done
    old=$(dirname "$PGBIN")
}

old_install $OLD "$WORK/px$OLD"

for v in $MANDATORY "${OPTIONAL[@]}"; do
    if ! has "$v"; then
        say "PostgreSQL $v: skipped, the archive does not have it"
        continue
    fi
    copy_tree "$WORK/$v"
    # not every minor release can be upgraded to every other one
    # shellcheck disable=SC2034 # as_account_in passes on what begins with GTF_
    if [[ $v == "$MANDATORY" ]]; then
        GTF_OLD_INSTALL=$old
        suites='regress isolation tap'
    else
        GTF_OLD_INSTALL=
        suites='regress isolation'
    fi
    GTF_RESULT=$WORK/tmp/result GTF_SUITES=${GTF_SUITES:-$suites} \
        as_account_in "$root" "$WORK/$v/tools/suites.sh" "$WORK/$v" "$v" ||
        record 0 1 # it did not get through
done

print_totals
