package bustest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"godwit/cluster/bus"
)

// bound opens a socket of a member of its own.
func bound(t *testing.T, n Network, name string, r bus.Range) bus.Socket {
	t.Helper()
	s := must[bus.Socket](t)(n.Join(t, name).Socket())
	ok(t, s.Bind(r))
	return s
}

func get(t *testing.T, s bus.Socket) bus.Datagram {
	t.Helper()
	var d bus.Datagram
	in(t, "receive a datagram", func() { d = must[bus.Datagram](t)(s.Recv()) })
	return d
}

func anycast(t *testing.T, n Network) {
	receivers := []bus.Socket{
		bound(t, n, "x", bus.Range{Type: 500, Lower: 0, Upper: 3}),
		bound(t, n, "y", bus.Range{Type: 500, Lower: 0, Upper: 3}),
		bound(t, n, "z", bus.One(500, 4)),
	}
	s := must[bus.Socket](t)(n.Join(t, "client").Socket())
	svc := bus.Service{Type: 500, Instance: 3}
	for i := range byte(10) {
		ok(t, s.Send(svc, []byte{i}))
	}
	var from bus.Address
	for r, sock := range receivers[:2] {
		var last byte
		for i := range 5 {
			d := get(t, sock)
			if d.To != svc || len(d.Data) != 1 || (i > 0 && d.Data[0] != last+2) { // every other one
				t.Errorf("datagram %+v behind %d", d, last)
			}
			last = d.Data[0]
			if r+i > 0 && d.From != from {
				t.Errorf("sender %v and %v", d.From, from)
			}
			from = d.From
		}
	}
	ok(t, s.Send(bus.Service{Type: 500, Instance: 4}, []byte("a")))
	ok(t, s.Send(bus.Service{Type: 500, Instance: 4}, []byte("b")))
	if a, b := get(t, receivers[2]), get(t, receivers[2]); a.To.Instance != 4 || string(a.Data)+string(b.Data) != "ab" {
		t.Errorf("datagrams %+v %+v", a, b)
	}
	err := s.Send(bus.Service{Type: 500, Instance: 10}, []byte("nobody"))
	want(t, err, bus.ErrNoName)
}

func anycastOrder(t *testing.T, n Network) {
	r := bound(t, n, "x", bus.One(500, 0))
	s := must[bus.Socket](t)(n.Join(t, "client").Socket())
	const count = 1000 // fewer than a queue holds
	go func() {
		for i := range uint32(count) {
			if err := s.Send(bus.Service{Type: 500}, binary.BigEndian.AppendUint32(nil, i)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range uint32(count) {
		if d := get(t, r); binary.BigEndian.Uint32(d.Data) != i {
			t.Fatalf("datagram %d came as %d", binary.BigEndian.Uint32(d.Data), i)
		}
	}
}

func multicast(t *testing.T, n Network) {
	receivers := map[string]bus.Socket{
		"inside":  bound(t, n, "a", bus.One(500, 5)),
		"lower":   bound(t, n, "b", bus.Range{Type: 500, Lower: 0, Upper: 3}),
		"upper":   bound(t, n, "c", bus.Range{Type: 500, Lower: 8, Upper: 90}),
		"outside": bound(t, n, "d", bus.One(500, 9)),
		"other":   bound(t, n, "e", bus.One(501, 5)),
	}
	ok(t, receivers["inside"].Bind(bus.One(500, 6))) // twice in the range: one copy
	member := n.Join(t, "client")
	s := must[bus.Socket](t)(member.Socket())
	ok(t, s.Bind(bus.One(500, 7))) // the sender itself
	receivers["self"] = s
	for i := range byte(3) {
		ok(t, s.Multicast(bus.Range{Type: 500, Lower: 3, Upper: 8}, []byte{i}))
	}
	for i := range uint32(10) { // an end mark for each
		_ = s.Send(bus.Service{Type: 500, Instance: i}, []byte("end"))
	}
	ok(t, s.Send(bus.Service{Type: 501, Instance: 5}, []byte("end")))
	for name, sock := range receivers {
		member := name != "outside" && name != "other"
		for i := byte(0); member && i < 3; i++ {
			if d := get(t, sock); len(d.Data) != 1 || d.Data[0] != i || d.To.Type != 500 || d.To.Instance < 3 || d.To.Instance > 8 {
				t.Errorf("%s: datagram %d is %+v", name, i, d)
			}
		}
		if name == "upper" || name == "outside" {
			continue // they share instance 9: the end mark went to one of them
		}
		if d := get(t, sock); string(d.Data) != "end" {
			t.Errorf("%s: one too many: %+v", name, d)
		}
	}
	want(t, s.Multicast(bus.All(777), []byte("x")), bus.ErrNoName)
}

func datagramLimits(t *testing.T, n Network) {
	r := bound(t, n, "x", bus.One(500, 0))
	s := must[bus.Socket](t)(n.Join(t, "client").Socket())
	svc := bus.Service{Type: 500}
	want(t, s.Send(svc, make([]byte, bus.MaxMessage+1)), bus.ErrTooLong)
	want(t, s.Multicast(bus.All(500), make([]byte, bus.MaxMessage+1)), bus.ErrTooLong)
	if s.Send(svc, nil) == nil {
		t.Error("an empty datagram was sent")
	}
	big := bytes.Repeat([]byte{7}, bus.MaxMessage)
	ok(t, s.Send(svc, big))
	ok(t, s.Send(svc, []byte{1}))
	if d := get(t, r); !bytes.Equal(d.Data, big) {
		t.Errorf("datagram of %d bytes came as %d", len(big), len(d.Data))
	}
	if d := get(t, r); len(d.Data) != 1 {
		t.Errorf("datagram of 1 byte came as %d", len(d.Data))
	}
}

func datagramReceiverRestarts(t *testing.T, n Network) {
	s := must[bus.Socket](t)(n.Join(t, "client").Socket())
	for range 3 {
		member := n.Join(t, "x")
		r := must[bus.Socket](t)(member.Socket())
		ok(t, r.Bind(bus.One(500, 0)))
		ok(t, s.Send(bus.Service{Type: 500}, []byte("hello")))
		get(t, r)
		ok(t, member.Close())
		in(t, "the name to go", func() {
			for !errors.Is(s.Send(bus.Service{Type: 500}, []byte("late")), bus.ErrNoName) {
			}
		})
	}
}
