#!/bin/sh
# Build the image that agents' sandboxes run in.
#
# Usage: docker/build_image.sh [--force] [IMAGE]     IMAGE defaults to $EKLAVYA_IMAGE, else eklavya-sandbox:latest
#
# Where DOCKER_HOST names Podman's socket the image is built there.
#
# Takes Debian's own base image where one can be had (already here, or pulled). Where there is no image registry it
# makes a base from Debian packages with debootstrap, using this machine's apt mirror and proxy, and keeps it under
# $EKLAVYA_VAR/image (default var/image), so that the next build needs no network. Idempotent: an image built from the
# same files is left as it is, unless --force is given. Exit 0 means that the image exists and a container of it ran.
set -eu

suite=bookworm
upstream_base=debian:$suite-slim
packages="ca-certificates git nodejs procps python3 ripgrep"
pull_timeout_s=120
here=$(cd "$(dirname "$0")" && pwd)
cache=${EKLAVYA_VAR:-$(dirname "$here")/var}/image

say() { printf 'image: %s\n' "$1"; }
fail() { printf 'image: %s\n' "$1" >&2; exit 1; }

force=0
if [ "${1:-}" = --force ]; then
    force=1
    shift
fi
image=${1:-${EKLAVYA_IMAGE:-eklavya-sandbox:latest}}

check_docker() {
    command -v docker >/dev/null 2>&1 || fail "the docker command is missing: install docker.io"
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1 \
        || fail "no Docker daemon answers: start one (docker/start_daemon.sh), or allow this user to reach it"
}

exists() { docker image inspect "$1" >/dev/null 2>&1; }

have_upstream_base() {
    exists "$upstream_base" && return 0
    say "pulling $upstream_base"
    timeout "$pull_timeout_s" docker pull --quiet "$upstream_base" >/dev/null 2>&1
}

# The mirror that this machine's apt takes the suite from; empty lets debootstrap choose.
apt_mirror() {
    # shellcheck disable=SC2016  # $(SITE) is apt's own placeholder
    apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null \
        | awk -v suite="$suite" '$2 == suite { print $1; exit }'
}

# Writes the tar archive of a minimal Debian with our packages.
bootstrap() {
    archive=$1
    command -v debootstrap >/dev/null 2>&1 \
        || fail "$upstream_base cannot be pulled, and debootstrap, which would replace it, is missing: install debootstrap"
    [ "$(id -u)" -eq 0 ] \
        || fail "$upstream_base cannot be pulled, and debootstrap needs root: run this script once with sudo"
    proxy=$(apt-config dump --format '%v%n' Acquire::http::Proxy 2>/dev/null | head -n 1 || true)
    if [ -n "$proxy" ]; then
        export http_proxy="$proxy"
    fi
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/bootstrap.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "making a base from Debian packages (about a minute), log in $cache/debootstrap.log"
    # $(apt_mirror) unquoted on purpose: empty means that the argument is left out.
    # shellcheck disable=SC2046
    debootstrap --variant=minbase --include="$(echo "$packages" | tr ' ' ',')" "$suite" "$work/root" $(apt_mirror) \
        >"$cache/debootstrap.log" 2>&1 || fail "debootstrap failed: $(tail -n 1 "$cache/debootstrap.log")"
    tar -C "$work/root" --exclude=./var/cache/apt/archives/*.deb --exclude=./var/lib/apt/lists/* \
        --exclude=./dev/* --exclude=./usr/share/doc/* --exclude=./usr/share/man/* \
        -cf "$work/base.tar" .
    # Renamed when whole: an interrupted build must not leave half an archive behind.
    mv "$work/base.tar" "$archive"
    rm -rf "$work"
    trap - EXIT
}

have_bootstrapped_base() {
    exists "$own_base" && return 0
    archive=$cache/$(echo "$own_base" | tr ':' '-').tar
    [ -s "$archive" ] || bootstrap "$archive"
    say "importing the base"
    docker import "$archive" "$own_base" >/dev/null
}

build() {
    base=$1 present=$2
    say "building $image on $base"
    log=$(mktemp)
    # No build context is needed beyond this directory. --network: only the package step uses it.
    if ! docker build --build-arg BASE="$base" --build-arg PACKAGES="$packages" --build-arg PACKAGES_PRESENT="$present" \
        --build-arg SOURCE="$source" --tag "$image" "$here" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "docker build failed, see above"
    fi
    rm -f "$log"
}

check_docker
source=$(cat "$here/Dockerfile" "$here/build_image.sh" | sha256sum | cut -c 1-16)
own_base=eklavya-base:$suite-$(echo "$packages" | sha256sum | cut -c 1-8)
if [ "$force" -eq 0 ] && [ "$(docker image inspect --format '{{index .Config.Labels "eklavya.source"}}' "$image" 2>/dev/null)" = "$source" ]; then
    say "$image is up to date"
    exit 0
fi
if have_upstream_base; then
    build "$upstream_base" 0
else
    say "$upstream_base cannot be pulled"
    have_bootstrapped_base
    build "$own_base" 1
fi
# Podman asks for more files and processes than some hosts allow, unless it is told how many.
docker run --rm --network none --read-only --ulimit nofile=1024 --ulimit nproc=16384 "$image" sh -c 'git --version && python3 --version && node --version && rg --version' \
    >/dev/null || fail "$image was built, but a container of it does not run"
say "$image is ready"
