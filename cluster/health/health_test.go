package health

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/cluster/wire"
	"godwit/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lockedBuffer is a log that the test reads while it grows.
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

// The tests do not wait as long as a supervisor does.
const (
	testPeriod = Period / 10
	testStuck  = StuckAfter / 10
)

// attach attaches a loop that runs until the test ends to a new pipe.
func attach(t *testing.T) (*event.Loop, *os.File, *lockedBuffer) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(w.Fd())) // Attach owns its descriptor
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Setenv(FDVariable, strconv.Itoa(fd))
	l, log := event.New("test"), &lockedBuffer{}
	a, err := attachWith(l, slog.New(slog.NewTextHandler(log, nil)), testPeriod, testStuck)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = l.Run(context.Background()); close(ended) }()
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		l.Stop()
		<-ended
		r.Close()
	})
	return l, r, log
}

func TestLoopReportsThatItLives(t *testing.T) {
	_, r, _ := attach(t)
	next := Reader(r)
	begin := time.Now()
	for range 3 {
		if rep, err := next(); err != nil || rep.Stuck != "" {
			t.Fatalf("report %+v, %v", rep, err)
		}
	}
	if d := time.Since(begin); d < 2*testPeriod-testPeriod/10 {
		t.Errorf("three reports within %v", d)
	}
}

func TestStuckHandlerIsReported(t *testing.T) {
	l, r, log := attach(t)
	release := make(chan struct{})
	defer close(release)
	if err := l.Handler("culprit", event.Normal).Post(func() { <-release }); err != nil {
		t.Fatal(err)
	}
	for next := Reader(r); ; {
		rep, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if rep.Stuck == "" {
			continue
		}
		if rep.Stuck != "culprit" || rep.For < testStuck {
			t.Errorf("report %+v", rep)
		}
		break
	}
	if s := log.String(); !strings.Contains(s, "handler=culprit") || !strings.Contains(s, "TestStuckHandlerIsReported") {
		t.Errorf("log %s", s)
	}
}

// TestDeafSupervisor: a pipe that nobody reads must not stop the loop.
func TestDeafSupervisor(t *testing.T) {
	l, _, _ := attach(t)
	a := &attached{}
	if err := a.open(os.Getenv(FDVariable)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	if err := l.Handler("flood", event.Normal).Post(func() {
		for range 100_000 { // 64 KiB are 20,000 reports
			a.send(Report{})
		}
		close(done)
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the loop waits for the pipe")
	}
	a.pipe = nil // its descriptor belongs to the attached loop
}

func TestWithoutSupervisor(t *testing.T) {
	t.Setenv(FDVariable, "")
	a, err := Attach(event.New("alone"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"x", "2", "-1", "99999"} {
		t.Setenv(FDVariable, bad)
		if _, err := Attach(event.New("bad"), slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("attached to descriptor %q", bad)
		}
	}
}

func TestReaderBounds(t *testing.T) {
	for _, tt := range []struct {
		text string
		eof  bool
	}{{"", true}, {"garbage\n", false}, {strings.Repeat("x", 2*maxReport), true}} {
		_, err := Reader(strings.NewReader(tt.text))()
		if err == nil || errors.Is(err, io.EOF) != tt.eof {
			t.Errorf("%.10q: %v", tt.text, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("{}\n{\"stuck\":\"x\",\"for_ns\":1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := Reader(bytes.NewReader(b))
		for n := 0; ; n++ {
			if _, err := next(); err != nil {
				return
			}
			if n > len(b) {
				t.Fatal("more reports than bytes")
			}
		}
	})
}

func TestAnswer(t *testing.T) {
	l := event.New("l", event.WithVirtualClock(time.Unix(0, 0)))
	if err := l.Handler("h", event.Normal).Post(func() {}); err != nil {
		t.Fatal(err)
	}
	l.Advance(0)
	if r, ok := Answer(l, wire.GetEvents); !ok || r.(event.Stats).Handlers[0].Runs != 1 {
		t.Errorf("events %+v", r)
	}
	if r, ok := Answer(l, wire.GetTrace); !ok || len(r.(wire.TraceList).Events) != 1 {
		t.Errorf("trace %+v", r)
	}
	if _, ok := Answer(l, wire.ClearEvents); !ok || l.Stats().Handlers[0].Runs != 0 {
		t.Error("not cleared")
	}
	if _, ok := Answer(l, wire.GetPorts); ok {
		t.Error("answered what is not about events")
	}
}

// TestEndStuck: a handler that is only slow does not end the process, one that
// hangs does.
func TestEndStuck(t *testing.T) {
	l := event.New("l")
	h := l.Handler("h", event.Normal)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(t.Context()) }()
	looked, ends := make(chan struct{}), make(chan struct{})
	log := slog.New(slog.DiscardHandler)
	slow := l.Watch(20*time.Millisecond, func(event.Stuck) { close(looked) })
	src := EndStuck(l, 20*time.Millisecond, log, func() { t.Error("a slow handler ended the process") })
	if err := h.Post(func() { <-looked }); err != nil {
		t.Fatal(err)
	}
	<-looked
	src.Close()
	slow.Close()
	src = EndStuck(l, 20*time.Millisecond, log, func() { close(ends) })
	if err := h.Post(func() { <-ends }); err != nil {
		t.Fatal(err)
	}
	<-ends
	src.Close()
	l.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
