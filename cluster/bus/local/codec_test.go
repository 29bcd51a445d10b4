package local

import (
	"bytes"
	"strings"
	"testing"

	"godwit/cluster/bus"
)

var someRange = bus.Range{Type: 102, Lower: 1, Upper: 9}

var records = []record{
	{op: opHello, member: 0xabcd, name: "linecard-1"},
	{op: opHello, member: 1, name: strings.Repeat("n", maxName)},
	{op: opBind, seq: 7, ref: 0xabcd0001, rng: someRange},
	{op: opUnbind, seq: 8, ref: 0xabcd0001, rng: bus.All(1)},
	{op: opSync, seq: 1 << 31},
	{op: opDone, seq: 9, code: codeFull},
	{op: opUp, ref: 3, rng: someRange, pid: 4711, name: "router"},
	{op: opDown, ref: 3, rng: someRange},
}

func TestRecordsComeBack(t *testing.T) {
	for _, r := range records {
		b := r.append(nil)
		if len(b) > recordBuffer-1 {
			t.Errorf("%+v takes %d bytes", r, len(b))
		}
		got, err := parseRecord(b)
		if err != nil || got != r {
			t.Errorf("%+v comes back as %+v, %v", r, got, err)
		}
		for cut := range len(b) - len(r.name) {
			if _, err := parseRecord(b[:cut]); err == nil {
				t.Errorf("%+v cut to %d bytes was accepted", r, cut)
			}
		}
		if !r.op.hasName() {
			if _, err := parseRecord(append(b, 0)); err == nil {
				t.Errorf("%+v with a byte too many was accepted", r)
			}
		}
	}
}

func TestRecordsRefused(t *testing.T) {
	long := record{op: opHello, name: strings.Repeat("n", maxName+1)}
	upside := record{op: opBind, rng: bus.Range{Type: 1, Lower: 2, Upper: 1}}
	version := records[0].append(nil)
	version[1] = protoVersion + 1
	for what, b := range map[string][]byte{
		"empty": {}, "unknown": {99, 0, 0, 0}, "zero": {0}, "long name": long.append(nil),
		"upside down": upside.append(nil), "version": version,
	} {
		if r, err := parseRecord(b); err == nil {
			t.Errorf("%s: accepted as %+v", what, r)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range records {
		f.Add(r.append(nil))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil && !bytes.Equal(r.append(nil), b) {
			t.Errorf("%x is read as %+v, which is written as %x", b, r, r.append(nil))
		}
	})
}

func FuzzGreeting(f *testing.F) {
	g := greeting{kind: greetConnect, stream: true, from: 1, to: 2, svc: bus.Service{Type: 3, Instance: 4}}
	f.Add(g.append(nil))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, follows, err := parseGreeting(b)
		g.data = make([]byte, follows)
		if err == nil && !bytes.Equal(g.append(nil)[:greetLen], b) {
			t.Errorf("%x is read as %+v, which is written as %x", b, g, g.append(nil))
		}
	})
}

func FuzzDatagram(f *testing.F) {
	d := datagram{to: 1, svc: bus.Service{Type: 2, Instance: 3}, importance: bus.High, flags: flagGroup, code: bus.NoPort}
	f.Add(append(d.append(nil), "data"...))
	f.Add(make([]byte, datagramHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, data, err := parseDatagram(b)
		if err == nil && !bytes.Equal(append(d.append(nil), data...), b) {
			t.Errorf("%x is read as %+v %x", b, d, data)
		}
		if err == nil && (len(data) == 0 || len(data) > bus.MaxMessage) {
			t.Errorf("datagram of %d bytes", len(data))
		}
	})
}
