package worker

import (
	"bytes"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/fabric"
	"godwit/dataplane/graph"
	"godwit/dataplane/netdev"
	"godwit/dataplane/punt"
	"godwit/fib"
)

const (
	portA = fib.PortID(1<<16 | 10)
	portB = fib.PortID(1<<16 | 20)
	portZ = fib.PortID(2<<16 | 30) // on the other card
)

func frames(rule byte, to fib.PortID, n int) [][]byte {
	var list [][]byte
	for i := range n {
		list = append(list, frame(rule, uint32(to), i))
	}
	return list
}

func TestForwardsBetweenPortsInOrder(t *testing.T) {
	f := newFixture(t, nil)
	a, b := newMemPort(t, portA, f.pool), newMemPort(t, portB, f.pool)
	f.AddPort(a)
	f.AddPort(b)
	f.Start()
	const n = 1000
	a.deliver(frames(toPort, portB, n)...)
	eventually(t, "frames forwarded", func() bool { return len(b.out()) == n })
	inOrder(t, b.out(), n)
	eventually(t, "sleep", func() bool { return f.Stats().Sleeps > 0 })
	if s := f.Stats(); s.Packets != n {
		t.Errorf("stats %+v", s)
	}
	if f.rd.quiet.Load() == 0 {
		t.Error("never quiescent")
	}
}

func TestIdleWorkerSleeps(t *testing.T) {
	f := newFixture(t, nil)
	a := newMemPort(t, portA, f.pool)
	f.AddPort(a)
	f.Start()
	eventually(t, "sleep", func() bool { return !f.rd.online.Load() })
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	rounds := f.Stats().Rounds
	start := time.Now()
	eventually(t, "half a second", func() bool { return time.Since(start) > 500*time.Millisecond })
	unix.Getrusage(unix.RUSAGE_SELF, &after)
	if n := f.Stats().Rounds - rounds; n > 3 {
		t.Errorf("%d rounds in half an idle second", n)
	}
	busy := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	t.Logf("process used %v in 500 ms", busy) // most of it is the test's own polling
	a.deliver(frame(toPort, uint32(portA), 0))
	eventually(t, "wake-up by a frame", func() bool { return len(a.out()) == 1 })
}

func TestNamedDrops(t *testing.T) {
	f := newFixture(t, nil)
	a := newMemPort(t, portA, f.pool)
	f.AddPort(a)
	f.Start()
	a.deliver(frames(toPort, portB, 3)...)
	a.deliver(frames(toCard, portZ, 4)...)
	eventually(t, "drops", func() bool { return f.drop("no-port") == 3 && f.drop("no-card") == 4 })
	if f.Inject(1, make([]byte, 4000), false) || f.drop("too-long") != 1 {
		t.Error("a frame longer than a buffer was taken")
	}
	a.deliver(frames(toPunt, 0, 200)...)
	eventually(t, "punt queue full", func() bool { return f.drop("punt-full") == 72 })
	if n := f.punts.Len(); n != 128 {
		t.Errorf("%d punted frames wait, want 128", n)
	}
	var m punt.Meta
	buf := make([]byte, f.punts.Size())
	n, ok := f.punts.Take(&m, buf)
	if !ok || m.In != fib.InterfaceID(portA) || number(buf[:n]) != 0 {
		t.Errorf("took %v %+v", ok, m)
	}
}

func TestInjectAndHost(t *testing.T) {
	f := newFixture(t, nil)
	a := newMemPort(t, portA, f.pool)
	f.AddPort(a)
	f.Start()
	for i := range 300 {
		if !f.Inject(5, frame(toPort, uint32(portA), i), true) {
			t.Fatal("refused")
		}
	}
	eventually(t, "injected frames", func() bool { return len(a.out()) == 300 })
	for i := range 300 {
		f.Host(7, 0, frame(toPort, uint32(portA), 300+i), true)
	}
	eventually(t, "host packets", func() bool { return len(a.out()) == 600 })
	inOrder(t, a.out(), 600)
}

// TestUrgently: what must not wait goes before a full queue of the host's, and BFD
// has a queue of its own.
func TestUrgently(t *testing.T) {
	woken := make(chan struct{}, 1)
	own := NewQueue[punt.Meta](4, 512, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	f := newFixture(t, nil)
	f.bfd = own
	a := newMemPort(t, portA, f.pool)
	f.AddPort(a)
	for i := range queueSlots {
		f.Host(7, 0, frame(toPort, uint32(portA), 1+i), false)
	}
	if !f.Urgently(7, 0, frame(toPort, uint32(portA), 0)) || f.Urgently(7, 0, make([]byte, firstSize+1)) {
		t.Error("not taken, or too much taken")
	}
	f.Start()
	eventually(t, "all sent", func() bool { return len(a.out()) == queueSlots+1 })
	inOrder(t, a.out(), queueSlots+1)
	bfd := punt.Meta{Reason: punt.ToBFD, In: 5}
	f.Do(func() {
		p := f.pool.Get()
		p.Data = p.Data[:64]
		(*sink)(f.Worker).Punt(p, bfd)
	})
	<-woken
	var m punt.Meta
	if n, ok := own.Take(&m, make([]byte, 512)); !ok || n != 64 || m != bfd || f.punts.Len() != 0 {
		t.Errorf("took %d %v %+v, %d punted", n, ok, m, f.punts.Len())
	}
}

func TestInjectFullIsCountedOrWaited(t *testing.T) {
	f := newFixture(t, nil)
	a := newMemPort(t, portA, f.pool)
	f.AddPort(a)
	for i := range queueSlots {
		if !f.Inject(5, frame(toPort, uint32(portA), i), false) {
			t.Fatalf("refused at %d", i)
		}
	}
	if f.Inject(5, frame(toPort, uint32(portA), 0), false) || f.drop("inject-full") != 1 {
		t.Error("a full queue took a frame")
	}
	waited := make(chan bool)
	go func() { waited <- f.Inject(5, frame(toPort, uint32(portA), queueSlots), true) }()
	f.Start()
	if !<-waited {
		t.Error("waiting push refused")
	}
	eventually(t, "all sent", func() bool { return len(a.out()) == queueSlots+1 })
	inOrder(t, a.out(), queueSlots+1)
}

func TestStopEndsWaitingPush(t *testing.T) {
	f := newFixture(t, nil)
	for i := range queueSlots {
		f.Inject(5, frame(toNobody, 0, i), false)
	}
	waited := make(chan bool)
	go func() { waited <- f.Inject(5, frame(toNobody, 0, 0), true) }()
	f.Stop()
	if <-waited {
		t.Error("a stopped worker took a frame")
	}
	if f.Host(0, 0, frame(toNobody, 0, 0), false) {
		t.Error("a stopped worker took a packet")
	}
	ran := false
	f.Do(func() { ran = true })
	if !ran {
		t.Error("Do did not run on a stopped worker")
	}
}

func TestPortsComeAndGo(t *testing.T) {
	f := newFixture(t, nil)
	a, b := newMemPort(t, portA, f.pool), newMemPort(t, portB, f.pool)
	f.AddPort(a)
	f.Start()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				a.deliver(frame(toPort, uint32(portB), i))
				time.Sleep(20 * time.Microsecond)
			}
		}
	}()
	for i := range 50 {
		f.AddPort(b)
		before := len(b.out())
		eventually(t, "frames to the new port", func() bool { return len(b.out()) > before })
		closed := false
		f.RemovePort(portB, func(p graph.Port) { closed = p == graph.Port(b) })
		if !closed {
			t.Fatalf("round %d: not released", i)
		}
		after := len(b.out())
		drops := f.drop("no-port")
		eventually(t, "drops without the port", func() bool { return f.drop("no-port") > drops })
		if len(b.out()) != after {
			t.Fatal("a removed port was used")
		}
	}
	close(stop)
	wg.Wait()
	f.RemovePort(portB, func(graph.Port) { t.Error("released twice") })
}

func TestFailedPortIsReportedOnceOthersWork(t *testing.T) {
	f := newFixture(t, nil)
	a, b := newMemPort(t, portA, f.pool), newMemPort(t, portB, f.pool)
	f.AddPort(a)
	f.AddPort(b)
	f.Start()
	a.breakDown(errors.New("device is gone"))
	if id := <-f.gone; id != portA {
		t.Fatalf("port %v reported", id)
	}
	b.deliver(frame(toPort, uint32(portA), 0), frame(toPort, uint32(portB), 0))
	eventually(t, "the other port", func() bool { return len(b.out()) == 1 && f.drop("port-failed") == 1 })
	eventually(t, "sleep", func() bool { return !f.rd.online.Load() })
	select {
	case id := <-f.gone:
		t.Errorf("port %v reported again", id)
	default:
	}
}

// errorFd is a port whose descriptor reports an error for ever.
type errorFd struct {
	*memPort
	fd int
}

func (p errorFd) Fds(fds []int) []int { return append(fds, p.fd) }

func TestPortWithErrorsOnlyFails(t *testing.T) {
	f := newFixture(t, nil)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1]) // hang-up
	defer unix.Close(pipe[0])
	f.AddPort(errorFd{newMemPort(t, portA, f.pool), pipe[0]})
	f.Start()
	if id := <-f.gone; id != portA {
		t.Fatalf("port %v reported", id)
	}
}

func TestHandover(t *testing.T) {
	f, g := newFixture(t, nil), newFixture(t, nil)
	a, b := newMemPort(t, portA, f.pool), newMemPort(t, portB, g.pool)
	f.AddPort(a)
	f.AddRemote(portB, g.Worker)
	g.AddPort(b)
	g.AddRemote(portA, f.Worker)
	f.Start()
	g.Start()
	const n = 300
	a.deliver(frames(toPort, portB, n)...)
	eventually(t, "frames handed over", func() bool { return len(b.out()) == n })
	inOrder(t, b.out(), n)
	b.deliver(frames(toPort, portA, n)...)
	eventually(t, "frames handed back", func() bool { return len(a.out()) == n })
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	a.deliver(frames(toPort, portB, 5)...)
	eventually(t, "drops without the owner", func() bool { return f.drop("handover-full") == 5 })
}

func TestFabricBetweenWorkers(t *testing.T) {
	dir := t.TempDir()
	f, g := newFixture(t, nil), newFixture(t, nil)
	a, z := newMemPort(t, portA, f.pool), newMemPort(t, portZ, g.pool)
	producer, err := fabric.OpenProducer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	consumer, err := fabric.OpenConsumer(dir, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	f.AddPort(a)
	f.AddLink(2, NewLink(producer))
	g.AddPort(z)
	g.AddConsumer(consumer)
	f.Start()
	// A burst waits for a card that is not scheduled.
	const n = 2000
	a.deliver(frames(toCard, portZ, n)...)
	eventually(t, "frames on their way", func() bool { return producer.Stats().Sent+producer.Stats().Full == n })
	g.Start()
	eventually(t, "frames on the other card", func() bool { return len(z.out()) == n })
	inOrder(t, z.out(), n)
	eventually(t, "both asleep", func() bool { return !f.rd.online.Load() && !g.rd.online.Load() })
	// The peer dies: the ring fills, this card's own ports go on.
	g.Stop()
	a.deliver(frames(toCard, portZ, 3000)...)
	a.deliver(frame(toPort, uint32(portA), 9))
	eventually(t, "own port", func() bool { return len(a.out()) == 1 })
	if f.drop("fabric-full") == 0 {
		t.Error("no drop counted for the dead card")
	}
	f.RemoveLink(2)
	g.RemoveConsumer(consumer)
}

func TestCapture(t *testing.T) {
	demux := func(p fib.PortID, vlan uint16) fib.InterfaceID { return fib.InterfaceID(p) + fib.InterfaceID(vlan) }
	caps := NewCaptures(4, 128, demux, func() {})
	f := newFixture(t, caps)
	a := newMemPort(t, portA, f.pool)
	f.AddPort(a)
	f.Start()
	a.deliver(frame(toPort, uint32(portA), 1))
	eventually(t, "frame", func() bool { return len(a.out()) == 1 })
	tagged := frame(toNobody, 0, 2)
	copy(tagged[12:], []byte{0x81, 0, 0x60, 5})
	caps.Set(map[fib.InterfaceID]Capture{fib.InterfaceID(portA): {}, fib.InterfaceID(portA) + 5: {Snap: 20}})
	a.deliver(frame(toPort, uint32(portA), 3))
	eventually(t, "frame", func() bool { return len(a.out()) == 2 })
	a.deliver(tagged)
	buf := make([]byte, caps.Size())
	want := []struct {
		ifc fib.InterfaceID
		dir Direction
		n   int
	}{{fib.InterfaceID(portA), In, 64}, {fib.InterfaceID(portA), Out, 64}, {fib.InterfaceID(portA) + 5, In, 20}}
	for _, w := range want {
		var m Captured
		n := 0
		eventually(t, "captured frame", func() (ok bool) { n, ok = caps.Take(&m, buf); return ok })
		if m.Interface != w.ifc || m.Direction != w.dir || n != w.n || m.Length != 64 || time.Since(time.Unix(0, m.Time)) > time.Minute {
			t.Errorf("got %+v with %d bytes, want %+v", m, n, w)
		}
	}
	a.deliver(frames(toNobody, 0, 10)...)
	eventually(t, "a slow reader loses frames", func() bool { return caps.Lost() == 6 })
	caps.Set(nil)
	a.deliver(frames(toNobody, 0, 10)...)
	a.deliver(frame(toPort, uint32(portA), 4))
	eventually(t, "frame", func() bool { return len(a.out()) == 3 })
	if caps.Lost() != 6 {
		t.Error("captured after the end")
	}
}

func TestRoundAllocatesNothing(t *testing.T) {
	f := newFixture(t, nil)
	f.rd.Online()
	defer f.rd.Offline()
	in := frame(toNobody, 0, 0)
	f.Inject(1, in, false)
	f.round()
	if n := testing.AllocsPerRun(200, func() {
		for range 32 {
			f.Inject(1, in, false)
			f.Host(1, 0, in, false)
		}
		f.round()
	}); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}

func TestUrgency(t *testing.T) {
	f := newFixture(t, nil)
	f.Start()
	policy := func() (p uint32) {
		f.Do(func() {
			attr, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Fatal(err)
			}
			p = attr.Policy
		})
		return p
	}
	for _, on := range []bool{true, true, false, true} {
		if err := f.SetUrgent(on); err != nil {
			t.Fatal(err)
		}
		want := map[bool]uint32{true: unix.SCHED_FIFO, false: unix.SCHED_NORMAL}[on]
		if got := policy(); got != want {
			t.Errorf("urgent %v: policy %d, want %d", on, got, want)
		}
	}
}

// leave makes the goroutine go on on another thread; its old one is held until
// free is closed, and then ends.
func leave(free chan struct{}) (old int) {
	old = unix.Gettid()
	runtime.UnlockOSThread()
	for unix.Gettid() == old {
		go func() {
			runtime.LockOSThread()
			<-free
		}()
		runtime.Gosched()
	}
	runtime.LockOSThread()
	return old
}

// TestMovesWithItsUrgency moves the worker to other threads: one whose owner
// lives on, which must be ordinary again, and one that has ended.
func TestMovesWithItsUrgency(t *testing.T) {
	f := newFixture(t, nil)
	f.Start()
	if err := f.SetUrgent(true); err != nil {
		t.Fatal(err)
	}
	free := make(chan struct{})
	var old int
	f.Do(func() {
		old = leave(free)
		f.moved(unix.Gettid())
	})
	policy := func(tid int) uint32 {
		attr, err := unix.SchedGetAttr(tid, 0)
		if err != nil {
			t.Fatal(err)
		}
		return attr.Policy
	}
	if old == f.tid || policy(old) != unix.SCHED_NORMAL || policy(f.tid) != unix.SCHED_FIFO {
		t.Errorf("thread %d has policy %d, the worker's %d has %d", old, policy(old), f.tid, policy(f.tid))
	}
	ended := make(chan struct{})
	f.Do(func() {
		was := leave(ended)
		if was == unix.Getpid() { // the first thread never ends
			was = leave(ended)
		}
		close(ended)
		close(free)
		for unix.Tgkill(unix.Getpid(), was, 0) == nil {
			runtime.Gosched() // locked: others run meanwhile
		}
		f.moved(unix.Gettid())
	})
	if policy(f.tid) != unix.SCHED_FIFO || f.Stats().Moves < 2 {
		t.Errorf("after the thread's end: policy %d, %d moves", policy(f.tid), f.Stats().Moves)
	}
}

// TestStaysUrgentBesideLoops: an event loop that runs on the worker's thread for a moment
// makes it its own, and so does one on the thread that the worker comes to.
func TestStaysUrgentBesideLoops(t *testing.T) {
	f := newFixture(t, nil)
	f.Start()
	if err := f.SetUrgent(true); err != nil {
		t.Fatal(err)
	}
	loops := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -10}
	for range 3 {
		f.Do(func() {
			if err := unix.SchedSetAttr(0, loops, 0); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "urgency", func() (ok bool) {
			f.Do(func() { ok = netdev.UrgentNow() })
			return ok
		})
	}
	free := make(chan struct{})
	defer close(free)
	var old *unix.SchedAttr
	f.Do(func() {
		if err := unix.SchedSetAttr(0, loops, 0); err != nil {
			t.Error(err)
		}
		was := leave(free)
		f.moved(unix.Gettid())
		old, _ = unix.SchedGetAttr(was, 0)
		if !netdev.UrgentNow() {
			t.Error("not urgent on another thread")
		}
	})
	if old == nil || old.Nice != -10 {
		t.Errorf("the loop's thread is %+v", old)
	}
}

func TestYieldsNowAndThen(t *testing.T) {
	f := newFixture(t, nil)
	f.Start()
	seen := map[int64]bool{}
	eventually(t, "three yields", func() bool {
		f.Do(func() { seen[f.yielded] = true })
		return len(seen) > 3
	})
	last := int64(-1)
	for _, at := range slices.Sorted(maps.Keys(seen)) {
		if last > 0 && at-last < yieldEvery {
			t.Errorf("yielded after %d ns", at-last)
		}
		last = at
	}
}

func TestQueue(t *testing.T) {
	woken := 0
	q := NewQueue[int](3, 8, func() { woken++ })
	for i := range 4 {
		if ok := q.Push(i, bytes.Repeat([]byte{byte(i)}, i)); ok != (i < 3) {
			t.Errorf("push %d: %v", i, ok)
		}
	}
	if q.Push(9, make([]byte, 9)) {
		t.Error("a frame longer than a slot was taken")
	}
	buf := make([]byte, 8)
	var m int
	for i := range 3 {
		if n, ok := q.Take(&m, buf); !ok || m != i || n != i || !bytes.Equal(buf[:n], bytes.Repeat([]byte{byte(i)}, i)) {
			t.Errorf("take %d: %d %v % x", i, m, ok, buf[:n])
		}
	}
	if _, ok := q.Take(&m, buf); ok || q.Len() != 0 || woken != 3 {
		t.Errorf("took from an empty queue; %d wait, woken %d times", q.Len(), woken)
	}
	q.Close()
	if q.Push(1, nil) || q.PushWait(1, nil) {
		t.Error("a closed queue took a frame")
	}
}

// TestPollUnseen: naps that the Go scheduler does not hear of end by time, by a descriptor and by its signals.
func TestPollUnseen(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	eventually(t, "nothing ready", func() bool { n, cut := poll(fds, 1); return n == 0 && !cut })
	if _, err := unix.Write(fd, one[:]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a ready descriptor", func() bool { n, cut := poll(fds, 1000); return n == 1 && !cut && fds[0].Revents == unix.POLLIN })
	if n := testing.AllocsPerRun(10, func() { poll(fds, 0) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	var b [8]byte
	if _, err := unix.Read(fd, b[:]); err != nil {
		t.Fatal(err)
	}
	// A nap of a minute: the collector, which stops the world, interrupts it.
	var cut atomic.Bool
	napping, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		close(napping)
		for n, c := 0, false; n == 0; n, c = poll(fds, 60_000) {
			if c {
				cut.Store(true)
			}
		}
	}()
	<-napping
	eventually(t, "an interrupted nap", func() bool { runtime.GC(); return cut.Load() })
	if _, err := unix.Write(fd, one[:]); err != nil {
		t.Fatal(err)
	}
	<-done
}

// TestStaysUrgent: another goroutine that ran on the worker's thread may have left it less urgent.
func TestStaysUrgent(t *testing.T) {
	f := newFixture(t, nil)
	f.Start()
	if err := f.SetUrgent(true); err != nil {
		t.Fatal(err)
	}
	attr := func() (a *unix.SchedAttr) {
		f.Do(func() {
			var err error
			if a, err = unix.SchedGetAttr(0, 0); err != nil {
				t.Error(err)
				a = &unix.SchedAttr{}
			}
		})
		return a
	}
	f.Do(func() {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -5}, 0); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "urgent again", func() bool {
		a := attr()
		return a.Policy == unix.SCHED_FIFO && a.Priority == netdev.WorkerPriority
	})
}

// busyPort wants to be asked for a while after a packet.
type busyPort struct {
	*memPort
	d atomic.Int64
}

func (p *busyPort) BusyPoll() time.Duration { return time.Duration(p.d.Load()) }

// TestPollsBeforeItSleeps: after a packet the worker asks a busy-polling port again and again, then it
// sleeps; without busy polling it sleeps at once.
func TestPollsBeforeItSleeps(t *testing.T) {
	f := newFixture(t, nil)
	p := &busyPort{memPort: newMemPort(t, portA, f.pool)}
	p.d.Store(int64(20 * time.Millisecond))
	f.AddPort(p)
	f.Start()
	eventually(t, "sleep of an idle worker", func() bool { return f.Stats().Sleeps > 0 })
	before := f.Stats()
	p.deliver(frame(toPort, uint32(portA), 0))
	eventually(t, "polling", func() bool { return f.Stats().Rounds > before.Rounds+100 && f.Stats().Packets > before.Packets })
	after := f.Stats()
	if rounds, sleeps := after.Rounds-before.Rounds, after.Sleeps-before.Sleeps; sleeps*10 > rounds {
		t.Errorf("%d sleeps in %d rounds after a packet", sleeps, rounds)
	}
	eventually(t, "sleep again", func() bool { return f.Stats().Sleeps > after.Sleeps })
	p.d.Store(0)
	f.Do(func() { f.busy = f.busyFor() })
	f.Do(func() {
		if f.busy != 0 {
			t.Errorf("polls for %d ns without a port that wants it", f.busy)
		}
	})
}
