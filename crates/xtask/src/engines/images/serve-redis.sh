#!/bin/sh
# Like the official image's entry point: is the server, as the user redis. Other commands are run.
set -e
case ${1:-redis-server} in
redis-server) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac
mkdir -p /data
chown redis: /data
exec setpriv --reuid=redis --regid=redis --init-groups redis-server --dir /data --bind 0.0.0.0 --protected-mode no "$@"
