package linecard

import (
	"errors"
	"fmt"

	"godwit/cluster/bus"
	"godwit/cluster/health"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/dataplane/neigh"
	"godwit/event"
)

// client is the routing engine's session.
type client struct{ a *Agent }

var _ session.Handler = client{}

func (a *Agent) accept(s *session.Session) session.Handler {
	a.sessions[s] = struct{}{}
	for _, p := range a.ports {
		_ = s.SendJSON(wire.PortEvent, a.portStatus(p, a.interfaceCounters()))
	}
	for _, st := range a.bfd.last {
		_ = s.SendJSON(wire.BFDEvent, st)
	}
	return client{a}
}

// Closed keeps everything but the captures: the card forwards with what it has.
func (c client) Closed(s *session.Session, err error) {
	delete(c.a.sessions, s)
	c.a.downloads.left(s)
	if len(c.a.downloads.from) == 0 { // nobody is left who would name what is held
		c.a.fibs.Forget()
	}
	c.a.endCaptures(s)
	c.a.log.Info("session has ended; forwarding goes on", "reason", err)
}

// Receive handles a message.
func (c client) Receive(s *session.Session, m session.Message) {
	if m.Kind == wire.FIBBatch || m.Kind == wire.FIBRef {
		c.a.program(s, m)
		return
	}
	if m.ID == 0 {
		c.a.log.Warn("message without meaning here", "kind", m.Kind)
		return
	}
	if m.Kind == wire.SetCard { // takes its time
		c.a.change(func(t *event.Task) {
			body, err := request(m, func(cfg wire.CardConfig) (any, error) {
				problems, err := c.a.setCard(t, cfg)
				return wire.CardResult{Problems: problems}, err
			})
			if !errors.Is(err, event.ErrStopped) {
				c.a.reply(s, m, body, err)
			}
		})
		return
	}
	body, err := c.a.answer(s, m)
	c.a.reply(s, m, body, err)
}

// reply answers a request with a body, or an error.
func (a *Agent) reply(s *session.Session, m session.Message, body any, err error) {
	if err != nil {
		err = s.ReplyError(m, err)
	} else {
		err = s.Reply(m, m.Kind, body)
	}
	if err != nil && !isClosed(err) {
		a.log.Warn("reply", "kind", m.Kind, "error", err)
	}
}

// request decodes a body and handles it.
func request[T any](m session.Message, f func(T) (any, error)) (any, error) {
	var v T
	if err := wire.DecodeKind(m.Kind, m.Body, &v); err != nil {
		return nil, err
	}
	return f(v)
}

// answer handles a request and returns the body of the reply.
func (a *Agent) answer(s *session.Session, m session.Message) (any, error) {
	if reply, ok := health.Answer(a.opt.Loop, m.Kind); ok {
		return reply, nil
	}
	switch m.Kind {
	case wire.GetModule:
		return a.opt.Info, nil
	case wire.GetPorts:
		return a.portList(), nil
	case wire.GetDrops:
		return a.dropList(), nil
	case wire.GetBFD:
		return a.bfdList()
	case wire.SetFIBSource:
		return request(m, func(b wire.FIBSourceBody) (any, error) {
			return wire.FIBSourceResult{Receives: a.downloads.allow(s, bus.Address{Ref: b.Ref, Node: b.Node})}, nil
		})
	case wire.GetGuards:
		return a.guardList(), nil
	case wire.GetMirrors:
		return a.mirrorList(), nil
	case wire.GetSampling:
		return a.samplingStatus(), nil
	case wire.GetFIBStats:
		return a.fibStats(), nil
	case wire.GetFIB:
		return request(m, func(q wire.FIBQuery) (any, error) { return a.fibList(q), nil })
	case wire.GetNeighbors:
		return request(m, func(q wire.NeighborQuery) (any, error) { return a.neighborList(q), nil })
	case wire.ClearNeighbor:
		return request(m, func(q wire.NeighborQuery) (any, error) {
			match := matcher(q)
			list := a.neighborList(q)
			a.slow.ClearNeighbors(a.opt.Loop.Now(), match)
			a.effects()
			return list, nil
		})
	case wire.TraceFIB:
		return request(m, a.trace)
	case wire.StartCapture:
		return request(m, func(r wire.CaptureRequest) (any, error) { return r, a.startCapture(s, r) })
	case wire.StopCapture:
		return request(m, func(r wire.CaptureRequest) (any, error) { return r, a.stopCapture(s, r) })
	}
	return nil, fmt.Errorf("line card: no request %v", m.Kind)
}

// broadcast sends to every session: one, but while the routing engine restarts.
func (a *Agent) broadcast(k wire.Kind, v any) {
	for s := range a.sessions {
		if err := s.SendJSON(k, v); err != nil && !isClosed(err) {
			a.log.Warn("send", "kind", k, "error", err)
		}
	}
}

func matcher(q wire.NeighborQuery) func(neigh.Entry) bool {
	return func(e neigh.Entry) bool {
		return (q.VRF == nil || *q.VRF == e.VRF) && (q.Interface == 0 || q.Interface == e.Interface) &&
			(!q.Address.IsValid() || q.Address == e.Address)
	}
}

func (a *Agent) neighborList(q wire.NeighborQuery) wire.NeighborList {
	now := a.opt.Loop.Now()
	match := matcher(q)
	list := wire.NeighborList{Neighbors: []wire.Neighbor{}}
	for _, e := range a.slow.Neighbors() {
		if !match(e) {
			continue
		}
		n := wire.Neighbor{Interface: e.Interface, VRF: e.VRF, Address: e.Address, State: e.State.String(), Age: now.Sub(e.Since)}
		if e.MAC != [6]byte{} {
			n.MAC = macString(e.MAC[:])
		}
		list.Neighbors = append(list.Neighbors, n)
	}
	for _, c := range a.slow.Conflicts(now) {
		if match(neigh.Entry{Interface: c.Interface, VRF: c.VRF, Address: c.Address}) {
			list.Neighbors = append(list.Neighbors, wire.Neighbor{Interface: c.Interface, VRF: c.VRF, Address: c.Address,
				MAC: macString(c.MAC[:]), State: "duplicate", Age: now.Sub(c.Last)})
		}
	}
	return list
}
