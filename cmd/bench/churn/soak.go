package churn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
	"godwit/dataplane/xdp/fwdlab"
)

// Soaked is what a long run has done and left behind.
type Soaked struct {
	Maximum       float64 // packets a second through the router; 0: not measured
	Load          Load
	Flaps, Remade int // of an interface: its carrier lost, its device removed
	Neighbors     int // announced by the flood of ARP, all in all
	Before, After map[string]Usage
}

// Usage is what a process holds, by the kernel's word.
type Usage struct {
	PID         int
	Memory      int // bytes, anonymous
	Descriptors int
	Threads     int
}

// Limits of growth between the end of the first tenth and the end.
const (
	moreMemory      = 24 << 20 // bytes, and an eighth: garbage waits to be collected
	moreDescriptors = 2        // what a request has open at the moment
	moreThreads     = 4        // the Go runtime makes some as it needs them
)

// soakLoad is the load of a soak, as a share of the most.
const soakLoad = 0.7

// Soak runs packets through a router for o.D while its routes, its neighbours and
// one of its interfaces come and go, and compares what its processes hold with what they
// held after the first tenth. It fails if something has leaked or was misdelivered.
func Soak(ctx context.Context, o Options) (res Soaked, err error) {
	err = with(ctx, o, func(b *bench) error {
		rate := o.Rate
		if rate == 0 {
			m, err := b.lab.Measure(b.traffic(offered), nil, warm, probe)
			if err != nil {
				return fmt.Errorf("measure the most: %w", err)
			}
			res.Maximum, rate = m.PPS, int(m.PPS*soakLoad)
			b.Progress("%.0f packets a second at most, of %.0f", m.PPS, m.Offered)
		}
		return b.soak(ctx, rate, &res)
	})
	return res, err
}

func (b *bench) soak(ctx context.Context, rate int, res *Soaked) (err error) {
	b.D /= 10
	if _, err = b.stressed(ctx, rate, res); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if res.Before, err = b.router.usage(ctx); err != nil {
		return err
	}
	b.Progress("after %v: %v", b.D, res.Before)
	b.D *= 9
	if res.Load, err = b.stressed(ctx, rate, res); err != nil {
		return err
	}
	if res.After, err = b.router.usage(ctx); err != nil {
		return err
	}
	b.Progress("after %v more: %v", b.D, res.After)
	b.Progress("%v; %d flaps, %d devices removed, %d neighbors", res.Load, res.Flaps, res.Remade, res.Neighbors)
	return errors.Join(leaks(res.Before, res.After), res.Load.astray())
}

// astray is an error if a packet came where it may not.
func (l Load) astray() error {
	if l.Misdelivered > 0 {
		return fmt.Errorf("%d packets were misdelivered or damaged", l.Misdelivered)
	}
	return nil
}

// leaks compares what processes hold.
func leaks(before, after map[string]Usage) error {
	var errs []error
	for name, x := range before {
		y, ok := after[name]
		switch {
		case !ok || y.PID != x.PID:
			errs = append(errs, fmt.Errorf("%s has died: process %d, then %d", name, x.PID, y.PID))
		case y.Memory > x.Memory+x.Memory/8+moreMemory:
			errs = append(errs, fmt.Errorf("%s leaks memory: %d bytes, then %d", name, x.Memory, y.Memory))
		case y.Descriptors > x.Descriptors+moreDescriptors:
			errs = append(errs, fmt.Errorf("%s leaks descriptors: %d, then %d", name, x.Descriptors, y.Descriptors))
		case y.Threads > x.Threads+moreThreads:
			errs = append(errs, fmt.Errorf("%s leaks threads: %d, then %d", name, x.Threads, y.Threads))
		}
	}
	return errors.Join(errs...)
}

// stressed is load with everything else that changes in a router.
func (b *bench) stressed(ctx context.Context, rate int, res *Soaked) (l Load, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var flapErr, floodErr error
	wg.Go(func() { flapErr = b.flap(ctx, res) })
	wg.Go(func() { floodErr = b.flood(ctx, res) })
	l, err = b.load(ctx, rate, b.Changes)
	cancel()
	wg.Wait()
	if err = errors.Join(err, flapErr, floodErr); err != nil {
		return l, err
	}
	return l, errors.Join(b.settled(), b.rewind())
}

// rewind moves all flapping prefixes back to the first next hop, where the next load's changes begin.
func (b *bench) rewind() error {
	var msg []byte
	for at := 0; at < len(b.plan.flapping); at += perUpdate {
		msg = update(msg, hops[0], []uint32{65010, uint32(1000 + at)}, b.plan.flapping[at:min(at+perUpdate, len(b.plan.flapping))])
	}
	if err := b.feeder.write(msg); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	var last state
	since := time.Now()
	return topology.Poll(ctx, 50*time.Millisecond, "the first next hop again", func() (bool, error) {
		var s state
		if err := b.router.tables(ctx, &s); err != nil {
			return false, err
		}
		if s.changes != last.changes || !s.converged {
			last, since = s, time.Now()
		}
		return time.Since(since) > settle, nil
	})
}

// The soak's own interface and its link.
const (
	flapNet     = "10.9.0.1/24"
	flapEvery   = 400 * time.Millisecond
	remakeEvery = 8 // flaps
	floodEvery  = 20 * time.Millisecond
	floodHosts  = 200
	clearEvery  = 100 // announcements
)

func flapDevices() (router, peer string) {
	return fmt.Sprintf("x%d", os.Getpid()), fmt.Sprintf("y%d", os.Getpid())
}

// flap takes the carrier from the router's third interface again and again, and now and then its device.
func (b *bench) flap(ctx context.Context, res *Soaked) error {
	dev, peer := flapDevices()
	for n := 1; rested(ctx, flapEvery); n++ {
		if n%remakeEvery == 0 {
			if err := errors.Join(b.lab.IP(fwdlab.Router, "link", "del", dev), flapLink(b.lab)); err != nil {
				return fmt.Errorf("make a device again: %w", err)
			}
			res.Remade++
			continue
		}
		state := map[bool]string{true: "up", false: "down"}[n%2 == 0]
		if err := b.lab.IP(fwdlab.Sink, "link", "set", peer, state); err != nil {
			return fmt.Errorf("set a link %s: %w", state, err)
		}
		res.Flaps++
	}
	return b.lab.IP(fwdlab.Sink, "link", "set", peer, "up")
}

func flapLink(l *fwdlab.Lab) error {
	dev, peer := flapDevices()
	return l.Veth(fwdlab.Router, dev, fwdlab.Sink, peer, 1)
}

// flood announces neighbours on the feeder's link, whose MAC addresses change, and has the
// router forget them now and then.
func (b *bench) flood(ctx context.Context, res *Soaked) error {
	c, err := openCable(b.lab, "p"+feedName()[1:])
	if err != nil {
		return err
	}
	defer c.close()
	for rested(ctx, floodEvery) {
		n := res.Neighbors
		host := netip.AddrFrom4([4]byte{10, 0, 0, byte(20 + n%floodHosts)})
		mac := net.HardwareAddr{2, 0x68, 0, 0, byte(n / floodHosts), byte(n)}
		if err := c.send(arpRequest(mac, host, netip.MustParseAddr("10.0.0.1"))); err != nil {
			return fmt.Errorf("announce a neighbor: %w", err)
		}
		res.Neighbors++
		if res.Neighbors%clearEvery == 0 {
			if _, err := b.router.client.ClearNeighbors(ctx, mgmt.NeighborQuery{Interface: "feed"}); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	return nil
}

// rested waits; false: it is over.
func rested(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// settled waits until the soak's interface is back.
func (b *bench) settled() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	return topology.Poll(ctx, 100*time.Millisecond, "the interface that flapped", func() (bool, error) {
		ifs, err := b.router.client.Interfaces(ctx, "flap")
		return err == nil && len(ifs.Interfaces) == 1 && ifs.Interfaces[0].State == "up", nil
	})
}

// usage asks the kernel what the router's processes hold.
func (r *router) usage(ctx context.Context) (map[string]Usage, error) {
	m, err := r.client.Modules(ctx)
	if err != nil {
		return nil, err
	}
	r.client.Close() // its connections are descriptors of the routing engine
	all := make(map[string]Usage)
	for _, x := range m.Modules {
		if all[x.Name], err = usageOf(x.PID); err != nil {
			return nil, fmt.Errorf("look at %s: %w", x.Name, err)
		}
	}
	if all["supervisor"], err = usageOf(r.cmd.Process.Pid); err != nil {
		return nil, fmt.Errorf("look at the supervisor: %w", err)
	}
	return all, nil
}

func usageOf(pid int) (u Usage, err error) {
	u.PID = pid
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return u, err
	}
	u.Descriptors = len(fds)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch key {
		case "RssAnon":
			u.Memory = n << 10
		case "Threads":
			u.Threads = n
		}
	}
	return u, nil
}

// kept is an error if the line card says that it has lost buffers; it counts them when it stops.
func (r *router) kept() error {
	log, err := os.ReadFile(r.log)
	if err != nil {
		return fmt.Errorf("read the router's log: %w", err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "buffers are lost") {
			return errors.New(strings.TrimSpace(line))
		}
	}
	return nil
}
