// Package docs holds the manual; this test keeps its examples true.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"godwit/controlplane/cli"
	"godwit/controlplane/config"
)

var block = regexp.MustCompile("(?s)```(yaml|console)\n(.*?)```")

func TestExamplesAreTrue(t *testing.T) {
	files, err := filepath.Glob("*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	examples := 0
	for _, f := range append(files, "../README.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			examples++
			if m[1] == "yaml" {
				if _, err := config.Parse(f, []byte(m[2])); err != nil {
					t.Errorf("example in %s: %v\n%s", f, err, m[2])
				}
				continue
			}
			for line := range strings.Lines(m[2]) {
				if words, ok := strings.CutPrefix(strings.TrimSpace(line), "godwit "); ok {
					if err := cli.Check(strings.Fields(words)); err != nil {
						t.Errorf("example in %s: %s: %v", f, line, err)
					}
				}
			}
		}
	}
	if examples < 3 {
		t.Errorf("only %d examples found", examples)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	files, _ := filepath.Glob("*.md")
	for _, f := range append(files, "../README.md", "../ARCHITECTURE.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(f), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", f, m[1], err)
			}
		}
	}
}
