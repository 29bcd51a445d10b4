// Package demo shows the router at work: two customers with the same
// addresses, real peers, a hundred thousand real routes each, and deaths.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
)

// announced is how many IPv4 routes each upstream announces.
const announced = 100000

// settle is how long both tables must stay before the demo goes on: two peers
// that connect at the same time may drop a young session (RFC 4271, section 6.8).
const settle = 2 * time.Second

// server is an address inside the first announced prefix; both VRFs have it.
const server = "1.0.0.1"

// demo is one run.
type demo struct {
	lab    *topology.Lab
	client *mgmt.Client
	out    io.Writer
	self   string // path of the lab binary: the web servers
	start  time.Time
	step   int
}

// Options of a run.
type Options struct {
	Topology string // file
	Bin      string // folder of the router's binaries
	Trust    string // folder of the keys
	Self     string // path of the lab binary
	Keep     string // keep logs here
	Out      io.Writer
}

// Run builds the lab, shows what it is to show, and removes the lab.
func Run(ctx context.Context, o Options) (err error) {
	top, err := topology.Load(o.Topology)
	if err != nil {
		return err
	}
	d := &demo{out: o.Out, self: o.Self, start: time.Now()}
	d.title("A lab of namespaces: a router, two upstreams, two customers with the same addresses")
	d.lab, err = topology.Build(ctx, top, topology.Options{Bin: o.Bin, Trust: o.Trust, Log: indent{o.Out}, Keep: o.Keep, Prefix: "godwit-demo"})
	if err != nil {
		return err
	}
	d.client = mgmt.NewClient(filepath.Join(d.lab.Node("r1").RunDir(), "mgmt.sock"))
	defer func() {
		d.client.Close()
		if err != nil {
			d.say("failed: %v; the router's log ends with:\n%s", err, lastLines(d.lab.Node("r1").Proc("godwitd").Output(), 40))
		}
		d.title("Clean-up")
		err = errors.Join(err, d.lab.Close(), d.nothingLeft())
		if err == nil {
			d.say("no process, namespace or file is left")
			fmt.Fprintf(d.out, "\nDone in %.0f s. All of it went through the router's AF_XDP data plane.\n", time.Since(d.start).Seconds())
		}
	}()
	if err := d.lab.Start(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		d.converge, d.showTables, d.pings, d.transfers, d.hostServers, d.killSpeaker, d.killCard, d.killEngine,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// converge waits until both upstreams' tables are on both line cards.
func (d *demo) converge(ctx context.Context) error {
	d.title("Two real BGP peers (BIRD and FRR) announce %d real prefixes each", announced)
	begin, last := time.Now(), time.Now()
	var since time.Time // both tables are there, without a break
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	err := topology.Wait(ctx, func() error {
		red, blue, err := d.routesOnCards(ctx)
		if time.Since(last) > 2*time.Second {
			last = time.Now()
			d.say("%4.0f s: %6d routes of red, %6d of blue on every line card", time.Since(begin).Seconds(), red, blue)
		}
		if err == nil && (red < announced || blue < announced) {
			err = fmt.Errorf("%d routes of red and %d of blue on every line card", red, blue)
		}
		switch {
		case err != nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		if err == nil && time.Since(since) < settle {
			err = fmt.Errorf("both tables are there, but a session may still break")
		}
		return err
	})
	if err != nil {
		return err
	}
	d.say("both tables acknowledged by both line cards after %.1f s", since.Sub(begin).Seconds())
	return nil
}

// routesOnCards tells the fewest routes of each VRF on any card.
func (d *demo) routesOnCards(ctx context.Context) (red, blue int, err error) {
	s, err := d.client.FIBSummary(ctx)
	if err != nil {
		return 0, 0, err
	}
	least := map[string]int{"red": -1, "blue": -1}
	for _, c := range s.Cards {
		for _, v := range c.VRFs {
			if l, ok := least[v.VRF]; ok && (l < 0 || v.Routes4 < l) {
				least[v.VRF] = v.Routes4
			}
		}
	}
	if len(s.Cards) != 2 {
		err = fmt.Errorf("%d line cards of 2", len(s.Cards))
	}
	return max(least["red"], 0), max(least["blue"], 0), err
}

func (d *demo) showTables(ctx context.Context) error {
	d.title("What the router says")
	for _, line := range []string{"show modules", "show interfaces", "show bgp", "show fib", "show route vrf red " + server, "show route vrf blue " + server} {
		if err := d.cli(ctx, line); err != nil {
			return err
		}
	}
	return nil
}

// pings asks the same address from both customers at the same time.
func (d *demo) pings(ctx context.Context) error {
	d.title("Both customers (both 10.0.1.2) ping %s at the same time, each through its own VRF", server)
	return d.both(func(vrf string) error {
		out, err := d.lab.Node("cust-"+vrf).Exec(ctx, "ping", "-n", "-c", "5", "-i", "0.1", "-W", "1", server)
		d.say("cust-%s: %s", vrf, statistics(out))
		return err
	})
}

// transfers fetches from two servers that have the same address.
func (d *demo) transfers(ctx context.Context) error {
	d.title("Both fetch 20 MB over HTTP from %s: two servers, one address, two VRFs", server)
	for _, vrf := range []string{"red", "blue"} {
		if err := d.serve(ctx, d.lab.Node("up-"+vrf), server+":80", "the server behind "+vrf); err != nil {
			return err
		}
	}
	return d.both(func(vrf string) error { return d.fetch(ctx, vrf, "http://"+server+"/20", "the server behind "+vrf) })
}

// hostServers runs two web servers on the router, same address and port.
func (d *demo) hostServers(ctx context.Context) error {
	d.title("Two web servers on the router itself, both on 10.0.1.1:80, one in each VRF")
	for _, vrf := range []string{"red", "blue"} {
		host := d.lab.Node("r1").VRF(vrf)
		if err := d.serve(ctx, host, "10.0.1.1:80", "the router's "+vrf+" host stack"); err != nil {
			return err
		}
		defer host.StopAll()
	}
	return d.both(func(vrf string) error {
		return d.fetch(ctx, vrf, "http://10.0.1.1/1", "the router's "+vrf+" host stack")
	})
}

// serve starts a web server and waits until it listens.
func (d *demo) serve(ctx context.Context, h *topology.Host, addr, text string) error {
	p, err := h.Start("http-"+strings.ReplaceAll(h.Name, "/", "-"), d.self, "http", addr, text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return topology.Wait(ctx, func() error {
		if !strings.Contains(p.Output(), "listening") {
			return fmt.Errorf("web server on %s: %s", h.Name, p.Output())
		}
		return nil
	})
}

// fetch gets a page and checks who answered.
func (d *demo) fetch(ctx context.Context, vrf, url, want string) error {
	out, err := d.lab.Node("cust-"+vrf).Exec(ctx, d.self, "get", url)
	if err != nil {
		return err
	}
	if !strings.Contains(out, want) {
		return fmt.Errorf("cust-%s reached %q, not %q", vrf, out, want)
	}
	d.say("cust-%s: %s", vrf, strings.TrimSpace(out))
	return nil
}

// killSpeaker kills red's BGP speaker under a stream of pings.
func (d *demo) killSpeaker(ctx context.Context) error {
	d.title("The BGP speaker of red dies (SIGKILL); packets go on, routes stay, the session comes back")
	return d.killed(ctx, "bgp-red", 0, func(ctx context.Context) error {
		b, err := d.client.BGP(ctx, "red")
		if err != nil {
			return err
		}
		for _, s := range b.Speakers {
			if !s.Connected || !s.Synced || s.Stale || len(s.Peers) == 0 || s.Peers[0].State != "established" {
				return fmt.Errorf("BGP of red is not back: %+v", s)
			}
		}
		return nil
	})
}

// killCard kills line card 2; it comes back and is filled again.
func (d *demo) killCard(ctx context.Context) error {
	d.title("Line card 2 dies (SIGKILL); it is started again and filled again")
	return d.killed(ctx, "linecard-2", -1, func(ctx context.Context) error {
		red, blue, err := d.routesOnCards(ctx)
		if err == nil && (red < announced || blue < announced) {
			err = fmt.Errorf("only %d and %d routes", red, blue)
		}
		return err
	})
}

// killEngine kills the routing engine: forwarding must not notice.
func (d *demo) killEngine(ctx context.Context) error {
	d.title("The routing engine dies (SIGKILL); forwarding and BGP go on without it")
	return d.killed(ctx, "router", 0, func(ctx context.Context) error {
		s, err := d.client.FIBSummary(ctx)
		if err != nil {
			return err
		}
		for _, c := range s.Cards {
			if !c.Converged || s.Routes4 < 2*announced {
				return fmt.Errorf("routing engine is not back: %d routes, card %d behind", s.Routes4, c.Card)
			}
		}
		return nil
	})
}

// killed kills a module under pings, waits until back says so, and judges the
// pings: at most lost may be missing (-1: any, but the last ones must arrive).
func (d *demo) killed(ctx context.Context, module string, lost int, back func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 75*time.Second)
	defer cancel()
	pid, err := d.pid(ctx, module)
	if err != nil {
		return err
	}
	pinger, err := d.lab.Node("cust-red").Start("ping-"+module, "ping", "-n", "-i", "0.01", "-W", "1", server)
	if err != nil {
		return err
	}
	if err := d.answers(ctx, pinger, 50); err != nil {
		return err
	}
	begin := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", module, err)
	}
	err = topology.Wait(ctx, func() error {
		now, err := d.pid(ctx, module)
		if err == nil && now == pid {
			err = fmt.Errorf("%s was not restarted", module)
		}
		return errors.Join(err, back(ctx))
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if err := d.answers(ctx, pinger, 50); err != nil {
		return err
	}
	_ = pinger.Signal(syscall.SIGINT)
	<-pinger.Done()
	sent, received := counts(pinger.Output())
	d.say("%s (process %d) was killed and is back in full after %.1f s; pings through red meanwhile: %d sent, %d lost", module, pid, took.Seconds(), sent, sent-received)
	if lost >= 0 && sent-received > lost {
		return fmt.Errorf("%d pings lost while %s was away, at most %d expected", sent-received, module, lost)
	}
	return nil
}

// answers waits for so many more answers of a running ping.
func (d *demo) answers(ctx context.Context, p *topology.Proc, n int) error {
	seen := strings.Count(p.Output(), "bytes from")
	return topology.Wait(ctx, func() error {
		if got := strings.Count(p.Output(), "bytes from"); got < seen+n {
			return fmt.Errorf("%d answers to pings, waiting for %d", got-seen, n)
		}
		return nil
	})
}

func (d *demo) pid(ctx context.Context, module string) (int, error) {
	ms, err := d.client.Modules(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range ms.Modules {
		if m.Name == module && m.State == "running" {
			return m.PID, nil
		}
	}
	return 0, fmt.Errorf("module %s does not run", module)
}

func (d *demo) nothingLeft() error {
	left, err := filepath.Glob("/run/netns/godwit-demo-*")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left behind: %s", strings.Join(left, " "))
	}
	return err
}

// both runs f for both VRFs at the same time.
func (d *demo) both(f func(vrf string) error) error {
	errc := make(chan error, 2)
	for _, vrf := range []string{"red", "blue"} {
		go func() { errc <- f(vrf) }()
	}
	return errors.Join(<-errc, <-errc)
}

func (d *demo) cli(ctx context.Context, line string) error {
	out, err := d.lab.Node("r1").CLI(ctx, strings.Fields(line)...)
	if err != nil {
		return err
	}
	fmt.Fprintf(indent{d.out}, "$ godwit %s\n%s\n", line, strings.TrimRight(out, "\n"))
	return nil
}

func (d *demo) title(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "\n%d. %s  [%.0f s]\n", d.step, fmt.Sprintf(format, args...), time.Since(d.start).Seconds())
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(indent{d.out}, format+"\n", args...) }

// statistics picks the line of ping that counts.
func statistics(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "packets transmitted") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(out)
}

// counts reads what ping sent and received.
func counts(out string) (sent, received int) {
	_, _ = fmt.Sscanf(statistics(out), "%d packets transmitted, %d received", &sent, &received)
	return sent, received
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// indent sets every line off from the titles.
type indent struct{ w io.Writer }

func (i indent) Write(b []byte) (int, error) {
	text := "   " + strings.ReplaceAll(strings.TrimSuffix(string(b), "\n"), "\n", "\n   ") + "\n"
	_, err := io.WriteString(i.w, text)
	return len(b), err
}
