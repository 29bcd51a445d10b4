package event

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// counter is a small state machine: it logs what it is told, and by a timer that
// it has heard nothing for 30 ms.
type counter struct {
	l     *Loop
	quiet *Timer
	log   []string
	n     int
	add   *Input[int]
	name  *Input[string]
}

func newCounter(l *Loop) *counter {
	c := &counter{l: l}
	h, slow := l.Handler("counter", Normal), l.Handler("names", Background)
	c.quiet = h.After(30*time.Millisecond, func() { c.log = append(c.log, fmt.Sprint("quiet at ", c.n)) })
	c.add = NewInput(h, "add", func(v int) {
		c.n += v
		c.log = append(c.log, fmt.Sprint("add ", v))
		c.quiet.Reset(30 * time.Millisecond)
	})
	c.name = NewInput(slow, "name", func(s string) { c.log = append(c.log, "name "+s) })
	return c
}

func TestReplayDoesTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1e9, 0)
	l := New("live", WithVirtualClock(begin))
	live := newCounter(l)
	r := l.Record(file)
	for i := range 20 {
		if err := errors.Join(live.name.Post(fmt.Sprint("n", i)), live.add.Post(i)); err != nil {
			t.Fatal(err)
		}
		l.Advance(time.Duration(i) * 4 * time.Millisecond)
	}
	if err := errors.Join(r.Close(), r.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := live.add.Post(1000); err != nil { // not recorded
		t.Fatal(err)
	}

	again := New("replay", WithVirtualClock(begin))
	replayed := newCounter(again)
	if file, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := again.Replay(file); err != nil {
		t.Fatal(err)
	}
	again.Advance(19 * 4 * time.Millisecond)
	if !slices.Equal(replayed.log, live.log) || replayed.n != live.n {
		t.Errorf("replayed %v\nlive %v", replayed.log, live.log)
	}
	if !slices.Contains(live.log, "quiet at 36") || live.log[0] != "add 0" {
		t.Errorf("live %v", live.log)
	}
}

// TestRecordRealLoop: recorded with the real clock from many goroutines, replayed
// with a virtual one.
func TestRecordRealLoop(t *testing.T) {
	var b bytes.Buffer
	l := start(t)
	live := newCounter(l)
	r := l.Record(&b)
	done := make(chan struct{})
	for g := range 4 {
		go func() {
			for i := range 250 {
				if err := live.add.Post(g*1000 + i); err != nil {
					t.Error(err)
				}
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	last := make(chan []string)
	post(t, l.Handler("end", Background), func() { last <- slices.Clone(live.log) })
	want := recvWithin(t, last, "the last event")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := virtual(t)
	replayed := newCounter(again)
	again.Advance(0)
	replayed.quiet.Stop()
	if err := again.Replay(&b); err != nil {
		t.Fatal(err)
	}
	adds := func(log []string) []string {
		return slices.DeleteFunc(log, func(s string) bool { return !strings.HasPrefix(s, "add") })
	}
	if got := adds(replayed.log); !slices.Equal(got, adds(want)) || len(got) != 1000 {
		t.Errorf("replayed %d events, live %d", len(got), len(want))
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestRecordAndReplayFaults(t *testing.T) {
	l := virtual(t)
	c := newCounter(l)
	unprintable := NewInput(l.Handler("h", Normal), "chan", func(chan int) {})
	r := l.Record(brokenWriter{})
	if err := c.add.Post(1); err != nil {
		t.Fatal(err)
	}
	l.Advance(0)
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "record input add: disk full") {
		t.Errorf("error %v", err)
	}
	r = l.Record(&bytes.Buffer{})
	if err := unprintable.Post(nil); err != nil {
		t.Fatal(err)
	}
	l.Advance(0)
	if err := r.Close(); err == nil {
		t.Error("recorded a channel")
	}
	for _, tt := range []struct{ text, want string }{
		{`{"input":"add","value":1}` + "\nx\n", "replay line 2: invalid character"},
		{`{"input":"nobody","value":1}`, `no input "nobody"`},
		{`{"input":"add","value":"text"}`, "input add: json: cannot unmarshal"},
	} {
		if err := l.Replay(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.text, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an input registered twice")
		}
	}()
	NewInput(l.Handler("h", Normal), "add", func(int) {})
}

func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"at":"2001-09-09T01:46:41Z","input":"add","value":1}` + "\n"))
	f.Add([]byte(`{"at":"2001-09-09T01:46:41Z","input":"name","value":"x"}` + "\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := New("l", WithVirtualClock(time.Unix(1e9, 0)))
		newCounter(l)
		_ = l.Replay(bytes.NewReader(b))
	})
}
