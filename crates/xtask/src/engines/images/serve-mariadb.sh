#!/bin/sh
# Like the official image's entry point: makes a database if there is none, then is the server. Other commands are run.
set -e
case ${1:-mariadbd} in
mariadbd) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac
data=/var/lib/mysql
mkdir -p "$data" /run/mysqld
chown mysql: "$data" /run/mysqld
if [ ! -d "$data/mysql" ]; then
    mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal --skip-test-db >/dev/null
    if [ -n "$MARIADB_ROOT_PASSWORD" ]; then
        echo "ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';" >/run/mysqld/first.sql
        chown mysql: /run/mysqld/first.sql
        set -- --init-file=/run/mysqld/first.sql "$@"
    fi
fi
exec mariadbd --user=mysql --datadir="$data" --bind-address=0.0.0.0 "$@"
