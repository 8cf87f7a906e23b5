# shellcheck shell=bash
# Environment for builds with RocksDB. Sourced after common.sh.
# The bindings generator reads C headers with libclang, and needs clang's own (stddef.h). Where only
# the library is installed, the C compiler's headers do. Set only then: a changed value makes cargo
# compile RocksDB again.
if [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] &&
  ! compgen -G '/usr/lib*/llvm*/lib*/clang/*/include/stddef.h' >/dev/null &&
  ! compgen -G '/usr/lib*/clang/*/include/stddef.h' >/dev/null; then
  BINDGEN_EXTRA_CLANG_ARGS=-I$(cc -print-file-name=include)
  export BINDGEN_EXTRA_CLANG_ARGS
fi
