package converge

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestSmall measures a small table, to see that both ways are measured at all.
func TestSmall(t *testing.T) {
	bin := t.TempDir()
	for _, p := range []string{"godwitd", "godwit-router", "godwit-linecard", "godwit-bgp", "godwit-sign"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, p), "godwit/cmd/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", p, err, out)
		}
	}
	trust := filepath.Join(bin, "trust")
	if err := os.Mkdir(trust, 0o755); err != nil {
		t.Fatal(err)
	}
	sign := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(filepath.Join(bin, "godwit-sign"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	sign("key", "generate", filepath.Join(bin, "dev"))
	if err := os.Rename(filepath.Join(bin, "dev.pem"), filepath.Join(trust, "dev.pem")); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"router", "linecard", "bgp"} {
		sign("sign", "--key", filepath.Join(bin, "dev.key"), "--role", role, filepath.Join(bin, "godwit-"+role))
	}
	o := Options{Bin: bin, Trust: trust, Progress: t.Logf}
	o.Routes, o.Routes6 = 5000, 700
	table, err := WriteTable(t.TempDir(), o)
	if err != nil || table.N4 != 5000 || table.N6 != 700 {
		t.Fatal(table, err)
	}
	for name, c := range map[string]struct {
		run   func(context.Context, Options, Table) (Result, error)
		procs []string
	}{
		"BIRD":   {BIRD, []string{"bird"}},
		"FRR":    {FRR, []string{"bgpd", "zebra"}},
		"Godwit": {Godwit, []string{"bgp-default", "godwitd", "linecard-1", "linecard-2", "router"}},
	} {
		r, err := c.run(t.Context(), o, table)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.Routes != 5700 || r.Seconds <= 0 || r.Seconds > 30 || r.CPU <= 0 || r.Memory < 1<<20 {
			t.Errorf("%s: %+v", name, r)
		}
		var procs []string
		for _, p := range r.Processes {
			procs = append(procs, p.Name)
		}
		if !slices.Equal(procs, c.procs) {
			t.Errorf("%s: processes %v, want %v", name, procs, c.procs)
		}
		t.Logf("%s: %+v", name, r)
	}
}

func TestPrefixes(t *testing.T) {
	const stat = "Main:\n\tAver depth: 2\n\tPrefixes:       12\nLocal:\n\tPrefixes:       7\n"
	if got := prefixes(stat); got != 12 {
		t.Errorf("%d, want 12", got)
	}
}

func TestSince(t *testing.T) {
	const head = "BIRD 2.0.12 ready.\nName       Proto      Table      State  Since         Info\n"
	at, up := since(head+"peer       BGP        ---        up     2026-11-22 06:15:03.123456  Established   \n", time.UTC)
	if want := time.Date(2026, 11, 22, 6, 15, 3, 123456000, time.UTC); !up || !at.Equal(want) {
		t.Errorf("%v %v, want %v", at, up, want)
	}
	for _, out := range []string{"", head, head + "peer BGP --- start 2026-11-22 06:15:03.1 Passive\n", head + "peer BGP --- up today now Established\n"} {
		if at, up := since(out, time.UTC); up {
			t.Errorf("%q: up since %v", out, at)
		}
	}
}

func TestCounter(t *testing.T) {
	const out = "Zebra dataplane:\nRoute updates:            901899\nRoute update errors:      0\n"
	if n := counter(out, "Route updates:"); n != 901899 {
		t.Errorf("%d", n)
	}
	if n := counter(out, "Nothing:"); n != 0 {
		t.Errorf("%d", n)
	}
}

func TestEntries6(t *testing.T) {
	if n := entries6("0009 0006 000f 271a3 0000 0000 0000\n"); n != 0x271a3 {
		t.Errorf("%d", n)
	}
	for _, out := range []string{"", "1 2 3", "1 2 3 x", "1 2 3 fffffffff"} {
		if n := entries6(out); n != 0 {
			t.Errorf("%q: %d", out, n)
		}
	}
}

func TestLoaded(t *testing.T) {
	const out = "BIRD 2.0.12 ready.\n5000 of 5000 routes for 5000 networks in table master4\n700 of 700 routes for 700 networks in table master6\n"
	if !loaded(out, 5000) || !loaded(out, 700) || !loaded(out, 0) || loaded(out, 699) {
		t.Error("wrong")
	}
}
