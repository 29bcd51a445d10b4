// Package lsm lets the kernel enforce what the loader verified: processes in the
// router's control group, and no others, may execute and map as code only sealed
// memory files that were verified, and files whose fs-verity digest is listed.
//
// It uses BPF LSM programs (bpf/enforce.c). They are pinned: when the supervisor
// dies they stay in force, and its successor replaces them without a gap. A
// kernel that does not run them is told by ErrUnavailable; Start tries them on a
// process, so a kernel that loads but ignores them is told as well.
//
// What it refuses inside the group, besides unlisted code: executable memory
// without a file, memory that becomes executable, tracing (also of processes
// inside, by anybody), writing memory through /proc, leaving the group, BPF
// programs other than those of the network, this package's own maps and pins,
// and kernel modules.
//
// Methods of an Enforcer may be called from any goroutine.
package lsm
