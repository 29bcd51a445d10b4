#!/bin/bash
# Runs go generate and fails when what it made differs from what is in the tree.
set -euo pipefail
cd "$(dirname "$0")/.."

# Files that say "Code generated", and BPF objects.
sums() {
  { find . -name '*.go' -not -path './build/*' -print0 |
      xargs -0 -r grep -lsE '^// Code generated .* DO NOT EDIT\.$' || true
    find . -name '*.o' -not -path './build/*'; } | sort -u | xargs -r sha256sum
}

before=$(sums)
go generate ./...
after=$(sums)
if [ "$before" != "$after" ]; then
  echo "generated files were out of date; they are regenerated now, commit them:" >&2
  diff <(echo "$before") <(echo "$after") | sed -n 's/^> [0-9a-f]*  /  /p' >&2
  exit 1
fi
