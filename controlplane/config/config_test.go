package config

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestFaultsSayWhereAndWhy(t *testing.T) {
	text, err := os.ReadFile("testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "=== ")[1:] {
		name, rest, _ := strings.Cut(block, "\n")
		in, want, ok := strings.Cut(rest, "--- want\n")
		if !ok {
			t.Fatalf("%s: no want", name)
		}
		t.Run(name, func(t *testing.T) {
			c, err := Parse("bad.yaml", []byte(in))
			if c != nil || err == nil {
				t.Fatal("was accepted")
			}
			var es Errors
			if !errors.As(err, &es) {
				t.Fatalf("%v is not Errors", err)
			}
			if got := err.Error() + "\n"; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestSyntaxErrorsHaveALine(t *testing.T) {
	for _, in := range []string{"a: [1\nb: 2\n", "\tsystem:\n", "a: b: c\n", "system: {hostname: \"x}\n"} {
		_, err := Parse("x.yaml", []byte(in))
		var es Errors
		if !errors.As(err, &es) || es[0].Line == 0 {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestEmptyIsTheDefault(t *testing.T) {
	c, err := Parse("empty", nil)
	if err != nil || len(c.VRFs) != 1 || c.VRFs[0].Name != DefaultVRFName || c.VRFs[0].Number() != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestRedactedHidesPasswordsAndKeepsTheOriginal(t *testing.T) {
	c, err := Parse("x", []byte("vrfs: [{name: r, bgp: {as: 1, router-id: 1.1.1.1, neighbors: [{address: 1.1.1.2, as: 2, import: accept, export: local, password: hush}]}}]"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Marshal(Redacted(c))
	if err != nil || bytes.Contains(shown, []byte("hush")) {
		t.Fatalf("%s %v", shown, err)
	}
	if c.VRF("r").BGP.Neighbors[0].Password != "hush" {
		t.Fatal("the original lost its password")
	}
}

func TestNumbersStay(t *testing.T) {
	c, err := Parse("x", []byte("cards: [{id: 3}]\nvrfs: [{name: red}, {name: blue, id: 7}]\ninterfaces: [{name: a, card: 3, device: e, addresses: []}]"))
	if err != nil {
		t.Fatal(err)
	}
	if id := VRFID(c, "blue"); id != 7 {
		t.Errorf("blue is %d", id)
	}
	if id := VRFID(c, "red"); id != VRFID(&Config{}, "red") || id == 0 {
		t.Errorf("red is %d", id)
	}
	if id := InterfaceID(c, "a"); id.Card() != 3 || id == 0 || InterfaceID(c, "b") != 0 {
		t.Errorf("a is %d", id)
	}
	if PortID(3, "e").Card() != 3 {
		t.Error("port not on its card")
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"../../configs/reference.yaml", "../../configs/minimal.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := Parse("fuzz", in)
		if err != nil {
			return
		}
		out, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("printed", out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !reflect.DeepEqual(normal(c), normal(again)) {
			t.Fatalf("changed when printed and parsed:\n%s", out)
		}
	})
}

// normal makes empty and missing lists alike: they mean the same.
func normal(c *Config) string {
	out, _ := Marshal(c)
	return string(out)
}
