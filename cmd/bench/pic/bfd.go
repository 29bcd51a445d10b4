package pic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/controlplane/mgmt"
	"godwit/dataplane/netdev"
)

// Silence is one neighbour that fell silent: its BFD stopped, its link stayed up.
type Silence struct {
	Routes      int
	Load        time.Duration // until both tables were in force
	Watched     time.Duration // with sessions up while tables came in, Load included
	Flaps       uint64        // sessions that went down meanwhile: false alarms
	Late        time.Duration // the most that a BFD timer ran late (Godwit only)
	Detect      time.Duration // from the silence until the session was down (Godwit only)
	First, Last time.Duration // from the silence until a probe to the first and the last repaired prefix came out of the other link
}

// bfdInterval is that of the sessions, with a multiplier of 3.
const bfdInterval = 50 * time.Millisecond

const birdBFD = `protocol bfd { interface "*" { interval 50 ms; multiplier 3; }; }
`

// withBFD asks for sessions in a BIRD's configuration.
func withBFD(conf string) string {
	return birdBFD + regexp.MustCompile(`(neighbor [0-9.]+ as [0-9]+;)`).ReplaceAllString(conf, "$1 bfd on;")
}

func routerWithBFD() string {
	return strings.ReplaceAll(router, "export: reject}", fmt.Sprintf("export: reject, bfd: {interval: %v}}", bfdInterval))
}

// urgentBFD makes the BIRDs' BFD threads run before ordinary ones: what is measured is the
// candidate's part, not whether a neighbour's daemon gets the processor in time.
func (b *bench) urgentBFD(nodes ...string) error {
	for _, n := range nodes {
		pid := b.lab.Node(n).Proc("bird").PID()
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("find threads of %s: %w", n, err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || tid == pid { // BGP and its table are the first thread's
				continue
			}
			if err := netdev.Urgent(tid, netdev.NAPIPriority); err != nil {
				return err
			}
		}
	}
	return nil
}

// silence is measure for a neighbour that falls silent. detected, if there is one, tells when
// the router noticed.
func (b *bench) silence(ctx context.Context, detected func(since time.Time) (time.Time, error)) (Silence, error) {
	var sinks [2]*sink
	for i, up := range []string{"up1", "up2"} {
		s, err := newSink(b.lab.Node(up).NetNS)
		if err != nil {
			return Silence{}, err
		}
		defer s.close()
		sinks[i] = s
	}
	src, flows, err := b.choose(ctx, sinks)
	if err != nil {
		return Silence{}, err
	}
	defer src.close()
	sinks[0].reset()
	sinks[1].reset()
	src.start(period)
	if err := b.flowing(ctx, sinks[0], len(flows)); err != nil {
		return Silence{}, err
	}
	sinks[1].reset()
	bird := b.lab.Node("up1").Proc("bird")
	at := time.Now()
	if err := bird.Signal(syscall.SIGSTOP); err != nil {
		return Silence{}, fmt.Errorf("silence a neighbour: %w", err)
	}
	defer func() { _ = bird.Signal(syscall.SIGCONT) }() // it has to end
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	err = topology.Poll(ctx, 5*time.Millisecond, "the repair", func() (bool, error) { return len(sinks[1].arrivals()) == len(flows), nil })
	if err != nil {
		return Silence{}, err
	}
	src.halt()
	var all []time.Duration
	for _, x := range sinks[1].arrivals() {
		all = append(all, x.Sub(at))
	}
	r := Silence{Routes: b.n, First: slices.Min(all), Last: slices.Max(all)}
	if detected == nil {
		return r, nil
	}
	err = topology.Poll(ctx, 20*time.Millisecond, "the detection", func() (bool, error) {
		noticed, err := detected(at)
		r.Detect = noticed.Sub(at)
		return err == nil, nil
	})
	return r, err
}

// logged finds when the router said that the session had failed.
func (b *bench) logged(since time.Time) (time.Time, error) {
	for line := range strings.Lines(b.under.Proc("godwitd").Output()) {
		if !strings.Contains(line, `"BFD session failed"`) || !strings.Contains(line, "10.0.1.2") {
			continue
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil && at.After(since.Add(-time.Millisecond)) {
			return at, nil
		}
	}
	return time.Time{}, errors.New("nothing logged yet")
}

// watch has the second upstream withdraw its table and announce it again for as long, and
// returns what the sessions did. In the end both tables are in force again.
func (b *bench) watch(ctx context.Context, c *mgmt.Client, d time.Duration) (flaps uint64, late time.Duration, err error) {
	for end, rounds := time.Now().Add(d), 0; time.Now().Before(end); rounds++ {
		start := time.Now()
		if _, err := b.lab.Node("up2").Birdc(ctx, "disable", "feed"); err != nil {
			return 0, 0, err
		}
		if err := b.converged(ctx, c, 1); err != nil {
			return 0, 0, fmt.Errorf("withdraw a table: %w", err)
		}
		gone := time.Since(start)
		if _, err := b.lab.Node("up2").Birdc(ctx, "enable", "feed"); err != nil {
			return 0, 0, err
		}
		if err := b.converged(ctx, c, 2); err != nil {
			return 0, 0, fmt.Errorf("announce a table: %w", err)
		}
		if flaps, late, err = sessions(ctx, c); err != nil {
			return 0, 0, err
		}
		b.o.Progress("table %d withdrawn in %v and back in %v; %d false alarms, latest timer %v", rounds+1,
			gone.Round(time.Millisecond), (time.Since(start) - gone).Round(time.Millisecond), flaps, late)
	}
	return sessions(ctx, c)
}

// sessions tells how often sessions went down, and how late a timer ran at most.
func sessions(ctx context.Context, c *mgmt.Client) (flaps uint64, late time.Duration, err error) {
	v, err := c.BFD(ctx, "")
	if err != nil {
		return 0, 0, err
	}
	for _, s := range v.Sessions {
		flaps += s.Flaps
	}
	if len(v.Sessions) != 2 || v.Cards[0].Up != 2 {
		return flaps, 0, fmt.Errorf("%d sessions, %d of them up", len(v.Sessions), v.Cards[0].Up)
	}
	return flaps, time.Duration(v.Cards[0].LateMost) * time.Microsecond, nil
}
