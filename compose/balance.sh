#!/bin/sh
# Runs nginx on nginx.conf with those of its servers that exist.
#
# nginx looks names up once, when it reads its configuration, and does not start while one of them is unknown. Here agents come, go and come back under
# another address: so the configuration is looked at every few seconds, and nginx reads it again when the answer has changed. Connections that are
# open stay with the agent that has them.
set -eu
configuration=${1:-/etc/nginx/nginx.conf}
known=/tmp/balance.conf
seen=/tmp/balance.next

# The configuration without the servers that have no address; what follows a `#` is the address, so that another one is a change.
look() {
  while IFS= read -r line || [ -n "$line" ]; do
    name=$(printf '%s\n' "$line" | sed -n 's/^[[:space:]]*server[[:space:]]\{1,\}\([A-Za-z0-9._-]*\):[0-9]\{1,\}[[:space:];].*/\1/p')
    if [ -z "$name" ]; then
      printf '%s\n' "$line"
    elif address=$(getent hosts "$name"); then
      printf '%s # %s\n' "$line" "${address%% *}"
    fi
  done <"$configuration"
}

look >"$known"
until nginx -t -q -c "$known"; do
  sleep 2
  look >"$known"
done
nginx -c "$known" -g 'daemon off;' &
nginx=$!
# QUIT lets connections end by themselves; the shell must be awake to pass it on.
trap 'kill -QUIT "$nginx"' TERM INT QUIT
while kill -0 "$nginx" 2>/dev/null; do
  sleep 3 &
  wait $! || true
  look >"$seen"
  if ! cmp -s "$known" "$seen" && nginx -t -q -c "$seen"; then
    cp "$seen" "$known"
    nginx -s reload -c "$known"
  fi
done
wait "$nginx"
