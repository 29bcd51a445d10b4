package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"godwit/event"
)

const (
	eventRuns   = 5
	eventPace   = 50 * time.Microsecond // one burst each
	eventBurst  = 50                    // events: 1,000,000/s
	eventSecond = 2                     // s of a run
	eventWork   = 120                   // ns of a handler, with the clock read that measures the wait
	eventQueue  = 1 << 17               // bound of each class, and of each channel: 0.5 s
	eventTotal  = eventSecond * 1_000_000
	eventClass  = eventTotal / 4 // events of a class
)

// benchEvent measures the event core: queueing latency of a paced load, timers,
// and a protocol timer beside hogs.
func benchEvent(r *report) error {
	for _, part := range []struct {
		name string
		run  func(*report) error
	}{{"paced", benchPaced}, {"backlog", benchBacklog}, {"timers", benchEventTimers}, {"protocol", benchProtocolTimer}} {
		if r.only != "" && !slices.Contains(strings.Split(r.only, ","), part.name) {
			continue
		}
		if err := part.run(r); err != nil {
			return err
		}
	}
	return nil
}

// paced is one run's waits in µs.
type paced struct {
	top, all           float64 // p99.9
	quietTop, quietAll float64 // of events during which the machine did not stand still
	quiet              float64 // share of such events
	rate               float64 // events/s
	hiccup             float64 // p99.9 of the machine, from another process
}

// minQuiet is the share of quiet events that a run must have to count as one:
// their p99.9 is then that of 100,000 events at least.
const minQuiet = 0.05

func benchPaced(r *report) error {
	p := newPacer()
	var loop, channel, quietLoop, quietChannel []paced
	for i := range cmp.Or(r.runs, eventRuns) {
		var a, b paced
		var err error
		if i%2 == 0 { // in turn: what comes first finds another machine
			a, err = p.measure(p.overLoop)
		}
		if err == nil {
			b, err = p.measure(p.overChannels)
		}
		if err == nil && i%2 == 1 {
			a, err = p.measure(p.overLoop)
		}
		if err != nil {
			return err
		}
		r.progress("paced run %d: loop %v; channels %v", i+1, a, b)
		loop, channel = append(loop, a), append(channel, b)
		if min(a.quiet, b.quiet) >= minQuiet {
			quietLoop, quietChannel = append(quietLoop, a), append(quietChannel, b)
		}
	}
	for _, f := range []struct {
		name, unit, better string
		quiet              bool
		of                 func(paced) float64
	}{
		{"event.top_p999", "µs", "less", false, func(x paced) float64 { return x.top }},
		{"event.all_p999", "µs", "less", false, func(x paced) float64 { return x.all }},
		{"event.quiet_top_p999", "µs", "less", true, func(x paced) float64 { return x.quietTop }},
		{"event.quiet_all_p999", "µs", "less", true, func(x paced) float64 { return x.quietAll }},
		{"event.quiet", "share", "more", false, func(x paced) float64 { return x.quiet }},
		{"event.rate", "events/s", "more", false, func(x paced) float64 { return x.rate }},
		{"event.hiccup_p999", "µs", "less", false, func(x paced) float64 { return x.hiccup }},
	} {
		ours, theirs := loop, channel
		if f.quiet {
			ours, theirs = quietLoop, quietChannel
		}
		if len(ours) == 0 {
			r.progress("%s: the machine stood still too often", f.name)
			continue
		}
		if err := r.against(f.name, f.unit, f.better, each(ours, f.of), "chan", each(theirs, f.of)); err != nil {
			return err
		}
	}
	return nil
}

func each(runs []paced, f func(paced) float64) []float64 {
	var v []float64
	for _, x := range runs {
		v = append(v, f(x))
	}
	return v
}

func (x paced) String() string {
	return fmt.Sprintf("top %.0f all %.0f µs at %.0f/s (quiet %.0f %%: %.0f, %.0f µs; machine %.0f µs)",
		x.top, x.all, x.rate, 100*x.quiet, x.quietTop, x.quietAll, x.hiccup)
}

// pacer posts events at a fixed rate, whatever takes them.
type pacer struct {
	start time.Time
	epoch int64 // the same on the clock of the hiccup meter
	lanes [4]lane
	spin  int // rounds of work that fill a handler's time
	ran   atomic.Int64
}

// lane is a class: its events run in the order they are posted in. One function
// serves them all, so that the load allocates nothing and brings no memory of
// its own into the handlers' time.
type lane struct {
	posted []int64 // ns since start; the sender's
	sent   int
	waits  []wait // the handler's
	f      func()
	_      [128]byte
}

// wait is when an event was posted, µs since start, and for how long it waited,
// ns.
type wait struct{ at, ns uint32 }

func newPacer() *pacer {
	p := &pacer{start: time.Now(), epoch: monotonic()}
	for c := range p.lanes {
		n := &p.lanes[c]
		n.posted, n.waits = make([]int64, eventClass), make([]wait, eventClass)
		for i := range eventClass { // the memory is there before the first run
			n.posted[i], n.waits[i].at = 1, 1
		}
		n.f = func() {
			at := n.posted[len(n.waits)]
			ns := int64(time.Since(p.start)) - at
			n.waits = append(n.waits, wait{uint32(at / 1000), uint32(min(max(ns, 0), 1<<32-1))})
			work(p.spin)
			p.ran.Store(p.ran.Load() + 1) // one writer
		}
	}
	p.reset()
	p.calibrate()
	return p
}

var sink uint64

func work(rounds int) {
	x := sink
	for range rounds {
		x = x*6364136223846793005 + 1442695040888963407
	}
	sink = x
}

// calibrate finds the rounds of work with which a handler takes eventWork: of
// the best of several tries, which nothing disturbed.
func (p *pacer) calibrate() {
	const n = 20_000
	cost := func(rounds int) float64 {
		p.spin = rounds
		best := time.Hour
		for range 20 {
			begin := time.Now()
			for i := range n {
				p.lanes[i%len(p.lanes)].f()
			}
			best = min(best, time.Since(begin))
			p.reset()
		}
		return float64(best.Nanoseconds()) / n
	}
	none, many := cost(0), cost(100)
	p.spin = max(0, int((eventWork-none)/((many-none)/100)))
}

func (p *pacer) reset() {
	for c := range p.lanes {
		p.lanes[c].waits, p.lanes[c].sent = p.lanes[c].waits[:0], 0
	}
	p.ran.Store(0)
}

// measure runs the load over a transport, with the hiccup meter beside it.
func (p *pacer) measure(run func(feed func(send func(class int, f func())))) (paced, error) {
	p.reset()
	runtime.GC()
	meter, err := startHiccups()
	if err != nil {
		return paced{}, err
	}
	var out paced
	run(func(send func(int, func())) { out.rate = p.feed(send) })
	stalls, err := meter.stop()
	if err != nil {
		return out, err
	}
	out.hiccup = stalls.P999
	quiet := stalls.quiet(p.epoch)
	var all, calm, calmTop []float64
	for c := range p.lanes {
		us := make([]float64, len(p.lanes[c].waits))
		for i, w := range p.lanes[c].waits {
			us[i] = float64(w.ns) / 1e3
			if !quiet(int64(w.at) * 1000) {
				continue
			}
			calm = append(calm, us[i])
			if c == 0 {
				calmTop = append(calmTop, us[i])
			}
		}
		if c == 0 {
			out.top = quantile(us, 0.999)
		}
		all = append(all, us...)
	}
	if len(all) != eventTotal {
		return out, fmt.Errorf("%d events ran, %d were sent", len(all), eventTotal)
	}
	out.all, out.quietTop, out.quietAll = quantile(all, 0.999), quantile(calmTop, 0.999), quantile(calm, 0.999)
	out.quiet = float64(len(calm)) / float64(len(all))
	return out, nil
}

// feed sends the load, as any goroutine, and returns its rate when all events
// have run. What a burst could not be sent in time follows at once: the load does
// not wait for who takes it.
//
// It keeps to no thread: every 10 ms Go's scheduler interrupts goroutines that
// run on, and those of a thread of their own only continue after two changes of
// threads.
func (p *pacer) feed(send func(class int, f func())) float64 {
	begin := time.Now()
	next := begin
	for sent := 0; sent < eventTotal; next = next.Add(eventPace) {
		for time.Now().Before(next) { // spinning
		}
		for range eventBurst {
			n := &p.lanes[sent%len(p.lanes)]
			n.posted[n.sent] = int64(time.Since(p.start))
			n.sent++
			send(sent%len(p.lanes), n.f)
			sent++
		}
	}
	took := time.Since(begin)
	for p.ran.Load() < eventTotal {
		runtime.Gosched()
	}
	return eventTotal / took.Seconds()
}

func (p *pacer) overLoop(feed func(func(int, func()))) {
	l, handlers := newBenchLoop()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	feed(func(class int, f func()) {
		for handlers[class].Post(f) != nil { // full: the machine stood still
			runtime.Gosched()
		}
	})
	l.Stop()
	<-ended
}

func newBenchLoop() (*event.Loop, []*event.Handler) {
	l := event.New("bench", event.WithUrgency(), event.WithBound(event.Critical, eventQueue), event.WithBound(event.High, eventQueue),
		event.WithBound(event.Normal, eventQueue), event.WithBound(event.Background, eventQueue))
	return l, []*event.Handler{
		l.Handler("top", event.Critical), l.Handler("high", event.High),
		l.Handler("normal", event.Normal), l.Handler("background", event.Background),
	}
}

// overChannels is the same load over four channels, the first served first.
func (p *pacer) overChannels(feed func(func(int, func()))) {
	var c [4]chan func()
	for i := range c {
		c[i] = make(chan func(), eventQueue)
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go serve(c, quit, ended)
	feed(func(class int, f func()) { c[class] <- f })
	close(quit)
	<-ended
}

// serve runs what comes over channels, the first first.
func serve(c [4]chan func(), quit <-chan struct{}, ended chan<- struct{}) {
	defer close(ended)
	for {
		if f := firstOf(c); f != nil {
			f()
			continue
		}
		select {
		case f := <-c[0]:
			f()
		case f := <-c[1]:
			f()
		case f := <-c[2]:
			f()
		case f := <-c[3]:
			f()
		case <-quit:
			return
		}
	}
}

// benchBacklog measures how fast events run that wait: what follows a stall.
func benchBacklog(r *report) error {
	p := newPacer()
	var loop, channel []float64
	for i := range cmp.Or(r.runs, eventRuns) {
		a, b := p.backlogOnLoop(), p.backlogOnChannels()
		r.progress("backlog run %d: loop %.2f M events/s; channels %.2f", i+1, a/1e6, b/1e6)
		loop, channel = append(loop, a), append(channel, b)
	}
	return r.against("event.backlog_rate", "events/s", "more", loop, "chan", channel)
}

// eventBacklog is how many events wait in benchBacklog: a third of a second's.
const eventBacklog = 300_000

// catchUp posts a backlog, begins to run it, and returns the rate.
func (p *pacer) catchUp(post func(class int, f func()), run func()) float64 {
	p.reset()
	for i := range eventBacklog {
		n := &p.lanes[i%len(p.lanes)]
		n.posted[i/len(p.lanes)] = int64(time.Since(p.start))
		post(i%len(p.lanes), n.f)
	}
	begin := time.Now()
	run()
	for p.ran.Load() < eventBacklog {
		time.Sleep(50 * time.Microsecond)
	}
	return eventBacklog / time.Since(begin).Seconds()
}

func (p *pacer) backlogOnLoop() float64 {
	l, handlers := newBenchLoop()
	ended := make(chan error, 1)
	rate := p.catchUp(func(class int, f func()) { _ = handlers[class].Post(f) }, func() {
		go func() { ended <- l.Run(context.Background()) }()
	})
	l.Stop()
	<-ended
	return rate
}

func (p *pacer) backlogOnChannels() float64 {
	var c [4]chan func()
	for i := range c {
		c[i] = make(chan func(), eventQueue)
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	rate := p.catchUp(func(class int, f func()) { c[class] <- f }, func() { go serve(c, quit, ended) })
	close(quit)
	<-ended
	return rate
}

// firstOf takes from the first channel that has something.
func firstOf(c [4]chan func()) func() {
	for i := range c {
		select {
		case f := <-c[i]:
			return f
		default:
		}
	}
	return nil
}
