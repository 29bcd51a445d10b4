package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func find(t *testing.T, table []command, name string) command {
	t.Helper()
	for _, c := range table {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("no command %s", name)
	return command{}
}

func TestWordsAreSorted(t *testing.T) {
	route, ping := find(t, showCommands(), "route"), find(t, plainCommands(), "ping")
	for _, tt := range []struct {
		c    command
		line string
		want words
	}{
		{route, "", words{}},
		{route, "vrf red 192.0.2.1 detail", words{"vrf": "red", "": "192.0.2.1", "detail": "true"}},
		{route, "10.0.0.0/8 lon v red", words{"": "10.0.0.0/8", "longer": "true", "vrf": "red"}},
		{route, "next 10.0.0.1 proto bgp", words{"next-hop": "10.0.0.1", "protocol": "bgp"}},
		{ping, "192.0.2.1 count 3 df", words{"": "192.0.2.1", "count": "3", "df": "true"}},
	} {
		got, err := tt.c.parse(strings.Fields(tt.line))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s %q: %v, %v", tt.c.name, tt.line, got, err)
		}
	}
}

func TestWrongWordsSayWhatWouldBeRight(t *testing.T) {
	for line, want := range map[string]string{
		"show":                             "One of: version, modules",
		"show frobs":                       `unknown word "frobs"`,
		"show route vrf":                   `"vrf" needs NAME`,
		"show route 10.0.0.1/8":            "did you mean 10.0.0.0/8?",
		"show route 10.0.0.0/8 11.0.0.0/8": "one is enough",
		"show route longer":                "goes with a prefix",
		"show route nonsense":              "not a prefix (192.0.2.0/24) or an address",
		"show fib card x":                  "a number from 1 to 65535",
		"ping":                             "ADDRESS is missing",
		"ping 192.0.2.1 interval soon":     "not a duration",
		"capture":                          "interface NAME is missing",
		"apply":                            "FILE is missing",
		"reset bgp vrf red":                "ADDRESS is missing",
		"show version --frob":              "unknown flag",
	} {
		var out, errw bytes.Buffer
		code := Execute(context.Background(), append(strings.Fields(line), "--run-dir", t.TempDir()), &out, &errw)
		if code != 2 && !strings.HasPrefix(line, "show version --frob") || !strings.Contains(errw.String(), want) {
			t.Errorf("%q: status %d, %s", line, code, errw.String())
		}
		if out.Len() > 0 {
			t.Errorf("%q printed %s", line, out.String())
		}
	}
}

func TestNoRouterIsAClearError(t *testing.T) {
	var out, errw bytes.Buffer
	code := Execute(context.Background(), []string{"show", "version", "--run-dir", t.TempDir()}, &out, &errw)
	if code != 1 || !strings.Contains(errw.String(), "mgmt.sock") {
		t.Errorf("status %d, %s", code, errw.String())
	}
}

func TestCheckWorksWithoutARouter(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for name, text := range map[string]string{good: "system: {hostname: x}\n", bad: "sytem: {}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errw bytes.Buffer
	if code := Execute(context.Background(), []string{"check", good, "--run-dir", dir}, &out, &errw); code != 0 || !strings.Contains(out.String(), "is valid") {
		t.Errorf("status %d, %s%s", code, out.String(), errw.String())
	}
	if code := Execute(context.Background(), []string{"check", bad, "--run-dir", dir}, &out, &errw); code != 1 || !strings.Contains(errw.String(), `bad.yaml:1:1: sytem: unknown key "sytem" (did you mean "system"?)`) {
		t.Errorf("status %d, %s", code, errw.String())
	}
}

func TestEveryCommandHelpsAndCompletes(t *testing.T) {
	for _, line := range []string{"show", "clear", "reset", "check", "apply", "ping", "capture"} {
		var out, errw bytes.Buffer
		if code := Execute(context.Background(), []string{line, "--help"}, &out, &errw); code != 0 || out.Len() == 0 {
			t.Errorf("%s --help: %d", line, code)
		}
	}
	var out, errw bytes.Buffer
	Execute(context.Background(), []string{"__complete", "show", "route", ""}, &out, &errw)
	for _, w := range []string{"vrf", "longer", "protocol", "detail"} {
		if !strings.Contains(out.String(), w+"\t") {
			t.Errorf("completion lacks %s:\n%s", w, out.String())
		}
	}
	out.Reset()
	Execute(context.Background(), []string{"__complete", "show", "route", "protocol", ""}, &out, &errw)
	if !strings.Contains(out.String(), "connected") {
		t.Errorf("no protocols proposed: %s", out.String())
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out.Reset()
		if code := Execute(context.Background(), []string{"completion", shell}, &out, &errw); code != 0 || out.Len() == 0 {
			t.Errorf("no completion for %s", shell)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("vrf red 192.0.2.1 detail")
	f.Fuzz(func(t *testing.T, line string) {
		for _, table := range [][]command{showCommands(), plainCommands(), clearCommands(), resetCommands()} {
			for _, c := range table {
				if w, err := c.parse(strings.Fields(line)); err == nil {
					r := reader{w: w}
					r.target("")
					r.number("count", 0, 9)
					r.duration("interval")
				}
			}
		}
	})
}
