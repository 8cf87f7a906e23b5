#!/usr/bin/env bash
# Finds what a target needs on this machine and installs what is missing.
# usage: setup.sh run|rocksdb|cluster|test       (each needs what the one before it needs, and more)
# Installs with apt-get as root or with passwordless sudo. Otherwise names everything that is
# missing in one message and ends with status 1.
source "$(dirname "$0")/common.sh"

TARGET=${1:?usage: setup.sh run|rocksdb|cluster|test}
JAVA_MINIMUM=17

# Debian's and Ubuntu's releases carry different versions; take the first that this one has.
java_package() {
  local version
  for version in 17 21 25; do
    if apt-cache show "openjdk-$version-jdk-headless" >/dev/null 2>&1; then break; fi
  done
  printf 'openjdk-%s-jdk-headless' "$version"
}

have() { command -v "$1"; }
# A JDK: the tests' Java program is given to `java` as source.
have_java() {
  local version
  "$(java_command)" --list-modules 2>/dev/null | grep '^jdk.compiler' || return
  version=$("$(java_command)" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge "$JAVA_MINIMUM" ]
}
have_clickhouse() { have clickhouse-server || dpkg-query --show clickhouse-common; }
# Prometheus itself is unpacked by fetch.sh, not installed: apt only has to know it.
knows_prometheus() { have prometheus || apt-cache show prometheus; }
have_cpp20() { echo 'int main() { return 0; }' | c++ -std=c++20 -x c++ -fsyntax-only -; }

# Where the bindings generator looks for libclang by itself, or LIBCLANG_PATH. Its C++ sibling libclang-cpp, which LLVM's
# runtime packages bring, is of no use to it.
have_libclang() {
  local folder
  for folder in "${LIBCLANG_PATH:-/nonexistent}" /usr/lib* /usr/lib/*-linux-gnu /usr/lib*/llvm*/lib* /usr/local/lib*; do
    compgen -G "$folder/libclang.so*" || compgen -G "$folder/libclang-[0-9]*.so*" && return
  done
  [[ ${LIBCLANG_PATH:-} == *.so* && -f $LIBCLANG_PATH ]]
}

# Fills `missing` (to read) and `packages` (to install).
find_missing() {
  missing=() packages=()
  need 'a C compiler (cc)' build-essential have cc
  need 'make' build-essential have make
  need 'pkg-config' pkg-config have pkg-config
  need 'the headers of OpenSSL' libssl-dev pkg-config --exists openssl
  [ "$TARGET" = run ] && return
  need 'a C++20 compiler (c++)' build-essential have_cpp20
  need 'libclang' libclang-dev have_libclang
  [ "$TARGET" = rocksdb ] && return
  need "a JDK, $JAVA_MINIMUM or newer" java have_java
  need 'Maven (mvn)' maven have mvn
  [ "$TARGET" = cluster ] && return
  need 'OpenSSL (openssl)' openssl have openssl
  need 'ClickHouse (clickhouse-server, or what it links to)' clickhouse-common have_clickhouse
  need 'Python 3 with venv and pip' python3-venv python3 -c 'import venv, ensurepip'
}

need() {
  local what=$1 package=$2
  shift 2
  if "$@" >/dev/null 2>&1; then return; fi
  [ "$package" = java ] && package=$(java_package)
  missing+=("$what [$package]")
  [[ " ${packages[*]} " == *" $package "* ]] || packages+=("$package")
}

find_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
  have cargo >/dev/null || die "found no cargo, wanted Rust $wanted or newer; install it with rustup"
  found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || found=none
  [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n1)" = "$wanted" ] ||
    die "found rustc ${found:-none}, wanted $wanted or newer; try \`rustup update stable\`"
}

# apt_get ARGUMENTS: as root, or with a sudo that asks nothing.
apt_get() {
  local -a as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >/dev/null
}

may_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

describe_missing() {
  local item
  for item in "${missing[@]}"; do printf '\n  %s' "$item"; done
  printf '\nInstall them, on Debian or Ubuntu: apt-get install %s' "${packages[*]}"
}

case $TARGET in
  run | rocksdb | cluster | test) ;;
  *) die "found target \"$TARGET\", wanted run, rocksdb, cluster or test" ;;
esac
find_rust
if [[ $TARGET == cluster || $TARGET == test ]] && ! knows_prometheus >/dev/null 2>&1 && may_install; then apt_get update; fi
find_missing
[ "${#missing[@]}" = 0 ] && exit 0
may_install || die "missing on this machine:$(describe_missing)"
say "installing: ${packages[*]}"
apt_get install -y --no-install-recommends "${packages[@]}" ||
  { apt_get update && apt_get install -y --no-install-recommends "${packages[@]}"; } ||
  die "apt-get failed; missing on this machine:$(describe_missing)"
find_missing
[ "${#missing[@]}" = 0 ] || die "still missing after apt-get:$(describe_missing)"
