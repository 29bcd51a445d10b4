#!/bin/bash
# Applies tools/patches to a copy of GoBGP's sources in FOLDER, and prints the
# name of a go.mod that builds with it:
#
#   go build -modfile "$(tools/patched.sh build/patched)" ./cmd/...
#
# The module itself stays as it is, and everything works with it too, only slower:
# tests are built so. A patch that does not fit the version in go.mod is an error.
set -euo pipefail

out=$(realpath -m "${1:?usage: patched.sh FOLDER}")
cd "$(dirname "$0")/.."
module=github.com/osrg/gobgp/v4
patches=(tools/patches/gobgp/*.patch)

go mod download "$module"
dir=$(go list -m -f '{{.Dir}}' "$module")
stamp=$(cat go.mod go.sum "$0" "${patches[@]}" <(echo "$dir") | sha256sum)
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$out"
  mkdir -p "$out"
  cp -r "$dir" "$out/gobgp"
  chmod -R u+w "$out/gobgp"
  for p in "${patches[@]}"; do
    patch -s -d "$out/gobgp" -p1 --fuzz=0 --no-backup-if-mismatch <"$p" >&2 || { echo "patched: $p does not fit $dir" >&2; exit 1; }
  done
  cp go.sum "$out/go.sum"
  rel=$(realpath --relative-base=. "$out/gobgp") # of the tree: relative, so that binaries do not tell where it is
  case $rel in /*) ;; *) rel=./$rel ;; esac
  { cat go.mod; echo "replace $module => $rel"; } >"$out/go.mod"
  echo "$stamp" >"$out/stamp"
fi
echo "$out/go.mod"
