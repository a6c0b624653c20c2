#!/usr/bin/env bash
# Power cuts under the server while a file is sent and received: its file system loses what was not synced, the server is
# killed, and starts again on what is left. Prints a line for each round, and ends with 1 if a file was not received whole.
#
# Needs root, a loop device, ext4, jq and python3, hence is run by hand:
#   tests/power-cut.sh NATS_SERVER DIRECTORY_OF_OUR_BINARIES [SYNC_INTERVAL [ROUNDS]]
set -euo pipefail
server=$1 binaries=$2 sync=${3:-always} rounds=${4:-6}
home=$(mktemp -d) port=$((20000 + RANDOM % 10000)) failed=0
disk=$home/disk url=nats://127.0.0.1:$port server_pid='' receiver='' sender=''
clean_up() {
    # shellcheck disable=SC2086 # those that never were are no words
    kill -9 $server_pid $receiver $sender 2>/dev/null || true
    umount -l "$disk" 2>/dev/null || true
    rm -rf "$home"
}
trap clean_up EXIT

serve() {
    mount -o loop "$home/image" "$disk"
    "$server" -c "$home/nats.conf" >>"$home/server.log" 2>&1 &
    server_pid=$!
}

stop_serving() {
    kill -9 "$server_pid"
    wait "$server_pid" 2>/dev/null || true
    server_pid=''
    umount "$disk"
}

# FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more is written, not even the file system's journal.
cut_power() {
    python3 -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack("I", 2))' "$disk"
    stop_serving
}

mkdir "$disk"
truncate -s 3G "$home/image"
cat >"$home/nats.conf" <<CONF
listen: 127.0.0.1:$port
jetstream { store_dir: "$disk/store", sync_interval: $sync, max_file_store: 2GB }
CONF
head -c 256M /dev/urandom >"$home/file"
for round in $(seq "$rounds"); do
    mkfs.ext4 -q -F "$home/image"
    serve
    until "$binaries/natsfer-producer" init --max-bytes 900000000 --server "$url" >/dev/null 2>&1; do sleep 0.1; done
    rm -rf "$home/inbox"
    "$binaries/natsfer-consumer" receive --json -n r --into "$home/inbox" --count 1 --server "$url" \
        >"$home/received" 2>"$home/receiver.log" &
    receiver=$!
    "$binaries/natsfer-producer" send --json --wait-for r --server "$url" "$home/file" \
        >"$home/sent" 2>"$home/sender.log" &
    sender=$!
    sleep "0.$((RANDOM % 6 + 1))"
    stored=$(du -m "$disk" | tail -1 | cut -f1)
    cut_power
    serve
    sent=0 received=0
    wait "$sender" || sent=$?
    wait "$receiver" || received=$?
    bytes=same
    cmp -s "$home/file" "$home/inbox/file" || bytes=DIFFERENT failed=1
    [ "$sent$received" = 00 ] || failed=1
    echo "round $round, sync_interval $sync: cut with $stored MiB on disk; send $sent, receive $received, bytes $bytes;" \
        "sent again after the cut: $(jq -r 'select(.event == "sent") | .status + ", " + (.published_chunks | tostring)
            + " of " + (.chunks | tostring) + " chunks"' "$home/sent");" \
        "refetched $(jq -r 'select(.event == "received") | .refetched_bytes' "$home/received") bytes"
    [ "$failed" = 0 ] || tail -n 5 "$home/sender.log" "$home/receiver.log"
    stop_serving
done
exit "$failed"
