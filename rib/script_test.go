package rib

import (
	"bufio"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"godwit/fib"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScripts runs testdata/*.txt. A script is blocks of commands, each
// followed by what came out, behind "> ":
//
//	interface ID NAME vrf V up|down ADDRESS...
//	static vrf V PREFIX [distance D] [tag T] via ADDRESS[@ID][^VRF][*WEIGHT][+]... | via @ID | blackhole | reject [track ADDRESS | @ID ...]
//	no static vrf V PREFIX [distance D]
//	bgp vrf V PREFIX [via ADDRESS[@ID][%COMMUNITY,...]... [internal]]
//	vrf V / no vrf V / no interface ID / stale V PROTOCOL / sweep V PROTOCOL
//	leak FROM TO [tag T | community C] / no leak FROM TO / options V [resolve-by-default] [ebgp D] [limit N] [refuse]
//	apply                 applies what was said since, until nothing waits; prints the changes
//	slice                 applies once
//	lookup V ADDRESS      explains
//	table V               prints the table
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, table: New(Options{Slice: 4})}
	var got strings.Builder
	for in := bufio.NewScanner(strings.NewReader(string(data))); in.Scan(); {
		line := in.Text()
		if strings.HasPrefix(line, ">") {
			continue
		}
		fmt.Fprintln(&got, line)
		for _, out := range s.run(strings.Fields(line)) {
			fmt.Fprintln(&got, strings.TrimRight("> "+out, " "))
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(data) {
		t.Errorf("%s differs (go test ./rib -update rewrites it); got:\n%s", file, got.String())
	}
}

type script struct {
	t       *testing.T
	table   *Table
	pending []Update
}

func (s *script) run(w []string) []string {
	if len(w) == 0 || strings.HasPrefix(w[0], "#") {
		return nil
	}
	switch w[0] {
	case "apply", "slice":
		s.table.Apply(s.pending...)
		s.pending = nil
		for w[0] == "apply" && s.table.More() {
			s.table.Apply()
		}
		return s.drain()
	case "lookup":
		return s.lookup(vrfNumber(s.t, w[1]), netip.MustParseAddr(w[2]))
	case "table":
		return s.print(vrfNumber(s.t, w[1]))
	}
	s.pending = append(s.pending, parseUpdate(s.t, w))
	return nil
}

func (s *script) drain() []string {
	var out []string
	for _, c := range s.table.Drain() {
		out = append(out, formatChange(c))
	}
	for _, b := range s.table.DrainBest() {
		line := fmt.Sprintf("best %d %v %v tag %d", b.VRF, b.Prefix, b.Protocol, b.Tag)
		if b.Leaked {
			line += " leaked"
		}
		out = append(out, line)
	}
	for _, n := range s.table.DrainNotices() {
		out = append(out, fmt.Sprintf("limit %d %v: %d of %d", n.VRF, n.State, n.Count, n.Limit))
	}
	for _, v := range s.table.DrainMissing() {
		out = append(out, fmt.Sprintf("missing %d", v))
	}
	return out
}

func (s *script) lookup(v fib.VRF, a netip.Addr) []string {
	var out []string
	for _, r := range s.table.Lookup(v, a) {
		out = append(out, fmt.Sprintf("%v group %d", r.Prefix, r.Group))
		for _, c := range r.Candidates {
			stale := ""
			if c.Stale {
				stale = " stale"
			}
			if c.Leaked {
				stale += fmt.Sprintf(" from %d", c.Origin)
			}
			out = append(out, fmt.Sprintf("  %v [%d] %v%s: %s", c.Protocol, c.Distance, c.Kind, stale, c.Reason))
			for _, via := range c.Vias {
				for _, line := range via.Chain {
					out = append(out, "    "+line)
				}
			}
			for _, via := range c.Tracks {
				for _, line := range via.Chain {
					out = append(out, "    tracks "+line)
				}
			}
			if len(c.Resolved) > 0 {
				out = append(out, "    to "+formatHops(c.Resolved))
			}
		}
	}
	return out
}

func (s *script) print(v fib.VRF) []string {
	var out []string
	for c, done := (Cursor{}), false; !done; {
		var page []Route
		page, c, done = s.table.Page(v, Filter{}, c, 2)
		for _, r := range page {
			for _, x := range r.Candidates {
				out = append(out, fmt.Sprintf("%v group %d %v %v %s", r.Prefix, r.Group, x.Protocol, x.Kind, formatHops(x.Resolved)))
			}
		}
	}
	return out
}

func formatChange(c fib.Change) string {
	switch c.Op {
	case fib.SetGroup:
		return strings.TrimSpace(fmt.Sprintf("%v %d %v %s", c.Op, c.Group.ID, c.Group.Kind, formatHops(c.Group.NextHops)))
	case fib.DeleteGroup:
		return fmt.Sprintf("%v %d", c.Op, c.Group.ID)
	case fib.SetRoute:
		return fmt.Sprintf("%v %d %v group %d", c.Op, c.Route.VRF, c.Route.Prefix, c.Route.Group)
	}
	return fmt.Sprintf("%v %d %v", c.Op, c.Route.VRF, c.Route.Prefix)
}

func formatHops(hops []fib.NextHop) string {
	var out []string
	for _, h := range hops {
		s := "@" + strconv.Itoa(int(h.Interface))
		if h.Gateway.IsValid() {
			s = h.Gateway.String() + s
		}
		if h.Weight != 1 {
			s += "*" + strconv.Itoa(int(h.Weight))
		}
		if h.Backup {
			s += "+"
		}
		out = append(out, s)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func vrfNumber(t *testing.T, s string) fib.VRF { return fib.VRF(number(t, s)) }

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// parseUpdate reads one update of a script.
func parseUpdate(t *testing.T, w []string) Update {
	t.Helper()
	line := strings.Join(w, " ")
	no := w[0] == "no"
	if no {
		w = w[1:]
	}
	switch w[0] {
	case "vrf":
		if no {
			return RemoveVRF{vrfNumber(t, w[1])}
		}
		return AddVRF{vrfNumber(t, w[1])}
	case "interface":
		id := fib.InterfaceID(number(t, w[1]))
		if no {
			return RemoveInterface{id}
		}
		f := Interface{ID: id, Name: w[2], VRF: vrfNumber(t, w[4]), Up: w[5] == "up"}
		for _, a := range w[6:] {
			f.Addresses = append(f.Addresses, netip.MustParsePrefix(a))
		}
		return SetInterface{f}
	case "leak":
		return parseLeak(t, no, w)
	case "options":
		return parseOptions(t, w)
	case "static":
		return parseStatic(t, no, w)
	case "bgp":
		return parseBGP(t, w)
	case "stale", "sweep":
		p, ok := ParseProtocol(w[2])
		if !ok {
			t.Fatalf("%s: protocol", line)
		}
		if w[0] == "stale" {
			return MarkStale{vrfNumber(t, w[1]), p}
		}
		return Sweep{vrfNumber(t, w[1]), p}
	}
	t.Fatalf("%s: unknown command", line)
	return nil
}

func parseLeak(t *testing.T, no bool, w []string) Update {
	from, to := vrfNumber(t, w[1]), vrfNumber(t, w[2])
	if no {
		return DeleteLeak{from, to}
	}
	l := SetLeak{From: from, To: to, Rules: []LeakRule{{}}}
	if len(w) > 3 && w[3] == "community" {
		l.Rules[0].Import.Communities = w[4:]
	} else if len(w) > 3 {
		l.Rules[0].Export.Tags = []uint32{uint32(number(t, w[4]))}
	}
	return l
}

func parseOptions(t *testing.T, w []string) Update {
	var o VRFOptions
	for i := 2; i < len(w); i++ {
		switch w[i] {
		case "resolve-by-default":
			o.ResolveByDefault = true
		case "refuse":
			o.Refuse = true
		case "ebgp":
			i++
			o.EBGP = uint8(number(t, w[i]))
		case "limit":
			i++
			o.Limit = number(t, w[i])
			o.Warn = o.Limit - 1
		default:
			t.Fatalf("option %q", w[i])
		}
	}
	return SetVRF{vrfNumber(t, w[1]), o}
}

func parseStatic(t *testing.T, no bool, w []string) Update {
	r := StaticRoute{Prefix: mustPrefix(w[3])}
	for i := 4; i < len(w); i++ {
		switch w[i] {
		case "distance":
			i++
			r.Distance = uint8(number(t, w[i]))
		case "tag":
			i++
			r.Tag = uint32(number(t, w[i]))
		case "blackhole":
			r.Kind = fib.Blackhole
		case "reject":
			r.Kind = fib.Reject
		case "via":
		case "track":
			for i++; i < len(w); i++ {
				r.Tracks = append(r.Tracks, parseVia(t, w[i]))
			}
		default:
			r.Vias = append(r.Vias, parseVia(t, w[i]))
		}
	}
	if no {
		return DeleteStatic{vrfNumber(t, w[2]), r.Prefix, r.Distance}
	}
	return SetStatic{vrfNumber(t, w[2]), r}
}

func parseVia(t *testing.T, s string) Via {
	var v Via
	s, v.Backup = strings.CutSuffix(s, "+")
	if at := strings.IndexByte(s, '*'); at >= 0 {
		v.Weight = uint8(number(t, s[at+1:]))
		s = s[:at]
	}
	if at := strings.IndexByte(s, '^'); at >= 0 {
		v.Foreign, v.VRF = true, vrfNumber(t, s[at+1:])
		s = s[:at]
	}
	if at := strings.IndexByte(s, '@'); at >= 0 {
		v.Interface = fib.InterfaceID(number(t, s[at+1:]))
		s = s[:at]
	}
	if s != "" {
		v.Address = netip.MustParseAddr(s)
	}
	return v
}

func parseBGP(t *testing.T, w []string) Update {
	r := BGPRoute{Prefix: mustPrefix(w[3])}
	internal := w[len(w)-1] == "internal"
	for _, s := range w[4:] {
		if s != "via" && s != "internal" {
			s, names, _ := strings.Cut(s, "%")
			v := parseVia(t, s)
			r.Paths = append(r.Paths, Path{
				NextHop: v.Address, Interface: v.Interface, Internal: internal, Communities: strings.ReplaceAll(names, ",", " "),
			})
		}
	}
	return BGPRoutes{vrfNumber(t, w[2]), []BGPRoute{r}}
}

// mustPrefix keeps host bits, unlike the table.
func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
