// Package converge measures how long the router takes from the establishment of
// a BGP session until two line cards have acknowledged the full table, and BIRD
// and FRR from the same point until the kernel has it. All get the same table
// from a BIRD of the same configuration, one after the other, so that they do
// not disturb each other.
package converge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
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
	Routes6    int                  // IPv6 prefixes; negative: the full table
	Progress   func(string, ...any) // may not be nil
}

// Result is one run of one candidate.
type Result struct {
	Routes    int
	Seconds   float64 // from the session's establishment to the last route
	CPU       float64 // seconds of all processes of the candidate, since their start
	Memory    int64   // bytes resident at most, sum of the processes
	Processes []Process
}

// Process is the share of one process.
type Process struct {
	Name   string
	CPU    float64 // seconds
	Memory int64   // bytes resident at most
}

// limit bounds one run.
const limit = 3 * time.Minute

const feeder = `log stderr all;
router id 10.255.0.2;
timeformat protocol iso long us;
protocol device {}
protocol static feed {
 ipv4;
include "%s";
}
protocol static feed6 {
 ipv6;
include "%s";
}
protocol bgp peer {
 local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001;
 graceful restart on; connect delay time 1; connect retry time 2; %s
 ipv4 { import none; export where source = RTS_STATIC; };
 ipv6 { import none; next hop address fd00:10::2; export where source = RTS_STATIC; };
}
`

const kernelBIRD = `log stderr all;
router id 10.255.0.1;
protocol device {}
protocol kernel kernel4 { ipv4 { import none; export all; }; }
protocol kernel kernel6 { ipv6 { import none; export all; }; }
protocol bgp peer {
 local 10.0.0.1 as 65001; neighbor 10.0.0.2 as 65002;
 graceful restart on; connect delay time 1; connect retry time 2;
 ipv4 { import all; export none; };
 ipv6 { import all; export none; };
}
`

const kernelFRR = `hostname converge
router bgp 65001
 bgp router-id 10.255.0.1
 no bgp ebgp-requires-policy
 bgp graceful-restart
 neighbor 10.0.0.2 remote-as 65002
 neighbor 10.0.0.2 timers connect 2
 address-family ipv4 unicast
  neighbor 10.0.0.2 route-map none out
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.0.0.2 activate
  neighbor 10.0.0.2 route-map none out
 exit-address-family
!
route-map none deny 10
!
`

const router = `system: {hostname: converge}
cards:
  - id: 1
  - id: 2
vrfs:
  - name: default
    bgp:
      as: 65001
      router-id: 10.255.0.1
      neighbors:
        - {address: 10.0.0.2, as: 65002, families: [ipv4, ipv6], import: accept, export: reject}
interfaces:
  - {name: feed, card: 1, device: eth0, addresses: [10.0.0.1/24, "fd00:10::1/64"]}
`

// Table is a feed: BIRD's routes in a file for each family, and how many they are.
type Table struct {
	File4, File6 string
	N4, N6       int
}

// WriteTable writes the feed of a measurement into the folder.
func WriteTable(dir string, o Options) (Table, error) {
	v4, v6, err := bgptest.Prefixes(o.Routes, o.Routes6)
	if err != nil {
		return Table{}, err
	}
	t := Table{filepath.Join(dir, "table4.conf"), filepath.Join(dir, "table6.conf"), len(v4), len(v6)}
	return t, errors.Join(write(t.File4, 1, v4), write(t.File6, 2, v6))
}

func write(name string, seed uint64, prefixes []netip.Prefix) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	err = bgptest.Table{Seed: seed}.Write(f, prefixes)
	return errors.Join(err, f.Close())
}

// bench is one run: a feeder and a candidate.
type bench struct {
	o     Options
	lab   *topology.Lab
	t     Table
	feed  *topology.Host
	under *topology.Host
	procs map[string]int // process numbers of the candidate, by name
}

// build makes the two namespaces and starts the feeder, which waits for the
// candidate to connect. node is the candidate's; the kernel owns its address
// unless it is Godwit.
func build(ctx context.Context, o Options, t Table, node topology.Node) (*bench, error) {
	top, err := topology.Parse("converge", []byte(`name: converge
nodes:
  - {name: under}
  - {name: feed, devices: {eth0: [10.0.0.2/24, "fd00:10::2/64"]}}
links:
  - {a: "under:eth0", b: "feed:eth0"}
`))
	if err != nil {
		return nil, err
	}
	node.Name = "under"
	if node.Godwit == "" {
		node.Devices = map[string][]string{"eth0": {"10.0.0.1/24", "fd00:10::1/64"}}
	}
	for i := range top.Nodes {
		if top.Nodes[i].Name == "feed" {
			top.Nodes[i].Bird = fmt.Sprintf(feeder, t.File4, t.File6, "passive on;")
		} else {
			top.Nodes[i] = node
		}
	}
	lab, err := topology.Build(ctx, top, topology.Options{Bin: o.Bin, Trust: o.Trust, Prefix: fmt.Sprintf("gwt-converge-%d", os.Getpid()), Log: io.Discard})
	if err != nil {
		return nil, err
	}
	b := &bench{o: o, lab: lab, t: t, feed: lab.Node("feed"), under: lab.Node("under"), procs: map[string]int{}}
	if err := lab.StartPeers(ctx, "feed"); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	err = topology.Poll(ctx, 100*time.Millisecond, "the feeder's table", func() (bool, error) {
		out, err := b.feed.Birdc(ctx, "show", "route", "count")
		return err == nil && loaded(out, t.N4) && loaded(out, t.N6), nil
	})
	if err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return b, nil
}

// loaded tells whether one of BIRD's tables has n routes.
func loaded(out string, n int) bool {
	return n == 0 || strings.Contains(out, fmt.Sprintf("%d of %d routes", n, n))
}

// measure takes the time from the session's establishment, which the feeder
// notes, until done.
func (b *bench) measure(ctx context.Context, done func() (bool, error)) (Result, error) {
	var start time.Time
	err := topology.Poll(ctx, 50*time.Millisecond, "the session", func() (bool, error) {
		out, err := b.feed.Birdc(ctx, "show", "protocols", "peer")
		if err != nil {
			return false, nil // not listening yet
		}
		var up bool
		start, up = since(out, time.Local)
		return up, nil
	})
	if err != nil {
		return Result{}, err
	}
	if err := topology.Poll(ctx, 100*time.Millisecond, "all routes", done); err != nil {
		return Result{}, err
	}
	r := Result{Routes: b.t.N4 + b.t.N6, Seconds: time.Since(start).Seconds()}
	for _, name := range slices.Sorted(maps.Keys(b.procs)) {
		cpu, mem, err := usage(b.procs[name])
		if err != nil {
			return Result{}, err
		}
		r.Processes = append(r.Processes, Process{name, cpu, mem})
		r.CPU += cpu
		r.Memory += mem
	}
	return r, nil
}

// since reads from BIRD's "show protocols" when the session came up.
func since(out string, zone *time.Location) (time.Time, bool) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 7 || f[0] != "peer" || f[6] != "Established" {
			continue
		}
		if t, err := time.ParseInLocation("2006-01-02 15:04:05.999999", f[4]+" "+f[5], zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// abandon closes the lab of a baseline: its namespace takes the kernel's routes
// along, so nobody withdraws them one by one.
func (b *bench) abandon() error {
	for name := range b.procs {
		b.under.Proc(name).Kill()
	}
	return b.lab.Close()
}

// BIRD is a baseline: BIRD writing the table into the kernel.
func BIRD(ctx context.Context, o Options, t Table) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := build(ctx, o, t, topology.Node{Bird: kernelBIRD})
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, b.abandon()) }()
	if err := b.lab.StartPeers(ctx, "under"); err != nil {
		return Result{}, err
	}
	b.procs["bird"] = b.under.Proc("bird").PID()
	return b.measure(ctx, func() (bool, error) {
		for name, n := range map[string]int{"kernel4": t.N4, "kernel6": t.N6} {
			out, err := b.under.Birdc(ctx, "show", "protocols", "all", name)
			if err != nil || !strings.Contains(out, fmt.Sprintf(" %d exported", n)) {
				return false, err
			}
		}
		return b.kernelHas(ctx)
	})
}

// FRR is a baseline: FRR's bgpd, and its zebra that writes the table into the
// kernel.
func FRR(ctx context.Context, o Options, t Table) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := frrFolder()
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := build(ctx, o, t, topology.Node{})
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, b.abandon()) }()
	for _, name := range []string{"zebra", "bgpd"} {
		p, err := b.under.Start(name, "/usr/lib/frr/"+name, "-f", filepath.Join(dir, "frr.conf"), "-z", filepath.Join(dir, "zserv.api"),
			"-i", filepath.Join(dir, name+".pid"), "--vty_socket", dir, "-P", "0", "--log", "stdout")
		if err != nil {
			return Result{}, err
		}
		b.procs[name] = p.PID()
		err = topology.Poll(ctx, 20*time.Millisecond, name, func() (bool, error) { // bgpd needs zebra
			select {
			case <-p.Done():
				return false, errors.New("it has ended")
			default:
			}
			_, err := os.Stat(filepath.Join(dir, name+".vty"))
			return err == nil, nil
		})
		if err != nil {
			return Result{}, fmt.Errorf("%w; %s says: %s", err, name, p.Output())
		}
	}
	return b.measure(ctx, func() (bool, error) {
		out, err := b.under.Exec(ctx, "vtysh", "--vty_socket", dir, "-d", "zebra", "-c", "show zebra dplane")
		if err != nil || counter(out, "Route updates:") < t.N4+t.N6 {
			return false, err
		}
		return b.kernelHas(ctx)
	})
}

// frrFolder makes a folder with FRR's configuration that belongs to the user as
// whom its daemons run.
func frrFolder() (string, error) {
	u, err := user.Lookup("frr")
	if err != nil {
		return "", fmt.Errorf("find FRR's user: %w", err)
	}
	var uid, gid int
	if _, err := fmt.Sscan(u.Uid+" "+u.Gid, &uid, &gid); err != nil {
		return "", fmt.Errorf("find FRR's user: %w", err)
	}
	dir, err := os.MkdirTemp("", "godwit-converge-frr-")
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	conf := filepath.Join(dir, "frr.conf")
	err = os.WriteFile(conf, []byte(kernelFRR), 0o600)
	err = errors.Join(err, os.Chown(conf, uid, gid), os.Chown(dir, uid, gid))
	if err != nil {
		return "", errors.Join(fmt.Errorf("write configuration: %w", err), os.RemoveAll(dir))
	}
	return dir, nil
}

// counter reads the number behind a word, 0 if there is none.
func counter(out, word string) (n int) {
	_, rest, _ := strings.Cut(out, word)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return 0
	}
	return n
}

// kernelHas asks the kernel for the whole table; it walks its tables to answer,
// so the candidate must say first that it is done.
func (b *bench) kernelHas(ctx context.Context) (bool, error) {
	out, err := b.under.Exec(ctx, "cat", "/proc/net/fib_triestat")
	if err != nil || prefixes(out) < b.t.N4 {
		return false, err
	}
	out, err = b.under.Exec(ctx, "cat", "/proc/net/rt6_stats")
	return err == nil && entries6(out) >= b.t.N6, err
}

// entries6 is the number of IPv6 routes in /proc/net/rt6_stats, its fourth
// hexadecimal number. The kernel's own, of the interfaces, are some ten of them.
func entries6(stat string) int {
	f := strings.Fields(stat)
	if len(f) < 4 {
		return 0
	}
	n, err := strconv.ParseUint(f[3], 16, 31)
	if err != nil {
		return 0
	}
	return int(n)
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

// Godwit is the router: supervisor, routing engine, BGP speaker, line cards.
func Godwit(ctx context.Context, o Options, t Table) (r Result, err error) {
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
	b, err := build(ctx, o, t, topology.Node{Godwit: conf})
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
	return b.measure(ctx, func() (bool, error) { return acknowledged(ctx, c, t.N4, t.N6) })
}

// lineCards is how many the configuration has.
const lineCards = 2

// modules waits until all modules run and notes their process numbers.
func (b *bench) modules(ctx context.Context, c *mgmt.Client) error {
	return topology.Poll(ctx, 50*time.Millisecond, "the modules", func() (bool, error) {
		m, err := c.Modules(ctx)
		if err != nil {
			return false, nil // not listening yet
		}
		b.procs = map[string]int{"godwitd": b.under.Proc("godwitd").PID()}
		for _, s := range m.Modules {
			if s.State == "refused" {
				return false, fmt.Errorf("module %s: %s", s.Name, s.Reason)
			}
			if s.State == "running" && s.PID > 0 {
				b.procs[s.Name] = s.PID
			}
		}
		return len(b.procs) == lineCards+3, nil // godwitd, router, speaker
	})
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
