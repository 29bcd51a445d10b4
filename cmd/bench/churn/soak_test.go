package churn

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLeaksAreFound(t *testing.T) {
	base := map[string]Usage{"linecard-1": {PID: 7, Memory: 80 << 20, Descriptors: 20, Threads: 9}}
	for _, c := range []struct {
		name  string
		after Usage
		want  string
	}{
		{"nothing", Usage{7, 80 << 20, 20, 9}, ""},
		{"a little", Usage{7, 100 << 20, 22, 13}, ""},
		{"memory", Usage{7, 115 << 20, 20, 9}, "leaks memory"},
		{"descriptors", Usage{7, 80 << 20, 23, 9}, "leaks descriptors"},
		{"threads", Usage{7, 80 << 20, 20, 14}, "leaks threads"},
		{"another process", Usage{8, 80 << 20, 20, 9}, "has died"},
	} {
		err := leaks(base, map[string]Usage{"linecard-1": c.after})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := leaks(base, nil); err == nil {
		t.Error("a process that is gone is no error")
	}
	if (Load{Misdelivered: 1}).astray() == nil || (Load{Steady: 5}).astray() != nil {
		t.Error("misdelivered packets are errors, lost ones are figures")
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	before, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for range 5 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	after, err := usageOf(os.Getpid())
	if err != nil || after.Descriptors < before.Descriptors+5 || after.Memory < 1<<20 || after.Threads < 1 {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	for _, f := range files {
		f.Close()
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that is not there has a usage")
	}
}

func TestLostBuffersAreFound(t *testing.T) {
	r := &router{log: filepath.Join(t.TempDir(), "log")}
	for text, ok := range map[string]bool{"all is well\n": true, "x\ngodwit-linecard: stop worker 0: 3 of 16384 buffers are lost\n": false} {
		if err := os.WriteFile(r.log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.kept(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestARPRequest(t *testing.T) {
	f := arpRequest(net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1"))
	if len(f) != 60 || f[12] != 8 || f[13] != 6 || f[21] != 1 || f[31] != 9 || f[41] != 1 {
		t.Errorf("% x", f)
	}
}
