package lsm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// verityDir is a file system with fs-verity, which the guest has.
const verityDir = "LSM_VERITY"

// protect switches fs-verity on for a file and returns its digest.
func protectFile(path string) (digest [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	arg := unix.FsverityEnableArg{Version: 1, Hash_algorithm: sha256Algorithm, Block_size: 4096}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg))); e != 0 {
		return digest, fmt.Errorf("enable fs-verity: %w", e)
	}
	var measured struct {
		algorithm, size uint16
		bytes           [sha256.Size]byte
	}
	measured.size = sha256.Size
	const measure = 0xc0046686 // FS_IOC_MEASURE_VERITY
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), measure, uintptr(unsafe.Pointer(&measured))); e != 0 {
		return digest, fmt.Errorf("measure fs-verity: %w", e)
	}
	return measured.bytes, nil
}

// A file that fs-verity protects runs inside if its digest is listed, and as
// long as it is; a copy without protection and another file do not.
func TestDigests(t *testing.T) {
	e, g := start(t)
	dir := os.Getenv(verityDir)
	if !e.digests {
		if err := e.SetDigests([][sha256.Size]byte{{}}); !errors.Is(err, ErrNoDigests) || e.SetDigests(nil) != nil {
			t.Errorf("%v", err)
		}
		t.Log("this kernel has no digests for programs")
		return
	}
	if dir == "" {
		t.Skip("no file system with fs-verity")
	}
	run := func(path string) error {
		group, err := g.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer group.Close()
		cmd := exec.Command(path, "true")
		cmd.Args[0] = "busybox"
		cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
		return cmd.Run()
	}
	var digests [][sha256.Size]byte
	for _, name := range []string{"listed", "other", "plain"} {
		path := dir + "/" + name
		if err := copyTool(path); err != nil {
			t.Fatal(err)
		}
		if name == "other" { // another program
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("\n"); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		if name != "plain" {
			d, err := protectFile(path)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, d)
		}
	}
	if err := run(dir + "/listed"); !errors.Is(err, unix.EPERM) {
		t.Errorf("not listed yet: %v", err)
	}
	if err := e.SetDigests(digests[:1]); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"listed": nil, "other": unix.EPERM, "plain": unix.EPERM} {
		if err := run(dir + "/" + name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if f, err := os.OpenFile(dir+"/listed", os.O_WRONLY, 0); err == nil {
		f.Close()
		t.Error("a protected file was opened for writing")
	}
	if err := e.SetDigests(digests[1:]); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"listed": unix.EPERM, "other": nil} {
		if err := run(dir + "/" + name); !errors.Is(err, want) {
			t.Errorf("replaced list: %s: %v, want %v", name, err, want)
		}
	}
}
