#!/bin/sh
# prepare.sh USER UID [PACKAGE …]: in an image's own stage, installs the packages listed in the file beside this script
# and those named, makes the account without which nothing runs as root, and removes what differs from build to build.
# This folder is in /tmp and goes too.
set -eu
here=$(dirname "$0")
user=$1
uid=$2
shift 2

apt-get update -o APT::Update::Error-Mode=any
# shellcheck disable=SC2046 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(cat "$here/packages") "$@"
groupadd --system --gid "$uid" "$user"
useradd --system --uid "$uid" --gid "$uid" --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/ldconfig/aux-cache /var/log/* "$here"
