package lsm

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// ErrNoDigests says that this kernel's programs cannot read fs-verity digests.
var ErrNoDigests = errors.New("kernel has no fs-verity digests for BPF")

// digestFunction is what programs read digests with (Linux 6.8).
const digestFunction = "bpf_get_fsverity_digest"

// kernelHasDigests tells whether they can.
func kernelHasDigests() bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var f *btf.Func
	return spec.TypeByName(digestFunction, &f) == nil
}

// sha256Algorithm is FS_VERITY_HASH_ALG_SHA256.
const sha256Algorithm = 1

// SetDigests lets processes of the group execute, and map as code, files with
// these fs-verity digests (SHA-256, as "fsverity measure" prints them), and no
// other files by digest. The kernel keeps such files from changing.
func (e *Enforcer) SetDigests(digests [][sha256.Size]byte) error {
	if !e.digests {
		if len(digests) == 0 {
			return nil
		}
		return ErrNoDigests
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil // the list stays as it is
	}
	m := e.objects.Maps[enforceMapGwlsmDigests]
	want := map[enforceDigest]bool{}
	for _, d := range digests {
		key := enforceDigest{Algorithm: sha256Algorithm, Size: sha256.Size}
		copy(key.Bytes[:], d[:])
		want[key] = true
	}
	var key enforceDigest
	var mark uint32
	var gone []enforceDigest
	list := m.Iterate()
	for list.Next(&key, &mark) {
		if !want[key] {
			gone = append(gone, key)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list digests: %w", err)
	}
	for _, key := range gone {
		if err := m.Delete(key); err != nil {
			return fmt.Errorf("take digest away: %w", err)
		}
	}
	for key := range want {
		if err := m.Update(key, uint32(1), ebpf.UpdateAny); err != nil {
			return fmt.Errorf("allow digest: %w", err)
		}
	}
	return nil
}
