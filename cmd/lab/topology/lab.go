package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options of a lab.
type Options struct {
	Bin    string    // folder of the router's binaries
	Trust  string    // folder of the keys they are signed with
	Prefix string    // of namespace names; default lab-PID
	Log    io.Writer // progress; default: none
	Keep   string    // folder for logs and captures; default: a temporary one, removed by Close
	// Express is "on" or "off" for the express path of all ports that do not say otherwise;
	// empty: as configured.
	Express string
}

// Lab is a topology that exists.
type Lab struct {
	Top   *Topology
	Dir   string // configurations, logs and sockets of the daemons
	opts  Options
	nodes map[string]*Host
}

// Host is one node's namespace and what runs in it.
type Host struct {
	Name  string
	NetNS string // name of the namespace
	Dir   string
	// Config is the configuration that the node's router was started with.
	Config string
	lab    *Lab
	procs  []*Proc
}

// Build makes the namespaces, links and addresses; no daemon runs yet. On an
// error everything is removed again.
func Build(ctx context.Context, t *Topology, o Options) (*Lab, error) {
	if o.Prefix == "" {
		o.Prefix = fmt.Sprintf("lab-%d", os.Getpid())
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	dir := o.Keep
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "godwit-lab-")
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("make lab folder: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // daemons that drop privileges read it
		return nil, fmt.Errorf("make lab folder: %w", err)
	}
	l := &Lab{Top: t, Dir: dir, opts: o, nodes: map[string]*Host{}}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	for _, n := range l.Top.Nodes {
		h := &Host{Name: n.Name, NetNS: l.opts.Prefix + "-" + n.Name, Dir: filepath.Join(l.Dir, n.Name), lab: l}
		if err := os.MkdirAll(h.Dir, 0o755); err != nil {
			return fmt.Errorf("make folder of node %s: %w", n.Name, err)
		}
		if err := ip(ctx, "netns", "add", h.NetNS); err != nil {
			return err
		}
		l.nodes[n.Name] = h
		if err := h.quiet(ctx); err != nil {
			return err
		}
	}
	for i, link := range l.Top.Links {
		if err := l.link(ctx, i, link); err != nil {
			return err
		}
	}
	for _, n := range l.Top.Nodes {
		if err := l.nodes[n.Name].address(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// quiet sets what a lab host needs: no source filter, no IPv6 chatter.
func (h *Host) quiet(ctx context.Context) error {
	if err := ip(ctx, "-n", h.NetNS, "link", "set", "lo", "up"); err != nil {
		return err
	}
	_, err := h.Exec(ctx, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
		"net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.default.router_solicitations=0")
	return err
}

// link makes one veth pair. Checksum and segmentation offloads are switched
// off: a veth would hand on frames whose checksums nobody has filled in.
func (l *Lab) link(ctx context.Context, i int, link Link) error {
	an, ad, _ := strings.Cut(link.A, ":")
	bn, bd, _ := strings.Cut(link.B, ":")
	a, b := l.nodes[an], l.nodes[bn]
	ta, tb := fmt.Sprintf("gl%da%d", os.Getpid()%100000, i), fmt.Sprintf("gl%db%d", os.Getpid()%100000, i)
	queues := max(link.Queues, 1)
	add := []string{"link", "add", ta, "numrxqueues", fmt.Sprint(queues), "numtxqueues", fmt.Sprint(queues), "type", "veth",
		"peer", "name", tb, "numrxqueues", fmt.Sprint(queues), "numtxqueues", fmt.Sprint(queues)}
	if err := ip(ctx, add...); err != nil {
		return err
	}
	for _, end := range []struct {
		tmp, dev string
		h        *Host
	}{{ta, ad, a}, {tb, bd, b}} {
		if err := ip(ctx, "link", "set", end.tmp, "netns", end.h.NetNS, "name", end.dev); err != nil {
			return err
		}
		if link.MTU > 0 {
			if err := ip(ctx, "-n", end.h.NetNS, "link", "set", end.dev, "mtu", fmt.Sprint(link.MTU)); err != nil {
				return err
			}
		}
		if _, err := end.h.Exec(ctx, "ethtool", "-K", end.dev, "tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"); err != nil {
			return err
		}
		if err := ip(ctx, "-n", end.h.NetNS, "link", "set", end.dev, "up"); err != nil {
			return err
		}
		// Set on a device that is down, it would be forgotten by its peer's features.
		if _, err := end.h.Exec(ctx, "ethtool", "-K", end.dev, "gro", gro()); err != nil {
			return err
		}
	}
	return nil
}

// gro is on, so that a router's ports take redirected frames and its express path is used:
// a veth needs NAPI at its peer. GODWIT_LAB_GRO=off keeps all to AF_XDP.
func gro() string {
	if os.Getenv("GODWIT_LAB_GRO") == "off" {
		return "off"
	}
	return "on"
}

func (h *Host) address(ctx context.Context, n Node) error {
	for dev, addrs := range n.Devices {
		for _, a := range addrs {
			args := []string{"-n", h.NetNS, "addr", "add", a, "dev", dev}
			if strings.Contains(a, ":") {
				args = append(args, "nodad")
			}
			if err := ip(ctx, args...); err != nil {
				return err
			}
		}
	}
	for _, r := range n.Routes {
		args := append([]string{"-n", h.NetNS, "route", "add"}, strings.Fields(r)...)
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Node finds a host by name; asking for one that the topology lacks is a bug of the caller.
func (l *Lab) Node(name string) *Host {
	h, ok := l.nodes[name]
	if !ok {
		panic("topology " + l.Top.Name + " has no node " + name)
	}
	return h
}

// Close stops everything, the router last, and removes the lab.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.nodes {
		errs = append(errs, h.StopAll())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, h := range l.nodes {
		errs = append(errs, ip(ctx, "netns", "del", h.NetNS))
	}
	if l.opts.Keep == "" {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

func (l *Lab) logf(format string, args ...any) {
	fmt.Fprintf(l.opts.Log, format+"\n", args...)
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
