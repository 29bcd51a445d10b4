package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
)

const (
	castSize  = 1024    // bytes of a message
	castTotal = 200_000 // deliveries of a run
)

// fan is one sender and its receivers.
type fan struct {
	send  func([]byte) error
	flush func() error // nil: nothing waits
	recv  []func() error
	close func()
}

// busMulticast measures messages/s from one sender to 1, 4 and 16 receivers,
// until the last one has all.
func busMulticast(r *report) error {
	fans := []struct {
		name string
		make func(int) (*fan, error)
	}{{"bus", busFan}, {"tcp", tcpFan}, {"nats", natsFan}}
	for _, receivers := range []int{1, 4, 16} {
		rates := map[string][]float64{}
		for range busRuns {
			for _, f := range fans {
				rate, err := multicast(f.make, receivers)
				if err != nil {
					return fmt.Errorf("multicast by %s to %d: %w", f.name, receivers, err)
				}
				rates[f.name] = append(rates[f.name], rate)
			}
		}
		for _, base := range []string{"tcp", "nats"} {
			if err := r.against(fmt.Sprintf("bus.multicast%d", receivers), "messages/s", "more", rates["bus"], base, rates[base]); err != nil {
				return err
			}
		}
	}
	return nil
}

func multicast(dial func(int) (*fan, error), receivers int) (float64, error) {
	f, err := dial(receivers)
	if err != nil {
		return 0, err
	}
	defer f.close()
	messages := castTotal / receivers
	done := make(chan error, receivers)
	for _, recv := range f.recv {
		go func() {
			for range messages {
				if err := recv(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	msg := make([]byte, castSize)
	begin := time.Now()
	for range messages {
		if err := f.send(msg); err != nil {
			return 0, err
		}
	}
	if f.flush != nil {
		if err := f.flush(); err != nil {
			return 0, err
		}
	}
	for range receivers {
		err = errors.Join(err, <-done)
	}
	return float64(messages) / time.Since(begin).Seconds(), err
}

// busFan is a group on bus/local.
func busFan(receivers int) (_ *fan, err error) {
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return nil, err
	}
	f := &fan{}
	var closers []io.Closer
	f.close = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i].Close()
		}
		os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	s, err := local.NewServer(dir, discard)
	if err != nil {
		return nil, err
	}
	closers = append(closers, s)
	var sender bus.Group
	for i := range receivers + 1 {
		m, err := local.Join(dir, "bench")
		if err != nil {
			return nil, err
		}
		closers = append(closers, m)
		g, err := m.Join(bus.Service{Type: busService, Instance: uint32(min(i, 1))})
		if err != nil {
			return nil, err
		}
		if i == 0 {
			sender = g
			continue
		}
		f.recv = append(f.recv, func() error {
			for {
				if e, err := g.Recv(); err != nil || e.What == bus.Message {
					return err
				}
			}
		})
	}
	for range receivers {
		if e, err := sender.Recv(); err != nil || e.What != bus.Joined {
			return nil, fmt.Errorf("news %+v: %w", e, err)
		}
	}
	f.send = sender.Broadcast
	return f, nil
}

// tcpFan is a TCP connection to each receiver, and a write to each.
func tcpFan(receivers int) (_ *fan, err error) {
	f := &fan{}
	var conns []net.Conn
	f.close = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	var outs []net.Conn
	for range receivers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.close()
			return nil, err
		}
		a, b, err := accepted(l)
		if err != nil {
			f.close()
			return nil, err
		}
		conns, outs = append(conns, a, b), append(outs, a)
		in, body := bufio.NewReaderSize(b, 64<<10), make([]byte, 4+castSize)
		f.recv = append(f.recv, func() error { _, err := io.ReadFull(in, body); return err })
	}
	out := make([]byte, 0, 4+castSize)
	f.send = func(m []byte) error {
		out = append(binary.BigEndian.AppendUint32(out[:0], uint32(len(m))), m...)
		for _, c := range outs {
			if _, err := c.Write(out); err != nil {
				return err
			}
		}
		return nil
	}
	return f, nil
}

// natsFan is a subject that all receivers have subscribed to.
func natsFan(receivers int) (_ *fan, err error) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoLog: true, NoSigs: true})
	if err != nil {
		return nil, err
	}
	go s.Start()
	f := &fan{}
	var conns []*nats.Conn
	f.close = func() {
		for _, c := range conns {
			c.Close()
		}
		s.Shutdown()
		s.WaitForShutdown()
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("NATS does not start")
	}
	for i := range receivers + 1 {
		c, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		conns = append(conns, c)
		if i == 0 {
			f.send, f.flush = func(m []byte) error { return c.Publish("all", m) }, c.Flush
			continue
		}
		ch := make(chan *nats.Msg, castTotal) // a slow consumer would lose messages
		if _, err := c.ChanSubscribe("all", ch); err != nil {
			return nil, err
		}
		if err := c.Flush(); err != nil {
			return nil, err
		}
		f.recv = append(f.recv, func() error { <-ch; return nil })
	}
	return f, nil
}
