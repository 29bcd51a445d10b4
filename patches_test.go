package godwit

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPatches checks that the patches of tools/patches fit the version of GoBGP
// that go.mod names, and that what they change is what the build then uses.
func TestPatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "patched")
	patched := func() string {
		t.Helper()
		out, err := exec.Command("tools/patched.sh", dir).Output()
		if err != nil {
			t.Fatalf("patched.sh: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	mod := patched()
	where, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/osrg/gobgp/v4").Output()
	if err != nil {
		t.Fatalf("find GoBGP: %v", err)
	}
	original := strings.TrimSpace(string(where))
	out, err := exec.Command("go", "list", "-modfile", mod, "-f", "{{.Dir}}", "github.com/osrg/gobgp/v4/pkg/server").CombinedOutput()
	if err != nil {
		t.Fatalf("list the patched package: %v: %s", err, out)
	}
	if got, want := strings.TrimSpace(string(out)), filepath.Join(dir, "gobgp/pkg/server"); got != want {
		t.Errorf("the build takes %s, want %s", got, want)
	}
	for _, c := range []struct{ file, gone string }{ // one for each patch
		{"pkg/server/peer.go", "\tpeer.fsm.logger.Debug(\"From me, ignore\""},
		{"internal/pkg/table/destination.go", "\n\tlogger.Debug(\"Removing withdrawals\""},
		{"pkg/server/server.go", "InfiniteChannel"},
		{"pkg/server/server.go", "case ev := <-w.Event():"},
		{"pkg/server/fsm.go", "append(headerBuf, bodyBuf...)"},
		{"internal/pkg/table/path.go", "nlriString         string"},
		{"internal/pkg/table/table.go", "make([]*destination, 0)\n\t}\n\tshard.mp[key] = append(shard.mp[key], dest)\n\treturn dest"},
		{"pkg/server/server.go", "\t\tAttrs:              path.GetPathAttrs(),"},
		{"pkg/server/server.go", "m := make(map[uint32]bool)\n\tclonedM"},
	} {
		was, err := os.ReadFile(filepath.Join(original, c.file))
		if err != nil || !strings.Contains(string(was), c.gone) {
			t.Errorf("%s of GoBGP has no %q (%v)", c.file, c.gone, err)
		}
		is, err := os.ReadFile(filepath.Join(dir, "gobgp", c.file))
		if err != nil || strings.Contains(string(is), c.gone) {
			t.Errorf("%s is not patched: it has %q (%v)", c.file, c.gone, err)
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, "gobgp"), func(name string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".rej") || strings.HasSuffix(name, ".orig") {
			t.Errorf("left behind: %s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(mod)
	if err != nil {
		t.Fatal(err)
	}
	patched() // nothing to do
	if after, err := os.Stat(mod); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a second run patched again (%v)", err)
	}
}
