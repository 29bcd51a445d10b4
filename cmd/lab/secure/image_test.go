package secure

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"godwit/cmd/mkimage/image"
)

const config = `
system: {hostname: godwit}
cards: [{id: 1}]
vrfs:
  - name: red
    bgp: {as: 65010, router-id: 10.0.0.1}
`

const (
	cli   = "godwit> "
	shell = "/ # "
)

var running = regexp.MustCompile(`(?m)^(router|linecard-1|bgp-red) .* running .* enforced`)

// TestImageEnforces boots the appliance: the kernel enforces, the router runs,
// and root in a shell inside the router's group can start nothing.
func TestImageEnforces(t *testing.T) {
	dir := t.TempDir()
	o := image.Options{Bin: filepath.Join(root(t), "bin"), Trust: filepath.Join(root(t), "build", "keys", "trust"), Out: filepath.Join(root(t), "build", "image"), Log: os.Stderr}
	if err := image.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	con := run(t, image.Machine{Dir: o.Out, Config: file, Work: dir})
	con.wait(t, cli, 0, 3*time.Minute)
	for end := time.Now().Add(2 * time.Minute); ; {
		s := con.answer(t, "show modules", cli)
		if len(running.FindAllString(s, -1)) == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not all run:\n%s", con.String())
		}
	}
	if s := con.answer(t, "show security", cli); !strings.Contains(s, "signatures: enforced; kernel: enforced for the processes of /sys/fs/cgroup/godwit-godwit") {
		t.Errorf("show security: %s", s)
	}
	con.answer(t, "sh", shell)
	for _, c := range []struct{ line, want string }{
		{"/bin/busybox true; echo outside=$?", "outside=0"},
		{"G=/sys/fs/cgroup/godwit-godwit; /bin/busybox mkdir $G/shell; /bin/sh", ""},
		{"echo $$ > $G/shell/cgroup.procs; echo placed=$?", "placed="},
	} {
		if s := con.answer(t, strings.ReplaceAll(c.line, "$G", "/sys/fs/cgroup/godwit-godwit"), shell); !strings.Contains(s, "\n"+c.want) {
			t.Errorf("%s: %s", c.line, s)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"/bin/busybox true; echo inside=$?", "inside=126"},
		{"/bin/godwit show version; echo signed=$?", "signed=126"},
		{"echo $$ > /sys/fs/cgroup/cgroup.procs; echo left=$?", "left=1"},
	} {
		if s := con.answer(t, c.line, shell); !strings.Contains(s, "\n"+c.want) {
			t.Errorf("%s: %s", c.line, s)
		}
	}
	con.answer(t, "exit", shell) // of the shell inside
	con.answer(t, "exit", cli)
	if s := con.answer(t, "show security audit denied", cli); !strings.Contains(s, "kernel") || !strings.Contains(s, "busybox") {
		t.Errorf("audit: %s", s)
	}
}
