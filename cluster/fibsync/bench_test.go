package fibsync

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/fib"
)

// sink is a card that takes everything at once; its own work is not measured.
type sink struct {
	p     *Publisher
	id    fib.CardID
	acks  []wire.FIBAckBody
	bytes int
}

func (s *sink) SendShared(_ wire.Kind, head, body []byte) error {
	s.bytes += len(head) + len(body)
	s.acks = append(s.acks, wire.FIBAckBody{Epoch: binary.BigEndian.Uint32(head[2:]), Seq: binary.BigEndian.Uint64(head[6:])})
	return nil
}

func (*sink) Queued() int { return 0 }

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDownload sends a full table to cards: CPU of the publisher alone.
func BenchmarkDownload(b *testing.B) {
	const routes, groups = 900_000, 1000
	changes := make([]fib.Change, 0, routes+groups)
	for i := range groups {
		changes = append(changes, setGroup(fib.GroupID(1+i), 1+i))
	}
	for i := range routes {
		changes = append(changes, setRoute(i, fib.GroupID(1+i%groups)))
	}
	for _, n := range []int{1, 2, 4, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var used time.Duration
			for range b.N {
				b.StopTimer()
				p := NewPublisher()
				if err := p.Changes(changes); err != nil {
					b.Fatal(err)
				}
				var cards []*sink
				for i := range n {
					c := &sink{p: p, id: fib.CardID(1 + i)}
					p.Attach(c.id, c, 0)
					cards = append(cards, c)
				}
				b.StartTimer()
				used -= cpu(b)
				for synced := false; !synced; {
					p.Pump()
					synced = true
					for _, c := range cards {
						for _, a := range c.acks {
							p.Ack(c.id, a)
						}
						c.acks = c.acks[:0]
					}
					for _, s := range p.Status() {
						synced = synced && s.Synced
					}
				}
				used += cpu(b)
			}
			b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}
