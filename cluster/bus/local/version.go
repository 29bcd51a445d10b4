package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// version counts the changes of the name table, in memory that the name service
// shares with the members: a change is counted before anybody is told of it. So a
// member whose copy was in step at the present count need not ask.
type version struct{ mem []byte }

const versionSize = 8

func versionPath(dir string) string { return filepath.Join(memberDir(dir), ".version") }

// newVersion makes the file of a new name service. It never changes that of a
// former one, which members may still have mapped.
func newVersion(dir string) (*version, error) {
	path := versionPath(dir)
	tmp := path + ".new"
	_ = os.Remove(tmp) // of one that was killed
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, fmt.Errorf("make version of name table: %w", err)
	}
	defer f.Close()
	if err = errors.Join(f.Truncate(versionSize), f.Chmod(0o640)); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, fmt.Errorf("make version of name table: %w", err)
	}
	return mapVersion(f, unix.PROT_READ|unix.PROT_WRITE)
}

// openVersion maps the name service's for reading; nil without one: then a member asks
// each time.
func openVersion(dir string) *version {
	f, err := os.Open(versionPath(dir))
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != versionSize {
		return nil
	}
	v, err := mapVersion(f, unix.PROT_READ)
	if err != nil {
		return nil
	}
	return v
}

func mapVersion(f *os.File, prot int) (*version, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, versionSize, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map version of name table: %w", err)
	}
	return &version{mem}, nil
}

func (v *version) count() *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(v.mem)))
}

// close unmaps it; nobody reads it any more.
func (v *version) close() {
	if v != nil {
		_ = unix.Munmap(v.mem)
	}
}
