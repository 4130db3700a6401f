# shellcheck shell=bash
#
# lib.sh - what the scripts in tools/ share.  Source it, do not run it.
#
#   need_packages P...          install the Debian packages that are missing
#   pick_account                who runs servers: sets ACCOUNT, ACCOUNT_UID
#   make_work                   private folder: sets WORK, removed on exit
#   keep_work                   leave WORK and its servers alone on exit
#   adopt_work DIR              take over a folder that keep_work left
#   copy_tree DEST              this source tree, without what git ignores
#   make_prefix VERSION DEST    private copy of an installed PostgreSQL: sets
#                               PG_CONFIG, PGBIN
#   fetch_source VERSION DEST   the source of a PostgreSQL, from Debian
#   own_folder DIR              make a folder that belongs to ACCOUNT
#   use_prefix PG_CONFIG        work with another PostgreSQL: sets the same
#   build_install SRC [VAR=VALUE...]
#                               make and install into PG_CONFIG's PostgreSQL,
#                               with -Werror unless a COPT is given; then the
#                               test modules
#   init_cluster DIR [CONF...]  initdb, then append the files to postgresql.conf;
#                               DIR is below WORK, its socket in DIR.s
#   start_cluster DIR [PORT]    sets and exports PGHOST, PGPORT, PGUSER,
#                               PGDATABASE; a PORT also listens on 127.0.0.1;
#                               POSTGRES may name a wrapper of the binary
#   stop_cluster DIR [MODE]     pg_ctl stop
#   stop_servers DIR            end all servers below a folder, whatever it takes
#   as_account CMD...           run as ACCOUNT in a clean environment
#   as_account_in ROOT CMD...   the same in another root directory
#   as_root CMD...              through sudo, unless we are root
#   job_as_root CMD...          the same for what takes long: can be interrupted
#   run_suites SRC VERSION|PG_CONFIG
#                               build and test a copy
#   record PASSED FAILED        count a result that no suite counts
#   print_totals                the last line, and the exit status
#   say TEXT, die TEXT
#
# A script that sources this file runs the same as root, as an ordinary user,
# and inside a chroot.  All it starts lives below WORK, and all that lives
# below WORK is ended when it exits: nothing is ever found by name.

set -euo pipefail

# Whatever server the caller's environment names is none of ours, unless we are
# the caller (as_account).
if [[ -z ${GTF_WORK:-} ]]; then
    for _v in "${!PG@}"; do
        [[ $_v == PG_TEST_* || $_v == PGISOLATIONTIMEOUT ]] || unset "$_v"
    done
fi

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

WORK=
ACCOUNT=
ACCOUNT_UID=
PG_CONFIG=
PGBIN=
_JOB=           # process group of the running as_account

say() { printf '%s\n' "-- $*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

SUDO=()
((EUID == 0)) || SUDO=(sudo)

as_root() {
    ((EUID == 0)) || command -v sudo >/dev/null || die "this needs root, or sudo: $*"
    "${SUDO[@]}" "$@"
}

# ---------------------------------------------------------------- packages

need_packages() {
    local p missing=()

    for p in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) == installed ]] ||
            missing+=("$p")
    done
    ((${#missing[@]})) || return 0

    command -v apt-get >/dev/null ||
        die "please install: ${missing[*]} (this script can do it on Debian only)"
    say "installing: ${missing[*]}"
    # Other package runs on the machine are waited for, not failed on.
    as_root apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
        install --no-install-recommends "${missing[@]}" >/dev/null </dev/null
}

# A program of a package that shall not be installed, for that would start it.
unpack_package() { # PACKAGE DEST
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_account sh -ec '
        mkdir -p "$2"
        cd "$2"
        apt-get -q download "$1" >/dev/null
        dpkg -x "$1"_*.deb .' sh "$1" "$2" 2>/dev/null
}

need_server() { # VERSION
    need_packages gcc make libc6-dev binutils perl git "postgresql-$1" \
        "postgresql-client-$1" "postgresql-server-dev-$1" libipc-run-perl
}

# The address of the Debian archive that the machine itself uses, so that no
# file here names one.
debian_mirror() { # LABEL, as in the archive's Release files: Debian, Debian-Security
    local mirrors

    list() {
        # shellcheck disable=SC2016 # apt's variables
        apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
            awk -v label="$1" '$1 == label { print $2; exit }'
    }
    mirrors=$(list "$1")
    if [[ -z $mirrors ]]; then # the lists were never fetched
        as_root apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null
        mirrors=$(list "$1")
    fi
    echo "$mirrors"
}

# ---------------------------------------------------------------- account

# PostgreSQL refuses to run as root.  Root gets an account of its own, not
# "postgres": other servers of the machine run under that.  The uid is fixed
# so that a chroot can have the same one.
pick_account() {
    if ((EUID != 0)); then
        ACCOUNT=$(id -un)
        ACCOUNT_UID=$EUID
        return
    fi
    ACCOUNT=gtftest
    if ! id "$ACCOUNT" >/dev/null 2>&1; then
        say "adding the account $ACCOUNT"
        useradd -u 4242 -M -d /nonexistent -s /usr/sbin/nologin "$ACCOUNT"
    fi
    ACCOUNT_UID=$(id -u "$ACCOUNT")
}

# Runs a command in a process group of its own, in the background, because bash
# acts on a signal only between foreground commands and in wait: this way Ctrl-C
# and TERM are obeyed at once, and the whole group can be ended.
_job() {
    local rc=0

    # cd: the account may not be allowed into the folder we were called from
    (cd "${WORK:-/}" && exec setsid "$@") <&0 &
    _JOB=$!
    wait "$_JOB" || rc=$?
    _JOB=
    return "$rc"
}

job_as_root() {
    as_root true
    _job "${SUDO[@]}" "$@"
}

# Sets clean_env to the command that starts another with our environment only.
_set_clean_env() {
    local v

    clean_env=(env -i
        "--default-signal=INT,QUIT" # bash ignores both for background commands
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
        HOME="${WORK:-/}" TMPDIR="${WORK:-/var}/tmp" GTF_WORK="$WORK"
        USER="$ACCOUNT" LOGNAME="$ACCOUNT" LC_ALL=C.UTF-8 TERM=dumb)
    for v in CI T KEEP "${!PG@}" "${!GTF_@}"; do
        [[ $v == GTF_WORK || -z ${!v:-} ]] || clean_env+=("$v=${!v}")
    done
}

as_account() {
    local clean_env prefix=()

    _set_clean_env
    ((EUID != 0)) || prefix=(runuser -u "$ACCOUNT" --)
    _job "${prefix[@]}" "${clean_env[@]}" "$@"
}

# The same inside another root directory, which sees our work folder at the
# same path.  All is undone by the kernel when the command ends: the mounts are
# in a name space of their own, and so are the processes, none survives.
as_account_in() { # ROOT-DIR CMD...
    local clean_env root=$1

    shift
    _set_clean_env
    # shellcheck disable=SC2016 # expanded by the inner shell
    job_as_root unshare --mount --pid --fork --kill-child --propagation private \
        bash -ec '
            root=$1 work=$2 user=$3
            shift 3
            mount -t proc proc "$root/proc"
            for d in null zero full random urandom; do
                touch "$root/dev/$d"
                mount --bind "/dev/$d" "$root/dev/$d"
            done
            mkdir -p "$root/dev/shm" "$root$work"
            mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
            mount --bind "$work" "$root$work"
            exec chroot --userspec="$user" "$root" "$@"' \
        bash "$root" "$WORK" "$ACCOUNT_UID:$ACCOUNT_UID" "${clean_env[@]}" "$@"
}

# ---------------------------------------------------------------- work folder

# In /var/tmp: big enough, the same on every machine, and short, because the
# path of a Unix socket has at most 107 bytes.
make_work() {
    [[ -n $ACCOUNT ]] || pick_account
    WORK=$(mktemp -d /var/tmp/gtf.XXXXXX)
    _guard_work
    mkdir "$WORK/tmp"
    touch "$WORK/tmp/result"
    ((EUID != 0)) || chown -R "$ACCOUNT:" "$WORK"
}

adopt_work() {
    [[ -n $ACCOUNT ]] || pick_account
    [[ $1 =~ ^/var/tmp/gtf\.[A-Za-z0-9]+$ && -d $1 && ! -L $1 ]] || die "not a work folder: $1"
    [[ $(stat -c %u "$1") == "$ACCOUNT_UID" ]] || die "not $ACCOUNT's: $1"
    WORK=$1
    _guard_work
}

_guard_work() {
    trap _cleanup EXIT
    # An EXIT trap alone is not run for a signal that arrives during wait.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

keep_work() {
    trap - EXIT HUP INT TERM
}

_cleanup() {
    local rc=$?

    trap '' HUP INT TERM # a second Ctrl-C must not interrupt this
    set +e
    if [[ -n $_JOB ]]; then # it may belong to root, through sudo
        kill -TERM -- "-$_JOB" 2>/dev/null || as_root kill -TERM -- "-$_JOB"
    fi
    # subshells of the calling script first: they would go on otherwise
    jobs -p | xargs -r kill -TERM 2>/dev/null
    _signal TERM other "$WORK"
    stop_servers "$WORK"
    _signal KILL other "$WORK"
    if [[ ${KEEP:-} == 1 ]]; then
        say "kept: $WORK"
    else
        rm -rf --one-file-system "$WORK" 2>/dev/null ||
            as_root rm -rf --one-file-system "$WORK"
    fi
    exit "$rc"
}

# Prints "PID KIND" for what runs below a folder.  KIND is postmaster, backend
# (any other process with a data directory below DIR as its working directory;
# PostgreSQL overwrites its environment), or other (started by as_account).
_processes() { # DIR
    perl -Mstrict -we '
        my $dir = shift;
        foreach my $proc (glob "/proc/[0-9]*")
        {
            my ($pid) = $proc =~ /(\d+)$/;
            my $cwd = readlink("$proc/cwd") // next;
            if ($cwd =~ m{^\Q$dir\E/} && -f "$cwd/PG_VERSION")
            {
                my $in;
                my $pidfile = open($in, "<", "$cwd/postmaster.pid") ? <$in> : undef;
                print "$pid ", ($pidfile // "") eq "$pid\n" ? "postmaster\n" : "backend\n";
            }
            elsif (open(my $in, "<", "$proc/environ"))
            {
                local $/ = "\0";
                print "$pid other\n" if grep { $_ eq "GTF_WORK=$dir\0" } <$in>;
            }
        }' "$1"
}

# Succeeds when there was something to signal.
_signal() { # SIGNAL KIND DIR
    local pid kind found=1

    while read -r pid kind; do
        [[ $kind == "$2" ]] || continue
        kill "-$1" "$pid" 2>/dev/null && found=0
    done < <(_processes "$3")
    return "$found"
}

# Ends the servers below a folder, in their own way first, so that they take
# their shared memory with them.  An immediate shutdown takes up to 5 s when a
# process does not react; whatever is left after that is killed.
stop_servers() { # DIR
    local i

    _signal QUIT postmaster "$1" || true
    for i in {1..40}; do
        _processes "$1" | grep -q 'postmaster\|backend' || return 0
        if ((i > 30)); then
            _signal KILL postmaster "$1" || true
            _signal KILL backend "$1" || true
        fi
        sleep 0.2
    done
}

# ---------------------------------------------------------------- the tree

copy_tree() { # DEST
    # -c: root may look into a clone that belongs to somebody else
    local git=(git -c safe.directory="$ROOT" -C "$ROOT")

    as_account mkdir -p "$1"
    if [[ $("${git[@]}" rev-parse --show-toplevel 2>/dev/null) == "$ROOT" ]]; then
        "${git[@]}" ls-files -z -co --exclude-standard |
            while IFS= read -r -d '' f; do # deleted files are listed too
                [[ ! -e $ROOT/$f && ! -L $ROOT/$f ]] || printf '%s\0' "$f"
            done | tar -C "$ROOT" --null -T - -cf -
    else
        tar -C "$ROOT" --exclude=./.git --exclude='*.o' --exclude='*.so' \
            --exclude='*.bc' --exclude=./src/errcodes_table.h \
            --exclude=results --exclude=log --exclude=tmp_check \
            --exclude=output_iso -cf - .
    fi | as_account tar -C "$1" -xf -
}

# ---------------------------------------------------------------- PostgreSQL

# Debian's source, checked by apt's signatures like any package.  With lists of
# our own: the machine's sources need not have any deb-src.
fetch_source() { # VERSION DEST
    local mirror apt=$WORK/apt

    need_packages bzip2 xz-utils
    mirror=$(debian_mirror Debian)
    [[ -n $mirror ]] || die "apt knows no Debian archive"
    own_folder "$2"
    as_account mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror forky main" |
        as_account tee "$apt/sources.list" >/dev/null
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_account sh -ec '
        apt=$1 dest=$2 package=postgresql-$3
        get() {
            apt-get -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
                -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" "$@" >/dev/null
        }
        cd "$apt"
        get update
        get source --download-only "$package"
        tar -C "$dest" --strip-components=1 -xf "$package"_*.orig.tar.*' sh "$apt" "$2" "$1"
}

# A folder that the account may write to, where it may not make one.
own_folder() { # DIR
    mkdir -p "$1"
    ((EUID != 0)) || chown "$ACCOUNT:" "$1"
}

use_prefix() { # PG_CONFIG
    PG_CONFIG=$1
    PGBIN=$("$PG_CONFIG" --bindir)
}

# PostgreSQL finds its files relative to its binaries, so a copy is a full
# installation that we may install into without touching the machine's.
make_prefix() { # VERSION DEST
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_account sh -ec '
        lib=usr/lib/postgresql share=usr/share/postgresql inc=usr/include/postgresql
        mkdir -p "$2/$lib" "$2/$share" "$2/$inc"
        cp -a /$lib/$1 "$2/$lib/"             # a link would resolve back to /usr
        cp -aL /$share/$1 "$2/$share/"        # some dictionaries are links
        for i in /$inc/*; do
            case $i in
                */$1) cp -a "$i" "$2/$inc/" ;; # gtf.h goes here
                *) ln -s "$i" "$2/$inc/" ;;
            esac
        done' sh "$1" "$2"
    use_prefix "$2/usr/lib/postgresql/$1/bin/pg_config"
}

build_install() { # SRC [VAR=VALUE...]
    local dir src=$1

    shift
    set -- PG_CONFIG="$PG_CONFIG" COPT=-Werror "$@"
    for dir in "$src" "$src"/test/modules/*/; do
        [[ -e $dir/Makefile ]] || continue
        as_account make -s -C "$dir" -j "$(nproc)" "$@" all
        as_account make -s -C "$dir" "$@" install
    done
}

# Local connections are trusted: only we can enter the folder with the socket.
# TCP needs a password, and there is none unless GTF_PASSWORD is set.
init_cluster() { # DIR [CONF...]
    local dir=$1 password=()

    shift
    if [[ -n ${GTF_PASSWORD:-} ]]; then
        # shellcheck disable=SC2016 # expanded by the inner shell
        as_account sh -c 'umask 077; printf "%s\n" "$GTF_PASSWORD" >"$TMPDIR/password"'
        password=(--pwfile="$WORK/tmp/password")
    fi
    as_account mkdir "$dir.s"
    as_account "$PGBIN/initdb" -D "$dir" -U postgres -E UTF8 --no-sync \
        --auth-local=trust --auth-host=scram-sha-256 "${password[@]}" >/dev/null
    rm -f "$WORK/tmp/password"
    {
        printf "\nunix_socket_directories = '%s'\nlisten_addresses = ''\n" "$dir.s"
        cat "$@" </dev/null
    } | as_account tee -a "$dir/postgresql.conf" >/dev/null
}

start_cluster() { # DIR [PORT]
    local options="-p ${2:-5432}"

    [[ -z ${2:-} ]] || options+=" -h 127.0.0.1"
    # stdout and stderr: a server must not hold a pipe of ours open
    as_account "$PGBIN/pg_ctl" -D "$1" ${POSTGRES:+-p "$POSTGRES"} -l "$1.log" -o "$options" -w start >/dev/null || {
        tail -n 20 "$1.log" >&2
        die "the server did not start"
    }
    export PGHOST=$1.s PGPORT=${2:-5432} PGUSER=postgres PGDATABASE=postgres
}

stop_cluster() { # DIR [MODE]
    as_account "$PGBIN/pg_ctl" -D "$1" -m "${2:-fast}" -w stop >/dev/null
}

# ---------------------------------------------------------------- results

# What only a bug writes into a server's log, whatever the tests expected.
# shellcheck disable=SC2034 # used by those who source this
readonly BUG='TRAP: |PANIC: |detected write past chunk|Sanitizer: |runtime error: |(refcount|reference|snapshot) leak|resource was not closed'

# Runs tools/suites.sh of a copy; options as GTF_... variables, see there.
run_suites() { # SRC VERSION|PG_CONFIG
    GTF_RESULT=$WORK/tmp/result as_account "$1/tools/suites.sh" "$@" ||
        record 0 1 # it did not get through
}

record() { # PASSED FAILED
    echo "$1 $2" >>"$WORK/tmp/result"
}

# The line of totals, and success only if something ran and nothing failed.
# Under .ci/run, which prints one such line for all, it is kept for that.
print_totals() {
    local passed failed

    read -r passed failed < <(awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }' \
        "$WORK/tmp/result")
    if ((passed + failed == 0)); then
        echo "no test was executed${T:+: no test file is named *$T*}"
    fi
    if [[ -n ${GTF_TOTALS:-} ]]; then
        echo "$passed $failed" >>"$GTF_TOTALS"
        say "$(basename "$0"): $passed passed, $failed failed"
    else
        echo "$passed passed, $failed failed"
    fi
    ((passed > 0 && failed == 0))
}
