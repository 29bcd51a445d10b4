package local

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A bus may be shared with a group: its processes join, dial and are dialled,
// whatever their users are; others stay out.
func TestSharedBus(t *testing.T) {
	const group = 61000
	n := newNetwork(t)
	for p := n.dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := Share(n.dir, group); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(n.dir, "child")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func(uid, gid uint32) *exec.Cmd {
		cmd := exec.Command(binary)
		cmd.Dir, cmd.Env = n.dir, append(os.Environ(), "GODWIT_BUS_CHILD="+n.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		return cmd
	}
	if out, err := start(61001, 61009).Output(); err == nil || !strings.HasPrefix(string(out), "error:") {
		t.Errorf("another group joined: %q, %v", out, err)
	}
	cmd := start(61001, group)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	eventually(t, "the module joins", func() bool { return n.server.Stats().Names > 0 })
	echo(t, dialService(t, n.Join(t, "root")), "from root to the module")
	entries, err := os.ReadDir(memberDir(n.dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var st unix.Stat_t
		mode := uint32(0o660)
		if e.Name() == filepath.Base(versionPath("")) {
			mode = 0o640
		}
		if err := unix.Stat(filepath.Join(memberDir(n.dir), e.Name()), &st); err != nil || st.Gid != group || st.Mode&0o777 != mode {
			t.Errorf("%s: group %d, mode %o, %v", e.Name(), st.Gid, st.Mode&0o777, err)
		}
	}
	if err := Share(filepath.Join(n.dir, "none"), group); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no bus: %v", err)
	}
}
