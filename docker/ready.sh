#!/bin/bash
# Ends with status 0 where the application of this container is ready. Neither curl nor wget is in the image.
# usage: ready.sh [PORT]
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/${1:-9464}"
printf 'GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 2 status <&3
[[ $status == *' 200 '* ]]
