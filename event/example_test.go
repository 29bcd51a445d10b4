package event_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"godwit/event"
)

// Classes decide what runs first; events of one handler keep their order.
func Example() {
	l := event.New("router", event.WithVirtualClock(time.Unix(0, 0)))
	routes := l.Handler("routes", event.Normal)
	links := l.Handler("links", event.Critical)
	_ = routes.Post(func() { fmt.Println("route 1") })
	_ = routes.Post(func() { fmt.Println("route 2") })
	_ = links.Post(func() { fmt.Println("link down") })
	l.Advance(0)
	// Output:
	// link down
	// route 1
	// route 2
}

// A hold timer that each message pushes away.
func ExampleTimer_Reset() {
	l := event.New("bgp", event.WithVirtualClock(time.Unix(0, 0)))
	h := l.Handler("sessions", event.High)
	hold := h.After(90*time.Second, func() { fmt.Println("hold timer expired at", l.Now().Unix()) })
	for range 3 {
		l.Advance(60 * time.Second)
		hold.Reset(90 * time.Second) // a keepalive came
	}
	l.Advance(time.Hour)
	// Output: hold timer expired at 270
}

// Await looks like a call and does not block the loop.
func ExampleHandler_Go() {
	l := event.New("supervisor")
	h := l.Handler("modules", event.Normal)
	_ = h.Go(func(t *event.Task) {
		var digest string
		err := t.Await(func() error { // on a goroutine
			digest = strings.Repeat("ab", 4)
			return nil
		})
		if errors.Is(err, event.ErrStopped) {
			return
		}
		fmt.Println("verified:", digest) // on the loop again
		l.Stop()
	})
	_ = l.Run(context.Background())
	// Output: verified: abababab
}

// Only the newest value of a state that changes fast is worth an event.
func ExampleHandler_PostKey() {
	l := event.New("linecard", event.WithVirtualClock(time.Unix(0, 0)))
	h := l.Handler("ports", event.Critical)
	for _, state := range []string{"down", "up", "down"} {
		_ = h.PostKey("eth0", func() { fmt.Println("eth0 is", state) })
	}
	l.Advance(0)
	// Output: eth0 is down
}

// A class says what happens when it is full.
func ExampleWithPolicy() {
	l := event.New("l", event.WithBound(event.Background, 2), event.WithPolicy(event.Background, event.DropOldest),
		event.WithVirtualClock(time.Unix(0, 0)))
	h := l.Handler("samples", event.Background)
	for i := range 5 {
		_ = h.Post(func() { fmt.Println("sample", i) })
	}
	l.Advance(0)
	fmt.Println(l.Stats().Classes[event.Background].Dropped, "dropped")
	// Output:
	// sample 3
	// sample 4
	// 3 dropped
}

// Anything that can be waited for becomes a source of events.
func ExampleFeed() {
	l := event.New("router")
	h := l.Handler("topology", event.Critical)
	published := make(chan string, 2)
	published <- "linecard-1 is up"
	published <- "linecard-1 is down"
	close(published)
	receive := func() (string, error) {
		if s, ok := <-published; ok {
			return s, nil
		}
		return "", errors.New("subscription ended")
	}
	event.Feed(h, "topology", receive, func() {}, func(s string) { fmt.Println(s) }, func(err error) {
		fmt.Println(err)
		l.Stop()
	})
	_ = l.Run(context.Background())
	// Output:
	// linecard-1 is up
	// linecard-1 is down
	// subscription ended
}

// What came in is recorded once and replayed as often as needed.
func ExampleLoop_Replay() {
	build := func(begin time.Time) (*event.Loop, *event.Input[int]) {
		l := event.New("meter", event.WithVirtualClock(begin))
		h := l.Handler("meter", event.Normal)
		sum := 0
		h.Every(time.Second, func() { fmt.Println("sum", sum) })
		return l, event.NewInput(h, "packets", func(n int) { sum += n })
	}
	var file bytes.Buffer
	live, packets := build(time.Unix(0, 0))
	recorder := live.Record(&file)
	for i := 1; i <= 3; i++ {
		_ = packets.Post(i)
		live.Advance(700 * time.Millisecond)
	}
	_ = recorder.Close()

	fmt.Println("again:")
	replay, _ := build(time.Unix(0, 0))
	if err := replay.Replay(&file); err != nil {
		fmt.Println(err)
	}
	replay.Advance(700 * time.Millisecond)
	// Output:
	// sum 3
	// sum 6
	// again:
	// sum 3
	// sum 6
}
