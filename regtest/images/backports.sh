#!/bin/sh
# Adds Debian's backports to the package sources of an image that is being built.
#
# No mirror is named here: backports lie beside the release, on the mirror that the base image uses.
set -eu

suite=trixie
apt-get -qq update
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$suite" '$1 == suite && !found++ {print $2}')
if [ -z "$mirror" ]; then
    echo "backports.sh: the package sources of this image name no mirror of Debian $suite" >&2
    exit 1
fi
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.pgp] $mirror $suite-backports main" \
    >/etc/apt/sources.list.d/backports.list
apt-get -qq update
