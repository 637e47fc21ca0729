#!/bin/sh
# Like the official image's entry point: makes a database if there is none, then is the server. Other commands are run.
set -e
case ${1:-postgres} in
postgres) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
mkdir -p "$PGDATA" /var/run/postgresql
chown postgres: "$PGDATA" /var/run/postgresql
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    as_postgres initdb --pgdata "$PGDATA" --username postgres --auth trust --encoding UTF8 --no-locale >/dev/null
    echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$PGDATA" -c listen_addresses='*' "$@"
