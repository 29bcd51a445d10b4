package topology

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Start starts every daemon of the topology: peers first, then routers.
func (l *Lab) Start(ctx context.Context) error {
	for _, n := range l.Top.Nodes {
		if err := l.StartPeers(ctx, n.Name); err != nil {
			return err
		}
	}
	for _, n := range l.Top.Nodes {
		if n.Godwit == "" {
			continue
		}
		if err := l.StartGodwit(ctx, n.Name); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) spec(name string) Node {
	for _, n := range l.Top.Nodes {
		if n.Name == name {
			return n
		}
	}
	return Node{}
}

// StartPeers starts the daemons of a node that are not Godwit.
func (l *Lab) StartPeers(ctx context.Context, name string) error {
	n, h := l.spec(name), l.Node(name)
	daemons := []struct {
		name, config string
		args         func(config string) []string
		feed         func(Feed, *strings.Builder) error
	}{
		{"bird", n.Bird, h.birdArgs, birdFeed},
		{"bgpd", n.FRR, h.frrArgs, frrFeed},
		{"bfdd", n.BFDD, h.bfddArgs, nil},
		{"openbgpd", n.OpenBGPD, h.openbgpdArgs, nil},
		{"exabgp", n.ExaBGP, h.exabgpArgs, nil},
		{"gobgpd", n.GoBGPD, h.gobgpdArgs, nil},
	}
	for _, d := range daemons {
		if d.config == "" {
			continue
		}
		text := d.config
		if strings.Contains(text, "{{feed}}") {
			if n.Feed == nil || d.feed == nil {
				return fmt.Errorf("node %s: %s has no feed", name, d.name)
			}
			var b strings.Builder
			if err := d.feed(*n.Feed, &b); err != nil {
				return err
			}
			text = strings.Replace(text, "{{feed}}", b.String(), 1)
		}
		conf := filepath.Join(h.Dir, d.name+".conf")
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write configuration of %s: %w", d.name, err)
		}
		if d.name == "bfdd" {
			if err := h.startZebra(ctx, conf); err != nil {
				return err
			}
		}
		if _, err := h.Start(d.name, d.args(conf)...); err != nil {
			return err
		}
		l.logf("started %s on %s", d.name, name)
	}
	return nil
}

func (h *Host) birdArgs(conf string) []string {
	return []string{"bird", "-f", "-c", conf, "-s", filepath.Join(h.Dir, "bird.ctl")}
}

func (h *Host) frrArgs(conf string) []string {
	return []string{"/usr/lib/frr/bgpd", "-S", "-Z", "-f", conf, "-i", filepath.Join(h.Dir, "bgpd.pid"),
		"--vty_socket", h.Dir, "-P", "0", "--log", "stdout"}
}

// bfddArgs: bfdd and zebra, who tells it of interfaces, run as their own user.
func (h *Host) bfddArgs(conf string) []string {
	dir := h.frrDir()
	return []string{"/usr/lib/frr/bfdd", "-f", conf, "-i", filepath.Join(dir, "bfdd.pid"), "-z", filepath.Join(dir, "zserv.api"),
		"--vty_socket", dir, "--bfdctl", filepath.Join(dir, "bfdd.sock"), "-P", "0", "--log", "stdout"}
}

func (h *Host) frrDir() string { return filepath.Join(h.Dir, "frr") }

// startZebra makes the folder of FRR's user, with the configuration in it that
// bfdd will read, and starts zebra.
func (h *Host) startZebra(ctx context.Context, conf string) error {
	dir := h.frrDir()
	if _, err := h.Exec(ctx, "install", "-d", "-o", "frr", "-g", "frrvty", dir); err != nil {
		return err
	}
	if _, err := h.Exec(ctx, "chown", "frr", conf); err != nil {
		return err
	}
	_, err := h.Start("zebra", "/usr/lib/frr/zebra", "-z", filepath.Join(dir, "zserv.api"), "-i", filepath.Join(dir, "zebra.pid"),
		"--vty_socket", dir, "-P", "0", "--log", "stdout")
	return err
}

func (h *Host) openbgpdArgs(conf string) []string { return []string{"openbgpd", "-d", "-f", conf} }

func (h *Host) exabgpArgs(conf string) []string {
	return []string{"env", "exabgp.daemon.user=root", "exabgp.log.destination=stdout", "exabgp.api.cli=false", "exabgp", conf}
}

func (h *Host) gobgpdArgs(conf string) []string {
	return []string{"gobgpd", "-t", "toml", "-f", conf, "--api-hosts", "127.0.0.1:50051", "--pprof-disable"}
}

// Birdc asks the BIRD of the host.
func (h *Host) Birdc(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{"birdc", "-s", filepath.Join(h.Dir, "bird.ctl")}, args...)...)
}

// Vtysh asks the bgpd of the host.
func (h *Host) Vtysh(ctx context.Context, command string) (string, error) {
	return h.Exec(ctx, "vtysh", "--vty_socket", h.Dir, "-d", "bgpd", "-c", command)
}

// VtyshBFD asks the bfdd of the host, or tells it: each command is a line of its terminal.
func (h *Host) VtyshBFD(ctx context.Context, commands ...string) (string, error) {
	args := []string{"vtysh", "--vty_socket", h.frrDir(), "-d", "bfdd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return h.Exec(ctx, args...)
}

// StartGodwit starts the router of a node and returns at once.
func (l *Lab) StartGodwit(_ context.Context, name string) error {
	n, h := l.spec(name), l.Node(name)
	conf, err := filepath.Abs(l.Top.path(n.Godwit))
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	if l.opts.Express != "" {
		if conf, err = h.withExpress(conf, l.opts.Express); err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
	}
	h.Config = conf
	args := []string{filepath.Join(l.opts.Bin, "godwitd"), "--run-dir", h.RunDir(), "--state-dir", filepath.Join(h.Dir, "state"),
		"--instance", h.Instance(), "--lib-dir", l.opts.Bin, "--trust", l.opts.Trust, "--config", conf}
	if _, err := h.Start("godwitd", args...); err != nil {
		return err
	}
	l.logf("started godwit on %s", name)
	return nil
}

// withExpress copies a configuration and switches the express path there.
func (h *Host) withExpress(conf, word string) (string, error) {
	value, ok := map[string]string{"on": "true", "off": "false"}[word]
	text, err := os.ReadFile(conf)
	if err != nil {
		return "", err
	}
	const before = "\nsystem: {"
	whole := "\n" + string(text)
	if !ok || strings.Count(whole, before) != 1 || strings.Contains(whole, "\n  express:") {
		return "", fmt.Errorf("switch express path %q in %s: want on or off, and a line that begins with %q", word, conf, before[1:])
	}
	copied := filepath.Join(h.Dir, "express-"+filepath.Base(conf))
	whole = strings.Replace(whole, before, before+"express: "+value+", ", 1)
	return copied, os.WriteFile(copied, []byte(whole[1:]), 0o644)
}

// RunDir is the router's run folder on this host.
func (h *Host) RunDir() string { return filepath.Join(h.Dir, "run") }

// Instance is the router's instance name on this host.
func (h *Host) Instance() string { return h.NetNS }

// VRF is a host that runs commands in the host stack of a VRF of the router.
func (h *Host) VRF(vrf string) *Host {
	return &Host{Name: h.Name + "/" + vrf, NetNS: h.Instance() + "-" + vrf, Dir: h.Dir, lab: h.lab}
}

// CLI runs the router's own command-line tool.
func (h *Host) CLI(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{filepath.Join(h.lab.opts.Bin, "godwit"), "--run-dir", h.RunDir()}, args...)...)
}

// Proc finds a process that was started on the host by name.
func (h *Host) Proc(name string) *Proc {
	for _, p := range h.procs {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Forget drops a process that has ended, so that one of the same name can be started.
func (h *Host) Forget(name string) {
	for i, p := range h.procs {
		if p.Name == name {
			h.procs = append(h.procs[:i], h.procs[i+1:]...)
			return
		}
	}
}
