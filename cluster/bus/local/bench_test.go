package local

import (
	"fmt"
	"sync"
	"testing"

	"godwit/cluster/bus"
)

func testNetwork(b *testing.B) *network {
	b.Helper()
	n := &network{dir: b.TempDir()}
	s, err := NewServer(n.dir, quiet)
	if err != nil {
		b.Fatal(err)
	}
	n.server = s
	b.Cleanup(func() { s.Close() })
	return n
}

func benchJoin(b *testing.B, n *network) *Member {
	b.Helper()
	m, err := Join(n.dir, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m.(*Member)
}

// BenchmarkOneWay sends without answers, as fast as it goes.
func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := testNetwork(b)
			x, y := benchJoin(b, n), benchJoin(b, n)
			l, err := x.Listen(bus.One(500, 1))
			if err != nil {
				b.Fatal(err)
			}
			c, err := y.Dial(b.Context(), bus.Service{Type: 500, Instance: 1})
			if err != nil {
				b.Fatal(err)
			}
			peer, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			msg := make([]byte, size)
			done := make(chan error, 1)
			b.SetBytes(int64(size))
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := peer.Recv(); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			for range b.N {
				if err := c.Send(msg); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkBroadcast sends to all members of a group.
func BenchmarkBroadcast(b *testing.B) {
	for _, receivers := range []int{1, 4, 16} {
		b.Run(fmt.Sprint(receivers), func(b *testing.B) {
			n := testNetwork(b)
			var groups []bus.Group
			for i := range receivers + 1 {
				g, err := benchJoin(b, n).Join(bus.Service{Type: 500, Instance: uint32(min(i, 1))})
				if err != nil {
					b.Fatal(err)
				}
				groups = append(groups, g)
			}
			for range receivers {
				if e, err := groups[0].Recv(); err != nil || e.What != bus.Joined {
					b.Fatalf("news %+v, %v", e, err)
				}
			}
			done := make(chan error, receivers)
			msg := make([]byte, 1024)
			b.SetBytes(int64(len(msg) * receivers))
			b.ReportAllocs()
			b.ResetTimer()
			for _, g := range groups[1:] {
				go func() {
					for n := 0; n < b.N; {
						e, err := g.Recv()
						if err != nil {
							done <- err
							return
						}
						if e.What == bus.Message {
							n++
						}
					}
					done <- nil
				}()
			}
			for range b.N {
				if err := groups[0].Broadcast(msg); err != nil {
					b.Fatal(err)
				}
			}
			for range receivers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMulticast sends to all that have bound a range.
func BenchmarkMulticast(b *testing.B) {
	for _, receivers := range []int{1, 4} {
		for _, size := range []int{64, 32 << 10} {
			b.Run(fmt.Sprintf("%d/%d", receivers, size), func(b *testing.B) {
				n := testNetwork(b)
				done := make(chan error, receivers)
				var more sync.WaitGroup // bounds what is on its way
				for i := range receivers {
					s, err := benchJoin(b, n).Socket()
					if err != nil {
						b.Fatal(err)
					}
					if err := s.Bind(bus.One(500, uint32(i))); err != nil {
						b.Fatal(err)
					}
					go func() {
						for range b.N {
							if _, err := s.Recv(); err != nil {
								done <- err
								return
							}
							more.Done()
						}
						done <- nil
					}()
				}
				out, err := benchJoin(b, n).Socket()
				if err != nil {
					b.Fatal(err)
				}
				msg := make([]byte, size)
				b.ResetTimer()
				for i := range b.N {
					more.Add(receivers)
					if err := out.Multicast(bus.All(500), msg); err != nil {
						b.Fatal(err)
					}
					if i%32 == 31 {
						more.Wait()
					}
				}
				for range receivers {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
