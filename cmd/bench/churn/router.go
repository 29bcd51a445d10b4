package churn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
	"godwit/dataplane/netdev"
	"godwit/dataplane/xdp/fwdlab"
)

// Addresses beside those of package fwdlab.
var (
	hops      = [2]netip.Addr{netip.MustParseAddr("192.0.2.34"), netip.MustParseAddr("192.0.2.35")}
	macOther  = net.HardwareAddr{2, 0x67, 0, 0, 0, 5} // of the second next hop
	feederIP  = netip.MustParseAddr("10.0.0.2")
	speakerIP = "10.0.0.1:179"
)

const configuration = `system: {hostname: churn, express: %[11]t}
cards:
  - id: 1
vrfs:
  - name: default
    bgp:
      as: %[1]d
      router-id: 10.255.0.1
      neighbors:
        - {address: %[2]v, as: %[1]d, import: accept, export: reject}
interfaces:
  - {name: feed, card: 1, device: %[3]s, addresses: [10.0.0.1/24]}
  - {name: flap, card: 1, device: %[12]s, addresses: [%[13]s]}
  - {name: in, card: 1, device: %[4]s, addresses: [192.0.2.1/30], neighbors: [{address: 192.0.2.2, mac: "%[5]v"}]}
  - name: out
    card: 1
    device: %[6]s
    addresses: [192.0.2.33/28]
    neighbors:
      - {address: %[7]v, mac: "%[8]v"}
      - {address: %[9]v, mac: "%[10]v"}
`

// router is the router under test, in the lab's namespace.
type router struct {
	cmd    *exec.Cmd
	log    string
	client *mgmt.Client
	ended  chan struct{}
}

// startRouter starts it.
func startRouter(o Options, l *fwdlab.Lab, dir, feed string) (*router, error) {
	conf := filepath.Join(dir, "router.yaml")
	flaps, _ := flapDevices()
	text := fmt.Sprintf(configuration, localAS, feederIP, feed, l.In, fwdlab.MACGen, l.Out, hops[0], fwdlab.MACSink, hops[1], macOther, o.Express, flaps, flapNet)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	r := &router{log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	log, err := os.Create(r.log)
	if err != nil {
		return nil, fmt.Errorf("write log: %w", err)
	}
	defer log.Close()
	args := []string{"--net=/run/netns/" + l.Netns(fwdlab.Router), "--"}
	args = append(args, filepath.Join(o.Bin, "godwitd"), "--run-dir", filepath.Join(dir, "run"), "--state-dir", filepath.Join(dir, "state"),
		"--instance", l.Netns("godwit"), "--lib-dir", o.Bin, "--trust", o.Trust, "--config", conf)
	r.cmd = exec.Command("nsenter", args...)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the router: %w", err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	r.client = mgmt.NewClient(filepath.Join(dir, "run", "mgmt.sock"))
	return r, nil
}

// workers finds the threads that forward: those with a worker's priority.
func (r *router) workers(ctx context.Context) (tids []int, err error) {
	m, err := r.client.Modules(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range m.Modules {
		if x.Role != "linecard" || x.PID <= 0 {
			continue
		}
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", x.PID))
		if err != nil {
			return nil, fmt.Errorf("list threads: %w", err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_FIFO && a.Priority == netdev.WorkerPriority {
				tids = append(tids, tid)
			}
		}
	}
	if len(tids) == 0 {
		return nil, errors.New("find forwarding threads: none is urgent")
	}
	return tids, nil
}

// pin keeps the forwarding threads on the lab's core for routers, where their ports' receive threads are.
// The rest of the router may be anywhere.
func (r *router) pin(ctx context.Context) error {
	tids, err := r.workers(ctx)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(fwdlab.RouterCore)
	for _, tid := range tids {
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return fmt.Errorf("pin thread %d: %w", tid, err)
		}
	}
	return nil
}

// close stops it, as a supervisor of the system would.
func (r *router) close() error {
	r.client.Close()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.ended:
		return nil
	case <-time.After(30 * time.Second):
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		<-r.ended
		return errors.New("the router did not stop")
	}
}

// said is the end of its log, for errors.
func (r *router) said() string {
	out, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// state is what the router counts.
type state struct {
	received, forwarded uint64 // packets, by the ports towards generator and sink
	drops               map[[2]string]wire.Drop
	changes             uint64 // prefixes that BGP has changed in the RIB
	converged           bool   // the line card has acknowledged everything
	routes              int    // on the line card
}

// state asks the router.
func (r *router) state(ctx context.Context) (s state, err error) {
	ifs, err := r.client.Interfaces(ctx, "")
	if err != nil {
		return s, err
	}
	for _, i := range ifs.Interfaces {
		switch i.Name {
		case "in":
			s.received = i.Counters.RxPackets
		case "out":
			s.forwarded = i.Counters.TxPackets
		}
	}
	drops, err := r.client.Drops(ctx, 0)
	if err != nil {
		return s, err
	}
	s.drops = map[[2]string]wire.Drop{}
	for _, c := range drops.Cards {
		for _, d := range c.Drops {
			s.drops[[2]string{d.Node, d.Reason}] = d
		}
	}
	return s, r.tables(ctx, &s)
}

// tables asks how far routes have come.
func (r *router) tables(ctx context.Context, s *state) error {
	b, err := r.client.BGP(ctx, "")
	if err != nil {
		return err
	}
	for _, x := range b.Speakers {
		s.changes += x.Changes - uint64(x.Backlog)
	}
	f, err := r.client.FIBSummary(ctx)
	if err != nil {
		return err
	}
	for _, c := range f.Cards {
		s.converged = c.Converged
		for _, v := range c.VRFs {
			s.routes += v.Routes4
		}
	}
	return nil
}

// connect opens the feeder's session as soon as the router takes it.
func (r *router) connect(ctx context.Context, l *fwdlab.Lab) (f *feeder, err error) {
	var last error
	err = topology.Poll(ctx, 200*time.Millisecond, "the BGP session", func() (bool, error) {
		select {
		case <-r.ended:
			return false, fmt.Errorf("the router has ended: %s", r.said())
		default:
		}
		var conn net.Conn
		last = l.Do(fwdlab.Sink, func() (err error) {
			d := net.Dialer{Timeout: time.Second}
			conn, err = d.DialContext(ctx, "tcp4", speakerIP)
			return err
		})
		if last == nil {
			f, last = newFeeder(conn, feederIP)
		}
		return last == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w; the router says: %s", err, last, r.said())
	}
	return f, nil
}
