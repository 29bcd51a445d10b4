package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"godwit/security/elfsig"
)

// Confined processes cannot do what their role does not need, on any thread, and
// what the role needs works: see testdata/try.
func TestConfinedProcess(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // others pass
		t.Fatal(err)
	}
	path := filepath.Join(dir, "try")
	build := exec.Command("go", "build", "-o", path, "./testdata/try")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const first = 60900
	for role := range roles {
		t.Run(role, func(t *testing.T) {
			run := filepath.Join(dir, role)
			p, ok := For(role, 0, Place{RunDir: run, FirstUser: first})
			if !ok || p.UID <= first || p.GID != first {
				t.Fatalf("%+v", p)
			}
			for _, d := range []string{"bus", "bgp", "fabric"} {
				if err := os.MkdirAll(filepath.Join(run, d), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(filepath.Join(run, d), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			secret := filepath.Join(dir, "release.key")
			if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			open := filepath.Join(dir, "world.key")
			if err := os.WriteFile(open, []byte("carelessly readable"), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(path, p.Encode(), dir, run)
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != "" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	at := Place{RunDir: "/run/x", FirstUser: 100}
	p, ok := For("bgp", 0, at)
	if !ok || p.Caps.String() != "net_bind_service,sys_nice" || p.UID != 103 || p.GID != 100 ||
		!slices.Contains(p.Write, "/run/x/bgp") || !slices.Contains(p.Read, "/run/x") || slices.Contains(p.Write, "/run/x/fabric") {
		t.Errorf("%+v", p)
	}
	signed, err := elfsig.ParseCaps("net_admin,sys_module")
	if err != nil {
		t.Fatal(err)
	}
	if p, _ = For("linecard", signed, at); p.Caps.String() != "net_admin" {
		t.Errorf("signed capabilities: %v", p.Caps)
	}
	if p, _ = For("router", 0, Place{RunDir: "/run/x"}); p.UID != 0 || p.GID != 0 || len(p.Read)+len(p.Write) != 0 {
		t.Errorf("%+v", p)
	}
	if _, ok := For("pilot", 0, at); ok {
		t.Error("an unknown role has a policy")
	}
	for role := range roles {
		p, _ := For(role, 0, at) // panics if the table is wrong
		q, err := Decode(p.Encode())
		if err != nil || q.Encode() != p.Encode() {
			t.Errorf("%+v, %v", q, err)
		}
		for _, path := range slices.Concat(p.Read, p.Write) {
			if !filepath.IsAbs(path) || strings.Contains(path, "RUN") {
				t.Errorf("%s: path %q", role, path)
			}
		}
	}
	for _, bad := range []string{"", "{}", `{"role":"pilot"}`, `{"role":"bgp","uid":"x"}`} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := Self(Policy{Role: "pilot"}); err == nil {
		t.Error("an unknown role was confined")
	}
}

// run interprets the filter.
func run(t *testing.T, p []unix.SockFilter, arch, nr, arg uint32) uint32 {
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
			acc = map[uint32]uint32{offArch: arch, offNumber: nr, offArg0: arg, offArg2: arg}[in.K]
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
	for name, r := range roles {
		p := program(arch, r)
		for _, nr := range slices.Concat(denied, r.denied) {
			want := eperm
			if slices.Contains(r.allowed, nr) {
				want = unix.SECCOMP_RET_ALLOW
			}
			if got := run(t, p, arch, uint32(nr), 0); got != want {
				t.Errorf("%s: system call %d: %#x", name, nr, got)
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
		for _, nr := range []uint32{unix.SYS_READ, unix.SYS_WRITE, unix.SYS_SOCKET} {
			if got := run(t, p, arch, nr, 7); got != unix.SECCOMP_RET_ALLOW {
				t.Errorf("system call %d: %#x", nr, got)
			}
		}
		const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM
		if got := run(t, p, arch, unix.SYS_CLONE, thread); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("a thread: %#x", got)
		}
		for _, flags := range []uint32{unix.CLONE_NEWUSER, unix.CLONE_NEWNET | thread, unix.CLONE_NEWNS} {
			if got := run(t, p, arch, unix.SYS_CLONE, flags); got != eperm {
				t.Errorf("a namespace: %#x", got)
			}
		}
		if got := run(t, p, arch, unix.SYS_CLONE3, 0); got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
			t.Errorf("clone3: %#x", got)
		}
		if got := run(t, p, arch, x32Bit|unix.SYS_READ, 0); got != eperm {
			t.Errorf("x32: %#x", got)
		}
		if got := run(t, p, arch+1, unix.SYS_READ, 0); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("other architecture: %#x", got)
		}
	}
}
