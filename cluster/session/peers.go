package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"godwit/cluster/bus"
	"godwit/event"
)

// server accepts sessions.
type server struct {
	l    bus.Listener
	done chan struct{} // closed when nothing is accepted any more
}

// Serve binds the range and accepts connections; accept runs on the loop and
// returns the new session's handler, nil to refuse. Close unbinds; sessions
// live on.
func Serve(h *event.Handler, b bus.Bus, r bus.Range, accept func(*Session) Handler) (io.Closer, error) {
	l, err := b.Listen(r)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", r, err)
	}
	v := &server{l: l, done: make(chan struct{})}
	h.Source("listener", r.String(), func(src *event.Source) {
		defer close(v.done)
		for wait := retryMin; ; {
			c, err := l.Accept()
			switch {
			case err == nil:
				wait = retryMin
				s := newSession(h, c)
				src.Count()
				if !post(h, func() { s.start(accept(s)) }) {
					c.Close()
				}
			case errors.Is(err, bus.ErrClosed):
				return
			default:
				select {
				case <-time.After(wait):
				case <-h.Loop().Done():
					return
				}
				wait = min(2*wait, retryMax)
			}
		}
	})
	return v, nil
}

func (v *server) Close() error {
	err := v.l.Close()
	<-v.done
	return err
}

// follower keeps sessions to the instances of a range. All but bus, ctx and
// subscription belongs to the loop.
type follower struct {
	h       *event.Handler
	b       bus.Bus
	r       bus.Range
	up      func(uint32, *Session) Handler
	ctx     context.Context // ends with Close: dials are its
	cancel  context.CancelFunc
	done    chan struct{} // closed when the topology is not followed any more
	targets map[uint32]*target

	mu     sync.Mutex
	sub    bus.Subscription
	closed bool
}

// target is one instance.
type target struct {
	instance uint32
	bound    map[bus.Address]struct{} // sockets that have it bound
	session  *Session
	dialing  bool
	wait     time.Duration // before the next dial
	retry    *event.Timer
}

// Follow keeps one session to every instance of the range that is bound. It
// dials as they appear, again and again with back-off while they are bound; up
// runs on the loop when a session is connected and returns its handler. When a
// session ends and the instance is bound, or bound again, it dials anew. Close
// ends following and the sessions.
func Follow(h *event.Handler, b bus.Bus, r bus.Range, up func(instance uint32, s *Session) Handler) (io.Closer, error) {
	f := &follower{h: h, b: b, r: r, up: up, done: make(chan struct{}), targets: make(map[uint32]*target)}
	var err error
	if f.sub, err = b.Subscribe(r); err != nil {
		return nil, fmt.Errorf("follow %s: %w", r, err)
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	h.Source("topology", r.String(), f.watch)
	return f, nil
}

// watch hands topology events to the loop, in order.
func (f *follower) watch(src *event.Source) {
	defer close(f.done)
	for {
		e, err := f.sub.Next()
		if err == nil {
			src.Count()
			post(f.h, func() { f.event(e) })
			continue
		}
		if errors.Is(err, bus.ErrClosed) || !f.resubscribe() {
			return
		}
	}
}

// resubscribe starts again after the topology was lost; false at Close.
func (f *follower) resubscribe() bool {
	post(f.h, f.forget)
	for {
		select {
		case <-time.After(retryMax):
		case <-f.ctx.Done():
			return false
		}
		sub, err := f.b.Subscribe(f.r)
		if errors.Is(err, bus.ErrClosed) {
			return false
		}
		if err != nil {
			continue
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.closed {
			sub.Close()
			return false
		}
		f.sub = sub
		return true
	}
}

// forget drops all bindings: the new subscription tells of those that exist.
func (f *follower) forget() {
	for _, t := range f.targets {
		clear(t.bound)
		t.stopRetry()
	}
}

// Close stops following and closes the sessions.
func (f *follower) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	sub := f.sub
	f.mu.Unlock()
	f.cancel()
	err := sub.Close()
	<-f.done
	post(f.h, func() {
		for _, t := range f.targets {
			t.stopRetry()
			if t.session != nil {
				t.session.Close()
			}
		}
	})
	if err != nil {
		return fmt.Errorf("stop following %s: %w", f.r, err)
	}
	return nil
}

// event notes a binding that came or went.
func (f *follower) event(e bus.Event) {
	first, last := max(e.Range.Lower, f.r.Lower), min(e.Range.Upper, f.r.Upper)
	for n := uint64(first); n <= uint64(last) && n-uint64(first) < maxInstances; n++ {
		t := f.targets[uint32(n)]
		if t == nil {
			t = &target{instance: uint32(n), bound: make(map[bus.Address]struct{})}
			f.targets[uint32(n)] = t
		}
		if e.Up {
			t.bound[e.Addr] = struct{}{}
			t.wait = 0
			t.stopRetry()
			f.dial(t)
			continue
		}
		delete(t.bound, e.Addr)
		if len(t.bound) == 0 {
			t.stopRetry()
			f.drop(t)
		}
	}
}

func (t *target) stopRetry() {
	if t.retry != nil {
		t.retry.Stop()
		t.retry = nil
	}
}

// drop forgets a target that is neither bound nor in use.
func (f *follower) drop(t *target) {
	if len(t.bound) == 0 && t.session == nil && !t.dialing {
		delete(f.targets, t.instance)
	}
}

// dial connects to the target unless it is connected or being dialled.
func (f *follower) dial(t *target) {
	if t.session != nil || t.dialing || len(t.bound) == 0 || f.ctx.Err() != nil {
		return
	}
	t.dialing = true
	var conn bus.Conn
	f.h.Async(func() (err error) {
		conn, err = f.b.Dial(f.ctx, bus.Service{Type: f.r.Type, Instance: t.instance})
		return err
	}, func(err error) {
		t.dialing = false
		switch {
		case err != nil:
			f.later(t)
		case f.ctx.Err() != nil:
			conn.Close()
		default:
			f.connected(t, newSession(f.h, conn))
		}
	})
}

// connected starts the session of a target.
func (f *follower) connected(t *target, s *Session) {
	t.session = s
	s.ended = func() {
		t.session = nil
		if s.h.Loop().Now().Sub(s.began) >= retryReset {
			t.wait = 0
		}
		f.later(t)
	}
	s.start(f.up(t.instance, s))
}

// later dials after the back-off, if the target is still bound then.
func (f *follower) later(t *target) {
	if len(t.bound) == 0 || f.ctx.Err() != nil {
		f.drop(t)
		return
	}
	t.wait = min(max(2*t.wait, retryMin), retryMax)
	t.stopRetry()
	t.retry = f.h.After(t.wait/2+rand.N(t.wait/2), func() {
		t.retry = nil
		f.dial(t)
	})
}
