package session

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"godwit/cluster/wire"
)

// BenchmarkOneWay counts messages from one loop to another over bus/local.
func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 32 << 10, 60 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n, done := 0, make(chan struct{})
			atA := newRecorder(func(*Session, Message) {
				if n++; n == b.N {
					close(done)
				}
			})
			_, _, _, sb := pair(b, atA, newRecorder(nil))
			b.SetBytes(int64(size))
			b.ResetTimer()
			for range b.N {
				body := make([]byte, size)
				for errors.Is(sb.Send(wire.FIBBatch, body), ErrBacklog) {
					<-time.After(100 * time.Microsecond)
				}
			}
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkRoundTrip measures request and reply, loop to loop.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{64, 32 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			atA := newRecorder(func(s *Session, m Message) {
				if err := s.Send(m.Kind, m.Body); err != nil {
					b.Error(err)
				}
			})
			var times []time.Duration
			done := make(chan struct{})
			var begin time.Time
			atB := newRecorder(func(s *Session, m Message) {
				times = append(times, time.Since(begin))
				if len(times) == b.N {
					close(done)
					return
				}
				begin = time.Now()
				_ = s.Send(m.Kind, m.Body)
			})
			_, node, _, sb := pair(b, atA, atB)
			b.ResetTimer()
			node.do(b, func() { begin = time.Now(); _ = sb.Send(wire.FIBBatch, make([]byte, size)) })
			<-done
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}
