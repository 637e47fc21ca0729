#!/bin/sh
# Does nothing until it is told to end; a plain `sleep` as the first process of a container would not listen.
trap 'exit 0' TERM INT
while :; do
    sleep 1000 &
    wait $!
done
