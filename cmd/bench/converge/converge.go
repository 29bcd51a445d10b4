// Package converge measures how long the router takes from the establishment of
// a BGP session until a line card has acknowledged the full table, and BIRD from
// the same point until the kernel has it. Both get the same table from a BIRD of
// the same configuration, one after the other, so that they do not disturb each
// other.
package converge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/bgp/bgptest"
	"godwit/controlplane/mgmt"
)

// Options of a measurement.
type Options struct {
	Bin, Trust string               // the router's binaries and the keys that signed them
	Routes     int                  // IPv4 prefixes; negative: the full table
	Progress   func(string, ...any) // may not be nil
}

// Result is one run of one candidate.
type Result struct {
	Routes  int
	Seconds float64 // from the session's establishment to the last route
	CPU     float64 // seconds of all processes of the candidate
	Memory  int64   // bytes resident at most, all processes of the candidate
}

// limit bounds one run.
const limit = 5 * time.Minute

const feeder = `log stderr all;
router id 10.255.0.2;
protocol device {}
protocol static feed {
 ipv4;
include "%s";
}
protocol bgp peer {
 local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001;
 graceful restart on; connect delay time 1; connect retry time 2; %s
 ipv4 { import none; export where source = RTS_STATIC; };
}
`

const kernelBIRD = `log stderr all;
router id 10.255.0.1;
protocol device {}
protocol kernel kernel4 { ipv4 { import none; export all; }; }
protocol bgp peer {
 local 10.0.0.1 as 65001; neighbor 10.0.0.2 as 65002;
 graceful restart on; connect delay time 1; connect retry time 2;
 ipv4 { import all; export none; };
}
`

const router = `system: {hostname: converge}
cards:
  - id: 1
vrfs:
  - name: default
    bgp:
      as: 65001
      router-id: 10.255.0.1
      neighbors:
        - {address: 10.0.0.2, as: 65002, import: accept, export: reject}
interfaces:
  - {name: feed, card: 1, device: eth0, addresses: [10.0.0.1/24]}
`

// Table writes the feed of a measurement into the folder and returns its name
// and length.
func Table(dir string, n int) (string, int, error) {
	v4, _, err := bgptest.Prefixes(n, 0)
	if err != nil {
		return "", 0, err
	}
	name := filepath.Join(dir, "table.conf")
	f, err := os.Create(name)
	if err != nil {
		return "", 0, fmt.Errorf("write table: %w", err)
	}
	err = bgptest.Table{Seed: 1}.Write(f, v4)
	return name, len(v4), errors.Join(err, f.Close())
}

// bench is one run: a feeder and a candidate.
type bench struct {
	o     Options
	lab   *topology.Lab
	n     int
	feed  *topology.Host
	under *topology.Host
	pids  []int // of the candidate
}

// build makes the two namespaces and starts the feeder, which waits for the
// candidate to connect.
func build(ctx context.Context, o Options, table string, n int, godwit string) (*bench, error) {
	top, err := topology.Parse("converge", []byte(`name: converge
nodes:
  - {name: under}
  - {name: feed, devices: {eth0: [10.0.0.2/24]}}
links:
  - {a: "under:eth0", b: "feed:eth0"}
`))
	if err != nil {
		return nil, err
	}
	for i := range top.Nodes {
		switch top.Nodes[i].Name {
		case "feed":
			top.Nodes[i].Bird = fmt.Sprintf(feeder, table, "passive on;")
		default:
			top.Nodes[i].Godwit = godwit
			if godwit == "" {
				top.Nodes[i].Devices = map[string][]string{"eth0": {"10.0.0.1/24"}}
				top.Nodes[i].Bird = kernelBIRD
			}
		}
	}
	lab, err := topology.Build(ctx, top, topology.Options{Bin: o.Bin, Trust: o.Trust, Prefix: fmt.Sprintf("gwt-converge-%d", os.Getpid()), Log: io.Discard})
	if err != nil {
		return nil, err
	}
	b := &bench{o: o, lab: lab, n: n, feed: lab.Node("feed"), under: lab.Node("under")}
	if err := lab.StartPeers(ctx, "feed"); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	err = poll(ctx, 100*time.Millisecond, "the feeder's table", func() (bool, error) {
		out, err := b.feed.Birdc(ctx, "show", "route", "count")
		return err == nil && strings.Contains(out, fmt.Sprintf("%d of %d routes", n, n)), nil
	})
	if err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return b, nil
}

// measure starts the clock when the feeder says that the session is up, and
// stops it when done does.
func (b *bench) measure(ctx context.Context, every time.Duration, done func() (bool, error)) (Result, error) {
	err := poll(ctx, 10*time.Millisecond, "the session", func() (bool, error) {
		out, err := b.feed.Birdc(ctx, "show", "protocols", "peer")
		return err == nil && strings.Contains(out, "Established"), nil
	})
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	if err := poll(ctx, every, "all routes", done); err != nil {
		return Result{}, err
	}
	r := Result{Routes: b.n, Seconds: time.Since(start).Seconds()}
	for _, pid := range b.pids {
		cpu, mem, err := usage(pid)
		if err != nil {
			return Result{}, err
		}
		r.CPU += cpu
		r.Memory += mem
	}
	return r, nil
}

// Kernel is the baseline: BIRD writing the table into the kernel.
func Kernel(ctx context.Context, o Options, table string, n int) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := build(ctx, o, table, n, "")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	if err := b.lab.StartPeers(ctx, "under"); err != nil {
		return Result{}, err
	}
	b.pids = []int{b.under.Proc("bird").PID()}
	return b.measure(ctx, 100*time.Millisecond, func() (bool, error) {
		out, err := b.under.Birdc(ctx, "show", "protocols", "all", "kernel4")
		if err != nil || !strings.Contains(out, fmt.Sprintf("%d exported", n)) {
			return false, err
		}
		// BIRD is done; does the kernel agree?
		out, err = b.under.Exec(ctx, "cat", "/proc/net/fib_triestat")
		return err == nil && prefixes(out) >= n, err
	})
}

// prefixes is the size of the largest trie in /proc/net/fib_triestat.
func prefixes(stat string) int {
	most := 0
	for line := range strings.Lines(stat) {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "Prefixes: %d", &n); err == nil {
			most = max(most, n)
		}
	}
	return most
}

// Godwit is the candidate: supervisor, routing engine, BGP speaker, line card.
func Godwit(ctx context.Context, o Options, table string, n int) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "godwit-converge-")
	if err != nil {
		return Result{}, fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	conf := filepath.Join(dir, "router.yaml")
	if err := os.WriteFile(conf, []byte(router), 0o600); err != nil {
		return Result{}, fmt.Errorf("write configuration: %w", err)
	}
	b, err := build(ctx, o, table, n, conf)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	if err := b.lab.StartGodwit(ctx, "under"); err != nil {
		return Result{}, err
	}
	c := mgmt.NewClient(filepath.Join(b.under.RunDir(), "mgmt.sock"))
	defer c.Close()
	if err := b.modules(ctx, c); err != nil {
		return Result{}, fmt.Errorf("%w; godwitd says: %s", err, b.under.Proc("godwitd").Output())
	}
	return b.measure(ctx, 100*time.Millisecond, func() (bool, error) {
		s, err := c.FIBSummary(ctx)
		if err != nil || len(s.Cards) != 1 || !s.Cards[0].Converged {
			return false, err
		}
		have := 0
		for _, v := range s.Cards[0].VRFs {
			have += v.Routes4
		}
		return have >= n, nil
	})
}

// modules waits until all modules run and notes their process numbers.
func (b *bench) modules(ctx context.Context, c *mgmt.Client) error {
	return poll(ctx, 50*time.Millisecond, "the modules", func() (bool, error) {
		m, err := c.Modules(ctx)
		if err != nil {
			return false, nil // not listening yet
		}
		roles := map[string]bool{}
		b.pids = []int{b.under.Proc("godwitd").PID()}
		for _, s := range m.Modules {
			if s.State == "refused" {
				return false, fmt.Errorf("module %s: %s", s.Name, s.Reason)
			}
			if s.State == "running" && s.PID > 0 {
				roles[s.Role] = true
				b.pids = append(b.pids, s.PID)
			}
		}
		return roles["router"] && roles["linecard"] && roles["bgp"], nil
	})
}

// poll asks until the answer is yes, an error, or the context ends.
func poll(ctx context.Context, every time.Duration, what string, f func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		ok, err := f()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-t.C:
		}
	}
}

// usage reads a process's processor time in seconds and its largest resident
// memory in bytes.
func usage(pid int) (cpu float64, memory int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read usage: %w", err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, sys float64
	if len(f) < 13 {
		return 0, 0, fmt.Errorf("read usage of %d: short line", pid)
	}
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &sys); err != nil {
		return 0, 0, fmt.Errorf("read usage of %d: %w", pid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read usage: %w", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0, 0, fmt.Errorf("read usage of %d: %w", pid, err)
	}
	return (user + sys) / 100, kb << 10, nil
}
