package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A confined process cannot do what its role does not need, on any thread.
func TestConfinedProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "try")
	build := exec.Command("go", "build", "-o", path, "./testdata/try")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(path).CombinedOutput()
	want := "CapPrm: 0000000000000400\nCapEff: 0000000000000400\nCapBnd: 0000000000000400\nNoNewPrivs: 1\nSeccomp: 2\n"
	if err != nil || string(out) != want {
		t.Errorf("%v, output\n%swant\n%s", err, out, want)
	}
}

// run interprets the filter.
func run(t *testing.T, p []unix.SockFilter, arch, nr, arg2 uint32) uint32 {
	t.Helper()
	acc := uint32(0)
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = map[uint32]uint32{offArch: arch, offNumber: nr, offArg2: arg2}[in.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(acc&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

func TestFilter(t *testing.T) {
	const arch, eperm = unix.AUDIT_ARCH_X86_64, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	p := program(arch)
	for _, nr := range denied {
		if got := run(t, p, arch, uint32(nr), 0); got != eperm {
			t.Errorf("system call %d: %#x", nr, got)
		}
	}
	for _, nr := range noExec {
		if got := run(t, p, arch, uint32(nr), unix.PROT_READ|unix.PROT_EXEC); got != eperm {
			t.Errorf("executable %d: %#x", nr, got)
		}
		if got := run(t, p, arch, uint32(nr), unix.PROT_READ|unix.PROT_WRITE); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("writable %d: %#x", nr, got)
		}
	}
	for _, nr := range []uint32{unix.SYS_READ, unix.SYS_WRITE, unix.SYS_BPF, unix.SYS_SETNS, unix.SYS_SOCKET, unix.SYS_CLONE} {
		if got := run(t, p, arch, nr, 7); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("system call %d: %#x", nr, got)
		}
	}
	if got := run(t, p, arch, x32Bit|unix.SYS_READ, 0); got != eperm {
		t.Errorf("x32: %#x", got)
	}
	if got := run(t, p, arch+1, unix.SYS_READ, 0); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("other architecture: %#x", got)
	}
}
