package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"godwit/controlplane/mgmt"
	"godwit/event"
)

// loopStats is a loop that has done a little of everything.
func loopStats(t *testing.T) (event.Stats, []event.TraceEntry) {
	t.Helper()
	l := event.New("router", event.WithVirtualClock(time.Unix(0, 0)))
	h := l.Handler("routes", event.Normal)
	h.After(time.Hour, func() {})
	if err := h.Post(func() {}); err != nil {
		t.Fatal(err)
	}
	l.Advance(0)
	w := l.Watch(time.Second, func(event.Stuck) {})
	defer w.Close()
	return l.Stats(), l.Trace()
}

func TestEventViews(t *testing.T) {
	s, trace := loopStats(t)
	for name, tt := range map[string]struct {
		text func(*strings.Builder)
		want []string
	}{
		"loop":   {func(b *strings.Builder) { textLoop(b, s) }, []string{"WHEN FULL", "background", "4096", "reject", "RUN P99", "routes"}},
		"cpu":    {func(b *strings.Builder) { textCPU(b, s) }, []string{"OF ALL", "P99.9", "SLOW", "routes"}},
		"queues": {func(b *strings.Builder) { textQueues(b, s) }, []string{"WAITED UP TO", "1µs", "4ms", "4s", "MORE", "STARVED", "COALESCED", "routes"}},
		"timers": {func(b *strings.Builder) { textTimers(b, s) }, []string{"ARMED", "EXPIRED", "routes", "watchdog"}},
		"trace": {func(b *strings.Builder) {
			textTraces(b, mgmt.Traces{Modules: []mgmt.ModuleTrace{{Module: "router", Events: trace}, {Module: "bgp-red", Error: "not connected"}}})
		}, []string{"router: the last 1 events", "routes", "bgp-red: not connected"}},
	} {
		var b strings.Builder
		tt.text(&b)
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, b.String())
			}
		}
	}
	for _, c := range textRows(t, func(b *strings.Builder) { textQueues(b, event.Stats{Handlers: []event.HandlerStats{{Name: "old"}}}) }) {
		if strings.Contains(c, "old") && len(strings.Fields(c)) != 1+len(event.DelayBounds())+1+4 {
			t.Errorf("a module without a histogram: %q", c)
		}
	}
}

func textRows(t *testing.T, f func(*strings.Builder)) []string {
	t.Helper()
	var b strings.Builder
	f(&b)
	return strings.Split(b.String(), "\n")
}

func TestHeadline(t *testing.T) {
	s := event.Stats{Busy: time.Second, Window: 100 * time.Second, Timers: 7, Running: "requests", Since: 3 * time.Second}
	if h := headline(s); h != "busy 1.00% of 1m40s, 7 timers armed, 0 periodic runs missed; requests runs for 3s" {
		t.Error(h)
	}
	s = event.Stats{Priority: "ordinary: no", Handlers: []event.HandlerStats{{Slow: 2, Starved: 1}, {Starved: 4, Missed: 3}}}
	if h := headline(s); !strings.HasSuffix(h, "missed, thread ordinary: no; events: 2 slow, 5 starved, 3 late") {
		t.Error(h)
	}
	if h := headline(event.Stats{}); !strings.HasPrefix(h, "busy - of 0s") {
		t.Error(h)
	}
}

func TestOneEventViewAtATime(t *testing.T) {
	err := showEvents(context.Background(), &Env{}, words{"cpu": "true", "trace": "true"})
	if !isUsage(err) {
		t.Errorf("error %v", err)
	}
	for _, line := range []string{"show events", "show events cpu router", "show events trace", "clear events", "clear events linecard-1"} {
		if err := Check(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if err := Check(strings.Fields("show events cpu queues router extra")); err == nil {
		t.Error("took too many words")
	}
}
