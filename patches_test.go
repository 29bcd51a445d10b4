package godwit

import (
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
	out, err := exec.Command("go", "list", "-modfile", mod, "-f", "{{.Dir}}", "github.com/osrg/gobgp/v4/pkg/server").CombinedOutput()
	if err != nil {
		t.Fatalf("list the patched package: %v: %s", err, out)
	}
	if got, want := strings.TrimSpace(string(out)), filepath.Join(dir, "gobgp/pkg/server"); got != want {
		t.Errorf("the build takes %s, want %s", got, want)
	}
	for file, gone := range map[string]string{"peer.go": `slog.String("Data", path.String()))` + "\n\treturn nil\n}\n\nfunc (peer *peer) sendNotification", "server.go": "InfiniteChannel"} {
		text, err := os.ReadFile(filepath.Join(dir, "gobgp/pkg/server", file))
		if err != nil || strings.Contains(string(text), gone) {
			t.Errorf("%s is not patched (%v)", file, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "gobgp/pkg/server/*.rej"))
	if err != nil || len(left) > 0 {
		t.Errorf("rejected: %v (%v)", left, err)
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
