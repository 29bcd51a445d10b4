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
	lines := `{"at":"2026-01-02T03:04:05Z","input":"routes","value":[{"type":"AddVRF","update":{"VRF":7}},` +
		`{"type":"SetInterface","update":{"Interface":{"ID":1,"Name":"a","VRF":7,"Up":true,"Addresses":["10.0.0.1/24"]}}}]}` + "\n"
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
	for _, want := range []string{"1 inputs with 2 updates, from 2026-01-02T03:04:05Z", "1 VRFs, 2 routes", "handler routes: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	for _, args := range [][]string{{"replay"}, {"replay", path + ".missing"}, {"replay", "/dev/zero"}} {
		c = command()
		c.SetArgs(args)
		if c.Execute() == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
