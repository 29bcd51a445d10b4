package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"godwit/controlplane/mgmt"
	"godwit/event"
)

// eventViews are the words that choose what "show events" shows of a loop.
var eventViews = []word{
	{key: "cpu", help: "which handlers use the processor"},
	{key: "queues", help: "the queues, and how long events wait in them"},
	{key: "timers", help: "timers and other sources of events"},
	{key: "trace", help: "the last events, newest last"},
	{value: "MODULE", help: "of this module only", fill: moduleNames},
}

func showEvents(ctx context.Context, e *Env, w words) error {
	view, text := "", textLoop
	for key, f := range map[string]func(io.Writer, event.Stats){"cpu": textCPU, "queues": textQueues, "timers": textTimers, "trace": nil} {
		if !w.has(key) {
			continue
		}
		if view != "" {
			return usageError{"choose one of cpu, queues, timers and trace"}
		}
		view, text = key, f
	}
	if view == "trace" {
		return shown(askTrace, textTraces)(ctx, e, w)
	}
	return shown(askEvents, func(out io.Writer, v mgmt.Events) {
		for _, m := range v.Modules {
			if m.Stats == nil {
				fmt.Fprintf(out, "%s: %s\n", m.Module, dash(m.Error))
				continue
			}
			fmt.Fprintf(out, "%s: %s\n", m.Module, headline(*m.Stats))
			text(out, *m.Stats)
		}
	})(ctx, e, w)
}

func askEvents(ctx context.Context, e *Env, w words) (mgmt.Events, error) {
	return e.client.Events(ctx, w[""])
}

func askTrace(ctx context.Context, e *Env, w words) (mgmt.Traces, error) {
	return e.client.Trace(ctx, w[""])
}

func clearEvents(ctx context.Context, e *Env, w words) (mgmt.Done, error) {
	return e.client.ClearEvents(ctx, w[""])
}

// headline sums a loop up.
func headline(s event.Stats) string {
	h := fmt.Sprintf("busy %s of %s, %d timers armed, %d periodic runs missed", share(s.Busy, s.Window), ago(s.Window), s.Timers, s.Missed)
	if s.Priority != "" {
		h += ", thread " + s.Priority
	}
	var slow, starved, late uint64
	for _, x := range s.Handlers {
		slow, starved, late = slow+x.Slow, starved+x.Starved, late+x.Missed
	}
	if slow+starved+late > 0 {
		h += fmt.Sprintf("; events: %d slow, %d starved, %d late", slow, starved, late)
	}
	if s.Running != "" && s.Since >= event.SlowAfter {
		h += fmt.Sprintf("; %s runs for %v", s.Running, s.Since.Round(time.Millisecond))
	}
	return h
}

// share is a part of a time in percent.
func share(part, of time.Duration) string {
	if of <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(part)/float64(of))
}

func textLoop(w io.Writer, s event.Stats) {
	textClasses(w, s)
	table(w, "  HANDLER|CLASS|RUNS|RUN AVG|RUN P99|RUN MAX|DELAY AVG|DELAY P99|DELAY MAX", func(row func(...any)) {
		for _, h := range s.Handlers {
			row("  "+h.Name, h.Class, h.Runs, µs(h.Run.Avg), µs(h.Run.P99), µs(h.Run.Max), µs(h.Delay.Avg), µs(h.Delay.P99), µs(h.Delay.Max))
		}
	})
}

func textClasses(w io.Writer, s event.Stats) {
	table(w, "  CLASS|QUEUED|MAX|BOUND|WHEN FULL|POSTED|REFUSED|DROPPED|BLOCKED|STARVED", func(row func(...any)) {
		for _, c := range s.Classes {
			row("  "+c.Class, c.Queued, c.Max, c.Bound, c.Policy, c.Posted, c.Full, c.Dropped, c.Blocked, c.Starved)
		}
	})
}

func textCPU(w io.Writer, s event.Stats) {
	table(w, "  HANDLER|CLASS|CPU|OF ALL|RUNS|RUN TIME|AVG|P99|P99.9|MAX|SLOW", func(row func(...any)) {
		for _, h := range s.Handlers {
			row("  "+h.Name, h.Class, µs(h.CPU), share(h.CPU, s.Window), h.Runs, µs(h.Run.Total),
				µs(h.Run.Avg), µs(h.Run.P99), µs(h.Run.P999), µs(h.Run.Max), h.Slow)
		}
	})
}

func textQueues(w io.Writer, s event.Stats) {
	textClasses(w, s)
	bounds := event.DelayBounds()
	header := "  WAITED UP TO"
	for _, b := range bounds {
		header += "|" + about(b)
	}
	table(w, header+"|MORE|P99.9|STARVED|LATE|COALESCED", func(row func(...any)) {
		for _, h := range s.Handlers {
			cells := []any{"  " + h.Name}
			for i := range len(bounds) + 1 {
				n := uint64(0)
				if i < len(h.Delays) {
					n = h.Delays[i]
				}
				cells = append(cells, n)
			}
			row(append(cells, µs(h.Delay.P999), h.Starved, h.Missed, h.Coalesced)...)
		}
	})
}

// about is a power of two nanoseconds in one decimal unit.
func about(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d/time.Microsecond)
	case d < time.Second:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func textTimers(w io.Writer, s event.Stats) {
	table(w, "  TIMERS OF|CLASS|ARMED|EXPIRED|DELAY P99|DELAY MAX", func(row func(...any)) {
		for _, h := range s.Handlers {
			if h.Armed > 0 || h.Fired > 0 {
				row("  "+h.Name, h.Class, h.Armed, h.Fired, µs(h.Delay.P99), µs(h.Delay.Max))
			}
		}
	})
	table(w, "  SOURCE|OF|HANDLER|OPEN FOR|EVENTS|LOST", func(row func(...any)) {
		for _, src := range s.Sources {
			row("  "+src.Kind, dash(src.Name), dash(src.Handler), since(src.Since), src.Events, src.Lost)
		}
	})
}

func textTraces(w io.Writer, v mgmt.Traces) {
	for _, m := range v.Modules {
		if m.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", m.Module, m.Error)
			continue
		}
		fmt.Fprintf(w, "%s: the last %d events\n", m.Module, len(m.Events))
		table(w, "  STARTED|HANDLER|CLASS|DELAY|RUN", func(row func(...any)) {
			for _, ev := range m.Events {
				row("  "+ev.At.Format("15:04:05.000000"), ev.Handler, ev.Class, µs(ev.Delay), µs(ev.Run))
			}
		})
	}
}

func µs(d time.Duration) string {
	return d.Round(100 * time.Nanosecond).String()
}
