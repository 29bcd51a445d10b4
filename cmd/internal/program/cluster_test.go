package program

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"godwit/cluster/bus"
	"godwit/cluster/bus/tipc"
)

func TestClusterFlagsAndBadSecrets(t *testing.T) {
	var c Cluster
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	c.Flags(f)
	if err := f.Parse([]string{"--cluster-node", "3", "--cluster-secret", "/nowhere"}); err != nil || c.Node != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	if b, err := c.Join(slog.Default()); err == nil || b != nil {
		t.Errorf("joined with a file that is not there: %v", err)
	}
	c.Secret = filepath.Join(t.TempDir(), "secret")
	for _, text := range []string{"", "no hexadecimal"} {
		if err := os.WriteFile(c.Secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Join(slog.Default()); err == nil || (text != "" && strings.Contains(err.Error(), text)) {
			t.Errorf("joined with %q: %v", text, err)
		}
	}
}

func TestRefusedIsLogged(t *testing.T) {
	var b bytes.Buffer
	refused := Refused(slog.New(slog.NewTextHandler(&b, nil)))
	for range 1000 {
		refused(bus.Address{Ref: 7, Node: 2}, tipc.ErrNotAdmitted)
	}
	if n := strings.Count(b.String(), "\n"); n < 1 || n > 100 {
		t.Errorf("1000 refusals made %d lines", n)
	}
	if !strings.Contains(b.String(), "<2:7>") || !strings.Contains(b.String(), "secret") {
		t.Errorf("log: %s", b.String())
	}
}
