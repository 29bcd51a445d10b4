package topology

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const twoBirds = `
name: two-birds
nodes:
  - name: a
    devices: {eth0: [10.0.0.1/24]}
    feed: {count4: 1000, count6: 10, as: 100000}
    bird: |
      router id 10.0.0.1;
      protocol device {}
      {{feed}}
      protocol bgp b { local 10.0.0.1 as 65001; neighbor 10.0.0.2 as 65002; ipv4 { import all; export all; }; }
  - name: b
    devices: {eth0: [10.0.0.2/24]}
    frr: |
      router bgp 65002
       bgp router-id 10.0.0.2
       no bgp ebgp-requires-policy
       neighbor 10.0.0.1 remote-as 65001
links:
  - {a: "a:eth0", b: "b:eth0", mtu: 1400, queues: 2}
`

func TestRealPeersExchangeAFeedAndNothingIsLeft(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	top, err := Parse("test", []byte(twoBirds))
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf("gwt-topology-%d", os.Getpid())
	lab, err := Build(ctx, top, Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(ctx); err != nil {
		t.Error(err)
	}
	err = Wait(ctx, func() error {
		out, err := lab.Node("b").Vtysh(ctx, "show bgp ipv4 unicast summary")
		if err == nil && !strings.Contains(out, "1000") {
			err = fmt.Errorf("no 1000 prefixes in %s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	pid := lab.Node("a").Proc("bird").PID()
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		t.Error("BIRD still runs")
	}
	if left, _ := filepath.Glob("/run/netns/" + prefix + "*"); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
	if _, err := os.Stat(lab.Dir); err == nil {
		t.Errorf("%s left", lab.Dir)
	}
}

func TestBadTopologiesAreRefused(t *testing.T) {
	for in, want := range map[string]string{
		"name: X y":                                                      "bad name",
		"name: x\nnodez: []":                                             "nodez",
		"name: x\nnodes: [{name: a}, {name: a}]":                         "repeated",
		"name: x\nlinks: [{a: \"a:b\", b: \"c:d\"}]":                     "not node:device",
		"name: x\nnodes: [{name: a, devices: {e: [10.0.0.300/8]}}]":      "device e",
		"name: x\nnodes: [{name: a}]\nlinks: [{a: \"a:e\", b: \"a:e\"}]": "two links",
	} {
		if _, err := Parse("t", []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func TestShippedTopologiesParse(t *testing.T) {
	files, _ := filepath.Glob("../../../configs/lab/*.yaml")
	n := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nnodes:") {
			continue // a router's configuration
		}
		n++
		top, err := Load(f)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, node := range top.Nodes {
			if _, err := os.Stat(top.path(node.Godwit)); node.Godwit != "" && err != nil {
				t.Error(err)
			}
		}
	}
	if n == 0 {
		t.Error("no topology found")
	}
}

func TestTheTableIsWhole(t *testing.T) {
	v4, v6, err := Table()
	if err != nil || len(v4) != 901899 || len(v6) != 160147 {
		t.Errorf("%d IPv4 and %d IPv6 prefixes, %v", len(v4), len(v6), err)
	}
	if _, _, err := (Feed{Count4: 10, Skip: 901890}).Prefixes(); err == nil {
		t.Error("a feed behind the end of the table")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(twoBirds))
	f.Fuzz(func(t *testing.T, in []byte) {
		if top, err := Parse("fuzz", in); err == nil && top.Name == "" {
			t.Error("a topology without a name")
		}
	})
}
