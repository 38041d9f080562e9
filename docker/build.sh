#!/bin/sh
# Builds Waybill's images as the Compose file describes them, and prints their sizes. Arguments: services
# (default: ingest worker ctl). BASE_IMAGE names the base, IMAGE_TAG the tag (default dev).
set -eu
cd "$(dirname "$0")/.."

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --profile tools --profile loadtest "$@"
    else
        docker-compose --profile tools --profile loadtest "$@"
    fi
}

[ $# -gt 0 ] || set -- ingest worker ctl
REVISION=$(git describe --always --dirty 2>/dev/null || echo unknown)
export REVISION
compose build "$@"
echo
for service in "$@"; do
    docker image ls --format '{{.Repository}}:{{.Tag}}  {{.Size}}' "waybill-$service:${IMAGE_TAG:-dev}"
done
