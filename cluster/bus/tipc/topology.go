package tipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// Sizes of the topology service's messages: tipc_subscr and tipc_event.
const (
	subscrLen = 28
	eventLen  = 48
)

// appendSubscr encodes a subscription in network order, which every kernel
// with a topology server understands.
func appendSubscr(b []byte, r bus.Range, o bus.Options) []byte {
	filter, timeout := uint32(unix.TIPC_SUB_PORTS), uint32(unix.TIPC_WAIT_FOREVER)
	if o.Filter == bus.Services {
		filter = unix.TIPC_SUB_SERVICE
	}
	if o.Timeout > 0 {
		timeout = uint32(max(o.Timeout/time.Millisecond, 1))
	}
	for _, v := range [...]uint32{r.Type, r.Lower, r.Upper, timeout, filter} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, make([]byte, 8)...) // handle
}

var errEvent = errors.New("malformed topology event")

// parseEvent decodes an event; expired tells that the subscription is over.
func parseEvent(b []byte) (e bus.Event, expired bool, err error) {
	if len(b) != eventLen {
		return e, false, fmt.Errorf("%d bytes: %w", len(b), errEvent)
	}
	be := binary.BigEndian
	e.Range = bus.Range{Type: be.Uint32(b[20:]), Lower: be.Uint32(b[4:]), Upper: be.Uint32(b[8:])}
	e.Addr = bus.Address{Ref: be.Uint32(b[12:]), Node: be.Uint32(b[16:])}
	switch be.Uint32(b) {
	case unix.TIPC_PUBLISHED:
		e.Up = true
	case unix.TIPC_WITHDRAWN:
	case unix.TIPC_SUBSCR_TIMEOUT:
		return bus.Event{}, true, nil
	default:
		return bus.Event{}, false, fmt.Errorf("event %d: %w", be.Uint32(b), errEvent)
	}
	if e.Range.Lower > e.Range.Upper {
		return bus.Event{}, false, fmt.Errorf("range %s: %w", e.Range, errEvent)
	}
	return e, false, nil
}

// subscription is a connection to the kernel's topology service, which closes
// it when it has too many events waiting.
type subscription struct {
	m   *Member
	s   *sock
	rng bus.Range
	all bool // Filter is not Services
}

var _ bus.Subscription = (*subscription)(nil)

// Subscribe reports the bindings that overlap the range, then changes.
func (m *Member) Subscribe(r bus.Range, opts ...bus.Option) (bus.Subscription, error) {
	s, err := m.subscribe(r, bus.Gather(bus.Options{}, opts))
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", r, err)
	}
	return s, nil
}

func (m *Member) subscribe(r bus.Range, o bus.Options) (*subscription, error) {
	if m.isClosed() {
		return nil, bus.ErrClosed
	}
	s, err := open(bus.Options{Kind: bus.SeqPacket})
	if err != nil {
		return nil, err
	}
	top := toService(bus.Service{Type: bus.TypeTopology, Instance: bus.TypeTopology})
	top.Scope = unix.TIPC_NODE_SCOPE
	err = s.control(func(fd int) error {
		// Its answer is immediate: a blocking connect would need a thread.
		if err := unix.Connect(fd, top); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		return nil
	})
	if err == nil {
		err = s.connected(top)
	}
	if err == nil {
		err = s.send(appendSubscr(nil, r, o), nil)
	}
	k := &subscription{m: m, s: s, rng: r, all: o.Filter != bus.Services}
	if err == nil {
		err = m.hold(k)
	}
	if err != nil {
		s.close()
		return nil, named(err)
	}
	return k, nil
}

// Next returns the next event.
func (s *subscription) Next() (bus.Event, error) {
	buf, oob := make([]byte, 2*eventLen), make([]byte, oobSize)
	r, err := s.s.recv(buf, oob)
	if err == nil && (r.n == 0 || r.info.code != bus.OK) {
		err = bus.ErrPeerGone // the kernel's service: too slow a reader
	}
	if err != nil {
		return bus.Event{}, fmt.Errorf("follow %s: %w", s.rng, err)
	}
	e, expired, err := parseEvent(buf[:r.n])
	if expired {
		s.Close()
		return bus.Event{}, bus.ErrTimeout
	}
	if err != nil {
		return bus.Event{}, fmt.Errorf("follow %s: %w", s.rng, err)
	}
	if !s.all {
		e.Addr = bus.Address{}
	}
	return e, nil
}

// Close cancels the subscription.
func (s *subscription) Close() error {
	s.m.release(s)
	return s.s.close()
}

// nodeUp tells whether the kernel has a link to the node, as far as it can be
// known at once.
func (m *Member) nodeUp(node uint32) bool {
	sub, err := m.subscribe(bus.One(bus.TypeNodeState, node), bus.Options{Timeout: time.Millisecond})
	if err != nil {
		return true
	}
	defer sub.Close()
	e, err := sub.Next()
	return err == nil && e.Up
}
