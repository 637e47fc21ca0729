#!/usr/bin/env bash
# Makes the data and fetches the programs that `cargo xtask bench` measures with. What is there is kept.
#
# usage: prepare.sh DIR linux|postgres|sqlite|innodb|bbolt|restic|borg|rustic...
#   DIR/corpora/linux/{old,new}            two point releases of the Linux 6.12 sources, from Debian's packages
#   DIR/corpora/postgres/{v1,v1000}        a PostgreSQL data directory before and after 1,000 pgbench transactions
#   DIR/corpora/{sqlite,innodb,bbolt}/{v1,v1000}   the same of SQLite, MariaDB (where mariadbd is) and etcd (where it is)
#   DIR/peers/bin/{restic,borg,rustic}     restic from Debian sid, borg from PyPI, rustic from crates.io
#
# Must stay true: the mirror is the one of the machine's own apt configuration; nothing is installed into the system;
# what is half made has another name than what is whole.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd); shift
# A server that outlives a failed script would hold whatever it inherited, locks included.
end_servers() {
  local running; running=$(jobs -p)
  [ -z "$running" ] || kill $running 2>/dev/null || true
  [ ! -f "${postgres_live:-}/postmaster.pid" ] || stop || true
  wait
}
trap end_servers EXIT
mkdir -p "$dir/corpora/linux" "$dir/corpora/postgres" "$dir/peers/bin"

# Fetches packages of a suite with a private apt state, and unpacks them without installing.
suite_packages() { # SUITE DIR PACKAGE...
  local suite=$1 to=$2 state mirror options package; shift 2
  mkdir -p "$to/.apt/lists/partial" "$to/.debs"
  state=$(cd "$to/.apt" && pwd)
  mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n '1p' || true)
  [ -n "$mirror" ] || { echo "no Debian mirror in /etc/apt" >&2; exit 1; }
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "$mirror" "$suite" >"$state/suite.sources"
  options=(-oDir::State::Lists="$state/lists" -oDir::Etc::SourceList="$state/suite.sources"
    -oDir::Etc::SourceParts=/dev/null -qq)
  apt-get "${options[@]}" update
  for package; do
    (cd "$to/.debs" && apt-get "${options[@]}" download "$package")
    dpkg -x "$(ls -t "$to/.debs/${package}"_*.deb | sed -n '1p')" "$to"
  done
}

# Two versions that the machine's own suites keep, ten point releases apart where there are such.
linux_trees() {
  local versions new old point
  [ -d "$dir/corpora/linux/new" ] && [ -d "$dir/corpora/linux/old" ] && return
  versions=$(apt-cache madison linux-source-6.12 | cut -d '|' -f 2 | tr -d ' ' | sort -Vru)
  new=$(sed -n '1p' <<<"$versions"); point=$(cut -d . -f 3 <<<"${new%%-*}")
  old=$(awk -F '[.-]' -v most=$((point - 10)) '$3 <= most' <<<"$versions" | sed -n '1p')
  [ -n "$old" ] || old=$(tail -n 1 <<<"$versions")
  [ "$old" != "$new" ] || { echo "apt knows one version of linux-source-6.12 only: '$new'" >&2; exit 1; }
  linux_tree "$old" old; linux_tree "$new" new
}

linux_tree() { # VERSION NAME
  local to=$dir/corpora/linux/$2
  [ -d "$to" ] && return
  rm -rf "$to.deb" "$to.part"; mkdir -p "$to.part" "$to.deb"
  (cd "$to.deb" && apt-get -qq download "linux-source-6.12=$1" && dpkg -x ./*.deb .)
  tar -xJf "$to.deb"/usr/src/linux-source-*.tar.xz -C "$to.part" --strip-components=1
  rm -rf "$to.deb"; mv "$to.part" "$to"
}

as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }

postgres_data() { # writes below corpora/postgres
  local home=$dir/corpora/postgres sockets
  [ -d "$home/v1000" ] && return
  postgres_bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  # The server's user may not enter the home folder of root, so it works in a folder of its own.
  sockets=$(mktemp -d); postgres_live=$sockets/live
  [ "$(id -u)" != 0 ] || chown postgres "$sockets"
  start() {
    as_postgres "$postgres_bin/pg_ctl" -D "$postgres_live" -l "$sockets/log" -w start \
      -o "-k $sockets -c listen_addresses= -c max_wal_size=256MB -c shared_buffers=512MB" >/dev/null
  }
  stop() { as_postgres "$postgres_bin/pg_ctl" -D "$postgres_live" -m fast -w stop >/dev/null; }
  if [ ! -d "$home/v1" ]; then
    rm -rf "$postgres_live"; as_postgres "$postgres_bin/initdb" -U postgres -D "$postgres_live" >/dev/null
    start; as_postgres "$postgres_bin/pgbench" -h "$sockets" -U postgres -i -s 60 -q postgres 2>/dev/null; stop
    mv "$postgres_live" "$home/v1"
  fi
  rm -rf "$postgres_live"; cp -a "$home/v1" "$postgres_live"
  start; as_postgres "$postgres_bin/pgbench" -h "$sockets" -U postgres -t 250 -c 4 -n postgres >/dev/null 2>&1; stop
  mv "$postgres_live" "$home/v1000"; rm -rf "$sockets"
}

# The other databases: before and after 1,000 small changes. Each changes rows that lie apart.
sqlite_data() {
  local home=$dir/corpora/sqlite
  [ -d "$home/v1000" ] && return
  rm -rf "$home"; mkdir -p "$home/v1" "$home/part"
  sqlite3 "$home/v1/app.db" "pragma journal_mode=off; create table t(id integer primary key, balance integer, filler text);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500000)
    insert into t select i, i % 1000, hex(randomblob(16)) || ' filler of some length that repeats' from n;
    create index t_balance on t(balance);"
  cp -a "$home/v1/app.db" "$home/part/"
  seq 1 1000 | sed 's/.*/update t set balance = balance + 1 where id = & * 1499;/' \
    | { echo 'begin;'; cat; echo 'commit;'; } | sqlite3 "$home/part/app.db"
  mv "$home/part" "$home/v1000"
}

innodb_data() {
  local home=$dir/corpora/innodb live run socket
  [ -d "$home/v1000" ] && return
  rm -rf "$home"; mkdir -p "$home"; live=$home/live; run=$(mktemp -d); socket=$run/socket
  start_mariadb() {
    mariadbd --no-defaults --user="$(id -un)" --datadir="$live" --socket="$socket" --skip-networking \
      --pid-file="$run/pid" >"$run/log" 2>&1 &
    for _ in $(seq 100); do mariadb-admin --no-defaults --socket="$socket" ping >/dev/null 2>&1 && return; sleep 0.2; done
    cat "$run/log" >&2; return 1
  }
  stop_mariadb() { mariadb-admin --no-defaults --socket="$socket" shutdown; wait; }
  sql() { mariadb --no-defaults --socket="$socket" "$@"; }
  mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$live" --auth-root-authentication-method=normal \
    >"$run/log" 2>&1
  start_mariadb
  sql -e "create database app; create table app.t(id int primary key, balance int, filler varchar(120)) engine=innodb;
    insert into app.t select seq, seq % 1000, concat(md5(rand()), ' filler of some length that repeats') from
    app.seq_1_to_1500000;"
  stop_mariadb; cp -a "$live" "$home/v1"; start_mariadb
  seq 1 1000 | sed 's/.*/update t set balance = balance + 1 where id = & * 1499;/' | sql app
  stop_mariadb; mv "$live" "$home/v1000"; rm -rf "$run"
}

bbolt_data() {
  local home=$dir/corpora/bbolt live run pid port=23790
  [ -d "$home/v1000" ] && return
  rm -rf "$home"; mkdir -p "$home"; live=$home/live; run=$(mktemp -d)
  start_etcd() {
    local client=http://127.0.0.1:$port member=http://127.0.0.1:$((port + 1))
    etcd --data-dir "$live" --listen-client-urls "$client" --advertise-client-urls "$client" \
      --listen-peer-urls "$member" --initial-advertise-peer-urls "$member" --initial-cluster "default=$member" \
      >"$run/log" 2>&1 &
    pid=$!
    for _ in $(seq 60); do put_keys 1 1 1 >/dev/null 2>&1 && return; sleep 0.2; done
    tail -n 5 "$run/log" >&2; return 1
  }
  put_keys() { # FIRST STEP LAST: a hundred in a transaction
    local from
    for ((from = $1; from <= $3; from += 100 * $2)); do
      seq "$from" "$2" "$(((from + 99 * $2) < $3 ? from + 99 * $2 : $3))" | awk -v seed="$RANDOM" '
        BEGIN { srand(seed); print "" }
        { printf "put /registry/key-%08d \"%d value that repeats in part %0200d\"\n", $1, rand() * 1e9, $1 }
        END { print "\n" }' \
        | ETCDCTL_API=3 timeout 10 etcdctl --endpoints "http://127.0.0.1:$port" txn >/dev/null || return 1
    done
  }
  start_etcd; put_keys 1 1 100000; kill "$pid"; wait "$pid" || true; cp -a "$live" "$home/v1"
  start_etcd; put_keys 1 97 97000; kill "$pid"; wait "$pid" || true; mv "$live" "$home/v1000"; rm -rf "$run"
}

peer() { # NAME
  local bin=$dir/peers/bin/$1
  [ -x "$bin" ] && return
  case $1 in
  restic) suite_packages sid "$dir/peers/restic" restic && ln -sf ../restic/usr/bin/restic "$bin" ;;
  borg)
    python3 -m venv "$dir/peers/borg"
    "$dir/peers/borg/bin/pip" -q install 'borgbackup>=1.4,<1.5' && ln -sf ../borg/bin/borg "$bin" ;;
  rustic) cargo install --quiet --locked --root "$dir/peers" rustic-rs ;;
  esac
  [ -x "$bin" ]
}

for what; do
  case $what in
  linux) linux_trees ;;
  postgres) postgres_data ;;
  sqlite) sqlite_data ;;
  innodb) innodb_data ;;
  bbolt) bbolt_data ;;
  restic | borg | rustic) peer "$what" ;;
  *) echo "nothing is called $what" >&2; exit 2 ;;
  esac
done
