package supervisor

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/cluster/wire"
)

// lockedBuffer is a recording that the test reads while it grows.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestDeadLoopIsRestarted: a handler that hangs in a lock is reported with its
// stack, and the process is restarted; so is a process that says nothing at all.
func TestDeadLoopIsRestarted(t *testing.T) {
	c := newChassis(t)
	c.silence = 6 * time.Second
	c.boot()
	c.set(wire.ModuleSpec{Name: "bgp-stuck", Role: "bgp", Args: []string{"stuck"}},
		wire.ModuleSpec{Name: "linecard-1", Role: "linecard", Args: []string{"silent"}})
	stuck := c.await("bgp-stuck", "runs", in(stateRunning)).PID
	silent := c.await("linecard-1", "runs", in(stateRunning)).PID
	again := c.await("bgp-stuck", "was restarted", func(st wire.ModuleStatus) bool { return st.Restarts > 0 })
	if !strings.Contains(again.LastExit, "exit status 2") || alive(stuck) {
		t.Errorf("status %+v, first process alive: %v", again, alive(stuck))
	}
	c.await("linecard-1", "was restarted", func(st wire.ModuleStatus) bool { return st.Restarts > 0 && st.PID != silent })
	c.poll("both were restarted for the right reason", func() bool {
		out := c.output.String()
		return strings.Contains(out, "handler is stuck") && strings.Contains(out, "hangInLock") && // the stack
			strings.Contains(out, `handler \"deadlock\" is stuck`) &&
			strings.Contains(out, "event loop is silent") &&
			strings.Contains(out, "SIGQUIT: quit") // the runtime's dump
	})
	c.stop()
}

// TestReplay records what a supervisor's state machine took in over starts, a
// crash, a change and a stop, and replays it into another: it must do the same.
func TestReplay(t *testing.T) {
	c := newChassis(t)
	recording := &lockedBuffer{}
	c.record = recording
	c.boot()
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp"}, wire.ModuleSpec{Name: "bgp-blue", Role: "bgp", Args: []string{"crash"}})
	c.await("bgp-red", "runs", in(stateRunning))
	c.await("bgp-blue", "crashed twice", func(st wire.ModuleStatus) bool { return st.Restarts >= 2 })
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp", Args: []string{"changed"}})
	c.await("bgp-red", "runs again", func(st wire.ModuleStatus) bool {
		return st.State == stateRunning && strings.Contains(c.output.String(), "--instance test changed")
	})
	c.stop()

	replay := func() (statuses []wire.ModuleStatus, done bool) {
		done, err := Replay(strings.NewReader(recording.String()), func(st wire.ModuleStatus) { statuses = append(statuses, st) })
		if err != nil {
			t.Fatal(err)
		}
		return statuses, done
	}
	got, done := replay()
	if !done {
		t.Error("the replayed state machine did not come to its end")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := 0 // the live ones, which a session saw from some time on, in order
	for _, want := range c.events {
		found := false
		for ; at < len(got) && !found; at++ {
			g := got[at]
			near := g.Since.Sub(want.Since).Abs() < time.Second
			g.Since = want.Since
			found = near && g == want
		}
		if !found {
			t.Fatalf("live %+v is not in the replay %+v", want, got)
		}
	}
	if len(c.events) < 8 {
		t.Errorf("only %d live events", len(c.events))
	}
	again, _ := replay()
	if len(again) != len(got) {
		t.Fatalf("replayed twice: %d and %d statuses", len(got), len(again))
	}
	for i := range got {
		if got[i] != again[i] {
			t.Errorf("replayed twice: %+v and %+v", got[i], again[i])
		}
	}
	if _, err := Replay(strings.NewReader("{}\n"), func(wire.ModuleStatus) {}); err == nil {
		t.Error("a recording of nothing was replayed")
	}
}
