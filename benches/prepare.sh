#!/usr/bin/env bash
# Makes the data and fetches the programs that `cargo xtask bench` measures with. What is there is kept.
#
# usage: prepare.sh DIR linux|postgres|restic|borg|rustic...
#   DIR/corpora/linux/{old,new}            two point releases of the Linux 6.12 sources, from Debian's packages
#   DIR/corpora/postgres/{v1,v1000}        a PostgreSQL data directory before and after 1,000 pgbench transactions
#   DIR/peers/bin/{restic,borg,rustic}     restic from Debian sid, borg from PyPI, rustic from crates.io
#
# Must stay true: the mirror is the one of the machine's own apt configuration; nothing is installed into the system;
# what is half made has another name than what is whole.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd); shift
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
  local home=$dir/corpora/postgres live bin sockets
  [ -d "$home/v1000" ] && return
  bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  live=$home/live; sockets=$(mktemp -d)
  [ "$(id -u)" != 0 ] || chown postgres "$home" "$sockets"
  start() {
    as_postgres "$bin/pg_ctl" -D "$live" -l "$sockets/log" -w start \
      -o "-k $sockets -c listen_addresses= -c max_wal_size=256MB -c shared_buffers=512MB" >/dev/null
  }
  stop() { as_postgres "$bin/pg_ctl" -D "$live" -m fast -w stop >/dev/null; }
  if [ ! -d "$home/v1" ]; then
    rm -rf "$live"; as_postgres "$bin/initdb" -U postgres -D "$live" >/dev/null
    start; as_postgres "$bin/pgbench" -h "$sockets" -U postgres -i -s 60 -q postgres 2>/dev/null; stop
    mv "$live" "$home/v1"
  fi
  rm -rf "$live"; cp -a "$home/v1" "$live"
  start; as_postgres "$bin/pgbench" -h "$sockets" -U postgres -t 250 -c 4 -n postgres >/dev/null 2>&1; stop
  mv "$live" "$home/v1000"; rm -rf "$sockets"
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
  restic | borg | rustic) peer "$what" ;;
  *) echo "nothing is called $what" >&2; exit 2 ;;
  esac
done
