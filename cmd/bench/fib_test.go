package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"godwit/fib/patricia"
)

// somePrefixes are n different /24 or /48.
func somePrefixes(n int, v6 bool) (out []netip.Prefix) {
	for i := range n {
		var b [16]byte
		binary.BigEndian.PutUint32(b[:], 0x20000000+uint32(i*5)<<8)
		if v6 {
			out = append(out, netip.PrefixFrom(netip.AddrFrom16(b), 48))
		} else {
			out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 24))
		}
	}
	return out
}

// reported runs f and returns the figures that it prints.
func reported(t *testing.T, f func(*report) error) map[string]figure {
	t.Helper()
	var out bytes.Buffer
	if err := f(&report{out: json.NewEncoder(&out), start: time.Now()}); err != nil {
		t.Fatal(err)
	}
	all := map[string]figure{}
	for d := json.NewDecoder(&out); d.More(); {
		var x figure
		if err := d.Decode(&x); err != nil {
			t.Fatal(err)
		}
		all[x.Name] = x
	}
	return all
}

// DPDK's tables find every address that ours find; where the libraries are
// missing, the error says what to install.
func TestDPDK(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		prefixes := somePrefixes(1000, v6)
		a := announced(prefixes, 6400)
		d, err := newDPDK(prefixes, &a)
		if err != nil {
			if !strings.Contains(err.Error(), "librte-fib23") {
				t.Fatal(err)
			}
			continue
		}
		if scalar, _, err := d.round(); err != nil || scalar <= 0 {
			t.Errorf("%v lookups/s, %v", scalar, err)
		}
		if err := d.close(); err != nil {
			t.Error(err)
		}
		elsewhere := announced([]netip.Prefix{netip.MustParsePrefix(map[bool]string{false: "10.0.0.0/8", true: "fd00::/8"}[v6])}, 6400)
		if d, err = newDPDK(prefixes, &elsewhere); err == nil || !strings.Contains(err.Error(), "no route") {
			t.Errorf("addresses without routes: %v", err)
		}
		if err == nil {
			d.close()
		}
	}
}

func TestFIBChurnAndLatency(t *testing.T) {
	prefixes := somePrefixes(60_000, false)
	figures := reported(t, func(r *report) error {
		if err := fibChurn(r, prefixes); err != nil {
			return err
		}
		return fibLatency(r, prefixes)
	})
	for _, name := range []string{"fib.readers_under_churn", "fib.update_p999.under_readers", "fib.lookup4_p999.1000k"} {
		if f := figures[name]; f.Value <= 0 || f.Runs != fibRuns {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := figures["fib.readers_under_churn"]; f.BaselineValue <= 0 || f.Baseline != "no_churn" {
		t.Errorf("readers: %+v", f)
	}
}

func TestFIBLookupAndChange(t *testing.T) {
	prefixes := somePrefixes(2000, true)
	figures := reported(t, func(r *report) error {
		if err := fibLookup(r, "6", prefixes); err != nil {
			return err
		}
		return fibChange(r, prefixes, patricia.Kentik, ".kentik")
	})
	for _, name := range []string{"fib.lookup6.rate", "fib.lookup6.batch.bart.rate", "fib.insert.2k.kentik", "fib.delete.2k.kentik", "fib.update_p999.2k.kentik"} {
		if f := figures[name]; f.Value <= 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
