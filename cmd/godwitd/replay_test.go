package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplayCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording")
	lines := `{"at":"2026-01-02T03:04:05Z","input":"boot","value":{"Router":{"name":"router","role":"router"}}}
{"at":"2026-01-02T03:04:06Z","input":"started","value":{"Name":"router","PID":77}}
{"at":"2026-01-02T03:04:07Z","input":"exited","value":{"Name":"router","How":"signal: killed"}}
`
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := command()
	c.SetOut(&out)
	c.SetArgs([]string{"replay", path})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"router           starting", "running    process 77", "backoff    signal: killed; next start in 100ms", "had not"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	c = command()
	c.SetArgs([]string{"replay", path + ".missing"})
	if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is missing: %v", err)
	}
}
