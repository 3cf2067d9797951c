#!/bin/sh
# Makes Mosquitto's password file with a random password for each name, and prints
# them once:  make-users.sh passwd edgelabel admin phone
set -eu
[ $# -ge 2 ] || { echo "usage: $0 FILE NAME..." >&2; exit 2; }
file=$1
shift
[ ! -e "$file" ] || { echo "$0: $file exists; remove it, or use mosquitto_passwd to change one password" >&2; exit 1; }
umask 077
# By way of the file, since arguments can be read by everyone on the machine.
for name in "$@"; do
  printf '%s:%s\n' "$name" "$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')"
done > "$file"
tr ':' '\t' < "$file"
mosquitto_passwd -U "$file"
user=${MOSQUITTO_USER:-mosquitto}
[ "$(id -u)" -ne 0 ] || chown "$user" "$file" || echo "$0: give $file to the user that Mosquitto runs as" >&2
