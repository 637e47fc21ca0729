#!/bin/sh
# Like the official image's entry point: makes a database if there is none, then is the server. Other commands are run.
set -e
case ${1:-mysqld} in
mysqld) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac
data=/var/lib/mysql
getent passwd mysql >/dev/null || useradd --system --no-create-home --home-dir "$data" mysql
mkdir -p "$data" /run/mysqld /var/lib/mysql-files
chown mysql: "$data" /run/mysqld /var/lib/mysql-files
if [ ! -d "$data/mysql" ]; then
    mysqld --no-defaults --user=mysql --datadir="$data" --initialize-insecure
    if [ -n "$MYSQL_ROOT_PASSWORD" ]; then
        echo "ALTER USER root@localhost IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';" >/run/mysqld/first.sql
        chown mysql: /run/mysqld/first.sql
        set -- --init-file=/run/mysqld/first.sql "$@"
    fi
fi
exec mysqld --user=mysql --datadir="$data" --socket=/run/mysqld/mysqld.sock --bind-address=0.0.0.0 "$@"
