// Package configs holds the shipped configurations; this test keeps them true.
package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"godwit/controlplane/config"
)

func TestShippedConfigurationsParseAndPrintToThemselves(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	labs, _ := filepath.Glob("lab/*-r[0-9].yaml")
	files = append(files, labs...)
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, f := range files {
		c, err := config.Load(f)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		printed, err := config.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse("printed "+f, printed)
		if err != nil {
			t.Errorf("%s does not parse back: %v\n%s", f, err, printed)
			continue
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%s changes when printed and parsed:\n%s", f, printed)
		}
		if second, _ := config.Marshal(again); !bytes.Equal(printed, second) {
			t.Errorf("%s prints differently the second time", f)
		}
	}
}

func TestReferenceNamesEveryKey(t *testing.T) {
	text, err := os.ReadFile("reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range config.Keys() {
		if !bytes.Contains(text, []byte(key+":")) {
			t.Errorf("reference.yaml does not explain %q", key)
		}
	}
}
