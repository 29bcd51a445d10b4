package router

import (
	"context"
	"errors"
	"net/http"
	"time"

	"godwit/controlplane/config"
	"godwit/controlplane/kernel"
	"godwit/controlplane/mgmt"
	"godwit/controlplane/mgmt/ping"
)

func (r *Router) showConfig(ctx context.Context) ([]byte, error) {
	return get(ctx, r, func() ([]byte, error) { return config.Marshal(config.Redacted(r.cfg)) })
}

func (r *Router) checkConfig(ctx context.Context, name string, yaml []byte) (mgmt.Applied, error) {
	next, err := parse(name, yaml)
	if err != nil {
		return mgmt.Applied{}, err
	}
	return get(ctx, r, func() (mgmt.Applied, error) { return mgmt.Applied{Changes: describe(r.cfg, next)}, nil })
}

func parse(name string, yaml []byte) (*config.Config, error) {
	c, err := config.Parse(name, yaml)
	if err != nil {
		return nil, &mgmt.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	return c, nil
}

func (r *Router) applyConfig(ctx context.Context, name string, yaml []byte) (mgmt.Applied, error) {
	next, err := parse(name, yaml)
	if err != nil {
		return mgmt.Applied{}, err
	}
	return call(ctx, r.request, func(done func(mgmt.Applied, error)) {
		r.apply(next, func(lines []string, err error) { done(mgmt.Applied{Changes: lines, Applied: err == nil}, err) })
	})
}

// ping runs on the request's goroutine.
func (r *Router) ping(ctx context.Context, q mgmt.PingQuery, emit func(mgmt.PingLine) error) error {
	netns, err := get(ctx, r, func() (string, error) {
		id, err := r.names.vrfID(q.VRF)
		return r.paths.netns(r.names.vrf(id)), err
	})
	if err != nil {
		return err
	}
	p, err := ping.Open(func(f func() error) error { return kernel.InNetNS(netns, f) },
		ping.Options{To: q.Address, Source: q.Source, TTL: q.TTL, DF: q.DF})
	if err != nil {
		return err
	}
	defer p.Close()
	return runPing(ctx, p, q, emit)
}

// pinger is what runPing needs of a ping.Pinger.
type pinger interface {
	Once(ctx context.Context, seq uint16, size int, timeout time.Duration) (ping.Reply, error)
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// runPing sends the requests one by one and sums up.
func runPing(ctx context.Context, p pinger, q mgmt.PingQuery, emit func(mgmt.PingLine) error) error {
	count, size := orDefault(q.Count, 5), orDefault(q.Size, 56)
	interval, timeout := max(orDefault(q.Interval, time.Second), time.Millisecond), orDefault(q.Timeout, time.Second)
	var sum mgmt.PingSummary
	var total time.Duration
	for seq := 1; seq <= count && ctx.Err() == nil; seq++ {
		start := time.Now()
		reply, err := p.Once(ctx, uint16(seq), size, timeout)
		if errors.Is(err, context.Canceled) {
			break
		}
		sum.Sent++
		line := mgmt.PingLine{Seq: seq, From: reply.From, Bytes: reply.Bytes, RTT: reply.RTT}
		if err != nil {
			line.Error = err.Error()
		} else {
			if sum.Received++; sum.Received == 1 || reply.RTT < sum.Min {
				sum.Min = reply.RTT
			}
			sum.Max = max(sum.Max, reply.RTT)
			total += reply.RTT
		}
		if err := emit(line); err != nil {
			return err
		}
		if seq < count {
			wait(ctx, interval-time.Since(start))
		}
	}
	if sum.Received > 0 {
		sum.Avg = total / time.Duration(sum.Received)
	}
	return emit(mgmt.PingLine{Summary: &sum})
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
