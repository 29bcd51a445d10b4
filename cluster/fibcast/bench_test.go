package fibcast

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"godwit/cluster/fibsync"
	"godwit/cluster/wire"
	"godwit/fib"
)

// taken is a card's tables that take everything at no cost.
type taken struct{}

func (taken) Apply(fib.Batch) error { return nil }

// counted counts what a session is given.
type counted struct {
	fibsync.Sender
	bytes *atomic.Int64
}

func (c counted) SendShared(k wire.Kind, head, body []byte) error {
	c.bytes.Add(int64(len(head) + len(body)))
	return c.Sender.SendShared(k, head, body)
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDownload is the way of 300,000 routes to cards over the bus, by unicast
// and by multicast, with batches of several lengths: CPU of all (one process here), and
// what the routing engine hands to the bus.
func BenchmarkDownload(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 32 << 10} {
		for _, cards := range []int{1, 2, 4} {
			for _, way := range []string{"unicast", "multicast"} {
				b.Run(fmt.Sprintf("%dKiB/%d/%s", size>>10, cards, way), func(b *testing.B) { download(b, size, cards, way == "multicast") })
			}
		}
	}
}

func download(b *testing.B, size, n int, multicast bool) {
	g := newRig(b)
	var cards []*card
	for i := range n {
		c := g.card(fib.CardID(1 + i))
		c.sub = fibsync.NewSubscriber(taken{}, 0, 0)
		cards = append(cards, c)
	}
	e := g.engine()
	e.sender.least = 1
	if !multicast {
		e.sender.least = 1 << 20
	}
	e.attached(n)
	const total = 300_000
	e.change(table(total))
	e.settled()
	var used time.Duration
	e.bytes.Store(0)
	before := e.sender.Stats().Bytes
	list := routes(0, total)
	per := size / 9 // bytes of a route
	b.ResetTimer()
	for range b.N {
		for i := range list { // all change
			list[i].Route.Group ^= 3
		}
		used -= cpu(b)
		for at := 0; at < total; at += per {
			e.change(list[at:min(at+per, total)])
		}
		e.settled()
		used += cpu(b)
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(e.bytes.Load())/float64(b.N), "session-bytes/op")
	b.ReportMetric(float64(e.sender.Stats().Bytes-before)/float64(b.N), "multicast-bytes/op")
	again := uint64(0)
	for _, c := range cards {
		on(c.h, func() { again += c.sub.Casts().Fetched })
	}
	b.ReportMetric(float64(again)/float64(b.N), "again/op")
}
