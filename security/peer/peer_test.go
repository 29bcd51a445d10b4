package peer

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestMain connects to the socket in PEER_DIAL, for a process with other credentials.
func TestMain(m *testing.M) {
	if path := os.Getenv("PEER_DIAL"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Exit(1)
		}
		_, _ = c.Read(make([]byte, 1)) // until the test has seen enough
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOf(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path, binary := filepath.Join(dir, "s"), filepath.Join(dir, "child")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	many := make([]uint32, 0, 100) // more than the first try has room for
	for g := range uint32(100) {
		many = append(many, 70000+g)
	}
	for _, groups := range [][]uint32{nil, {61001}, {61001, 61002}, many} {
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(), "PEER_DIAL="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61003, Gid: 61004, Groups: groups}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p, err := Of(c.(*net.UnixConn))
		if err != nil || p.UID != 61003 || p.PID != cmd.Process.Pid || !p.In([]uint32{61004}) || p.In([]uint32{0, 61009}) || p.In(nil) {
			t.Errorf("%+v, %v", p, err)
		}
		for _, g := range groups {
			if !slices.Contains(p.Groups, g) {
				t.Errorf("no group %d in %v", g, p.Groups)
			}
		}
		c.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if _, err := Of(c.(*net.UnixConn)); err == nil {
			t.Error("a closed socket has a peer")
		}
	}
}
