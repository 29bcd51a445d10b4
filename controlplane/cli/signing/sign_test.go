package signing

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// bench is a directory with a static program in it, and the tool.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) *bench {
	b := &bench{t, t.TempDir()}
	cmd := exec.Command("go", "build", "-o", b.path("prog"), "../../../security/elfsig/testdata/hello")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// run calls the tool; arguments with "@/" in front are files of the directory.
func (b *bench) run(line string) (string, error) {
	b.t.Helper()
	c := &cobra.Command{Use: "godwit", SilenceUsage: true, SilenceErrors: true}
	c.AddCommand(KeyCommand(), ModuleCommand())
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs(strings.Fields(strings.ReplaceAll(line, "@", b.dir)))
	err := c.Execute()
	return out.String(), err
}

func (b *bench) ok(line string, want ...string) {
	b.t.Helper()
	out, err := b.run(line)
	if err != nil {
		b.t.Fatalf("%s: %v", line, err)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			b.t.Errorf("%s: no %q in\n%s", line, w, out)
		}
	}
}

func (b *bench) fails(line, want string) {
	b.t.Helper()
	if out, err := b.run(line); err == nil || !strings.Contains(err.Error(), want) {
		b.t.Errorf("%s: error %v, want %q; output %s", line, err, want, out)
	}
}

func TestCeremony(t *testing.T) {
	b := newBench(t)
	b.ok("key generate @/release", "release.key  secret", "release.pem  public")
	b.fails("key generate @/release", "exists")
	if st, err := os.Stat(b.path("release.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", st.Mode(), err)
	}
	b.fails("module inspect @/prog", "no signature section")
	b.fails("module verify --key @/release.pem @/prog", "no signature section")
	b.ok("module sign --key @/release.key --role bgp --name godwit-bgp --version 1.2.3 --min-version 1.0.0 --not-after 720h --caps net_bind_service -o @/m @/prog",
		"/m: signed as godwit-bgp 1.2.3, role bgp, key ")
	b.ok("module verify --key @/release.pem @/m", "good signature")
	b.ok("module inspect @/m", "not verified", "godwit-bgp", "1.2.3", "net_bind_service", "static           true")
	b.fails("module inspect @/prog", "no signature section") // the input stayed as it was
	b.fails("module verify --key @/release.pem --role router @/m", `signed as "bgp", wanted as "router"`)
	b.ok("key generate @/other")
	b.fails("module verify --key @/other.pem @/m", "signed with key")
	id, err := b.run("key id @/release.pem @/release.key")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(id)
	if len(lines) != 4 || lines[0] != lines[2] {
		t.Errorf("ids of both halves: %s", id)
	}

	if err := os.Mkdir(b.path("trust"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.path("release.pem"), b.path("trust/release.pem")); err != nil {
		t.Fatal(err)
	}
	b.ok("module verify --trust @/trust @/m", "good signature")
	if err := os.WriteFile(b.path("trust/revoked"), []byte("key "+lines[0]+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.fails("module verify --trust @/trust @/m", "revoked")

	data, err := os.ReadFile(b.path("m"))
	if err != nil {
		t.Fatal(err)
	}
	data[5000] ^= 1
	if err := os.WriteFile(b.path("m"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.path("trust/revoked")); err != nil {
		t.Fatal(err)
	}
	b.fails("module verify --trust @/trust @/m", "does not match")
}

func TestInspectJSON(t *testing.T) {
	b := newBench(t)
	b.ok("key generate @/k")
	b.ok("module sign --key @/k.key --role linecard --not-before 2026-01-02 --not-after 2036-01-02T03:04:05Z @/prog")
	out, err := b.run("module inspect --json @/prog")
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if r.Role != "linecard" || r.Name != "prog" || !r.Static || len(r.BuildID) != 40 || len(r.Signature) != 128 ||
		!r.NotBefore.Equal(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)) || !r.NotAfter.Equal(time.Date(2036, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("report %+v", r)
	}
	// Signed again, it is the same size and still runs.
	before, err := os.Stat(b.path("prog"))
	if err != nil {
		t.Fatal(err)
	}
	b.ok("module sign --key @/k.key --role bgp @/prog")
	if after, err := os.Stat(b.path("prog")); err != nil || after.Size() != before.Size() || after.Mode() != before.Mode() {
		t.Errorf("signed again: %v, before %v (%v)", after, before, err)
	}
	if out, err := exec.Command(b.path("prog")).Output(); err != nil || string(out) != "hello\n" {
		t.Errorf("signed program: %q, %v", out, err)
	}
}

func TestMistakes(t *testing.T) {
	b := newBench(t)
	b.ok("key generate @/k")
	for line, want := range map[string]string{
		"module sign @/prog":                                            "required flag",
		"module sign --key @/k.pem --role bgp @/prog":                   "chmod 600",
		"module sign --key @/none --role bgp @/prog":                    "no such file",
		"module sign --key @/k.key --role bgp @/none":                   "no such file",
		"module sign --key @/k.key --role bgp @/k.pem":                  "not a well-formed",
		"module sign --key @/k.key --role bgp /dev/null":                "not a regular file",
		"module sign --key @/k.key --role BGP @/prog":                   "lower-case",
		"module sign --key @/k.key --role bgp --caps fly @/prog":        "capabilities(7)",
		"module sign --key @/k.key --role bgp --version 1 @/prog":       "MAJOR.MINOR.PATCH",
		"module sign --key @/k.key --role bgp --not-after never @/prog": "want 2026-11-22",
		"module sign --key @/k.key --role bgp -o @/none/prog @/prog":    "write",
		"module verify @/prog":                                          "at least one of the flags",
		"module verify --key @/k.pem --trust @ @/prog":                  "none of the others",
		"module verify --trust @/none @/prog":                           "trust store",
		"module verify --key @/k.key @/prog":                            "PEM block",
		"key id @/prog":                                                 "public key",
		"key generate @/none/k":                                         "write key",
		"frobnicate":                                                    "unknown command",
		"module sign --key @/k.key --role bgp --not-after 2020-01-01 --not-before 2021-01-01 @/prog": "ends before it begins",
	} {
		b.fails(line, want)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
