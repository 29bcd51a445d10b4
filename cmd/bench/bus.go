package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
)

const (
	busRuns    = 3
	busTrips   = 10_000
	busChild   = "GODWIT_BENCH_BUS_CHILD" // directory of the bus that a child joins
	busTCP     = "GODWIT_BENCH_BUS_TCP"   // address that it connects to besides
	busService = 900
)

// way carries messages between two ends in this process. Recv and Send of one
// end are used by one goroutine each.
type way struct {
	name   string
	a, b   end
	oneWay int // messages of a one-way run
	close  func()
}

type end struct {
	send  func([]byte) error
	recv  func() (int, error)
	flush func() error // nil: nothing waits
}

// benchBus measures bus/local beside what else could carry its messages, each
// between two goroutines' sockets of this process, no batching by the user.
func benchBus(r *report) error {
	if dir := os.Getenv(busChild); dir != "" {
		return busChildMain(dir)
	}
	makers := []func(dir string) (*way, error){busWay, tcpWay, seqpacketWay, grpcWay, natsWay}
	rtt := map[string][]float64{}
	for i := range busRuns {
		for _, size := range []int{64, 1024} {
			for _, m := range makers {
				if err := busRun(r, m, size, rtt); err != nil {
					return err
				}
			}
		}
		r.progress("bus: run %d of %d", i+1, busRuns)
	}
	for _, size := range []string{"64", "1k"} {
		for _, q := range []string{"", "_p99"} {
			for _, base := range []string{"seqpacket", "tcp", "grpc", "nats"} {
				if err := r.against("bus.rtt"+size+q, "us", "less", rtt["bus.rtt"+size+q], base, rtt[base+".rtt"+size+q]); err != nil {
					return err
				}
			}
		}
		for _, base := range []string{"tcp", "seqpacket", "grpc", "nats"} {
			if err := r.against("bus.oneway"+size, "messages/s", "more", rtt["bus.oneway"+size], base, rtt[base+".oneway"+size]); err != nil {
				return err
			}
		}
	}
	if err := busDeath(r); err != nil {
		return err
	}
	return busMulticast(r)
}

// busRun measures one way at one size.
func busRun(r *report, m func(string) (*way, error), size int, out map[string][]float64) error {
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	w, err := m(dir)
	if err != nil {
		return err
	}
	defer w.close()
	label := map[int]string{64: "64", 1024: "1k"}[size]
	times, err := roundTrips(w, size)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	rate, err := oneWay(w, size)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	for name, v := range map[string]float64{".rtt" + label: quantile(times, 0.5), ".rtt" + label + "_p99": quantile(times, 0.99), ".oneway" + label: rate} {
		out[w.name+name] = append(out[w.name+name], v)
	}
	r.progress("%-9s %4d B: %6.1f us, %9.0f messages/s", w.name, size, quantile(times, 0.5), rate)
	return nil
}

// roundTrips returns times in µs.
func roundTrips(w *way, size int) ([]float64, error) {
	msg := make([]byte, size)
	echo := make(chan error, 1)
	go func() {
		reply := make([]byte, size)
		for range busTrips {
			if _, err := w.b.recv(); err != nil {
				echo <- err
				return
			}
			if err := w.b.post(reply); err != nil {
				echo <- err
				return
			}
		}
		echo <- nil
	}()
	times := make([]float64, 0, busTrips)
	for range busTrips {
		begin := time.Now()
		if err := w.a.post(msg); err != nil {
			return nil, err
		}
		if n, err := w.a.recv(); err != nil || n != size {
			return nil, fmt.Errorf("reply of %d bytes: %w", n, err)
		}
		times = append(times, float64(time.Since(begin).Nanoseconds())/1000)
	}
	return times, <-echo
}

// post sends a message that nothing follows.
func (e *end) post(b []byte) error {
	if err := e.send(b); err != nil || e.flush == nil {
		return err
	}
	return e.flush()
}

// oneWay returns messages a second, from the first sent to the last received.
func oneWay(w *way, size int) (float64, error) {
	msg := make([]byte, size)
	done := make(chan error, 1)
	go func() {
		for range w.oneWay {
			if n, err := w.b.recv(); err != nil || n != size {
				done <- errors.Join(fmt.Errorf("message of %d bytes", n), err)
				return
			}
		}
		done <- nil
	}()
	begin := time.Now()
	for range w.oneWay {
		if err := w.a.send(msg); err != nil {
			return 0, err
		}
	}
	if w.a.flush != nil {
		if err := w.a.flush(); err != nil {
			return 0, err
		}
	}
	err := <-done
	return float64(w.oneWay) / time.Since(begin).Seconds(), err
}

var discard = slog.New(slog.DiscardHandler)

// busWay connects two members.
func busWay(dir string) (*way, error) {
	s, err := local.NewServer(dir, discard)
	if err != nil {
		return nil, err
	}
	var members []bus.Bus
	cleanup := func() {
		for _, m := range members {
			m.Close()
		}
		s.Close()
	}
	for range 2 {
		m, err := local.Join(dir, "bench")
		if err != nil {
			cleanup()
			return nil, err
		}
		members = append(members, m)
	}
	l, err := members[0].Listen(bus.One(busService, 1))
	if err != nil {
		cleanup()
		return nil, err
	}
	c, err := members[1].Dial(context.Background(), bus.Service{Type: busService, Instance: 1})
	if err != nil {
		cleanup()
		return nil, err
	}
	peer, err := l.Accept()
	if err != nil {
		cleanup()
		return nil, err
	}
	side := func(c bus.Conn) end {
		return end{send: c.Send, recv: func() (int, error) { b, err := c.Recv(); return len(b), err }}
	}
	return &way{name: "bus", a: side(c), b: side(peer), oneWay: 1_000_000, close: cleanup}, nil
}
